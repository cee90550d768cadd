//! The two workers: the journal writer, which waits for syncs, and the mover, which carries what is durable into redb.
//!
//! Both are plain state machines ([`Writer`], [`Mover`]); this file gives them a thread each, or drives them on the
//! owner's thread ([`Workers::Inline`]) for simulations. Neither reads a clock.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bytes::Bytes;

use crate::batch::Batch;
use crate::home::load;
use crate::home::shelf::{Shelf, guarded};
use crate::home::write::{self, Report};
use crate::journal::format::Position;
use crate::journal::writer::Journal;
use crate::store::Release;

/// Removals in a batch at which it is moved although no file is full.
const REMOVALS_MAX: usize = 65_536;
/// How long the mover waits for more before it gives back space, or tries again.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was staged between two seals.
pub(crate) struct Chunk {
    pub(crate) number: u64,
    pub(crate) bytes: Bytes,
    /// Removals that go with it, not journaled.
    pub(crate) evictions: Bytes,
    /// Chunks of an epoch that failed are refused.
    pub(crate) epoch: u64,
    pub(crate) release: Release,
}

/// What the workers tell the owner.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything up to this chunk is durable.
    Durable(u64),
    /// redb has everything up to this chunk; this is what changed there.
    Moved { chunk: u64, generation: u64, report: Report },
    /// A group could not be written. The journal goes on with this generation.
    Failed { message: String, generation: u64 },
    /// redb could not be written; it is tried again.
    Stuck(String),
}

/// The owner's end.
#[derive(Clone)]
pub(crate) struct Reports {
    pub(crate) events: Sender<Event>,
    pub(crate) wake: Arc<dyn Fn() + Send + Sync>,
}

impl Reports {
    fn tell(&self, event: Event) {
        // An owner that is gone does not mind.
        let _ = self.events.send(event);
        (self.wake)();
    }
}

/// A group that became durable.
struct Durable {
    chunk: u64,
    /// Bytes and evictions of each chunk.
    parts: Vec<(Bytes, Bytes)>,
    position: Position,
}

/// The mover as the writer sees it.
trait ToMover {
    fn durable(&mut self, group: Durable);
    /// Everything given so far lies before `position`: move it.
    fn reached(&mut self, position: Position);
    /// Files of generations below this are free.
    fn covered(&self) -> u64;
    /// Waits until `covered` has risen above `generation`; `false` when that is hopeless.
    fn wait_above(&mut self, generation: u64) -> bool;
}

/// Turns sealed chunks into groups.
pub(crate) struct Writer {
    journal: Journal,
    /// The epoch that failed last, and why.
    failed: Option<(u64, String)>,
    reports: Reports,
}

impl Writer {
    pub(crate) fn new(journal: Journal, reports: Reports) -> Self {
        Self { journal, failed: None, reports }
    }

    /// Writes all of `queue`, in as few groups as the files allow.
    fn turn(&mut self, mut queue: VecDeque<Chunk>, mover: &mut dyn ToMover) {
        while let Some(first) = queue.front() {
            if let Some((epoch, message)) = &self.failed
                && first.epoch <= *epoch
            {
                let message = message.clone();
                if let Some(chunk) = queue.pop_front() {
                    (chunk.release)(Err(message));
                }
                continue;
            }
            let (epoch, length) = (first.epoch, first.bytes.len());
            if length > 0
                && let Err(error) = self.make_room(length, mover)
            {
                self.fail(epoch, &error, Vec::from_iter(queue.pop_front()), mover);
                continue;
            }
            let (mut total, mut taken) = (0, 0);
            for chunk in &queue {
                let more = total + chunk.bytes.len();
                if chunk.epoch != epoch || (more > 0 && !self.journal.has_room(more)) {
                    break;
                }
                total = more;
                taken += 1;
            }
            let group: Vec<Chunk> = queue.drain(..taken).collect();
            if total > 0 {
                let parts: Vec<&[u8]> =
                    group.iter().map(|chunk| &chunk.bytes[..]).filter(|b| !b.is_empty()).collect();
                if let Err(error) = self.journal.write(&parts) {
                    self.fail(epoch, &error, group, mover);
                    continue;
                }
            }
            let Some(last) = group.last().map(|chunk| chunk.number) else { continue };
            // Told before anything is answered, as a failure is: whoever acts on an answer finds what it speaks of.
            self.reports.tell(Event::Durable(last));
            let mut parts = Vec::with_capacity(group.len());
            for chunk in group {
                parts.push((chunk.bytes, chunk.evictions));
                (chunk.release)(Ok(()));
            }
            mover.durable(Durable { chunk: last, parts, position: self.journal.position() });
        }
    }

    fn make_room(&mut self, length: usize, mover: &mut dyn ToMover) -> io::Result<()> {
        if self.journal.has_room(length) {
            return Ok(());
        }
        self.journal.end_file();
        mover.reached(self.journal.position());
        loop {
            let covered = mover.covered();
            match self.journal.begin(covered) {
                Ok(true) => return Ok(()),
                Ok(false) if mover.wait_above(covered) => {}
                Ok(false) => return Err(io::Error::other("the journal is full and cannot be emptied")),
                // No further file can be made; one of those there are will be free.
                Err(error) => {
                    if self.journal.position().generation <= covered || !mover.wait_above(covered) {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The group is lost. What was answered before goes into redb from memory; the file is not written to again.
    fn fail(&mut self, epoch: u64, error: &io::Error, group: Vec<Chunk>, mover: &mut dyn ToMover) {
        let message = format!("the journal could not be written: {error}");
        self.journal.give_up_file();
        self.failed = Some((epoch, message.clone()));
        let position = self.journal.position();
        self.reports.tell(Event::Failed { message: message.clone(), generation: position.generation });
        for chunk in group {
            (chunk.release)(Err(message.clone()));
        }
        mover.reached(position);
    }
}

/// Carries durable chunks into redb.
pub(crate) struct Mover {
    shelf: Arc<Shelf>,
    batch: Batch,
    chunk: u64,
    position: Position,
    /// What redb has.
    moved: Position,
    /// A commit failed after it had written all of this; whether it took hold shows when redb is open again.
    uncertain: Option<(Position, Report)>,
    is_stuck: bool,
    /// Dropped logs have left something.
    must_sweep: bool,
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

    fn take(&mut self, input: MoverInput) {
        self.waiting.push_back(input);
        self.work();
    }

    /// Takes what waits into the batch. A batch whose commit may have taken hold is not added to before that is known.
    fn work(&mut self) {
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

    /// Tries again what failed, or moves what should not wait any longer.
    fn idle(&mut self) -> bool {
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
    fn sweep(&mut self) {
        let database = self.shelf.database();
        let swept = guarded(|| write::sweep(&database));
        self.must_sweep = matches!(swept, Ok(true));
    }
}

/// How far redb has come, for a writer that waits for a file.
#[derive(Debug, Default)]
pub(crate) struct Covered {
    state: Mutex<Coverage>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Coverage {
    generation: u64,
    /// The last attempt to write redb failed.
    is_stuck: bool,
    ending: Ending,
}

/// Whether the store is being closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    No,
    /// Once everything is moved, as far as that succeeds.
    Moved,
    /// At once.
    Now,
}

impl Covered {
    fn lock(&self) -> MutexGuard<'_, Coverage> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self, generation: u64, is_stuck: bool) {
        let mut state = self.lock();
        state.generation = state.generation.max(generation);
        state.is_stuck = is_stuck;
        self.changed.notify_all();
    }

    fn end(&self, ending: Ending) {
        let mut state = self.lock();
        state.ending = ending;
        // What failed before is tried once more.
        state.is_stuck = false;
        self.changed.notify_all();
    }

    fn wait_above(&self, generation: u64) -> bool {
        let is_hopeless = |state: &Coverage| match state.ending {
            Ending::No => false,
            Ending::Moved => state.is_stuck,
            Ending::Now => true,
        };
        let mut state = self.lock();
        while state.generation <= generation && !is_hopeless(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.generation > generation
    }
}

/// However the mover's thread ends, nobody waits for it any longer.
struct EndOfMover(Arc<Covered>);

impl Drop for EndOfMover {
    fn drop(&mut self) {
        self.0.end(Ending::Now);
    }
}

enum MoverInput {
    Durable(Durable),
    Reached(Position),
    Stop,
}

struct MoverThread {
    input: Sender<MoverInput>,
    covered: Arc<Covered>,
}

impl ToMover for MoverThread {
    fn durable(&mut self, group: Durable) {
        let _ = self.input.send(MoverInput::Durable(group));
    }

    fn reached(&mut self, position: Position) {
        let _ = self.input.send(MoverInput::Reached(position));
    }

    fn covered(&self) -> u64 {
        self.covered.lock().generation
    }

    fn wait_above(&mut self, generation: u64) -> bool {
        self.covered.wait_above(generation)
    }
}

impl ToMover for Mover {
    fn durable(&mut self, group: Durable) {
        self.take(MoverInput::Durable(group));
    }

    fn reached(&mut self, position: Position) {
        self.take(MoverInput::Reached(position));
    }

    fn covered(&self) -> u64 {
        self.moved.generation
    }

    fn wait_above(&mut self, generation: u64) -> bool {
        self.idle() && self.moved.generation > generation
    }
}

/// Who drives the writer and the mover.
pub(crate) enum Workers {
    /// A thread each.
    Threads {
        chunks: Option<Sender<Chunk>>,
        writer: Option<JoinHandle<()>>,
        mover: Option<JoinHandle<bool>>,
        covered: Arc<Covered>,
    },
    /// The owner, when it asks for reports.
    Inline { writer: Box<Writer>, mover: Box<Mover>, queue: VecDeque<Chunk> },
}

impl Workers {
    /// Starts the threads.
    pub(crate) fn threads(writer: Writer, mover: Mover) -> io::Result<Self> {
        let covered = Arc::new(Covered::default());
        covered.moved(mover.moved.generation, false);
        let (input, inputs) = channel();
        let (chunks, chunk_queue) = channel();
        let end = EndOfMover(Arc::clone(&covered));
        let mover =
            Builder::new().name("weir-mover".to_owned()).spawn(move || run_mover(mover, &inputs, &end.0))?;
        let to_mover = MoverThread { input, covered: Arc::clone(&covered) };
        let writer = Builder::new()
            .name("weir-journal".to_owned())
            .spawn(move || run_writer(writer, &chunk_queue, to_mover))?;
        Ok(Self::Threads { chunks: Some(chunks), writer: Some(writer), mover: Some(mover), covered })
    }

    /// No threads: work is done in [`Self::turn`].
    pub(crate) fn inline(writer: Writer, mover: Mover) -> Self {
        Self::Inline { writer: Box::new(writer), mover: Box::new(mover), queue: VecDeque::new() }
    }

    /// Hands a chunk over.
    pub(crate) fn submit(&mut self, chunk: Chunk) {
        match self {
            Self::Threads { chunks: Some(chunks), .. } => {
                if let Err(refused) = chunks.send(chunk) {
                    (refused.0.release)(Err("the journal's thread has ended".to_owned()));
                }
            }
            Self::Threads { .. } => (chunk.release)(Err("the store is closed".to_owned())),
            Self::Inline { queue, .. } => queue.push_back(chunk),
        }
    }

    /// Does the work that waits, when there is no thread to do it.
    pub(crate) fn turn(&mut self) {
        if let Self::Inline { writer, mover, queue } = self {
            writer.turn(std::mem::take(queue), mover.as_mut());
            if mover.is_stuck || mover.batch.is_urgent {
                mover.idle();
            }
            if mover.must_sweep {
                mover.sweep();
            }
        }
    }

    /// Ends the workers once everything handed over is durable, and moved when `is_moving`.
    pub(crate) fn stop(&mut self, is_moving: bool) -> Result<(), String> {
        let moved = match self {
            Self::Inline { writer, mover, queue } => {
                writer.turn(std::mem::take(queue), mover.as_mut());
                // What failed once may have been a passing fault.
                !is_moving || mover.idle() || mover.idle()
            }
            Self::Threads { chunks, writer, mover, covered } => {
                covered.end(if is_moving { Ending::Moved } else { Ending::Now });
                drop(chunks.take());
                let writer = writer.take().map(JoinHandle::join);
                let mover = mover.take().map(JoinHandle::join);
                if matches!(writer, Some(Err(_))) || matches!(mover, Some(Err(_))) {
                    return Err("a worker of the store has panicked".to_owned());
                }
                matches!(mover, None | Some(Ok(true)))
            }
        };
        if moved {
            Ok(())
        } else {
            Err("what is durable could not be moved into redb; it stays in the journal".to_owned())
        }
    }
}

fn run_writer(mut writer: Writer, chunks: &Receiver<Chunk>, mut mover: MoverThread) {
    while let Ok(first) = chunks.recv() {
        // Whatever arrived while the last sync ran is the next group.
        let mut queue = VecDeque::from([first]);
        queue.extend(chunks.try_iter());
        writer.turn(queue, &mut mover);
    }
    let _ = mover.input.send(MoverInput::Stop);
}

/// Returns whether everything is in redb.
fn run_mover(mut mover: Mover, inputs: &Receiver<MoverInput>, covered: &Covered) -> bool {
    loop {
        let waits = mover.is_stuck || mover.batch.is_urgent || mover.uncertain.is_some();
        let input = if mover.must_sweep {
            inputs.recv_timeout(Duration::ZERO)
        } else if waits {
            inputs.recv_timeout(PATIENCE)
        } else {
            inputs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match input {
            Err(RecvTimeoutError::Timeout) if mover.must_sweep => mover.sweep(),
            Err(RecvTimeoutError::Timeout) => {
                mover.idle();
            }
            Ok(MoverInput::Stop) | Err(RecvTimeoutError::Disconnected) => {
                return covered.lock().ending == Ending::Now || mover.idle() || mover.idle();
            }
            Ok(input) => mover.take(input),
        }
        covered.moved(mover.moved.generation, mover.is_stuck);
    }
}
