//! Removals by limits on their way into the journal.
//!
//! They can be derived again, so they force no write. They ride in the next chunk that is written for another reason: else
//! a crash could bring back what a limit removed before somebody purged the rest, or before the limit was raised. What
//! nothing was written after may come back, and goes again by the same limit.

use std::collections::BTreeMap;

use crate::log::LogId;
use crate::record::{Frame, HEADER, Kind, encode_runs};
use crate::runs::Runs;

/// What a run of sequences takes.
const RUN: usize = 16;

/// What limits removed from one log.
#[derive(Debug, Default)]
struct Removed {
    /// Everything below.
    floor: u64,
    runs: Runs,
    /// How many runs there are.
    count: usize,
}

impl Removed {
    fn bytes(&self) -> usize {
        let floor = if self.floor > 0 { HEADER } else { 0 };
        let runs = if self.count > 0 { HEADER + RUN * self.count } else { 0 };
        floor + runs
    }
}

/// What waits to ride.
#[derive(Debug, Default)]
pub(super) struct Riding {
    logs: BTreeMap<LogId, Removed>,
    bytes: usize,
}

impl Riding {
    fn change(&mut self, log: LogId, change: impl FnOnce(&mut Removed)) {
        let removed = self.logs.entry(log).or_default();
        let before = removed.bytes();
        change(removed);
        removed.count = removed.runs.len();
        self.bytes = self.bytes + removed.bytes() - before;
    }

    /// Everything below `first_seq` is removed.
    pub(super) fn below(&mut self, log: LogId, first_seq: u64) {
        self.change(log, |removed| {
            removed.floor = removed.floor.max(first_seq);
            removed.runs.remove(0, first_seq - 1);
        });
    }

    /// These sequences are removed.
    pub(super) fn these(&mut self, log: LogId, seqs: &[u64]) {
        self.change(log, |removed| seqs.iter().for_each(|seq| removed.runs.insert(*seq, *seq)));
    }

    /// The log is gone.
    pub(super) fn forget(&mut self, log: LogId) {
        if let Some(removed) = self.logs.remove(&log) {
            self.bytes -= removed.bytes();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes that all of it takes in a chunk.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes as much of it as fits into `room` bytes; the rest waits for the next chunk.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>, mut room: usize) {
        while let Some((log, removed)) = self.logs.pop_first() {
            self.bytes -= removed.bytes();
            if removed.floor > 0 {
                if room < HEADER {
                    self.put_back(log, removed);
                    return;
                }
                Frame::bare(Kind::Purge, log.0, removed.floor).encode(out);
                room -= HEADER;
            }
            let fitting = room.saturating_sub(HEADER) / RUN;
            let mut runs: Vec<(u64, u64)> = removed.runs.iter().collect();
            let rest = runs.split_off(fitting.min(runs.len()));
            if !runs.is_empty() {
                let payload = encode_runs(&runs);
                Frame { payload: &payload, ..Frame::bare(Kind::Remove, log.0, 0) }.encode(out);
                room -= HEADER + payload.len();
            }
            if !rest.is_empty() {
                let mut left = Removed::default();
                rest.iter().for_each(|(first, last)| left.runs.insert(*first, *last));
                left.count = rest.len();
                self.put_back(log, left);
                return;
            }
        }
    }

    fn put_back(&mut self, log: LogId, removed: Removed) {
        self.bytes += removed.bytes();
        self.logs.insert(log, removed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_rides_in_the_next_chunk() {
        let mut riding = Riding::default();
        riding.below(LogId(1), 9);
        riding.these(LogId(2), &[1, 3, 5, 7, 9, 10]);
        riding.these(LogId(3), &[4]);
        riding.forget(LogId(3));
        assert_eq!(riding.bytes(), HEADER + HEADER + 5 * RUN);
        let mut first = Vec::new();
        riding.encode(&mut first, HEADER + HEADER + 2 * RUN + 3);
        assert_eq!(first.len(), HEADER + HEADER + 2 * RUN);
        assert_eq!(riding.bytes(), HEADER + 3 * RUN);
        let mut second = Vec::new();
        riding.encode(&mut second, 1 << 20);
        assert_eq!((second.len(), riding.bytes()), (HEADER + 3 * RUN, 0));
        let frame = Frame::parse(&second).expect("a record");
        let runs: Vec<_> = crate::record::decode_runs(frame.payload).collect();
        assert_eq!((frame.kind, frame.log, runs), (Kind::Remove, 2, vec![(5, 5), (7, 7), (9, 10)]));
        riding.encode(&mut Vec::new(), 0);
    }

    #[test]
    fn a_floor_takes_what_is_below_it() {
        let mut riding = Riding::default();
        riding.these(LogId(1), &[2, 4, 6, 8]);
        riding.below(LogId(1), 7);
        assert_eq!(riding.bytes(), HEADER + HEADER + RUN);
        riding.below(LogId(1), 5);
        assert_eq!(riding.bytes(), HEADER + HEADER + RUN);
    }
}
