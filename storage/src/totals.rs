//! The numbers of a log, and how a record that comes or goes changes them: the owner's index counts as redb's row does.
//!
//! Without records `first_seq` is `last_seq + 1`, and bytes and first time are zero. Which record is the first one, after
//! one is gone, only who has the records knows.

use crate::log::Cost;
use crate::record::{Frame, cost_of};

/// How many records, how many bytes, from where to where. The fields are those of [`crate::LogState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
}

impl Totals {
    /// Of a new log.
    pub(crate) fn from(first_seq: u64) -> Self {
        let last_seq = first_seq.saturating_sub(1);
        Self { messages: 0, bytes: 0, first_seq: last_seq + 1, last_seq, first_time: 0, last_time: 0 }
    }

    /// A record comes, behind all others.
    pub(crate) fn add(&mut self, frame: &Frame<'_>, cost: Cost) {
        if self.messages == 0 {
            self.first_seq = frame.seq;
            self.first_time = frame.time;
        }
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(cost_of(cost, frame));
        self.last_seq = frame.seq;
        self.last_time = frame.time;
    }

    /// Records go; [`Self::begin_with`] is to follow. Damage may have kept some of them from being counted.
    pub(crate) fn subtract(&mut self, messages: u64, bytes: u64) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The first record is this one, as far as that is known.
    pub(crate) fn begin_with(&mut self, first: Option<(u64, i64)>) {
        if self.messages == 0 {
            self.clear();
        } else if let Some((seq, time)) = first {
            self.first_seq = seq;
            self.first_time = time;
        }
    }

    /// Every sequence up to `last_seq` is used.
    pub(crate) fn skip_to(&mut self, last_seq: u64) {
        self.last_seq = self.last_seq.max(last_seq);
        self.begin_with(None);
    }

    /// Every record goes; the sequences stay used.
    pub(crate) fn clear(&mut self) {
        *self = Self { messages: 0, bytes: 0, first_seq: self.last_seq + 1, first_time: 0, ..*self };
    }
}
