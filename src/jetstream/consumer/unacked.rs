//! What was delivered and not acknowledged: the pending messages, when each falls due again, which wait to be delivered
//! again and how often each was.
//!
//! Invariant while anything is pending: the ack floor is one below the pending message with the lowest stream sequence,
//! in both sequences (from the first acknowledgement on). A message is delivered under a new consumer sequence each
//! time, but counts for the floor under its first. Deliberately absent: the policy of acks, the store, the clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A position: the consumer's own sequence and the stream's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The consumer's sequence: counts deliveries.
    pub(super) consumer: u64,
    /// The stream's sequence.
    pub(super) stream: u64,
}

/// A delivered message that is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The consumer sequence of the first delivery.
    pub(super) consumer_seq: u64,
    /// When it was delivered last, in nanoseconds since 1970.
    pub(super) delivered_at: i64,
    /// When it falls due for another delivery; `None` while it is queued for one, or when it never falls due.
    pub(super) due: Option<i64>,
    /// Its ticket while it is queued for another delivery.
    pub(super) queued: Option<u64>,
}

/// The pending messages of a consumer.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    entries: BTreeMap<u64, Entry>,
    due: BTreeSet<(i64, u64)>,
    /// Sequences with their tickets; one whose ticket is no longer that of its entry is skipped.
    queue: VecDeque<(u64, u64)>,
    queued: usize,
    tickets: u64,
    /// How often a message was delivered again, after the first delivery. Kept for a message given up (it reached
    /// `max_deliver`) until it leaves the stream.
    again: BTreeMap<u64, u64>,
}

impl Unacked {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(&seq)
    }

    /// The pending messages by stream sequence.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(seq, entry)| (*seq, entry))
    }

    /// The pending messages at or below `seq`.
    pub(super) fn up_to(&self, seq: u64) -> Vec<u64> {
        self.entries.range(..=seq).map(|(seq, _)| *seq).collect()
    }

    /// Remembers a delivery: a new message under `consumer_seq`, or another delivery of a pending one.
    pub(super) fn delivered(&mut self, seq: u64, consumer_seq: u64, now: i64, due: Option<i64>) {
        let entry = self.entries.entry(seq).or_insert(Entry {
            consumer_seq,
            delivered_at: now,
            due: None,
            queued: None,
        });
        if let Some(old) = entry.due.take() {
            self.due.remove(&(old, seq));
        }
        if entry.queued.take().is_some() {
            self.queued = self.queued.saturating_sub(1);
        }
        entry.delivered_at = now;
        entry.due = due;
        if let Some(due) = due {
            self.due.insert((due, seq));
        }
    }

    /// Puts off the next delivery of a pending message, taking it off the queue. False when it is not pending.
    pub(super) fn put_off(&mut self, seq: u64, due: Option<i64>) -> bool {
        let Some(entry) = self.entries.get(&seq) else { return false };
        let (consumer_seq, delivered_at) = (entry.consumer_seq, entry.delivered_at);
        self.delivered(seq, consumer_seq, delivered_at, due);
        true
    }

    /// The client still works on it: as [`Self::put_off`], counted from `now`.
    pub(super) fn in_progress(&mut self, seq: u64, now: i64, due: Option<i64>) {
        if let Some(entry) = self.entries.get(&seq) {
            let consumer_seq = entry.consumer_seq;
            self.delivered(seq, consumer_seq, now, due);
        }
    }

    /// Queues a pending message for another delivery. False when it is not pending or queued already.
    pub(super) fn enqueue(&mut self, seq: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&seq) else { return false };
        if entry.queued.is_some() {
            return false;
        }
        self.tickets = self.tickets.wrapping_add(1);
        entry.queued = Some(self.tickets);
        if let Some(old) = entry.due.take() {
            self.due.remove(&(old, seq));
        }
        self.queued = self.queued.saturating_add(1);
        self.queue.push_back((seq, self.tickets));
        true
    }

    /// The message to be delivered again next; it stays queued until it is delivered or removed.
    pub(super) fn next_queued(&mut self) -> Option<u64> {
        while let Some((seq, ticket)) = self.queue.front().copied() {
            if self.entries.get(&seq).is_some_and(|entry| entry.queued == Some(ticket)) {
                return Some(seq);
            }
            self.queue.pop_front();
        }
        None
    }

    /// How many wait for another delivery.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// The stream sequences that fell due at or before `now`, by stream sequence.
    pub(super) fn take_due(&self, now: i64) -> Vec<u64> {
        let mut seqs: Vec<u64> = self.due.range(..=(now, u64::MAX)).map(|(_, seq)| *seq).collect();
        seqs.sort_unstable();
        seqs
    }

    /// When the next message falls due.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Takes a message out of the pending ones. Its delivery count stays; see [`Self::forget`].
    pub(super) fn remove(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.entries.remove(&seq)?;
        if let Some(due) = entry.due {
            self.due.remove(&(due, seq));
        }
        if entry.queued.is_some() {
            self.queued = self.queued.saturating_sub(1);
            if self.queued == 0 {
                self.queue.clear();
            }
        }
        Some(entry)
    }

    /// The pending message with the lowest stream sequence.
    pub(super) fn first(&self) -> Option<(u64, &Entry)> {
        self.entries.first_key_value().map(|(seq, entry)| (*seq, entry))
    }

    /// How often `seq` was delivered, at least 1.
    pub(super) fn deliveries(&self, seq: u64) -> u64 {
        self.again.get(&seq).copied().unwrap_or(0).saturating_add(1)
    }

    /// Counts another delivery of `seq`; returns how often it was delivered with it.
    pub(super) fn count_delivery(&mut self, seq: u64) -> u64 {
        let again = self.again.entry(seq).or_insert(0);
        *again = again.saturating_add(1);
        again.saturating_add(1)
    }

    /// Keeps the count of a message that is given up, so that it counts as redelivered and stays wanted.
    pub(super) fn keep_count(&mut self, seq: u64) {
        self.again.entry(seq).or_insert(1);
    }

    /// Forgets how often `seq` was delivered. True when there was something to forget.
    pub(super) fn forget(&mut self, seq: u64) -> bool {
        self.again.remove(&seq).is_some()
    }

    /// The messages delivered more than once, with how often again.
    pub(super) fn redelivered(&self) -> &BTreeMap<u64, u64> {
        &self.again
    }

    /// Drops the counts of messages below `seq` that are not pending.
    pub(super) fn forget_below(&mut self, seq: u64) {
        let gone: Vec<u64> = self.again.range(..seq).map(|(seq, _)| *seq).collect();
        for seq in gone {
            self.again.remove(&seq);
        }
    }

    /// Puts a count back as it was kept.
    pub(super) fn restore_count(&mut self, seq: u64, again: u64) {
        self.again.insert(seq, again);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_messages_come_in_stream_order_and_once() {
        let mut unacked = Unacked::default();
        unacked.delivered(7, 1, 0, Some(50));
        unacked.delivered(9, 2, 0, Some(40));
        assert_eq!(unacked.take_due(39), Vec::<u64>::new());
        assert_eq!(unacked.take_due(50), [7, 9]);
        assert!(unacked.enqueue(7));
        assert!(!unacked.enqueue(7), "queued already");
        assert_eq!(unacked.take_due(50), [9]);
        assert_eq!(unacked.queued(), 1);
        assert_eq!(unacked.next_queued(), Some(7));
        unacked.delivered(7, 3, 60, Some(90));
        assert_eq!(unacked.next_queued(), None);
        assert_eq!(
            unacked.get(7).map(|entry| entry.consumer_seq),
            Some(1),
            "the first consumer sequence stays"
        );
        assert_eq!(unacked.next_due(), Some(40));
    }

    #[test]
    fn removing_a_queued_message_takes_it_off_the_queue() {
        let mut unacked = Unacked::default();
        for seq in 1..=3 {
            unacked.delivered(seq, seq, 0, Some(10));
            unacked.enqueue(seq);
        }
        unacked.remove(1);
        assert_eq!((unacked.queued(), unacked.next_queued()), (2, Some(2)));
        assert!(unacked.put_off(2, Some(99)));
        assert_eq!((unacked.queued(), unacked.next_queued()), (1, Some(3)));
        assert!(unacked.enqueue(2));
        assert_eq!(unacked.next_queued(), Some(3), "back at the end, not in its old place");
        assert_eq!(unacked.first().map(|(seq, _)| seq), Some(2));
    }

    #[test]
    fn counts_outlive_the_pending_entry() {
        let mut unacked = Unacked::default();
        unacked.delivered(4, 1, 0, None);
        assert_eq!(unacked.deliveries(4), 1);
        assert_eq!(unacked.count_delivery(4), 2);
        unacked.remove(4);
        assert_eq!(unacked.deliveries(4), 2);
        assert!(unacked.forget(4));
        assert!(!unacked.forget(4));
    }
}
