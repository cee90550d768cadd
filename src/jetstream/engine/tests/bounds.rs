//! How much the engine makes before it is let out, and for whom.

use super::*;

/// More than the outputs hold before they are full, and what one more consumer or request adds.
const BOUND: usize = 10 << 20;

fn filled(messages: usize) -> World {
    let mut world = World::new();
    world.create(r#"{"name":"S","subjects":["s.>"],"storage":"memory","allow_direct":true}"#);
    let payload = vec![b'x'; 32 << 10];
    for _ in 0..messages {
        world.send("s.a", &[], &payload);
    }
    world.sent.clear();
    world
}

#[test]
fn deliveries_to_many_consumers_are_made_as_they_can_leave() {
    let mut world = filled(32);
    for number in 0..30 {
        let body =
            format!(r#"{{"stream_name":"S","config":{{"durable_name":"C{number}","ack_policy":"none"}}}}"#);
        world.ask(&format!("$JS.API.CONSUMER.CREATE.S.C{number}"), &body);
    }
    let mut replies = BTreeSet::new();
    for number in 0..30 {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.C{number}");
        replies.insert(world.hand_over(&subject, &[], br#"{"batch":32}"#).expect("heard"));
    }
    let (mut turns, mut delivered) = (0, BTreeSet::new());
    while world.engine.poll_timeout().is_some_and(|due| due <= world.now) {
        let store = world.store.as_mut().expect("it runs");
        world.engine.handle_timeout(world.now, store, &world.interest);
        world.take_outputs();
        let bytes: usize = world.sent.iter().map(|message| message.payload.len()).sum();
        assert!(bytes <= BOUND, "{bytes} bytes at once");
        delivered.extend(world.sent.drain(..).map(|message| message.to));
        turns += 1;
    }
    assert_eq!(delivered, replies, "everybody had a turn");
    assert!((3..30).contains(&turns), "{turns} turns for 30 MiB");
}

#[test]
fn an_output_that_is_full_says_so() {
    let mut world = filled(300);
    let request = br#"{"seq":1,"batch":1000}"#;
    assert!(!world.engine.outputs().is_full());
    world.hand_over("$JS.API.DIRECT.GET.S", &[], request);
    assert!(world.engine.outputs().is_full(), "nine MiB wait");
    assert!(world.engine.outputs().held_bytes() >= 300 * (32 << 10));
    world.take_outputs();
    assert_eq!((world.engine.outputs().is_full(), world.engine.outputs().held_bytes()), (false, 0));
    for _ in 0..5_000 {
        world.hand_over("$JS.API.STREAM.NAMES", &[], b"");
    }
    assert!(world.engine.outputs().is_full(), "five thousand answers wait");
}

#[test]
fn what_nobody_waits_for_is_not_read() {
    let mut world = filled(5);
    world.interest.0.borrow_mut().clear();
    for (subject, body) in [
        ("$JS.API.DIRECT.GET.S", r#"{"seq":1,"batch":5}"#),
        ("$JS.API.DIRECT.GET.S.s.a", ""),
        ("$JS.API.STREAM.LIST", ""),
        ("$JS.API.STREAM.NAMES", ""),
        ("$JS.API.STREAM.INFO.S", ""),
        ("$JS.API.STREAM.MSG.GET.S", r#"{"seq":1}"#),
        ("$JS.API.CONSUMER.LIST.S", ""),
        ("$JS.API.CONSUMER.NAMES.S", ""),
        ("$JS.API.INFO", ""),
    ] {
        world.hand_over(subject, &[], body.as_bytes()).expect(subject);
        assert!(world.engine.outputs().is_empty(), "{subject}");
    }
    // What changes something is done all the same.
    world.hand_over("$JS.API.STREAM.DELETE.S", &[], b"").expect("heard");
    assert!(world.engine.streams.is_empty());
}

#[test]
fn a_limit_goes_on_after_a_read_that_failed() {
    const MAX: u64 = 150;
    let mut filled = World::new();
    filled
        .create(&format!(r#"{{"name":"S","subjects":["s"],"max_msgs":{MAX},"duplicate_window":100000000}}"#));
    for _ in 0..MAX {
        filled.publish("s", &"x".repeat(2000));
    }
    filled.restart();
    // Ids are remembered for less than what follows takes, so nothing reads ahead for them.
    let mut failures = 0;
    // Somewhere the front passes into what is to be read next.
    for (before, reads) in (0..70).flat_map(|before| (0..6).map(move |reads| (before, reads))) {
        let disk = filled.disk.copy();
        let mut world = World::on(disk.clone());
        world.advance(1_000_000_000);
        for _ in 0..before {
            world.publish("s", "x");
        }
        disk.fail_reads_after(reads);
        world.publish("s", "y");
        failures += u64::from(world.numbers("S").0 > MAX);
        disk.heal();
        world.settle();
        world.publish("s", "z");
        let last = MAX + before + 2;
        assert_eq!(
            world.numbers("S"),
            (MAX, last - MAX + 1, last),
            "after {before} messages and {reads} reads"
        );
    }
    assert!(failures > 0, "no read failed");
}
