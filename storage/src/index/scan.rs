//! Finding and visiting the records of a log, wherever they lie: in redb, in the journal's chunks, in memory.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Log;
use crate::error::ReadError;
use crate::home::read::{Block, Library, Way};
use crate::home::table::BlockMeta;
use crate::log::{Layout, Record};
use crate::record::Frame;
use crate::segments::{Place, Segments};

/// A record that is looked at.
pub(crate) struct View<'a> {
    pub(crate) frame: Frame<'a>,
    lies: Lies<'a>,
}

/// Where its bytes lie.
enum Lies<'a> {
    At(&'a Segments, Place),
    /// In this block.
    In(&'a Bytes),
}

impl View<'_> {
    /// The record, sharing its bytes where they are shared.
    pub(crate) fn record(&self) -> Record {
        match &self.lies {
            Lies::In(block) => self.frame.record_in(block),
            Lies::At(segments, place) => {
                let whole = segments.share(*place);
                let frame = Frame::peek(&whole).expect("the bytes of a view are a record");
                frame.record_in(&whole)
            }
        }
    }
}

/// The sequences of a scan, or what of them it has not passed yet, and which way it goes.
#[derive(Clone, Copy)]
struct Span {
    low: u64,
    high: u64,
    way: Way,
}

impl Span {
    /// What of it lies in `low..=high`.
    fn within(self, low: u64, high: u64) -> Self {
        Self { low: self.low.max(low), high: self.high.min(high), ..self }
    }

    /// The scan has come to `seq`. Returns what it passed over on the way there, from and to.
    fn pass(&mut self, seq: u64) -> (u64, u64) {
        match self.way {
            Way::Up => (std::mem::replace(&mut self.low, seq.saturating_add(1)), seq.saturating_sub(1)),
            Way::Down => (seq.saturating_add(1), std::mem::replace(&mut self.high, seq.saturating_sub(1))),
        }
    }
}

/// Is shown each record of a scan, and breaks with what it was looking for.
type Visit<'v, B> = &'v mut dyn FnMut(&View<'_>) -> ControlFlow<B>;

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
    View { frame, lies: Lies::At(segments, place) }
}

fn view_in<'a>(block: &'a Block, whole: &'a [u8]) -> Option<View<'a>> {
    Some(View { frame: Frame::peek(whole)?, lies: Lies::In(block.bytes()) })
}

impl Log {
    pub(super) fn segments<'a>(&'a self, source: Source<'a>) -> &'a Segments {
        self.memory.as_ref().map_or(source.chunks, |memory| &memory.segments)
    }

    /// Looks at one record.
    pub(crate) fn view<T>(
        &self,
        source: Source<'_>,
        seq: u64,
        look: impl FnOnce(&View<'_>) -> T,
    ) -> Result<Option<T>, ReadError> {
        if seq < self.totals.first_seq || seq > self.totals.last_seq || self.removed.contains(seq) {
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
        if let Some((first, last)) = block.broken_within((seq, seq), Way::Up) {
            return Err(self.damaged(first, last));
        }
        Ok(match block.record(block.position(seq)) {
            Some((found, whole)) if found == seq => view_in(&block, whole).map(|view| look(&view)),
            _ => None,
        })
    }

    /// Visits the records of `low..=high` until `visit` breaks.
    ///
    /// Damage on the way is an error that names the range; the scan can go on behind it.
    pub(crate) fn scan<B>(
        &self,
        source: Source<'_>,
        low: u64,
        high: u64,
        way: Way,
        visit: Visit<'_, B>,
    ) -> Result<Option<B>, ReadError> {
        let span = Span { low, high, way }.within(self.totals.first_seq, self.totals.last_seq);
        if self.lost.is_empty() {
            return self.scan_all(source, span, visit);
        }
        let mut ahead = span;
        let lost_in = |(low, high)| match way {
            Way::Up => self.lost.within(low, high).next(),
            Way::Down => self.lost.within(low, high).last(),
        };
        let found = self.scan_all(source, span, &mut |view| {
            if let Some((first, last)) = lost_in(ahead.pass(view.frame.seq)) {
                return ControlFlow::Break(Err(self.damaged(first, last)));
            }
            match visit(view) {
                ControlFlow::Break(found) => ControlFlow::Break(Ok(found)),
                ControlFlow::Continue(()) => ControlFlow::Continue(()),
            }
        })?;
        match (found, lost_in((ahead.low, ahead.high))) {
            (Some(found), _) => found.map(Some),
            (None, Some((first, last))) => Err(self.damaged(first, last)),
            (None, None) => Ok(None),
        }
    }

    fn scan_all<B>(
        &self,
        source: Source<'_>,
        span: Span,
        visit: Visit<'_, B>,
    ) -> Result<Option<B>, ReadError> {
        let found = match span.way {
            Way::Up => self.scan_home(source, span, visit)?,
            Way::Down => self.scan_tail(source, span, visit),
        };
        if found.is_some() {
            return Ok(found);
        }
        match span.way {
            Way::Up => Ok(self.scan_tail(source, span, visit)),
            Way::Down => self.scan_home(source, span, visit),
        }
    }

    /// What is in memory.
    fn scan_tail<B>(&self, source: Source<'_>, span: Span, visit: Visit<'_, B>) -> Option<B> {
        let segments = self.segments(source);
        for entry in span.way.over(self.tail.live_within(span.low, span.high)) {
            if let ControlFlow::Break(found) = visit(&view_at(segments, entry.place)) {
                return Some(found);
            }
        }
        None
    }

    /// What is in redb.
    fn scan_home<B>(
        &self,
        source: Source<'_>,
        span: Span,
        visit: Visit<'_, B>,
    ) -> Result<Option<B>, ReadError> {
        let mut span = span.within(0, self.home_last);
        let Span { low, high, way } = span;
        if low > high || self.is_memory() {
            return Ok(None);
        }
        match self.spec.layout {
            Layout::Blocks => {
                // The block that holds `low` begins at or before it, and most scans end there: what lies behind is
                // looked for when it is reached.
                let holding = self.blocks.range(..=low).next_back().filter(|(_, meta)| meta.last_seq >= low);
                let behind = low.checked_add(1).filter(|behind| *behind <= high);
                let behind = behind.into_iter().flat_map(|behind| self.blocks.range(behind..=high));
                for (&first, meta) in way.over(holding.into_iter().chain(behind)) {
                    let block = self.block(source, first, meta)?;
                    let found = self.scan_block(&block, span.within(first, meta.last_seq), visit)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
            }
            Layout::Rows => {
                while span.low <= span.high {
                    let block = match way {
                        Way::Up => source.library.rows(self.id.0, span.low, self.home_last)?,
                        Way::Down => Arc::new(source.library.rows_before(self.id.0, span.high)?),
                    };
                    let Some((first, last)) = block.bounds() else { break };
                    let found = self.scan_block(&block, span.within(first, last), visit)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                    match way {
                        Way::Up => span.low = last.saturating_add(1),
                        Way::Down => span.high = first.saturating_sub(1),
                    }
                }
            }
        }
        Ok(None)
    }

    fn scan_block<B>(&self, block: &Block, span: Span, visit: Visit<'_, B>) -> Result<Option<B>, ReadError> {
        let (way, mut ahead) = (span.way, span);
        for (seq, whole) in way.over(block.records_within(span.low, span.high)) {
            if let Some((first, last)) = block.broken_within(ahead.pass(seq), way) {
                return Err(self.damaged(first, last));
            }
            if !self.removed.contains(seq)
                && let Some(view) = view_in(block, whole)
                && let ControlFlow::Break(found) = visit(&view)
            {
                return Ok(Some(found));
            }
        }
        match block.broken_within((ahead.low, ahead.high), way) {
            Some((first, last)) => Err(self.damaged(first, last)),
            None => Ok(None),
        }
    }

    /// A block with as many records as the index says, or with its damage named.
    fn block(&self, source: Source<'_>, first: u64, meta: &BlockMeta) -> Result<Arc<Block>, ReadError> {
        let block = source.library.block(self.id.0, first, meta)?;
        let there = block.count_through(meta.last_seq);
        // The mover may have thinned it a moment ago; what it removed is still in our set then.
        if there < meta.messages
            && block.broken.is_empty()
            && there.saturating_add(self.removed.count_in(first, meta.last_seq)) < meta.messages
        {
            return Err(self.damaged(first, meta.last_seq));
        }
        Ok(block)
    }

    fn damaged(&self, first: u64, last: u64) -> ReadError {
        ReadError::Damaged { log: self.id, first, last }
    }

    /// How many records lie at or above `from`.
    pub(crate) fn count_from(&self, source: Source<'_>, from: u64) -> Result<u64, ReadError> {
        let from = from.max(self.totals.first_seq);
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
                    self.scan(source, first, meta.last_seq, Way::Up, &mut |_| {
                        count += 1;
                        ControlFlow::<()>::Continue(())
                    })?;
                }
            }
        }
        if from <= scan_to && !self.is_memory() {
            self.scan(source, from, scan_to, Way::Up, &mut |_| {
                count += 1;
                ControlFlow::<()>::Continue(())
            })?;
        }
        Ok(count + self.tail.live_within(from, u64::MAX).count() as u64)
    }

    /// The sequence of the first record at or after `time`.
    pub(crate) fn seek_time(&self, source: Source<'_>, time: i64) -> Result<Option<u64>, ReadError> {
        if self.totals.messages == 0 || time > self.totals.last_time {
            return Ok(None);
        }
        // Halves: every record below `low` is too early; one at or above `high` is not.
        let (mut low, mut high) = (self.totals.first_seq, self.totals.last_seq + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.scan(source, middle, high - 1, Way::Up, &mut |view| {
                ControlFlow::Break((view.frame.seq, view.frame.time))
            })?;
            match found {
                Some((seq, at)) if at < time => low = seq + 1,
                _ => high = middle,
            }
        }
        self.scan(source, low, self.totals.last_seq, Way::Up, &mut |view| ControlFlow::Break(view.frame.seq))
    }
}
