//! The two workers: the journal writer, which waits for syncs, and the mover, which carries what is durable into redb.
//!
//! Both are plain state machines ([`Writer`], [`Mover`]); this file gives them a thread each, or drives them on the
//! owner's thread ([`Workers::Inline`]) for simulations. Neither reads a clock.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, panicking};
use std::time::Duration;

use bytes::Bytes;

use crate::home::write::Report;
use crate::journal::format::Position;

pub(crate) mod mover;
pub(crate) mod writer;

use mover::{Later, Mover};
use writer::Writer;

/// The generation that a journal goes on with which does not.
pub(crate) const NEVER: u64 = u64::MAX;
/// How long the mover waits for more before it gives back space, or tries again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs once what was sealed is durable, or lost.
pub type Release = Box<dyn FnOnce(Result<(), String>) + Send>;

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
pub(crate) struct Durable {
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
    /// Waits until `covered` has risen above `generation`; `false` when redb could not be written, or nobody writes it
    /// any more. The disk may be full for days: nobody waits for it to have room.
    fn wait_above(&mut self, generation: u64) -> bool;
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
    /// The last attempt to write redb failed, and none was asked for since.
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

    /// What failed before is tried once more: it is not hopeless before that has failed too.
    fn tries_again(&self) {
        self.lock().is_stuck = false;
    }

    fn end(&self, ending: Ending) {
        let mut state = self.lock();
        state.ending = ending;
        state.is_stuck = false;
        self.changed.notify_all();
    }

    fn wait_above(&self, generation: u64) -> bool {
        let is_hopeless = |state: &Coverage| state.is_stuck || state.ending == Ending::Now;
        let mut state = self.lock();
        while state.generation <= generation && !is_hopeless(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.generation > generation
    }
}

/// However the mover's thread ends, nobody waits for it any longer.
struct EndOfMover {
    covered: Arc<Covered>,
    reports: Reports,
}

impl Drop for EndOfMover {
    fn drop(&mut self) {
        self.covered.end(Ending::Now);
        if panicking() {
            self.reports.tell(Event::Stuck("the thread that moves what is written has panicked".to_owned()));
        }
    }
}

/// However the journal's thread ends, the owner knows that nothing is written any more, and who still waits in the queue is
/// answered. Chunks that were being written are not: nobody knows what became of them.
struct EndOfWriter {
    chunks: Receiver<Chunk>,
    reports: Reports,
}

impl Drop for EndOfWriter {
    fn drop(&mut self) {
        if panicking() {
            let message = "the journal's thread has panicked".to_owned();
            self.reports.tell(Event::Failed { message: message.clone(), generation: NEVER });
            for chunk in self.chunks.try_iter() {
                (chunk.release)(Err(message.clone()));
            }
        }
    }
}

pub(crate) enum MoverInput {
    Durable(Durable),
    Reached(Position),
    /// redb could not be read, and gives nothing before it is opened again.
    Reopen,
    /// A removal while the journal cannot be written, and who waits for it.
    Free(Bytes, Sender<Result<(), String>>),
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
        self.covered.tries_again();
        let _ = self.input.send(MoverInput::Reached(position));
    }

    fn covered(&self) -> u64 {
        self.covered.lock().generation
    }

    fn wait_above(&mut self, generation: u64) -> bool {
        self.covered.wait_above(generation)
    }
}

/// Who drives the writer and the mover.
pub(crate) enum Workers {
    /// A thread each.
    Threads {
        chunks: Option<Sender<Chunk>>,
        writer: Option<JoinHandle<()>>,
        mover: Option<JoinHandle<bool>>,
        to_mover: Option<Sender<MoverInput>>,
        covered: Arc<Covered>,
    },
    /// The owner, when it asks for reports.
    Inline {
        writer: Box<Writer>,
        mover: Box<Mover>,
        queue: VecDeque<Chunk>,
        /// Turns that the mover lets pass before it works.
        lag: u32,
        turns: u32,
    },
}

impl Workers {
    /// Starts the threads.
    pub(crate) fn threads(writer: Writer, mover: Mover, reports: &Reports) -> io::Result<Self> {
        let covered = Arc::new(Covered::default());
        covered.moved(mover.moved.generation, false);
        let (input, inputs) = channel();
        let (chunks, chunk_queue) = channel();
        let end = EndOfMover { covered: Arc::clone(&covered), reports: reports.clone() };
        let mover = Builder::new()
            .name("weir-mover".to_owned())
            .spawn(move || run_mover(mover, &inputs, &end.covered))?;
        let to_mover = MoverThread { input: input.clone(), covered: Arc::clone(&covered) };
        let end = EndOfWriter { chunks: chunk_queue, reports: reports.clone() };
        let writer = Builder::new()
            .name("weir-journal".to_owned())
            .spawn(move || run_writer(writer, &end.chunks, to_mover))?;
        let (writer, mover, to_mover) = (Some(writer), Some(mover), Some(input));
        Ok(Self::Threads { chunks: Some(chunks), writer, mover, to_mover, covered })
    }

    /// No threads: work is done in [`Self::turn`].
    pub(crate) fn inline(writer: Writer, mover: Mover, lag: u32) -> Self {
        let (writer, mover) = (Box::new(writer), Box::new(mover));
        Self::Inline { writer, mover, queue: VecDeque::new(), lag, turns: 0 }
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

    /// Has the mover write a removal together with all that it was given before. Waits for the disk.
    pub(crate) fn free(&mut self, removal: Bytes) -> Result<(), String> {
        let ended = || "the mover's thread has ended".to_owned();
        match self {
            Self::Inline { mover, .. } => mover.free(&removal),
            Self::Threads { to_mover: Some(to_mover), .. } => {
                let (answer, answers) = channel();
                to_mover.send(MoverInput::Free(removal, answer)).map_err(|_| ended())?;
                answers.recv().unwrap_or_else(|_| Err(ended()))
            }
            Self::Threads { to_mover: None, .. } => Err(ended()),
        }
    }

    /// Has redb opened again, which a [`Event::Moved`] or [`Event::Stuck`] ends.
    pub(crate) fn reopen(&mut self) {
        match self {
            Self::Inline { mover, .. } => mover.take(MoverInput::Reopen),
            // A mover that has ended opens nothing.
            Self::Threads { to_mover, .. } => {
                let _ = to_mover.as_ref().map(|to_mover| to_mover.send(MoverInput::Reopen));
            }
        }
    }

    /// Does the work that waits, when there is no thread to do it.
    pub(crate) fn turn(&mut self) {
        if let Self::Inline { writer, mover, queue, lag, turns } = self {
            writer.turn(std::mem::take(queue), &mut Later(mover));
            *turns += 1;
            if *turns <= *lag {
                return;
            }
            *turns = 0;
            mover.work();
            if mover.is_pressed() {
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
            Self::Inline { writer, mover, queue, .. } => {
                writer.turn(std::mem::take(queue), &mut Later(mover));
                if is_moving {
                    mover.work();
                }
                // What failed once may have been a passing fault.
                !is_moving || mover.idle() || mover.idle()
            }
            Self::Threads { chunks, writer, mover, to_mover, covered } => {
                covered.end(if is_moving { Ending::Moved } else { Ending::Now });
                drop((chunks.take(), to_mover.take()));
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
        let input = if mover.must_sweep {
            inputs.recv_timeout(Duration::ZERO)
        } else if mover.is_pressed() {
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
            Ok(MoverInput::Free(removal, answer)) => {
                // An owner that is gone does not mind.
                let _ = answer.send(mover.free(&removal));
            }
            Ok(input) => mover.take(input),
        }
        covered.moved(mover.moved.generation, mover.is_stuck);
    }
}
