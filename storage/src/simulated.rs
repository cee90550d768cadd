//! A disk in memory that knows what a power cut may still take.
//!
//! It records every operation. [`Simulated::cut`] gives the disk as it may be found after a power cut behind any of
//! them: what was synced is there, and of the rest each write may be there, or not, or torn, in any order; a file
//! that was made or removed since the folder was synced may be there or not. Operations can be made to fail, as a whole
//! or after a part of a write was done, and the disk can be filled: then what has its pages can be overwritten, and
//! nothing else be written.
//! Deliberately absent: latency, and reads that fail or lie (flip bits with [`Simulated::damage`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

/// One operation, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file was made.
    Make {
        /// Its name.
        name: String,
        /// Its number; names can be used again.
        file: usize,
    },
    /// A name was removed.
    Remove {
        /// The name.
        name: String,
    },
    /// Bytes were written.
    Write {
        /// To which file.
        file: usize,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A length was set.
    SetLen {
        /// Of which file.
        file: usize,
        /// The new length.
        len: u64,
    },
    /// A file was synced.
    Sync {
        /// Which.
        file: usize,
    },
    /// A file's sync failed. What was written before is on the disk or lost; no later sync brings it there.
    SyncFailed {
        /// Which.
        file: usize,
    },
    /// The folder was synced.
    SyncFolder,
    /// The test's own mark, for example that an answer went out.
    Mark(u64),
}

impl Operation {
    /// The file whose contents it changes; `None` when it changes the folder.
    fn file(&self) -> Option<usize> {
        match self {
            Self::Write { file, .. }
            | Self::SetLen { file, .. }
            | Self::Sync { file }
            | Self::SyncFailed { file } => Some(*file),
            Self::Make { .. } | Self::Remove { .. } | Self::SyncFolder | Self::Mark(_) => None,
        }
    }
}

/// Applies what waits and is meant, in order.
fn settle(image: &mut Image, pending: &mut Vec<&Operation>, is_meant: impl Fn(&Operation) -> bool) {
    pending.retain(|waiting| {
        let is_meant = is_meant(waiting);
        if is_meant {
            image.apply(waiting);
        }
        !is_meant
    });
}

/// What the disk gives room in.
const PAGE: u64 = 4096;

/// The pages that these bytes lie in.
fn pages(offset: u64, length: u64) -> Range<u64> {
    if length == 0 { 0..0 } else { offset / PAGE..(offset + length).div_ceil(PAGE) }
}

/// What is in a file. Pages that were never written read as zeros and take no room.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    pages: BTreeSet<u64>,
}

impl Content {
    fn set_len(&mut self, len: u64) {
        self.bytes.resize(usize::try_from(len).unwrap_or(0), 0);
        self.pages.split_off(&len.div_ceil(PAGE));
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = usize::try_from(offset).unwrap_or(0);
        if self.bytes.len() < start + bytes.len() {
            self.bytes.resize(start + bytes.len(), 0);
        }
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.pages.extend(pages(offset, bytes.len() as u64));
    }
}

/// A folder: names, and the files they stand for.
#[derive(Clone, Debug, Default)]
struct Image {
    names: BTreeMap<String, usize>,
    files: BTreeMap<usize, Content>,
}

impl Image {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Make { name, file } => {
                self.names.insert(name.clone(), *file);
                self.files.entry(*file).or_default();
            }
            Operation::Remove { name } => {
                self.names.remove(name);
            }
            Operation::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Operation::SetLen { file, len } => {
                self.files.entry(*file).or_default().set_len(*len);
            }
            Operation::Sync { .. }
            | Operation::SyncFailed { .. }
            | Operation::SyncFolder
            | Operation::Mark(_) => {}
        }
    }

    fn name_of(&self, file: usize) -> Option<&String> {
        self.names.iter().find(|(_, number)| **number == file).map(|(name, _)| name)
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) {
        self.files.entry(file).or_default().write(offset, bytes);
    }

    /// Pages that the files in the folder take.
    fn taken(&self) -> u64 {
        let files = self.names.values().filter_map(|file| self.files.get(file));
        files.map(|content| content.pages.len() as u64).sum()
    }
}

/// Attempts that fail.
#[derive(Clone, Debug)]
struct Fault {
    attempts: Range<u64>,
    kind: io::ErrorKind,
    how: How,
}

/// What of the attempts fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// All of it.
    Whole,
    /// A write has done a part of its work by then.
    InPart,
    /// Syncs of files alone.
    Syncs,
}

#[derive(Debug, Default)]
struct State {
    /// What was durable before the first recorded operation.
    base: Image,
    live: Image,
    operations: Vec<Operation>,
    next_file: usize,
    /// Changes and syncs so far, those that failed included.
    attempts: u64,
    faults: Vec<Fault>,
    /// Pages there may be.
    limit: Option<u64>,
    /// Every attempt on the files of these names fails.
    failing_names: BTreeMap<String, io::ErrorKind>,
    /// Reads that succeed before all others fail.
    reads: Option<u64>,
}

impl State {
    /// What makes this attempt fail, and how many bytes of a write are written all the same.
    fn failure(&self, attempt: u64, operation: &Operation) -> Option<(io::ErrorKind, usize)> {
        let name = match operation {
            Operation::Make { name, .. } | Operation::Remove { name } => Some(name),
            Operation::Write { .. }
            | Operation::SetLen { .. }
            | Operation::Sync { .. }
            | Operation::SyncFailed { .. }
            | Operation::SyncFolder
            | Operation::Mark(_) => operation.file().and_then(|file| self.live.name_of(file)),
        };
        let hits = |fault: &&Fault| {
            fault.attempts.contains(&attempt)
                && (fault.how != How::Syncs || matches!(operation, Operation::Sync { .. }))
        };
        if let Some(fault) = self.faults.iter().find(hits) {
            let mut done = 0;
            if let Operation::Write { bytes, .. } = operation
                && fault.how == How::InPart
            {
                // From nothing to all of it, as good as random.
                let part = attempt.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (bytes.len() as u64 + 1);
                done = usize::try_from(part).unwrap_or(0);
            }
            return Some((fault.kind, done));
        }
        if let Some(kind) = name.and_then(|name| self.failing_names.get(name)) {
            return Some((*kind, 0));
        }
        self.overflow(operation).map(|done| (io::ErrorKind::StorageFull, done))
    }

    /// How much of a write finds room, when not all of it does.
    fn overflow(&self, operation: &Operation) -> Option<usize> {
        let (Some(limit), Operation::Write { file, offset, bytes }) = (self.limit, operation) else {
            return None;
        };
        let mut room = limit.saturating_sub(self.live.taken());
        let content = self.live.files.get(file);
        for page in pages(*offset, bytes.len() as u64) {
            if content.is_some_and(|content| content.pages.contains(&page)) {
                continue;
            }
            if room == 0 {
                return Some(usize::try_from((page * PAGE).saturating_sub(*offset)).unwrap_or(0));
            }
            room -= 1;
        }
        None
    }
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Simulated {
    state: Arc<Mutex<State>>,
}

/// How a power cut treats what was not synced.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Of a hundred unsynced operations, how many took hold.
    pub kept_percent: u64,
    /// Of a hundred writes that took hold, how many did so in part.
    pub torn_percent: u64,
    /// One sync in so many did nothing, though it said it had (0: all are honest).
    pub lie_one_in: u64,
}

impl Simulated {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a mark among the operations.
    pub fn mark(&self, mark: u64) {
        self.state().operations.push(Operation::Mark(mark));
    }

    /// Everything recorded so far.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.state().operations.clone()
    }

    /// Changes and syncs tried so far.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.state().attempts
    }

    /// Makes the attempts with these numbers fail, besides those that fail already.
    pub fn fail(&self, attempts: Range<u64>, kind: io::ErrorKind) {
        self.state().faults.push(Fault { attempts, kind, how: How::Whole });
    }

    /// As [`Self::fail`]; a write among them is done up to some byte before it fails.
    pub fn fail_in_part(&self, attempts: Range<u64>, kind: io::ErrorKind) {
        self.state().faults.push(Fault { attempts, kind, how: How::InPart });
    }

    /// As [`Self::fail`], but only the syncs of files among them fail.
    pub fn fail_syncs(&self, attempts: Range<u64>, kind: io::ErrorKind) {
        self.state().faults.push(Fault { attempts, kind, how: How::Syncs });
    }

    /// From now on there is room for `room` bytes more, in whole pages of 4 KiB. A write that finds less writes what it
    /// has room for and fails.
    pub fn fill(&self, room: u64) {
        let mut state = self.state();
        state.limit = Some(state.live.taken() + room / PAGE);
    }

    /// Makes every attempt to make or change the file of this name fail.
    pub fn fail_file(&self, name: &str, kind: io::ErrorKind) {
        self.state().failing_names.insert(name.to_owned(), kind);
    }

    /// Makes every read fail once `count` more have succeeded.
    pub fn fail_reads_after(&self, count: u64) {
        self.state().reads = Some(count);
    }

    /// From now on nothing fails, and there is room.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.failing_names.clear();
        state.limit = None;
        state.reads = None;
    }

    /// Flips bits of a file's byte. `false` when there is no such byte.
    pub fn damage(&self, name: &str, offset: usize, bits: u8) -> bool {
        let mut state = self.state();
        let Some(file) = state.live.names.get(name).copied() else { return false };
        match state.live.files.get_mut(&file).and_then(|content| content.bytes.get_mut(offset)) {
            Some(byte) => {
                *byte ^= bits;
                true
            }
            None => false,
        }
    }

    /// A copy of the disk as it is, everything synced.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        Self::of(state.live.clone(), state.next_file)
    }

    fn of(image: Image, next_file: usize) -> Self {
        let state = State { base: image.clone(), live: image, next_file, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The disk as a power cut behind the first `count` operations may leave it. `random` decides.
    #[must_use]
    pub fn cut(&self, count: usize, cut: Cut, random: &mut dyn FnMut() -> u64) -> Self {
        let state = self.state();
        let mut image = state.base.clone();
        let mut pending: Vec<&Operation> = Vec::new();
        for operation in state.operations.iter().take(count) {
            match operation {
                Operation::Sync { .. } | Operation::SyncFolder
                    if cut.lie_one_in > 0 && random().is_multiple_of(cut.lie_one_in) => {}
                Operation::Sync { file } => {
                    settle(&mut image, &mut pending, |waiting| waiting.file() == Some(*file));
                }
                Operation::SyncFolder => settle(&mut image, &mut pending, |waiting| waiting.file().is_none()),
                Operation::SyncFailed { file } => {
                    // The system takes its pages for clean: whatever took hold did so now.
                    pending.retain(|waiting| {
                        let is_lost =
                            waiting.file() == Some(*file) && matches!(waiting, Operation::Write { .. });
                        if is_lost {
                            take_hold(&mut image, waiting, cut, random);
                        }
                        !is_lost
                    });
                }
                Operation::Mark(_) => {}
                Operation::Make { .. }
                | Operation::Remove { .. }
                | Operation::Write { .. }
                | Operation::SetLen { .. } => pending.push(operation),
            }
        }
        for operation in pending {
            take_hold(&mut image, operation, cut, random);
        }
        Self::of(image, state.next_file)
    }

    fn attempt(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.state();
        let attempt = state.attempts;
        state.attempts += 1;
        if let Some((kind, done)) = state.failure(attempt, &operation) {
            let left = match operation {
                Operation::Sync { file } => Some(Operation::SyncFailed { file }),
                Operation::Write { file, offset, mut bytes } if done > 0 => {
                    bytes.truncate(done);
                    Some(Operation::Write { file, offset, bytes })
                }
                Operation::Make { .. }
                | Operation::Remove { .. }
                | Operation::Write { .. }
                | Operation::SetLen { .. }
                | Operation::SyncFailed { .. }
                | Operation::SyncFolder
                | Operation::Mark(_) => None,
            };
            if let Some(left) = left {
                state.live.apply(&left);
                state.operations.push(left);
            }
            return Err(io::Error::new(kind, "simulated"));
        }
        state.live.apply(&operation);
        state.operations.push(operation);
        Ok(())
    }
}

/// An operation that was not synced takes hold, or in part, or not.
fn take_hold(image: &mut Image, operation: &Operation, cut: Cut, random: &mut dyn FnMut() -> u64) {
    if random() % 100 >= cut.kept_percent {
        return;
    }
    if let Operation::Write { file, offset, bytes } = operation
        && random() % 100 < cut.torn_percent
    {
        tear(image, *file, *offset, bytes, random);
    } else {
        image.apply(operation);
    }
}

/// Part of a write takes hold: some of its sectors, or its bytes up to or from a point.
fn tear(image: &mut Image, file: usize, offset: u64, bytes: &[u8], random: &mut dyn FnMut() -> u64) {
    const SECTOR: u64 = 512;
    let end = offset + bytes.len() as u64;
    let mut put = |from: u64, to: u64| {
        let within = |at: u64| usize::try_from(at - offset).unwrap_or(bytes.len());
        image.write(file, from, &bytes[within(from)..within(to)]);
    };
    match random() % 3 {
        0 => {
            let mut at = offset;
            while at < end {
                let next = ((at / SECTOR + 1) * SECTOR).min(end);
                if random().is_multiple_of(2) {
                    put(at, next);
                }
                at = next;
            }
        }
        1 => put(offset, offset + random() % (end - offset + 1)),
        _ => put(offset + random() % (end - offset + 1), end),
    }
}

impl Disk for Simulated {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let found = self.state().live.names.get(name).copied();
        let file = match found {
            Some(file) => file,
            None if create => {
                let file = {
                    let mut state = self.state();
                    state.next_file += 1;
                    state.next_file
                };
                self.attempt(Operation::Make { name: name.to_owned(), file })?;
                file
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().live.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.attempt(Operation::Remove { name: name.to_owned() })
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.attempt(Operation::SyncFolder)
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: Simulated,
    file: usize,
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().live.files.get(&self.file).map_or(0, |content| content.bytes.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        if let Some(reads) = &mut state.reads {
            *reads = reads.checked_sub(1).ok_or_else(|| io::Error::other("simulated"))?;
        }
        let content = state.live.files.get(&self.file).map(|content| &content.bytes[..]).unwrap_or_default();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = content.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.attempt(Operation::Write { file: self.file, offset, bytes: bytes.to_vec() })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.attempt(Operation::SetLen { file: self.file, len })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.attempt(Operation::Sync { file: self.file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(file: &dyn DiskFile) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(file.len().expect("a length")).expect("it is small")];
        file.read_at(0, &mut bytes).expect("read");
        bytes
    }

    #[test]
    fn a_full_disk_lets_what_has_its_pages_be_written_over() {
        let disk = Simulated::new();
        let (old, new) = (disk.open("old", true).expect("made"), disk.open("new", true).expect("made"));
        old.write_at(0, &[1; 8192]).expect("there is room");
        disk.fill(PAGE + 100);
        old.write_at(100, &[2; 8092]).expect("it has its pages");
        new.set_len(1 << 20).expect("a hole takes no room");
        let error = new.write_at(10, &[3; 8192]).expect_err("one page is left");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let written = usize::try_from(PAGE).expect("it is small");
        assert_eq!(bytes(&*new)[10..written], vec![3; written - 10][..]);
        assert!(bytes(&*new)[written..].iter().all(|byte| *byte == 0), "the rest found no room");
        disk.remove("old").expect("removed");
        new.write_at(10, &[3; 8192]).expect("its room is given back");
    }

    #[test]
    fn a_write_that_fails_may_have_done_a_part() {
        let disk = Simulated::new();
        let file = disk.open("file", true).expect("made");
        let mut parts = BTreeSet::new();
        for attempt in disk.attempts()..disk.attempts() + 20 {
            disk.fail_in_part(attempt..attempt + 1, io::ErrorKind::Other);
            file.write_at(0, &[7; 1000]).expect_err("it fails");
            parts.insert(bytes(&*file).len());
        }
        assert!(parts.len() > 3 && parts.iter().all(|part| *part <= 1000), "{parts:?}");
        disk.fail_syncs(disk.attempts()..u64::MAX, io::ErrorKind::Other);
        file.write_at(0, &[8; 10]).expect("no sync");
        file.sync().expect_err("a sync");
    }
}
