//! The journal writer: makes groups of the chunks that wait, has them synced, and answers.

use std::collections::VecDeque;
use std::io;

use crate::journal::writer::Journal;
use crate::worker::{Chunk, Durable, Event, Reports, ToMover};

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
    pub(super) fn turn(&mut self, mut queue: VecDeque<Chunk>, mover: &mut dyn ToMover) {
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
            let mut group: Vec<Chunk> = queue.drain(..taken).collect();
            if cfg!(feature = "bug-ack-before-sync") {
                for chunk in &mut group {
                    std::mem::replace(&mut chunk.release, Box::new(|_| ()))(Ok(()));
                }
            }
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
                Ok(false) => {
                    return Err(io::Error::other(
                        "all of its files are full, and what is in them cannot be moved",
                    ));
                }
                // No further file can be made; one of those there are will be free, unless redb cannot be written either.
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
