//! Where a consumer starts, and how it is set back.
//!
//! Everything below the start counts as delivered and acknowledged, so the ack floor never lies above what was delivered.

use std::collections::VecDeque;

use weir_protocol::jetstream::ApiError;
use weir_protocol::jetstream::consumer::DeliverPolicy;
use weir_protocol::jetstream::error;
use weir_storage::ReadError;

use super::unacked::Position;
use super::{Consumer, View};
use crate::jetstream::stream::config::SEQUENCE_MAX;

/// The last messages of all subjects as a `last_per_subject` consumer found them at its creation, then everything
/// after `resume`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SkipList {
    /// What is left of them, by sequence.
    pub(super) seqs: VecDeque<u64>,
    /// The stream's last sequence when the list was made.
    pub(super) resume: u64,
}

/// The answer when the stream cannot be read.
pub(super) fn unreadable(error: &ReadError) -> ApiError {
    error::CONSUMER_STORE_FAILED.with(error)
}

impl Consumer {
    /// Chooses the first sequence by the deliver policy.
    pub(super) fn select_start(&mut self, view: &View<'_>) -> Result<(), ReadError> {
        let state = view.store.state(view.log).unwrap_or_default();
        let after = state.last_seq.saturating_add(1);
        let mut start = match self.config.deliver_policy {
            DeliverPolicy::All => state.first_seq,
            DeliverPolicy::New => after,
            DeliverPolicy::Last if self.filter.is_all() => state.last_seq,
            DeliverPolicy::Last => self.last_match(state.last_seq, view)?.unwrap_or(state.first_seq),
            // May lie beyond the end, except for mirrors and sources.
            DeliverPolicy::ByStartSequence if self.config.direct => self.config.opt_start_seq.min(after),
            DeliverPolicy::ByStartSequence => self.config.opt_start_seq,
            DeliverPolicy::ByStartTime => self.start_of_time(view)?.unwrap_or(after),
            // With one message per subject that is everything there is.
            DeliverPolicy::LastPerSubject if view.config.max_msgs_per_subject == 1 => state.first_seq,
            DeliverPolicy::LastPerSubject => {
                let list = self.list_lasts(state.last_seq, 0, view)?;
                let first = list.seqs.front().copied().unwrap_or(state.last_seq);
                self.skip = (!list.seqs.is_empty()).then_some(list);
                first
            }
        };
        start = start.max(state.first_seq).max(1);
        self.begin_at(start);
        Ok(())
    }

    /// Everything below `start` counts as delivered and acknowledged.
    fn begin_at(&mut self, start: u64) {
        self.next_seq = start;
        self.delivered = Position { consumer: 0, stream: start.saturating_sub(1) };
        self.floor = self.delivered;
    }

    fn start_of_time(&self, view: &View<'_>) -> Result<Option<u64>, ReadError> {
        let time = self.config.opt_start_time.and_then(|time| time.nanos()).unwrap_or(i64::MIN);
        view.store.seek_time(view.log, time)
    }

    fn last_match(&self, up_to: u64, view: &View<'_>) -> Result<Option<u64>, ReadError> {
        let found = match self.filter.literal() {
            Some(subject) => view.store.subject(view.log, subject).map(|state| state.last_seq),
            None => {
                let matcher = |subject: &[u8]| self.filter.matches(subject);
                view.store.last(view.log, up_to, Some(&matcher))?.map(|record| record.seq)
            }
        };
        Ok(found)
    }

    /// The last message of every wanted subject at or below `resume`, from `from` on.
    pub(super) fn list_lasts(&self, resume: u64, from: u64, view: &View<'_>) -> Result<SkipList, ReadError> {
        let matcher = |subject: &[u8]| self.filter.matches(subject);
        let mut seqs = Vec::new();
        for (subject, state) in view.store.subjects(view.log, Some(&matcher)) {
            if state.first_seq > resume {
                continue;
            }
            let last = if state.last_seq <= resume {
                Some(state.last_seq)
            } else {
                let exactly = |other: &[u8]| other == subject;
                view.store.last(view.log, resume, Some(&exactly))?.map(|record| record.seq)
            };
            seqs.extend(last.filter(|seq| *seq >= from));
        }
        seqs.sort_unstable();
        Ok(SkipList { seqs: seqs.into(), resume })
    }

    /// Sets the consumer back (or forward) to `seq`, or to its ack floor when `seq` is 0; what was pending is
    /// forgotten and consumer sequences start again. Returns the next sequence to be delivered.
    ///
    /// # Errors
    /// 10204 when the deliver policy does not allow it, 10104 when the stream cannot be read.
    pub fn reset(&mut self, seq: u64, view: &mut View<'_>) -> Result<u64, ApiError> {
        let refuse = |why: &str| Err(error::CONSUMER_INVALID_RESET.with(why));
        if seq > SEQUENCE_MAX {
            return refuse(&format!("sequence {seq} exceeds the maximum of {SEQUENCE_MAX}"));
        }
        let seq = match (seq, self.config.deliver_policy) {
            (0, _) => self.floor.stream.saturating_add(1),
            (_, DeliverPolicy::All) => seq,
            (_, DeliverPolicy::ByStartSequence) if seq < self.config.opt_start_seq => {
                return refuse("below start seq");
            }
            (_, DeliverPolicy::ByStartTime) => {
                let after = view.store.state(view.log).unwrap_or_default().last_seq.saturating_add(1);
                let first = self.start_of_time(view).map_err(|error| unreadable(&error))?.unwrap_or(after);
                if seq < first {
                    return refuse("below start time");
                }
                seq
            }
            (_, DeliverPolicy::ByStartSequence) => seq,
            (_, DeliverPolicy::Last | DeliverPolicy::New | DeliverPolicy::LastPerSubject) => {
                return refuse("not allowed");
            }
        };
        self.unacked.clear();
        self.skip = None;
        self.begin_at(seq);
        (self.delivered_at, self.acked_at) = (None, None);
        self.count.spoil();
        self.keeping.must(view.now);
        self.wants_drive = true;
        Ok(seq)
    }
}
