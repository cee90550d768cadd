//! Writes a batch into redb, in one transaction with the journal position it reaches.
//!
//! Removals come first, then appends, so that a block is cut once. A block with damaged bytes keeps them: only the
//! records that are removed are cut out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use redb::{Database, Durability, ReadableTable, Table, WriteTransaction};

use crate::batch::{Batch, Change};
use crate::home::shelf::ShelfError;
use crate::home::table::{
    ATTRIBUTES, BLOCKS, BlockMeta, DAMAGE, DROPPED, INDEX, LOGS, LogRow, META, META_MOVED, META_NEXT,
    META_VERSION, ROWS, SUBJECTS, SubjectRow, Tag, VALUE_MAX, VERSION, sealed, unsealed,
};
use crate::journal::format::Position;
use crate::log::{Layout, Medium};
use crate::record::{Frame, Piece, Walk, cost_of};
use crate::runs::Runs;
use crate::subjects::{Bound, Numbers, Subjects};

/// What a transaction changed of one log, for the owner's index.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Every record at or below is in redb, or gone.
    pub(crate) last_seq: u64,
    /// Blocks written.
    pub(crate) blocks: Vec<(u64, BlockMeta)>,
    /// Blocks that are gone, by first sequence.
    pub(crate) gone: Vec<u64>,
    /// Records were removed: what was read before may be stale.
    pub(crate) is_thinner: bool,
}

/// A sequence range that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) log: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) what: String,
}

pub(crate) type Report = BTreeMap<u32, Changed>;

/// Writes `batch`; afterwards everything before `position` is in redb.
pub(crate) fn commit(
    database: &Database,
    batch: &Batch,
    position: Position,
    losses: &[Loss],
) -> Result<Report, ShelfError> {
    commit_with(database, batch, position, losses, &mut None)
}

/// As [`commit`]. When only the last step fails, `written` has the report: the transaction may have taken hold.
pub(crate) fn commit_with(
    database: &Database,
    batch: &Batch,
    position: Position,
    losses: &[Loss],
    written: &mut Option<Report>,
) -> Result<Report, ShelfError> {
    let transaction = begin(database)?;
    let mut report = Report::new();
    {
        let mut meta = transaction.open_table(META)?;
        let mut next = read_meta(&meta, META_NEXT)?.and_then(|b| crate::field::u32_at(&b, 0)).unwrap_or(1);
        let mut tables = Tables::open(&transaction)?;
        for (&log, change) in &batch.changes {
            next = next.max(log.saturating_add(1));
            if let Some(changed) = tables.apply(log, batch, change)? {
                report.insert(log, changed);
            }
        }
        for loss in losses {
            let key = [loss.first.to_le_bytes(), loss.last.to_le_bytes()].concat();
            let value = sealed(Tag::Damage, loss.log, &key, loss.what.as_bytes());
            tables.damage.insert((loss.log, loss.first, loss.last), value.as_slice())?;
        }
        put_meta(&mut meta, META_VERSION, &VERSION.to_le_bytes())?;
        put_meta(&mut meta, META_MOVED, &position.encode())?;
        put_meta(&mut meta, META_NEXT, &next.to_le_bytes())?;
    }
    match transaction.commit() {
        Ok(()) => Ok(report),
        Err(error) => {
            *written = Some(report);
            Err(error.into())
        }
    }
}

pub(super) fn begin(database: &Database) -> Result<WriteTransaction, ShelfError> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

pub(crate) fn read_meta(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<Vec<u8>>, ShelfError> {
    let Some(value) = meta.get(name)? else { return Ok(None) };
    match unsealed(Tag::Meta, 0, name.as_bytes(), value.value()) {
        Some(body) => Ok(Some(body)),
        None => Err(ShelfError::new(format!("the entry \"{name}\" of the table meta is damaged"))),
    }
}

fn put_meta(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    name: &'static str,
    body: &[u8],
) -> Result<(), ShelfError> {
    meta.insert(name, sealed(Tag::Meta, 0, name.as_bytes(), body).as_slice())?;
    Ok(())
}

pub(super) struct Tables<'t> {
    pub(super) logs: Table<'t, u32, &'static [u8]>,
    pub(super) attributes: Table<'t, (u32, &'static [u8]), &'static [u8]>,
    pub(super) blocks: Table<'t, (u32, u64, u32), &'static [u8]>,
    pub(super) index: Table<'t, (u32, u64), &'static [u8]>,
    pub(super) rows: Table<'t, (u32, u64, u32), &'static [u8]>,
    pub(super) subjects: Table<'t, (u32, &'static [u8]), &'static [u8]>,
    pub(super) damage: Table<'t, (u32, u64, u64), &'static [u8]>,
    pub(super) dropped: Table<'t, u32, ()>,
}

/// One log while it is written.
pub(super) struct Work<'a> {
    pub(super) log: u32,
    pub(super) row: LogRow,
    pub(super) changed: Changed,
    pub(super) change: &'a Change,
    pub(super) subjects: Subjects,
    pub(super) touched: BTreeSet<Bytes>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, ShelfError> {
        Ok(Self {
            logs: transaction.open_table(LOGS)?,
            attributes: transaction.open_table(ATTRIBUTES)?,
            blocks: transaction.open_table(BLOCKS)?,
            index: transaction.open_table(INDEX)?,
            rows: transaction.open_table(ROWS)?,
            subjects: transaction.open_table(SUBJECTS)?,
            damage: transaction.open_table(DAMAGE)?,
            dropped: transaction.open_table(DROPPED)?,
        })
    }

    fn apply(&mut self, log: u32, batch: &Batch, change: &Change) -> Result<Option<Changed>, ShelfError> {
        if change.dropped {
            if self.logs.remove(log)?.is_some() {
                self.dropped.insert(log, ())?;
            }
            return Ok(None);
        }
        let stored = self.logs.get(log)?.map(|value| LogRow::decode(log, value.value()));
        let row = match (stored, &change.created) {
            (Some(Some(row)), _) => Some(row),
            (Some(None), _) => return Err(ShelfError::new(format!("the entry of log {log} is damaged"))),
            (None, Some(spec)) => Some(LogRow::new(spec.clone())),
            // A log whose beginning is lost; or the store's own scope.
            (None, None) if log != 0 => return Ok(None),
            (None, None) => None,
        };
        for (key, value) in &change.attributes {
            match value {
                Some(value) => {
                    let value = sealed(Tag::Attribute, log, key, value);
                    self.attributes.insert((log, key.as_ref()), value.as_slice())?;
                }
                None => {
                    self.attributes.remove((log, key.as_ref()))?;
                }
            }
        }
        let Some(row) = row else { return Ok(None) };
        let mut work = Work {
            log,
            row,
            changed: Changed::default(),
            change,
            subjects: Subjects::default(),
            touched: BTreeSet::new(),
        };
        if let Some(reserved) = change.reserved {
            work.row.reserved = reserved;
        }
        if work.row.spec.medium == Medium::Disk {
            self.remove(&mut work)?;
            match work.row.spec.layout {
                Layout::Blocks => self.append_blocks(&mut work, batch)?,
                Layout::Rows => self.append_rows(&mut work, batch)?,
            }
            work.row.totals.skip_to(change.last_seq);
            work.row.totals.last_time = change.last_time.unwrap_or(work.row.totals.last_time);
            self.write_subjects(&work)?;
        }
        work.changed.last_seq = work.row.totals.last_seq;
        self.logs.insert(log, work.row.encode(log).as_slice())?;
        Ok(Some(work.changed))
    }

    fn remove(&mut self, work: &mut Work<'_>) -> Result<(), ShelfError> {
        let (log, change) = (work.log, work.change);
        if work.row.totals.messages == 0
            || (change.floor <= work.row.totals.first_seq && change.removed.is_empty())
        {
            return Ok(());
        }
        work.changed.is_thinner = true;
        if change.floor > work.row.totals.last_seq {
            return self.clear(work);
        }
        match work.row.spec.layout {
            Layout::Blocks => self.remove_from_blocks(work)?,
            Layout::Rows => self.remove_from_rows(work)?,
        }
        let from = change.floor.max(work.row.totals.first_seq);
        let first = match work.row.spec.layout {
            Layout::Blocks => self.first_in_blocks(log, from)?,
            Layout::Rows => self.first_in_rows(log, from)?,
        };
        work.row.totals.begin_with(first);
        if first.is_none() && work.row.totals.messages > 0 {
            // What is left cannot be read. It stays where it is, and is named when it is read.
            work.row.totals.first_seq = from;
        }
        Ok(())
    }

    /// Nothing of the log stays.
    fn clear(&mut self, work: &mut Work<'_>) -> Result<(), ShelfError> {
        let log = work.log;
        let all = (log, 0, 0)..=(log, u64::MAX, u32::MAX);
        self.blocks.retain_in(all.clone(), |_, _| false)?;
        self.rows.retain_in(all, |_, _| false)?;
        for gone in self.index.extract_from_if((log, 0)..=(log, u64::MAX), |_, _| true)? {
            work.changed.gone.push(gone?.0.value().1);
        }
        self.subjects.retain_in((log, &[][..])..(log.saturating_add(1), &[][..]), |_, _| false)?;
        work.row.totals.clear();
        Ok(())
    }

    fn block(&self, log: u32, first: u64, parts: u32) -> Result<Vec<u8>, ShelfError> {
        let mut bytes = Vec::new();
        for part in self.blocks.range((log, first, 0)..(log, first, parts))? {
            bytes.extend_from_slice(part?.1.value());
        }
        Ok(bytes)
    }

    fn metas(&self, log: u32, from: u64) -> Result<Vec<(u64, BlockMeta)>, ShelfError> {
        // The block that holds `from` begins at or before it.
        let start = self
            .index
            .range((log, 0)..=(log, from))?
            .next_back()
            .transpose()?
            .map_or(0, |(key, _)| key.value().1);
        let mut metas = Vec::new();
        for row in self.index.range((log, start)..=(log, u64::MAX))? {
            let (key, value) = row?;
            let first = key.value().1;
            let meta = BlockMeta::decode(log, first, value.value()).ok_or_else(|| ShelfError {
                to_mend: Some(log),
                ..ShelfError::new(format!("the index of block {first} of log {log} is damaged"))
            })?;
            metas.push((first, meta));
        }
        Ok(metas)
    }

    fn remove_from_blocks(&mut self, work: &mut Work<'_>) -> Result<(), ShelfError> {
        let (log, change) = (work.log, work.change);
        let old_first = work.row.totals.first_seq;
        for (first, meta) in self.metas(log, old_first)? {
            let below = first.max(old_first) < change.floor;
            let thinned = change.removed.within(first, meta.last_seq).next().is_some();
            if !below && !thinned {
                continue;
            }
            let whole = meta.last_seq < change.floor;
            let bytes = self.block(log, first, meta.parts)?;
            let mut kept = Vec::with_capacity(bytes.len());
            let mut next = BlockMeta { messages: 0, first_time: 0, last_time: 0, ..meta };
            for piece in Walk::of_log(&bytes, log) {
                match piece {
                    Piece::Whole(frame, at) => {
                        let gone = frame.seq < change.floor || change.removed.contains(frame.seq);
                        if gone && frame.seq >= old_first {
                            self.forget(work, &frame)?;
                        }
                        // Records below the floor stay in a block until all of it goes.
                        if !change.removed.contains(frame.seq) {
                            kept.extend_from_slice(&bytes[at]);
                            if next.messages == 0 {
                                next.first_time = frame.time;
                            }
                            next.messages += 1;
                            next.last_time = frame.time;
                        }
                    }
                    Piece::Broken(at) => kept.extend_from_slice(&bytes[at]),
                }
            }
            if whole || kept.is_empty() {
                self.remove_block(log, first)?;
                work.changed.gone.push(first);
            } else if thinned {
                next.stored = kept.len() as u64;
                self.write_block(log, first, &kept, &mut next, meta.parts)?;
                work.changed.blocks.push((first, next));
            }
        }
        Ok(())
    }

    fn remove_block(&mut self, log: u32, first: u64) -> Result<(), ShelfError> {
        self.blocks.retain_in((log, first, 0)..=(log, first, u32::MAX), |_, _| false)?;
        self.index.remove((log, first))?;
        Ok(())
    }

    fn write_block(
        &mut self,
        log: u32,
        first: u64,
        bytes: &[u8],
        meta: &mut BlockMeta,
        parts_before: u32,
    ) -> Result<(), ShelfError> {
        let mut parts = 0;
        for part in bytes.chunks(VALUE_MAX) {
            self.blocks.insert((log, first, parts), part)?;
            parts += 1;
        }
        if parts < parts_before {
            self.blocks.retain_in((log, first, parts)..=(log, first, u32::MAX), |_, _| false)?;
        }
        meta.parts = parts;
        meta.stored = bytes.len() as u64;
        self.index.insert((log, first), meta.encode(log, first).as_slice())?;
        Ok(())
    }

    fn first_in_blocks(&self, log: u32, from: u64) -> Result<Option<(u64, i64)>, ShelfError> {
        for (first, meta) in self.metas(log, from)? {
            if meta.last_seq < from {
                continue;
            }
            let bytes = self.block(log, first, meta.parts)?;
            for piece in Walk::of_log(&bytes, log) {
                if let Piece::Whole(frame, _) = piece
                    && frame.seq >= from
                {
                    return Ok(Some((frame.seq, frame.time)));
                }
            }
        }
        Ok(None)
    }

    fn append_blocks(&mut self, work: &mut Work<'_>, batch: &Batch) -> Result<(), ShelfError> {
        let log = work.log;
        let mut open: Option<(u64, Vec<u8>, BlockMeta)> = None;
        let mut is_first = true;
        let last_seq = work.row.totals.last_seq;
        // A record that was salvaged from a damaged journal may be here already.
        for (frame, whole) in batch.records(work.change).filter(|(frame, _)| frame.seq > last_seq) {
            if std::mem::take(&mut is_first) {
                open = self.last_block(log, whole.len())?;
            }
            self.remember(work, &frame)?;
            if let Some((first, bytes, mut meta)) =
                open.take_if(|(_, bytes, _)| bytes.len() + whole.len() > VALUE_MAX)
            {
                let before = meta.parts;
                self.write_block(log, first, &bytes, &mut meta, before)?;
                work.changed.blocks.push((first, meta));
            }
            let (_, bytes, meta) = open.get_or_insert_with(|| {
                let meta = BlockMeta {
                    last_seq: 0,
                    messages: 0,
                    parts: 0,
                    stored: 0,
                    first_time: frame.time,
                    last_time: 0,
                };
                (frame.seq, Vec::with_capacity(VALUE_MAX), meta)
            });
            bytes.extend_from_slice(whole);
            meta.last_seq = frame.seq;
            meta.last_time = frame.time;
            meta.messages += 1;
        }
        if let Some((first, bytes, mut meta)) = open {
            let before = meta.parts;
            self.write_block(log, first, &bytes, &mut meta, before)?;
            work.changed.blocks.push((first, meta));
        }
        Ok(())
    }

    /// The last block, when a record of `more` bytes still fits it.
    fn last_block(&self, log: u32, more: usize) -> Result<Option<(u64, Vec<u8>, BlockMeta)>, ShelfError> {
        let last = self.index.range((log, 0)..=(log, u64::MAX))?.next_back().transpose()?;
        let Some((key, value)) = last else { return Ok(None) };
        let first = key.value().1;
        let Some(meta) = BlockMeta::decode(log, first, value.value()) else { return Ok(None) };
        if meta.stored.saturating_add(more as u64) > VALUE_MAX as u64 {
            return Ok(None);
        }
        Ok(Some((first, self.block(log, first, meta.parts)?, meta)))
    }

    fn append_rows(&mut self, work: &mut Work<'_>, batch: &Batch) -> Result<(), ShelfError> {
        let (log, last_seq) = (work.log, work.row.totals.last_seq);
        for (frame, whole) in batch.records(work.change).filter(|(frame, _)| frame.seq > last_seq) {
            self.remember(work, &frame)?;
            for (part, bytes) in (0u32..).zip(whole.chunks(VALUE_MAX)) {
                self.rows.insert((log, frame.seq, part), bytes)?;
            }
        }
        Ok(())
    }

    fn remove_from_rows(&mut self, work: &mut Work<'_>) -> Result<(), ShelfError> {
        let change = work.change;
        let mut gone = Runs::default();
        for (first, last) in change.removed.within(work.row.totals.first_seq, work.row.totals.last_seq) {
            gone.insert(first, last);
        }
        if change.floor > work.row.totals.first_seq {
            gone.insert(work.row.totals.first_seq, change.floor - 1);
        }
        for (first, last) in gone.iter() {
            let range = (work.log, first, 0)..=(work.log, last, u32::MAX);
            let mut rows: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
            for row in self.rows.extract_from_if(range, |_, _| true)? {
                let (key, value) = row?;
                rows.entry(key.value().1).or_default().extend_from_slice(value.value());
            }
            for bytes in rows.values() {
                match Frame::parse(bytes) {
                    Some(frame) => self.forget(work, &frame)?,
                    None => work.row.totals.subtract(1, 0),
                }
            }
        }
        Ok(())
    }

    fn first_in_rows(&self, log: u32, from: u64) -> Result<Option<(u64, i64)>, ShelfError> {
        let mut at = from;
        loop {
            let row = self.rows.range((log, at, 0)..=(log, u64::MAX, u32::MAX))?.next().transpose()?;
            let Some((key, _)) = row else { return Ok(None) };
            let seq = key.value().1;
            let mut bytes = Vec::new();
            for part in self.rows.range((log, seq, 0)..=(log, seq, u32::MAX))? {
                bytes.extend_from_slice(part?.1.value());
            }
            if let Some(frame) = Frame::parse(&bytes) {
                return Ok(Some((seq, frame.time)));
            }
            let Some(next) = seq.checked_add(1) else { return Ok(None) };
            at = next;
        }
    }

    /// A record leaves: numbers and subject.
    fn forget(&mut self, work: &mut Work<'_>, frame: &Frame<'_>) -> Result<(), ShelfError> {
        work.row.totals.subtract(1, cost_of(work.row.spec.cost, frame));
        self.touch(work, frame.subject)?;
        work.subjects.removed(frame.subject, frame.seq);
        Ok(())
    }

    /// A record comes.
    pub(super) fn remember(&mut self, work: &mut Work<'_>, frame: &Frame<'_>) -> Result<(), ShelfError> {
        work.row.totals.add(frame, work.row.spec.cost);
        self.touch(work, frame.subject)?;
        work.subjects.added(frame.subject, frame.seq);
        Ok(())
    }

    /// Brings a subject's row in, once.
    fn touch(&mut self, work: &mut Work<'_>, subject: &[u8]) -> Result<(), ShelfError> {
        if work.touched.contains(subject) {
            return Ok(());
        }
        let subject = Bytes::copy_from_slice(subject);
        let row = self.subjects.get((work.log, subject.as_ref()))?;
        // After a clear the rows are gone; a damaged row begins anew and is counted again when the log is loaded.
        if let Some(row) = row.and_then(|value| SubjectRow::decode(work.log, &subject, value.value())) {
            let first = Bound { seq: row.first_seq, exact: row.first_exact };
            let last = Bound { seq: row.last_seq, exact: row.last_exact };
            work.subjects.load(subject.clone(), Numbers::new(row.messages, first, last));
        }
        work.touched.insert(subject);
        Ok(())
    }

    pub(super) fn write_subjects(&mut self, work: &Work<'_>) -> Result<(), ShelfError> {
        for subject in &work.touched {
            let key = (work.log, subject.as_ref());
            match work.subjects.get(subject) {
                Some(numbers) => {
                    let (first, last) = (numbers.first.get(), numbers.last.get());
                    let row = SubjectRow {
                        messages: numbers.messages,
                        first_seq: first.seq,
                        last_seq: last.seq,
                        first_exact: first.exact,
                        last_exact: last.exact,
                    };
                    self.subjects.insert(key, row.encode(work.log, subject).as_slice())?;
                }
                None => {
                    self.subjects.remove(key)?;
                }
            }
        }
        Ok(())
    }
}
