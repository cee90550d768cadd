//! The last stage of a replay: publishes each message as it leaves the pacer, under its new subject, with headers that say
//! where it comes from.
//!
//! Progress is told only of what the server has, so whoever goes on from it loses nothing.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use weir_protocol::header;
use weir_protocol::jetstream::publish::{MSG_ID, ROLLUP, TTL};
use weir_protocol::time::format_rfc3339;

use super::pacer::Paced;
use super::{Progress, Recording, ReplayError, Target};
use crate::client::Client;
use crate::client::jetstream::StoredMessage;
use crate::sys::clock::SharedClock;

/// The device a message was recorded from.
const HEADER_DEVICE: &str = "X-Streams-Device";
/// The session it is in.
const HEADER_SESSION: &str = "X-Streams-Session";
/// When it was recorded, RFC 3339 with nanoseconds.
const HEADER_RECORDED_AT: &str = "X-Streams-Recorded-At";
/// When it was replayed, RFC 3339 with nanoseconds.
const HEADER_REPLAYED_AT: &str = "X-Streams-Replayed-At";

/// Headers that tell a stream what to do with a message. They were obeyed when it was recorded; replayed, they would make
/// a stream refuse it as a duplicate, or remove what it holds.
const INSTRUCTIONS: [&str; 3] = [MSG_ID, ROLLUP, TTL];
/// What the names of all headers begin with that make a stream refuse a message unless it finds what they expect.
const EXPECTATION: &str = "Nats-Expected-";

/// How often progress is told, and flushed to the server before.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Where messages go, and who is told of it.
pub(super) struct Publisher {
    pub(super) client: Client,
    pub(super) clock: SharedClock,
    pub(super) recording: Recording,
    pub(super) target: Target,
    pub(super) progress: watch::Sender<Progress>,
}

impl Publisher {
    pub(super) async fn publish(
        self,
        mut due: mpsc::Receiver<Paced<StoredMessage>>,
    ) -> Result<(), ReplayError> {
        let mut progress = self.progress.borrow().clone();
        let mut told_at = self.clock.monotonic();
        while let Some(Paced { message, .. }) = due.recv().await {
            if let Some(subject) = self.subject(&message) {
                let headers = self.headers(&message);
                let sent = self.client.publish(&subject, Some(&headers), message.payload.clone()).await;
                sent.map_err(|source| ReplayError::Publish { sequence: message.sequence, subject, source })?;
                progress.published = progress.published.saturating_add(1);
            }
            progress.next_sequence = message.sequence.saturating_add(1);
            progress.recorded_at = message.time;
            if self.clock.monotonic().saturating_sub(told_at) >= PROGRESS_INTERVAL {
                self.tell(&progress).await?;
                told_at = self.clock.monotonic();
            }
        }
        self.tell(&progress).await
    }

    /// Tells how far the replay is, once the server has it all.
    async fn tell(&self, progress: &Progress) -> Result<(), ReplayError> {
        self.client.flush().await?;
        self.progress.send_replace(progress.clone());
        Ok(())
    }

    fn subject(&self, message: &StoredMessage) -> Option<String> {
        match &self.target {
            Target::Subject(subject) => Some(subject.clone()),
            Target::Transforms(transforms) => {
                let subject =
                    transforms.iter().find_map(|transform| transform.apply(message.subject.as_bytes()))?;
                String::from_utf8(subject).ok()
            }
        }
    }

    fn headers(&self, message: &StoredMessage) -> Bytes {
        header::Builder::extend(&without_instructions(&message.headers))
            .add(HEADER_DEVICE, &self.recording.device)
            .add(HEADER_SESSION, &self.recording.session)
            .add(HEADER_RECORDED_AT, format_rfc3339(message.time))
            .add(HEADER_REPLAYED_AT, format_rfc3339(self.clock.wall()))
            .finish()
    }
}

/// The headers of a recorded message without those that do not hold for its replay.
fn without_instructions(headers: &Bytes) -> Bytes {
    let mut block = headers.clone();
    // What an earlier replay said of itself does not hold for this one either.
    let ours = [HEADER_DEVICE, HEADER_SESSION, HEADER_RECORDED_AT, HEADER_REPLAYED_AT];
    for name in INSTRUCTIONS.into_iter().chain(ours) {
        if header::get(&block, name).is_some() {
            block = header::remove(&block, name);
        }
    }
    if memchr::memmem::find(&block, EXPECTATION.as_bytes()).is_some() {
        block = header::remove_prefix(&block, EXPECTATION);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_header_of_the_recording_steers_a_stream_again() {
        let mut block = header::Builder::new();
        for name in [
            "Nats-Msg-Id",
            "Nats-Rollup",
            "Nats-TTL",
            "Nats-Expected-Stream",
            "Nats-Expected-Last-Sequence",
            "Nats-Expected-Last-Subject-Sequence",
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "Nats-Expected-Last-Msg-Id",
            "X-Streams-Session",
        ] {
            block.add(name, "1");
        }
        assert_eq!(without_instructions(&block.finish()), &b""[..]);
        let other = Bytes::from_static(b"NATS/1.0\r\nX-Type: Nats-Expected-\r\n\r\n");
        assert_eq!(without_instructions(&other), other);
        assert_eq!(without_instructions(&Bytes::new()), Bytes::new());
    }
}
