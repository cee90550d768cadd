//! Streams in memory across a crash, and the mirrors that stand for them.

use super::*;
use crate::jetstream::stream::config::UNUSED;

const ORIGIN: &str = r#"{"name":"O","subjects":["o.>"],"storage":"memory"}"#;
const MIRROR: &str = r#"{"name":"M","mirror":{"name":"O"},"metadata":{"weir.hold":"67108864"}}"#;

fn unused(world: &World) -> Vec<(u64, u64)> {
    let note = world.stream("M").config.metadata.get(UNUSED).cloned().unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let range = |text: &str| text.split_once('-').map(|(first, last)| (number(first), number(last)));
    note.split(',').filter_map(range).collect()
}

/// Takes messages in without letting anything be copied yet.
fn take(world: &mut World, count: usize, bytes: usize) {
    let (_, tag) =
        world.heard.iter().find(|(filter, _)| *filter == "o.>").expect("the origin listens").clone();
    let payload = Bytes::from(vec![b'x'; bytes]);
    for _ in 0..count {
        let subject = Bytes::from_static(b"o.1");
        let (reply, headers) = (Bytes::new(), Bytes::new());
        let input = Input::Message { tag, subject, reply, headers, payload: payload.clone() };
        let store = world.store.as_mut().expect("it runs");
        world.engine.handle(world.now, input, store, &world.interest);
    }
}

/// One turn of a driver: copies, seals, and waits until that is durable.
fn turn(world: &mut World) {
    let store = world.store.as_mut().expect("it runs");
    world.engine.handle_durable(world.now, store, &world.interest);
    let (send, done) = std::sync::mpsc::channel();
    store.seal(Box::new(move |sealed| send.send(sealed).expect("the test waits")));
    store.process();
    done.try_recv().expect("the journal answers").expect("the disk works");
}

#[test]
fn what_is_acknowledged_is_in_the_mirror_and_the_rest_of_the_block_is_noted() {
    let mut world = World::new();
    world.create(ORIGIN);
    world.create(MIRROR);
    // The first turn after each start already copies, although the block of sequences is not yet durable.
    take(&mut world, 5, 1);
    turn(&mut world);
    let mut expected = Vec::new();
    let mut next = 6;
    for _ in 0..3 {
        world.crash();
        let (_, _, last) = world.numbers("O");
        assert!(last >= next + 60_000, "a block was set aside: {last}");
        expected.push((next, last));
        assert_eq!(unused(&world), expected);
        assert_eq!(world.numbers("M").2, last);
        take(&mut world, 2, 1);
        turn(&mut world);
        next = last + 3;
    }
    let sequences: Vec<u64> = (0..4).map(|n| world.contents("M")[5 + n].0).collect();
    assert_eq!(
        sequences,
        expected.iter().take(2).flat_map(|(_, last)| [last + 1, last + 2]).collect::<Vec<_>>()
    );
    assert_eq!(world.contents("M").len(), 11);
}

#[test]
fn what_the_mirror_had_not_copied_is_not_called_unused() {
    let mut world = World::new();
    world.create(ORIGIN);
    world.create(MIRROR);
    take(&mut world, 400, 10_000);
    turn(&mut world);
    let (copied, _, last) = world.numbers("M");
    assert!(copied == last && copied < 400, "the mirror is behind: {copied}");
    world.crash();
    let end = world.numbers("O").2;
    assert_eq!(unused(&world), [(401, end)], "{}..=400 were lost", copied + 1);
}

#[test]
fn a_start_that_breaks_off_notes_the_same_once() {
    let mut world = World::new();
    world.create(ORIGIN);
    world.create(MIRROR);
    take(&mut world, 5, 1);
    turn(&mut world);
    world.crash();
    let noted = unused(&world);
    world.crash();
    world.restart();
    assert_eq!(unused(&world), noted);
}

#[test]
fn ids_are_known_as_far_as_every_mirror_has_them() {
    let mut world = World::new();
    world.create(ORIGIN);
    world.create(MIRROR);
    let id = |name: &'static str| [("Nats-Msg-Id", name)];
    world.ask_with("o.1", &id("a"), "1");
    world.ask_with("o.1", &id("b"), "2");
    world.crash();
    let again = world.ask_with("o.1", &id("b"), "2");
    assert_eq!(again, r#"{"stream":"O","seq":2,"duplicate": true}"#);
    // Another mirror begins here and has none of them; it counts with what it passed over.
    world.create(r#"{"name":"N","mirror":{"name":"O"},"metadata":{"weir.hold":"1000"}}"#);
    world.ask_with("o.1", &id("c"), "3");
    world.crash();
    let again = world.ask_with("o.1", &id("c"), "3");
    assert!(again.contains("duplicate"), "{again}");
    assert_eq!(world.numbers("M").0, 3);
    world.advance(121 * SECOND);
    world.crash();
    let late = world.ask_with("o.1", &id("c"), "3");
    assert!(!late.contains("duplicate"), "{late}");
}

#[test]
fn mirrors_that_hold_nothing_back_are_left_alone() {
    let mut world = World::new();
    world.create(ORIGIN);
    world.create(r#"{"name":"M","mirror":{"name":"O"}}"#);
    world.publish("o.1", "x");
    world.crash();
    assert_eq!(unused(&world), []);
    world.create(r#"{"name":"F","subjects":["f.>"]}"#);
    world.create(r#"{"name":"G","mirror":{"name":"F"},"metadata":{"weir.hold":"1000"}}"#);
    world.publish("f.1", "x");
    world.crash();
    assert!(!world.stream("G").config.metadata.contains_key(UNUSED));
}

#[test]
fn what_a_limit_removed_does_not_come_back_behind_a_purge_or_another_limit() {
    for change in ["filtered purge", "rollup", "limit", "delete"] {
        let mut world = World::new();
        let config = |most: u32| {
            format!(
                r#"{{"name":"S","subjects":["s.>"],"max_msgs_per_subject":{most},"allow_rollup_hdrs":true}}"#
            )
        };
        world.create(&config(2));
        for number in 1..=5 {
            world.publish("s.a", &number.to_string());
        }
        world.publish("s.b", "6");
        assert_eq!(world.contents("S").len(), 3);
        match change {
            "filtered purge" => drop(world.ask("$JS.API.STREAM.PURGE.S", r#"{"filter":"s.a"}"#)),
            "rollup" => drop(world.ask_with("s.a", &[("Nats-Rollup", "sub")], "")),
            "limit" => drop(world.ask("$JS.API.STREAM.UPDATE.S", &config(100))),
            _ => drop(world.ask("$JS.API.STREAM.MSG.DELETE.S", r#"{"seq":5}"#)),
        }
        let before = world.contents("S");
        world.crash();
        assert_eq!(world.contents("S"), before, "{change}");
    }
}

#[test]
fn what_is_overdue_after_a_restart_comes_in_stream_order() {
    let mut world = World::new();
    world.create(r#"{"name":"S","subjects":["s"]}"#);
    for _ in 0..3 {
        world.publish("s", "x");
    }
    let body =
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","ack_wait":1000000000}}"#;
    world.ask("$JS.API.CONSUMER.CREATE.S.C", body);
    let delivered = world.send("$JS.API.CONSUMER.MSG.NEXT.S.C", &[], br#"{"batch":3}"#).expect("heard");
    // The last is queued at once and kept so; the others fall due while nothing is written.
    world.send(&String::from_utf8_lossy(&delivered[2].reply), &[], b"-NAK").expect("heard");
    world.advance(2 * SECOND);
    world.restart();
    let again = world.send("$JS.API.CONSUMER.MSG.NEXT.S.C", &[], br#"{"batch":3}"#).expect("heard");
    let seqs: Vec<String> = again
        .iter()
        .map(|message| {
            String::from_utf8_lossy(&message.reply).split('.').nth(5).expect("a sequence").to_owned()
        })
        .collect();
    assert_eq!(seqs, ["1", "2", "3"]);
}
