//! Buffers follow the rows of their devices.

use std::time::Duration;

use serde_json::json;
use weir::client::jetstream::{Storage, StreamConfig};
use weir::client::kv::Bucket;

use crate::fixture::Fixture;
use crate::support::eventually;

#[tokio::test]
async fn a_buffer_is_a_stream_on_the_devices_subjects() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("dev.1", "2m").await;
    let config = fixture.js.stream_info("STREAMS_BUFFER_dev=2E1").await.unwrap().config;
    assert_eq!(config.subjects, ["t.monitor.dev=2E1", "t.monitor.dev=2E1.>"]);
    assert_eq!((config.max_age, config.storage), (120_000_000_000, Storage::Memory));
    fixture.publish("dev=2E1", 0..3).await;
    fixture.publish("dev=2E1.deep.er", 3..4).await;
    fixture.publish("dev-1", 100..101).await;
    fixture.until_count("STREAMS_BUFFER_dev=2E1", 4).await;
    assert_eq!(fixture.numbers("STREAMS_BUFFER_dev=2E1").await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn old_messages_leave_the_buffer() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "1s").await;
    fixture.publish("dev-1", 0..5).await;
    fixture.until_stored("STREAMS_BUFFER_dev-1", 5).await;
    fixture.until_count("STREAMS_BUFFER_dev-1", 0).await;
}

#[tokio::test]
async fn a_row_written_by_another_client_changes_the_buffer() {
    let fixture = Fixture::start().await;
    let bucket = Bucket::open(&fixture.js, "t_devices").await.unwrap();
    let max_age = |age: Duration| {
        let js = fixture.js.clone();
        async move {
            eventually("the buffer has the window", || async {
                let info = js.find_stream("STREAMS_BUFFER_dev-1").await.unwrap()?;
                (u128::try_from(info.config.max_age).unwrap() == age.as_nanos()).then_some(info)
            })
            .await
        }
    };
    bucket.put("dev-1", r#"{"device_id":"dev-1","buffer":"2m"}"#.into()).await.unwrap();
    max_age(Duration::from_secs(120)).await;
    fixture.publish("dev-1", 0..3).await;
    bucket.put("dev-1", r#"{"device_id":"dev-1","buffer":{"window":"3m"}}"#.into()).await.unwrap();
    assert_eq!(max_age(Duration::from_secs(180)).await.state.messages, 3);
    let off = r#"{"device_id":"dev-1","buffer":{"window":"3m","enabled":false}}"#;
    bucket.put("dev-1", off.into()).await.unwrap();
    fixture.until_gone("STREAMS_BUFFER_dev-1").await;
    let (_, buffer) = fixture.http("GET", "/api/v1/buffers/dev-1", "").await;
    assert_eq!((&buffer["enabled"], &buffer["window"]), (&json!(false), &json!("3m")));
    bucket
        .put("dev-2", r#"{"device_id":"dev-2","buffer":{"window":"1m","storage":"file"}}"#.into())
        .await
        .unwrap();
    let info = eventually("a buffer on file", || async {
        fixture.js.find_stream("STREAMS_BUFFER_dev-2").await.unwrap()
    })
    .await;
    assert_eq!(info.config.storage, Storage::File);
    bucket.delete("dev-2").await.unwrap();
    fixture.until_gone("STREAMS_BUFFER_dev-2").await;
}

#[tokio::test]
async fn a_change_waits_for_the_last_recording_to_end() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "2m").await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    let (status, answer) = fixture.http("DELETE", "/api/v1/buffers/dev-1", "").await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["problem"].as_str().unwrap().contains("being recorded"), "{answer}");
    fixture.publish("dev-1", 0..10).await;
    fixture.until_count("STREAMS_REC_s1", 10).await;
    fixture.stop("s1").await;
    fixture.until_gone("STREAMS_BUFFER_dev-1").await;
    assert_eq!(fixture.numbers("STREAMS_REC_s1").await, (0..10).collect::<Vec<u32>>());
}

#[tokio::test]
async fn devices_are_set_merged_listed_and_deleted() {
    let fixture = Fixture::start().await;
    let put = |path: &'static str, body: &'static str| fixture.http("PUT", path, body);
    let (status, _) = put("/api/v1/devices/DEV-A", r#"{"description":"pump","location":"cellar"}"#).await;
    assert_eq!(status, 200);
    let (_, device) = put("/api/v1/devices/DEV-A", r#"{"owner":"ann","location":"attic"}"#).await;
    assert_eq!(
        (&device["description"], &device["location"], &device["owner"]),
        (&json!("pump"), &json!("attic"), &json!("ann"))
    );
    assert!(device["updated"].as_str().unwrap().ends_with('Z'));
    let bucket = Bucket::open(&fixture.js, "t_devices").await.unwrap();
    assert_eq!(bucket.keys().await.unwrap(), ["dev-a"]);
    assert_eq!(put("/api/v1/devices/dev-a", r#"{"owner":"bob"}"#).await.0, 409);
    assert_eq!(put("/api/v1/devices/DEV-A", "{}").await.0, 400);
    assert_eq!(put("/api/v1/devices/DEV-A", r#"{"colour":"red"}"#).await.0, 400);
    assert_eq!(put("/api/v1/devices/DEV-A", r#"{"buffer":{"window":"50ms"}}"#).await.0, 400);
    assert_eq!(fixture.http("GET", "/api/v1/devices/other", "").await.0, 404);
    let (_, all) = fixture.http("GET", "/api/v1/devices", "").await;
    assert_eq!(all["devices"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.http("DELETE", "/api/v1/devices/DEV-A", "").await.0, 200);
    assert_eq!(bucket.keys().await.unwrap(), Vec::<String>::new());
    assert_eq!(fixture.http("DELETE", "/api/v1/devices/DEV-A", "").await.0, 404);
}

#[tokio::test]
async fn a_setting_that_cannot_be_is_refused_and_not_kept() {
    let fixture = Fixture::start().await;
    let own = StreamConfig { subjects: vec!["t.monitor.mine.x".to_owned()], ..StreamConfig::named("MINE") };
    fixture.js.create_stream(&own).await.unwrap();
    let (status, answer) = fixture.http("PUT", "/api/v1/buffers/mine", r#"{"window":"1m"}"#).await;
    let reason = answer["error"].as_str().unwrap();
    assert_eq!((status, reason.contains("\"MINE\"")), (409, true), "{answer}");
    let (status, answer) =
        fixture.http("PUT", "/api/v1/devices/mine", r#"{"owner":"me","buffer":"1m"}"#).await;
    assert_eq!(status, 409, "{answer}");
    assert_eq!(fixture.http("GET", "/api/v1/devices/mine", "").await.0, 404, "nothing of it is kept");
    let refused = fixture.ask(json!({"action": "start", "device_id": "mine", "session_id": "s"})).await;
    assert!(!refused.ok && refused.message.contains("\"MINE\""), "{refused:?}");
    assert_eq!(fixture.http("GET", "/api/v1/devices/mine", "").await.0, 404);
    assert_eq!(fixture.http("DELETE", "/api/v1/buffers/mine", "").await.0, 404);
    assert_eq!(fixture.http("PUT", "/api/v1/devices/mine", r#"{"owner":"me"}"#).await.0, 200);
}

#[tokio::test]
async fn a_buffer_made_for_a_start_elsewhere_is_left_alone_for_a_moment() {
    let fixture = Fixture::start().await;
    // As another process makes it just before it writes its session's row.
    let metadata = [("weir.role", "buffer"), ("weir.device", "dev-1"), ("weir.temporary", "true")];
    let buffer = StreamConfig {
        subjects: vec!["t.monitor.dev-1".to_owned(), "t.monitor.dev-1.>".to_owned()],
        storage: Storage::Memory,
        metadata: metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..StreamConfig::named("STREAMS_BUFFER_dev-1")
    };
    fixture.js.create_stream(&buffer).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(fixture.js.find_stream("STREAMS_BUFFER_dev-1").await.unwrap().is_some(), "refreshes left it");
}

#[tokio::test]
async fn fields_that_are_absent_stay_and_so_do_the_messages() {
    let fixture = Fixture::start().await;
    let put = async |path: &str, body: &str| {
        let (status, answer) = fixture.http("PUT", path, body).await;
        assert_eq!(status, 200, "{body}: {answer}");
    };
    put("/api/v1/buffers/dev-1", r#"{"window":"20m","storage":"file","max_bytes":3000000}"#).await;
    fixture.publish("dev-1", 0..3).await;
    fixture.until_count("STREAMS_BUFFER_dev-1", 3).await;
    for (path, body, window) in [
        ("/api/v1/buffers/dev-1", r#"{"window":"30m"}"#, "30m"),
        ("/api/v1/devices/dev-1", r#"{"buffer":"40m"}"#, "40m"),
        ("/api/v1/devices/dev-1", r#"{"buffer":{"window":"50m"}}"#, "50m"),
        ("/api/v1/buffers/dev-1", "", "50m"),
    ] {
        put(path, body).await;
        let (_, row) = fixture.http("GET", "/api/v1/devices/dev-1", "").await;
        let setting = json!({"enabled": true, "window": window, "storage": "file", "max_bytes": 3_000_000});
        assert_eq!(row["buffer"], setting, "{body}");
        assert_eq!(fixture.numbers("STREAMS_BUFFER_dev-1").await, [0, 1, 2], "{body}");
    }
}
