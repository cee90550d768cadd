//! Where consumers start, what they count, and what they deliver.

use super::*;

const NONE: &str = r#"{"durable_name":"C","ack_policy":"none"}"#;

fn policy(policy: &str) -> String {
    format!(r#"{{"durable_name":"C","ack_policy":"none",{policy}}}"#)
}

#[test]
fn every_deliver_policy_starts_where_it_says() {
    let mut world = World::new();
    for (n, subject) in ["s.a", "s.b", "s.a", "s.c", "s.b"].into_iter().enumerate() {
        world.now = START + i64::try_from(n).expect("small") * SECOND;
        world.publish(subject, "x");
    }
    world.store.remove(world.log, &[1]).expect("removed");
    world.settle();
    // 2:b 3:a 4:c 5:b
    let time = weir_protocol::jetstream::Timestamp(START + 3 * SECOND);
    for (config, info, first) in [
        (r#""deliver_policy":"all""#.to_owned(), "0/1 0/1 0 0 4", "r: 2/1 x1 +3"),
        (r#""deliver_policy":"last""#.to_owned(), "0/4 0/4 0 0 1", "r: 5/1 x1 +0"),
        (r#""deliver_policy":"last","filter_subject":"s.a""#.to_owned(), "0/2 0/2 0 0 1", "r: 3/1 x1 +0"),
        (
            r#""deliver_policy":"last","filter_subjects":["s.a","s.c"]"#.to_owned(),
            "0/3 0/3 0 0 1",
            "r: 4/1 x1 +0",
        ),
        (r#""deliver_policy":"new""#.to_owned(), "0/5 0/5 0 0 0", ""),
        (
            r#""deliver_policy":"by_start_sequence","opt_start_seq":4"#.to_owned(),
            "0/3 0/3 0 0 2",
            "r: 4/1 x1 +1",
        ),
        (
            r#""deliver_policy":"by_start_sequence","opt_start_seq":1"#.to_owned(),
            "0/1 0/1 0 0 4",
            "r: 2/1 x1 +3",
        ),
        (r#""deliver_policy":"by_start_sequence","opt_start_seq":9"#.to_owned(), "0/8 0/8 0 0 0", ""),
        (
            format!(r#""deliver_policy":"by_start_time","opt_start_time":"{time}""#),
            "0/3 0/3 0 0 2",
            "r: 4/1 x1 +1",
        ),
        (
            r#""deliver_policy":"last_per_subject","filter_subject":"s.>""#.to_owned(),
            "0/2 0/2 0 0 3",
            "r: 3/1 x1 +2",
        ),
    ] {
        let mut consumer = world.create(&policy(&config));
        assert_eq!(world.info(&mut consumer), info, "{config}");
        let said = world.pull(&mut consumer, "r", r#"{"batch":1,"expires":1000000000}"#);
        assert_eq!(said.first().map_or("", String::as_str), first, "{config}");
    }
}

#[test]
fn a_start_beyond_the_end_waits_for_it() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.a"]);
    let mut consumer = world.create(&policy(r#""deliver_policy":"by_start_sequence","opt_start_seq":4"#));
    assert_eq!(world.pull(&mut consumer, "r", "9"), Vec::<String>::new());
    world.publish_all(&["s.a", "s.a", "s.a"]);
    assert_eq!(world.info(&mut consumer), "0/3 0/3 0 0 2");
    assert_eq!(world.drive(&mut consumer), ["r: 4/1 x1 +1", "r: 5/2 x1 +0"]);
}

#[test]
fn last_per_subject_delivers_a_list_and_then_what_comes() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.b", "s.a", "t", "s.c"]);
    let mut consumer = world.create(&policy(r#""deliver_policy":"last_per_subject","filter_subject":"s.>""#));
    assert_eq!(world.info(&mut consumer), "0/1 0/1 0 0 3");
    world.publish_all(&["s.b", "t", "s.d"]);
    assert_eq!(world.info(&mut consumer), "0/1 0/1 0 0 5");
    assert_eq!(world.pull(&mut consumer, "r", "2"), ["r: 2/1 x1 +4", "r: 3/2 x1 +3"]);
    // In the middle of the list, a restart finds the rest of it.
    let mut consumer = world.restart(&mut consumer);
    assert_eq!(world.info(&mut consumer), "2/3 2/3 0 0 3");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 5/3 x1 +2", "r: 6/4 x1 +1", "r: 8/5 x1 +0"]);
    assert_eq!(world.info(&mut consumer), "5/8 5/8 0 0 0");
}

#[test]
fn filters_select_and_count_exactly() {
    let mut world = World::new();
    world.publish_all(&["s.a.1", "s.b.1", "s.a.2", "s.c", "s.b.2", "s.a.3"]);
    let config = r#"{"durable_name":"C","filter_subjects":["s.a.*","s.b.2"],"ack_policy":"none"}"#;
    let mut consumer = world.create(config);
    assert_eq!(world.info(&mut consumer), "0/0 0/0 0 0 4");
    assert_eq!(
        world.pull(&mut consumer, "r", "9"),
        ["r: 1/1 x1 +3", "r: 3/2 x1 +2", "r: 5/3 x1 +1", "r: 6/4 x1 +0"]
    );
    world.publish_all(&["s.c", "s.a.4", "s.c"]);
    assert_eq!(world.info(&mut consumer), "4/6 4/6 0 0 1");
    assert_eq!(world.drive(&mut consumer), ["r: 8/5 x1 +0"]);
}

#[test]
fn what_is_not_durable_is_not_delivered() {
    let mut world = World::new();
    world.begin(Medium::Disk);
    world.publish("s.a", "one");
    let mut consumer = world.create(NONE);
    world.stage("s.a", "two");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 1/1 x1 +1"]);
    assert_eq!(world.pull(&mut consumer, "n", r#"{"no_wait":true,"batch":1}"#), ["n: 408 Requests Pending"]);
    world.settle();
    assert_eq!(world.drive(&mut consumer), ["r: 2/2 x1 +0"]);
}

#[test]
fn headers_only_tells_the_size_instead_of_the_payload() {
    let mut world = World::new();
    world.publish("s.a", "12345");
    let mut consumer = world.create(r#"{"durable_name":"C","headers_only":true,"ack_policy":"none"}"#);
    world.pull(&mut consumer, "", "1");
    let (mut view, reply) = (world.view(), b"r");
    consumer.handle_pull(reply, b"", b"1", &mut view);
    consumer.drive(&mut view);
    let messages = world.outputs.take_now();
    let [message] = messages.as_slice() else { panic!("one message: {messages:?}") };
    assert_eq!((&message.subject[..], &message.payload[..]), (&b"s.a"[..], &b""[..]));
    assert_eq!(&message.headers[..], b"NATS/1.0\r\nNats-Msg-Size: 5\r\n\r\n");
}

#[test]
fn a_changed_filter_is_counted_anew() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.b", "s.a", "s.b", "s.b"]);
    let mut consumer = world.create(r#"{"durable_name":"C","filter_subject":"s.a","ack_policy":"explicit"}"#);
    assert_eq!(world.pull(&mut consumer, "r", "1"), ["r: 1/1 x1 +1"]);
    let config = world.config(r#"{"durable_name":"C","filter_subject":"s.b","ack_policy":"explicit"}"#);
    world.with(&mut consumer, |consumer, view| consumer.update(config, view));
    assert_eq!(world.info(&mut consumer), "1/1 0/0 1 0 3");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 2/2 x1 +2", "r: 4/3 x1 +1", "r: 5/4 x1 +0"]);
}

#[test]
fn a_pause_holds_deliveries_and_ends_by_itself() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.a"]);
    let mut consumer = world.create(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    let until = world.now + 10 * SECOND;
    let said =
        world.with(&mut consumer, |consumer, view| consumer.update(consumer.paused_until(Some(until)), view));
    assert_eq!(said, ["! PAUSE paused=true"]);
    assert_eq!(world.pull(&mut consumer, "r", r#"{"batch":1,"expires":20000000000}"#), Vec::<String>::new());
    assert_eq!(world.pull(&mut consumer, "e", r#"{"batch":1,"expires":1000000000}"#), Vec::<String>::new());
    let info = consumer.info(&world.view());
    assert_eq!((info.paused, info.pause_remaining, info.num_waiting), (true, 10 * SECOND, 2));
    assert_eq!(info.config.expect("given").metadata["_nats.req.level"], "1");
    assert_eq!(
        world.pass(&mut consumer, 11 * SECOND),
        ["e: 408 Request Timeout Pending-Messages=1 Pending-Bytes=0", "r: 1/1 x1 +1", "! PAUSE paused=false"]
    );
    let resumed =
        world.with(&mut consumer, |consumer, view| consumer.update(consumer.paused_until(None), view));
    assert_eq!(resumed, ["! PAUSE paused=false"]);
}

#[test]
fn a_reset_goes_back_as_far_as_the_policy_allows() {
    let mut world = World::new();
    world.publish_all(&["s.a", "s.a", "s.a", "s.a"]);
    let mut consumer = world.create(r#"{"durable_name":"C","ack_policy":"explicit"}"#);
    world.pull(&mut consumer, "r", "3");
    world.ack(&mut consumer, 1, 1, "+ACK");
    let reset = |world: &mut World, consumer: &mut Consumer, seq| consumer.reset(seq, &mut world.view());
    assert_eq!(reset(&mut world, &mut consumer, 0), Ok(2), "one after the ack floor");
    assert_eq!(world.info(&mut consumer), "0/1 0/1 0 0 3");
    assert_eq!(world.pull(&mut consumer, "r", "1"), ["r: 2/1 x1 +2"]);
    assert_eq!(reset(&mut world, &mut consumer, 4), Ok(4));
    assert_eq!(world.info(&mut consumer), "0/3 0/3 0 0 1");
    for (config, seq, error) in [
        (r#""deliver_policy":"by_start_sequence","opt_start_seq":3"#, 2, "invalid reset: below start seq"),
        (r#""deliver_policy":"new""#, 2, "invalid reset: not allowed"),
        (
            r#""deliver_policy":"by_start_time","opt_start_time":"2040-01-01T00:00:00Z""#,
            2,
            "invalid reset: below start time",
        ),
    ] {
        let mut consumer = world.create(&policy(config));
        let refusal = reset(&mut world, &mut consumer, seq).expect_err(config);
        assert_eq!((refusal.err_code, &*refusal.description), (10204, error));
    }
}

#[test]
fn long_backlogs_are_delivered_in_turns() {
    let mut world = World::new();
    for _ in 0..3_000 {
        world.stage("s.a", "x");
    }
    world.settle();
    let mut consumer = world.create(r#"{"durable_name":"C","ack_policy":"none"}"#);
    let mut view = world.view();
    consumer.handle_pull(b"r", b"", b"3000", &mut view);
    consumer.drive(&mut view);
    assert_eq!(consumer.poll_timeout(), Some(0), "there is more");
    assert_eq!(world.outputs.take_now().len(), 1_024);
    let mut rest = 0;
    while consumer.wants_drive {
        consumer.drive(&mut world.view());
        rest += world.outputs.take_now().len();
    }
    assert_eq!(rest, 3_000 - 1_024);
}

#[test]
fn the_original_pace_is_kept_up_to_what_was_there() {
    let mut world = World::new();
    for gap in [0, 2 * SECOND, 0, 500_000_000] {
        world.now += gap;
        world.publish("s.a", "x");
    }
    world.now = START + 100 * SECOND;
    let mut consumer = world.create(r#"{"durable_name":"C","ack_policy":"none","replay_policy":"original"}"#);
    world.publish("s.a", "late");
    assert_eq!(world.pull(&mut consumer, "r", "9"), ["r: 1/1 x1 +4"]);
    assert_eq!(world.pass(&mut consumer, 2 * SECOND - 1), Vec::<String>::new());
    assert_eq!(world.pass(&mut consumer, 1), ["r: 2/2 x1 +3", "r: 3/3 x1 +2"]);
    assert_eq!(world.pass(&mut consumer, 500_000_000), ["r: 4/4 x1 +1", "r: 5/5 x1 +0"]);
}

#[test]
fn a_start_beyond_the_end_does_not_count_what_comes_before_it() {
    let mut world = World::new();
    world.publish("s.a", "1");
    let mut consumer = world.create(
        r#"{"durable_name":"C","ack_policy":"explicit","deliver_policy":"by_start_sequence","opt_start_seq":4}"#,
    );
    assert_eq!(world.info(&mut consumer), "0/3 0/3 0 0 0");
    for expected in ["0/3 0/3 0 0 0", "0/3 0/3 0 0 0", "0/3 0/3 0 0 1"] {
        let seq = world.publish("s.a", "x");
        consumer.handle_appended(seq, b"s.a");
        assert_eq!(world.info(&mut consumer), expected, "after {seq}");
    }
}
