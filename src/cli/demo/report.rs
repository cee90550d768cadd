//! What a demo found, for `--json`. Every count says who counted.

use serde::Serialize;

use super::ledger::Judgement;

/// The counts of a demo.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Events that the HTTP monitor answered with 2xx, all devices together.
    pub(crate) published: u64,
    /// Events that it refused.
    pub(crate) refused: u64,
    /// Events without an answer.
    pub(crate) unknown: u64,
    /// Messages in the recording's stream, as the stream tells.
    pub(crate) recorded: u64,
    /// Messages that an independent subscriber received from the replay.
    pub(crate) replayed: u64,
    /// The recording against what was accepted in its span.
    pub(crate) recording: Judgement,
    /// Whether the replay had the recording's messages in the recording's order, each once.
    pub(crate) replay_is_exact: bool,
    /// How far the recording reaches back before its start, in seconds.
    pub(crate) pre_roll_s: f64,
    /// Messages from before its start.
    pub(crate) pre_roll_messages: u64,
    /// From the recording's first to its last message, in seconds.
    pub(crate) recorded_s: f64,
    /// The same in the replay, as the subscriber saw it.
    pub(crate) replayed_s: f64,
    /// The replay's speed.
    pub(crate) speed: f64,
}

impl Report {
    /// Whether nothing is missing, doubled or out of place.
    pub(crate) fn is_exact(&self) -> bool {
        self.recording.is_exact()
            && self.replay_is_exact
            && self.recorded > 0
            && self.replayed == self.recorded
    }
}
