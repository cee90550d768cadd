//! What a log is to its user: its id, its kind, its records and its numbers.

use bytes::Bytes;

use crate::field::{u32_at, u64_at};

/// Names a log for ever; never used again after the log is dropped. Zero is the store's own scope: it holds
/// attributes and no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u32);

/// Where the records of a log live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Records go through the journal into redb.
    Disk,
    /// Records stay in memory and are gone after a restart; the log, its attributes and its sequences are not:
    /// sequences are reserved in the journal in blocks of 65,536, so that none is ever used twice.
    Memory,
}

/// How the records of a disk log lie in redb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Packed blocks of just under 64 KiB: for logs that lose records at the front.
    Blocks,
    /// One row each: for logs that lose records anywhere (key-value, work queues).
    Rows,
}

/// What a record counts for in [`LogState::bytes`]: these, and the lengths of subject, headers and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes added for each record.
    pub per_record: u32,
    /// Bytes added for a record with headers.
    pub per_headers: u32,
}

/// What is fixed when a log is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpec {
    /// Where records live.
    pub medium: Medium,
    /// How they lie in redb.
    pub layout: Layout,
    /// How they are counted.
    pub cost: Cost,
    /// The first sequence to be used; at least 1.
    pub first_seq: u64,
}

/// A record as it is read. The parts share one allocation with their neighbours; copy what is kept for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its sequence in the log.
    pub seq: u64,
    /// Nanoseconds since 1970, as given by the writer.
    pub time: i64,
    /// Subject, not empty.
    pub subject: Bytes,
    /// The header block as it came, or empty.
    pub headers: Bytes,
    /// Payload.
    pub payload: Bytes,
}

/// The numbers of a log, staged records included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Records present.
    pub messages: u64,
    /// Their cost in bytes ([`Cost`]).
    pub bytes: u64,
    /// Sequence of the first record present; `last_seq + 1` when there is none. (A new log: its spec's `first_seq`.)
    pub first_seq: u64,
    /// Highest sequence ever used; `first_seq - 1` in a new log.
    pub last_seq: u64,
    /// Time of the first record present; 0 when there is none.
    pub first_time: i64,
    /// Time of the last record ever appended; 0 when there was none.
    pub last_time: i64,
    /// Distinct subjects present.
    pub subjects: u64,
    /// Every sequence up to here is durable (memory logs: `last_seq`). Only these may be shown to consumers.
    pub durable_seq: u64,
}

/// The numbers of one subject in a log, staged records included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectState {
    /// Records present on this subject.
    pub messages: u64,
    /// Sequence of the first of them.
    pub first_seq: u64,
    /// Sequence of the last of them.
    pub last_seq: u64,
}

/// What a bounded search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next record that matches.
    Record(Record),
    /// Nothing matches up to the end of the range.
    End,
    /// The budget is spent; go on from this sequence.
    More(u64),
}

impl LogSpec {
    /// The specification as it is stored: medium, layout, two zeros, the two costs, the first sequence.
    pub(crate) fn encode(&self) -> [u8; 20] {
        let mut bytes = [0u8; 20];
        bytes[0] = match self.medium {
            Medium::Disk => 1,
            Medium::Memory => 2,
        };
        bytes[1] = match self.layout {
            Layout::Blocks => 1,
            Layout::Rows => 2,
        };
        bytes[4..8].copy_from_slice(&self.cost.per_record.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.cost.per_headers.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes
    }

    /// What [`Self::encode`] made; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            medium: match bytes.first()? {
                1 => Medium::Disk,
                2 => Medium::Memory,
                _ => return None,
            },
            layout: match bytes.get(1)? {
                1 => Layout::Blocks,
                2 => Layout::Rows,
                _ => return None,
            },
            cost: Cost { per_record: u32_at(bytes, 4)?, per_headers: u32_at(bytes, 8)? },
            first_seq: u64_at(bytes, 12).filter(|first| *first > 0 && bytes.len() == 20)?,
        })
    }
}
