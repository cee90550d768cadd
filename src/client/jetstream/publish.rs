//! Publishing into a stream: the acknowledgement is an answer to the publish.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::{JetStream, JetStreamError, error};
use crate::client::Replies;

/// A message's place in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PubAck {
    /// The stream that stored it.
    pub stream: String,
    /// Its sequence there.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// A message with this `Nats-Msg-Id` was stored before; `sequence` is its place.
    #[serde(default)]
    pub duplicate: bool,
}

/// An acknowledgement still to come. Dropping it forgets the answer, not the message.
#[must_use = "nobody knows whether the message was stored until the acknowledgement is read"]
pub struct PendingAck {
    subject: String,
    replies: Replies,
}

pub(super) async fn start(
    jetstream: &JetStream,
    subject: &str,
    headers: Option<&Bytes>,
    payload: Bytes,
    timeout: Duration,
) -> Result<PendingAck, JetStreamError> {
    let replies = jetstream.client.start_request(subject, headers, payload, timeout).await?;
    Ok(PendingAck { subject: subject.to_owned(), replies })
}

impl PendingAck {
    /// Waits for it.
    ///
    /// # Errors
    /// No stream listens on the subject, the stream refuses, or no answer in time.
    pub async fn ack(self) -> Result<PubAck, JetStreamError> {
        let reply = self.replies.reply().await?;
        error::parse(&self.subject, &reply.payload)
    }
}
