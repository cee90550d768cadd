//! JetStream spoken by hand, so that a test sees every field and every status: API requests as JSON, pulls as they
//! travel, stored messages as they lie.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{api, succeeded};

/// A second in the API's unit.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Creates a stream, which must succeed; its info.
pub(crate) async fn create_stream(client: &Client, config: Value) -> Value {
    let name = config["name"].as_str().expect("the config names the stream").to_owned();
    succeeded(api(client, &format!("STREAM.CREATE.{name}"), &config).await)
}

/// A stream's info.
pub(crate) async fn stream_info(client: &Client, stream: &str) -> Value {
    succeeded(api(client, &format!("STREAM.INFO.{stream}"), &Value::Null).await)
}

/// A stream's number of messages.
pub(crate) async fn stream_messages(client: &Client, stream: &str) -> u64 {
    stream_info(client, stream).await["state"]["messages"].as_u64().expect("a count")
}

/// Creates or updates a consumer, which must succeed; its info.
pub(crate) async fn create_consumer(client: &Client, stream: &str, config: Value) -> Value {
    succeeded(try_create_consumer(client, stream, config).await)
}

/// Creates or updates a consumer; whatever the server answers.
pub(crate) async fn try_create_consumer(client: &Client, stream: &str, config: Value) -> Value {
    let name = config["name"].as_str().or(config["durable_name"].as_str()).map(|name| format!(".{name}"));
    let suffix = format!("CONSUMER.CREATE.{stream}{}", name.unwrap_or_default());
    api(client, &suffix, &json!({"stream_name": stream, "config": config})).await
}

/// A consumer's info.
pub(crate) async fn consumer_info(client: &Client, stream: &str, consumer: &str) -> Value {
    succeeded(api(client, &format!("CONSUMER.INFO.{stream}.{consumer}"), &Value::Null).await)
}

/// Publishes with an ack; the ack as JSON.
pub(crate) async fn store(client: &Client, subject: &str, payload: impl Into<Bytes>) -> Value {
    store_with(client, subject, &[], payload).await
}

/// Publishes with headers and an ack; the ack as JSON.
pub(crate) async fn store_with(
    client: &Client,
    subject: &str,
    headers: &[(&str, &str)],
    payload: impl Into<Bytes>,
) -> Value {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    let answer = client
        .request_with_headers(subject.to_owned(), map, payload.into())
        .await
        .unwrap_or_else(|error| panic!("publish on {subject}: {error}"));
    serde_json::from_slice(&answer.payload).expect("an ack is JSON")
}

/// A message as `STREAM.MSG.GET` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its subject.
    pub(crate) subject: String,
    /// Its sequence in the stream.
    pub(crate) seq: u64,
    /// The raw header block, empty without headers.
    pub(crate) headers: Vec<u8>,
    /// Its payload.
    pub(crate) data: Vec<u8>,
    /// The time of storage, RFC 3339 with nanoseconds.
    pub(crate) time: String,
}

impl Stored {
    /// The payload as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let block = String::from_utf8_lossy(&self.headers);
        let found =
            block.split("\r\n").filter_map(|line| line.split_once(':')).find(|(key, _)| *key == name)?;
        Some(found.1.trim().to_owned())
    }
}

/// `STREAM.MSG.GET` with any body; `None` when there is no such message.
pub(crate) async fn get_message(client: &Client, stream: &str, body: &Value) -> Option<Stored> {
    let answer = api(client, &format!("STREAM.MSG.GET.{stream}"), body).await;
    if answer["error"]["err_code"] == 10037 {
        return None;
    }
    let message = &succeeded(answer)["message"];
    let bytes = |name: &str| {
        let text = message[name].as_str().unwrap_or_default();
        base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
    };
    Some(Stored {
        subject: message["subject"].as_str().expect("a subject").to_owned(),
        seq: message["seq"].as_u64().expect("a sequence"),
        headers: bytes("hdrs"),
        data: bytes("data"),
        time: message["time"].as_str().expect("a time").to_owned(),
    })
}

/// Every message of a stream in order.
pub(crate) async fn all_messages(client: &Client, stream: &str) -> Vec<Stored> {
    let mut found = Vec::new();
    let mut seq = 1;
    while let Some(message) = get_message(client, stream, &json!({"seq": seq, "next_by_subj": ">"})).await {
        seq = message.seq + 1;
        found.push(message);
    }
    found
}

/// What a pull brought: messages, and the status that ended it when one did.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// The messages in order of arrival.
    pub(crate) messages: Vec<Message>,
    /// The ending status (404, 408, 409 ...).
    pub(crate) status: Option<u16>,
}

impl Pulled {
    /// The payloads as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.messages.iter().map(text).collect()
    }
}

/// Sends one pull request and reads until its batch is full or a status ends it; panics when neither comes.
pub(crate) async fn pull(client: &Client, stream: &str, consumer: &str, body: &Value) -> Pulled {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("subscribe");
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
    client.publish_with_reply(subject, inbox, body.to_string().into()).await.expect("publish");
    client.flush().await.expect("flush");
    let batch = body["batch"].as_u64().unwrap_or(1);
    let expires = Duration::from_nanos(body["expires"].as_u64().unwrap_or_default());
    let mut pulled = Pulled { messages: Vec::new(), status: None };
    while (pulled.messages.len() as u64) < batch {
        match tokio::time::timeout(expires + super::PATIENCE, answers.next()).await {
            Err(_) | Ok(None) => panic!("a pull of {body} from {consumer} ended with {:?}", pulled.texts()),
            Ok(Some(message)) => match message.status.map(|status| status.as_u16()) {
                None => pulled.messages.push(message),
                Some(100) => {}
                Some(status) => {
                    pulled.status = Some(status);
                    break;
                }
            },
        }
    }
    pulled
}

/// Pulls up to `batch` messages that are there already.
pub(crate) async fn fetch(client: &Client, stream: &str, consumer: &str, batch: u64) -> Pulled {
    pull(client, stream, consumer, &json!({"batch": batch, "no_wait": true})).await
}

/// Answers a delivery (`+ACK`, `-NAK`, ...) and waits until the server has read it.
pub(crate) async fn answer(client: &Client, message: &Message, body: &str) {
    let reply = message.reply.clone().expect("a delivery has a reply subject");
    client.publish(reply, body.to_owned().into()).await.expect("publish");
    client.flush().await.expect("flush");
}

/// Acknowledges with `+ACK` and waits for the server's confirmation.
pub(crate) async fn ack(client: &Client, message: &Message) {
    let reply = message.reply.clone().expect("a delivery has a reply subject");
    client.request(reply, "+ACK".into()).await.expect("the ack is confirmed");
}

/// A message's payload as text.
pub(crate) fn text(message: &Message) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

/// A header of a message.
pub(crate) fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
}

/// What a delivery's reply subject tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u64,
    /// Its sequence in the stream.
    pub(crate) stream_seq: u64,
    /// The count of this consumer's deliveries.
    pub(crate) consumer_seq: u64,
    /// The time of storage in nanoseconds.
    pub(crate) timestamp: i64,
    /// Matching messages after this one.
    pub(crate) pending: u64,
}

/// Reads `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<timestamp>.<pending>`.
#[track_caller]
pub(crate) fn delivery(message: &Message) -> Delivery {
    let reply = message.reply.as_ref().expect("a delivery has a reply subject").to_string();
    let tokens: Vec<&str> = reply.split('.').collect();
    assert!(tokens.len() == 9 && reply.starts_with("$JS.ACK."), "no ack subject: {reply}");
    let number = |at: usize| tokens[at].parse::<u64>().expect("a number");
    Delivery {
        deliveries: number(4),
        stream_seq: number(5),
        consumer_seq: number(6),
        timestamp: tokens[7].parse().expect("a time"),
        pending: number(8),
    }
}

/// Reads a subscription until nothing comes for `quiet`.
pub(crate) async fn drain(subscriber: &mut async_nats::Subscriber, quiet: Duration) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Ok(Some(message)) = tokio::time::timeout(quiet, subscriber.next()).await {
        messages.push(message);
    }
    messages
}

/// Reads `count` messages, of which there must be one, that are all that was published on their subject up to now.
pub(crate) async fn take_all(
    client: &Client,
    subscriber: &mut async_nats::Subscriber,
    count: usize,
) -> Vec<Message> {
    const END: &str = "the end";
    let messages = take(subscriber, count).await;
    let subject = messages.last().expect("one at least").subject.clone();
    client.publish(subject, END.into()).await.expect("publish");
    let next = take(subscriber, 1).await;
    assert_eq!(text(&next[0]), END, "more than {count} came");
    messages
}

/// Reads `count` messages from a subscription; panics when they do not come.
pub(crate) async fn take(subscriber: &mut async_nats::Subscriber, count: usize) -> Vec<Message> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match tokio::time::timeout(super::PATIENCE, subscriber.next()).await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) | Err(_) => panic!("{} of {count} messages came", messages.len()),
        }
    }
    messages
}
