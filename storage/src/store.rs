//! The store: the one owner's view of all logs.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::log::{LogId, LogSpec, LogState, Next, Record, SubjectState};

/// Decides whether a subject is wanted.
pub type Matcher<'a> = &'a dyn Fn(&[u8]) -> bool;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Size of a journal file in bytes (default 16 MiB, minimum 64 KiB).
    pub journal_file_bytes: u64,
    /// redb's cache in bytes (default 64 MiB).
    pub cache_bytes: usize,
    /// Called from a worker thread whenever [`Store::process`] has something to do.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// Why a store could not be opened. Each names what was found, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {}

/// Why something could not be staged. Nothing of it is staged then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {}

/// What [`Store::process`] found.
#[derive(Debug, Default)]
pub struct Events {
    /// Some log's `durable_seq` rose.
    pub durable: bool,
    /// A sync or write failed: everything staged since the last durable point is undone, and the store has rebuilt
    /// itself from what was answered (or refuses writes until it could). State machines on top must be rebuilt.
    pub failed: Option<String>,
}

/// The store. Changes are *staged* by the calls below and visible to this owner's reads at once; [`Store::seal`]
/// hands what was staged since the last seal to the journal as one atomic chunk.
#[derive(Debug)]
pub struct Store {}

#[allow(unused_variables, clippy::unimplemented, clippy::needless_pass_by_value, missing_docs)]
impl Store {
    /// Opens the store in `disk`, recovers it, and starts its two workers.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Every log there is, in order of id.
    pub fn logs(&self) -> Vec<LogId> {
        unimplemented!()
    }
    pub fn spec(&self, log: LogId) -> Option<&LogSpec> {
        unimplemented!()
    }
    /// Stages a new log.
    pub fn create_log(&mut self, spec: LogSpec) -> Result<LogId, StageError> {
        unimplemented!()
    }
    /// Stages the end of a log with all its records and attributes; its space is given back in the background.
    pub fn drop_log(&mut self, log: LogId) -> Result<(), StageError> {
        unimplemented!()
    }

    /// Stages a record. `seq` must be above `last_seq`; sequences skipped over count as deleted.
    pub fn append(
        &mut self,
        log: LogId,
        seq: u64,
        time: i64,
        subject: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> Result<(), StageError> {
        unimplemented!()
    }
    /// Stages that every sequence up to `last_seq` is used, without records (a mirror skipping a gap).
    pub fn skip_to(&mut self, log: LogId, last_seq: u64) -> Result<(), StageError> {
        unimplemented!()
    }
    /// Stages the removal of these sequences (those present), as one operation. Returns how many were present.
    pub fn remove(&mut self, log: LogId, seqs: &[u64]) -> Result<u64, StageError> {
        unimplemented!()
    }
    /// Stages the removal of every record below `first_seq`; `first_seq` may lie beyond the end, then
    /// `last_seq` becomes `first_seq - 1`. Returns how many were present.
    pub fn purge(&mut self, log: LogId, first_seq: u64) -> Result<u64, StageError> {
        unimplemented!()
    }
    /// Removes records for a reason that can be derived again after a crash (age, limits): not journaled; redb
    /// follows in the background. Returns how many were present.
    pub fn evict(&mut self, log: LogId, seqs: &[u64]) -> u64 {
        unimplemented!()
    }
    /// As [`Self::evict`], for every record below `first_seq` (which is at most `last_seq + 1`).
    pub fn evict_below(&mut self, log: LogId, first_seq: u64) -> u64 {
        unimplemented!()
    }

    /// Stages an attribute. Log 0 is the store's own scope.
    pub fn set_attribute(&mut self, log: LogId, key: &[u8], value: &[u8]) -> Result<(), StageError> {
        unimplemented!()
    }
    pub fn remove_attribute(&mut self, log: LogId, key: &[u8]) -> Result<(), StageError> {
        unimplemented!()
    }
    pub fn attribute(&self, log: LogId, key: &[u8]) -> Option<Bytes> {
        unimplemented!()
    }
    /// All attributes of a log whose key starts with `prefix`, in key order.
    pub fn attributes(&self, log: LogId, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        unimplemented!()
    }

    /// Bytes staged since the last seal. The owner seals at 1 MiB at the latest: a chunk never spans journal files.
    pub fn staged_bytes(&self) -> usize {
        unimplemented!()
    }
    /// Hands what is staged to the journal. `release` runs (on the journal's thread, in order of the calls to `seal`)
    /// once all of it and everything before is durable, with `Ok`, or with what went wrong. With nothing staged and
    /// nothing under way it runs at once, on this thread.
    pub fn seal(&mut self, release: Box<dyn FnOnce(Result<(), String>) + Send>) {
        unimplemented!()
    }
    /// Takes the workers' reports: durable marks, moved records. Call it after each `wake`.
    pub fn process(&mut self) -> Events {
        unimplemented!()
    }
    /// How full the journal is with records that redb does not have yet, 0-100. Slow publishers down from 50 on.
    pub fn pressure(&self) -> u8 {
        unimplemented!()
    }
    /// Seals, waits until everything is durable and moved to redb, stops the workers.
    pub fn close(self) -> Result<(), String> {
        unimplemented!()
    }

    pub fn state(&self, log: LogId) -> Option<LogState> {
        unimplemented!()
    }
    pub fn get(&self, log: LogId, seq: u64) -> Result<Option<Record>, ReadError> {
        unimplemented!()
    }
    /// The first record in `from..=up_to` whose subject matches; examines at most `budget` records.
    /// `matcher: None` matches everything.
    pub fn next(
        &self,
        log: LogId,
        from: u64,
        up_to: u64,
        matcher: Option<Matcher<'_>>,
        budget: usize,
    ) -> Result<Next, ReadError> {
        unimplemented!()
    }
    /// The last record at or below `up_to` whose subject matches.
    pub fn last(
        &self,
        log: LogId,
        up_to: u64,
        matcher: Option<Matcher<'_>>,
    ) -> Result<Option<Record>, ReadError> {
        unimplemented!()
    }
    /// The sequence of the first record with a time of at least `time`.
    pub fn seek_time(&self, log: LogId, time: i64) -> Result<Option<u64>, ReadError> {
        unimplemented!()
    }
    /// How many records at or above `from` match.
    pub fn count(&self, log: LogId, from: u64, matcher: Option<Matcher<'_>>) -> Result<u64, ReadError> {
        unimplemented!()
    }
    /// The numbers of one subject; `None` when no record has it.
    pub fn subject(&self, log: LogId, subject: &[u8]) -> Option<SubjectState> {
        unimplemented!()
    }
    /// The numbers of every subject that matches, in byte order.
    pub fn subjects(&self, log: LogId, matcher: Option<Matcher<'_>>) -> Vec<(Bytes, SubjectState)> {
        unimplemented!()
    }
    /// The sequences absent between `first_seq` and `last_seq`, at most `max` of them.
    pub fn gaps(&self, log: LogId, max: usize) -> Result<Vec<u64>, ReadError> {
        unimplemented!()
    }
}
