//! The mover: gathers what is durable, and carries it into redb in large transactions.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::Batch;
use crate::home::load;
use crate::home::shelf::{Shelf, guarded};
use crate::home::write::{self, Report};
use crate::journal::format::Position;
use crate::worker::{Durable, Event, MoverInput, Reports, ToMover};

/// Removals in a batch at which it is moved although no file is full.
const REMOVALS_MAX: usize = 65_536;
/// Carries durable chunks into redb.
pub(crate) struct Mover {
    shelf: Arc<Shelf>,
    batch: Batch,
    chunk: u64,
    position: Position,
    /// What redb has.
    pub(super) moved: Position,
    /// A commit failed after it had written all of this; whether it took hold shows when redb is open again.
    uncertain: Option<(Position, Report)>,
    pub(super) is_stuck: bool,
    /// Dropped logs have left something.
    pub(super) must_sweep: bool,
    /// What came while a commit was uncertain.
    waiting: VecDeque<MoverInput>,
    reports: Reports,
}

impl Mover {
    pub(crate) fn new(shelf: Arc<Shelf>, moved: Position, reports: Reports) -> Self {
        Self {
            shelf,
            batch: Batch::default(),
            chunk: 0,
            position: moved,
            moved,
            uncertain: None,
            is_stuck: false,
            must_sweep: true,
            waiting: VecDeque::new(),
            reports,
        }
    }

    pub(super) fn take(&mut self, input: MoverInput) {
        self.waiting.push_back(input);
        self.work();
    }

    /// Takes what waits into the batch. A batch whose commit may have taken hold is not added to before that is known.
    pub(super) fn work(&mut self) {
        while !self.waiting.is_empty() {
            if self.uncertain.is_some() && !self.commit() {
                return;
            }
            match self.waiting.pop_front() {
                Some(MoverInput::Durable(group)) => {
                    for (bytes, evictions) in &group.parts {
                        self.batch.apply(bytes);
                        self.batch.apply(evictions);
                    }
                    self.chunk = group.chunk;
                    self.position = group.position;
                    if self.batch.removals > REMOVALS_MAX {
                        self.commit();
                    }
                }
                Some(MoverInput::Reached(position)) => {
                    self.position = position;
                    self.commit();
                }
                Some(MoverInput::Stop) | None => return,
            }
        }
    }

    /// Whether there is something to write that should not wait for more.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_stuck || self.uncertain.is_some() || self.batch.is_urgent
    }

    /// Tries again what failed, or moves what should not wait any longer.
    pub(super) fn idle(&mut self) -> bool {
        let is_done = self.commit();
        self.work();
        is_done && self.waiting.is_empty()
    }

    /// Writes the batch. `false` when redb cannot be written now.
    fn commit(&mut self) -> bool {
        if self.batch.is_empty() && self.position.generation == self.moved.generation {
            return true;
        }
        let result = self.try_commit();
        match result {
            Ok(report) => {
                self.is_stuck = false;
                self.must_sweep |= self.batch.is_urgent;
                self.batch = Batch::default();
                self.moved = self.position;
                let generation = self.position.generation;
                self.reports.tell(Event::Moved { chunk: self.chunk, generation, report });
                true
            }
            Err(message) => {
                self.is_stuck = true;
                self.reports.tell(Event::Stuck(message));
                false
            }
        }
    }

    fn try_commit(&mut self) -> Result<Report, String> {
        if self.is_stuck {
            self.shelf.reopen().map_err(|error| format!("redb cannot be opened again: {error}"))?;
        }
        let database = self.shelf.database();
        if let Some((position, report)) = self.uncertain.take() {
            let is_there =
                load::moved(&database).map(|moved| moved.map(|(_, moved)| moved) == Some(position));
            match is_there {
                Ok(false) => {}
                Ok(true) => {
                    // It took hold, as far as the page cache knows. A commit that succeeds makes it certain.
                    let again = guarded(|| write::commit(&database, &Batch::default(), self.position, &[]));
                    return match again {
                        Ok(_) => Ok(report),
                        Err(error) => {
                            self.uncertain = Some((position, report));
                            Err(error.to_string())
                        }
                    };
                }
                Err(error) => {
                    self.uncertain = Some((position, report));
                    return Err(error.to_string());
                }
            }
        }
        let mut written = None;
        let result = guarded(|| write::commit_with(&database, &self.batch, self.position, &[], &mut written));
        result.map_err(|error| {
            if let Some(log) = error.to_mend {
                // An index that cannot be read is built anew from the records; then it is tried again.
                let _ = guarded(|| write::mend(&database, log));
            }
            self.uncertain = written.map(|report| (self.position, report));
            error.to_string()
        })
    }

    /// Gives back some space. `true` when there is more.
    pub(super) fn sweep(&mut self) {
        let database = self.shelf.database();
        let swept = guarded(|| write::sweep(&database));
        self.must_sweep = matches!(swept, Ok(true));
    }
}

/// The mover without a thread of its own: what it is given waits until it is its turn, or the writer waits for it.
pub(super) struct Later<'a>(pub(super) &'a mut Mover);

impl ToMover for Later<'_> {
    fn durable(&mut self, group: Durable) {
        self.0.waiting.push_back(MoverInput::Durable(group));
    }

    fn reached(&mut self, position: Position) {
        self.0.waiting.push_back(MoverInput::Reached(position));
    }

    fn covered(&self) -> u64 {
        self.0.moved.generation
    }

    fn wait_above(&mut self, generation: u64) -> bool {
        self.0.work();
        self.0.idle() && self.0.moved.generation > generation
    }
}
