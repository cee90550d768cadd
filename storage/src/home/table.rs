//! Every table of `main.redb`: keys, values, who writes them and when they go.
//!
//! redb does not check its pages when it reads them, so everything here carries a crc of its own: records the one
//! they were born with, other values the last four bytes, which cover the table, the key and the value. Integers are
//! little-endian inside values; redb orders keys by number. Only the mover writes.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use redb::TableDefinition;

use crate::field::{array, u32_at, u64_at};
use crate::log::LogSpec;
use crate::record::LAST_SEQ;
use crate::totals::Totals;

/// The version this code writes, and the highest it reads.
pub(crate) const VERSION: u32 = 1;

/// Name to value: [`META_VERSION`], [`META_MOVED`], [`META_NEXT`]. Never go.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// u32: the version of this layout.
pub(crate) const META_VERSION: &str = "version";
/// The journal position up to which everything is in here (28 bytes, `Position`).
pub(crate) const META_MOVED: &str = "moved";
/// u32: the next log's id; ids of dropped logs are not used again.
pub(crate) const META_NEXT: &str = "next log";

/// Log to [`LogRow`]. Goes when the log is dropped.
pub(crate) const LOGS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("logs");
/// (log, key) to value. Log 0 is the store's own scope.
pub(crate) const ATTRIBUTES: TableDefinition<'_, (u32, &[u8]), &[u8]> = TableDefinition::new("attributes");
/// (log, first sequence, part) to records one behind the other: one part, or one record cut into parts.
pub(crate) const BLOCKS: TableDefinition<'_, (u32, u64, u32), &[u8]> = TableDefinition::new("blocks");
/// (log, first sequence) to [`BlockMeta`]: what lies in a block. Written with it.
pub(crate) const INDEX: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("block index");
/// (log, sequence, part) to one record, or a part of it. For logs laid out in rows.
pub(crate) const ROWS: TableDefinition<'_, (u32, u64, u32), &[u8]> = TableDefinition::new("rows");
/// (log, subject) to [`SubjectRow`]. Goes with the last record of the subject.
pub(crate) const SUBJECTS: TableDefinition<'_, (u32, &[u8]), &[u8]> = TableDefinition::new("subjects");
/// (log, first sequence, last sequence) to a sentence: what is known to be lost, and where. Log 0: it is not known
/// which. Goes when the log is dropped.
pub(crate) const DAMAGE: TableDefinition<'_, (u32, u64, u64), &[u8]> = TableDefinition::new("damage");
/// Logs that are dropped and whose records are still being removed, step by step.
pub(crate) const DROPPED: TableDefinition<'_, u32, ()> = TableDefinition::new("dropped");

/// The most a value of records has: with redb's page header it fits sixteen pages of 4 KiB.
pub(crate) const VALUE_MAX: usize = 65_536 - 256;

/// Which table a crc belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tag {
    Meta = 1,
    Log = 2,
    Attribute = 3,
    Index = 4,
    Subject = 5,
    Damage = 6,
}

/// A value with its crc.
pub(crate) fn sealed(tag: Tag, log: u32, key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(body.len().saturating_add(4));
    value.extend_from_slice(body);
    value.extend_from_slice(&crc(tag, log, key, body).to_le_bytes());
    value
}

/// The value without its crc; `None` when that is wrong.
pub(crate) fn unsealed(tag: Tag, log: u32, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let (body, stored) = value.split_at_checked(value.len().checked_sub(4)?)?;
    (crc(tag, log, key, body) == u32_at(stored, 0)?).then(|| body.to_vec())
}

fn crc(tag: Tag, log: u32, key: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&[tag as u8]);
    crc.update(&log.to_le_bytes());
    crc.update(&(key.len() as u64).to_le_bytes());
    crc.update(key);
    crc.update(body);
    crc.finalize()
}

/// A log: its specification and its numbers as of `moved`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    pub(crate) spec: LogSpec,
    pub(crate) totals: Totals,
    pub(crate) reserved: u64,
}

impl LogRow {
    pub(crate) fn new(spec: LogSpec) -> Self {
        let totals = Totals::from(spec.first_seq);
        Self { totals, reserved: totals.last_seq, spec }
    }

    pub(crate) fn encode(&self, log: u32) -> Vec<u8> {
        let mut body = self.spec.encode().to_vec();
        let Totals { messages, bytes, first_seq, last_seq, first_time, last_time } = self.totals;
        for number in [messages, bytes, first_seq, last_seq] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for time in [first_time, last_time] {
            body.extend_from_slice(&time.to_le_bytes());
        }
        body.extend_from_slice(&self.reserved.to_le_bytes());
        sealed(Tag::Log, log, &[], &body)
    }

    pub(crate) fn decode(log: u32, value: &[u8]) -> Option<Self> {
        let body = unsealed(Tag::Log, log, &[], value)?;
        Some(Self {
            spec: LogSpec::decode(body.get(..20)?)?,
            totals: Totals {
                messages: u64_at(&body, 20)?,
                bytes: u64_at(&body, 28)?,
                first_seq: u64_at(&body, 36).filter(|seq| *seq > 0)?,
                last_seq: u64_at(&body, 44).filter(|seq| *seq <= LAST_SEQ)?,
                first_time: i64_at(&body, 52)?,
                last_time: i64_at(&body, 60)?,
            },
            reserved: u64_at(&body, 68)?,
        })
    }
}

/// A block: what is in it. Its first sequence is its key, and stays that when the first record is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockMeta {
    pub(crate) last_seq: u64,
    pub(crate) messages: u64,
    /// Parts the records are cut into.
    pub(crate) parts: u32,
    /// Length of all parts together.
    pub(crate) stored: u64,
    pub(crate) first_time: i64,
    pub(crate) last_time: i64,
}

impl BlockMeta {
    pub(crate) fn encode(&self, log: u32, first_seq: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(48);
        body.extend_from_slice(&self.last_seq.to_le_bytes());
        body.extend_from_slice(&self.messages.to_le_bytes());
        body.extend_from_slice(&self.parts.to_le_bytes());
        body.extend_from_slice(&self.stored.to_le_bytes());
        body.extend_from_slice(&self.first_time.to_le_bytes());
        body.extend_from_slice(&self.last_time.to_le_bytes());
        sealed(Tag::Index, log, &first_seq.to_le_bytes(), &body)
    }

    pub(crate) fn decode(log: u32, first_seq: u64, value: &[u8]) -> Option<Self> {
        let body = unsealed(Tag::Index, log, &first_seq.to_le_bytes(), value)?;
        let last_seq = u64_at(&body, 0).filter(|last_seq| (first_seq..=LAST_SEQ).contains(last_seq))?;
        Some(Self {
            last_seq,
            messages: u64_at(&body, 8)
                .filter(|messages| messages.saturating_sub(1) <= last_seq.saturating_sub(first_seq))?,
            parts: u32_at(&body, 16)?,
            stored: u64_at(&body, 20)?,
            first_time: i64_at(&body, 28)?,
            last_time: i64_at(&body, 36)?,
        })
    }
}

/// A subject's numbers. `first_seq` and `last_seq` are bounds; the flags say whether a record lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubjectRow {
    pub(crate) messages: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) first_exact: bool,
    pub(crate) last_exact: bool,
}

impl SubjectRow {
    pub(crate) fn encode(&self, log: u32, subject: &[u8]) -> Vec<u8> {
        let mut body = Vec::with_capacity(25);
        body.extend_from_slice(&self.messages.to_le_bytes());
        body.extend_from_slice(&self.first_seq.to_le_bytes());
        body.extend_from_slice(&self.last_seq.to_le_bytes());
        body.push(u8::from(self.first_exact) | u8::from(self.last_exact) << 1);
        sealed(Tag::Subject, log, subject, &body)
    }

    pub(crate) fn decode(log: u32, subject: &[u8], value: &[u8]) -> Option<Self> {
        let body = unsealed(Tag::Subject, log, subject, value)?;
        let flags = body.get(24)?;
        Some(Self {
            messages: u64_at(&body, 0)?,
            first_seq: u64_at(&body, 8).filter(|seq| *seq > 0)?,
            last_seq: u64_at(&body, 16).filter(|seq| (1..=LAST_SEQ).contains(seq))?,
            first_exact: flags & 1 != 0,
            last_exact: flags & 2 != 0,
        })
    }
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    array(bytes, at).map(i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Cost, Layout, Medium};

    #[test]
    fn numbers_that_cannot_be_are_damage() {
        let block = |last_seq, messages| {
            let meta = BlockMeta { last_seq, messages, parts: 1, stored: 1, first_time: 0, last_time: 0 };
            BlockMeta::decode(1, 7, &meta.encode(1, 7)).is_some()
        };
        for (last_seq, messages, is_possible) in
            [(7, 1, true), (9, 3, true), (9, 0, true), (9, 4, false), (6, 0, false), (LAST_SEQ, 1, true)]
        {
            assert_eq!(block(last_seq, messages), is_possible, "{messages} from 7 to {last_seq}");
        }
        assert!(!block(u64::MAX, 1), "no sequence");
        let subject = |first_seq, last_seq| {
            let row = SubjectRow { messages: 1, first_seq, last_seq, first_exact: true, last_exact: true };
            SubjectRow::decode(1, b"a", &row.encode(1, b"a")).is_some()
        };
        assert!(subject(1, 1) && !subject(0, 1) && !subject(1, 0) && !subject(1, u64::MAX));
        let log = |first_seq, last_seq| {
            let cost = Cost { per_record: 0, per_headers: 0 };
            let spec = LogSpec { medium: Medium::Disk, layout: Layout::Rows, cost, first_seq: 1 };
            let mut row = LogRow::new(spec);
            row.totals = Totals { first_seq, last_seq, ..row.totals };
            LogRow::decode(1, &row.encode(1)).is_some()
        };
        assert!(log(1, 0) && log(u64::MAX, LAST_SEQ) && !log(0, 0) && !log(1, u64::MAX));
    }
}
