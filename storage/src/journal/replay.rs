//! Reads back what the journal holds behind a position.
//!
//! Only files of that generation and later count; the rest is in redb. A group that cannot be read and has no valid
//! group behind it was never answered. One that has is damage: its readable records are given, and it is named. So is a
//! file that is shorter than it was made, or gone though redb is in the middle of it: what was in it is not known.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::journal::format::{FileHeader, Group, Position, SECTOR, START, VERSION, read_file_header};
use crate::journal::writer::{FILE_BYTES, file_name, file_number};

/// A stretch of records, in order.
#[derive(Debug)]
pub(crate) enum Stretch {
    /// The body of a group.
    Whole(Bytes),
    /// What is left of damaged groups: bytes that may hold records, and where they lie.
    Broken {
        /// Name of the file.
        file: String,
        /// From this byte of it.
        offset: u64,
        /// The bytes, group headers among them.
        bytes: Bytes,
    },
    /// Bytes of a file that are not there any more.
    Missing {
        /// From this byte of it.
        first: u64,
        /// Up to this one.
        last: u64,
        /// What happened, and where.
        what: String,
    },
}

/// Why the journal cannot be read back.
#[derive(Debug)]
pub(crate) enum ReplayError {
    Io(String, io::Error),
    Newer(String, u32),
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) stretches: Vec<Stretch>,
    /// Behind the last group; a generation that was never used.
    pub(crate) position: Position,
}

struct JournalFile {
    name: String,
    generation: u64,
    /// Bytes it was made with; 0 when that is not known.
    length: u64,
    bytes: Bytes,
}

impl JournalFile {
    /// What it has lost, of what was not moved. A file is filled and synced before its header is written.
    fn missing(&self) -> Option<Stretch> {
        let (first, last) = (self.bytes.len() as u64, self.length);
        (first < last).then(|| {
            let what = format!(
                "{} has {first} bytes and was made with {last}: what was in the rest of it is lost",
                self.name
            );
            Stretch::Missing { first, last, what }
        })
    }

    /// Whether a group begins here that went on behind the end of the file.
    fn is_cut(&self, offset: u64, position: &Position) -> bool {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..));
        rest.and_then(Group::decode).is_some_and(|group| {
            group.generation == self.generation
                && group.number == position.group
                && group.end(offset) > self.bytes.len() as u64
        })
    }
}

/// Reads everything at or behind `from`.
pub(crate) fn replay(disk: &Arc<dyn Disk>, from: Position) -> Result<Replayed, ReplayError> {
    let mut files = Vec::new();
    let mut highest = from.generation;
    let names = disk.list().map_err(|error| ReplayError::Io("the folder".to_owned(), error))?;
    for number in names.iter().filter_map(|name| file_number(name)) {
        let name = file_name(number);
        let read = |name: &str| -> io::Result<Vec<u8>> {
            let handle = disk.open(name, false)?;
            let length = handle.len()?;
            if length > *FILE_BYTES.end() {
                let most = FILE_BYTES.end();
                return Err(io::Error::other(format!(
                    "it has {length} bytes; a journal file has at most {most}"
                )));
            }
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            handle.read_at(0, &mut bytes)?;
            Ok(bytes)
        };
        let bytes = read(&name).map_err(|error| ReplayError::Io(name.clone(), error))?;
        let mut length = 0;
        let generation = match read_file_header(&bytes) {
            FileHeader::Newer(version) if version > VERSION => return Err(ReplayError::Newer(name, version)),
            FileHeader::Of { generation, length: told } => {
                length = u64::from(told);
                Some(generation)
            }
            // A damaged header: the groups know.
            FileHeader::Newer(_) | FileHeader::Unreadable => {
                groups(&bytes, START, |_| true).map(|(_, group)| group.generation).max()
            }
        };
        if let Some(generation) = generation {
            highest = highest.max(generation);
            if generation >= from.generation {
                files.push(JournalFile { name, generation, length, bytes: Bytes::from(bytes) });
            }
        }
    }
    files.sort_by_key(|file| file.generation);
    let mut stretches = Vec::new();
    // redb comes to the middle of a file by what was synced to it, and such a file is kept until redb has left it.
    if from.offset > START && files.first().is_none_or(|file| file.generation != from.generation) {
        let what = format!(
            "the journal file of generation {}, of which the database has {} bytes, is gone: what was behind them is lost",
            from.generation, from.offset
        );
        stretches.push(Stretch::Missing { first: from.offset, last: from.offset, what });
    }
    let mut position = from;
    for (at, file) in files.iter().enumerate() {
        let starts_over = cfg!(feature = "bug-replay-from-start") || file.generation != from.generation;
        let mut offset = if starts_over { START } else { from.offset };
        loop {
            let rest = file.bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
            if let Some(group) = Group::decode(rest)
                && group.generation == file.generation
                && group.number == position.group
                && group.former_crc == position.crc
                && let Some(body) = group.body(rest)
            {
                stretches.push(Stretch::Whole(file.bytes.slice_ref(body)));
                position.group += 1;
                position.crc = group.crc;
                offset = group.end(offset);
                continue;
            }
            // Nothing to read here. If a later group is valid, this was damage, up to that group.
            let wanted = position.group;
            let later = |file: &JournalFile, offset| {
                let generation = file.generation;
                groups(&file.bytes, offset, move |group| {
                    group.generation == generation && group.number > wanted
                })
                .find(|(at, group)| group.body(file.bytes.get(*at..).unwrap_or_default()).is_some())
            };
            if let Some((end, group)) = later(file, offset) {
                stretches.push(broken(file, offset, end));
                offset = end as u64;
                position.group = group.number;
                position.crc = group.former_crc;
                continue;
            }
            // The next group is the first of a later file: nothing is missing here.
            let goes_on = |next: &JournalFile| {
                let start = next.bytes.get(SECTOR..).and_then(Group::decode);
                start.is_some_and(|group| group.generation == next.generation && group.number == wanted)
            };
            let behind = files.get(at + 1..).unwrap_or_default();
            if behind.iter().any(goes_on) {
                break;
            }
            // A later file may prove it too. Its own head may be what is missing; that is found when we get there.
            let proof = behind.iter().find_map(|next| later(next, START).map(|found| (next, found)));
            if let Some((next, (found, group))) = proof
                && found == SECTOR
            {
                stretches.push(broken(file, offset, file.bytes.len()));
                if next.generation == file.generation + 1 {
                    position.group = group.number;
                    position.crc = group.former_crc;
                }
            } else if file.missing().is_some() && file.is_cut(offset, &position) {
                stretches.push(broken(file, offset, file.bytes.len()));
            }
            stretches.extend(file.missing());
            break;
        }
    }
    position.generation = highest + 1;
    position.offset = START;
    Ok(Replayed { stretches, position })
}

fn broken(file: &JournalFile, offset: u64, end: usize) -> Stretch {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(end);
    let bytes = file.bytes.slice(start..end);
    Stretch::Broken { file: file.name.clone(), offset, bytes }
}

/// Every group header in `bytes` from `offset` on whose own crc is right.
fn groups(
    bytes: &[u8],
    offset: u64,
    wanted: impl Fn(&Group) -> bool,
) -> impl Iterator<Item = (usize, Group)> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    (start..bytes.len()).step_by(SECTOR).filter_map(move |at| {
        let group = Group::decode(bytes.get(at..)?)?;
        wanted(&group).then_some((at, group))
    })
}
