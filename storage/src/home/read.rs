//! Reads records out of redb, a block at a time, each in a short transaction, every crc checked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase};

use crate::home::shelf::{Shelf, ShelfError, guarded};
use crate::home::table::{BLOCKS, BlockMeta, ROWS};
use crate::record::{Frame, Piece, Walk};

/// Decoded blocks that are kept, in bytes.
const CACHE_BYTES: usize = 4 << 20;
/// Rows that are read together.
const ROWS_TOGETHER: usize = 256;
/// Bytes of rows that are read together.
const ROW_BYTES_TOGETHER: usize = 64 << 10;

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The lowest sequence first.
    Up,
    /// The highest sequence first.
    Down,
}

impl Way {
    /// Items in ascending order, this way.
    pub(crate) fn over<I: DoubleEndedIterator>(self, mut items: I) -> impl Iterator<Item = I::Item> {
        std::iter::from_fn(move || match self {
            Self::Up => items.next(),
            Self::Down => items.next_back(),
        })
    }
}

/// Records that lie together, with what is known to be missing between them.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Bytes,
    /// Sequence, offset and length, ascending.
    records: Vec<(u64, u32, u32)>,
    /// Sequence ranges in which damaged bytes lie.
    pub(crate) broken: Vec<(u64, u64)>,
}

impl Block {
    /// Index of the first record at or above `seq`.
    pub(crate) fn position(&self, seq: u64) -> usize {
        let Some(((front, ..), (back, ..))) = self.records.first().zip(self.records.last()) else { return 0 };
        if seq > *back {
            return self.records.len();
        }
        // Without gaps the index is the distance to the front.
        if let Ok(guess) = usize::try_from(seq.saturating_sub(*front))
            && self.records.get(guess).is_some_and(|(at, ..)| *at == seq)
        {
            return guess;
        }
        self.records.partition_point(|(at, ..)| *at < seq)
    }

    /// What the records lie in.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A record's sequence and bytes.
    pub(crate) fn record(&self, at: usize) -> Option<(u64, &[u8])> {
        self.records.get(at).map(|record| self.whole(record))
    }

    /// The records of `low..=high`, in order.
    pub(crate) fn records_within(
        &self,
        low: u64,
        high: u64,
    ) -> impl DoubleEndedIterator<Item = (u64, &[u8])> {
        let end = self.position(high.saturating_add(1));
        let range = self.position(low).min(end)..end;
        self.records.get(range).unwrap_or_default().iter().map(|record| self.whole(record))
    }

    fn whole(&self, (seq, offset, len): &(u64, u32, u32)) -> (u64, &[u8]) {
        let start = *offset as usize;
        (*seq, self.bytes.get(start..start + *len as usize).unwrap_or_default())
    }

    /// The lowest and the highest sequence, damage included.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        let records = self.records.first().zip(self.records.last());
        let records = records.map(|((first, ..), (last, ..))| (*first, *last));
        let broken = self.broken.first().zip(self.broken.last());
        let broken = broken.map(|((first, _), (_, last))| (*first, *last));
        let both = records.into_iter().chain(broken);
        both.reduce(|(first, last), (other_first, other_last)| (first.min(other_first), last.max(other_last)))
    }

    /// Records up to `last`.
    pub(crate) fn count_through(&self, last: u64) -> u64 {
        self.position(last.saturating_add(1)) as u64
    }

    /// The damaged range that a scan meets first in `low..=high`, cut to it.
    pub(crate) fn broken_within(&self, (low, high): (u64, u64), way: Way) -> Option<(u64, u64)> {
        let touching = |(first, last): &&(u64, u64)| low <= high && *first <= high && *last >= low;
        let (first, last) = way.over(self.broken.iter()).find(touching)?;
        Some(((*first).max(low), (*last).min(high)))
    }

    fn decode(log: u32, bytes: Vec<u8>, first: u64, last: u64) -> Self {
        let bytes = Bytes::from(bytes);
        let mut block = Self { bytes: bytes.clone(), ..Self::default() };
        let (mut expected, mut is_broken) = (first, bytes.is_empty());
        for piece in Walk::of_log(&bytes, log) {
            match piece {
                Piece::Whole(frame, at) if frame.seq >= expected && frame.seq <= last.max(frame.seq) => {
                    if is_broken && frame.seq > expected {
                        block.broken.push((expected, frame.seq - 1));
                    }
                    is_broken = false;
                    expected = frame.seq.saturating_add(1);
                    #[expect(clippy::cast_possible_truncation, reason = "a record is below 4 GiB")]
                    block.records.push((frame.seq, at.start as u32, at.len() as u32));
                }
                Piece::Whole(..) | Piece::Broken(_) => is_broken = true,
            }
        }
        if is_broken && expected <= last {
            block.broken.push((expected, last));
        }
        block
    }
}

/// Most bytes that are made room for before a block is read.
const AHEAD_MAX: usize = 8 << 20;

/// The reader's side of redb, with a small cache of decoded blocks.
#[derive(Debug)]
pub(crate) struct Library {
    shelf: Arc<Shelf>,
    cache: RefCell<Cache>,
    /// The system has refused a read.
    is_shut: Cell<bool>,
}

#[derive(Debug, Default)]
struct Cache {
    /// (log, first sequence) to when it was last used, and the block.
    blocks: BTreeMap<(u32, u64), (u64, Arc<Block>)>,
    bytes: usize,
    clock: u64,
}

impl Library {
    pub(crate) fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf, cache: RefCell::default(), is_shut: Cell::default() }
    }

    /// Whether the system has refused a read since this was asked: redb then gives nothing before it is opened again.
    pub(crate) fn was_shut(&self) -> bool {
        self.is_shut.take()
    }

    /// Reads something of redb.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, ShelfError>,
    ) -> Result<T, ShelfError> {
        let read = guarded(|| work(&self.shelf.database()));
        if read.as_ref().is_err_and(|error| error.kind.is_some()) {
            self.is_shut.set(true);
        }
        read
    }

    /// The block of `log` that begins at `first`.
    pub(crate) fn block(&self, log: u32, first: u64, meta: &BlockMeta) -> Result<Arc<Block>, ShelfError> {
        self.cached(
            (log, first),
            |block| block.count_through(meta.last_seq) >= meta.messages || !block.broken.is_empty(),
            |database| {
                let transaction = database.begin_read()?;
                let blocks = transaction.open_table(BLOCKS)?;
                // Longer ones grow: memory that is not there for what a row merely says would end the process.
                let ahead = usize::try_from(meta.stored).unwrap_or(AHEAD_MAX).min(AHEAD_MAX);
                let mut bytes = Vec::with_capacity(ahead);
                for part in 0..meta.parts {
                    match blocks.get((log, first, part))? {
                        Some(value) => bytes.extend_from_slice(value.value()),
                        None => break,
                    }
                }
                Ok(Block::decode(log, bytes, first, meta.last_seq))
            },
        )
    }

    /// Rows of `log` that lie together: those from `from` on, up to a bound, and maybe some before.
    pub(crate) fn rows(&self, log: u32, from: u64, last: u64) -> Result<Arc<Block>, ShelfError> {
        // Rows read together cover everything from their key to the last of them.
        let covering = {
            let cache = self.cache.borrow();
            let before = cache.blocks.range((log, 0)..=(log, from)).next_back();
            before
                .filter(|(_, (_, block))| block.bounds().is_some_and(|(_, last)| last >= from))
                .map_or(from, |((_, first), _)| *first)
        };
        self.rows_from(log, covering, last)
    }

    fn rows_from(&self, log: u32, from: u64, last: u64) -> Result<Arc<Block>, ShelfError> {
        self.cached(
            (log, from),
            |_| true,
            |database| {
                let transaction = database.begin_read()?;
                let rows = transaction.open_table(ROWS)?;
                let mut block = Gather::default();
                for row in rows.range((log, from, 0)..=(log, last, u32::MAX))? {
                    let (key, value) = row?;
                    if !block.take(log, key.value().1, value.value(), true) {
                        break;
                    }
                }
                Ok(block.finish(log))
            },
        )
    }

    /// Rows of `log` at or below `from`, the nearest ones, in ascending order.
    pub(crate) fn rows_before(&self, log: u32, from: u64) -> Result<Block, ShelfError> {
        self.read(|database| {
            let transaction = database.begin_read()?;
            let rows = transaction.open_table(ROWS)?;
            let mut seqs: Vec<u64> = Vec::new();
            let mut bytes = 0;
            for row in rows.range((log, 0, 0)..=(log, from, u32::MAX))?.rev() {
                let (key, value) = row?;
                let seq = key.value().1;
                if seqs.last() != Some(&seq) {
                    if seqs.len() >= ROWS_TOGETHER || bytes >= ROW_BYTES_TOGETHER {
                        break;
                    }
                    seqs.push(seq);
                }
                bytes += value.value().len();
            }
            let mut block = Gather::default();
            if let Some(first) = seqs.last() {
                for row in rows.range((log, *first, 0)..=(log, from, u32::MAX))? {
                    let (key, value) = row?;
                    block.take(log, key.value().1, value.value(), false);
                }
            }
            Ok(block.finish(log))
        })
    }

    /// One row, not cached.
    pub(crate) fn row(&self, log: u32, seq: u64) -> Result<Block, ShelfError> {
        self.read(|database| {
            let transaction = database.begin_read()?;
            let rows = transaction.open_table(ROWS)?;
            let mut block = Gather::default();
            for row in rows.range((log, seq, 0)..=(log, seq, u32::MAX))? {
                block.take(log, seq, row?.1.value(), false);
            }
            Ok(block.finish(log))
        })
    }

    /// Forgets what was read of a log.
    pub(crate) fn forget(&self, log: u32) {
        let mut cache = self.cache.borrow_mut();
        let keys: Vec<_> = cache.blocks.range((log, 0)..=(log, u64::MAX)).map(|(key, _)| *key).collect();
        for key in keys {
            cache.drop(key);
        }
    }

    fn cached(
        &self,
        key: (u32, u64),
        still_good: impl Fn(&Block) -> bool,
        read: impl FnOnce(&Database) -> Result<Block, ShelfError>,
    ) -> Result<Arc<Block>, ShelfError> {
        {
            let mut cache = self.cache.borrow_mut();
            cache.clock += 1;
            let clock = cache.clock;
            if let Some((used, block)) = cache.blocks.get_mut(&key)
                && still_good(block)
            {
                *used = clock;
                return Ok(Arc::clone(block));
            }
        }
        let block = Arc::new(self.read(read)?);
        self.cache.borrow_mut().put(key, Arc::clone(&block));
        Ok(block)
    }
}

impl Cache {
    fn put(&mut self, key: (u32, u64), block: Arc<Block>) {
        self.drop(key);
        self.bytes += block.bytes.len();
        self.blocks.insert(key, (self.clock, block));
        while self.bytes > CACHE_BYTES && self.blocks.len() > 1 {
            let Some(oldest) = self.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key)
            else {
                break;
            };
            self.drop(oldest);
        }
    }

    fn drop(&mut self, key: (u32, u64)) {
        if let Some((_, block)) = self.blocks.remove(&key) {
            self.bytes -= block.bytes.len();
        }
    }
}

/// Puts rows together to a block.
#[derive(Default)]
struct Gather {
    bytes: Vec<u8>,
    /// Sequence, and where its bytes begin.
    rows: Vec<(u64, usize)>,
}

impl Gather {
    /// Takes one part of a row; `false` when enough is gathered.
    fn take(&mut self, _log: u32, seq: u64, part: &[u8], is_bounded: bool) -> bool {
        if self.rows.last().is_none_or(|(last, _)| *last != seq) {
            if is_bounded && (self.rows.len() >= ROWS_TOGETHER || self.bytes.len() >= ROW_BYTES_TOGETHER) {
                return false;
            }
            self.rows.push((seq, self.bytes.len()));
        }
        self.bytes.extend_from_slice(part);
        true
    }

    fn finish(self, log: u32) -> Block {
        let mut block = Block { bytes: Bytes::from(self.bytes), ..Block::default() };
        for (at, &(seq, start)) in self.rows.iter().enumerate() {
            let end = self.rows.get(at + 1).map_or(block.bytes.len(), |(_, next)| *next);
            let whole = block.bytes.get(start..end).unwrap_or_default();
            match Frame::parse(whole) {
                Some(frame) if frame.log == log && frame.seq == seq && frame.len() == whole.len() => {
                    #[expect(clippy::cast_possible_truncation, reason = "a record is below 4 GiB")]
                    block.records.push((seq, start as u32, whole.len() as u32));
                }
                _ => block.broken.push((seq, seq)),
            }
        }
        block
    }
}
