//! What the store says when it cannot do something, and what it knows to be lost.

use std::io;

use crate::log::LogId;

/// Why a store could not be opened. Each names what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file cannot be read, written or made.
    #[error("cannot use {file} in the store's folder: {error}")]
    Io {
        /// Which file.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// The database cannot be opened or brought up to date.
    #[error(
        "the database {file} of the store cannot be used: {error}; put a copy aside before anything is repaired"
    )]
    Database {
        /// Which file.
        file: &'static str,
        /// What redb says.
        error: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "{file} has format version {version}, this program reads up to {known}: use a later version of it"
    )]
    Newer {
        /// Which file.
        file: String,
        /// Its version.
        version: u32,
        /// The highest this code reads.
        known: u32,
    },
    /// An option is out of its range.
    #[error("journal_file_bytes is {bytes}; it lies between {least} and {most} and is a multiple of 512")]
    JournalFileBytes {
        /// What was asked for.
        bytes: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
}

impl OpenError {
    /// Whether the disk has no room.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { error, .. } if matches!(error.kind(), StorageFull | QuotaExceeded))
    }
}

/// Why something could not be staged. Nothing of it is staged then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The log does not exist.
    #[error("there is no log {}", .0.0)]
    NoSuchLog(LogId),
    /// The sequence is not above the last one.
    #[error("sequence {seq} is not above the last sequence {last_seq} of log {}", .log.0)]
    SequenceUsed {
        /// The log.
        log: LogId,
        /// What was asked for.
        seq: u64,
        /// Its highest sequence so far.
        last_seq: u64,
    },
    /// A part is longer than its field, or the record longer than a journal file.
    #[error("{part} of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLong {
        /// What is too long.
        part: &'static str,
        /// Its length.
        bytes: u64,
        /// The most it may have.
        limit: u64,
    },
    /// A subject is empty, or a log's first sequence is zero.
    #[error("{0}")]
    Invalid(&'static str),
    /// What must be read for it cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The journal is full: redb cannot follow. Nothing is lost; try again later.
    #[error("the journal holds {bytes} bytes that are not in the database yet (limit {limit}){cause}")]
    Busy {
        /// Bytes that wait.
        bytes: u64,
        /// The most that may.
        limit: u64,
        /// What redb says, if it cannot be written; else empty.
        cause: String,
    },
    /// A write or sync has failed and the store has not recovered yet. Reads go on.
    #[error("the store takes no writes: {cause}")]
    Failed {
        /// What failed.
        cause: String,
    },
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The log does not exist.
    #[error("there is no log {}", .0.0)]
    NoSuchLog(LogId),
    /// Records are damaged or lost. What lies before and behind can be read: go on at `last + 1`.
    #[error("sequences {first} to {last} of log {} are damaged", .log.0)]
    Damaged {
        /// The log.
        log: LogId,
        /// First sequence that may be damaged.
        first: u64,
        /// Last sequence that may be damaged.
        last: u64,
    },
    /// The database cannot be read now.
    #[error("the database cannot be read: {0}")]
    Unavailable(String),
}

/// A stretch that is known to be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The log; 0 when it is not known which, then the numbers are bytes of a file.
    pub log: LogId,
    /// First sequence that may be lost.
    pub first: u64,
    /// Last sequence that may be lost.
    pub last: u64,
    /// What happened, and where.
    pub what: String,
}
