//! A store that takes nothing more, or not all of it: what is refused leaves no trace, in memory or after a crash, and
//! what is answered is there after one.

use weir_storage::LogId;

use super::*;

impl World {
    /// Fills the journal until it takes `room` bytes more and no others (fewer, if `room` is below what a record takes).
    pub(super) fn fill(&mut self, room: usize) {
        let store = self.store.as_mut().expect("it runs");
        let free = |store: &Store| {
            let (mut least, mut most) = (0usize, 1usize << 20);
            while least < most {
                let middle = (least + most).div_ceil(2);
                if store.admits(0, middle).is_ok() { least = middle } else { most = middle - 1 }
            }
            least
        };
        // Sealed and never processed: redb does not follow.
        loop {
            let value = free(store).saturating_sub(room + 40).min(48 << 10);
            if store.set_attribute(LogId(0), b"fill", &vec![7; value]).is_err() {
                break;
            }
            if value < 48 << 10 {
                break;
            }
            store.seal(Box::new(|sealed| sealed.expect("the disk works")));
        }
        assert!(free(store) <= room.max(40), "{} bytes of room, not {room}", free(store));
    }

    /// The answer to a request, and whether it waits for a seal: while the store refuses, that is 10077 in its place.
    fn ask_while_refusing(&mut self, subject: &str, body: &str) -> (bool, String) {
        let reply = self.hand_over(subject, &[], body.as_bytes()).expect("somebody listens");
        let is_held = self.engine.outputs().take_held().into_iter().map(|held| held.message);
        let held: Vec<Message> = is_held.filter(|message| message.to == reply).collect();
        self.take_outputs();
        let at_once = self.received(&reply);
        let [answer] = &[held.clone(), at_once].concat()[..] else { panic!("{subject}: no answer, or many") };
        (!held.is_empty(), String::from_utf8_lossy(&answer.payload).into_owned())
    }

    /// The store has recovered from a failure: the engine is made anew from it, as the driver does.
    fn begin_anew(&mut self) {
        self.engine = self.engine.successor();
        self.heard.clear();
        self.engine.restore(self.now, self.store.as_mut().expect("it runs"), &self.interest);
        self.settle();
    }

    /// Seals what is staged if it is much, as the driver does within a batch of inputs.
    fn seal_much(&mut self) {
        let store = self.store.as_mut().expect("it runs");
        if store.staged_bytes() >= 16 << 10 {
            store.seal(Box::new(|sealed| sealed.expect("the disk works")));
            store.process();
        }
    }

    /// The answer to a request, with nothing sealed.
    pub(super) fn ask_unsealed(
        &mut self,
        subject: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Option<String> {
        let reply = self.hand_over(subject, headers, body.as_bytes()).expect("somebody listens");
        let store = self.store.as_mut().expect("it runs");
        self.engine.handle_durable(self.now, store, &self.interest);
        self.take_outputs();
        let answers = self.received(&reply);
        answers.first().map(|answer| String::from_utf8_lossy(&answer.payload).into_owned())
    }
}

const OTHER: &str = r#"{"name":"OTHER","subjects":["other.>"]}"#;
const STREAM: &str = r#"{"name":"S","subjects":["s.>"],"allow_rollup_hdrs":true}"#;
const CONSUMER: &str = concat!(
    r#"{"stream_name":"S","config":{"durable_name":"C","deliver_policy":"all","#,
    r#""ack_policy":"explicit","ack_wait":1000000000}}"#
);
const UPDATED: &str = concat!(
    r#"{"stream_name":"S","config":{"durable_name":"C","deliver_policy":"all","#,
    r#""ack_policy":"explicit","ack_wait":2000000000}}"#
);

/// A stream with five messages, two of them delivered by a consumer and the first acknowledged.
fn prepared() -> World {
    let mut world = World::new();
    world.create(STREAM);
    for number in 0..5 {
        world.publish(if number % 2 == 0 { "s.a" } else { "s.b" }, &number.to_string());
    }
    world.ask("$JS.API.CONSUMER.CREATE.S.C", CONSUMER);
    let delivered = world.send("$JS.API.CONSUMER.MSG.NEXT.S.C", &[], br#"{"batch":2}"#).expect("heard");
    assert_eq!(delivered.len(), 2);
    world.send(&String::from_utf8_lossy(&delivered[0].reply), &[], b"+ACK").expect("heard");
    world
}

/// What was under way to the engine before is not taken for something else by the one after it.
#[test]
fn an_ack_on_its_way_over_a_recovery_settles_no_other_consumers_message() {
    let mut world = World::new();
    for (stream, subjects) in [("A", "a.>"), ("B", "b.>")] {
        world.create(&format!(r#"{{"name":"{stream}","subjects":["{subjects}"]}}"#));
    }
    let consumer = |stream: &str| {
        let config = r#"{"durable_name":"C","ack_policy":"explicit","deliver_policy":"all"}"#;
        format!(r#"{{"stream_name":"{stream}","config":{config}}}"#)
    };
    // The order in which they are made is not the one in which they are restored.
    let acks = ["B", "A"].map(|stream| {
        world.publish(&format!("{}.x", stream.to_lowercase()), "1");
        world.ask(&format!("$JS.API.CONSUMER.CREATE.{stream}.C"), &consumer(stream));
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.C");
        world.send(&next, &[], b"").expect("heard")[0].reply.clone()
    });
    let under_way: Vec<Input> = acks
        .iter()
        .flat_map(|subject| {
            let heard = world.heard.iter().filter(|(filter, _)| subject::matches(subject, filter));
            heard.map(|(_, tag)| Input::Message {
                tag: *tag,
                subject: subject.clone(),
                reply: Bytes::new(),
                headers: Bytes::new(),
                payload: Bytes::new(),
            })
        })
        .collect();
    // Until what was delivered is kept.
    world.advance(10_000_000_000);
    world.begin_anew();
    let [of_b, _] = <[Input; 2]>::try_from(under_way).expect("each is heard once");
    world.engine.handle(world.now, of_b, world.store.as_mut().expect("it runs"), &world.interest);
    world.settle();
    let pending = |world: &mut World, stream: &str| {
        let info = world.ask(&format!("$JS.API.CONSUMER.INFO.{stream}.C"), "");
        serde_json::from_str::<serde_json::Value>(&info).expect("JSON")["num_ack_pending"].clone()
    };
    assert_eq!((pending(&mut world, "A"), pending(&mut world, "B")), (1.into(), 1.into()));
}

/// All that a client can see and that a crash may not change: streams, messages, consumers; and the consumer's position,
/// which is promised only where it is the change itself.
fn seen(world: &mut World) -> (String, String) {
    let mut seen = String::new();
    for name in ["S", "OTHER"] {
        let info = world.ask(&format!("$JS.API.STREAM.INFO.{name}"), "");
        let info = info.split(r#","cluster""#).next().expect("a text").to_owned();
        seen.push_str(&info.split(r#","ts""#).next().expect("a text").replace(r#""domain":"","#, ""));
        seen.push('\n');
        if world.engine.names.contains_key(name) {
            seen.push_str(&format!("{:?}\n", world.contents(name)));
        }
    }
    let info = world.ask("$JS.API.CONSUMER.INFO.S.C", "");
    let value: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    for member in ["error", "config", "paused", "num_pending"] {
        seen.push_str(&format!("{}\n", value[member]));
    }
    let sequences =
        |member: &str| format!("{}/{}", value[member]["consumer_seq"], value[member]["stream_seq"]);
    let position =
        format!("{} {} {}", sequences("delivered"), sequences("ack_floor"), value["num_ack_pending"]);
    (seen, position)
}

struct Change {
    name: &'static str,
    subject: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
}

const CHANGES: &[Change] = &[
    Change { name: "publish", subject: "s.a", headers: &[("Nats-Msg-Id", "1")], body: "new" },
    Change {
        name: "rollup",
        subject: "s.a",
        headers: &[("Nats-Rollup", "sub"), ("Nats-Msg-Id", "1")],
        body: "",
    },
    Change { name: "rollup all", subject: "s.a", headers: &[("Nats-Rollup", "all")], body: "new" },
    Change { name: "stream create", subject: "$JS.API.STREAM.CREATE.OTHER", headers: &[], body: OTHER },
    Change {
        name: "stream update",
        subject: "$JS.API.STREAM.UPDATE.S",
        headers: &[],
        body: r#"{"name":"S","subjects":["s.>"],"allow_rollup_hdrs":true,"max_msgs":2}"#,
    },
    Change { name: "stream delete", subject: "$JS.API.STREAM.DELETE.S", headers: &[], body: "" },
    Change { name: "purge", subject: "$JS.API.STREAM.PURGE.S", headers: &[], body: "" },
    Change {
        name: "purge filtered",
        subject: "$JS.API.STREAM.PURGE.S",
        headers: &[],
        body: r#"{"filter":"s.b"}"#,
    },
    Change {
        name: "message delete",
        subject: "$JS.API.STREAM.MSG.DELETE.S",
        headers: &[],
        body: r#"{"seq":3}"#,
    },
    Change { name: "consumer update", subject: "$JS.API.CONSUMER.CREATE.S.C", headers: &[], body: UPDATED },
    Change { name: "consumer delete", subject: "$JS.API.CONSUMER.DELETE.S.C", headers: &[], body: "" },
    Change {
        name: "consumer pause",
        subject: "$JS.API.CONSUMER.PAUSE.S.C",
        headers: &[],
        body: r#"{"pause_until":"2024-01-02T00:00:00Z"}"#,
    },
    Change {
        name: "consumer reset",
        subject: "$JS.API.CONSUMER.RESET.S.C",
        headers: &[],
        body: r#"{"seq":1}"#,
    },
];

fn is_refused(answer: &str) -> bool {
    answer.contains("\"error\"")
}

#[test]
fn a_change_is_there_when_it_is_answered_and_nowhere_when_it_is_refused() {
    for change in CHANGES {
        let before = seen(&mut prepared());
        let after = {
            let mut world = prepared();
            let answer = world.ask_with(change.subject, change.headers, change.body);
            assert!(!is_refused(&answer), "{}: {answer}", change.name);
            seen(&mut world)
        };
        assert_ne!(before, after, "{}", change.name);
        let (mut done, mut refused) = (0, 0);
        for room in (0..=1_400).step_by(20) {
            let context = format!("{} with {room} bytes of room", change.name);
            let mut world = prepared();
            world.fill(room);
            let answer = world.ask_unsealed(change.subject, change.headers, change.body).expect(&context);
            let expected = if is_refused(&answer) {
                refused += 1;
                assert!(answer.contains("not in the database yet"), "{context}: {answer}");
                &before
            } else {
                done += 1;
                &after
            };
            world.settle();
            assert_eq!(seen(&mut world), *expected, "{context}: in memory, after {answer}");
            world.crash();
            let left = seen(&mut world);
            assert_eq!(left.0, expected.0, "{context}: after a crash, and {answer}");
            if change.name == "consumer reset" {
                assert_eq!(left.1, expected.1, "{context}: after a crash, and {answer}");
            }
            if is_refused(&answer) {
                let again = world.ask_with(change.subject, change.headers, change.body);
                assert!(
                    !is_refused(&again) && !again.contains("\"duplicate\": true"),
                    "{context}: again: {again}"
                );
                assert_eq!(seen(&mut world).0, after.0, "{context}: again");
            }
        }
        assert!(done > 0 && refused > 0, "{}: {done} done, {refused} refused", change.name);
    }
}

#[test]
fn a_consumer_is_created_whole_or_not_at_all() {
    for room in (0..=1_400).step_by(20) {
        let mut world = World::new();
        world.create(STREAM);
        world.publish("s.a", "1");
        world.fill(room);
        let body = CONSUMER.replace(r#""all""#, r#""new""#);
        let answer = world.ask_unsealed("$JS.API.CONSUMER.CREATE.S.C", &[], &body).expect("an answer");
        world.settle();
        world.crash();
        world.publish("s.a", "2");
        let info = world.ask("$JS.API.CONSUMER.INFO.S.C", "");
        if is_refused(&answer) {
            assert!(info.contains("10014"), "room {room}: {answer} {info}");
        } else {
            // Its start is kept with it: it does not begin anew at the end.
            assert!(info.contains(r#""num_pending":1"#), "room {room}: {answer} {info}");
        }
    }
}

#[test]
fn a_double_ack_is_answered_when_it_is_kept_and_not_before() {
    let mut world = prepared();
    let ack = "$JS.ACK.S.C.1.2.2.0.0";
    world.fill(0);
    assert_eq!(world.ask_unsealed(ack, &[], "+ACK"), None, "nothing is staged");
    let mut held = world.sent.len();
    // The journal has room again, and the state is tried again.
    world.settle();
    world.advance(SECOND);
    held = world.sent.len() - held;
    assert_eq!(held, 1, "answered late: {:?}", world.sent);
    world.crash();
    let info = world.ask("$JS.API.CONSUMER.INFO.S.C", "");
    assert!(info.contains(r#""num_ack_pending":0"#), "{info}");
}

#[test]
fn many_double_acks_are_answered_with_the_state_that_has_them() {
    let mut world = World::new();
    world.create(STREAM);
    for _ in 0..3_000 {
        world.hand_over("s.a", &[], b"x");
        world.seal_much();
    }
    world.settle();
    let body = CONSUMER.replace(r#""ack_wait":1000000000"#, r#""max_ack_pending":5000"#);
    let answer = world.ask("$JS.API.CONSUMER.CREATE.S.C", &body);
    assert!(!is_refused(&answer), "{answer}");
    world.sent.clear();
    for _ in 0..3 {
        world.send("$JS.API.CONSUMER.MSG.NEXT.S.C", &[], br#"{"batch":1000}"#);
    }
    world.sent.clear();
    // As in one batch of the driver: consumers are not driven in between, and what is staged is sealed when it is much.
    for seq in 1..=3_000 {
        world.hand_over(&format!("$JS.ACK.S.C.1.{seq}.{seq}.0.0"), &[], b"+ACK");
        world.seal_much();
    }
    world.settle();
    assert_eq!(world.sent.len(), 3_000);
    world.crash();
    let info = world.ask("$JS.API.CONSUMER.INFO.S.C", "");
    assert!(info.contains(r#""num_ack_pending":0"#), "{info}");
}

#[test]
fn an_unused_consumer_lives_on_while_the_store_does_not_let_it_go() {
    let mut world = World::new();
    world.create(STREAM);
    let body = r#"{"stream_name":"S","config":{"name":"E","ack_policy":"explicit","inactive_threshold":1000000000}}"#;
    world.ask("$JS.API.CONSUMER.CREATE.S.E", body);
    world.fill(0);
    world.now += 3 * SECOND;
    let store = world.store.as_mut().expect("it runs");
    world.engine.handle_timeout(world.now, store, &world.interest);
    assert_eq!(world.engine.consumers.len(), 1, "it is still kept, so it is still there");
    world.settle();
    world.advance(3 * SECOND);
    assert_eq!(world.engine.consumers.len(), 0);
    world.crash();
    assert_eq!(world.engine.consumers.len(), 0);
}

#[test]
fn a_source_goes_on_where_it_was_whatever_was_refused() {
    for room in (0..=2_000).step_by(50) {
        let mut world = World::new();
        world.create(r#"{"name":"O","subjects":["o.>"]}"#);
        world.create(r#"{"name":"S","sources":[{"name":"O"}]}"#);
        world.publish("o.a", "0");
        world.fill(room);
        for number in 1..4 {
            world.hand_over("o.a", &[], number.to_string().as_bytes());
        }
        world.settle();
        world.crash();
        world.advance(3 * SECOND);
        let origin: Vec<String> = world.contents("O").into_iter().map(|each| each.2).collect();
        let copy: Vec<String> = world.contents("S").into_iter().map(|each| each.2).collect();
        assert_eq!(copy, origin, "room {room}");
    }
}

/// A world on a full disk, and the last sequence of S that was acknowledged.
fn full() -> (World, u64) {
    let mut world = prepared();
    world.disk.fill(0);
    loop {
        world.hand_over("s.a", &[], &[7; 900]);
        let store = world.store.as_mut().expect("it runs");
        world.engine.handle_durable(world.now, store, &world.interest);
        world.engine.outputs().take_held();
        let (send, sealed) = std::sync::mpsc::channel();
        store.seal(Box::new(move |result| send.send(result.is_ok()).expect("the test waits")));
        store.process();
        if !sealed.try_recv().expect("the journal answers") {
            break;
        }
    }
    assert!(world.store().refusing().is_some());
    let id = world.engine.names["S"];
    let last_seq = world.store().state(LogId(id)).expect("it is there").durable_seq;
    assert!(last_seq > 50, "{last_seq}");
    (world, last_seq)
}

#[test]
fn what_is_kept_can_be_looked_at_on_a_full_disk() {
    let (mut world, last_seq) = full();
    let mut ask = |subject: &str, body: &str| world.ask_unsealed(subject, &[], body).expect(subject);
    let info = ask("$JS.API.STREAM.INFO.S", "");
    assert!(info.contains(&format!(r#""messages":{last_seq},"#)), "{info}");
    assert!(info.contains(&format!(r#""last_seq":{last_seq},"#)), "{info}");
    let get = |seq: u64| format!(r#"{{"seq":{seq}}}"#);
    assert!(ask("$JS.API.STREAM.MSG.GET.S", &get(last_seq)).contains(r#""message":"#));
    assert!(ask("$JS.API.STREAM.MSG.GET.S", &get(last_seq + 1)).contains("10037"), "it was not acknowledged");
    let info = ask("$JS.API.CONSUMER.INFO.S.C", "");
    assert!(info.contains(r#""ack_floor""#), "{info}");
    assert!(info.contains(&format!(r#""num_pending":{},"#, last_seq - 2)), "two are delivered: {info}");
    assert!(ask("$JS.API.CONSUMER.NAMES.S", "").contains(r#"["C"]"#));
    assert!(ask("$JS.API.STREAM.NAMES", "").contains(r#"["S"]"#));
    assert!(ask("$JS.API.STREAM.INFO.NONE", "").contains("10059"));
    // What tells whether JetStream can write goes on telling that it cannot.
    let store = world.store.as_mut().expect("it runs");
    let cause = store.refusing().expect("it refuses").to_owned();
    store.seal(Box::new(move |sealed| assert_eq!(sealed, Err(cause))));
    for refused in ["$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.PURGE.S"] {
        let body = if refused.contains("PURGE") { r#"{"filter":"s.b"}"# } else { OTHER };
        let answer = world.ask_unsealed(refused, &[], body).expect(refused);
        assert!(answer.contains("takes no writes"), "{answer}");
    }
}

#[test]
fn what_would_be_refused_anyhow_is_refused_for_its_own_reason_on_a_full_disk() {
    let mut world = prepared();
    for name in ["SEALED", "KEPT", "DOUBTED"] {
        let lower = name.to_lowercase();
        world.create(&format!(
            r#"{{"name":"{name}","subjects":["{lower}"],"deny_delete":true,"deny_purge":{}}}"#,
            name == "KEPT"
        ));
        world.publish(&lower, "1");
    }
    world.ask(
        "$JS.API.STREAM.UPDATE.SEALED",
        r#"{"name":"SEALED","subjects":["sealed"],"sealed":true,"deny_delete":true,"deny_purge":true}"#,
    );
    let calls = [
        ("STREAM.MSG.DELETE.S", r#"{"seq":9000}"#),
        ("STREAM.MSG.DELETE.S", ""),
        ("STREAM.MSG.DELETE.S", "{"),
        ("STREAM.MSG.DELETE.NONE", r#"{"seq":1}"#),
        ("STREAM.MSG.DELETE.KEPT", r#"{"seq":1}"#),
        ("STREAM.DELETE.NONE", ""),
        ("STREAM.DELETE.S", "{}x"),
        ("STREAM.PURGE.NONE", ""),
        ("STREAM.PURGE.KEPT", ""),
        ("STREAM.PURGE.SEALED", ""),
        ("STREAM.PURGE.S", r#"{"seq":3,"keep":1}"#),
        ("STREAM.PURGE.S", "{"),
        ("STREAM.PURGE.S", r#"{"seq":18446744073709551615}"#),
    ];
    let subject = |call: &str| format!("$JS.API.{call}");
    let usual: Vec<String> = calls.iter().map(|(call, body)| world.ask(&subject(call), body)).collect();
    world.ask_unsealed("$JS.API.STREAM.PURGE.DOUBTED", &[], "");
    lose_staged(&mut world);
    for ((call, body), usual) in calls.iter().zip(&usual) {
        assert!(is_refused(usual) && !usual.contains("10077"), "{call} {body}: {usual}");
        assert_eq!(world.ask_while_refusing(&subject(call), body), (false, usual.clone()), "{call} {body}");
    }
    let (is_held, doubted) = world.ask_while_refusing("$JS.API.STREAM.MSG.DELETE.DOUBTED", r#"{"seq":1}"#);
    assert!(is_held, "{doubted}");
}

/// Loses what is staged: the journal cannot be written.
fn lose_staged(world: &mut World) {
    let attempts = world.disk.attempts();
    world.disk.fail(attempts..u64::MAX, std::io::ErrorKind::StorageFull);
    let store = world.store.as_mut().expect("it runs");
    store.seal(Box::new(|sealed| assert!(sealed.is_err())));
    store.process();
    assert!(store.refusing().is_some());
    world.take_outputs();
    world.sent.clear();
}

#[test]
fn a_key_whose_new_value_was_lost_is_not_told_to_be_missing() {
    let limits = [r#""max_msgs_per_subject":1"#, r#""max_msgs":1"#, r#""max_bytes":80"#];
    for limit in limits {
        let mut world = World::new();
        world.create(&format!(r#"{{"name":"KV","subjects":["kv.>"],"allow_direct":true,{limit}}}"#));
        world.create(r#"{"name":"CALM","subjects":["calm"]}"#);
        world.publish("calm", "0");
        world.publish("kv.k", &"1".repeat(20));
        world.hand_over("kv.k", &[], "2".repeat(20).as_bytes());
        assert_eq!(world.contents("KV").len(), 1, "{limit}: the old value is driven out");
        lose_staged(&mut world);
        let get = r#"{"last_by_subj":"kv.k"}"#;
        for (subject, body) in
            [("$JS.API.STREAM.MSG.GET.KV", get), ("$JS.API.STREAM.INFO.KV", ""), ("$JS.API.STREAM.LIST", "")]
        {
            let (is_held, answer) = world.ask_while_refusing(subject, body);
            assert!(is_held, "{limit}: {subject}: {answer}");
        }
        let (is_held, calm) = world.ask_while_refusing("$JS.API.STREAM.INFO.CALM", "");
        assert!(!is_held && calm.contains(r#""messages":1,"#), "{limit}: {calm}");
        let reply = world.hand_over("$JS.API.DIRECT.GET.KV.kv.k", &[], b"").expect("somebody listens");
        world.take_outputs();
        let answers = world.received(&reply);
        let [answer] = answers.as_slice() else { panic!("{limit}: {} answers", answers.len()) };
        let headers = String::from_utf8_lossy(&answer.headers).into_owned();
        assert!(headers.starts_with("NATS/1.0 500 "), "{limit}: {headers}");
        world.disk.heal();
        while world.store().refusing().is_some() {
            world.store.as_mut().expect("it runs").process();
        }
        world.begin_anew();
        let answer = world.ask("$JS.API.STREAM.MSG.GET.KV", get);
        assert!(answer.contains(r#""seq":1,"#), "{limit}: {answer}");
    }
}

#[test]
fn space_can_be_freed_on_a_full_disk() {
    let removals = [
        ("$JS.API.STREAM.DELETE.S", ""),
        ("$JS.API.STREAM.PURGE.S", ""),
        ("$JS.API.STREAM.PURGE.S", r#"{"seq":LAST}"#),
        ("$JS.API.STREAM.MSG.DELETE.S", r#"{"seq":3}"#),
    ];
    for (subject, body) in removals {
        let (mut world, last_seq) = full();
        let context = format!("{subject} {body}");
        if subject.contains("MSG") {
            // One message may be too little.
            world.disk.fill(256 << 10);
        }
        let body = &body.replace("LAST", &last_seq.to_string());
        let answer = world.ask_unsealed(subject, &[], body).expect(&context);
        assert!(
            answer.contains(r#""success": true"#) || answer.contains(r#""success":true"#),
            "{context}: {answer}"
        );
        assert_eq!(world.store().refusing(), None, "{context}");
        let (kept, first) = match (subject.contains("PURGE"), body.as_str()) {
            (true, "") => (0, last_seq + 1),
            (true, _) => (1, last_seq),
            (false, _) => (last_seq - 1, 1),
        };
        if subject.contains("PURGE") {
            assert!(answer.contains(&format!(r#""purged":{}"#, last_seq - kept)), "{context}: {answer}");
        }
        world.begin_anew();
        world.disk.heal();
        for is_crashed in [false, true] {
            if is_crashed {
                world.crash();
            }
            let info = world.ask("$JS.API.STREAM.INFO.S", "");
            if subject.contains("STREAM.DELETE") {
                assert!(info.contains("10059"), "{context}: {info}");
            } else {
                assert!(info.contains(&format!(r#""messages":{kept},"#)), "{context}: {info}");
                assert!(info.contains(&format!(r#""first_seq":{first},"#)), "{context}: {info}");
                assert!(info.contains(&format!(r#""last_seq":{last_seq},"#)), "{context}: {info}");
            }
        }
    }
}

#[test]
fn a_failed_disk_refuses_and_nothing_is_answered_as_done() {
    let mut world = prepared();
    let attempts = world.disk.attempts();
    world.disk.fail(attempts..attempts + 1_000_000, std::io::ErrorKind::Other);
    world.hand_over("s.a", &[], b"lost");
    let store = world.store.as_mut().expect("it runs");
    store.seal(Box::new(|sealed| assert!(sealed.is_err())));
    assert!(store.process().failed.is_some() || store.refusing().is_some());
    world.take_outputs();
    world.sent.clear();
    for change in CHANGES {
        let answer = world.ask_unsealed(change.subject, change.headers, change.body).expect(change.name);
        assert!(answer.contains("takes no writes"), "{}: {answer}", change.name);
    }
    assert_eq!(world.ask_unsealed("$JS.ACK.S.C.1.2.2.0.0", &[], "+ACK"), None);
}
