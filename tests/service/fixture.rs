//! What the service tests share: events, requests to the controller, rows of the buckets, streams of devices and sessions.

use async_nats::{Client, Message, Subscriber};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::support::capture::accepted;
pub(crate) use crate::support::capture::{control, controlled, numbers, recording};
use crate::support::http::{self, Response};
use crate::support::jetstream::{Stored, all_messages, stream_info};
use crate::support::{Server, api, eventually, succeeded};

/// Where the controller listens.
pub(crate) const COMMANDS: &str = "streams.record.cmd";
/// The devices' bucket.
pub(crate) const DEVICES: &str = "streams_devices";
/// The bucket with the sessions' descriptions.
pub(crate) const SESSIONS: &str = "streams_session";
/// The bucket with the recordings' states.
pub(crate) const STATES: &str = "streams_record_state";

/// An event whose data is `{"n": number}`.
pub(crate) fn event(number: u64) -> Value {
    json!({"type": "state", "symbol": "demo/temp", "data": {"n": number}})
}

/// Posts events for a device.
pub(crate) async fn post(server: &Server, device: &str, events: &Value) -> Response {
    http::post(server.http(), &format!("/monitor/{device}"), events).await
}

/// Posts events, which must be accepted.
pub(crate) async fn feed(server: &Server, device: &str, numbers: impl IntoIterator<Item = u64>) {
    accepted(server.http(), device, numbers.into_iter().map(event).collect()).await;
}

/// Publishes on NATS and waits until the server has read it.
pub(crate) async fn publish(client: &Client, subject: &str, payload: impl Into<bytes::Bytes>) {
    client.publish(subject.to_owned(), payload.into()).await.expect("publish");
    client.flush().await.expect("flush");
}

/// A request to the controller with any bytes; its answer.
pub(crate) async fn command_bytes(client: &Client, body: &[u8]) -> Value {
    let answer = client
        .request(COMMANDS, body.to_vec().into())
        .await
        .unwrap_or_else(|error| panic!("request {COMMANDS}: {error}"));
    serde_json::from_slice(&answer.payload)
        .unwrap_or_else(|error| panic!("{COMMANDS} answered no JSON ({error}): {:?}", answer.payload))
}

/// A request that must be refused with a reason that contains `part`, in any case.
pub(crate) async fn refused(client: &Client, body: Value, part: &str) -> Value {
    let answer = control(client, &body).await;
    is_refusal(&answer, part);
    answer
}

/// The answer says no, and why.
#[track_caller]
pub(crate) fn is_refusal(answer: &Value, part: &str) {
    assert_eq!(answer["ok"], false, "{answer}");
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        !message.is_empty() && message.to_lowercase().contains(&part.to_lowercase()),
        "the refusal should say {part:?}: {answer}"
    );
}

/// Starts a recording of a device, which must succeed; the answer.
pub(crate) async fn start(client: &Client, device: &str, session: &str) -> Value {
    start_with(client, device, session, json!({})).await
}

/// The same with further fields.
pub(crate) async fn start_with(client: &Client, device: &str, session: &str, more: Value) -> Value {
    let mut body = json!({"action": "start", "device_id": device, "session_id": session});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    controlled(client, &body).await
}

/// Stops a recording and waits until its state says so; the state.
pub(crate) async fn stop(client: &Client, session: &str) -> Value {
    controlled(client, &json!({"action": "stop", "session_id": session})).await;
    stopped(client, session).await
}

/// Waits until the state of a session says `stopped`; the state.
pub(crate) async fn stopped(client: &Client, session: &str) -> Value {
    eventually(&format!("session {session} is stopped"), || async move {
        let state = row(client, STATES, session).await?;
        (state["state"] == "stopped").then_some(state)
    })
    .await
}

/// The JSON under a key of a bucket; `None` without bucket or key.
pub(crate) async fn row(client: &Client, bucket: &str, key: &str) -> Option<Value> {
    let bucket = existing(client, bucket).await?;
    let bytes = bucket.get(key).await.unwrap_or_else(|error| panic!("get {key}: {error}"))?;
    Some(
        serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{key} holds no JSON ({error}): {bytes:?}")),
    )
}

/// A bucket, when there is one.
async fn existing(client: &Client, bucket: &str) -> Option<async_nats::jetstream::kv::Store> {
    if !exists(client, &format!("KV_{bucket}")).await {
        return None;
    }
    let found = async_nats::jetstream::new(client.clone()).get_key_value(bucket).await;
    Some(found.unwrap_or_else(|error| panic!("bucket {bucket}: {error}")))
}

/// The keys of a bucket in order; none without the bucket.
pub(crate) async fn keys(client: &Client, bucket: &str) -> Vec<String> {
    let Some(bucket) = existing(client, bucket).await else { return Vec::new() };
    let keys = bucket.keys().await.expect("the keys can be asked for");
    let mut keys: Vec<String> = keys.try_collect().await.expect("the keys can be read");
    keys.sort();
    keys
}

/// The names of all streams that begin with `prefix`, in order.
pub(crate) async fn streams(client: &Client, prefix: &str) -> Vec<String> {
    let answer = succeeded(api(client, "STREAM.NAMES", &json!({})).await);
    let mut names: Vec<String> = answer["streams"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str())
        .filter(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// The name of a device's buffer.
pub(crate) fn buffer(device: &str) -> String {
    format!("STREAMS_BUFFER_{device}")
}

/// Whether a stream exists.
pub(crate) async fn exists(client: &Client, stream: &str) -> bool {
    let answer = api(client, &format!("STREAM.INFO.{stream}"), &Value::Null).await;
    if answer["error"]["err_code"] == 10059 {
        return false;
    }
    succeeded(answer);
    true
}

/// Turns a device's buffer on through the command line, and waits for its stream; its info.
pub(crate) async fn enable_buffer(server: &Server, client: &Client, device: &str, window: &str) -> Value {
    let args = ["device", "buffer", "enable", "--device-id", device, "--window", window];
    crate::support::weir_ok(&server.url(), &args).await;
    let stream = buffer(device);
    eventually(&format!("stream {stream} exists"), || {
        let stream = stream.clone();
        async move { exists(client, &stream).await.then_some(()) }
    })
    .await;
    stream_info(client, &stream).await
}

/// Waits until so many messages came to a stream, whether they are there still or not.
pub(crate) async fn has_stored(client: &Client, stream: &str, count: u64) {
    eventually(&format!("{stream} stored {count} messages"), || async {
        (stream_info(client, stream).await["state"]["last_seq"].as_u64()? >= count).then_some(())
    })
    .await;
}

/// Waits until a stream has that many messages; all of them.
pub(crate) async fn has_messages(client: &Client, stream: &str, count: u64) -> Vec<Stored> {
    eventually(&format!("{stream} has {count} messages"), || async move {
        let info = api(client, &format!("STREAM.INFO.{stream}"), &Value::Null).await;
        (info["state"]["messages"].as_u64()? >= count).then_some(())
    })
    .await;
    let messages = all_messages(client, stream).await;
    assert_eq!(messages.len() as u64, count, "{stream} holds {:?}", texts(&messages));
    messages
}

/// The payloads as text.
pub(crate) fn texts(messages: &[Stored]) -> Vec<String> {
    messages.iter().map(Stored::text).collect()
}

/// Nanoseconds since 1970 of an RFC 3339 time.
#[track_caller]
pub(crate) fn nanos(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("{time} is no time"));
    weir_protocol::time::parse_rfc3339(text).unwrap_or_else(|error| panic!("{error}"))
}

/// This machine's wall clock, which the server shares.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

/// What came to a subscription on `monitor.>` before a message that is published now.
pub(crate) async fn so_far(client: &Client, subscriber: &mut Subscriber) -> Vec<Message> {
    publish(client, "monitor.end", "").await;
    let mut before = Vec::new();
    loop {
        let message = next(subscriber).await;
        if message.subject.as_str() == "monitor.end" {
            return before;
        }
        before.push(message);
    }
}

/// Reads one message of a subscription.
pub(crate) async fn next(subscriber: &mut Subscriber) -> Message {
    tokio::time::timeout(crate::support::PATIENCE, subscriber.next())
        .await
        .expect("a message comes in time")
        .expect("the subscription lives")
}
