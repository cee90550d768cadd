//! How messages enter and leave streams.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn acks_and_refusals_have_nats_servers_shape() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"]}"#);
    assert_eq!(world.publish("a.1", "one"), r#"{"stream":"A","seq":1}"#);
    assert_eq!(world.ask_with("a.1", &[("Nats-Msg-Id", "i")], "h"), r#"{"stream":"A","seq":2}"#);
    let again = world.ask_with("a.1", &[("Nats-Msg-Id", "i")], "h");
    assert_eq!(again, r#"{"stream":"A","seq":2,"duplicate": true}"#);
    let per_subject = "missing sequence for expected last sequence per subject";
    for (header, value, code, number, text) in [
        ("Nats-Expected-Last-Sequence", "9", 400, 10071, "wrong last sequence: 2"),
        ("Nats-Expected-Last-Sequence", "x", 400, 10071, "wrong last sequence: 2"),
        ("Nats-Expected-Last-Subject-Sequence", "1", 400, 10071, "wrong last sequence: 2"),
        ("Nats-Expected-Last-Subject-Sequence-Subject", "a", 400, 10193, per_subject),
        ("Nats-Expected-Last-Msg-Id", "j", 400, 10070, "wrong last msg ID: i"),
        ("Nats-Expected-Stream", "B", 400, 10060, "expected stream does not match"),
        ("Nats-Rollup", "sub", 500, 10111, "rollup not permitted"),
        ("Nats-TTL", "10s", 400, 10166, "per-message TTL is disabled"),
        ("Nats-TTL", "never", 400, 10166, "per-message TTL is disabled"),
        ("Nats-TTL", "x", 400, 10165, "invalid per-message TTL"),
        ("Nats-TTL", "0", 400, 10165, "invalid per-message TTL"),
        ("Nats-TTL", "500ms", 400, 10165, "invalid per-message TTL"),
        ("Nats-Batch-Id", "x", 400, 10174, "atomic publish is disabled"),
        ("Nats-Incr", "1", 400, 10168, "message counters is disabled"),
    ] {
        let answer = world.ask_with("a.1", &[(header, value)], "h");
        let error = format!(r#"{{"code":{code},"err_code":{number},"description":"{text}"}}"#);
        assert_eq!(answer, format!(r#"{{"error":{error},"stream":"A","seq":0}}"#), "{header}: {value}");
    }
    // A time to live that cannot be read is the last thing that is looked at, one that can be is the first.
    for (ttl, number) in [("x", 10071), ("10s", 10166)] {
        let answer = world.ask_with("a.1", &[("Nats-TTL", ttl), ("Nats-Expected-Last-Sequence", "9")], "h");
        assert!(answer.contains(&format!(r#""err_code":{number},"#)), "{ttl}: {answer}");
    }
    let expected = |seq| [("Nats-Expected-Last-Subject-Sequence", seq)];
    assert_eq!(world.ask_with("a.1", &expected("2"), "h"), r#"{"stream":"A","seq":3}"#);
    assert_eq!(world.ask_with("a.2", &expected("0"), "h"), r#"{"stream":"A","seq":4}"#);
    assert_eq!(world.numbers("A"), (4, 1, 4), "refused messages leave no trace");
}

#[test]
fn ids_are_remembered_for_the_window_and_across_a_restart() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"],"duplicate_window":2000000000}"#);
    let id = [("Nats-Msg-Id", "i")];
    world.ask_with("a.1", &id, "h");
    world.restart();
    assert_eq!(world.ask_with("a.1", &id, "h"), r#"{"stream":"A","seq":1,"duplicate": true}"#);
    let last = world.ask_with("a.1", &[("Nats-Expected-Last-Msg-Id", "i")], "h");
    assert_eq!(last, r#"{"stream":"A","seq":2}"#);
    world.restart();
    assert_eq!(world.publish("a.1", "without"), r#"{"stream":"A","seq":3}"#);
    assert_eq!(world.ask_with("a.1", &[("Nats-Msg-Id", "j")], "h"), r#"{"stream":"A","seq":4}"#);
    assert_eq!(world.ask_with("a.1", &id, "h"), r#"{"stream":"A","seq":1,"duplicate": true}"#);
    world.advance(2 * SECOND);
    assert_eq!(world.ask_with("a.1", &id, "h"), r#"{"stream":"A","seq":5}"#);
}

#[test]
fn limits_remove_the_oldest_or_refuse_the_newest() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"],"max_msgs":3}"#);
    world.create(r#"{"name":"N","subjects":["n.>"],"max_msgs":2,"discard":"new"}"#);
    world.create(r#"{"name":"B","subjects":["b.>"],"max_bytes":150}"#);
    world.create(r#"{"name":"K","subjects":["k.>"],"max_msgs_per_subject":2,"max_msgs":4,"discard":"new"}"#);
    let per_subject = r#""max_msgs_per_subject":1,"discard":"new","discard_new_per_subject":true"#;
    world.create(&format!(r#"{{"name":"P","subjects":["p.>"],{per_subject}}}"#));
    world.create(r#"{"name":"S","subjects":["s.>"],"max_msg_size":4}"#);
    for index in 1..=5 {
        world.publish("o.1", &index.to_string());
        world.publish("b.1", "0123456789");
    }
    assert_eq!(world.numbers("O"), (3, 3, 5));
    assert_eq!(world.numbers("B"), (3, 3, 5), "43 bytes each");
    world.publish("n.1", "1");
    world.publish("n.1", "2");
    let full = |text: &str, stream: &str| {
        let error = format!(r#"{{"code":503,"err_code":10077,"description":"{text}"}}"#);
        format!(r#"{{"error":{error},"stream":"{stream}","seq":0}}"#)
    };
    assert_eq!(world.publish("n.1", "3"), full("maximum messages exceeded", "N"));
    for subject in ["k.1", "k.1", "k.2", "k.2", "k.1"] {
        assert!(world.publish(subject, "x").starts_with(r#"{"stream":"K""#));
    }
    assert_eq!(world.publish("k.3", "x"), full("maximum messages exceeded", "K"));
    assert_eq!(world.numbers("K"), (4, 2, 5));
    world.publish("p.1", "x");
    assert_eq!(world.publish("p.1", "y"), full("maximum messages per subject exceeded", "P"));
    assert!(world.publish("s.1", "12345").contains("10054"));
}

#[test]
fn an_update_applies_its_limits_at_once() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"]}"#);
    for subject in ["a.1", "a.1", "a.2", "a.2", "a.3"] {
        world.publish(subject, "x");
    }
    let update = r#"{"name":"A","subjects":["a.>"],"max_msgs_per_subject":1,"max_msgs":2}"#;
    world.ask("$JS.API.STREAM.UPDATE.A", update);
    assert_eq!(world.contents("A").iter().map(|each| each.0).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn age_removes_messages_without_traffic() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"],"max_age":5000000000}"#);
    world.publish("a.1", "x");
    world.advance(3 * SECOND);
    world.publish("a.2", "y");
    world.advance(SECOND);
    assert_eq!(world.numbers("A"), (2, 1, 2));
    world.advance(SECOND + 100 * MILLISECOND);
    assert_eq!(world.numbers("A"), (1, 2, 2));
    world.advance(3 * SECOND);
    assert_eq!(world.numbers("A"), (0, 3, 2));
}

#[test]
fn times_never_go_back_within_a_stream() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"]}"#);
    world.publish("a.1", "x");
    world.now -= SECOND;
    world.publish("a.1", "y");
    let log = world.stream("A").log;
    assert_eq!(world.store().get(log, 2).expect("readable").expect("there").time, START);
}

#[test]
fn rollups_purges_and_deletes_remove_what_they_name() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"],"allow_rollup_hdrs":true}"#);
    let fill = |world: &mut World| {
        for subject in ["a.1", "a.2", "a.1", "a.2", "a.1"] {
            world.publish(subject, "x");
        }
    };
    let seqs = |world: &World| world.contents("A").iter().map(|each| each.0).collect::<Vec<_>>();
    fill(&mut world);
    world.ask_with("a.1", &[("Nats-Rollup", "sub")], "r");
    assert_eq!(seqs(&world), [2, 4, 6]);
    world.ask_with("a.3", &[("Nats-Rollup", "ALL")], "r");
    assert_eq!(world.numbers("A"), (1, 7, 7));
    fill(&mut world);
    let purge = |world: &mut World, body: &str| {
        let answer = world.ask("$JS.API.STREAM.PURGE.A", body);
        answer.rsplit(':').next().expect("a number").trim_end_matches('}').to_owned()
    };
    assert_eq!(purge(&mut world, r#"{"seq":1}"#), "0");
    assert_eq!(purge(&mut world, r#"{"filter":"a.1","keep":1}"#), "2");
    assert_eq!(purge(&mut world, r#"{"filter":"a.2","seq":10}"#), "1");
    assert_eq!(purge(&mut world, r#"{"seq":8}"#), "1");
    assert_eq!(seqs(&world), [11, 12]);
    assert_eq!(purge(&mut world, r#"{"keep":1}"#), "1");
    assert_eq!(purge(&mut world, ""), "1");
    assert_eq!(world.numbers("A"), (0, 13, 12));
    assert_eq!(purge(&mut world, r#"{"seq":20}"#), "0");
    assert_eq!(world.publish("a.1", "x"), r#"{"stream":"A","seq":20}"#);
    world.ask("$JS.API.STREAM.UPDATE.A", r#"{"name":"A","subjects":["a.>"],"sealed":true}"#);
    assert!(world.ask("$JS.API.STREAM.PURGE.A", "").contains("10109"));
    assert!(world.publish("a.1", "x").contains("10109"));
}

#[test]
fn messages_survive_a_restart_and_memory_streams_go_on_past_every_number() {
    let mut world = World::new();
    world.create(r#"{"name":"F","subjects":["f.>"],"max_msgs_per_subject":1}"#);
    world.create(r#"{"name":"M","subjects":["m.>"],"storage":"memory"}"#);
    for _ in 0..3 {
        world.publish("f.1", "x");
        world.publish("m.1", "x");
    }
    world.restart();
    assert_eq!(world.numbers("F"), (1, 3, 3));
    let (messages, _, last) = world.numbers("M");
    assert!(messages == 0 && last >= 3, "{messages} messages, last {last}");
    assert_eq!(world.publish("f.2", "x"), r#"{"stream":"F","seq":4}"#);
    assert_eq!(world.publish("m.2", "x"), format!(r#"{{"stream":"M","seq":{}}}"#, last + 1));
}

#[test]
fn no_ack_streams_say_nothing() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"],"no_ack":true}"#);
    assert_eq!(world.send("a.1", &[], b"x"), Some(Vec::new()));
    assert_eq!(world.numbers("A"), (1, 1, 1));
}

/// What a stream does, done naively.
#[derive(Default)]
struct Naive {
    messages: BTreeMap<u64, (String, i64)>,
    last: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Delete(u64),
    Purge { subject: Option<u8>, seq: u64, keep: usize },
    Wait(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..4).prop_map(Step::Publish),
        2 => (1u64..30).prop_map(Step::Delete),
        2 => (proptest::option::of(0u8..4), 0u64..30, 0usize..4).prop_map(|(subject, seq, keep)| {
            Step::Purge { subject, seq, keep: if seq > 0 { 0 } else { keep } }
        }),
        2 => (1i64..2000).prop_map(|milliseconds| Step::Wait(milliseconds * MILLISECOND)),
        1 => Just(Step::Restart),
    ]
}

const MAX_AGE: i64 = 4 * SECOND;
const MAX_MSGS: usize = 8;
const MAX_PER_SUBJECT: usize = 4;

impl Naive {
    fn seqs(&self, wanted: impl Fn(&str) -> bool) -> Vec<u64> {
        self.messages.iter().filter(|(_, each)| wanted(&each.0)).map(|(seq, _)| *seq).collect()
    }

    fn apply(&mut self, step: &Step, now: i64) {
        match step {
            Step::Publish(of) => {
                let subject = format!("a.{of}");
                self.last += 1;
                self.messages.insert(self.last, (subject.clone(), now));
                for seq in self.seqs(|each| each == subject).iter().rev().skip(MAX_PER_SUBJECT) {
                    self.messages.remove(seq);
                }
                while self.messages.len() > MAX_MSGS {
                    self.messages.pop_first();
                }
            }
            Step::Delete(seq) => drop(self.messages.remove(seq)),
            Step::Purge { seq: 1, .. } => {}
            Step::Purge { subject, seq, keep } => {
                let mine = self.seqs(|each| subject.is_none_or(|of| each == format!("a.{of}")));
                let gone = mine.len().saturating_sub(*keep);
                for each in mine.into_iter().filter(|each| *seq == 0 || each < seq).take(gone) {
                    self.messages.remove(&each);
                }
                if subject.is_none() && *seq > self.last {
                    self.last = seq - 1;
                }
            }
            Step::Wait(_) | Step::Restart => {}
        }
        self.expire(now);
    }

    fn expire(&mut self, now: i64) {
        self.messages.retain(|_, (_, time)| *time + MAX_AGE > now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_stream_does_what_a_naive_one_does(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let limits = format!(
            r#""max_age":{MAX_AGE},"max_msgs":{MAX_MSGS},"max_msgs_per_subject":{MAX_PER_SUBJECT}"#
        );
        world.create(&format!(r#"{{"name":"A","subjects":["a.*"],{limits}}}"#));
        let mut naive = Naive::default();
        for step in &steps {
            match step {
                Step::Publish(of) => drop(world.publish(&format!("a.{of}"), "x")),
                Step::Delete(seq) => {
                    world.ask("$JS.API.STREAM.MSG.DELETE.A", &format!(r#"{{"seq":{seq}}}"#));
                }
                Step::Purge { subject, seq, keep } => {
                    let filter = subject.map_or(String::new(), |of| format!(r#""filter":"a.{of}","#));
                    world.ask("$JS.API.STREAM.PURGE.A", &format!(r#"{{{filter}"seq":{seq},"keep":{keep}}}"#));
                }
                Step::Wait(nanos) => world.advance(*nanos),
                Step::Restart => world.restart(),
            }
            naive.apply(step, world.now);
            // Age is looked at every 50 ms at most: wait until both have looked.
            world.advance(60 * MILLISECOND);
            naive.expire(world.now);
            let seqs: Vec<u64> = world.contents("A").iter().map(|each| each.0).collect();
            prop_assert_eq!(&seqs, &naive.seqs(|_| true), "after {:?}", step);
            prop_assert_eq!(world.numbers("A").2, naive.last, "after {:?}", step);
        }
    }
}

#[test]
fn an_id_outlives_its_message_although_a_start_had_not_read_it() {
    let purge = "$JS.API.STREAM.PURGE.A";
    type Request = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let removals: &[Request] = &[
        ("$JS.API.STREAM.MSG.DELETE.A", &[], r#"{"seq":1}"#),
        (purge, &[], ""),
        (purge, &[], r#"{"filter":"a.1"}"#),
        ("a.1", &[("Nats-Rollup", "sub")], "in its place"),
        ("a.1", &[("Nats-Rollup", "all")], "in place of all"),
        // The stream takes three messages, and two of a subject.
        ("a.1", &[], "the third on its subject"),
        ("a.4", &[], "the fourth"),
    ];
    for (subject, headers, body) in removals {
        let mut world = World::new();
        world.create(
            r#"{"name":"A","subjects":["a.>"],"max_msgs":3,"max_msgs_per_subject":2,"allow_rollup_hdrs":true}"#,
        );
        let id = [("Nats-Msg-Id", "i")];
        world.ask_with("a.1", &id, "h");
        let other = if body.ends_with("subject") { "a.1" } else { "a.2" };
        world.publish(other, "h");
        world.publish("a.3", "h");
        world.restart();
        world.ask_with(subject, headers, body);
        assert!(world.contents("A").iter().all(|(seq, ..)| *seq != 1), "{subject} {body}: it is gone");
        let answer = world.ask_with("a.1", &id, "h");
        assert_eq!(answer, r#"{"stream":"A","seq":1,"duplicate": true}"#, "{subject} {body}");
    }
}

#[test]
fn what_is_older_than_the_window_goes_without_a_look_at_ids() {
    let purge = "$JS.API.STREAM.PURGE.A";
    type Request = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let removals: &[Request] = &[
        ("$JS.API.STREAM.MSG.DELETE.A", &[], r#"{"seq":1}"#),
        (purge, &[], r#"{"seq":2}"#),
        (purge, &[], r#"{"filter":"a.1"}"#),
        ("a.1", &[("Nats-Rollup", "sub")], "in its place"),
        // The stream takes three messages, and one of a subject.
        ("a.1", &[], "the second on its subject"),
        ("a.4", &[], "the fourth"),
    ];
    for (subject, headers, body) in removals {
        let mut world = World::new();
        world.create(
            r#"{"name":"A","subjects":["a.>"],"max_msgs":3,"max_msgs_per_subject":1,"allow_rollup_hdrs":true}"#,
        );
        world.publish("a.1", "h");
        world.advance(121 * SECOND);
        let id = [("Nats-Msg-Id", "i")];
        world.ask_with("a.2", &id, "h");
        world.publish("a.3", "h");
        world.restart();
        world.ask_with(subject, headers, body);
        assert!(world.contents("A").iter().all(|(seq, ..)| *seq != 1), "{subject} {body}: it is gone");
        assert!(world.stream("A").unread_ids.is_some(), "{subject} {body}: the ids are not read");
        world.publish("a.2", "in the place of the message with the id");
        assert!(world.stream("A").unread_ids.is_none(), "{subject} {body}: the ids are read");
        let answer = world.ask_with("a.1", &id, "h");
        assert_eq!(answer, r#"{"stream":"A","seq":2,"duplicate": true}"#, "{subject} {body}");
    }
}

#[test]
fn a_lowered_limit_takes_nothing_from_a_stream_that_discards_new() {
    let mut world = World::new();
    let config = |limits: &str| format!(r#"{{"name":"S","subjects":["s"],"discard":"new",{limits}}}"#);
    world.create(&config(r#""max_msgs":10,"max_bytes":10000"#));
    for number in 0..8 {
        world.publish("s", &number.to_string());
    }
    for limits in [r#""max_msgs":3,"max_bytes":10000"#, r#""max_msgs":10,"max_bytes":100"#] {
        let updated = world.ask("$JS.API.STREAM.UPDATE.S", &config(limits));
        assert!(!updated.contains("error"), "{updated}");
        assert_eq!(world.numbers("S"), (8, 1, 8), "{limits}");
        assert!(world.publish("s", "8").contains("10077"), "{limits}");
        world.restart();
        assert_eq!(world.numbers("S"), (8, 1, 8), "{limits}");
    }
}

#[test]
fn a_status_of_a_publisher_is_not_stored() {
    let mut world = World::new();
    world.create(r#"{"name":"S","subjects":["s"]}"#);
    let log = world.stream("S").log;
    for (seq, (published, stored)) in (1..).zip([
        ("NATS/1.0 503\r\n\r\n", ""),
        ("NATS/1.0 200 OK\r\nA: 1\r\n\r\n", "NATS/1.0\r\nA: 1\r\n\r\n"),
        ("NATS/1.0\r\nA: 1\r\n\r\n", "NATS/1.0\r\nA: 1\r\n\r\n"),
    ]) {
        let tag = world.heard.iter().find(|(filter, _)| filter == "s").expect("heard").1;
        let input = Input::Message {
            tag,
            subject: Bytes::from("s"),
            reply: Bytes::new(),
            headers: Bytes::from(published),
            payload: Bytes::new(),
        };
        world.engine.handle(world.now, input, world.store.as_mut().expect("it runs"), &world.interest);
        world.settle();
        let record = world.store().get(log, seq).expect("readable").expect("stored");
        assert_eq!(String::from_utf8_lossy(&record.headers), stored);
    }
}
