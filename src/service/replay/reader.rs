//! The first stage of a replay: reads the recording ahead of time, round after round.
//!
//! Bounded by the pacer's channel, and by the message that was the recording's last when the replay began.

use tokio::sync::mpsc;

use super::ReplayError;
use super::pacer::Paced;
use crate::client::jetstream::{JetStream, Reader, StoredMessage};

/// What is read, and how often.
pub(super) struct RecordingReader {
    pub(super) jetstream: JetStream,
    pub(super) stream: String,
    pub(super) filter: Option<String>,
    /// The sequence to begin with.
    pub(super) first: u64,
    /// The recording's last sequence when the replay began.
    pub(super) last: u64,
    /// Messages recorded at this time or later are left out.
    pub(super) to: Option<i64>,
    /// How often; 0 means until nobody wants more.
    pub(super) rounds: u64,
}

impl RecordingReader {
    /// Sends the recording on, round after round, until its end or until nobody wants more.
    pub(super) async fn read(self, input: mpsc::Sender<Paced<StoredMessage>>) -> Result<(), ReplayError> {
        let mut round = 0;
        while self.rounds == 0 || round < self.rounds {
            let reader = self.jetstream.reader(&self.stream, self.first, self.filter.as_deref());
            let sent = self.read_once(reader, &input).await?;
            if sent == 0 || input.is_closed() {
                break;
            }
            round = round.saturating_add(1);
        }
        Ok(())
    }

    async fn read_once(
        &self,
        mut reader: Reader,
        input: &mpsc::Sender<Paced<StoredMessage>>,
    ) -> Result<u64, ReplayError> {
        let mut sent = 0u64;
        while let Some(message) = reader.next().await? {
            let beyond = message.sequence > self.last || self.to.is_some_and(|to| message.time >= to);
            if beyond {
                break;
            }
            if input.send(Paced { time: message.time, message }).await.is_err() {
                break;
            }
            sent = sent.saturating_add(1);
        }
        Ok(sent)
    }
}
