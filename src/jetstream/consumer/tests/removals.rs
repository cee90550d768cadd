//! Records that leave the stream under a consumer.

use super::*;

fn remove(world: &mut World, consumer: &mut Consumer, seq: u64) -> Vec<String> {
    let record = world.store.get(world.log, seq).expect("readable").expect("present");
    world.store.remove(world.log, &[seq]).expect("removed");
    world.settle();
    let removed = Removed::One { seq, subject: &record.subject };
    world.with(consumer, |consumer, view| consumer.handle_removed(removed, view))
}

fn scene() -> (World, Consumer) {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.b", "s.a", "s.b", "s.a", "s.b"]);
    let mut consumer =
        world.create(r#"{"durable_name":"C","ack_policy":"explicit","filter_subjects":["s.a","s.b"]}"#);
    assert_eq!(world.pull(&mut consumer, "r", "3").len(), 3);
    (world, consumer)
}

#[test]
fn a_pending_message_that_is_deleted_is_terminated() {
    let (mut world, mut consumer) = scene();
    assert_eq!(
        remove(&mut world, &mut consumer, 1),
        [r#"! MSG_TERMINATED stream_seq=1 deliveries=1 reason="Unacknowledged message was deleted""#]
    );
    assert_eq!(world.info(&mut consumer), "3/3 1/1 2 0 3");
    // One that is still to come is no longer counted.
    assert_eq!(remove(&mut world, &mut consumer, 5), Vec::<String>::new());
    assert_eq!(world.info(&mut consumer), "3/3 1/1 2 0 2");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 4/4 x1 +1", "r: 6/5 x1 +0"]);
}

#[test]
fn limits_terminate_what_is_pending_and_count_what_is_left() {
    let (mut world, mut consumer) = scene();
    world.store.evict_below(world.log, 3);
    let removed = Removed::Below { first_seq: 3 };
    assert_eq!(
        world.with(&mut consumer, |consumer, view| consumer.handle_removed(removed, view)),
        [
            r#"! MSG_TERMINATED stream_seq=1 deliveries=1 reason="Message deleted by stream limits""#,
            r#"! MSG_TERMINATED stream_seq=2 deliveries=1 reason="Message deleted by stream limits""#
        ]
    );
    assert_eq!(world.info(&mut consumer), "3/3 2/2 1 0 3");
    world.store.evict_below(world.log, 6);
    world
        .with(&mut consumer, |consumer, view| consumer.handle_removed(Removed::Below { first_seq: 6 }, view));
    assert_eq!(world.info(&mut consumer), "3/3 3/3 0 0 1");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 6/4 x1 +0"]);
}

#[test]
fn a_purge_of_everything_leaves_nothing_pending() {
    let (mut world, mut consumer) = scene();
    world.store.purge(world.log, 7).expect("purged");
    world.settle();
    let said = world.with(&mut consumer, |consumer, view| {
        consumer.handle_removed(Removed::Purged { filter: None }, view);
    });
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(world.info(&mut consumer), "3/6 3/6 0 0 0");
    world.publish("s.a", "x");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 7/4 x1 +0"]);
}

#[test]
fn a_purge_of_some_subjects_leaves_the_others() {
    let (mut world, mut consumer) = scene();
    world.store.remove(world.log, &[1, 3, 5]).expect("removed");
    world.settle();
    world.with(&mut consumer, |consumer, view| {
        consumer.handle_removed(Removed::Purged { filter: Some(b"s.a") }, view);
    });
    assert_eq!(world.info(&mut consumer), "3/3 1/1 1 0 2");
    // A purge elsewhere does not concern it.
    world.with(&mut consumer, |consumer, view| {
        consumer.handle_removed(Removed::Purged { filter: Some(b"t.>") }, view);
    });
    assert_eq!(world.info(&mut consumer), "3/3 1/1 1 0 2");
    world.ack(&mut consumer, 2, 2, "");
    assert_eq!(world.info(&mut consumer), "3/3 3/3 0 0 2");
}

#[test]
fn a_message_queued_for_redelivery_that_is_gone_is_skipped() {
    let (mut world, mut consumer) = scene();
    world.ack(&mut consumer, 1, 1, "-NAK");
    // The stream has not told yet.
    world.store.remove(world.log, &[1]).expect("removed");
    world.settle();
    let said = world.pull(&mut consumer, "r", "1");
    assert_eq!(said[0], "r: 4/4 x1 +2");
    assert_eq!(world.info(&mut consumer), "4/4 1/1 3 0 2");
}

#[test]
fn a_list_of_lasts_shrinks_with_what_leaves() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.b", "s.c"]);
    let config = r#"{"durable_name":"C","ack_policy":"none","deliver_policy":"last_per_subject","filter_subject":"s.>"}"#;
    let mut consumer = world.create(config);
    remove(&mut world, &mut consumer, 2);
    assert_eq!(world.info(&mut consumer), "0/0 0/0 0 0 2");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 1/1 x1 +1", "r: 3/2 x1 +0"]);
}
