//! The bytes of a journal file.
//!
//! ```text
//! file    = header (512 bytes), then groups, each at a multiple of 512
//! header  = "WEIRJNL1", u32 version, u32 length of the file, u64 generation, u32 crc32 of the 24 bytes before, zeros
//! group   = group header (64 bytes), body (records one behind the other), zeros to the next multiple of 512
//!
//!  0  8 bytes  "WEIRGRP1"
//!  8  u64      generation of the file
//! 16  u64      number of the group, one more than that of the former
//! 24  u64      length of the body
//! 32  u32      crc of the former group's body
//! 36  u32      crc32 of the body, seeded with the former
//! 40  20 bytes zero
//! 60  u32      crc32 of the 60 bytes before
//! ```
//!
//! A group is written after the former one is durable. So a valid group proves that every group with a lower number
//! was durable: when one of them cannot be read, it is damaged, not unfinished.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::field::{array, u32_at, u64_at};

/// Groups begin at multiples of this.
pub(crate) const SECTOR: usize = 512;
/// Where the first group begins.
pub(crate) const START: u64 = SECTOR as u64;
/// Bytes before a group's body.
pub(crate) const GROUP_HEADER: usize = 64;
/// The version this code writes, and the highest it reads.
pub(crate) const VERSION: u32 = 1;

/// Generations and numbers of groups stay below this: there is always a next one.
const NUMBERS: u64 = 1 << 62;

const FILE_MAGIC: &[u8; 8] = b"WEIRJNL1";
const GROUP_MAGIC: &[u8; 8] = b"WEIRGRP1";

/// A place between two groups: everything before is somewhere, everything behind is elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Generation of the file.
    pub(crate) generation: u64,
    /// Offset of the next group in it.
    pub(crate) offset: u64,
    /// Number of the next group.
    pub(crate) group: u64,
    /// crc of the former group's body.
    pub(crate) crc: u32,
}

impl Position {
    pub(crate) fn encode(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        let fields = self
            .generation
            .to_le_bytes()
            .into_iter()
            .chain(self.offset.to_le_bytes())
            .chain(self.group.to_le_bytes())
            .chain(self.crc.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            generation: number_at(bytes, 0)?,
            offset: u64_at(bytes, 8)?,
            group: number_at(bytes, 16)?,
            crc: u32_at(bytes, 24)?,
        })
    }
}

/// The first 512 bytes of a file of `length` bytes.
pub(crate) fn file_header(generation: u64, length: u32) -> [u8; SECTOR] {
    let mut bytes = [0u8; SECTOR];
    let fields = FILE_MAGIC
        .iter()
        .copied()
        .chain(VERSION.to_le_bytes())
        .chain(length.to_le_bytes())
        .chain(generation.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(fields) {
        *to = from;
    }
    let crc = bytes.get(..24).map_or(0, crc32fast::hash);
    if let Some(field) = bytes.get_mut(24..28) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// What the first bytes of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileHeader {
    /// A journal file of this generation.
    Of {
        /// The generation.
        generation: u64,
        /// Bytes it was made with; 0 when an earlier program did not say so.
        length: u32,
    },
    /// A journal file of a later version of the format.
    Newer(u32),
    /// Never used, or damaged.
    Unreadable,
}

/// Reads the first 512 bytes of a file.
pub(crate) fn read_file_header(bytes: &[u8]) -> FileHeader {
    let checked = bytes.get(..24).map(crc32fast::hash) == u32_at(bytes, 24);
    if !checked || array::<8>(bytes, 0).as_ref() != Some(FILE_MAGIC) {
        return FileHeader::Unreadable;
    }
    match (u32_at(bytes, 8), u32_at(bytes, 12), number_at(bytes, 16)) {
        (Some(VERSION), Some(length), Some(generation)) => FileHeader::Of { generation, length },
        (Some(version), ..) if version != VERSION => FileHeader::Newer(version),
        _ => FileHeader::Unreadable,
    }
}

/// A group's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) generation: u64,
    pub(crate) number: u64,
    pub(crate) length: u64,
    pub(crate) former_crc: u32,
    pub(crate) crc: u32,
}

impl Group {
    pub(crate) fn encode(&self) -> [u8; GROUP_HEADER] {
        let mut bytes = [0u8; GROUP_HEADER];
        let fields = GROUP_MAGIC
            .iter()
            .copied()
            .chain(self.generation.to_le_bytes())
            .chain(self.number.to_le_bytes())
            .chain(self.length.to_le_bytes())
            .chain(self.former_crc.to_le_bytes())
            .chain(self.crc.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        let crc = bytes.get(..60).map_or(0, crc32fast::hash);
        if let Some(field) = bytes.get_mut(60..64) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// The group header at the front of `bytes`, if its own crc is right.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if array::<8>(bytes, 0)? != *GROUP_MAGIC || crc32fast::hash(bytes.get(..60)?) != u32_at(bytes, 60)? {
            return None;
        }
        Some(Self {
            generation: number_at(bytes, 8)?,
            number: number_at(bytes, 16)?,
            length: u64_at(bytes, 24)?,
            former_crc: u32_at(bytes, 32)?,
            crc: u32_at(bytes, 36)?,
        })
    }

    /// The body behind the header at the front of `bytes`, if its crc is right.
    pub(crate) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let end = GROUP_HEADER.checked_add(usize::try_from(self.length).ok()?)?;
        let body = bytes.get(GROUP_HEADER..end)?;
        (body_crc(self.former_crc, &[body]) == self.crc).then_some(body)
    }

    /// Where the next group begins when this one begins at `offset`.
    pub(crate) fn end(&self, offset: u64) -> u64 {
        offset.saturating_add(footprint(self.length))
    }
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    u64_at(bytes, at).filter(|number| *number < NUMBERS)
}

/// Bytes of a file that a group with a body of `length` takes.
pub(crate) fn footprint(length: u64) -> u64 {
    length.saturating_add(GROUP_HEADER as u64).div_ceil(SECTOR as u64).saturating_mul(SECTOR as u64)
}

/// The crc of a body made of parts, seeded with the former group's.
pub(crate) fn body_crc(former: u32, parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(former);
    for part in parts {
        crc.update(part);
    }
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_next_generation_and_group() {
        for (number, is_possible) in [(1, true), (NUMBERS - 1, true), (NUMBERS, false), (u64::MAX, false)] {
            let group = Group { generation: number, number: 1, length: 0, former_crc: 0, crc: 0 };
            assert_eq!(Group::decode(&group.encode()).is_some(), is_possible, "generation {number}");
            let group = Group { generation: 1, number, length: 0, former_crc: 0, crc: 0 };
            assert_eq!(Group::decode(&group.encode()).is_some(), is_possible, "group {number}");
            let position = Position { generation: 1, offset: 512, group: number, crc: 0 };
            assert_eq!(Position::decode(&position.encode()).is_some(), is_possible, "position {number}");
            let header = read_file_header(&file_header(number, 512));
            assert_eq!(header != FileHeader::Unreadable, is_possible, "file of generation {number}");
        }
    }
}
