//! The store: the one owner's view of all logs. This file stages, seals and takes the workers' reports; `open.rs`
//! begins and ends, `read.rs` reads, `failure.rs` says what a failed write means.
//!
//! A change is encoded once, into the chunk that grows, and taken into the owner's indexes at once. Sealing freezes
//! the chunk and hands it to the journal. The owner never waits for a write, but in [`Store::free`] and [`Store::close`].

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use bytes::Bytes;

use crate::error::{Damage, StageError};
use crate::home::read::Library;
use crate::home::shelf::Shelf;
use crate::home::write::Loss;
use crate::index::scan::Source;
use crate::index::{Found, Log};
use crate::journal::format::footprint;
use crate::log::{LogId, LogSpec, Medium};
use crate::record::{Frame, HEADER, Kind, LAST_SEQ, encode_runs};
use crate::runs;
use crate::segments::{Place, Segments};
use crate::worker::{Chunk, Event, Release, Workers};

mod failure;
mod open;
mod read;
mod riding;

pub use failure::Removal;
use failure::{Refusal, Staged};
pub use open::Options;
pub use read::Matcher;
use riding::Riding;

/// Sequences a memory log reserves in the journal at a time.
const RESERVED: u64 = 65_536;

/// What [`Store::process`] found.
#[derive(Debug, Default)]
pub struct Events {
    /// Some log's `durable_seq` rose.
    pub durable: bool,
    /// A write or sync of the journal failed, with what the system says: reported once, by the call that finds it.
    ///
    /// Whatever was staged and not answered is lost; its releases run with an error. [`Store::refusing`] says why every
    /// change is refused until the store has recovered, which may be within the same call, or after as many as the disk
    /// needs: none of them waits, so call again at each `wake`, and at least once a second. Reads go on meanwhile and
    /// show no record that is lost; [`Store::lost_changes`] says what else they may show wrongly. Recovered, every log is
    /// as it was answered. State machines on top know more than that: once `refusing` is `None` they must be made anew.
    pub failed: Option<String>,
}

/// The store. Changes are *staged* by the calls below and visible to this owner's reads at once; [`Store::seal`]
/// hands what was staged since the last seal to the journal as one atomic chunk.
pub struct Store {
    logs: BTreeMap<LogId, Log>,
    /// Attributes of the store's own scope, log 0.
    scope: BTreeMap<Bytes, Bytes>,
    chunks: Segments,
    library: Library,
    shelf: Arc<Shelf>,
    workers: Workers,
    events: Receiver<Event>,
    /// Logs whose `last_seq` the growing chunk changed.
    touched: Vec<LogId>,
    /// Chunks under way, with the marks they will raise.
    under_way: VecDeque<(u64, Vec<(LogId, u64)>)>,
    /// Chunks of this epoch that are not answered with success: under way, or lost though that was not taken note of yet.
    unanswered: Arc<AtomicUsize>,
    /// Chunks redb does not have, with the bytes they take in the journal.
    unmoved: VecDeque<(u64, u64)>,
    unmoved_bytes: u64,
    unmoved_limit: u64,
    /// Rises with each failure, so that chunks sealed before it are refused.
    epoch: u64,
    /// Changes that are not durable yet, appends aside, in order. What limits remove is among them: a lost record may have
    /// driven out one that is kept.
    staged: VecDeque<Staged>,
    /// Set from a failed write until the store has recovered from it.
    refusal: Option<Refusal>,
    /// Why redb cannot be written.
    stuck: Option<String>,
    /// redb is being opened again, because it could not be read.
    is_reopening: bool,
    losses: Vec<Loss>,
    next_log: u32,
    /// The longest chunk that fits a journal file.
    chunk_limit: usize,
    /// Removals by limits, encoded, for the mover.
    evictions: Vec<u8>,
    /// The same for the journal, where they ride with the next chunk that is written.
    riding: Riding,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("logs", &self.logs.len()).finish_non_exhaustive()
    }
}

impl Store {
    /// Every log there is, in order of id.
    #[must_use]
    pub fn logs(&self) -> Vec<LogId> {
        self.logs.keys().copied().collect()
    }

    /// What was fixed when the log was created.
    #[must_use]
    pub fn spec(&self, log: LogId) -> Option<&LogSpec> {
        self.logs.get(&log).map(|log| &log.spec)
    }

    /// Stages a new log.
    ///
    /// # Errors
    /// When `first_seq` is zero, or nothing can be staged now.
    pub fn create_log(&mut self, spec: LogSpec) -> Result<LogId, StageError> {
        if spec.first_seq == 0 {
            return Err(StageError::Invalid("the first sequence of a log is at least 1"));
        }
        let id = LogId(self.next_log);
        let next = self.next_log.checked_add(1).ok_or(StageError::Invalid("every id of a log was used"))?;
        self.stage(&Frame { payload: &spec.encode(), ..Frame::bare(Kind::Create, id.0, spec.first_seq) })?;
        self.note_staged(id, None);
        self.next_log = next;
        self.logs.insert(id, Log::new(id, spec));
        Ok(id)
    }

    /// Stages the end of a log with all its records and attributes; its space is given back in the background.
    ///
    /// # Errors
    /// When there is no such log, or nothing can be staged now.
    pub fn drop_log(&mut self, log: LogId) -> Result<(), StageError> {
        self.known(log)?;
        self.stage(&Frame::bare(Kind::Drop, log.0, 0))?;
        self.note_staged(log, None);
        self.logs.remove(&log);
        self.riding.forget(log);
        Ok(())
    }

    /// Stages a record. `seq` must be above `last_seq`; sequences skipped over count as deleted. Times of a log
    /// should not go backwards: [`Store::seek_time`] searches by halves.
    ///
    /// # Errors
    /// When the sequence is used or too high, the subject is empty, a part is too long, or nothing can be staged now.
    pub fn append(
        &mut self,
        log: LogId,
        seq: u64,
        time: i64,
        subject: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> Result<(), StageError> {
        let entry = self.logs.get(&log).ok_or(StageError::NoSuchLog(log))?;
        if seq <= entry.totals.last_seq {
            return Err(StageError::SequenceUsed { log, seq, last_seq: entry.totals.last_seq });
        }
        if seq > LAST_SEQ {
            return Err(StageError::Invalid("the highest sequence of a record is 2^64 - 2"));
        }
        if subject.is_empty() {
            return Err(StageError::Invalid("a record has a subject"));
        }
        let frame = Frame { kind: Kind::Message, log: log.0, seq, time, subject, headers, payload };
        let place = if entry.is_memory() {
            self.check(&frame)?;
            self.reserve(log, seq)?;
            None
        } else {
            Some(self.stage(&frame)?)
        };
        if let Some(entry) = self.logs.get_mut(&log) {
            entry.append(&frame, place);
        }
        if place.is_some() {
            self.touch(log);
        }
        Ok(())
    }

    /// Stages that every sequence up to `last_seq` is used, without records (a mirror skipping a gap).
    ///
    /// # Errors
    /// When there is no such log, the sequence is too high, or nothing can be staged now.
    pub fn skip_to(&mut self, log: LogId, last_seq: u64) -> Result<(), StageError> {
        let entry = self.known(log)?;
        if last_seq <= entry.totals.last_seq {
            return Ok(());
        }
        if last_seq > LAST_SEQ {
            return Err(StageError::Invalid("the highest sequence of a record is 2^64 - 2"));
        }
        if entry.is_memory() {
            self.reserve(log, last_seq)?;
        } else {
            self.stage(&Frame::bare(Kind::Skip, log.0, last_seq))?;
        }
        if let Some(entry) = self.logs.get_mut(&log) {
            entry.totals.skip_to(last_seq);
        }
        self.touch(log);
        Ok(())
    }

    /// Stages the removal of these sequences (those present), as one operation. Returns how many were present.
    ///
    /// # Errors
    /// When there is no such log, a record is damaged, or nothing can be staged now.
    pub fn remove(&mut self, log: LogId, seqs: &[u64]) -> Result<u64, StageError> {
        let found = self.find(log, seqs)?;
        if found.is_empty() {
            return Ok(0);
        }
        if !self.known(log)?.is_memory() {
            let runs = encode_runs(&runs::join(&sequences(&found)));
            self.stage(&Frame { payload: &runs, ..Frame::bare(Kind::Remove, log.0, 0) })?;
            self.note_staged(log, None);
        }
        Ok(self.take(log, &found))
    }

    /// Stages the removal of every record below `first_seq`; `first_seq` may lie beyond the end, then
    /// `last_seq` becomes `first_seq - 1`. Returns how many were present.
    ///
    /// # Errors
    /// When there is no such log, the database cannot be read, or nothing can be staged now.
    pub fn purge(&mut self, log: LogId, first_seq: u64) -> Result<u64, StageError> {
        let entry = self.known(log)?;
        // What was only evicted may come back after a crash; what was purged must not.
        if first_seq <= if entry.is_memory() { entry.totals.first_seq } else { entry.purged } {
            return Ok(0);
        }
        let below =
            entry.look_below(self.source(), first_seq.min(entry.totals.last_seq.saturating_add(1)))?;
        if cfg!(feature = "bug-purge-only-redb") && !entry.is_memory() {
            Frame::bare(Kind::Purge, log.0, first_seq).encode_unchecked(&mut self.evictions);
        } else if !entry.is_memory() {
            self.stage(&Frame::bare(Kind::Purge, log.0, first_seq))?;
            self.note_staged(log, None);
        } else if first_seq > entry.totals.last_seq.saturating_add(1) {
            self.reserve(log, first_seq - 1)?;
        }
        let source = Source { chunks: &self.chunks, library: &self.library };
        let Some(entry) = self.logs.get_mut(&log) else { return Ok(0) };
        entry.purged = first_seq;
        let removed = entry.remove_below(source, &below);
        entry.totals.skip_to(first_seq - 1);
        self.touch(log);
        Ok(removed)
    }

    /// Removes records for a reason that can be derived again after a crash (age, limits): that forces no write, but is
    /// durable with the next change that is; redb follows in the background. Returns how many were present; nothing while
    /// [`Self::refusing`].
    pub fn evict(&mut self, log: LogId, seqs: &[u64]) -> u64 {
        let Ok(found) = self.find(log, seqs) else { return 0 };
        if found.is_empty() {
            return 0;
        }
        if self.logs.get(&log).is_some_and(|entry| !entry.is_memory()) {
            let seqs = sequences(&found);
            let runs = encode_runs(&runs::join(&seqs));
            Frame { payload: &runs, ..Frame::bare(Kind::Remove, log.0, 0) }
                .encode_unchecked(&mut self.evictions);
            self.riding.these(log, &seqs);
            self.note_staged(log, None);
        }
        self.take(log, &found)
    }

    /// As [`Self::evict`], for every record below `first_seq` (which is at most `last_seq + 1`); nothing either when the
    /// database cannot be read.
    pub fn evict_below(&mut self, log: LogId, first_seq: u64) -> u64 {
        if self.refusal.is_some() {
            return 0;
        }
        let source = Source { chunks: &self.chunks, library: &self.library };
        let Some(entry) = self.logs.get_mut(&log) else { return 0 };
        let first_seq = first_seq.min(entry.totals.last_seq.saturating_add(1));
        if first_seq <= entry.totals.first_seq {
            return 0;
        }
        let Ok(below) = entry.look_below(source, first_seq) else { return 0 };
        let removed = entry.remove_below(source, &below);
        if !entry.is_memory() {
            Frame::bare(Kind::Purge, log.0, first_seq).encode_unchecked(&mut self.evictions);
            self.riding.below(log, first_seq);
            self.note_staged(log, None);
        }
        removed
    }

    /// Stages an attribute. Log 0 is the store's own scope.
    ///
    /// # Errors
    /// When there is no such log, key or value is too long, or nothing can be staged now.
    pub fn set_attribute(&mut self, log: LogId, key: &[u8], value: &[u8]) -> Result<(), StageError> {
        self.scope_of(log)?;
        self.stage(&Frame { subject: key, payload: value, ..Frame::bare(Kind::Set, log.0, 0) })?;
        self.note_staged(log, Some(key));
        self.scope_of(log)?.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Ok(())
    }

    /// Stages the removal of an attribute; removing one that is not there is no error.
    ///
    /// # Errors
    /// When there is no such log, or nothing can be staged now.
    pub fn remove_attribute(&mut self, log: LogId, key: &[u8]) -> Result<(), StageError> {
        if !self.scope_of(log)?.contains_key(key) {
            return Ok(());
        }
        self.stage(&Frame { subject: key, ..Frame::bare(Kind::Unset, log.0, 0) })?;
        self.note_staged(log, Some(key));
        self.scope_of(log)?.remove(key);
        Ok(())
    }

    /// Whether `records` records whose subjects, headers and payloads are `bytes` bytes together can be staged now. What is
    /// admitted is not refused for want of room before the next [`Store::seal`]: so an operation of several records is
    /// staged as a whole or not at all.
    ///
    /// # Errors
    /// What staging them would fail with.
    pub fn admits(&self, records: usize, bytes: usize) -> Result<(), StageError> {
        self.room_for(records.saturating_mul(HEADER).saturating_add(bytes))
    }

    /// Bytes staged since the last seal. The owner seals at 1 MiB at the latest: a chunk never spans journal files.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.chunks.current.len()
    }

    /// Hands what is staged to the journal. `release` runs (on the journal's thread, in order of the calls to `seal`)
    /// once all of it and everything before is durable, with `Ok`, or with what went wrong. With nothing staged and
    /// nothing under way it runs at once, on this thread; so it does, with the cause, while [`Self::refusing`].
    ///
    /// An error says that it is not durable, and it is in no store once this one has recovered. Only a crash before
    /// that may bring it back, whole. Of what the journal's thread was at when it panicked nothing is told.
    pub fn seal(&mut self, release: Release) {
        if let Some(cause) = self.refusing() {
            release(Err(cause.to_owned()));
            return;
        }
        let mut marks = Vec::with_capacity(self.touched.len());
        for log in self.touched.drain(..) {
            if let Some(entry) = self.logs.get_mut(&log) {
                // The next chunk has this one's number when there is nothing in this one.
                entry.touched = u64::MAX;
                marks.push((log, if entry.is_memory() { entry.reserved } else { entry.totals.last_seq }));
            }
        }
        let is_empty = self.chunks.current.is_empty();
        // A chunk is told to be durable before it is answered: only when all are answered may this one be at once. One that
        // was lost keeps this one from it: what is under way goes to the journal's thread, which refuses it.
        if is_empty && self.evictions.is_empty() && self.unanswered.load(Ordering::Acquire) == 0 {
            release(Ok(()));
            return;
        }
        // Evictions get a number of their own even when nothing is journaled: it tells when redb has them.
        let (number, bytes) = if is_empty && self.evictions.is_empty() {
            (self.chunks.current_number() - 1, Bytes::new())
        } else {
            if !is_empty {
                self.let_ride();
            }
            let number = self.chunks.current_number();
            let bytes = self.chunks.seal();
            let space = if is_empty { 0 } else { footprint(bytes.len() as u64) };
            self.unmoved.push_back((number, space));
            self.unmoved_bytes += space;
            (number, bytes)
        };
        self.under_way.push_back((number, marks));
        let evictions = Bytes::from(std::mem::take(&mut self.evictions));
        let unanswered = Arc::clone(&self.unanswered);
        unanswered.fetch_add(1, Ordering::Relaxed);
        let release: Release = Box::new(move |result| {
            let is_durable = result.is_ok();
            release(result);
            if is_durable {
                unanswered.fetch_sub(1, Ordering::Release);
            }
        });
        self.workers.submit(Chunk { number, bytes, evictions, epoch: self.epoch, release });
    }

    /// Puts what limits removed into the growing chunk, as far as there is room.
    fn let_ride(&mut self) {
        let staged = self.chunks.current.len();
        let journal = self.unmoved_limit.saturating_sub(self.unmoved_bytes + staged as u64);
        let room = (self.chunk_limit - staged).min(usize::try_from(journal).unwrap_or(usize::MAX));
        self.riding.encode(&mut self.chunks.current, room);
    }

    /// Takes the workers' reports: durable marks, moved records, failures ([`Events`]). Call it after each `wake`.
    /// It never waits for the disk, except that after a failure it reads the logs' numbers out of redb once.
    pub fn process(&mut self) -> Events {
        if self.library.was_shut() && self.stuck.is_none() && !std::mem::replace(&mut self.is_reopening, true)
        {
            self.workers.reopen();
        }
        self.workers.turn();
        let mut events = Events::default();
        while let Ok(event) = self.events.try_recv() {
            self.take_event(event, &mut events);
        }
        self.recover_from_failure();
        events
    }

    fn take_event(&mut self, event: Event, events: &mut Events) {
        match event {
            Event::Durable(chunk) => {
                while self.staged.pop_front_if(|staged| staged.chunk <= chunk).is_some() {}
                while let Some((_, marks)) = self.under_way.pop_front_if(|(number, _)| *number <= chunk) {
                    for (log, mark) in marks {
                        if let Some(entry) = self.logs.get_mut(&log)
                            && entry.durable_seq < mark
                        {
                            entry.durable_seq = mark;
                            events.durable = true;
                        }
                    }
                }
            }
            Event::Moved { chunk, generation, mut report } => {
                self.stuck = None;
                self.is_reopening = false;
                if let Some(refusal) = &mut self.refusal {
                    refusal.moved(generation);
                }
                for (id, log) in &mut self.logs {
                    match report.remove(&id.0) {
                        Some(changed) => log.moved(chunk, changed, &self.library),
                        None => log.not_moved(chunk),
                    }
                }
                self.chunks.release_through(chunk);
                while let Some((_, bytes)) = self.unmoved.pop_front_if(|(number, _)| *number <= chunk) {
                    self.unmoved_bytes -= bytes;
                }
            }
            Event::Failed { message, generation } => {
                self.refuse(message.clone(), generation);
                events.failed = Some(message);
            }
            Event::Stuck(message) => {
                if let Some(refusal) = &mut self.refusal {
                    refusal.hindered(&message);
                }
                self.stuck = Some(message);
                self.is_reopening = false;
            }
        }
    }

    /// How full the journal is with records that redb does not have yet, 0-100. Slow publishers down from 50 on.
    #[must_use]
    pub fn pressure(&self) -> u8 {
        let staged = self.unmoved_bytes + self.chunks.current.len() as u64;
        u8::try_from((staged * 100 / self.unmoved_limit).min(100)).unwrap_or(100)
    }

    /// What keeps redb from following the journal, while something does.
    #[must_use]
    pub fn stuck(&self) -> Option<&str> {
        self.stuck.as_deref()
    }

    /// What is known to be lost. Damage in the database shows when it is read ([`ReadError::Damaged`](crate::ReadError::Damaged)).
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        self.losses
            .iter()
            .map(|loss| Damage {
                log: LogId(loss.log),
                first: loss.first,
                last: loss.last,
                what: loss.what.clone(),
            })
            .collect()
    }

    fn source(&self) -> Source<'_> {
        Source { chunks: &self.chunks, library: &self.library }
    }

    /// A log that is to be changed.
    fn known(&self, log: LogId) -> Result<&Log, StageError> {
        self.takes_changes()?;
        self.logs.get(&log).ok_or(StageError::NoSuchLog(log))
    }

    fn takes_changes(&self) -> Result<(), StageError> {
        self.refusing().map_or(Ok(()), |cause| Err(StageError::Failed { cause: cause.to_owned() }))
    }

    fn scope_of(&mut self, log: LogId) -> Result<&mut BTreeMap<Bytes, Bytes>, StageError> {
        if log.0 == 0 {
            return Ok(&mut self.scope);
        }
        self.logs.get_mut(&log).map(|log| &mut log.attributes).ok_or(StageError::NoSuchLog(log))
    }

    /// Those of `seqs` that are present, in order, each once.
    fn find(&self, log: LogId, seqs: &[u64]) -> Result<Vec<Found>, StageError> {
        let entry = self.known(log)?;
        let mut found = Vec::with_capacity(seqs.len());
        for &seq in seqs {
            found.extend(entry.find(self.source(), seq)?);
        }
        found.sort_unstable_by_key(|found| found.seq);
        found.dedup_by_key(|found| found.seq);
        Ok(found)
    }

    /// Takes records out of the indexes. Returns how many.
    fn take(&mut self, log: LogId, found: &[Found]) -> u64 {
        let chunk = self.chunks.current_number();
        let source = Source { chunks: &self.chunks, library: &self.library };
        if let Some(entry) = self.logs.get_mut(&log) {
            entry.remove(source, found, chunk);
        }
        found.len() as u64
    }

    /// Reserves sequences of a memory log, well before they are needed.
    fn reserve(&mut self, log: LogId, seq: u64) -> Result<(), StageError> {
        let entry = self.known(log)?;
        debug_assert!(entry.spec.medium == Medium::Memory);
        if seq.saturating_add(RESERVED / 2).min(LAST_SEQ) <= entry.reserved {
            return Ok(());
        }
        let up_to = seq.saturating_add(RESERVED).min(LAST_SEQ);
        self.stage(&Frame::bare(Kind::Reserve, log.0, up_to))?;
        if let Some(entry) = self.logs.get_mut(&log) {
            entry.reserved = up_to;
        }
        self.touch(log);
        Ok(())
    }

    /// The growing chunk will raise the durable mark of `log`.
    fn touch(&mut self, log: LogId) {
        let chunk = self.chunks.current_number();
        if let Some(entry) = self.logs.get_mut(&log)
            && entry.touched != chunk
        {
            entry.touched = chunk;
            self.touched.push(log);
        }
    }

    fn check(&self, frame: &Frame<'_>) -> Result<(), StageError> {
        self.takes_changes()?;
        let limit = usize::from(u16::MAX);
        if frame.subject.len() > limit {
            let bytes = frame.subject.len() as u64;
            return Err(StageError::TooLong { part: "a subject or key", bytes, limit: limit as u64 });
        }
        if frame.len() > self.chunk_limit {
            let (bytes, limit) = (frame.len() as u64, self.chunk_limit as u64);
            return Err(StageError::TooLong { part: "a record", bytes, limit });
        }
        Ok(())
    }

    /// Whether `more` bytes may be added to the growing chunk.
    fn room_for(&self, more: usize) -> Result<(), StageError> {
        self.takes_changes()?;
        // What rides has a part of the chunk of its own.
        let riding = self.riding.bytes().min(self.chunk_limit / 4);
        let staged = self.chunks.current.len().saturating_add(riding).saturating_add(more);
        if self.unmoved_bytes.saturating_add(staged as u64) > self.unmoved_limit {
            let cause = self.stuck.as_ref().map_or_else(String::new, |stuck| format!(": {stuck}"));
            return Err(StageError::Busy { bytes: self.unmoved_bytes, limit: self.unmoved_limit, cause });
        }
        if staged > self.chunk_limit {
            let (bytes, limit) = (staged as u64, self.chunk_limit as u64);
            return Err(StageError::TooLong { part: "what is staged since the last seal", bytes, limit });
        }
        Ok(())
    }

    /// Encodes into the growing chunk.
    fn stage(&mut self, frame: &Frame<'_>) -> Result<Place, StageError> {
        self.check(frame)?;
        self.room_for(frame.len())?;
        let offset = self.chunks.current.len();
        frame.encode(&mut self.chunks.current);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a chunk fits a journal file, which is below 4 GiB"
        )]
        let place =
            Place { segment: self.chunks.current_number(), offset: offset as u32, len: frame.len() as u32 };
        Ok(place)
    }
}

fn sequences(found: &[Found]) -> Vec<u64> {
    found.iter().map(|found| found.seq).collect()
}
