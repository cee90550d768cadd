//! What a failed write of the journal means for the owner.
//!
//! From the failure on nothing is taken and nothing that was staged goes out. What was answered is in the mover's hands;
//! once it is in redb, the owner's indexes are made anew from there, and writing goes on. Each step is a state that
//! [`Store::process`] finds and advances; none waits. The writer's part is in `worker.rs`.

use std::sync::Arc;

use super::Store;
use crate::home::load;
use crate::home::read::Library;
use crate::index::Log;
use crate::segments::Segments;

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
}

impl Refusal {
    fn new(cause: String, wanted: u64) -> Self {
        Self { text: cause.clone(), cause, wanted, is_moved: false }
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
        self.refusal = Some(Refusal::new(cause, wanted));
        self.epoch += 1;
        // What is staged can be read until the indexes are made anew. It goes nowhere, and nothing waits for it.
        self.chunks.seal();
        self.touched.clear();
        self.under_way.clear();
        self.unanswered = Arc::default();
        self.evictions.clear();
        self.riding.clear();
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
        let beyond = self.logs.values().filter(|log| log.is_memory() && log.last_seq > log.reserved);
        let beyond: Vec<_> = beyond.map(|log| (log.id, log.last_seq)).collect();
        for (log, last_seq) in beyond {
            // Nothing else is staged, so there is room. If not, the log's next append reserves for both.
            let _ = self.reserve(log, last_seq);
        }
    }

    /// The store as redb has it, which is what was answered. Memory logs keep their records.
    fn rebuild(&mut self) -> Result<(), String> {
        let database = self.shelf.database();
        let loaded = load::load(&database).map_err(|error| error.to_string())?;
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
