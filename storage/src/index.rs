//! What the owner knows of one log: its numbers, its subjects, its attributes, and where each record is.
//!
//! Everything staged is in here at once. Records of sequences above [`Log::home_last`] are in memory; those at or
//! below are in redb, less what `removed` and `first_seq` say. Nothing here writes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::home::read::{Block, Library};
use crate::home::shelf::ShelfError;
use crate::home::table::{BlockMeta, LogRow};
use crate::home::write::Changed;
use crate::log::{Cost, Layout, LogId, LogSpec, LogState, Medium, Record};
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
    Shared(&'a Bytes),
}

impl<'a> View<'a> {
    fn shared(whole: &'a Bytes) -> Option<Self> {
        Some(Self { frame: Frame::peek(whole)?, whole: Whole::Shared(whole) })
    }

    /// The record, sharing its bytes where they are shared.
    pub(crate) fn record(&self) -> Record {
        let whole = match &self.whole {
            Whole::Placed(segments, place) => segments.share(*place),
            Whole::Shared(bytes) => (*bytes).clone(),
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
            purged: before + 1,
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
    pub(crate) fn load(id: LogId, row: &LogRow) -> Self {
        let mut log = Self::new(id, row.spec.clone());
        if log.is_memory() {
            // The records are gone; every sequence that may have been used stays used.
            log.last_seq = row.reserved;
            log.first_seq = row.reserved + 1;
        } else {
            log.messages = row.messages;
            log.bytes = row.bytes;
            log.first_seq = row.first_seq;
            log.last_seq = row.last_seq;
            log.first_time = row.first_time;
            log.last_time = row.last_time;
        }
        log.durable_seq = log.last_seq;
        log.reserved = log.last_seq;
        log.home_last = log.last_seq;
        log.purged = log.first_seq;
        log
    }

    /// redb has this block.
    pub(crate) fn put_block(&mut self, first: u64, meta: BlockMeta) {
        if meta.last_seq >= self.first_seq {
            self.blocks.insert(first, meta);
        }
    }

    /// These sequences are lost.
    pub(crate) fn put_loss(&mut self, first: u64, last: u64) {
        self.lost.insert(first, last);
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
        // Damaged records in front are passed over: they are named when they are read, and by the store's report.
        let mut from = self.first_seq;
        loop {
            let first = self.scan(source, from, self.last_seq, &mut |view| {
                ControlFlow::Break((view.frame.seq, view.frame.time))
            });
            match first {
                Ok(Some((seq, time))) => {
                    self.first_seq = seq;
                    self.first_time = time;
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(ReadError::Damaged { last, .. }) => from = last + 1,
                Err(error) => return Err(error),
            }
        }
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
        self.remove_home_below(source, first_seq)?;
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

    /// Takes what redb has below `first_seq` out of the numbers.
    fn remove_home_below(&mut self, source: Source<'_>, first_seq: u64) -> Result<(), ReadError> {
        if self.first_seq > self.home_last {
            return Ok(());
        }
        let end = first_seq.min(self.home_last + 1);
        let mut subjects = std::mem::take(&mut self.subjects);
        let (mut messages, mut bytes) = (0, 0);
        let mut from = self.first_seq;
        let mut is_damaged = false;
        let result = loop {
            let scanned = self.scan(source, from, end - 1, &mut |view| {
                messages += 1;
                bytes += cost_of(self.spec.cost, &view.frame);
                subjects.removed(view.frame.subject, view.frame.seq);
                ControlFlow::<()>::Continue(())
            });
            match scanned {
                Ok(_) => break Ok(()),
                Err(ReadError::Damaged { last, .. }) if last < end => {
                    is_damaged = true;
                    // What was seen before the damage is not to be counted twice.
                    from = last + 1;
                }
                Err(ReadError::Damaged { .. }) => {
                    is_damaged = true;
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        self.subjects = subjects;
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.first_seq = end;
        while let Some(entry) = self.blocks.first_entry()
            && entry.get().last_seq < end
        {
            entry.remove();
        }
        if is_damaged {
            self.messages = self.count_from(source, end)?;
        }
        result
    }

    /// Nothing is left; `last_seq` stays.
    fn clear(&mut self) {
        self.messages = 0;
        self.bytes = 0;
        self.first_seq = self.last_seq + 1;
        self.first_time = 0;
        self.subjects.clear();
        self.tail = Tail::default();
        self.blocks.clear();
        if let Some(memory) = &mut self.memory {
            *memory = Memory::new();
        }
    }

    fn take(&mut self, source: Source<'_>, seq: u64) -> Result<bool, ReadError> {
        if seq < self.first_seq || seq > self.last_seq || self.removed.contains(seq) {
            return Ok(false);
        }
        if let Some((at, _)) = self.tail.find(seq) {
            self.take_at(source, at);
            return Ok(true);
        }
        let cost = self.spec.cost;
        let found = self.view(source, seq, |view| {
            (Bytes::copy_from_slice(view.frame.subject), cost_of(cost, &view.frame))
        })?;
        let Some((subject, cost)) = found else { return Ok(false) };
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost);
        self.subjects.removed(&subject, seq);
        Ok(true)
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
        if self.lost.contains(seq) {
            return Err(self.damaged(seq, seq));
        }
        if seq > self.home_last || self.is_memory() {
            let segments = self.segments(source);
            return Ok(self.tail.find(seq).map(|(_, entry)| look(&view_at(segments, entry.place))));
        }
        let block = match self.spec.layout {
            Layout::Rows => Arc::new(source.library.row(self.id.0, seq)?),
            Layout::Blocks => {
                let Some((&first, meta)) = self.blocks.range(..=seq).next_back() else { return Ok(None) };
                if meta.last_seq < seq {
                    return Ok(None);
                }
                self.block(source, first, meta)?
            }
        };
        if let Some((first, last)) = block.broken_within(seq, seq) {
            return Err(self.damaged(first, last));
        }
        Ok(match block.record(block.position(seq)) {
            Some((found, whole)) if found == seq => View::shared(&whole).map(|view| look(&view)),
            _ => None,
        })
    }

    /// Visits the records of `from..=up_to` in order, until `visit` breaks.
    ///
    /// Damage on the way is an error that names the range; the scan can go on behind it.
    pub(crate) fn scan<B>(
        &self,
        source: Source<'_>,
        from: u64,
        up_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let from = from.max(self.first_seq);
        let up_to = up_to.min(self.last_seq);
        if self.lost.is_empty() {
            return self.scan_all(source, from, up_to, visit);
        }
        let mut expected = from;
        let found = self.scan_all(source, from, up_to, &mut |view| {
            let seq = view.frame.seq;
            if let Some((first, last)) = self.lost.within(expected, seq - 1).next() {
                return ControlFlow::Break(Err(self.damaged(first, last)));
            }
            expected = seq + 1;
            match visit(view) {
                ControlFlow::Break(found) => ControlFlow::Break(Ok(found)),
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
            }
        })?;
        match (found, self.lost.within(expected, up_to).next()) {
            (Some(found), _) => found.map(Some),
            (None, Some((first, last))) => Err(self.damaged(first, last)),
            (None, None) => Ok(None),
        }
    }

    fn scan_all<B>(
        &self,
        source: Source<'_>,
        from: u64,
        up_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        if from <= self.home_last && !self.is_memory() {
            let end = up_to.min(self.home_last);
            let found = match self.spec.layout {
                Layout::Blocks => self.scan_blocks(source, from, end, visit)?,
                Layout::Rows => self.scan_rows(source, from, end, visit)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        let segments = self.segments(source);
        for entry in self.tail.live_from(self.tail.position(from)).take_while(|entry| entry.seq <= up_to) {
            if let ControlFlow::Break(found) = visit(&view_at(segments, entry.place)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn scan_blocks<B>(
        &self,
        source: Source<'_>,
        from: u64,
        up_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let before = self.blocks.range(..=from).next_back().filter(|(_, meta)| meta.last_seq >= from);
        let start = before.map_or(from, |(first, _)| *first);
        if start > up_to {
            return Ok(None);
        }
        for (&first, meta) in self.blocks.range(start..=up_to) {
            let block = self.block(source, first, meta)?;
            let found = self.scan_block(&block, from.max(first), up_to.min(meta.last_seq), visit)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn scan_rows<B>(
        &self,
        source: Source<'_>,
        from: u64,
        up_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let mut from = from;
        while from <= up_to {
            let block = source.library.rows(self.id.0, from, self.home_last)?;
            let Some(last) = block.last() else { return Ok(None) };
            let found = self.scan_block(&block, from, up_to.min(last), visit)?;
            if found.is_some() {
                return Ok(found);
            }
            from = last + 1;
        }
        Ok(None)
    }

    fn scan_block<B>(
        &self,
        block: &Block,
        from: u64,
        up_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let mut expected = from;
        let mut at = block.position(from);
        while let Some((seq, whole)) = block.record(at)
            && seq <= up_to
        {
            if let Some((first, last)) = block.broken_within(expected, seq - 1) {
                return Err(self.damaged(first, last));
            }
            expected = seq + 1;
            at += 1;
            if !self.removed.contains(seq)
                && let Some(view) = View::shared(&whole)
                && let ControlFlow::Break(found) = visit(&view)
            {
                return Ok(Some(found));
            }
        }
        match block.broken_within(expected, up_to) {
            Some((first, last)) => Err(self.damaged(first, last)),
            None => Ok(None),
        }
    }

    /// Visits the records of `down_to..=from`, last first, until `visit` breaks. Damage is an error, as in a scan.
    pub(crate) fn scan_back<B>(
        &self,
        source: Source<'_>,
        from: u64,
        down_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let down_to = down_to.max(self.first_seq);
        let from = from.min(self.last_seq);
        let mut expected = from;
        let mut checked = |view: &View<'_>| {
            let seq = view.frame.seq;
            if let Some((first, last)) = self.lost.within(seq + 1, expected).next() {
                return ControlFlow::Break(Err(self.damaged(first, last)));
            }
            expected = seq - 1;
            match visit(view) {
                ControlFlow::Break(found) => ControlFlow::Break(Ok(found)),
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
            }
        };
        let segments = self.segments(source);
        let end = self.tail.position(from.saturating_add(1));
        for entry in self.tail.live_before(end).take_while(|entry| entry.seq >= down_to) {
            if let ControlFlow::Break(found) = checked(&view_at(segments, entry.place)) {
                return found.map(Some);
            }
        }
        if self.is_memory() || down_to > self.home_last {
            return Ok(None);
        }
        let mut from = from.min(self.home_last);
        match self.spec.layout {
            Layout::Blocks => {
                for (&first, meta) in self.blocks.range(..=from).rev() {
                    if meta.last_seq < down_to {
                        break;
                    }
                    let block = self.block(source, first, meta)?;
                    let (low, high) = (down_to.max(first), from.min(meta.last_seq));
                    if let Some(found) = self.scan_block_back(&block, high, low, &mut checked)? {
                        return found.map(Some);
                    }
                }
            }
            Layout::Rows => {
                while from >= down_to {
                    let block = source.library.rows_before(self.id.0, from)?;
                    let Some(low) = block.first() else { break };
                    if let Some(found) = self.scan_block_back(&block, from, low.max(down_to), &mut checked)? {
                        return found.map(Some);
                    }
                    from = low - 1;
                }
            }
        }
        Ok(None)
    }

    fn scan_block_back<B>(
        &self,
        block: &Block,
        from: u64,
        down_to: u64,
        visit: &mut dyn FnMut(&View<'_>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let mut expected = from;
        let mut at = block.position(from.saturating_add(1));
        while at > 0
            && let Some((seq, whole)) = block.record(at - 1)
            && seq >= down_to
        {
            if let Some((first, last)) = block.broken_within(seq + 1, expected) {
                return Err(self.damaged(first, last));
            }
            expected = seq - 1;
            at -= 1;
            if !self.removed.contains(seq)
                && let Some(view) = View::shared(&whole)
                && let ControlFlow::Break(found) = visit(&view)
            {
                return Ok(Some(found));
            }
        }
        match block.broken_within(down_to, expected) {
            Some((first, last)) => Err(self.damaged(first, last)),
            None => Ok(None),
        }
    }

    /// A block with as many records as the index says, or with its damage named.
    fn block(&self, source: Source<'_>, first: u64, meta: &BlockMeta) -> Result<Arc<Block>, ReadError> {
        let block = source.library.block(self.id.0, first, meta)?;
        // The mover may have thinned it a moment ago; what it removed is still in our set then.
        let there = block.count_through(meta.last_seq) + self.removed.count_in(first, meta.last_seq);
        if there < meta.messages && block.broken.is_empty() {
            return Err(self.damaged(first, meta.last_seq));
        }
        Ok(block)
    }

    fn damaged(&self, first: u64, last: u64) -> ReadError {
        ReadError::Damaged { log: self.id, first, last }
    }

    /// How many records lie at or above `from`.
    pub(crate) fn count_from(&self, source: Source<'_>, from: u64) -> Result<u64, ReadError> {
        let from = from.max(self.first_seq);
        let mut count = 0;
        let mut scan_to = self.home_last;
        if self.spec.layout == Layout::Blocks && !self.is_memory() {
            // Blocks that lie behind `from` as a whole need not be read.
            for (&first, meta) in self.blocks.range(from..) {
                scan_to = scan_to.min(first - 1);
                if self.removed.count_in(first, meta.last_seq) == 0 {
                    count += meta.messages;
                } else {
                    // What was removed may be in the block, or may never have reached it.
                    self.scan(source, first, meta.last_seq, &mut |_| {
                        count += 1;
                        ControlFlow::<()>::Continue(())
                    })?;
                }
            }
        }
        if from <= scan_to && !self.is_memory() {
            self.scan(source, from, scan_to, &mut |_| {
                count += 1;
                ControlFlow::<()>::Continue(())
            })?;
        }
        Ok(count + self.tail.live_from(self.tail.position(from)).count() as u64)
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

/// Where records are read from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// The journal's chunks.
    pub(crate) chunks: &'a Segments,
    /// What redb has.
    pub(crate) library: &'a Library,
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

impl From<ShelfError> for ReadError {
    fn from(error: ShelfError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
