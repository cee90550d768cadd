//! Push consumers: interest, heartbeats, flow control, rates.

use super::*;

const SILENT: [&str; 0] = [];

fn push(more: &str) -> String {
    format!(r#"{{"durable_name":"C","deliver_subject":"d","ack_policy":"none"{more}}}"#)
}

fn set_listening(world: &mut World, consumer: &mut Consumer, subject: &str, listens: bool) -> Vec<String> {
    if listens {
        world.listeners.gone.remove(subject.as_bytes());
    } else {
        world.listeners.gone.insert(subject.as_bytes().to_vec());
    }
    world.with(consumer, |consumer, view| consumer.handle_interest(view))
}

#[test]
fn messages_are_pushed_while_somebody_listens() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.b"]);
    let mut consumer = world.create(&push(""));
    assert_eq!(world.drive(&mut consumer), ["d: 1/1 x1 +1", "d: 2/2 x1 +0"]);
    set_listening(&mut world, &mut consumer, "d", false);
    world.publish("s.c", "x");
    assert_eq!(world.drive(&mut consumer), SILENT);
    assert!(!consumer.info(&world.view()).push_bound);
    assert_eq!(set_listening(&mut world, &mut consumer, "d", true), ["d: 3/3 x1 +0"]);
    assert!(consumer.info(&world.view()).push_bound);
}

#[test]
fn a_deliver_group_needs_a_member() {
    let mut world = World::new();
    world.publish("s.a", "x");
    world.listeners.gone.insert(b"d g".to_vec());
    let mut consumer = world.create(&push(r#","deliver_group":"g""#));
    assert_eq!(world.drive(&mut consumer), SILENT, "somebody listens, but not in the group");
    assert_eq!(set_listening(&mut world, &mut consumer, "d g", true), ["d: 1/1 x1 +0"]);
}

#[test]
fn what_a_push_consumer_does_not_get_acknowledged_it_sends_again() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.b"]);
    let config =
        r#"{"durable_name":"C","deliver_subject":"d","ack_policy":"explicit","ack_wait":1000000000}"#;
    let mut consumer = world.create(config);
    world.drive(&mut consumer);
    world.ack(&mut consumer, 2, 2, "");
    assert_eq!(world.pass(&mut consumer, SECOND), ["d: 1/3 x2 +0"]);
    // A new deliver subject has seen nothing of what is pending.
    world.listeners.gone.insert(b"d".to_vec());
    let config = world.config(&config.replace(r#""d""#, r#""e""#));
    let said = world.with(&mut consumer, |consumer, view| consumer.update(config, view));
    assert_eq!(said, ["e: 1/4 x3 +0"]);
}

#[test]
fn heartbeats_tell_the_last_position_while_nothing_is_delivered() {
    let mut world = World::new();
    let mut consumer = world.create(&push(r#","idle_heartbeat":1000000000,"filter_subject":"s.a""#));
    assert_eq!(world.pass(&mut consumer, SECOND), ["d: 100 Idle Heartbeat Last-Consumer=0 Last-Stream=0"]);
    world.pass(&mut consumer, SECOND / 2);
    world.publish_all(&["s.a", "s.b"]);
    assert_eq!(world.drive(&mut consumer), ["d: 1/1 x1 +0"]);
    assert_eq!(world.pass(&mut consumer, SECOND - 1), SILENT);
    // What the filter leaves out counts as looked at.
    assert_eq!(world.pass(&mut consumer, 1), ["d: 100 Idle Heartbeat Last-Consumer=1 Last-Stream=2"]);
    set_listening(&mut world, &mut consumer, "d", false);
    assert_eq!(world.pass(&mut consumer, 3 * SECOND), SILENT);
}

#[test]
fn flow_control_asks_at_half_a_window_stops_at_a_whole_one_and_widens() {
    let mut world = World::new();
    let payload = "x".repeat(256 * 1024);
    for _ in 0..40 {
        world.stage("s.a", &payload);
    }
    world.settle();
    let mut consumer = world.create(&push(r#","flow_control":true,"idle_heartbeat":1000000000"#));
    let mut view = world.view();
    while consumer.wants_drive {
        consumer.drive(&mut view);
    }
    let answers = |world: &mut World| -> (usize, Vec<Bytes>) {
        let messages = world.outputs.take_now();
        let requests: Vec<Bytes> = messages
            .iter()
            .filter(|message| message.headers.starts_with(b"NATS/1.0 100 FlowControl Request\r\n\r\n"))
            .map(|message| message.reply.clone())
            .collect();
        (messages.len() - requests.len(), requests)
    };
    // The window is 2 MiB: asked after more than 1 MiB, stopped after more than 2 MiB.
    let (delivered, requests) = answers(&mut world);
    assert_eq!((delivered, requests.len()), (8, 1));
    let stalled = String::from_utf8(requests[0].to_vec()).expect("text");
    assert!(stalled.starts_with("$JS.FC.S.C.") && stalled.len() == "$JS.FC.S.C.".len() + 4, "{stalled}");
    assert_eq!(
        world.pass(&mut consumer, SECOND),
        [format!("d: 100 Idle Heartbeat Last-Consumer=8 Last-Stream=8 Consumer-Stalled={stalled}")]
    );
    let reply = |world: &mut World, consumer: &mut Consumer, subject: &[u8]| {
        let mut view = world.view();
        consumer.handle_flow_reply(subject, b"", &mut view);
        while consumer.wants_drive {
            consumer.drive(&mut view);
        }
        answers(world)
    };
    assert_eq!(
        reply(&mut world, &mut consumer, b"$JS.FC.S.C.zzzz").0,
        0,
        "not the answer to the last request"
    );
    let longer = format!("$JS.FC._.hash.{}", stalled.trim_start_matches("$JS.FC."));
    let (delivered, requests) = reply(&mut world, &mut consumer, longer.as_bytes());
    assert_eq!(requests.len(), 1);
    assert!(delivered > 8, "the window is twice as wide: {delivered}");
}

#[test]
fn a_rate_limit_spreads_the_bytes() {
    let mut world = World::of(
        r#"{"name":"S","subjects":["s.>"],"num_replicas":1,"max_msg_size":1000,"max_msgs_per_subject":-1}"#,
    );
    let payload = "x".repeat(958);
    for _ in 0..5 {
        world.stage("s.a", &payload);
    }
    world.settle();
    // 1,000 bytes a second with a burst of 1,000; each message counts 1,000 bytes with subject and reply.
    let mut consumer = world.create(&push(r#","rate_limit_bps":8000"#));
    assert_eq!(world.drive(&mut consumer), ["d: 1/1 x1 +4"]);
    assert_eq!(world.pass(&mut consumer, SECOND - 1), SILENT);
    assert_eq!(world.pass(&mut consumer, 1), ["d: 2/2 x1 +3"]);
    assert_eq!(world.pass(&mut consumer, 2 * SECOND), ["d: 3/3 x1 +2", "d: 4/4 x1 +1"]);
}

#[test]
fn without_a_listener_an_ephemeral_consumer_ends() {
    let mut world = World::new();
    world.listeners.gone.insert(b"d".to_vec());
    let mut consumer = world.create(r#"{"deliver_subject":"d"}"#);
    assert_eq!(consumer.config().inactive_threshold, 5 * SECOND);
    world.pass(&mut consumer, 4 * SECOND);
    set_listening(&mut world, &mut consumer, "d", true);
    world.pass(&mut consumer, 100 * SECOND);
    assert!(!consumer.is_expired());
    set_listening(&mut world, &mut consumer, "d", false);
    world.pass(&mut consumer, 5 * SECOND);
    assert!(!consumer.is_expired());
    world.pass(&mut consumer, SECOND);
    assert!(consumer.is_expired());
}

/// As on nats-server: what was delivered is settled, and all goes on.
#[test]
fn with_flow_control_an_ack_beyond_the_end_settles_what_was_delivered() {
    let mut world = World::new();
    world.publish_all(&["s.a"; 3]);
    let config = r#"{"durable_name":"C","deliver_subject":"d","ack_policy":"all","flow_control":true,
        "idle_heartbeat":1000000000,"max_ack_pending":5}"#;
    let mut consumer = world.create(config);
    world.drive(&mut consumer);
    world.ack(&mut consumer, u64::MAX, 1, "");
    assert_eq!(world.info(&mut consumer), "3/3 1/3 0 0 0");
    let mut consumer = world.restart(&mut consumer);
    world.publish_all(&["s.a"; 2]);
    let said = world.drive(&mut consumer);
    assert!(said.contains(&"d: 5/5 x1 +0".to_owned()), "{said:?}");
    assert_eq!(world.info(&mut consumer), "5/5 1/3 2 0 0");
    world.ack(&mut consumer, 5, 5, "");
    assert_eq!(world.info(&mut consumer), "5/5 5/5 0 0 0");
}

#[test]
fn the_flow_control_policy_acknowledges_with_its_answers() {
    let mut world = World::new();
    world.publish_all(&["s.a"; 4]);
    let config =
        r#"{"durable_name":"C","deliver_subject":"d","ack_policy":"flow_control","max_ack_pending":2}"#;
    let mut consumer = world.create(config);
    consumer.drive(&mut world.view());
    let messages = world.outputs.take_now();
    let request = messages.last().expect("a request");
    assert_eq!(messages.len(), 3, "two deliveries, then the request because too much is pending");
    let headers = b"NATS/1.0\r\nNats-Last-Consumer: 2\r\nNats-Last-Stream: 2\r\n\r\n";
    let subject = request.reply.clone();
    consumer.handle_flow_reply(&subject, headers, &mut world.view());
    assert_eq!(world.info(&mut consumer), "2/2 2/2 0 0 2");
    let said = world.drive(&mut consumer);
    assert_eq!(said[..2], ["d: 3/3 x1 +1", "d: 4/4 x1 +0"]);
}
