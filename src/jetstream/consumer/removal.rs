//! Records that leave the stream: by themselves, by its limits, or by a purge.
//!
//! What is gone is neither counted nor waited for: it leaves the pending messages, and the ack floor moves past it.

use weir_protocol::jetstream::consumer::AckPolicy;
use weir_protocol::subject;
use weir_storage::LogState;

use super::advisory::{DELETED, Delivery, LIMITS};
use super::unacked::Position;
use super::{Consumer, View};

/// What left the stream.
#[derive(Clone, Copy, Debug)]
pub enum Removed<'a> {
    /// One record: deleted, expired, evicted, acknowledged.
    One {
        /// Its sequence.
        seq: u64,
        /// Its subject.
        subject: &'a [u8],
    },
    /// Everything below a sequence, by the stream's limits.
    Below {
        /// The first sequence that is left.
        first_seq: u64,
    },
    /// Any number of records, by a purge or a rollup.
    Purged {
        /// The subjects purged; `None` for all.
        filter: Option<&'a [u8]>,
    },
}

impl Consumer {
    /// Records left the stream (the store no longer has them).
    pub fn handle_removed(&mut self, removed: Removed<'_>, view: &mut View<'_>) {
        match removed {
            Removed::One { seq, subject } => self.take_removed_one(seq, subject, view),
            Removed::Below { first_seq } => self.take_removed_below(first_seq, view),
            Removed::Purged { filter } => self.take_purged(filter, view),
        }
    }

    fn take_removed_one(&mut self, seq: u64, subject: &[u8], view: &mut View<'_>) {
        if self.count.covers(seq) && self.is_ahead(seq) && self.filter.matches(subject) {
            self.count.take_one();
        }
        if self.unacked.get(seq).is_some() {
            self.terminate(seq, DELETED, view);
        } else {
            self.forget_count(seq, view.now);
        }
    }

    /// Whether `seq` is still to be delivered for the first time.
    fn is_ahead(&self, seq: u64) -> bool {
        match &self.skip {
            Some(skip) => seq > skip.resume || skip.seqs.binary_search(&seq).is_ok(),
            None => seq >= self.next_seq,
        }
    }

    /// A pending message whose record is gone.
    pub(super) fn terminate(&mut self, seq: u64, reason: &str, view: &mut View<'_>) {
        let Some(entry) = self.unacked.get(seq) else { return };
        let delivery = Delivery {
            consumer_seq: entry.consumer_seq,
            stream_seq: seq,
            deliveries: self.unacked.deliveries(seq),
        };
        self.settle(seq);
        self.unacked.forget(seq);
        self.advise_terminated(&delivery, reason, view);
        self.keeping.acked(view.now);
    }

    fn take_removed_below(&mut self, first_seq: u64, view: &mut View<'_>) {
        if self.first_wanted() < first_seq {
            self.count.spoil();
        }
        if let Some(below) = first_seq.checked_sub(1) {
            for seq in self.unacked.up_to(below) {
                self.terminate(seq, LIMITS, view);
            }
        }
        self.unacked.forget_below(first_seq);
        if self.skip.is_none() {
            self.next_seq = self.next_seq.max(first_seq);
        }
    }

    fn first_wanted(&self) -> u64 {
        self.skip.as_ref().and_then(|skip| skip.seqs.front().copied()).unwrap_or(self.next_seq)
    }

    fn take_purged(&mut self, filter: Option<&[u8]>, view: &mut View<'_>) {
        if filter.is_some_and(|filter| !self.filter.touches(filter)) {
            return;
        }
        let state = view.store.state(view.log).unwrap_or_default();
        // Where everything this consumer wants was purged, it goes on at what is left of it.
        let first_left = match filter {
            Some(purged) if self.filter.is_within(purged) => first_match(purged, &state, view),
            Some(_) | None => state.first_seq,
        };
        self.drop_gone(view);
        if let Some(skip) = &mut self.skip {
            skip.seqs.retain(|seq| *seq >= first_left);
        }
        if self.skip.as_ref().is_some_and(|skip| skip.seqs.is_empty()) {
            self.leave_skip_list();
        }
        if self.next_seq < first_left {
            self.next_seq = first_left;
            self.delivered.stream = self.delivered.stream.max(first_left.saturating_sub(1));
        }
        match self.unacked.first() {
            None => {
                let passed = self.next_seq.saturating_sub(1);
                self.delivered.stream = self.delivered.stream.max(passed);
                self.floor = Position { consumer: self.delivered.consumer, stream: passed };
            }
            Some((seq, entry)) => {
                let (consumer, stream) = (entry.consumer_seq.saturating_sub(1), seq.saturating_sub(1));
                self.floor.consumer = self.floor.consumer.max(consumer);
                self.floor.stream = self.floor.stream.max(stream.min(first_left.saturating_sub(1)));
            }
        }
        if self.config.ack_policy == AckPolicy::None {
            self.floor = self.delivered;
        }
        self.count.spoil();
        self.keeping.acked(view.now);
        self.wants_drive = true;
    }

    /// Drops what is known about records that are gone, without a word.
    pub(super) fn drop_gone(&mut self, view: &View<'_>) {
        let pending = self.unacked.iter().map(|(seq, _)| seq);
        let mut seqs: Vec<u64> = pending.chain(self.unacked.redelivered().keys().copied()).collect();
        seqs.sort_unstable();
        seqs.dedup();
        for seq in seqs {
            // What cannot be read is still there: its delivery will say what is wrong.
            if matches!(view.store.get(view.log, seq), Ok(None)) {
                self.settle(seq);
                self.unacked.forget(seq);
            }
        }
    }
}

/// The first record on a subject that matches `filter`, or what comes after the last.
fn first_match(filter: &[u8], state: &LogState, view: &View<'_>) -> u64 {
    let after = state.last_seq.saturating_add(1);
    if subject::is_literal(filter) {
        return view.store.subject(view.log, filter).map_or(after, |numbers| numbers.first_seq);
    }
    let matcher = |subject: &[u8]| subject::matches(subject, filter);
    let subjects = view.store.subjects(view.log, Some(&matcher));
    subjects.iter().map(|(_, numbers)| numbers.first_seq).min().unwrap_or(after)
}
