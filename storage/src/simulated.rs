//! A disk in memory that knows what a power cut may still take.
//!
//! It records every operation. [`Simulated::cut`] gives the disk as it may be found after a power cut behind any of
//! them: what was synced is there, and of the rest each write may be there, or not, or torn, in any order; a file
//! that was made or removed since the folder was synced may be there or not. Operations can be made to fail.
//! Deliberately absent: latency, and reads that fail or lie (flip bits with [`Simulated::damage`]).

use std::collections::BTreeMap;
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

/// A folder: names, and the files they stand for.
#[derive(Clone, Debug, Default)]
struct Image {
    names: BTreeMap<String, usize>,
    files: BTreeMap<usize, Vec<u8>>,
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
                self.files.entry(*file).or_default().resize(usize::try_from(*len).unwrap_or(0), 0);
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
        let content = self.files.entry(file).or_default();
        let start = usize::try_from(offset).unwrap_or(0);
        if content.len() < start + bytes.len() {
            content.resize(start + bytes.len(), 0);
        }
        content[start..start + bytes.len()].copy_from_slice(bytes);
    }
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
    /// These attempts fail.
    failing: Vec<(Range<u64>, io::ErrorKind)>,
    /// Every attempt on the files of these names fails.
    failing_names: BTreeMap<String, io::ErrorKind>,
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
        self.state().failing.push((attempts, kind));
    }

    /// Makes every attempt to make or change the file of this name fail.
    pub fn fail_file(&self, name: &str, kind: io::ErrorKind) {
        self.state().failing_names.insert(name.to_owned(), kind);
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        let mut state = self.state();
        state.failing.clear();
        state.failing_names.clear();
    }

    /// Flips bits of a file's byte. `false` when there is no such byte.
    pub fn damage(&self, name: &str, offset: usize, bits: u8) -> bool {
        let mut state = self.state();
        let Some(file) = state.live.names.get(name).copied() else { return false };
        match state.live.files.get_mut(&file).and_then(|content| content.get_mut(offset)) {
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
        let name = match &operation {
            Operation::Make { name, .. } | Operation::Remove { name } => Some(name),
            Operation::Write { .. }
            | Operation::SetLen { .. }
            | Operation::Sync { .. }
            | Operation::SyncFailed { .. }
            | Operation::SyncFolder
            | Operation::Mark(_) => operation.file().and_then(|file| state.live.name_of(file)),
        };
        let by_name = name.and_then(|name| state.failing_names.get(name));
        let by_attempt = state.failing.iter().find(|(failing, _)| failing.contains(&attempt));
        if let Some(kind) = by_attempt.map(|(_, kind)| kind).or(by_name) {
            let error = io::Error::new(*kind, "simulated");
            if let Operation::Sync { file } = operation {
                state.operations.push(Operation::SyncFailed { file });
            }
            return Err(error);
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
        Ok(self.disk.state().live.files.get(&self.file).map_or(0, |content| content.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let content = state.live.files.get(&self.file).map(Vec::as_slice).unwrap_or_default();
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
