//! Reading messages of a stream: one, or many in sequence by bounded batches of direct get.
//!
//! A read leaves nothing on the server: no consumer, no acknowledgement wait that could run out. A stream without
//! `allow_direct` is read message by message through the API.

use std::collections::VecDeque;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_protocol::header;

use super::types::parse_time;
use super::{JetStream, JetStreamError, error};
use crate::client::{Message, RequestError};

const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// What a direct get adds behind the stored headers.
const ADDED: [&[u8]; 6] = [
    b"Nats-Stream",
    b"Nats-Subject",
    b"Nats-Sequence",
    b"Nats-Time-Stamp",
    b"Nats-Num-Pending",
    b"Nats-Last-Sequence",
];

/// Which message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MessageSelector {
    /// This sequence; with `next_by_subj`, the first at or after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The last whose subject matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_by_subj: Option<String>,
    /// The next whose subject matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_by_subj: Option<String>,
    /// The first at or after this time, nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "rfc3339")]
    pub start_time: Option<i64>,
}

impl MessageSelector {
    /// The message with this sequence.
    #[must_use]
    pub fn sequence(sequence: u64) -> Self {
        Self { seq: Some(sequence), ..Self::default() }
    }

    /// The first message at or after this sequence.
    #[must_use]
    pub fn from(sequence: u64) -> Self {
        Self { seq: Some(sequence), next_by_subj: Some(">".to_owned()), ..Self::default() }
    }

    /// The first message at or after a time, nanoseconds since 1970.
    #[must_use]
    pub fn since(time: i64) -> Self {
        Self { start_time: Some(time), ..Self::default() }
    }

    /// The last message whose subject matches.
    #[must_use]
    pub fn last_on(filter: &str) -> Self {
        Self { last_by_subj: Some(filter.to_owned()), ..Self::default() }
    }
}

#[expect(clippy::ref_option, reason = "serde wants a reference")]
fn rfc3339<S: serde::Serializer>(time: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&weir_protocol::time::format_rfc3339(time.unwrap_or_default()))
}

/// A message as a stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored, nanoseconds since 1970.
    pub time: i64,
    /// Its header block as stored; empty when there is none.
    pub headers: Bytes,
    /// Its payload.
    pub payload: Bytes,
}

pub(super) async fn get(
    jetstream: &JetStream,
    stream: &str,
    selector: &MessageSelector,
) -> Result<Option<StoredMessage>, JetStreamError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Raw,
    }
    #[derive(Deserialize)]
    struct Raw {
        subject: String,
        seq: u64,
        time: String,
        #[serde(default)]
        hdrs: String,
        #[serde(default)]
        data: String,
    }
    let call = format!("STREAM.MSG.GET.{stream}");
    let raw = match jetstream.call::<Answer>(&call, &error::to_json(selector)?).await {
        Ok(answer) => answer.message,
        Err(error) if error.err_code() == Some(10_037) => return Ok(None),
        Err(error) => return Err(error),
    };
    let malformed = |reason: String| JetStreamError::Malformed { subject: format!("$JS.API.{call}"), reason };
    Ok(Some(StoredMessage {
        subject: raw.subject,
        sequence: raw.seq,
        time: parse_time(&raw.time).ok_or_else(|| malformed(format!("time {:?}", raw.time)))?,
        headers: STANDARD.decode(&raw.hdrs).map_err(|error| malformed(error.to_string()))?.into(),
        payload: STANDARD.decode(&raw.data).map_err(|error| malformed(error.to_string()))?.into(),
    }))
}

pub(super) async fn direct_get(
    jetstream: &JetStream,
    stream: &str,
    selector: &MessageSelector,
) -> Result<Option<StoredMessage>, JetStreamError> {
    let subject = format!("$JS.API.DIRECT.GET.{stream}");
    let body = error::to_json(selector)?.to_string().into();
    let reply = jetstream.client.request(&subject, None, body, jetstream.timeout).await?;
    match read_reply(&subject, &reply)? {
        Reply::Message(message) => Ok(Some(message)),
        Reply::End { .. } | Reply::Nothing => Ok(None),
    }
}

enum Reply {
    Message(StoredMessage),
    /// The end of a batch, with the number of messages left behind it.
    End {
        pending: u64,
    },
    Nothing,
}

fn read_reply(subject: &str, reply: &Message) -> Result<Reply, JetStreamError> {
    let number = |name: &str| reply.header(name).and_then(|value| value.parse::<u64>().ok());
    match reply.status() {
        Some(204) => return Ok(Reply::End { pending: number("Nats-Num-Pending").unwrap_or_default() }),
        Some(404) => return Ok(Reply::Nothing),
        Some(code) => {
            return Err(JetStreamError::Status {
                subject: subject.to_owned(),
                code,
                text: reply.status_text(),
            });
        }
        None => {}
    }
    let (headers, added) = split_added(&reply.headers);
    let find = |name: &[u8]| added.iter().find(|(added, _)| *added == name).map(|(_, value)| value.as_str());
    let malformed = |name: &str| JetStreamError::Malformed {
        subject: subject.to_owned(),
        reason: format!("header {name} is missing or wrong"),
    };
    Ok(Reply::Message(StoredMessage {
        subject: find(b"Nats-Subject").ok_or_else(|| malformed("Nats-Subject"))?.to_owned(),
        sequence: find(b"Nats-Sequence")
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| malformed("Nats-Sequence"))?,
        time: find(b"Nats-Time-Stamp").and_then(parse_time).ok_or_else(|| malformed("Nats-Time-Stamp"))?,
        headers,
        payload: reply.payload.clone(),
    }))
}

/// Takes the headers that the direct get added off the end. A stored message may carry headers of the same names, which
/// stand before: each name is taken off once.
fn split_added(block: &Bytes) -> (Bytes, Vec<(&'static [u8], String)>) {
    let mut end = block.len().saturating_sub(2);
    let mut added: Vec<(&'static [u8], String)> = Vec::new();
    while let Some(line_end) = end.checked_sub(2) {
        let head = block.get(..line_end).unwrap_or_default();
        let start = memchr::memmem::rfind(head, b"\r\n").map_or(0, |at| at + 2);
        let line = head.get(start..).unwrap_or_default();
        let Some((name, value)) = memchr::memchr(b':', line).and_then(|at| line.split_at_checked(at)) else {
            break;
        };
        let Some(name) = ADDED.into_iter().find(|known| *known == name) else { break };
        if added.iter().any(|(seen, _)| *seen == name) {
            break;
        }
        let value = String::from_utf8_lossy(value.get(1..).unwrap_or_default()).trim_start().to_owned();
        added.push((name, value));
        end = start;
    }
    let mut rest = BytesMut::from(block.get(..end).unwrap_or_default());
    rest.extend_from_slice(b"\r\n");
    let rest = if rest.len() <= header::EMPTY.len() { Bytes::new() } else { rest.freeze() };
    (rest, added)
}

/// Some messages in sequence.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// They.
    pub messages: Vec<StoredMessage>,
    /// How many matching messages the stream held behind them.
    pub pending: u64,
}

/// Reads a stream forward. See [`JetStream::reader`].
#[derive(Clone, Debug)]
pub struct Reader {
    jetstream: JetStream,
    stream: String,
    next: u64,
    filter: Option<String>,
    direct: bool,
    ready: VecDeque<StoredMessage>,
}

impl Reader {
    pub(super) fn new(jetstream: JetStream, stream: &str, sequence: u64, filter: Option<&str>) -> Self {
        Self {
            jetstream,
            stream: stream.to_owned(),
            next: sequence.max(1),
            filter: filter.map(str::to_owned),
            direct: true,
            ready: VecDeque::new(),
        }
    }

    /// The next messages, at most 256 or about 1 MiB; none when the stream holds no more at this moment.
    ///
    /// # Errors
    /// As [`JetStream::call`]. The reader stays where it was and can be asked again.
    pub async fn next_batch(&mut self) -> Result<Batch, JetStreamError> {
        let batch = if self.direct {
            match self.direct_batch().await {
                Err(JetStreamError::Request(RequestError::NoResponders { .. })) => {
                    self.direct = false;
                    self.single().await?
                }
                other => other?,
            }
        } else {
            self.single().await?
        };
        if let Some(last) = batch.messages.last() {
            self.next = last.sequence.saturating_add(1);
        }
        Ok(batch)
    }

    /// The next message; `None` when the stream holds no more at this moment.
    ///
    /// # Errors
    /// As [`next_batch`](Self::next_batch).
    pub async fn next(&mut self) -> Result<Option<StoredMessage>, JetStreamError> {
        if self.ready.is_empty() {
            let batch = self.next_batch().await?;
            self.ready.extend(batch.messages);
        }
        Ok(self.ready.pop_front())
    }

    async fn direct_batch(&self) -> Result<Batch, JetStreamError> {
        let subject = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let filter = self.filter.as_deref().unwrap_or(">");
        let body = json!({
            "seq": self.next, "next_by_subj": filter, "batch": BATCH_MESSAGES, "max_bytes": BATCH_BYTES,
        });
        let client = &self.jetstream.client;
        let mut replies =
            client.start_request(&subject, None, body.to_string().into(), self.jetstream.timeout).await?;
        let mut batch = Batch::default();
        loop {
            match read_reply(&subject, &replies.next().await?)? {
                Reply::Message(message) => batch.messages.push(message),
                Reply::End { pending } => {
                    batch.pending = pending;
                    return Ok(batch);
                }
                Reply::Nothing => return Ok(batch),
            }
        }
    }

    async fn single(&self) -> Result<Batch, JetStreamError> {
        let selector = MessageSelector {
            seq: Some(self.next),
            next_by_subj: Some(self.filter.clone().unwrap_or_else(|| ">".to_owned())),
            ..MessageSelector::default()
        };
        let messages: Vec<_> = get(&self.jetstream, &self.stream, &selector).await?.into_iter().collect();
        let pending = u64::from(!messages.is_empty());
        Ok(Batch { messages, pending })
    }
}

/// The fields that a selector sends, for the log.
impl std::fmt::Display for MessageSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        serde_json::to_value(self).unwrap_or(Value::Null).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_added_headers_are_taken_off() {
        let block = Bytes::from_static(
            b"NATS/1.0\r\nA: 1\r\nNats-Stream: stored\r\nNats-Stream: S\r\nNats-Subject: a.b\r\nNats-Sequence: 7\r\n\
              Nats-Time-Stamp: 2026-01-01T00:00:00.000000001Z\r\n\r\n",
        );
        let (headers, added) = split_added(&block);
        assert_eq!(headers, "NATS/1.0\r\nA: 1\r\nNats-Stream: stored\r\n\r\n");
        assert_eq!(added.len(), 4);
        assert_eq!(added.last().map(|(_, value)| value.as_str()), Some("S"));
    }

    #[test]
    fn a_message_without_headers_of_its_own_has_none() {
        let block =
            Bytes::from_static(b"NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: a\r\nNats-Sequence: 7\r\n\r\n");
        assert_eq!(split_added(&block).0, "");
        assert_eq!(split_added(&Bytes::from_static(b"NATS/1.0\r\n\r\n")), (Bytes::new(), vec![]));
        assert_eq!(split_added(&Bytes::new()).0, "");
    }

    #[test]
    fn a_time_is_sent_with_all_its_nanoseconds() {
        let selector = MessageSelector::since(1_767_225_600_000_000_001);
        assert_eq!(selector.to_string(), r#"{"start_time":"2026-01-01T00:00:00.000000001Z"}"#);
    }
}
