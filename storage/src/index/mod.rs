//! What the owner knows of one log: its numbers, its subjects, its attributes, and where each record is. `scan.rs`
//! finds the records.
//!
//! Everything staged is in here at once. Records of sequences above [`Log::home_last`] are in memory; those at or
//! below are in redb, less what `removed` and `first_seq` say. Nothing here writes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::ReadError;
use crate::home::load::LoadedLog;
use crate::home::read::{Library, Way};
use crate::home::table::BlockMeta;
use crate::home::write::Changed;
use crate::log::{Layout, LogId, LogSpec, LogState, Medium};
use crate::record::{Frame, LAST_SEQ, cost_of};
use crate::runs::Runs;
use crate::segments::Place;
use crate::subjects::{Subjects, Tally};
use crate::tail::{Entry, Memory, Tail};
use crate::totals::Totals;

pub(crate) mod scan;

use scan::{Source, View};

/// One log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    pub(crate) spec: LogSpec,
    /// What is staged included.
    pub(crate) totals: Totals,
    /// Disk logs: what the last durable chunk said. Memory logs: what the last durable reservation allows.
    pub(crate) durable_seq: u64,
    /// Memory logs: the highest sequence the journal was asked to reserve.
    pub(crate) reserved: u64,
    /// The highest purge that was journaled (or is in redb). Evictions below it cannot come back.
    pub(crate) purged: u64,
    /// The last chunk that changed `last_seq`.
    pub(crate) touched: u64,
    pub(crate) attributes: BTreeMap<Bytes, Bytes>,
    pub(crate) subjects: Subjects,
    pub(crate) tail: Tail,
    memory: Option<Memory>,
    /// What redb has, for logs laid out in blocks: first sequence to what is in the block.
    blocks: BTreeMap<u64, BlockMeta>,
    /// Known to be lost.
    lost: Runs,
    /// Every record at or below is in redb, or gone.
    pub(crate) home_last: u64,
    /// Removed one by one, and redb may not know.
    removed: Runs,
    /// The same by the chunk that told the mover.
    removals: VecDeque<(u64, u64, u64)>,
}

/// What a removal of everything below a sequence needs to know. It is read before anything is changed, so that a database
/// that cannot be read keeps the removal from being done in part.
#[derive(Debug, Default)]
pub(crate) struct Below {
    first_seq: u64,
    /// Records of redb that go, and what they take.
    messages: u64,
    bytes: u64,
    subjects: Tally,
    /// How many records stay, where damage keeps those that go from being counted.
    left: Option<u64>,
    /// Sequence and time of the first one that stays.
    first: Option<(u64, i64)>,
}

/// A record that is to be removed.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) seq: u64,
    /// Subject and cost of a record in redb: it is not read again.
    home: Option<(Bytes, u64)>,
}

impl Log {
    pub(crate) fn new(id: LogId, spec: LogSpec) -> Self {
        let totals = Totals::from(spec.first_seq);
        let before = totals.last_seq;
        let memory = (spec.medium == Medium::Memory).then(Memory::new);
        Self {
            id,
            totals,
            durable_seq: before,
            reserved: before,
            purged: totals.first_seq,
            touched: u64::MAX,
            attributes: BTreeMap::new(),
            subjects: Subjects::default(),
            tail: Tail::default(),
            memory,
            blocks: BTreeMap::new(),
            lost: Runs::default(),
            home_last: before,
            removed: Runs::default(),
            removals: VecDeque::new(),
            spec,
        }
    }

    /// The log as redb has it.
    pub(crate) fn load(id: LogId, loaded: LoadedLog) -> Self {
        let LoadedLog { row, attributes, blocks, subjects, lost } = loaded;
        let mut log = Self::new(id, row.spec);
        if log.is_memory() {
            // The records are gone; every sequence that may have been used stays used. A row may reserve what is none.
            let reserved = row.reserved.min(LAST_SEQ);
            log.totals.skip_to(if cfg!(feature = "bug-reuse-sequence") {
                row.totals.last_seq
            } else {
                reserved
            });
        } else {
            log.totals = row.totals;
        }
        log.durable_seq = log.totals.last_seq;
        log.reserved = log.totals.last_seq;
        log.home_last = log.totals.last_seq;
        log.purged = log.totals.first_seq;
        (log.attributes, log.subjects, log.lost) = (attributes, subjects, lost);
        for (first, meta) in blocks {
            log.put_block(first, meta);
        }
        log
    }

    /// redb has this block.
    fn put_block(&mut self, first: u64, meta: BlockMeta) {
        if meta.last_seq >= self.totals.first_seq {
            self.blocks.insert(first, meta);
        }
    }

    /// redb has everything up to `chunk`.
    pub(crate) fn moved(&mut self, chunk: u64, changed: Changed, library: &Library) {
        if self.is_memory() {
            return;
        }
        self.tail.release_through(chunk);
        self.home_last = self.home_last.max(changed.last_seq);
        for first in changed.gone {
            self.blocks.remove(&first);
        }
        for (first, meta) in changed.blocks {
            self.put_block(first, meta);
        }
        while let Some(&(number, first, last)) = self.removals.front()
            && number <= chunk
        {
            self.removed.remove(first, last);
            self.removals.pop_front();
        }
        // Rows that were read together ended where redb ended then.
        if changed.is_thinner || self.spec.layout == Layout::Rows {
            library.forget(self.id.0);
        }
    }

    /// redb has everything up to `chunk`, and nothing of this log changed there: what it still has in those chunks went with
    /// the log, which was freed while changes are refused, and is not there any more.
    pub(crate) fn not_moved(&mut self, chunk: u64) {
        if !self.is_memory() {
            self.tail.release_through(chunk);
        }
    }

    /// After a failure: the log as it was answered. What is in memory stays, for sequences of it were shown.
    pub(crate) fn keep_memory_of(&mut self, mut old: Self) {
        if self.is_memory() && old.is_memory() {
            old.attributes = std::mem::take(&mut self.attributes);
            old.reserved = self.reserved;
            old.durable_seq = self.reserved;
            old.touched = u64::MAX;
            *self = old;
        }
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn state(&self) -> LogState {
        let Totals { messages, bytes, first_seq, last_seq, first_time, last_time } = self.totals;
        LogState {
            messages,
            bytes,
            first_seq,
            last_seq,
            first_time,
            last_time,
            subjects: self.subjects.len(),
            durable_seq: self.durable_seq.min(last_seq),
        }
    }

    /// A record for this log is stored: in its own memory, or at `place` in the journal's chunks.
    pub(crate) fn append(&mut self, frame: &Frame<'_>, place: Option<Place>) {
        let place = match (&mut self.memory, place) {
            (Some(memory), _) => memory.push(frame),
            (None, Some(place)) => place,
            (None, None) => return,
        };
        self.tail.push(frame.seq, place);
        self.subjects.added(frame.subject, frame.seq);
        self.totals.add(frame, self.spec.cost);
    }

    /// A record that is there and can be read, for [`Self::remove`].
    pub(crate) fn find(&self, source: Source<'_>, seq: u64) -> Result<Option<Found>, ReadError> {
        let is_home = seq <= self.home_last && !self.is_memory();
        self.view(source, seq, |View { frame, .. }| {
            let home =
                is_home.then(|| (Bytes::copy_from_slice(frame.subject), cost_of(self.spec.cost, frame)));
            Found { seq, home }
        })
    }

    /// Takes records out of the numbers that [`Self::find`] has found, nothing having changed since. `chunk` is the one that
    /// will tell the mover.
    pub(crate) fn remove(&mut self, source: Source<'_>, found: &[Found], chunk: u64) {
        for Found { seq, home } in found {
            match home {
                Some((subject, cost)) => {
                    self.totals.subtract(1, *cost);
                    self.subjects.removed(subject, *seq);
                }
                None => {
                    if let Some((at, _)) = self.tail.find(*seq) {
                        self.take_at(source, at);
                    }
                }
            }
            if !self.is_memory() {
                self.removed.insert(*seq, *seq);
                match self.removals.back_mut() {
                    Some((same, _, last)) if *same == chunk && *last + 1 == *seq => *last = *seq,
                    _ => self.removals.push_back((chunk, *seq, *seq)),
                }
            }
        }
        self.tail.tidy();
        let begun = self.totals.first_seq;
        let is_first_gone = self.removed.contains(begun) || found.iter().any(|found| found.seq == begun);
        let first = if is_first_gone && self.totals.messages > 0 {
            // Where it cannot be read, the numbers stay as they are until it can.
            self.first_from(source, begun).unwrap_or_default()
        } else {
            None
        };
        self.begin_with(first);
    }

    /// Sequence and time of the first record at or above `from`. Damaged records in front are passed over: they are named
    /// when they are read, and by the store's report.
    fn first_from(&self, source: Source<'_>, mut from: u64) -> Result<Option<(u64, i64)>, ReadError> {
        loop {
            let first = self.scan(source, from, self.totals.last_seq, Way::Up, &mut |view| {
                ControlFlow::Break((view.frame.seq, view.frame.time))
            });
            match first {
                Err(ReadError::Damaged { last, .. }) => from = last + 1,
                result => return result,
            }
        }
    }

    /// Sets the numbers of the first record present, as far as it is known.
    fn begin_with(&mut self, first: Option<(u64, i64)>) {
        self.totals.begin_with(first);
        if self.totals.messages == 0 {
            self.subjects.clear();
        }
    }

    /// Reads what a removal of everything below `first_seq`, which is at most `last_seq + 1`, needs to know.
    pub(crate) fn look_below(&self, source: Source<'_>, first_seq: u64) -> Result<Below, ReadError> {
        let mut below = Below { first_seq, ..Below::default() };
        if first_seq != self.totals.first_seq
            && (self.totals.first_seq..=self.totals.last_seq).contains(&first_seq)
        {
            self.look_home_below(source, &mut below)?;
            below.first = self.first_from(source, first_seq)?;
        }
        Ok(below)
    }

    /// What redb has below `below.first_seq`.
    fn look_home_below(&self, source: Source<'_>, below: &mut Below) -> Result<(), ReadError> {
        if self.totals.first_seq > self.home_last {
            return Ok(());
        }
        let end = below.first_seq.min(self.home_last + 1);
        let mut from = self.totals.first_seq;
        let mut is_damaged = false;
        loop {
            let scanned = self.scan(source, from, end - 1, Way::Up, &mut |view| {
                below.messages += 1;
                below.bytes += cost_of(self.spec.cost, &view.frame);
                below.subjects.add(view.frame.subject, view.frame.seq);
                ControlFlow::<()>::Continue(())
            });
            match scanned {
                Ok(_) => break,
                Err(ReadError::Damaged { last, .. }) => {
                    is_damaged = true;
                    // What was seen before the damage is not to be counted twice.
                    from = last + 1;
                    if from >= end {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if is_damaged {
            below.left = Some(self.count_from(source, end)?);
        }
        Ok(())
    }

    /// Removes what [`Self::look_below`] has found, nothing having changed since. Returns how many records that were.
    pub(crate) fn remove_below(&mut self, source: Source<'_>, below: &Below) -> u64 {
        if below.first_seq <= self.totals.first_seq {
            return 0;
        }
        let before = self.totals.messages;
        if below.first_seq > self.totals.last_seq {
            self.clear();
            return before;
        }
        self.totals.subtract(below.messages, below.bytes);
        self.totals.messages = below.left.unwrap_or(self.totals.messages);
        self.subjects.removed_first(&below.subjects);
        while let Some(entry) = self.blocks.first_entry()
            && entry.get().last_seq < below.first_seq
        {
            entry.remove();
        }
        while let Some(entry) = self.tail.front().copied()
            && entry.seq < below.first_seq
        {
            if entry.is_live() {
                self.take_at(source, 0);
            }
            self.tail.tidy();
        }
        self.totals.first_seq = below.first_seq;
        self.begin_with(below.first);
        before.saturating_sub(self.totals.messages)
    }

    /// Nothing is left; `last_seq` stays.
    fn clear(&mut self) {
        self.totals.clear();
        self.subjects.clear();
        self.tail = Tail::default();
        self.blocks.clear();
        if let Some(memory) = &mut self.memory {
            *memory = Memory::new();
        }
    }

    /// Takes back the records behind what is durable: they are lost. Not where a purge was staged behind them; then it is
    /// the purge that is lost, and [`crate::Store::lost_changes`] tells.
    pub(crate) fn forget_lost(&mut self, source: Source<'_>) {
        if self.is_memory() || self.purged > self.durable_seq.saturating_add(1) {
            return;
        }
        while self.tail.back().is_some_and(|entry| entry.seq > self.durable_seq) {
            self.take_at(source, self.tail.len() - 1);
            self.tail.pop_back();
        }
        if self.totals.last_seq > self.durable_seq {
            self.totals.last_seq = self.durable_seq;
            if let Ok(Some(time)) = self.view(source, self.totals.last_seq, |view| view.frame.time) {
                self.totals.last_time = time;
            }
        }
        self.totals.begin_with(None);
    }

    /// Takes the live tail entry at index `at` out of the numbers.
    fn take_at(&mut self, source: Source<'_>, at: usize) {
        let Some(entry) = self.tail.get(at).filter(Entry::is_live) else { return };
        let segments = self.memory.as_ref().map_or(source.chunks, |memory| &memory.segments);
        if let Some(frame) = Frame::peek(segments.slice(entry.place)) {
            self.totals.subtract(1, cost_of(self.spec.cost, &frame));
            self.subjects.removed(frame.subject, entry.seq);
        }
        self.tail.kill(at);
        if let Some(memory) = &mut self.memory {
            memory.kill(entry.place, &mut self.tail);
        }
    }
}
