//! `POST /monitor/{device}`: what is accepted, what is refused, and how safe it is afterwards.

use serde_json::{Value, json};
use weir::client::jetstream::{Purge, StreamConfig};
use weir::client::kv::Bucket;
use weir::service::ServiceConfig;
use weir::service::device::BufferSetting;
use weir::service::monitor::HttpConfig;

use crate::fixture::{Fixture, config, listen, services};
use crate::support::http;

#[tokio::test]
async fn events_become_messages_in_array_order() {
    let fixture = Fixture::start().await;
    let mut live = fixture.client.subscribe("t.monitor.>").unwrap();
    fixture.client.flush().await.unwrap();
    let body = r#"[{"id":"e1","type":"state","symbol":"demo/temp","timestamp":"2026-01-01T00:00:00Z","data":{"c":21.5},
        "device":"evil"},{"type":"call"}]"#;
    let (status, answer) = fixture.http("POST", "/monitor/dev-1", body).await;
    assert_eq!((status, &answer), (200, &json!({"accepted": 2, "duplicates": 0, "durability": "none"})));
    let first = live.next().await.unwrap();
    assert_eq!((first.subject.as_str(), &first.payload[..]), ("t.monitor.dev-1", &br#"{"c":21.5}"#[..]));
    for (name, value) in [
        ("X-Monitor-Device", "dev-1"),
        ("X-Monitor-Id", "e1"),
        ("X-Monitor-Type", "state"),
        ("X-Monitor-Timestamp", "2026-01-01T00:00:00Z"),
        ("X-Monitor-Symbol", "demo/temp"),
        ("Nats-Msg-Id", "e1"),
    ] {
        assert_eq!(first.header(name), Some(value), "{name}");
    }
    let second = live.next().await.unwrap();
    assert!(second.header("X-Monitor-Id").is_some_and(|id| !id.is_empty()));
    assert!(second.header("X-Monitor-Timestamp").is_some_and(|time| time.ends_with('Z')));
    assert_eq!(second.header("Nats-Msg-Id"), None);
    let (status, device) = fixture.http("GET", "/api/v1/devices/dev-1", "").await;
    assert_eq!((status, &device["device_id"]), (200, &json!("dev-1")));
}

#[tokio::test]
async fn nothing_of_a_bad_request_is_published() {
    let fixture = Fixture::start().await;
    let mut live = fixture.client.subscribe("t.monitor.>").unwrap();
    fixture.client.flush().await.unwrap();
    let good = r#"[{"type":"a"}]"#;
    let too_large = format!(r#"[{{"type":"a"}},{{"type":"b","data":"{}"}}]"#, "x".repeat(1 << 20));
    for (method, path, body, status) in [
        ("POST", "/monitor/dev-1", "", 400),
        ("POST", "/monitor/dev-1", "hello", 400),
        ("POST", "/monitor/dev-1", "[]", 400),
        ("POST", "/monitor/dev-1", r#"{"type":"a"}"#, 400),
        ("POST", "/monitor/dev-1", r#"[{"type":"a"},{"type":""}]"#, 400),
        ("POST", "/monitor/dev-1", &too_large, 413),
        ("POST", "/monitor/", good, 400),
        ("POST", "/monitor", good, 400),
        ("POST", "/monitor/%20", good, 400),
        ("POST", "/monitor/%ff", good, 400),
        ("POST", "/monitor/a%0ab", good, 400),
        ("POST", "/monitor/a/b", good, 404),
        ("GET", "/monitor/dev-1", "", 405),
        ("POST", "/nothing", good, 404),
    ] {
        let (got, answer) = fixture.http(method, path, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|reason| !reason.is_empty()), "{path}: {answer}");
    }
    fixture.client.publish("t.monitor.end", None, "end".into()).await.unwrap();
    assert_eq!(live.next().await.unwrap().subject, "t.monitor.end");
}

#[tokio::test]
async fn ids_are_encoded_and_case_twins_refused() {
    let fixture = Fixture::start().await;
    let mut live = fixture.client.subscribe("t.monitor.>").unwrap();
    fixture.client.flush().await.unwrap();
    for (path, subject) in [("a.b", "t.monitor.a=2Eb"), ("*", "t.monitor.=2A"), ("a%20b", "t.monitor.a=20b")]
    {
        let (status, answer) = fixture.http("POST", &format!("/monitor/{path}"), r#"[{"type":"a"}]"#).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(live.next().await.unwrap().subject, subject);
    }
    assert_eq!(fixture.http("POST", "/monitor/Pump", r#"[{"type":"a"}]"#).await.0, 200);
    let (status, answer) = fixture.http("POST", "/monitor/pump", r#"[{"type":"a"}]"#).await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("\"Pump\""), "{answer}");
}

#[tokio::test]
async fn bodies_above_the_limit_and_foreign_requests_are_refused() {
    let limit = listen(HttpConfig { body_bytes_max: 1000, ..HttpConfig::default() }).await;
    let fixture = Fixture::with(ServiceConfig { http: Some(limit), ..config().await }).await;
    let address = fixture.services().http_address().unwrap().to_string();
    let long = format!(r#"[{{"type":"a","data":"{}"}}]"#, "x".repeat(2_000_000));
    assert_eq!(fixture.http("POST", "/monitor/dev-1", &long).await.0, 413);
    let good = br#"[{"type":"a"}]"#;
    for headers in [[("Host", "evil.example")], [("Origin", "https://evil.example")]] {
        let answer = http::request(&address, "POST", "/monitor/dev-1", &headers, good).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    let own = format!("http://{address}");
    let answer = http::request(&address, "POST", "/monitor/dev-1", &[("Origin", own.as_str())], good).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_buffered_batch_is_stored_when_the_answer_comes_and_a_retry_adds_nothing() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "5m").await;
    let events: Vec<Value> =
        (0..1000).map(|n| json!({"id": format!("e{n}"), "type": "t", "data": n})).collect();
    let body = json!(events).to_string();
    let (status, answer) = fixture.http("POST", "/monitor/dev-1", &body).await;
    assert_eq!((status, &answer), (200, &json!({"accepted": 1000, "duplicates": 0, "durability": "memory"})));
    assert_eq!(fixture.js.stream_info("STREAMS_BUFFER_dev-1").await.unwrap().state.messages, 1000);
    let (_, again) = fixture.http("POST", "/monitor/dev-1", &body).await;
    assert_eq!(again, json!({"accepted": 1000, "duplicates": 1000, "durability": "memory"}));
    assert_eq!(fixture.numbers("STREAMS_BUFFER_dev-1").await, (0..1000).collect::<Vec<u32>>());
}

#[tokio::test]
async fn a_recorded_batch_is_in_every_recording_when_the_answer_comes() {
    let fixture = Fixture::start().await;
    for session in ["a", "b"] {
        fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": session})).await;
    }
    for n in 0..20_u64 {
        let (status, answer) = fixture.http("POST", "/monitor/dev-1", r#"[{"type":"t"},{"type":"t"}]"#).await;
        assert_eq!((status, &answer["durability"]), (200, &json!(fixture.stored())), "{answer}");
        for session in ["a", "b"] {
            let info = fixture.js.stream_info(&format!("STREAMS_REC_{session}")).await.unwrap();
            assert_eq!(info.state.messages, 2 * (n + 1), "{session}");
        }
    }
}

#[tokio::test]
async fn a_default_buffer_holds_the_first_event_of_a_new_device() {
    let fixture =
        Fixture::with(ServiceConfig { default_buffer: Some(BufferSetting::default()), ..config().await })
            .await;
    let (_, answer) = fixture.http("POST", "/monitor/new", r#"[{"type":"first"}]"#).await;
    assert_eq!(answer["durability"], "memory", "{answer}");
    assert_eq!(fixture.messages("STREAMS_BUFFER_new").await.len(), 1);
}

#[tokio::test]
async fn without_a_buffer_nothing_is_stored() {
    let fixture = Fixture::start().await;
    let streams = fixture.js.stream_names(Some("t.monitor.>")).await.unwrap();
    assert_eq!(fixture.http("POST", "/monitor/dev-1", r#"[{"type":"a"}]"#).await.0, 200);
    assert_eq!(fixture.js.stream_names(Some("t.monitor.>")).await.unwrap(), streams);
}

async fn auto_recording() -> ServiceConfig {
    ServiceConfig { auto_record: true, ..config().await }
}

/// The stream of the only session, which is a recording of this device.
async fn only_recording_of(fixture: &Fixture, device: &str) -> String {
    let sessions = fixture.done(json!({"action": "list"})).await.sessions.unwrap();
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let session = &sessions[0].session;
    assert_eq!(session.device_id.as_ref().unwrap().as_str(), device);
    session.stream.clone()
}

#[tokio::test]
async fn auto_recording_starts_once_and_has_all_however_many_posts_come_first() {
    let fixture = Fixture::with(auto_recording().await).await;
    let posts = (0..50).map(|n| {
        let body = json!([{"type": "a", "data": n}]).to_string();
        let fixture = &fixture;
        async move { fixture.http("POST", "/monitor/new", &body).await }
    });
    for (status, answer) in futures_util::future::join_all(posts).await {
        assert_eq!((status, &answer["durability"]), (200, &json!(fixture.stored())), "{answer}");
    }
    let stream = only_recording_of(&fixture, "new").await;
    let mut numbers = fixture.numbers(&stream).await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..50).collect::<Vec<u32>>());
}

#[tokio::test]
async fn auto_recording_starts_once_although_two_processes_meet_the_device() {
    let fixture = Fixture::with(auto_recording().await).await;
    let other = services(&fixture.server, auto_recording().await).await;
    let addresses = [fixture.services().http_address().unwrap(), other.http_address().unwrap()];
    let posts = (0..40_usize).map(|n| {
        let body = json!([{"type": "a", "data": n}]).to_string();
        let address = addresses[n % 2].to_string();
        async move {
            let answer = http::request(&address, "POST", "/monitor/new", &[], body.as_bytes()).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    futures_util::future::join_all(posts).await;
    let stream = only_recording_of(&fixture, "new").await;
    fixture.until_count(&stream, 40).await;
}

#[tokio::test]
async fn auto_recording_that_could_not_start_does_with_the_next_event() {
    for restart in [false, true] {
        let mut fixture = Fixture::with(auto_recording().await).await;
        let bucket = fixture.js.stream_info("KV_t_session").await.unwrap().config;
        fixture.js.delete_stream("KV_t_session").await.unwrap();
        let (status, answer) = fixture.http("POST", "/monitor/new", r#"[{"type":"a"}]"#).await;
        assert_eq!(status, 503, "{answer}");
        if restart {
            drop(fixture.services.take());
        }
        fixture.js.create_stream(&bucket).await.unwrap();
        if restart {
            fixture.services = Some(services(&fixture.server, auto_recording().await).await);
        }
        for n in 0..2 {
            let body = json!([{"type": "a", "data": n}]).to_string();
            let (status, answer) = fixture.http("POST", "/monitor/new", &body).await;
            assert_eq!((status, &answer["durability"]), (200, &json!(fixture.stored())), "{answer}");
        }
        let stream = only_recording_of(&fixture, "new").await;
        assert_eq!(fixture.numbers(&stream).await, [0, 1]);
    }
}

#[tokio::test]
async fn auto_recording_is_for_new_devices_that_are_not_recorded() {
    let fixture = Fixture::with(auto_recording().await).await;
    fixture.done(json!({"action": "start", "device_id": "recorded", "session_id": "s1"})).await;
    let (status, answer) = fixture.http("PUT", "/api/v1/devices/known", r#"{"owner":"me"}"#).await;
    assert_eq!(status, 200, "{answer}");
    for (device, durability) in [("recorded", fixture.stored()), ("known", "none")] {
        let (_, answer) = fixture.http("POST", &format!("/monitor/{device}"), r#"[{"type":"a"}]"#).await;
        assert_eq!(answer["durability"], durability, "{device}: {answer}");
    }
    assert_eq!(only_recording_of(&fixture, "recorded").await, "STREAMS_REC_s1");
}

#[tokio::test]
async fn a_stream_of_the_users_own_is_named() {
    let fixture = Fixture::start().await;
    let own = StreamConfig { subjects: vec!["t.monitor.>".to_owned()], ..StreamConfig::named("MINE") };
    fixture.js.create_stream(&own).await.unwrap();
    let (status, answer) = fixture.http("PUT", "/api/v1/buffers/dev-1", r#"{"window":"1m"}"#).await;
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("\"MINE\""), "{answer}");
    // Another client writes the row all the same.
    let bucket = Bucket::open(&fixture.js, "t_devices").await.unwrap();
    bucket.put("dev-1", r#"{"device_id":"dev-1","buffer":"1m"}"#.into()).await.unwrap();
    let (_, buffer) = fixture.http("GET", "/api/v1/buffers/dev-1", "").await;
    assert_eq!((&buffer["enabled"], &buffer["active"]), (&json!(true), &json!(false)));
    assert!(buffer["problem"].as_str().unwrap().contains("MINE"), "{buffer}");
    let start = fixture.ask(json!({"action": "start", "device_id": "dev-1"})).await;
    assert!(!start.ok && start.message.contains("MINE"), "{start:?}");
    let (status, answer) = fixture.http("POST", "/monitor/dev-1", r#"[{"type":"a"}]"#).await;
    assert_eq!((status, &answer["durability"]), (200, &json!(fixture.stored())), "{answer}");
}

#[tokio::test]
async fn a_mistake_is_told_in_the_words_of_whoever_made_it() {
    let fixture = Fixture::start().await;
    let fields = "the fields are description, location, owner, buffer";
    for (method, path, body, reason) in [
        ("PUT", "/api/v1/buffers/d", r#"{"window":"-5m"}"#, "window must be a span of time such as"),
        ("PUT", "/api/v1/buffers/d", r#"{"window":300}"#, "not 300"),
        ("PUT", "/api/v1/buffers/d", r#"{"window":"50ms"}"#, "a buffer window of 50ms is shorter than 100ms"),
        (
            "PUT",
            "/api/v1/buffers/d",
            r#"{"storage":"disk"}"#,
            r#"storage must be "memory" or "file", not "disk""#,
        ),
        ("PUT", "/api/v1/buffers/d", r#"{"max_bytes":0}"#, "max_bytes must be a whole number from 1 to "),
        ("PUT", "/api/v1/buffers/d", r#"{"max_bytes":1}"#, "max_bytes 1 is smaller than 2097152"),
        ("PUT", "/api/v1/buffers/d", r#"{"window":"0s"}"#, "a buffer window of 0s is shorter than 100ms"),
        ("POST", "/api/v1/recordings", r#"{"post_roll":"10000h"}"#, "post_roll 10000h is longer than 24h"),
        ("DELETE", "/api/v1/recordings?device_id=foo", "", r#"there is no parameter "device_id""#),
        (
            "DELETE",
            "/api/v1/recordings",
            r#"{"device_id":"foo"}"#,
            r#"no body: there is no field "device_id""#,
        ),
        ("DELETE", "/api/v1/devices/d", "x", "this request takes no body"),
        ("GET", "/api/v1/devices?x=1", "", r#"there is no parameter "x""#),
        ("GET", "/api/v1/buffers?x", "", r#"there is no parameter "x""#),
        ("GET", "/api/v1/health?x=1", "", r#"there is no parameter "x""#),
        ("GET", "/api/v1/recordings/s?x=1", "", r#"there is no parameter "x""#),
        ("POST", "/monitor/d?x=1", r#"[{"type":"a"}]"#, r#"there is no parameter "x""#),
        ("POST", "/api/v1/recordings/s/stop", r#"{"device_id":"d"}"#, "this request takes no body"),
        ("PUT", "/api/v1/buffers/d", r#"{"enabled":true}"#, r#"there is no field "enabled""#),
        (
            "PUT",
            "/api/v1/buffers/d",
            "{bad",
            "the body: it is not JSON: key must be a string at line 1, column 2",
        ),
        ("PUT", "/api/v1/devices/d", r#"{"name":"x"}"#, fields),
        ("PUT", "/api/v1/devices/d", r#"{"owner":7}"#, "owner must be a text, not 7"),
        ("PUT", "/api/v1/devices/d", r#"{"buffer":{"window":"x"}}"#, "buffer.window must be a span"),
        ("PUT", "/api/v1/devices/d", r#"{"buffer":[]}"#, "buffer must be an object or a span"),
        ("PUT", "/api/v1/devices/d", r#"{"owner":"a","owner":"b"}"#, "is there twice"),
        ("PUT", "/api/v1/devices/d", "", "nothing to set"),
        ("PUT", "/api/v1/devices/d", "[1]", "it must be a JSON object, not an array"),
        (
            "GET",
            "/api/v1/recordings?limit=abc",
            "",
            r#"limit must be a whole number from 1 to 500, not "abc""#,
        ),
        ("GET", "/api/v1/recordings?limit=501", "", r#"not "501""#),
        ("GET", "/api/v1/recordings?limit=0", "", r#"not "0""#),
        ("GET", "/api/v1/recordings?offset=-1", "", r#"offset must be a whole number from 0 on, not "-1""#),
        ("GET", "/api/v1/recordings?device=x", "", r#"there is no parameter "device""#),
        ("GET", "/api/v1/recordings?limit=1&limit=2", "", r#"parameter "limit" is there twice"#),
        ("GET", "/api/v1/recordings?device_id=", "", "device_id: the id is empty"),
        ("POST", "/api/v1/recordings", r#"{"pre_roll":"1 minute"}"#, "pre_roll must be a span"),
        (
            "POST",
            "/api/v1/recordings",
            r#"{"exclusive":"yes"}"#,
            r#"exclusive must be true or false, not "yes""#,
        ),
        ("POST", "/api/v1/recordings/stop", r#"{"session_id":"s"}"#, "the fields are device_id"),
        ("POST", "/monitor/%ff", "[]", "device id: its percent-encoded bytes are no UTF-8"),
        ("POST", "/monitor/a%00b", "[]", "contains a control character"),
        ("POST", "/monitor/d", "", "the body must be a JSON array of events: it ends too early"),
        ("POST", "/monitor/d", "{}", "the body must be a JSON array of events: it is an object"),
        ("POST", "/monitor/d", "[{]", "at line 1, column 3"),
        ("POST", "/monitor/d", "[1]", "event 0: it must be a JSON object, not a number"),
        ("POST", "/monitor/d", r#"[{"type":"a"},{}]"#, r#"event 1: field "type" is missing"#),
        ("POST", "/monitor/d", r#"[{"type":1}]"#, "event 0: type must be a text, not 1"),
        ("POST", "/monitor/d", r#"[{"type":"a","id":5}]"#, "event 0: id must be a text, not 5"),
        ("POST", "/monitor/d", r#"[{"type":"a","timestamp":"now"}]"#, "timestamp"),
    ] {
        let (status, answer) = fixture.http(method, path, body).await;
        assert_eq!(status, 400, "{method} {path} {body}: {answer}");
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{method} {path} {body}: {told}");
        for inner in ["serde", "expected one of", "invalid type", "untagged", "Invalid"] {
            assert!(!told.contains(inner), "{method} {path} {body}: {told}");
        }
    }
}

#[tokio::test]
async fn what_is_in_the_way_is_named() {
    let fixture = Fixture::start().await;
    let bucket = Bucket::open(&fixture.js, "t_devices").await.unwrap();
    bucket.put("odd", "no row".into()).await.unwrap();
    let (status, answer) = fixture.http("POST", "/monitor/odd", r#"[{"type":"a"}]"#).await;
    let told = answer["error"].as_str().unwrap();
    assert_eq!(
        (status, told.contains("row \"odd\" of bucket t_devices cannot be read")),
        (500, true),
        "{told}"
    );
    let mut own = StreamConfig { subjects: vec!["t.monitor.mine".to_owned()], ..StreamConfig::named("MINE") };
    own.other.insert("max_msg_size".to_owned(), 100.into());
    fixture.js.create_stream(&own).await.unwrap();
    let (status, answer) = fixture.http("POST", "/monitor/mine", r#"[{"type":"a"}]"#).await;
    let told = answer["error"].as_str().unwrap();
    assert_eq!((status, told.contains("stream \"MINE\" (its max_msg_size is 100)")), (503, true), "{told}");
    // The row that stood in the way is gone, with the whole bucket.
    assert_eq!(fixture.http("POST", "/monitor/Pump", r#"[{"type":"a"}]"#).await.0, 200);
    assert_eq!(fixture.http("POST", "/monitor/pump", r#"[{"type":"a"}]"#).await.0, 409);
    let gone = Purge { filter: Some("$KV.t_devices.pump".to_owned()), ..Purge::default() };
    fixture.js.purge_stream("KV_t_devices", &gone).await.unwrap();
    assert_eq!(fixture.http("POST", "/monitor/pump", r#"[{"type":"a"}]"#).await.0, 200);
}
