//! Pull requests: refusals, turns, and how each ends.

use super::*;

const CONFIG: &str = r#"{"durable_name":"C","ack_policy":"none"}"#;
const SILENT: [&str; 0] = [];

fn world(messages: usize) -> World {
    let mut world = World::new();
    world.publish_all(&vec!["s.a"; messages]);
    world
}

#[test]
fn refusals_come_in_order_and_word_for_word() {
    let mut world = world(1);
    let limited = r#"{"durable_name":"C","ack_policy":"none","max_batch":5,"max_expires":60000000000,"max_bytes":100,"max_waiting":1}"#;
    let mut consumer = world.create(limited);
    for (body, said) in [
        (r#"{"batch":6}"#, "r: 409 Exceeded MaxRequestBatch of 5"),
        (r#"{"batch":1,"expires":60000000001}"#, "r: 409 Exceeded MaxRequestExpires of 1m0s"),
        (r#"{"batch":1,"max_bytes":101}"#, "r: 409 Exceeded MaxRequestMaxBytes of 100"),
        ("{", "r: 400 Bad Request - unexpected end of JSON input"),
        (r#"{"expires":1,"idle_heartbeat":1}"#, "r: 400 Bad Request - heartbeat value too large"),
        (r#"{"min_pending":1}"#, "r: 400 Bad Request - Not a Overflow Priority consumer"),
        (r#"{"id":"x"}"#, "r: 400 Bad Request - Not a Pinned Client Priority consumer"),
        (r#"{"priority":10}"#, "r: 400 Bad Request - Priority must be between 0 and 9"),
    ] {
        assert_eq!(world.pull(&mut consumer, "r", body), [said], "{body}");
    }
    assert_eq!(world.pull(&mut consumer, "", "1"), SILENT, "nobody to answer");
    let level = b"NATS/1.0\r\nNats-Required-Api-Level: 5\r\n\r\n";
    let said = world.with(&mut consumer, |consumer, view| consumer.handle_pull(b"r", level, b"1", view));
    assert_eq!(said, ["r: 412 Required Api Level"]);
    let none = b"NATS/1.0\r\nNats-Required-Api-Level: \r\n\r\n";
    let said = world.with(&mut consumer, |consumer, view| consumer.handle_pull(b"r", none, b"2", view));
    assert_eq!(said, ["r: 1/1 x1 +0"], "an empty level asks for nothing");
    assert_eq!(world.pull(&mut consumer, "s", "1"), ["s: 409 Exceeded MaxWaiting"]);
    let patient = r#"{"batch":1,"expires":1000000000,"idle_heartbeat":500000000}"#;
    assert_eq!(world.pull(&mut consumer, "s", patient), SILENT, "its client misses the heartbeats");
    let mut push = world.create(r#"{"durable_name":"C","deliver_subject":"d","ack_policy":"none"}"#);
    assert_eq!(world.pull(&mut push, "r", "1")[0], "r: 409 Consumer is push based");
}

#[test]
fn requests_take_turns_message_by_message() {
    let mut world = world(0);
    let mut consumer = world.create(CONFIG);
    world.pull(&mut consumer, "a", "3");
    world.pull(&mut consumer, "b", "1");
    world.pull(&mut consumer, "c", "2");
    world.publish_all(&["s.a"; 7]);
    let to: Vec<String> = world.drive(&mut consumer).iter().map(|line| line[..1].to_owned()).collect();
    assert_eq!(to, ["a", "b", "c", "a", "c", "a"]);
    assert_eq!(world.info(&mut consumer), "6/6 6/6 0 0 1");
}

#[test]
fn a_request_without_waiting_ends_when_nothing_is_left() {
    let mut world = world(2);
    let mut consumer = world.create(CONFIG);
    let body = r#"{"batch":5,"no_wait":true}"#;
    assert_eq!(world.pull(&mut consumer, "r", body), ["r: 1/1 x1 +1", "r: 2/2 x1 +0", "r: 404 No Messages"]);
    assert_eq!(world.pull(&mut consumer, "r", body), ["r: 404 No Messages"]);
    // What is promised to others is not there.
    world.pull(&mut consumer, "other", "5");
    world.publish("t", "x");
    assert_eq!(world.info(&mut consumer), "2/2 2/2 0 0 1");
    assert_eq!(world.pull(&mut consumer, "r", r#"{"batch":1,"no_wait":true}"#)[0], "r: 408 Requests Pending");
}

#[test]
fn a_request_without_waiting_but_with_expiry_waits_for_its_first_message() {
    let mut world = world(0);
    let mut consumer = world.create(CONFIG);
    let body = r#"{"batch":5,"no_wait":true,"expires":10000000000}"#;
    assert_eq!(world.pull(&mut consumer, "r", body), SILENT);
    assert_eq!(world.pass(&mut consumer, SECOND), SILENT);
    world.publish("s.a", "x");
    assert_eq!(world.drive(&mut consumer), ["r: 1/1 x1 +0", "r: 404 No Messages"]);
    assert_eq!(world.pull(&mut consumer, "r", body), SILENT);
    assert_eq!(
        world.pass(&mut consumer, 10 * SECOND),
        ["r: 408 Request Timeout Pending-Messages=5 Pending-Bytes=0"]
    );
}

#[test]
fn a_stall_by_missing_acks_does_not_end_a_request_without_waiting() {
    let mut world = world(2);
    let mut consumer = world.create(r#"{"durable_name":"C","ack_policy":"explicit","max_ack_pending":1}"#);
    assert_eq!(world.pull(&mut consumer, "r", r#"{"batch":2,"no_wait":true}"#), ["r: 1/1 x1 +1"]);
    assert_eq!(world.ack(&mut consumer, 1, 1, ""), ["r: 2/2 x1 +0"]);
}

#[test]
fn expiry_tells_what_was_left() {
    let mut world = world(1);
    let mut consumer = world.create(CONFIG);
    let body = r#"{"batch":3,"max_bytes":1000,"expires":1000000000}"#;
    assert_eq!(world.pull(&mut consumer, "r", body), ["r: 1/1 x1 +0"]);
    let said = world.pass(&mut consumer, SECOND);
    let size = "s.a".len() + "$JS.ACK.S.C.1.1.1.1700000000000000000.0".len() + 1;
    assert_eq!(said, [format!("r: 408 Request Timeout Pending-Messages=2 Pending-Bytes={}", 1000 - size)]);
    let info = consumer.info(&world.view());
    assert_eq!(info.num_waiting, 0);
}

#[test]
fn bytes_are_counted_to_the_last() {
    // Subject 3, reply 39, payload 1.
    const SIZE: i64 = 43;
    for (max_bytes, batch, said) in [
        (2 * SIZE, 9, vec!["r: 1/1 x1 +4", "r: 2/2 x1 +3"]),
        (
            2 * SIZE + 1,
            9,
            vec![
                "r: 1/1 x1 +4",
                "r: 2/2 x1 +3",
                "r: 409 Message Size Exceeds MaxBytes Pending-Messages=7 Pending-Bytes=1",
            ],
        ),
        (
            1000,
            2,
            vec![
                "r: 1/1 x1 +4",
                "r: 2/2 x1 +3",
                "r: 409 Batch Completed Pending-Messages=0 Pending-Bytes=914",
            ],
        ),
        (1, 1, vec!["r: 409 Message Size Exceeds MaxBytes Pending-Messages=1 Pending-Bytes=1"]),
    ] {
        let mut world = world(5);
        let mut consumer = world.create(CONFIG);
        let body = format!(r#"{{"batch":{batch},"max_bytes":{max_bytes},"expires":1000000000}}"#);
        assert_eq!(world.pull(&mut consumer, "r", &body), said, "{body}");
        assert_eq!(consumer.info(&world.view()).num_waiting, 0, "{body}");
    }
}

#[test]
fn a_message_too_large_for_one_goes_to_the_next() {
    let mut world = world(1);
    let mut consumer = world.create(CONFIG);
    world.listeners.gone.insert(b"gone".to_vec());
    let small = r#"{"batch":1,"max_bytes":10}"#;
    let mut view = world.view();
    for (reply, body) in [("gone", "5"), ("small", small), ("large", "2")] {
        consumer.handle_pull(reply.as_bytes(), b"", body.as_bytes(), &mut view);
    }
    assert_eq!(
        world.drive(&mut consumer),
        ["small: 409 Message Size Exceeds MaxBytes Pending-Messages=1 Pending-Bytes=10", "large: 1/1 x1 +0"]
    );
}

#[test]
fn heartbeats_come_while_nothing_else_does() {
    let mut world = world(0);
    let mut consumer = world.create(CONFIG);
    let body = r#"{"batch":9,"expires":5000000000,"idle_heartbeat":1000000000}"#;
    assert_eq!(world.pull(&mut consumer, "r", body), SILENT);
    assert_eq!(world.pass(&mut consumer, SECOND), ["r: 100 Idle Heartbeat Last-Consumer=0 Last-Stream=0"]);
    world.pass(&mut consumer, SECOND / 2);
    world.publish("s.a", "x");
    assert_eq!(world.drive(&mut consumer), ["r: 1/1 x1 +0"]);
    assert_eq!(world.pass(&mut consumer, SECOND - 1), SILENT);
    assert_eq!(world.pass(&mut consumer, 1), ["r: 100 Idle Heartbeat Last-Consumer=1 Last-Stream=1"]);
    let said = world.pass(&mut consumer, 3 * SECOND);
    assert_eq!(
        said.last().map(String::as_str),
        Some("r: 408 Request Timeout Pending-Messages=8 Pending-Bytes=0")
    );
}

#[test]
fn requests_without_a_listener_vanish_silently() {
    let mut world = world(0);
    let mut consumer = world.create(CONFIG);
    world.pull(&mut consumer, "a", "1");
    world.pull(&mut consumer, "b", "1");
    world.listeners.gone.insert(b"a".to_vec());
    assert_eq!(consumer.info(&world.view()).num_waiting, 1);
    world.publish("s.a", "x");
    assert_eq!(world.drive(&mut consumer), ["b: 1/1 x1 +0"]);
}

#[test]
fn the_end_of_the_consumer_is_told_to_those_who_wait() {
    for (reason, said) in [
        (CloseReason::Deleted, vec!["a: 409 Consumer Deleted", r#"! DELETED action="delete""#]),
        (CloseReason::ServerShutdown, vec!["a: 409 Server Shutdown Pending-Messages=3 Pending-Bytes=0"]),
    ] {
        let mut world = world(0);
        let mut consumer = world.create(CONFIG);
        world.pull(&mut consumer, "a", "3");
        assert_eq!(world.with(&mut consumer, |consumer, view| consumer.close(reason, view)), said);
    }
}

#[test]
fn inactivity_ends_a_consumer_unless_somebody_waits_or_works() {
    let mut world = world(1);
    let config =
        r#"{"name":"C","ack_policy":"explicit","ack_wait":20000000000,"inactive_threshold":5000000000}"#;
    let mut consumer = world.create(config);
    world.pass(&mut consumer, 4 * SECOND);
    // A request that waits keeps it.
    world.pull(&mut consumer, "r", r#"{"batch":2,"expires":10000000000}"#);
    world.pass(&mut consumer, 12 * SECOND);
    assert!(!consumer.is_expired());
    // The message delivered may be at work until its ack wait is over, and the threshold after that.
    world.pass(&mut consumer, 8 * SECOND);
    assert!(!consumer.is_expired());
    let mut worker = world.restart(&mut consumer);
    world.pass(&mut worker, 40 * SECOND);
    assert!(worker.is_expired());
    // A durable consumer lives for ever.
    let mut durable = world.create(CONFIG);
    world.pass(&mut durable, 1_000 * SECOND);
    assert!(!durable.is_expired());
}
