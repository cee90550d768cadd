//! Ends and crashes: what a killed process leaves behind is finished by the next, and a killed server loses nothing that was
//! recorded.

use serde_json::json;
use weir::client::jetstream::{Purge, StreamConfig};
use weir::client::kv::Bucket;
use weir::service::session::{RecordState, State};

use crate::fixture::{Fixture, config, services};
use crate::support::eventually;

/// Changes a session's state as another process, or a crash, would have left it.
async fn rewrite_state(fixture: &Fixture, session: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let states = Bucket::open(&fixture.js, "t_record_state").await.unwrap();
    let mut row = serde_json::from_slice(&states.get(session).await.unwrap().unwrap()).unwrap();
    change(&mut row);
    states.put(session, row.to_string().into()).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_the_recordings_with_their_final_counts() {
    let mut fixture = Fixture::start().await;
    fixture
        .done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1", "post_roll": "1h"}))
        .await;
    fixture.publish("dev-1", 0..10).await;
    assert_eq!(fixture.services.take().unwrap().shutdown().await.unwrap(), 1);
    let row = fixture.stopped("s1").await;
    assert_eq!(row.message_count, 10);
}

#[tokio::test]
async fn a_recording_without_its_process_goes_on_and_is_looked_after_by_the_next() {
    let mut fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    fixture.publish("dev-1", 0..5).await;
    // Dropped without shutdown, as a kill leaves it.
    drop(fixture.services.take());
    fixture.publish("dev-1", 5..10).await;
    fixture.services = Some(services(&fixture.server, config().await).await);
    fixture.publish("dev-1", 10..15).await;
    fixture.stop("s1").await;
    assert_eq!(fixture.numbers("STREAMS_REC_s1").await, (0..15).collect::<Vec<u32>>());
}

#[tokio::test]
async fn an_end_that_was_interrupted_at_any_step_is_finished() {
    for (state, sequence) in [("stopping", None), ("stopping", Some(8)), ("promoting", Some(8))] {
        let mut fixture = Fixture::start().await;
        fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
        fixture.publish("dev-1", 0..8).await;
        fixture.until_count("STREAMS_REC_s1", 8).await;
        drop(fixture.services.take());
        let now = fixture.js.stream_info("STREAMS_BUFFER_dev-1").await.unwrap().ts.unwrap();
        rewrite_state(&fixture, "s1", |row| {
            row["state"] = json!(state);
            row["stop_at"] = json!(weir_protocol::time::format_rfc3339(now));
            if let Some(sequence) = sequence {
                row["stop_sequence"] = json!(sequence);
            }
        })
        .await;
        fixture.publish("dev-1", 8..20).await;
        fixture.until_count("STREAMS_REC_s1", 20).await;
        fixture.services = Some(services(&fixture.server, config().await).await);
        let row = fixture.stopped("s1").await;
        assert_eq!((row.message_count, row.stop_sequence, row.reason), (8, Some(8), None), "{state}");
        assert_eq!(fixture.numbers("STREAMS_REC_s1").await, (0..8).collect::<Vec<u32>>());
        let config = fixture.js.stream_info("STREAMS_REC_s1").await.unwrap().config;
        assert_eq!(config.mirror, None, "{state}");
    }
}

#[tokio::test]
async fn an_end_whose_moment_was_not_written_down_is_finished() {
    let mut fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    fixture.publish("dev-1", 0..8).await;
    drop(fixture.services.take());
    rewrite_state(&fixture, "s1", |row| {
        row["state"] = json!("stopping");
    })
    .await;
    fixture.services = Some(services(&fixture.server, config().await).await);
    let row = fixture.stopped("s1").await;
    assert_eq!((row.message_count, row.stop_sequence, &row.reason), (8, Some(8), &None));
    let session = fixture.done(json!({"action": "show", "session_id": "s1"})).await.session.unwrap();
    assert!(row.stop_at.is_some() && session.end == row.stop_at, "{row:?}, {session:?}");
}

#[tokio::test]
async fn an_answer_waits_for_a_start_under_way() {
    let mut fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "5m").await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    drop(fixture.services.take());
    // As another process is in the middle of it: there is a description, and the process lives.
    let states = Bucket::open(&fixture.js, "t_record_state").await.unwrap();
    let state = states.get("s1").await.unwrap().unwrap();
    let row: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let alive = format!("t.record.cmd.instance.{}", row["controller"].as_str().unwrap());
    let mut questions = fixture.client.subscribe(&alive).unwrap();
    let client = fixture.client.clone();
    let answers = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            client.publish(&question.reply.unwrap(), None, "".into()).await.unwrap();
        }
    });
    let stream = fixture.js.stream_info("STREAMS_REC_s1").await.unwrap().config;
    states.purge("s1").await.unwrap();
    fixture.js.delete_stream("STREAMS_REC_s1").await.unwrap();
    fixture.services = Some(services(&fixture.server, config().await).await);

    let post = async {
        let (status, answer) = fixture.http("POST", "/monitor/dev-1", r#"[{"type":"t","data":1}]"#).await;
        assert_eq!((status, &answer["durability"]), (200, &json!(fixture.stored())), "{answer}");
        assert!(states.get("s1").await.unwrap().is_some(), "the recording runs");
        assert_eq!(fixture.numbers("STREAMS_REC_s1").await, [1]);
    };
    let finish = async {
        fixture.until_count("STREAMS_BUFFER_dev-1", 1).await;
        fixture.js.create_stream(&stream).await.unwrap();
        fixture.until_count("STREAMS_REC_s1", 1).await;
        states.put("s1", state.clone()).await.unwrap();
    };
    tokio::join!(post, finish);
    answers.abort();
}

#[tokio::test]
async fn what_came_before_a_recording_is_no_safer_for_it() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "5m").await;
    let early = r#"[{"id":"early","type":"t","data":1}]"#;
    let both = r#"[{"id":"early","type":"t","data":1},{"id":"late","type":"t","data":2}]"#;
    let (_, answer) = fixture.http("POST", "/monitor/dev-1", early).await;
    assert_eq!(answer["durability"], "memory", "{answer}");
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    for body in [early, both] {
        let (_, answer) = fixture.http("POST", "/monitor/dev-1", body).await;
        assert_eq!((&answer["duplicates"], &answer["durability"]), (&json!(1), &json!("memory")), "{answer}");
    }
    let (_, answer) = fixture.http("POST", "/monitor/dev-1", r#"[{"id":"late","type":"t","data":2}]"#).await;
    assert_eq!(answer["durability"], fixture.stored(), "{answer}");
}

#[tokio::test]
async fn an_end_is_where_it_was_asked_for_although_the_buffer_was_lost_since() {
    let mut fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    fixture.publish("dev-1", 0..5).await;
    fixture.until_count("STREAMS_REC_s1", 5).await;
    let stop_at = fixture.js.stream_info("STREAMS_BUFFER_dev-1").await.unwrap().ts.unwrap();
    fixture.publish("dev-1", 5..8).await;
    fixture.until_count("STREAMS_REC_s1", 8).await;
    // The stop was written down; then server and services went, and the buffer in memory with them.
    drop(fixture.services.take());
    rewrite_state(&fixture, "s1", |row| {
        row["state"] = json!("stopping");
        row["stop_at"] = json!(weir_protocol::time::format_rfc3339(stop_at));
    })
    .await;
    let purge = Purge::default();
    fixture.js.purge_stream("STREAMS_BUFFER_dev-1", &purge).await.unwrap();
    fixture.services = Some(services(&fixture.server, config().await).await);
    let row = fixture.stopped("s1").await;
    assert_eq!((row.message_count, row.stop_sequence), (5, Some(5)));
    assert_eq!(fixture.numbers("STREAMS_REC_s1").await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_start_that_was_interrupted_is_finished() {
    let mut fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    drop(fixture.services.take());
    // As if the process had died between the description and everything after it.
    let states = Bucket::open(&fixture.js, "t_record_state").await.unwrap();
    states.purge("s1").await.unwrap();
    fixture.js.delete_stream("STREAMS_REC_s1").await.unwrap();
    fixture.publish("dev-1", 0..5).await;
    fixture.services = Some(services(&fixture.server, config().await).await);
    fixture.until_count("STREAMS_REC_s1", 5).await;
    fixture.stop("s1").await;
    assert_eq!(fixture.numbers("STREAMS_REC_s1").await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_is_finished() {
    for restart in [false, true] {
        let mut fixture = Fixture::start().await;
        fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
        fixture.publish("dev-1", 0..5).await;
        fixture.stop("s1").await;
        if restart {
            drop(fixture.services.take());
        }
        let states = Bucket::open(&fixture.js, "t_record_state").await.unwrap();
        let sessions = Bucket::open(&fixture.js, "t_session").await.unwrap();
        fixture.js.delete_stream("STREAMS_REC_s1").await.unwrap();
        states.purge("s1").await.unwrap();
        if restart {
            fixture.services = Some(services(&fixture.server, config().await).await);
        }
        eventually("the session is gone", || async {
            sessions.get("s1").await.unwrap().is_none().then_some(())
        })
        .await;
        assert_eq!(states.get("s1").await.unwrap(), None);
        assert_eq!(fixture.js.find_stream("STREAMS_REC_s1").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_state_that_was_lost_costs_no_recording() {
    for (ended, restart) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut fixture = Fixture::start().await;
        fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
        fixture.publish("dev-1", 0..5).await;
        fixture.until_count("STREAMS_REC_s1", 5).await;
        let states = Bucket::open(&fixture.js, "t_record_state").await.unwrap();
        if ended {
            fixture.stop("s1").await;
        }
        if restart {
            drop(fixture.services.take());
        }
        states.purge("s1").await.unwrap();
        if restart {
            fixture.services = Some(services(&fixture.server, config().await).await);
        }
        let row: RecordState = eventually("the state is there again", || async {
            Some(serde_json::from_slice(&states.get("s1").await.unwrap()?).unwrap())
        })
        .await;
        assert_eq!(row.state, if ended { State::Stopped } else { State::Running }, "{restart}");
        assert_eq!(fixture.numbers("STREAMS_REC_s1").await, [0, 1, 2, 3, 4], "{ended}, {restart}");
        if !ended {
            fixture.publish("dev-1", 5..6).await;
            fixture.stop("s1").await;
        }
        let row = fixture.stopped("s1").await;
        let session = fixture.done(json!({"action": "show", "session_id": "s1"})).await.session.unwrap();
        assert_eq!((row.stop_at, row.stop_sequence), (session.end, session.end_sequence));
        assert_eq!(row.message_count, if ended { 5 } else { 6 });
        fixture.done(json!({"action": "delete", "session_id": "s1"})).await;
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_looked_after_holds_up_no_other() {
    let mut fixture = Fixture::start().await;
    for session in ["a-unreadable", "b-taken", "c-foreign", "d"] {
        let device = &session[..1];
        fixture.done(json!({"action": "start", "device_id": device, "session_id": session})).await;
    }
    drop(fixture.services.take());
    let states = Bucket::open(&fixture.js, "t_record_state").await.unwrap();
    states.put("a-unreadable", r#"{"state":"resting"}"#.into()).await.unwrap();
    // Starts that were interrupted, whose device or stream is somebody else's by now.
    for session in ["b-taken", "c-foreign"] {
        states.purge(session).await.unwrap();
        fixture.js.delete_stream(&format!("STREAMS_REC_{session}")).await.unwrap();
    }
    fixture.js.delete_stream("STREAMS_BUFFER_b").await.unwrap();
    for (stream, subject) in [("MINE", "t.monitor.b"), ("STREAMS_REC_c-foreign", "mine")] {
        let own = StreamConfig { subjects: vec![subject.to_owned()], ..StreamConfig::named(stream) };
        fixture.js.create_stream(&own).await.unwrap();
    }
    fixture.services = Some(services(&fixture.server, config().await).await);
    fixture.publish("d", 0..5).await;
    eventually("the last one is looked after", || async {
        let row: RecordState = serde_json::from_slice(&states.get("d").await.unwrap()?).unwrap();
        (row.message_count == 5).then_some(())
    })
    .await;
    // What is recorded by the one that nobody can read is stored, and nobody waits for it in vain.
    let (status, answer) = fixture.http("POST", "/monitor/a", r#"[{"type":"t","data":1}]"#).await;
    assert_eq!((status, &answer["durability"]), (200, &json!("memory")), "{answer}");
    // Those that cannot be finished were never told of, and hold up no event of their devices.
    let sessions = Bucket::open(&fixture.js, "t_session").await.unwrap();
    for session in ["b-taken", "c-foreign"] {
        eventually("the start is taken back", || async {
            sessions.get(session).await.unwrap().is_none().then_some(())
        })
        .await;
        let (status, answer) =
            fixture.http("POST", &format!("/monitor/{}", &session[..1]), r#"[{"type":"t"}]"#).await;
        assert_eq!(status, 200, "{answer}");
    }
    assert!(fixture.js.find_stream("STREAMS_REC_c-foreign").await.unwrap().is_some(), "it is somebody's own");
    let refused = fixture.ask(json!({"action": "delete", "session_id": "a-unreadable"})).await;
    assert!(!refused.ok && refused.message.contains("row \"a-unreadable\""), "{refused:?}");
}

#[tokio::test]
async fn a_stop_at_once_stays_one_although_it_was_interrupted() {
    let mut fixture = Fixture::start().await;
    fixture
        .done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1", "post_roll": "1h"}))
        .await;
    fixture.publish("dev-1", 0..8).await;
    fixture.until_count("STREAMS_REC_s1", 8).await;
    drop(fixture.services.take());
    let asked = fixture.js.stream_info("STREAMS_BUFFER_dev-1").await.unwrap().ts.unwrap();
    rewrite_state(&fixture, "s1", |row| {
        row["state"] = json!("stopping");
        row["stop_asked_for"] = json!(weir_protocol::time::format_rfc3339(asked));
    })
    .await;
    fixture.publish("dev-1", 8..9).await;
    fixture.until_count("STREAMS_REC_s1", 9).await;
    fixture.services = Some(services(&fixture.server, config().await).await);
    let row = fixture.stopped("s1").await;
    // What came before the moment was written down may have been answered as recorded.
    assert_eq!((row.message_count, row.stop_asked_for), (9, None));
    assert!(row.stop_at > Some(asked));
}

#[tokio::test]
async fn a_recording_that_was_opened_as_the_one_of_all_devices_ended_ends_too() {
    let mut fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "session_id": "all"})).await;
    assert_eq!(fixture.http("POST", "/monitor/a", r#"[{"type":"t"}]"#).await.0, 200);
    drop(fixture.services.take());
    rewrite_state(&fixture, "all", |row| {
        row["state"] = json!("stopped");
    })
    .await;
    fixture.services = Some(services(&fixture.server, config().await).await);
    assert_eq!(fixture.stopped("all-a").await.message_count, 1);
}

#[tokio::test]
async fn a_deleted_stream_ends_its_session_as_failed() {
    let fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    fixture.js.delete_stream("STREAMS_REC_s1").await.unwrap();
    eventually("the session has failed", || async {
        let status = fixture.done(json!({"action": "status", "session_id": "s1"})).await.status.unwrap();
        (status.state == State::Failed && status.reason.is_some()).then_some(())
    })
    .await;
    fixture.done(json!({"action": "delete", "session_id": "s1"})).await;
}

#[tokio::test]
async fn a_killed_server_keeps_the_recording_and_the_services_go_on_with_it() {
    let mut fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "5m").await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    let (status, answer) =
        fixture.http("POST", "/monitor/dev-1", r#"[{"type":"t","data":0},{"type":"t","data":1}]"#).await;
    assert_eq!((status, &answer["durability"]), (200, &json!(fixture.stored())));
    let address = fixture.server.client_address().to_owned();
    fixture.server.kill().await;
    assert_eq!(fixture.http("POST", "/monitor/dev-1", r#"[{"type":"t"}]"#).await.0, 503);
    fixture.server.restart_at(&address).await;
    eventually("events are accepted again", || async {
        let (status, _) = fixture.http("POST", "/monitor/dev-1", r#"[{"type":"t","data":2}]"#).await;
        (status == 200).then_some(())
    })
    .await;
    fixture.stop("s1").await;
    let mut numbers = fixture.numbers("STREAMS_REC_s1").await;
    numbers.dedup();
    assert_eq!(numbers, [0, 1, 2]);
}
