//! What a failed write of the journal means for the owner.
//!
//! From the failure on nothing is taken and nothing that was staged goes out. Records that are lost are taken out of the
//! indexes at once; which other changes are lost is known. What was answered is in the mover's hands; once it is in redb,
//! the owner's indexes are made anew from there, and writing goes on. Each step is a state that [`Store::process`] finds
//! and advances; none waits for a write. The writer's part is in `worker/writer.rs`.
//!
//! A full disk must not keep anybody from freeing space: [`Store::free`] hands a removal to the mover, waits for it to be
//! written together with what was answered, and has the room of the reserve for that.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::error::StageError;
use crate::home::load;
use crate::home::read::Library;
use crate::index::Log;
use crate::index::scan::Source;
use crate::log::LogId;
use crate::record::{Frame, Kind, encode_runs};
use crate::runs;
use crate::segments::Segments;
use crate::worker::NEVER;

/// Why no changes are taken, and what must come first.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What failed.
    cause: String,
    /// The cause, and what keeps the store from recovering.
    text: String,
    /// redb has all that was answered when it reaches this generation of the journal.
    wanted: u64,
    /// It has.
    is_moved: bool,
    /// Changes that are lost and still show.
    lost: VecDeque<Staged>,
}

/// A change that is staged and not durable yet, other than an append.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub(super) chunk: u64,
    log: LogId,
    /// The attribute that is changed; `None` for anything else.
    key: Option<Bytes>,
}

/// What [`Store::free`] removes.
#[derive(Clone, Copy, Debug)]
pub enum Removal<'a> {
    /// The log with all it has.
    Log,
    /// Every record below this sequence.
    Below(u64),
    /// These sequences.
    These(&'a [u64]),
}

impl Refusal {
    fn new(cause: String, wanted: u64, lost: VecDeque<Staged>) -> Self {
        Self { text: cause.clone(), cause, wanted, is_moved: false, lost }
    }

    /// Nothing is written any more before the store is opened again.
    fn is_final(&self) -> bool {
        self.wanted == NEVER
    }

    /// redb has everything before `generation`.
    pub(super) fn moved(&mut self, generation: u64) {
        self.is_moved |= generation >= self.wanted;
    }

    /// The next step does not succeed.
    pub(super) fn hindered(&mut self, why: &str) {
        self.text = format!("{}; then: {why}", self.cause);
    }
}

impl Store {
    /// Why no changes are taken, while that is so; see [`crate::Events::failed`].
    #[must_use]
    pub fn refusing(&self) -> Option<&str> {
        self.refusal.as_ref().map(|refusal| refusal.text.as_str())
    }

    /// The journal has failed. `wanted` is the generation it goes on with.
    pub(super) fn refuse(&mut self, cause: String, wanted: u64) {
        // Where the store had not recovered from an earlier failure, that one's changes are lost still.
        let mut lost = self.refusal.take().map(|earlier| earlier.lost).unwrap_or_default();
        lost.append(&mut self.staged);
        self.refusal = Some(Refusal::new(cause, wanted, lost));
        self.epoch += 1;
        // What is staged goes nowhere, and nothing waits for it.
        self.chunks.seal();
        for log in self.logs.values_mut() {
            log.forget_lost(Source { chunks: &self.chunks, library: &self.library });
        }
        self.touched.clear();
        self.under_way.clear();
        self.unanswered = Arc::default();
        self.evictions.clear();
        self.riding.clear();
    }

    /// While [`Self::refusing`]: the changes that are lost and still show, each with its log and the key of the attribute,
    /// `None` for a creation, removal (by limits too), purge or drop. Appended records that are lost do not show.
    pub fn lost_changes(&self) -> impl Iterator<Item = (LogId, Option<&[u8]>)> {
        let lost = self.refusal.iter().flat_map(|refusal| &refusal.lost);
        lost.map(|staged| (staged.log, staged.key.as_deref()))
    }

    /// Notes a change of the growing chunk.
    pub(super) fn note_staged(&mut self, log: LogId, key: Option<&[u8]>) {
        let staged =
            Staged { chunk: self.chunks.current_number(), log, key: key.map(Bytes::copy_from_slice) };
        if self.staged.back() != Some(&staged) {
            self.staged.push_back(staged);
        }
    }

    /// Removes something while [`Self::refusing`]: on a full disk this may be what gives space back. It is written to redb
    /// in one transaction with all that was answered. This call waits for the disk.
    ///
    /// With `Ok` it is durable, and shows once the store has recovered, as a rule within this call: then state machines on
    /// top must be made anew.
    ///
    /// # Errors
    /// When the store does not refuse, there is no such log, or redb cannot be written: then nothing is removed. Only where
    /// the last step of writing failed, and the disk does not say whether it took hold, all of it may be removed later.
    pub fn free(&mut self, log: LogId, removal: Removal<'_>) -> Result<(), StageError> {
        let Some(cause) = self.refusing().map(str::to_owned) else {
            return Err(StageError::Invalid("space is freed this way only while changes are refused"));
        };
        if self.refusal.as_ref().is_some_and(Refusal::is_final) {
            // What was written last may never come to redb before this would.
            return Err(StageError::Failed { cause });
        }
        let entry = self.logs.get(&log).ok_or(StageError::NoSuchLog(log))?;
        if entry.is_memory() && !matches!(removal, Removal::Log) {
            // Its records take no space on the disk, and go nowhere else.
            return Err(StageError::Failed { cause });
        }
        let mut bytes = Vec::new();
        match removal {
            Removal::Log => Frame::bare(Kind::Drop, log.0, 0).encode(&mut bytes),
            Removal::Below(seq) => Frame::bare(Kind::Purge, log.0, seq).encode(&mut bytes),
            Removal::These(seqs) => {
                let payload = encode_runs(&runs::join(seqs));
                Frame { payload: &payload, ..Frame::bare(Kind::Remove, log.0, 0) }.encode(&mut bytes);
            }
        }
        self.workers.free(Bytes::from(bytes)).map_err(|cause| StageError::Failed { cause })?;
        self.process();
        Ok(())
    }

    /// Makes the indexes anew when redb has what they are made from; then changes are taken again.
    pub(super) fn recover_from_failure(&mut self) {
        if !self.refusal.as_ref().is_some_and(|refusal| refusal.is_moved) {
            return;
        }
        match self.rebuild() {
            Ok(()) => {
                self.refusal = None;
                self.reserve_again();
            }
            Err(error) => {
                if let Some(refusal) = &mut self.refusal {
                    refusal.hindered(&error);
                }
            }
        }
    }

    /// The next seal reserves what memory logs hold and the failed group was to reserve.
    fn reserve_again(&mut self) {
        let beyond = self.logs.values().filter(|log| log.is_memory() && log.totals.last_seq > log.reserved);
        let beyond: Vec<_> = beyond.map(|log| (log.id, log.totals.last_seq)).collect();
        for (log, last_seq) in beyond {
            // Nothing else is staged, so there is room. If not, the log's next append reserves for both.
            let _ = self.reserve(log, last_seq);
        }
    }

    /// The store as redb has it, which is what was answered. Memory logs keep their records.
    fn rebuild(&mut self) -> Result<(), String> {
        let loaded = self.library.read(load::load).map_err(|error| error.to_string())?;
        if let Some(log) = loaded.to_mend.first() {
            return Err(format!("the index of log {} is damaged; open the store again to mend it", log.0));
        }
        let mut old = std::mem::take(&mut self.logs);
        for (id, log) in loaded.logs {
            let mut log = Log::load(id, log);
            if let Some(old) = old.remove(&id) {
                log.keep_memory_of(old);
            }
            self.logs.insert(id, log);
        }
        self.scope = loaded.scope;
        self.losses = loaded.losses;
        // Ids of logs whose creation was undone were shown to the owner: they are not used again.
        self.next_log = self.next_log.max(loaded.next_log);
        self.chunks = Segments::starting_at(self.chunks.current_number() + 1);
        self.library = Library::new(Arc::clone(&self.shelf));
        self.unmoved.clear();
        self.unmoved_bytes = 0;
        Ok(())
    }
}
