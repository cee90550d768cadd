//! Requests and their answers, to the byte as nats-server gives them.

use super::*;

#[test]
fn create_answers_with_defaults_filled_in() {
    let mut world = World::new();
    let config = r#"{"name":"A","subjects":["a.>"],"allow_direct":true,"metadata":{"x":"y"}}"#;
    let answer = world.create(config);
    assert_eq!(
        answer,
        concat!(
            r#"{"type":"io.nats.jetstream.api.v1.stream_create_response","config":{"name":"A","#,
            r#""subjects":["a.\u003e"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"#,
            r#""max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","storage":"file","#,
            r#""num_replicas":1,"duplicate_window":120000000000,"compression":"none","allow_direct":true,"#,
            r#""mirror_direct":false,"sealed":false,"deny_delete":false,"deny_purge":false,"#,
            r#""allow_rollup_hdrs":false,"consumer_limits":{},"allow_msg_ttl":false,"metadata":"#,
            r#"{"_nats.level":"0","_nats.req.level":"0","_nats.ver":"2.14.0","x":"y"}},"#,
            r#""created":"2024-01-01T00:00:00Z","state":{"messages":0,"bytes":0,"first_seq":0,"#,
            r#""first_ts":"0001-01-01T00:00:00Z","last_seq":0,"last_ts":"0001-01-01T00:00:00Z","#,
            r#""consumer_count":0},"ts":"2024-01-01T00:00:00Z","did_create":true}"#
        )
    );
    assert_eq!(world.create(config), answer, "the same configuration again");
}

#[test]
fn refusals_have_nats_servers_words() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"],"allow_direct":true}"#);
    let differs = "stream name already in use with a different configuration";
    let mismatch = "stream name in subject does not match request";
    let storage = "stream configuration update can not change storage type";
    let not_durable = "consumer expected to be durable but a durable name was not set";
    let filter = "Consumer create request did not match filtered subject from create subject";
    for (subject, body, code, number, text) in [
        ("STREAM.CREATE.A", r#"{"name":"A","subjects":["a.>","b"]}"#, 400, 10058, differs),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","subjects":["a.x"]}"#,
            400,
            10065,
            "subjects overlap with an existing stream",
        ),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","subjects":["b","b"]}"#,
            500,
            10052,
            r#"subject \"b\" overlaps with \"b\""#,
        ),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","num_replicas":3}"#,
            500,
            10074,
            r"replicas \u003e 1 not supported in non-clustered mode",
        ),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","mirror":{"name":"A","filter_subject":"a..b"}}"#,
            500,
            10049,
            "subject filter 'a..b' for the mirror invalid subject",
        ),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","sources":[{"name":"A","filter_subject":"a..b"}]}"#,
            500,
            10049,
            "subject filter 'a..b' for the source: invalid subject",
        ),
        ("STREAM.CREATE.B", r#"{"name":"C"}"#, 400, 10056, mismatch),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","x":1}"#,
            400,
            10025,
            r#"invalid JSON: json: unknown field \"x\""#,
        ),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","max_msgs":-5,"pedantic":true}"#,
            400,
            10157,
            "pedantic mode: max_msgs must be set to -1",
        ),
        (
            "STREAM.CREATE.B",
            r#"{"name":"B","allow_msg_ttl":true}"#,
            500,
            10052,
            "allow_msg_ttl is not supported by this server yet",
        ),
        ("STREAM.UPDATE.A", r#"{"name":"A","storage":"memory"}"#, 500, 10052, storage),
        ("STREAM.UPDATE.Q", r#"{"name":"Q"}"#, 404, 10059, "stream not found"),
        ("STREAM.DELETE.Q", "", 404, 10059, "stream not found"),
        ("STREAM.DELETE.A", "x", 400, 10038, "expected an empty request payload"),
        ("STREAM.MSG.GET.A", "", 400, 10003, "bad request"),
        ("STREAM.MSG.GET.A", r#"{"seq":99}"#, 404, 10037, "no message found"),
        ("STREAM.MSG.DELETE.A", r#"{"seq":0}"#, 500, 10057, "no message found"),
        ("STREAM.MSG.DELETE.A", r#"{"seq":99}"#, 500, 10057, "stream store EOF"),
        ("STREAM.LEADER.STEPDOWN.A", "", 503, 10010, "JetStream clustering support required"),
        ("STREAM.NOPE.A", "", 400, 10003, "bad request"),
        ("STREAM.SNAPSHOT.A", "", 400, 10003, "bad request"),
        ("STREAM.SNAPSHOT.A", "x", 500, 10064, "snapshot failed: not supported by this server yet"),
        ("STREAM.RESTORE.A", "x", 500, 10062, "restore failed: not supported by this server yet"),
        ("CONSUMER.UNPIN.A.c", "{}", 400, 10025, "invalid JSON: consumer group not specified"),
        ("CONSUMER.UNPIN.A.c", r#"{"group":"g"}"#, 404, 10014, "consumer not found"),
        ("CONSUMER.INFO.A.c", "", 404, 10014, "consumer not found"),
        ("CONSUMER.CREATE.A.c", r#"{"stream_name":"B","config":{}}"#, 400, 10056, mismatch),
        ("CONSUMER.DURABLE.CREATE.A.c", r#"{"stream_name":"A","config":{}}"#, 400, 10018, not_durable),
        ("CONSUMER.CREATE.A.c.x", r#"{"stream_name":"A","config":{"name":"c"}}"#, 400, 10131, filter),
    ] {
        let wanted = format!(r#""error":{{"code":{code},"err_code":{number},"description":"{text}"}}"#);
        let answer = world.ask(&format!("$JS.API.{subject}"), body);
        assert!(answer.contains(&wanted), "{subject} {body}: {answer}");
    }
    let level = world.ask_with("$JS.API.STREAM.NAMES", &[("Nats-Required-Api-Level", "9")], "");
    assert!(level.contains("10185"), "{level}");
    assert!(world.send("$JS.API.DIRECT.GET.Z", &[], b"{}").is_none(), "no responders");
    assert!(world.send("$JS.API.CONSUMER.MSG.NEXT.A.c", &[], b"1").is_none(), "no responders");
}

#[test]
fn names_and_lists_come_in_pages() {
    let mut world = World::new();
    let empty = world.ask("$JS.API.STREAM.NAMES", "");
    assert!(empty.ends_with(r#""total":0,"offset":0,"limit":1024,"streams":null}"#), "{empty}");
    assert!(world.ask("$JS.API.STREAM.LIST", "").ends_with(r#""limit":256,"streams":[]}"#));
    for name in ["B", "A", "C"] {
        world.create(&format!(r#"{{"name":"{name}","subjects":["{name}.>"]}}"#));
    }
    let names = world.ask("$JS.API.STREAM.NAMES", r#"{"offset":1}"#);
    assert!(names.ends_with(r#""total":3,"offset":1,"limit":1024,"streams":["B","C"]}"#), "{names}");
    let filtered = world.ask("$JS.API.STREAM.NAMES", r#"{"subject":"A.x"}"#);
    assert!(filtered.ends_with(r#""total":1,"offset":0,"limit":1024,"streams":["A"]}"#), "{filtered}");
    let list = world.ask("$JS.API.STREAM.LIST", r#"{"offset":9}"#);
    assert!(list.ends_with(r#""total":3,"offset":3,"limit":256,"streams":[]}"#), "{list}");
}

#[test]
fn infos_show_subjects_and_deleted_sequences_when_asked() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.*"]}"#);
    for subject in ["a.1", "a.2", "a.1", "a.1"] {
        world.publish(subject, "x");
    }
    world.ask("$JS.API.STREAM.MSG.DELETE.A", r#"{"seq":2}"#);
    let plain = world.ask("$JS.API.STREAM.INFO.A", "");
    assert!(plain.contains(r#""num_subjects":1,"num_deleted":1,"consumer_count":0"#), "{plain}");
    assert!(plain.contains(r#""total":0,"offset":0,"limit":0,"config""#), "{plain}");
    assert!(plain.contains(r#""cluster":{"leader":"weir"}"#), "{plain}");
    let asked = r#"{"deleted_details":true,"subjects_filter":">"}"#;
    let detailed = world.ask("$JS.API.STREAM.INFO.A", asked);
    assert!(detailed.contains(r#""subjects":{"a.1":3},"num_deleted":1,"deleted":[2]"#), "{detailed}");
    assert!(detailed.contains(r#""total":1,"offset":0,"limit":100000"#), "{detailed}");
}

#[test]
fn direct_gets_answer_as_nats_server_does() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"],"allow_direct":true}"#);
    world.publish("a.1", "one");
    world.publish("a.2", "two");
    world.ask_with("a.1", &[("Nats-Msg-Id", "i")], "three");
    let found = |start: &str, subject: &str, seq: u64| {
        let stamp = "Nats-Time-Stamp: 2024-01-01T00:00:00Z";
        format!(
            "NATS/1.0\r\n{start}Nats-Stream: A\r\nNats-Subject: {subject}\r\nNats-Sequence: {seq}\r\n{stamp}\r\n\r\n"
        )
    };
    let status = |text: &str| format!("NATS/1.0 {text}\r\n\r\n");
    for (subject, body, headers, payload) in [
        ("A", r#"{"seq":1}"#, found("", "a.1", 1), "one"),
        ("A.a.1", "", found("Nats-Msg-Id: i\r\n", "a.1", 3), "three"),
        ("A", r#"{"next_by_subj":"a.2"}"#, found("", "a.2", 2), "two"),
        ("A", r#"{"seq":3,"no_hdr":true}"#, String::new(), "three"),
        ("A", r#"{"seq":9}"#, status("404 Message Not Found"), ""),
        ("A.a.9", "", status("404 Message Not Found"), ""),
        ("A.a.1", r#"{"seq":1}"#, status("408 Bad Request"), ""),
        ("A", "", status("408 Empty Request"), ""),
        ("A", "x", status("408 Malformed Request"), ""),
        ("A", r#"{"seq":1,"last_by_subj":"a.1"}"#, status("408 Bad Request"), ""),
    ] {
        let answers = world.send(&format!("$JS.API.DIRECT.GET.{subject}"), &[], body.as_bytes());
        let answers = answers.expect("it listens");
        let [answer] = answers.as_slice() else { panic!("{subject} {body}: {answers:?}") };
        assert_eq!(String::from_utf8_lossy(&answer.headers), headers, "{subject} {body}");
        assert_eq!(answer.payload, payload, "{subject} {body}");
    }
    let batch = world.send("$JS.API.DIRECT.GET.A", &[], br#"{"seq":1,"batch":2}"#).expect("it listens");
    let ends: Vec<_> = batch.iter().map(|each| String::from_utf8_lossy(&each.headers)).collect();
    assert!(ends[0].ends_with("Nats-Num-Pending: 2\r\nNats-Last-Sequence: 0\r\n\r\n"), "{ends:?}");
    assert!(ends[1].ends_with("Nats-Num-Pending: 1\r\nNats-Last-Sequence: 1\r\n\r\n"), "{ends:?}");
    assert_eq!(ends[2], "NATS/1.0 204 EOB\r\nNats-Num-Pending: 1\r\nNats-Last-Sequence: 2\r\n\r\n");
    let request = br#"{"multi_last":["a.>"],"up_to_seq":2}"#;
    let multi = world.send("$JS.API.DIRECT.GET.A", &[], request).expect("it listens");
    let payloads: Vec<&[u8]> = multi.iter().map(|each| &each.payload[..]).collect();
    assert_eq!(payloads, [&b"one"[..], b"two", b""]);
    assert!(multi[2].headers.ends_with(b"Nats-UpTo-Sequence: 2\r\n\r\n"));
}

const DURABLE: &str = r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"explicit"}}"#;

#[test]
fn a_consumer_is_created_used_kept_and_deleted() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"]}"#);
    world.publish("a.1", "one");
    let created = world.ask("$JS.API.CONSUMER.CREATE.A.c", DURABLE);
    assert!(created.contains(r#""num_pending":1"#), "{created}");
    assert!(created.contains(r#""_nats.ver":"2.14.0""#), "{created}");
    world.interest.0.borrow_mut().insert(b"_INBOX.>".to_vec());
    let pulled = world.send("$JS.API.CONSUMER.MSG.NEXT.A.c", &[], b"1").expect("it listens");
    assert_eq!(pulled.len(), 1, "{pulled:?}");
    assert_eq!((&pulled[0].subject[..], &pulled[0].payload[..]), (&b"a.1"[..], &b"one"[..]));
    let ack = String::from_utf8_lossy(&pulled[0].reply).into_owned();
    assert!(ack.starts_with("$JS.ACK.A.c.1.1.1."), "{ack}");
    assert_eq!(world.ask(&ack, "+ACK"), "", "a double ack is answered");
    world.restart();
    let info = world.ask("$JS.API.CONSUMER.INFO.A.c", "");
    assert!(info.contains(r#""ack_floor":{"consumer_seq":1,"stream_seq":1"#), "{info}");
    assert!(world.ask("$JS.API.CONSUMER.NAMES.A", "").ends_with(r#""consumers":["c"]}"#));
    let paused = world.ask("$JS.API.CONSUMER.PAUSE.A.c", r#"{"pause_until":"2024-01-01T00:01:00Z"}"#);
    assert!(paused.contains(r#""paused":true,"pause_until":"2024-01-01T00:01:00Z""#), "{paused}");
    world.restart();
    let info = world.ask("$JS.API.CONSUMER.INFO.A.c", "");
    assert!(info.contains(r#""paused":true"#), "{info}");
    let reset = world.ask("$JS.API.CONSUMER.RESET.A.c", r#"{"seq":1}"#);
    assert!(reset.ends_with(r#""reset_seq":1}"#), "{reset}");
    assert!(world.ask("$JS.API.CONSUMER.DELETE.A.c", "").ends_with(r#""success":true}"#));
    assert!(world.send("$JS.API.CONSUMER.MSG.NEXT.A.c", &[], b"1").is_none(), "no responders");
    world.restart();
    assert!(world.ask("$JS.API.CONSUMER.INFO.A.c", "").contains("10014"));
}

#[test]
fn deleting_a_stream_takes_everything_with_it() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"],"allow_direct":true}"#);
    world.ask("$JS.API.CONSUMER.CREATE.A.c", DURABLE);
    assert!(world.ask("$JS.API.STREAM.DELETE.A", "").contains(r#""success":true"#));
    assert_eq!(world.heard.len(), API_FILTERS.len(), "{:?}", world.heard);
    world.restart();
    assert!(world.ask("$JS.API.STREAM.INFO.A", "").contains("10059"));
    world.create(r#"{"name":"A","subjects":["a.>"]}"#);
    assert_eq!(world.publish("a.1", "x"), r#"{"stream":"A","seq":1}"#);
}

#[test]
fn an_update_changes_what_is_heard() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a","b"]}"#);
    world.ask("$JS.API.STREAM.UPDATE.A", r#"{"name":"A","subjects":["b","c"],"allow_direct":true}"#);
    assert!(world.send("a", &[], b"").is_none());
    assert_eq!(world.publish("c", "x"), r#"{"stream":"A","seq":1}"#);
    assert!(world.send("$JS.API.DIRECT.GET.A", &[], br#"{"seq":1}"#).is_some());
}

#[test]
fn whoever_listens_hears_of_streams_coming_and_going() {
    let mut world = World::new();
    world.interest.0.borrow_mut().insert(b"$JS.EVENT.ADVISORY.STREAM.>".to_vec());
    world.create(r#"{"name":"A"}"#);
    world.ask("$JS.API.STREAM.DELETE.A", "");
    let told: Vec<String> = std::mem::take(&mut world.sent)
        .iter()
        .map(|each| String::from_utf8_lossy(&each.payload).into_owned())
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with(r#"{"type":"io.nats.jetstream.advisory.v1.stream_action","id":""#));
    assert!(told[0].ends_with(r#""timestamp":"2024-01-01T00:00:00Z","stream":"A","action":"create"}"#));
    assert!(told[1].ends_with(r#""stream":"A","action":"delete"}"#), "{}", told[1]);
}

#[test]
fn a_clean_stop_keeps_what_was_delivered_just_before() {
    let mut world = World::new();
    world.create(r#"{"name":"S","subjects":["s"]}"#);
    world.publish("s", "x");
    let body = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    world.ask("$JS.API.CONSUMER.CREATE.S.C", body);
    world.send("$JS.API.CONSUMER.MSG.NEXT.S.C", &[], b"").expect("heard");
    world.restart();
    let info = world.ask("$JS.API.CONSUMER.INFO.S.C", "");
    assert!(info.contains(r#""num_ack_pending":1"#), "{info}");
}

#[test]
fn a_field_that_needs_a_higher_level_is_named() {
    let mut world = World::new();
    let ask = |world: &mut World, config: &str| {
        world.ask_with("$JS.API.STREAM.CREATE.A", &[("Nats-Required-Api-Level", "4")], config)
    };
    let answer = ask(&mut world, r#"{"name":"A","allow_msg_ttl":true}"#);
    assert!(answer.contains("allow_msg_ttl is not supported by this server yet"), "{answer}");
    let answer = ask(&mut world, r#"{"name":"A"}"#);
    assert!(answer.contains("10185"), "{answer}");
}

#[test]
fn reserved_bytes_add_up_without_end() {
    let mut world = World::new();
    for name in ["A", "B", "C"] {
        let answer = world.create(&format!(r#"{{"name":"{name}","max_bytes":{}}}"#, i64::MAX));
        assert!(answer.contains("\"did_create\":true"), "{answer}");
    }
    let answer = world.ask("$JS.API.INFO", "");
    assert!(answer.contains(&format!("\"reserved_storage\":{}", u64::MAX)), "{answer}");
}
