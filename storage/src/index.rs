//! What the owner knows of one log: its numbers, its subjects, its attributes, and where each record is.
//!
//! Everything staged is in here at once. Records of sequences above [`Log::home_last`] are in memory; those at or
//! below are in redb, less what `removed` and `first_seq` say. Nothing here writes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::log::{Cost, LogId, LogSpec, LogState, Medium, Record};
use crate::record::{Frame, record_of};
use crate::runs::Runs;
use crate::segments::{Place, Segments};
use crate::store::ReadError;
use crate::subjects::Subjects;
use crate::tail::{Memory, Tail};

/// A record that is looked at.
pub(crate) struct View<'a> {
    pub(crate) frame: Frame<'a>,
    whole: Whole<'a>,
}

enum Whole<'a> {
    Placed(&'a Segments, Place),
    #[expect(dead_code, reason = "records in redb come with the mover")]
    Shared(Bytes),
}

impl View<'_> {
    /// The record, sharing its bytes where they are shared.
    pub(crate) fn record(&self) -> Record {
        let whole = match &self.whole {
            Whole::Placed(segments, place) => segments.share(*place),
            Whole::Shared(bytes) => bytes.clone(),
        };
        record_of(&whole).expect("the bytes of a view are a record")
    }
}

/// One log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) id: LogId,
    pub(crate) spec: LogSpec,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
    /// Disk logs: what the last durable chunk said. Memory logs: what the last durable reservation allows.
    pub(crate) durable_seq: u64,
    /// Memory logs: the highest sequence the journal was asked to reserve.
    pub(crate) reserved: u64,
    /// The last chunk that changed `last_seq`.
    pub(crate) touched: u64,
    pub(crate) attributes: BTreeMap<Bytes, Bytes>,
    pub(crate) subjects: Subjects,
    pub(crate) tail: Tail,
    memory: Option<Memory>,
    /// Every record at or below is in redb, or gone.
    pub(crate) home_last: u64,
    /// Removed one by one, and redb may not know.
    removed: Runs,
    /// The same by the chunk that told the mover.
    removals: VecDeque<(u64, u64, u64)>,
}

impl Log {
    pub(crate) fn new(id: LogId, spec: LogSpec) -> Self {
        let before = spec.first_seq.saturating_sub(1);
        let memory = (spec.medium == Medium::Memory).then(Memory::new);
        Self {
            id,
            messages: 0,
            bytes: 0,
            first_seq: before + 1,
            last_seq: before,
            first_time: 0,
            last_time: 0,
            durable_seq: before,
            reserved: before,
            touched: u64::MAX,
            attributes: BTreeMap::new(),
            subjects: Subjects::default(),
            tail: Tail::default(),
            memory,
            home_last: before,
            removed: Runs::default(),
            removals: VecDeque::new(),
            spec,
        }
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn state(&self) -> LogState {
        LogState {
            messages: self.messages,
            bytes: self.bytes,
            first_seq: self.first_seq,
            last_seq: self.last_seq,
            first_time: self.first_time,
            last_time: self.last_time,
            subjects: self.subjects.len(),
            durable_seq: self.durable_seq.min(self.last_seq),
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
        if self.messages == 0 {
            self.first_seq = frame.seq;
            self.first_time = frame.time;
        }
        self.messages += 1;
        self.bytes += cost_of(self.spec.cost, frame);
        self.last_seq = frame.seq;
        self.last_time = frame.time;
    }

    /// Every sequence up to `last_seq` is used.
    pub(crate) fn skip_to(&mut self, last_seq: u64) {
        if last_seq > self.last_seq {
            self.last_seq = last_seq;
            if self.messages == 0 {
                self.first_seq = last_seq + 1;
            }
        }
    }

    /// Whether a record is there and can be read.
    pub(crate) fn has(&self, source: Source<'_>, seq: u64) -> Result<bool, ReadError> {
        Ok(self.view(source, seq, |_| ())?.is_some())
    }

    /// Takes one record out of the numbers. `chunk` is the one that will tell the mover.
    pub(crate) fn remove_one(&mut self, source: Source<'_>, seq: u64, chunk: u64) -> Result<bool, ReadError> {
        if !self.take(source, seq)? {
            return Ok(false);
        }
        if self.memory.is_none() {
            self.removed.insert(seq, seq);
            match self.removals.back_mut() {
                Some((same, _, last)) if *same == chunk && *last + 1 == seq => *last = seq,
                _ => self.removals.push_back((chunk, seq, seq)),
            }
        }
        Ok(true)
    }

    /// After removals: the first record present is looked for again.
    pub(crate) fn settle(&mut self, source: Source<'_>) -> Result<(), ReadError> {
        self.tail.tidy();
        if self.messages == 0 {
            self.first_seq = self.last_seq + 1;
            self.first_time = 0;
            self.bytes = 0;
            self.subjects.clear();
            return Ok(());
        }
        let first = self.scan(source, self.first_seq, self.last_seq, &mut |view| {
            ControlFlow::Break((view.frame.seq, view.frame.time))
        })?;
        if let Some((seq, time)) = first {
            self.first_seq = seq;
            self.first_time = time;
        }
        Ok(())
    }

    /// Removes everything below `first_seq`, which is at most `last_seq + 1`. Returns how many records that were.
    pub(crate) fn remove_below(&mut self, source: Source<'_>, first_seq: u64) -> Result<u64, ReadError> {
        if first_seq <= self.first_seq {
            return Ok(0);
        }
        let before = self.messages;
        if first_seq > self.last_seq {
            self.clear();
            return Ok(before);
        }
        while let Some(entry) = self.tail.front().copied()
            && entry.seq < first_seq
        {
            if entry.is_live() {
                self.take_at(source, 0);
            }
            self.tail.tidy();
        }
        self.first_seq = first_seq;
        self.settle(source)?;
        Ok(before - self.messages)
    }

    /// Nothing is left; `last_seq` stays.
    fn clear(&mut self) {
        self.messages = 0;
        self.bytes = 0;
        self.first_seq = self.last_seq + 1;
        self.first_time = 0;
        self.subjects.clear();
        self.tail = Tail::default();
        if let Some(memory) = &mut self.memory {
            *memory = Memory::new();
        }
    }

    fn take(&mut self, source: Source<'_>, seq: u64) -> Result<bool, ReadError> {
        if seq < self.first_seq || seq > self.last_seq || self.removed.contains(seq) {
            return Ok(false);
        }
        match self.tail.find(seq) {
            Some((at, _)) => {
                self.take_at(source, at);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Takes the live tail entry at index `at` out of the numbers.
    fn take_at(&mut self, source: Source<'_>, at: usize) {
        let Some(entry) = self.tail.get(at) else { return };
        let segments = self.memory.as_ref().map_or(source.chunks, |memory| &memory.segments);
        if let Some(frame) = Frame::peek(segments.slice(entry.place)) {
            self.messages = self.messages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(cost_of(self.spec.cost, &frame));
            self.subjects.removed(frame.subject, entry.seq);
        }
        self.tail.kill(at);
        if let Some(memory) = &mut self.memory {
            memory.kill(entry.place, &mut self.tail);
        }
    }

    fn segments<'a>(&'a self, source: Source<'a>) -> &'a Segments {
        self.memory.as_ref().map_or(source.chunks, |memory| &memory.segments)
    }

    /// Looks at one record.
    pub(crate) fn view<T>(
        &self,
        source: Source<'_>,
        seq: u64,
        look: impl FnOnce(&View<'_>) -> T,
    ) -> Result<Option<T>, ReadError> {
        if seq < self.first_seq || seq > self.last_seq || self.removed.contains(seq) {
            return Ok(None);
        }
        let segments = self.segments(source);
        Ok(self.tail.find(seq).map(|(_, entry)| look(&view_at(segments, entry.place))))
    }

    /// Visits the records of `from..=up_to` in order, until `visit` breaks.
    pub(crate) fn scan<B>(
        &self,
        source: Source<'_>,
        from: u64,
        up_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let from = from.max(self.first_seq);
        let segments = self.segments(source);
        for entry in self.tail.live_from(self.tail.position(from)).take_while(|entry| entry.seq <= up_to) {
            if let ControlFlow::Break(found) = visit(&view_at(segments, entry.place)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Visits the records of `down_to..=from`, last first, until `visit` breaks.
    pub(crate) fn scan_back<B>(
        &self,
        source: Source<'_>,
        from: u64,
        down_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let down_to = down_to.max(self.first_seq);
        let segments = self.segments(source);
        let end = self.tail.position(from.saturating_add(1));
        for entry in self.tail.live_before(end).take_while(|entry| entry.seq >= down_to) {
            if let ControlFlow::Break(found) = visit(&view_at(segments, entry.place)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Where records are read from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The journal's chunks.
    pub(crate) chunks: &'a Segments,
}

fn view_at(segments: &Segments, place: Place) -> View<'_> {
    let frame = Frame::peek(segments.slice(place)).expect("an entry of the tail points at a record");
    View { frame, whole: Whole::Placed(segments, place) }
}

/// What a record counts for.
pub(crate) fn cost_of(cost: Cost, frame: &Frame<'_>) -> u64 {
    let headers = if frame.headers.is_empty() { 0 } else { u64::from(cost.per_headers) };
    (frame.subject.len() + frame.headers.len() + frame.payload.len()) as u64
        + u64::from(cost.per_record)
        + headers
}

impl Log {
    /// How many records lie at or above `from`.
    pub(crate) fn count_from(&self, source: Source<'_>, from: u64) -> Result<u64, ReadError> {
        let mut count = 0;
        self.scan(source, from, self.last_seq, &mut |_| {
            count += 1;
            ControlFlow::<()>::Continue(())
        })?;
        Ok(count)
    }

    /// The sequence of the first record at or after `time`.
    pub(crate) fn seek_time(&self, source: Source<'_>, time: i64) -> Result<Option<u64>, ReadError> {
        if self.messages == 0 || time > self.last_time {
            return Ok(None);
        }
        // Halves: every record below `low` is too early; one at or above `high` is not.
        let (mut low, mut high) = (self.first_seq, self.last_seq + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.scan(source, middle, high - 1, &mut |view| {
                ControlFlow::Break((view.frame.seq, view.frame.time))
            })?;
            match found {
                Some((seq, at)) if at < time => low = seq + 1,
                _ => high = middle,
            }
        }
        self.scan(source, low, self.last_seq, &mut |view| ControlFlow::Break(view.frame.seq))
    }
}
