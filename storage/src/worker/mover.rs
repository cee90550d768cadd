//! The mover: gathers what is durable, and carries it into redb in large transactions.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Batch;
use crate::home::load;
use crate::home::shelf::{Shelf, guarded};
use crate::home::upkeep;
use crate::home::write::{self, Report};
use crate::journal::format::Position;
use crate::reserve::Reserve;
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
    reserve: Reserve,
    reports: Reports,
}

impl Mover {
    pub(crate) fn new(shelf: Arc<Shelf>, moved: Position, reserve: Reserve, reports: Reports) -> Self {
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
            reserve,
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
            if let Some(input) = self.waiting.pop_front()
                && self.gather(input)
            {
                self.commit();
            }
        }
    }

    /// Takes one input into the batch. Whether that is to be written now.
    fn gather(&mut self, input: MoverInput) -> bool {
        match input {
            MoverInput::Durable(group) => {
                for (bytes, evictions) in &group.parts {
                    self.batch.apply(bytes);
                    self.batch.apply(evictions);
                }
                self.chunk = group.chunk;
                self.position = group.position;
                self.batch.removals > REMOVALS_MAX
            }
            MoverInput::Reached(position) => {
                self.position = position;
                true
            }
            MoverInput::Reopen => {
                self.is_stuck = true;
                true
            }
            MoverInput::Stop | MoverInput::Free(..) => false,
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

    /// Writes a removal together with all that waits, or neither. Without what is removed it may be too much for the disk,
    /// so nothing is written before. The reserve is given up where it does not go without, and kept again.
    pub(super) fn free(&mut self, removal: &Bytes) -> Result<(), String> {
        if let Some(report) = self.settle()? {
            self.written(report);
        }
        while let Some(input) = self.waiting.pop_front() {
            self.gather(input);
        }
        let before = self.batch.clone();
        self.batch.apply(removal);
        let mut result = self.attempt();
        if result.is_err() {
            // With the room of the reserve. Where the first commit may have taken hold, this finds out.
            self.reserve.give_up();
            result = self.attempt();
        }
        if result.is_err() {
            match self.settle() {
                Ok(Some(report)) => {
                    self.written(report);
                    result = Ok(());
                }
                Ok(None) => self.batch = before,
                // It is not known: the removal stays with the batch that may have taken hold.
                Err(_) if self.uncertain.is_some() => {}
                Err(_) => self.batch = before,
            }
            self.reserve.keep();
        }
        result
    }

    /// Writes the batch. `false` when redb cannot be written now.
    fn commit(&mut self) -> bool {
        self.attempt().is_ok()
    }

    fn attempt(&mut self) -> Result<(), String> {
        // After a failure redb is not even read before it is opened again.
        if self.batch.is_empty() && self.position.generation == self.moved.generation && !self.is_stuck {
            return Ok(());
        }
        let report = match self.settle() {
            Ok(Some(report)) => Ok(report),
            Ok(None) => self.write(),
            Err(message) => Err(message),
        };
        match report {
            Ok(report) => {
                self.written(report);
                Ok(())
            }
            Err(message) => {
                self.hindered(message.clone());
                Err(message)
            }
        }
    }

    /// redb could not be read or written.
    fn hindered(&mut self, message: String) {
        self.is_stuck = true;
        // So that it can be read meanwhile; where this fails, too, the next attempt begins with it.
        let _ = self.shelf.reopen();
        self.reports.tell(Event::Stuck(message));
    }

    /// redb has the batch.
    fn written(&mut self, report: Report) {
        // A sweep may be what failed.
        self.must_sweep |= self.batch.is_urgent || self.is_stuck;
        self.is_stuck = false;
        self.reserve.keep();
        self.batch = Batch::default();
        self.moved = self.position;
        let generation = self.position.generation;
        self.reports.tell(Event::Moved { chunk: self.chunk, generation, report });
    }

    /// Opens redb again after a failure, and finds out whether a commit that failed took hold.
    fn settle(&mut self) -> Result<Option<Report>, String> {
        if self.is_stuck || self.uncertain.is_some() {
            self.shelf.reopen().map_err(|error| format!("redb cannot be opened again: {error}"))?;
        }
        let Some((position, report)) = self.uncertain.take() else { return Ok(None) };
        let database = self.shelf.database();
        let is_there = load::moved(&database).map(|moved| moved.map(|(_, moved)| moved) == Some(position));
        let settled = match is_there {
            Ok(false) => return Ok(None),
            // It took hold, as far as the page cache knows, and a commit that succeeds makes it certain. A position that the
            // batch has not changed tells nothing: then there are only removals in it, which can be done twice.
            Ok(true) => {
                let nothing = Batch::default();
                let again = if position == self.moved { &self.batch } else { &nothing };
                guarded(|| write::commit(&database, again, position, &[])).map(drop)
            }
            Err(error) => Err(error),
        };
        match settled {
            Ok(()) => Ok(Some(report)),
            Err(error) => {
                self.uncertain = Some((position, report));
                Err(error.to_string())
            }
        }
    }

    fn write(&mut self) -> Result<Report, String> {
        let database = self.shelf.database();
        let mut written = None;
        let result = guarded(|| write::commit_with(&database, &self.batch, self.position, &[], &mut written));
        result.map_err(|error| {
            if let Some(log) = error.to_mend {
                // An index that cannot be read is built anew from the records; then it is tried again.
                let _ = guarded(|| upkeep::mend(&database, log));
            }
            self.uncertain = written.map(|report| (self.position, report));
            error.to_string()
        })
    }

    /// Gives back some space. `true` when there is more.
    pub(super) fn sweep(&mut self) {
        let database = self.shelf.database();
        let swept = guarded(|| upkeep::sweep(&database));
        drop(database);
        self.must_sweep = swept.as_ref().is_ok_and(|has_more| *has_more);
        if let Err(error) = swept {
            self.hindered(error.to_string());
        }
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

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::disk::Disk as _;
    use crate::log::{Cost, Layout, LogId, LogSpec, Medium};
    use crate::record::{Frame, Kind};
    use crate::simulated::{Operation, Simulated};

    const LOG: LogId = LogId(1);

    /// A mover that was given ten records of a log.
    fn mover(disk: &Simulated, layout: Layout) -> Mover {
        let shelf = Arc::new(Shelf::open(Arc::new(disk.clone()), 1 << 20).expect("opened"));
        let start = Position { generation: 1, offset: 512, group: 1, crc: 0 };
        write::commit(&shelf.database(), &Batch::default(), start, &[]).expect("written");
        let reports = Reports { events: channel().0, wake: Arc::new(|| ()) };
        let reserve = Reserve::make(Arc::new(disk.clone()), 8 << 10);
        let mut mover = Mover::new(shelf, start, reserve, reports);
        let cost = Cost { per_record: 0, per_headers: 0 };
        let spec = LogSpec { medium: Medium::Disk, layout, cost, first_seq: 1 };
        let mut bytes = Vec::new();
        Frame { payload: &spec.encode(), ..Frame::bare(Kind::Create, LOG.0, 1) }.encode(&mut bytes);
        for seq in 1..=10 {
            Frame { subject: b"s", ..Frame::bare(Kind::Message, LOG.0, seq) }.encode(&mut bytes);
        }
        let position = Position { offset: 2048, group: 2, ..start };
        let parts = vec![(Bytes::from(bytes), Bytes::new())];
        mover.take(MoverInput::Durable(Durable { chunk: 1, parts, position }));
        mover
    }

    #[test]
    fn the_reserve_is_used_where_it_is_needed_and_kept_again() {
        let is_kept = |disk: &Simulated| {
            let file = disk.open("reserve", false);
            file.and_then(|file| file.len()).is_ok_and(|bytes| bytes == 8 << 10)
        };
        let removals = |disk: &Simulated| {
            disk.operations().iter().filter(|each| matches!(each, Operation::Remove { .. })).count()
        };
        let mut purge = Vec::new();
        Frame::bare(Kind::Purge, LOG.0, 6).encode(&mut purge);
        let purge = Bytes::from(purge);
        // There is room without it.
        let disk = Simulated::new();
        let mut roomy = mover(&disk, Layout::Blocks);
        assert!(is_kept(&disk));
        assert_eq!(roomy.free(&purge), Ok(()));
        assert_eq!((removals(&disk), is_kept(&disk)), (0, true));
        // Even with it the database takes nothing.
        let disk = Simulated::new();
        let mut full = mover(&disk, Layout::Blocks);
        disk.fail_file("main.redb", ErrorKind::StorageFull);
        assert!(full.free(&purge).is_err());
        assert_eq!((removals(&disk), is_kept(&disk)), (1, true), "it is there for the next one");
    }

    #[test]
    fn what_is_freed_is_gone_whichever_write_fails() {
        let mut purge = Vec::new();
        Frame::bare(Kind::Purge, LOG.0, 6).encode(&mut purge);
        let purge = Bytes::from(purge);
        for layout in [Layout::Blocks, Layout::Rows] {
            // Whether what was answered is in redb already; and how many attempts fail.
            for (is_moved, failing) in [(false, 1), (true, 1), (false, 4), (true, 4), (false, 40), (true, 40)]
            {
                for at in 0.. {
                    let context = format!("{layout:?}, moved: {is_moved}, {failing} fail from {at} on");
                    let disk = Simulated::new();
                    let mut mover = mover(&disk, layout);
                    assert!(!is_moved || mover.idle(), "{context}");
                    let first = disk.attempts() + at;
                    disk.fail(first..first + failing, ErrorKind::Other);
                    let freed = mover.free(&purge);
                    let is_known = mover.uncertain.is_none();
                    if disk.attempts() <= first {
                        assert_eq!(freed, Ok(()), "{context}: nothing has failed");
                        break;
                    }
                    disk.heal();
                    assert!(mover.idle() || mover.idle(), "{context}");
                    let loaded = load::load(&mover.shelf.database()).expect("read");
                    let row = &loaded.logs[&LOG].row;
                    let is_gone = match (row.totals.first_seq, row.totals.messages) {
                        (6, 5) => true,
                        (1, 10) => false,
                        other => panic!("{context}: removed in part: {other:?}"),
                    };
                    assert!(is_gone == freed.is_ok() || (is_gone && !is_known), "{context}: {freed:?}");
                }
            }
        }
    }
}
