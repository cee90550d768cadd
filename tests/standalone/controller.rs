//! The controller's requests: what they answer and what they refuse.

use std::time::Instant;

use serde_json::json;
use weir::service::session::State;

use crate::fixture::{Fixture, STOP_WAIT, config, services};
use crate::support::eventually;

#[tokio::test]
async fn a_session_goes_from_running_to_stopped_and_its_rows_say_so() {
    let fixture = Fixture::start().await;
    let start = json!({"action": "start", "device_id": "dev-1", "session_id": "s1"});
    let started = fixture.done(start.clone()).await;
    assert_eq!((started.session_id.as_deref(), started.state), (Some("s1"), Some(State::Running)));
    let again = fixture.ask(start.clone()).await;
    assert!(!again.ok && again.message.contains("already running"), "{again:?}");
    fixture.publish("dev-1", 0..100).await;
    let row = eventually("the state row counts", || async {
        let row = fixture.services().recorder().sessions().states().cached("s1")?;
        (row.message_count == 100).then_some(row)
    })
    .await;
    assert!(row.last_message_at.is_some() && row.updated_at >= row.started_at);
    fixture.stop("s1").await;
    let status = fixture.done(json!({"action": "status", "session_id": "s1"})).await.status.unwrap();
    assert_eq!((status.state, status.message_count), (State::Stopped, 100));
    let nothing = fixture.done(json!({"action": "stop", "session_id": "s1"})).await;
    assert_eq!((nothing.message.as_str(), nothing.state), ("no active recording", Some(State::Stopped)));
    let reused = fixture.ask(start).await;
    assert!(!reused.ok && reused.message.contains("exists already"), "{reused:?}");
    assert_eq!(fixture.messages("STREAMS_REC_s1").await.len(), 100);
    assert_eq!(fixture.done(json!({"action": "delete", "session_id": "s1"})).await.count, Some(1));
    assert_eq!(fixture.js.find_stream("STREAMS_REC_s1").await.unwrap(), None);
    assert!(!fixture.ask(json!({"action": "show", "session_id": "s1"})).await.ok);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("short", "10s").await;
    for (request, reason) in [
        (json!({"action": "start", "device_id": ""}), "device_id: the id is empty"),
        (json!({"action": "start", "subject": ""}), "subject \"\" names no device"),
        (json!({"action": "start", "subject": "other.dev"}), "names no device"),
        (json!({"action": "start", "device_id": "a", "subject": "t.monitor.b"}), "different devices"),
        (json!({"action": "start", "device_id": "a", "session_id": " "}), "session_id: the id is empty"),
        (json!({"action": "start", "device_id": "a", "pre_roll": "soon"}), "pre_roll must be a span of time"),
        (
            json!({"action": "start", "device_id": "a", "retention": "1ms"}),
            "retention 1ms is shorter than 100ms",
        ),
        (json!({"action": "start", "device_id": "a", "pre_roll": "1s"}), "no buffer"),
        (
            json!({"action": "start", "device_id": "short", "pre_roll": "11s"}),
            "longer than the buffer window 10s",
        ),
        (json!({"action": "dance"}), "action must be \"start\" or"),
        (json!({"action": "list", "limit": 501}), "limit must be a whole number from 1 to 500, not 501"),
        (json!({"action": "list", "limit": 0}), "not 0"),
        (json!({"action": "stop"}), "session_id or a device_id"),
        (json!({"action": "show", "session_id": "none"}), "no session \"none\""),
        (json!({"action": "delete", "session_id": "none"}), "no session \"none\""),
        (json!([1]), "it must be a JSON object, not an array"),
    ] {
        let response = fixture.ask(request.clone()).await;
        assert!(!response.ok && response.message.contains(reason), "{request}: {response:?}");
    }
    let response = fixture.ask_raw("{\"action\":".to_owned()).await;
    assert!(!response.ok && response.message.contains("it ends too early"), "{response:?}");
    assert_eq!(fixture.done(json!({"action": "list"})).await.total, Some(0));
    let unknown = fixture.done(json!({"action": "stop", "session_id": "none"})).await;
    assert_eq!((unknown.message.as_str(), unknown.state), ("no active recording", None));
    let (_, devices) = fixture.http("GET", "/api/v1/devices", "").await;
    let rows = devices["devices"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "a start that is refused leaves no row of its device: {devices}");
}

#[tokio::test]
async fn recordings_of_a_device_overlap_unless_one_is_exclusive() {
    let fixture = Fixture::start().await;
    let start = |session: &str, exclusive: bool| json!({"action": "start", "subject": "t.monitor.dev-1", "session_id": session, "exclusive": exclusive});
    for session in ["a", "b", "c"] {
        fixture.done(start(session, false)).await;
        fixture.publish("dev-1", 0..10).await;
    }
    let refused = fixture.ask(start("only", true)).await;
    assert!(!refused.ok && refused.message.contains("\"a\""), "{refused:?}");
    fixture.done(json!({"action": "start", "device_id": "dev-2", "session_id": "d"})).await;
    let stopped = fixture.done(json!({"action": "stop", "device_id": "dev-1"})).await;
    assert_eq!(stopped.count, Some(3), "{stopped:?}");
    for (session, count) in [("a", 30), ("b", 20), ("c", 10)] {
        fixture.stopped(session).await;
        assert_eq!(fixture.messages(&format!("STREAMS_REC_{session}")).await.len(), count, "{session}");
    }
    assert_eq!(
        fixture.done(json!({"action": "status", "session_id": "d"})).await.state,
        Some(State::Running)
    );
    fixture.done(start("only", true)).await;
    let refused = fixture.ask(start("late", false)).await;
    assert!(!refused.ok && refused.message.contains("exclusively"), "{refused:?}");
    assert_eq!(fixture.done(json!({"action": "stop-all"})).await.count, Some(2));
    assert_eq!(fixture.done(json!({"action": "purge-all"})).await.count, Some(5));
    eventually("the buffers are gone", || async {
        fixture.js.stream_names(Some("t.monitor.>")).await.unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_processes_answer_each_request_once_and_share_the_work() {
    let mut fixture = Fixture::start().await;
    let second = services(&fixture.server, config().await).await;
    let inbox = fixture.client.new_inbox();
    let mut answers = fixture.client.subscribe(&inbox).unwrap();
    for n in 0..20 {
        let request = json!({"action": "start", "device_id": "dev-1", "session_id": format!("s{n}")});
        fixture
            .client
            .publish_with_reply("t.record.cmd", &inbox, None, request.to_string().into())
            .await
            .unwrap();
    }
    for _ in 0..20 {
        let answer = answers.next().await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    // Either can end what the other has started.
    for n in 0..20 {
        fixture.done(json!({"action": "stop", "session_id": format!("s{n}")})).await;
    }
    // Nobody is left who could answer, and what was answered is here.
    second.shutdown().await.unwrap();
    fixture.services.take().unwrap().shutdown().await.unwrap();
    fixture.client.flush().await.unwrap();
    assert!(answers.try_next().is_none(), "a request was answered twice");
}

#[tokio::test]
async fn http_does_the_same() {
    let fixture = Fixture::start().await;
    let (status, started) =
        fixture.http("POST", "/api/v1/recordings", r#"{"device_id":"dev-1","session_id":"s 1"}"#).await;
    assert_eq!((status, &started["state"]), (201, &json!("running")), "{started}");
    assert_eq!(
        fixture.http("POST", "/api/v1/recordings", r#"{"device_id":"dev-1","session_id":"s 1"}"#).await.0,
        409
    );
    assert_eq!(fixture.http("POST", "/api/v1/recordings", r#"{"device":"dev-1"}"#).await.0, 400);
    fixture.http("POST", "/monitor/dev-1", r#"[{"type":"a"}]"#).await;
    let (_, shown) = fixture.http("GET", "/api/v1/recordings/s%201", "").await;
    assert_eq!(shown["session"]["message_count"], 1, "{shown}");
    assert_eq!(
        fixture.http("GET", "/api/v1/recordings/s%201/status", "").await.1["status"]["state"],
        "running"
    );
    assert_eq!(fixture.http("DELETE", "/api/v1/recordings/s%201", "").await.0, 409);
    let (status, nothing) = fixture.http("POST", "/api/v1/recordings/s2/stop", "").await;
    assert_eq!((status, &nothing["message"]), (200, &json!("no active recording")));
    let asked = Instant::now();
    let (_, stopped) = fixture.http("POST", "/api/v1/recordings/s%201/stop", "").await;
    assert!(stopped["state"] == "stopped" || asked.elapsed() >= STOP_WAIT, "{stopped}");
    fixture.stopped("s=201").await;
    let (_, listed) = fixture.http("GET", "/api/v1/recordings?device_id=dev-1&limit=10", "").await;
    assert_eq!((&listed["total"], &listed["sessions"][0]["state"]), (&json!(1), &json!("stopped")));
    assert_eq!(fixture.http("POST", "/api/v1/recordings/stop", "").await.1["message"], "no active recording");
    assert_eq!(fixture.http("DELETE", "/api/v1/recordings/s%201", "").await.0, 200);
    assert_eq!(fixture.http("GET", "/api/v1/recordings/s%201", "").await.0, 404);
    assert_eq!(fixture.http("DELETE", "/api/v1/recordings", "").await.1["count"], 0);
    assert_eq!(fixture.http("GET", "/api/v1/health", "").await.0, 200);
}

#[tokio::test]
async fn a_list_counts_what_a_running_recording_has_now() {
    let slow = std::time::Duration::from_secs(3600);
    let fixture = Fixture::with(weir::service::ServiceConfig { progress: slow, ..config().await }).await;
    fixture.done(json!({"action": "start", "session_id": "all"})).await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    let (status, _) = fixture.http("POST", "/monitor/dev-1", r#"[{"type":"t"},{"type":"t"}]"#).await;
    assert_eq!(status, 200);
    let listed = fixture.done(json!({"action": "list"})).await.sessions.unwrap();
    let counts: Vec<(String, u64, bool)> = listed
        .into_iter()
        .map(|each| each.session)
        .map(|each| (each.session_id.to_string(), each.message_count, each.last_message_at.is_some()))
        .collect();
    let status = fixture.done(json!({"action": "status", "session_id": "s1"})).await.status.unwrap();
    assert_eq!((status.message_count, status.last_message_at.is_some()), (2, true));
    let expected = ["all", "all-dev-1", "s1"].map(|id| (id.to_owned(), 2, true));
    let sorted: std::collections::BTreeSet<_> = counts.into_iter().collect();
    assert_eq!(sorted, expected.into_iter().collect());
}

#[tokio::test]
async fn a_start_that_fails_half_way_leaves_nothing() {
    let fixture = Fixture::start().await;
    // The bucket of the states takes nothing more.
    let mut config = fixture.js.stream_info("KV_t_record_state").await.unwrap().config;
    config.max_bytes = 1;
    fixture.js.update_stream(&config).await.unwrap();
    let start = json!({"action": "start", "device_id": "dev-1", "session_id": "s1"});
    let refused = fixture.ask(start.clone()).await;
    assert!(!refused.ok && refused.message.contains("maximum bytes"), "{refused:?}");
    for stream in ["STREAMS_REC_s1", "STREAMS_BUFFER_dev-1"] {
        assert_eq!(fixture.js.find_stream(stream).await.unwrap(), None, "{stream}");
    }
    assert_eq!(fixture.done(json!({"action": "list"})).await.total, Some(0));
    assert_eq!(fixture.http("GET", "/api/v1/devices/dev-1", "").await.0, 404);
    config.max_bytes = -1;
    fixture.js.update_stream(&config).await.unwrap();
    fixture.done(start).await;
}
