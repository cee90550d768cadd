//! Acknowledgements, redelivery, and what of them is kept.

use super::*;

const EXPLICIT: &str = r#"{"durable_name":"C","ack_policy":"explicit","ack_wait":1000000000}"#;
const SILENT: [&str; 0] = [];

fn delivered(config: &str, messages: usize) -> (World, Consumer) {
    let mut world = World::new();
    world.publish_all(&vec!["s.a"; messages]);
    let mut consumer = world.create(config);
    world.pull(&mut consumer, "r", &messages.to_string());
    (world, consumer)
}

#[test]
fn the_floor_follows_acks_in_any_order() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 5);
    for (seq, info) in [
        (2, "5/5 0/0 4 0 0"),
        (1, "5/5 2/2 3 0 0"),
        (5, "5/5 2/2 2 0 0"),
        (3, "5/5 3/3 1 0 0"),
        (3, "5/5 3/3 1 0 0"),
        (4, "5/5 5/5 0 0 0"),
    ] {
        assert_eq!(world.ack(&mut consumer, seq, seq, "+ACK"), SILENT);
        assert_eq!(world.info(&mut consumer), info, "after the ack of {seq}");
    }
}

#[test]
fn the_floor_crosses_what_the_filter_leaves_out() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.b", "s.b", "s.a", "s.b", "s.a"]);
    let mut consumer = world.create(r#"{"durable_name":"C","ack_policy":"explicit","filter_subject":"s.a"}"#);
    world.pull(&mut consumer, "r", "9");
    assert_eq!(world.info(&mut consumer), "3/6 0/0 3 0 0");
    world.ack(&mut consumer, 1, 1, "");
    assert_eq!(world.info(&mut consumer), "3/6 1/3 2 0 0");
    world.ack(&mut consumer, 4, 2, "");
    assert_eq!(world.info(&mut consumer), "3/6 2/5 1 0 0");
    world.ack(&mut consumer, 6, 3, "");
    assert_eq!(world.info(&mut consumer), "3/6 3/6 0 0 0");
}

#[test]
fn ack_all_covers_everything_before() {
    let (mut world, mut consumer) = delivered(r#"{"durable_name":"C","ack_policy":"all"}"#, 10);
    world.ack(&mut consumer, 4, 4, "+ACK");
    assert_eq!(world.info(&mut consumer), "10/10 4/4 6 0 0");
    assert_eq!(world.ack_to(&mut consumer, 2, 2, "", "reply"), ["held reply"], "done already, and answered");
    world.ack(&mut consumer, 10, 10, "");
    assert_eq!(world.info(&mut consumer), "10/10 10/10 0 0 0");
}

#[test]
fn answers_are_held_and_only_for_what_was_delivered() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 2);
    for (seq, body, answer) in [
        (1, "+ACK", "held q"),
        (1, "+ACK", "held q"),
        (2, "+WPI", "held q"),
        (2, "nonsense", "held q"),
        (2, "+TERM", "held q"),
    ] {
        let said = world.ack_to(&mut consumer, seq, seq, body, "q");
        assert!(said.contains(&answer.to_owned()), "{body}: {said:?}");
    }
    assert_eq!(world.ack_to(&mut consumer, 3, 3, "+ACK", "q"), SILENT, "never delivered");
    let bad = Bytes::from_static(b"q");
    for subject in ["$JS.ACK.S.C.1.x.1.0.0", "$JS.ACK.S.C", ""] {
        let said = world
            .with(&mut consumer, |consumer, view| consumer.handle_ack(subject.as_bytes(), &bad, b"", view));
        assert_eq!(said, SILENT, "{subject}");
    }
}

#[test]
fn what_is_not_acknowledged_comes_again_before_what_is_new() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 3);
    world.ack(&mut consumer, 2, 2, "");
    world.publish("s.a", "new");
    assert_eq!(world.pass(&mut consumer, SECOND), SILENT, "nobody pulls");
    assert_eq!(world.info(&mut consumer), "3/3 0/0 2 0 1");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 1/4 x2 +1", "r: 3/5 x2 +1", "r: 4/6 x1 +0"]);
    assert_eq!(world.info(&mut consumer), "6/4 0/0 3 2 0");
    world.ack(&mut consumer, 1, 4, "");
    assert_eq!(world.info(&mut consumer), "6/4 2/2 2 1 0", "counted under the first consumer sequence");
    world.ack(&mut consumer, 3, 5, "");
    assert_eq!(world.info(&mut consumer), "6/4 5/3 1 0 0");
}

#[test]
fn backoff_sets_the_waits_and_the_last_repeats() {
    let config =
        r#"{"durable_name":"C","ack_policy":"explicit","backoff":[1000000000,3000000000],"max_deliver":4}"#;
    let (mut world, mut consumer) = delivered(config, 1);
    world.pull(&mut consumer, "r", "100");
    assert_eq!(world.pass(&mut consumer, SECOND - 1), SILENT);
    assert_eq!(world.pass(&mut consumer, 1), ["r: 1/2 x2 +0"]);
    assert_eq!(world.pass(&mut consumer, 3 * SECOND - 1), SILENT);
    assert_eq!(world.pass(&mut consumer, 1), ["r: 1/3 x3 +0"]);
    assert_eq!(world.pass(&mut consumer, 3 * SECOND), ["r: 1/4 x4 +0"]);
    assert_eq!(world.pass(&mut consumer, 3 * SECOND), ["! MAX_DELIVERIES stream_seq=1 deliveries=4"]);
    assert_eq!(world.info(&mut consumer), "4/1 4/1 0 1 0");
    assert_eq!(world.pass(&mut consumer, 100 * SECOND), SILENT);
    assert!(consumer.needs(1, b"s.a"), "given up, and still in the stream for others to look at");
}

#[test]
fn max_deliver_ends_at_a_nak_too() {
    let (mut world, mut consumer) =
        delivered(r#"{"durable_name":"C","ack_policy":"explicit","max_deliver":1}"#, 1);
    assert_eq!(
        world.ack(&mut consumer, 1, 1, "-NAK"),
        ["! MSG_NAKED stream_seq=1 deliveries=1", "! MAX_DELIVERIES stream_seq=1 deliveries=1"]
    );
    assert_eq!(world.info(&mut consumer), "1/1 1/1 0 0 0", "with one delivery nothing counts as redelivered");
}

#[test]
fn naks_redeliver_at_once_or_later_and_in_progress_waits_longer() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 3);
    world.pull(&mut consumer, "r", "100");
    assert_eq!(
        world.ack(&mut consumer, 2, 2, "-NAK"),
        ["r: 2/4 x2 +0", "! MSG_NAKED stream_seq=2 deliveries=1"]
    );
    world.ack(&mut consumer, 1, 1, r#"-NAK {"delay":5000000000}"#);
    world.pass(&mut consumer, SECOND / 2);
    world.ack(&mut consumer, 3, 3, "+WPI");
    assert_eq!(world.pass(&mut consumer, SECOND / 2), ["r: 2/5 x3 +0"], "3 is still worked on, 1 is put off");
    assert_eq!(world.pass(&mut consumer, SECOND / 2), ["r: 3/6 x2 +0"]);
    world.ack(&mut consumer, 2, 5, "");
    world.ack(&mut consumer, 3, 6, "");
    assert_eq!(world.pass(&mut consumer, 3 * SECOND), SILENT);
    assert_eq!(world.pass(&mut consumer, SECOND / 2), ["r: 1/7 x2 +0"]);
    // A nak outside of what is pending changes nothing.
    assert_eq!(world.ack(&mut consumer, 2, 5, "-NAK"), SILENT);
}

#[test]
fn term_ends_redelivery_and_says_why() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 2);
    assert_eq!(
        world.ack(&mut consumer, 1, 1, "+TERM bad order"),
        [r#"! MSG_TERMINATED stream_seq=1 deliveries=1 reason="bad order""#]
    );
    assert_eq!(world.info(&mut consumer), "2/2 1/1 1 0 0");
}

#[test]
fn next_acknowledges_and_pulls() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 1);
    world.publish_all(&["s.a", "s.a", "s.a"]);
    assert_eq!(world.ack_to(&mut consumer, 1, 1, "+NXT", "q"), ["q: 2/2 x1 +2"]);
    assert_eq!(world.ack_to(&mut consumer, 2, 2, "+NXT 2", "q"), ["q: 3/3 x1 +1", "q: 4/4 x1 +0"]);
    assert_eq!(world.info(&mut consumer), "4/4 2/2 2 0 0");
}

#[test]
fn max_ack_pending_stalls_new_messages_but_not_redeliveries() {
    let mut world = World::new();
    world.publish_all(&["s.a"; 5]);
    let config = r#"{"durable_name":"C","ack_policy":"explicit","max_ack_pending":2,"ack_wait":1000000000}"#;
    let mut consumer = world.create(config);
    assert_eq!(world.pull(&mut consumer, "r", "100"), ["r: 1/1 x1 +4", "r: 2/2 x1 +3"]);
    assert_eq!(world.ack(&mut consumer, 1, 1, ""), ["r: 3/3 x1 +2"]);
    assert_eq!(world.pass(&mut consumer, SECOND), ["r: 2/4 x2 +2", "r: 3/5 x2 +2"]);
    let more = world
        .config(r#"{"durable_name":"C","ack_policy":"explicit","max_ack_pending":3,"ack_wait":1000000000}"#);
    let said = world.with(&mut consumer, |consumer, view| consumer.update(more, view));
    assert_eq!(said, ["r: 4/6 x1 +1"]);
}

#[test]
fn sampled_acks_are_measured() {
    let config = r#"{"durable_name":"C","ack_policy":"explicit","sample_freq":"100%"}"#;
    let (mut world, mut consumer) = delivered(config, 1);
    world.now += 7;
    assert_eq!(world.ack(&mut consumer, 1, 1, ""), ["! ACK stream_seq=1 deliveries=1 ack_time=7"]);
}

#[test]
fn a_restart_keeps_what_matters() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 6);
    world.ack(&mut consumer, 1, 1, "");
    world.ack(&mut consumer, 4, 4, "");
    world.ack(&mut consumer, 2, 2, "-NAK");
    world.pull(&mut consumer, "r", "1");
    world.ack(&mut consumer, 3, 3, r#"-NAK {"delay":9000000000}"#);
    let before = world.info(&mut consumer);
    let mut consumer = world.restart(&mut consumer);
    assert_eq!(world.info(&mut consumer), before);
    world.pull(&mut consumer, "r", "100");
    assert_eq!(world.pass(&mut consumer, SECOND), ["r: 2/8 x3 +0", "r: 5/9 x2 +0", "r: 6/10 x2 +0"]);
    for seq in [2, 5, 6] {
        world.ack(&mut consumer, seq, 9, "");
    }
    assert_eq!(world.pass(&mut consumer, 8 * SECOND), ["r: 3/11 x2 +0"]);
}

#[test]
fn a_wait_without_end_has_none_after_a_restart_either() {
    for wait in [i64::MAX - 2 * START, i64::MAX - 1, i64::MAX] {
        let config = format!(r#"{{"durable_name":"C","ack_policy":"explicit","ack_wait":{wait}}}"#);
        let (mut world, mut consumer) = delivered(&config, 3);
        world.ack(&mut consumer, 2, 2, &format!("-NAK {{\"delay\": {wait}}}"));
        let mut consumer = world.restart(&mut consumer);
        assert_eq!(
            world.pull(&mut consumer, "r", r#"{"batch":9,"no_wait":true}"#),
            ["r: 404 No Messages"],
            "{wait}"
        );
        assert_eq!(world.info(&mut consumer), "3/3 0/0 3 0 0", "{wait}");
    }
}

#[test]
fn damaged_and_foreign_states_are_refused_by_name() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 3);
    let state = consumer.encode_state();
    for (state, text) in [
        (&state[..state.len() - 1], "damaged"),
        (&b""[..], "damaged"),
        (&b"\x09abc"[..], "has format 9, this server knows 1"),
    ] {
        let config = consumer.config.clone();
        let refusal =
            Consumer::restore(config, "C".to_owned(), 0, Some(state), &mut world.view()).expect_err(text);
        let refusal = refusal.to_string();
        assert!(refusal.contains(text) && refusal.contains("'C'"), "{refusal}");
    }
    drop(world.restart(&mut consumer));
}

/// Whether the state was due to be kept; it is then.
fn kept(consumer: &mut Consumer, riding: bool, world: &mut World) -> bool {
    let is_due = consumer.due_state(world.now, riding).is_some();
    if is_due {
        consumer.state_staged(world.now, &mut world.outputs);
    }
    is_due
}

#[test]
fn a_state_that_is_refused_stays_to_be_kept() {
    let (mut world, mut consumer) = delivered(EXPLICIT, 3);
    assert!(kept(&mut consumer, false, &mut world) || consumer.due_state(world.now, false).is_none());
    world.said();
    consumer.handle_ack(b"$JS.ACK.S.C.1.1.1.0.0", &Bytes::from_static(b"q"), b"", &mut world.view());
    consumer.drive(&mut world.view());
    assert!(consumer.due_state(world.now, false).is_some(), "somebody waits");
    assert_eq!(world.said(), Vec::<String>::new(), "nothing is said before it is staged");
    assert!(consumer.state_refused(world.now), "news");
    assert_eq!(consumer.due_state(world.now, true), None, "not at once again");
    let again = consumer.poll_timeout().expect("it is tried again");
    assert!(again > world.now && again <= world.now + SECOND);
    world.now = again;
    assert!(consumer.due_state(world.now, false).is_some());
    assert!(!consumer.state_refused(world.now), "no news");
    world.now += SECOND;
    assert!(kept(&mut consumer, false, &mut world));
    assert_eq!(world.said(), ["held q"]);
    assert_eq!(consumer.due_state(world.now + SECOND, true), None);
}

#[test]
fn state_is_written_when_it_must_be_and_no_more_often() {
    let mut world = World::new();
    world.publish_all(&vec!["s.a"; 2_000]);
    let mut consumer = world.create(r#"{"durable_name":"C","ack_policy":"explicit","max_ack_pending":-1}"#);
    assert!(!kept(&mut consumer, true, &mut world));
    // A delivery waits for 250 ms.
    let deliver = |consumer: &mut Consumer, batch: &str, world: &mut World| {
        consumer.handle_pull(b"r", b"", batch.as_bytes(), &mut world.view());
        consumer.drive(&mut world.view());
    };
    deliver(&mut consumer, "1", &mut world);
    assert!(!kept(&mut consumer, true, &mut world), "deliveries do not ride");
    assert_eq!(consumer.keeping.due_at(), Some(world.now + SECOND / 4));
    world.now += SECOND / 4;
    assert!(kept(&mut consumer, false, &mut world));
    // A plain ack rides in the next group and forces none.
    world.now += SECOND;
    consumer.handle_ack(b"$JS.ACK.S.C.1.1.1.0.0", &Bytes::new(), b"", &mut world.view());
    assert!(!kept(&mut consumer, false, &mut world));
    assert!(kept(&mut consumer, true, &mut world));
    // A double ack waits for it.
    consumer.handle_ack(b"$JS.ACK.S.C.1.1.1.0.0", &Bytes::from_static(b"q"), b"", &mut world.view());
    assert!(kept(&mut consumer, false, &mut world));
    // A thousand deliveries do not wait for 250 ms.
    world.now += SECOND;
    deliver(&mut consumer, "1024", &mut world);
    assert!(kept(&mut consumer, false, &mut world));
}

#[test]
fn passing_consumers_keep_nothing() {
    for (config, kept, state) in [
        (r#"{"name":"C","ack_policy":"none"}"#, false, false),
        (r#"{"name":"C","ack_policy":"explicit"}"#, true, true),
        (r#"{"durable_name":"C","ack_policy":"none"}"#, true, true),
        (r#"{"durable_name":"C","ack_policy":"explicit","mem_storage":true}"#, false, false),
    ] {
        let mut world = World::new();
        world.publish("s.a", "x");
        let mut consumer = world.create(config);
        world.pull(&mut consumer, "r", "1");
        let now = world.now + SECOND;
        consumer.keeping.delivered(now);
        assert_eq!(consumer.is_kept(), kept, "{config}");
        assert_eq!(consumer.due_state(now + SECOND, true).is_some(), state, "{config}");
    }
}
