//! Writes groups: one write and one sync each, at the current offset of the current file.
//!
//! Files are made once, filled with zeros and synced with their folder, so that a group only overwrites bytes that
//! exist. A file is used again once redb has all that is in it. After a failed write or sync nothing is written to the
//! file any more, for what reads back through the page cache proves nothing; what was answered before lies in it until
//! redb has it, and then it is removed.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::journal::format::{
    GROUP_HEADER, Group, Position, SECTOR, START, body_crc, file_header, footprint,
};

/// The shortest and the longest file there may be, in bytes.
pub(crate) const FILE_BYTES: RangeInclusive<u64> = 8 << 10..=1 << 30;
/// Files there may be.
pub(crate) const FILES_MAX: usize = 8;
/// Files there are from the start.
const FILES_MIN: usize = 2;
const PREFIX: &str = "journal-";

/// The name of a journal file.
pub(crate) fn file_name(number: u32) -> String {
    format!("{PREFIX}{number:04}")
}

/// Whether a name is one of [`file_name`]'s.
pub(crate) fn file_number(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[derive(Debug)]
struct File {
    number: u32,
    handle: Box<dyn DiskFile>,
}

/// The files and where the next group goes.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    file_bytes: u64,
    free: VecDeque<File>,
    /// Full files, with their generation.
    full: VecDeque<(u64, File)>,
    /// Files a write to has failed, with their generation.
    given_up: Vec<(u64, File)>,
    current: Option<File>,
    /// The current file's header has not been written.
    fresh: bool,
    next_number: u32,
    position: Position,
    buffer: Vec<u8>,
}

impl Journal {
    /// A journal that goes on at `position`, the start of a new generation; whatever the files hold is in redb.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub(crate) fn open(disk: Arc<dyn Disk>, file_bytes: u64, position: Position) -> io::Result<Self> {
        let mut journal = Self {
            disk,
            file_bytes,
            free: VecDeque::new(),
            full: VecDeque::new(),
            given_up: Vec::new(),
            current: None,
            fresh: true,
            next_number: 1,
            position,
            buffer: Vec::new(),
        };
        for name in journal.disk.list()? {
            let Some(number) = file_number(&name) else { continue };
            journal.next_number = journal.next_number.max(number.saturating_add(1));
            let handle = journal.disk.open(&name, false)?;
            if handle.len()? == file_bytes {
                journal.free.push_back(File { number, handle });
            } else {
                // Half made, or of another size.
                drop(handle);
                journal.disk.remove(&name)?;
            }
        }
        while journal.free.len() < FILES_MIN {
            let file = journal.make()?;
            journal.free.push_back(file);
        }
        // Whoever made the files that were found may have been killed before the folder was synced.
        journal.disk.sync_folder()?;
        Ok(journal)
    }

    fn make(&mut self) -> io::Result<File> {
        let number = self.next_number;
        let next = number.checked_add(1).ok_or_else(|| {
            io::Error::other(format!("{} has the highest number a file can have", file_name(number)))
        })?;
        let name = file_name(number);
        let handle = self.disk.open(&name, true)?;
        let filled = (|| {
            let zeros = vec![0u8; 1 << 16];
            let mut offset = 0;
            while offset < self.file_bytes {
                let step = (self.file_bytes - offset).min(zeros.len() as u64);
                #[expect(clippy::cast_possible_truncation, reason = "at most the length of the zeros")]
                handle.write_at(offset, &zeros[..step as usize])?;
                offset += step;
            }
            handle.sync()?;
            if cfg!(feature = "bug-skip-directory-sync") { Ok(()) } else { self.disk.sync_folder() }
        })();
        if let Err(error) = filled {
            // The space it took may be what others need.
            drop(handle);
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        self.next_number = next;
        Ok(File { number, handle })
    }

    /// Where the next group goes.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Whether a group with a body of `length` fits the current file.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.current.is_some()
            && self.position.offset.saturating_add(footprint(length as u64)) <= self.file_bytes
    }

    /// Ends the current file. The position is then the start of a new generation; [`Self::begin`] gives it a file.
    pub(crate) fn end_file(&mut self) {
        if let Some(file) = self.current.take() {
            self.full.push_back((self.position.generation, file));
            if !(cfg!(feature = "bug-reuse-generation") && self.position.group.is_multiple_of(2)) {
                self.position.generation += 1;
            }
        }
        self.position.offset = START;
    }

    /// Takes a free file for the current generation, after redb has everything of generations below `covered`.
    /// `false` when there is none and there may be no more.
    ///
    /// # Errors
    /// When another file cannot be made; the ones there are stay usable.
    pub(crate) fn begin(&mut self, covered: u64) -> io::Result<bool> {
        if self.current.is_some() {
            return Ok(true);
        }
        let covered = if cfg!(feature = "bug-recycle-before-commit") { u64::MAX } else { covered };
        for (_, file) in self.given_up.extract_if(.., |(generation, _)| *generation < covered) {
            let name = file_name(file.number);
            drop(file);
            // Left behind when this fails: its generation is below what redb has, so nobody reads it again.
            let _ = self.disk.remove(&name);
        }
        while self.full.front().is_some_and(|(generation, _)| *generation < covered) {
            if let Some((_, file)) = self.full.pop_front() {
                self.free.push_back(file);
            }
        }
        if self.free.is_empty() {
            if self.full.len() >= FILES_MAX {
                return Ok(false);
            }
            let file = self.make()?;
            self.free.push_back(file);
        }
        self.current = self.free.pop_front();
        self.fresh = true;
        Ok(true)
    }

    /// Writes one group and syncs it. The caller has asked [`Self::has_room`].
    ///
    /// # Errors
    /// When the write or the sync fails: call [`Self::give_up_file`], and never write to this file again.
    pub(crate) fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let Some(file) = &self.current else {
            return Err(io::Error::other("the journal has no file to write to"));
        };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let group = Group {
            generation: self.position.generation,
            number: self.position.group,
            length: length as u64,
            former_crc: self.position.crc,
            crc: body_crc(self.position.crc, parts),
        };
        self.buffer.clear();
        let mut offset = self.position.offset;
        if self.fresh {
            let length = u32::try_from(self.file_bytes).unwrap_or(0);
            self.buffer.extend_from_slice(&file_header(self.position.generation, length));
            offset = 0;
        }
        self.buffer.reserve(GROUP_HEADER + length + SECTOR);
        self.buffer.extend_from_slice(&group.encode());
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
        let padded = self.buffer.len().div_ceil(SECTOR) * SECTOR;
        self.buffer.resize(padded, 0);
        file.handle.write_at(offset, &self.buffer)?;
        let synced =
            if cfg!(feature = "bug-sync-wrong-file") { self.free.front().unwrap_or(file) } else { file };
        let result = synced.handle.sync();
        if !cfg!(feature = "bug-ignore-failed-sync") {
            result?;
        }
        self.fresh = false;
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        self.position = Position {
            offset: group.end(self.position.offset),
            group: group.number + 1,
            crc: group.crc,
            ..self.position
        };
        Ok(())
    }

    /// Writes no more to the current file. Goes on with a new generation.
    pub(crate) fn give_up_file(&mut self) {
        if let Some(file) = self.current.take() {
            self.given_up.push((self.position.generation, file));
        }
        self.position.generation += 1;
        self.position.offset = START;
    }
}
