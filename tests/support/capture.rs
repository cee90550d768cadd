//! Devices, recordings and their rows as any client sees them: HTTP ingest, the controller's subject, buckets, streams.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::Client;
use serde_json::{Value, json};

use super::jetstream::{Stored, all_messages, get_message, stream_messages};
use super::{eventually, http};

/// One request to the controller; its answer.
pub(crate) async fn control(client: &Client, body: &Value) -> Value {
    control_on(client, "streams.record.cmd", body).await
}

/// One request to a controller elsewhere.
pub(crate) async fn control_on(client: &Client, subject: &str, body: &Value) -> Value {
    let answer = client
        .request(subject.to_owned(), body.to_string().into())
        .await
        .unwrap_or_else(|error| panic!("{subject} {body}: {error}"));
    serde_json::from_slice(&answer.payload).expect("the controller answers JSON")
}

/// One request to the controller that must succeed.
pub(crate) async fn controlled(client: &Client, body: &Value) -> Value {
    let answer = control(client, body).await;
    assert_eq!(answer["ok"], true, "{body} was refused: {answer}");
    answer
}

/// Starts recording a device under that session id.
pub(crate) async fn start_recording(client: &Client, device: &str, session: &str) -> Value {
    controlled(client, &json!({"action": "start", "device_id": device, "session_id": session})).await
}

/// Ends a recording and waits until its state says so.
pub(crate) async fn stop_recording(client: &Client, session: &str) {
    controlled(client, &json!({"action": "stop", "session_id": session})).await;
    let what = format!("session {session} is stopped");
    eventually(&what, || async {
        (state_of(client, session).await.as_deref() == Some("stopped")).then_some(())
    })
    .await;
}

/// Posts one batch of numbered events for a device, which must be accepted.
pub(crate) async fn ingest(address: &str, device: &str, numbers: std::ops::RangeInclusive<u64>) {
    let event = |n| json!({"type": "state", "symbol": "test/n", "data": {"n": n}});
    accepted(address, device, numbers.map(event).collect()).await;
}

/// Posts a batch, which must be accepted. Each event gets an id that no other has: when a recording on a busy machine is behind
/// (503), the batch is posted again and nothing is stored twice.
pub(crate) async fn accepted(address: &str, device: &str, mut events: Vec<Value>) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    for event in &mut events {
        event["id"] = json!(format!("test-{}", LAST.fetch_add(1, Ordering::Relaxed)));
    }
    let body = Value::from(events);
    eventually("the recordings have the events", || async {
        let answer = http::post(address, &format!("/monitor/{device}"), &body).await;
        let behind = answer.status == 503 && answer.text().contains("but not yet stored within");
        assert!(behind || answer.status == 200, "{}: {}", answer.status, answer.text());
        (!behind).then_some(())
    })
    .await;
}

/// A row of a bucket as JSON; `None` when the key is not there (or deleted).
pub(crate) async fn row(client: &Client, bucket: &str, key: &str) -> Option<Value> {
    let last = json!({"last_by_subj": format!("$KV.{bucket}.{key}")});
    let entry = get_message(client, &format!("KV_{bucket}"), &last).await?;
    if entry.header("KV-Operation").is_some() {
        return None;
    }
    Some(
        serde_json::from_slice(&entry.data)
            .unwrap_or_else(|error| panic!("{bucket} {key}: {error}: {}", entry.text())),
    )
}

/// The state of a session, such as `running` or `stopped`.
pub(crate) async fn state_of(client: &Client, session: &str) -> Option<String> {
    row(client, "streams_record_state", session)
        .await
        .and_then(|row| row["state"].as_str().map(str::to_owned))
}

/// The stream of a session.
pub(crate) fn recording(session: &str) -> String {
    format!("STREAMS_REC_{session}")
}

/// Everything that a session recorded.
pub(crate) async fn recorded(client: &Client, session: &str) -> Vec<Stored> {
    all_messages(client, &recording(session)).await
}

/// Waits until a running recording has that many messages.
pub(crate) async fn recorded_count(client: &Client, session: &str, count: u64) {
    eventually(&format!("session {session} has {count} messages"), || async {
        (stream_messages(client, &recording(session)).await >= count).then_some(())
    })
    .await;
}

/// The numbers that [`ingest`] put into the messages.
pub(crate) fn numbers(messages: &[Stored]) -> Vec<u64> {
    messages.iter().map(|message| number(&message.data)).collect()
}

/// The number in a payload.
pub(crate) fn number(payload: &[u8]) -> u64 {
    let value: BTreeMap<String, Value> = serde_json::from_slice(payload).expect("a payload of the test");
    value["n"].as_u64().expect("a number")
}
