//! The bytes of one record: the same in a journal group, in a block, in a row and in memory.
//!
//! ```text
//!  0  u32  length of the whole record
//!  4  u32  crc32 of bytes 0..4 and 8..length
//!  8  u8   kind
//!  9  u8   zero
//! 10  u16  length of the subject
//! 12  u32  log
//! 16  u64  sequence
//! 24  i64  time, nanoseconds since 1970
//! 32  u32  length of the headers
//! 36       subject, headers, payload
//! ```
//!
//! All numbers are little-endian. The crc covers the log and the sequence, so that a record cannot be taken for
//! another one. It knows nothing of where the record lies: that is the business of the group around it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

use bytes::Bytes;

use crate::field::{array, u16_at, u32_at, u64_at};
use crate::log::{Cost, Record};

/// Bytes before the subject.
pub(crate) const HEADER: usize = 36;

/// The highest sequence of a record: the one behind it has to be a number, too.
pub(crate) const LAST_SEQ: u64 = u64::MAX - 1;

/// What a record is. Numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A record of a log.
    Message = 1,
    /// Every sequence up to this one is used.
    Skip = 2,
    /// The runs of sequences in the payload are removed.
    Remove = 3,
    /// Everything below this sequence is removed.
    Purge = 4,
    /// A log begins; the payload is its specification.
    Create = 5,
    /// A log ends.
    Drop = 6,
    /// An attribute: subject is its key, payload its value.
    Set = 7,
    /// An attribute is removed.
    Unset = 8,
    /// A memory log may use sequences up to this one.
    Reserve = 9,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Message,
            Self::Skip,
            Self::Remove,
            Self::Purge,
            Self::Create,
            Self::Drop,
            Self::Set,
            Self::Unset,
            Self::Reserve,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A record's parts, as they lie in some buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) log: u32,
    pub(crate) seq: u64,
    pub(crate) time: i64,
    pub(crate) subject: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// An operation without subject, headers and payload.
    pub(crate) fn bare(kind: Kind, log: u32, seq: u64) -> Self {
        Self { kind, log, seq, time: 0, subject: &[], headers: &[], payload: &[] }
    }

    /// Bytes of the whole record.
    pub(crate) fn len(&self) -> usize {
        HEADER
            .saturating_add(self.subject.len())
            .saturating_add(self.headers.len())
            .saturating_add(self.payload.len())
    }

    /// Appends the record with its crc. The caller has checked that the lengths fit their fields.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.encode_unchecked(out);
        if let Some(whole) = out.get_mut(start..)
            && let Some(crc) = crc_of(whole)
            && let Some(field) = whole.get_mut(4..8)
        {
            field.copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Appends the record with a crc of zero: for memory that is never written anywhere.
    pub(crate) fn encode_unchecked(&self, out: &mut Vec<u8>) {
        debug_assert!(self.len() <= u32::MAX as usize && self.subject.len() <= usize::from(u16::MAX));
        let mut header = [0u8; HEADER];
        let mut put = |at: Range<usize>, bytes: &[u8]| {
            if let Some(field) = header.get_mut(at) {
                field.copy_from_slice(bytes);
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "the caller has checked the lengths")]
        {
            put(0..4, &(self.len() as u32).to_le_bytes());
            put(8..9, &[self.kind as u8]);
            put(10..12, &(self.subject.len() as u16).to_le_bytes());
            put(12..16, &self.log.to_le_bytes());
            put(16..24, &self.seq.to_le_bytes());
            put(24..32, &self.time.to_le_bytes());
            put(32..36, &(self.headers.len() as u32).to_le_bytes());
        }
        out.reserve(self.len());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.subject);
        out.extend_from_slice(self.headers);
        out.extend_from_slice(self.payload);
    }

    /// The first record in `bytes`, its crc checked; `None` when it is none.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let frame = Self::peek(bytes)?;
        let whole = bytes.get(..frame.len())?;
        (crc_of(whole)? == u32_at(whole, 4)?).then_some(frame)
    }

    /// As [`Self::parse`], for bytes that were checked before (or never left memory).
    pub(crate) fn peek(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let whole = bytes.get(..length)?;
        if whole.get(9) != Some(&0) {
            return None;
        }
        let subject_end = HEADER.checked_add(usize::from(u16_at(whole, 10)?))?;
        let headers_end = subject_end.checked_add(usize::try_from(u32_at(whole, 32)?).ok()?)?;
        let kind = Kind::from_byte(*whole.get(8)?)?;
        let seq = u64_at(whole, 16)?;
        if kind == Kind::Message && seq > LAST_SEQ {
            return None;
        }
        Some(Self {
            kind,
            log: u32_at(whole, 12)?,
            seq,
            time: i64::from_le_bytes(array(whole, 24)?),
            subject: whole.get(HEADER..subject_end)?,
            headers: whole.get(subject_end..headers_end)?,
            payload: whole.get(headers_end..)?,
        })
    }
}

impl Frame<'_> {
    /// The record, sharing the buffer that this frame lies in.
    pub(crate) fn record_in(&self, buffer: &Bytes) -> Record {
        Record {
            seq: self.seq,
            time: self.time,
            subject: buffer.slice_ref(self.subject),
            headers: buffer.slice_ref(self.headers),
            payload: buffer.slice_ref(self.payload),
        }
    }
}

/// A damaged stretch in a run of records, or a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A record whose crc is right, and where it lies.
    Whole(Frame<'a>, Range<usize>),
    /// Bytes that are no record.
    Broken(Range<usize>),
}

/// Walks over records that lie one behind the other. Behind damage it looks for the next record byte by byte.
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Only messages of this log count as records.
    only: Option<u32>,
}

impl<'a> Walk<'a> {
    pub(crate) fn over(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, only: None }
    }

    /// Over the messages of one log; anything else is damage.
    pub(crate) fn of_log(bytes: &'a [u8], log: u32) -> Self {
        Self { bytes, at: 0, only: Some(log) }
    }

    fn belongs(&self, frame: &Frame<'_>) -> bool {
        self.only.is_none_or(|log| frame.log == log && frame.kind == Kind::Message)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let start = self.at;
        let mut at = start;
        while at < self.bytes.len() {
            let rest = self.bytes.get(at..)?;
            if let Some(frame) = Frame::parse(rest).filter(|frame| self.belongs(frame)) {
                if at > start {
                    self.at = at;
                    return Some(Piece::Broken(start..at));
                }
                self.at = at.saturating_add(frame.len());
                return Some(Piece::Whole(frame, at..self.at));
            }
            at = at.saturating_add(1);
        }
        self.at = self.bytes.len();
        (at > start).then_some(Piece::Broken(start..at))
    }
}

/// Encodes runs of sequences (first, last) for [`Kind::Remove`].
pub(crate) fn encode_runs(runs: &[(u64, u64)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(runs.len().saturating_mul(16));
    for (first, last) in runs {
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&last.to_le_bytes());
    }
    out
}

/// The runs in the payload of a [`Kind::Remove`]; one that ends before it begins is none.
pub(crate) fn decode_runs(payload: &[u8]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let runs = payload.chunks_exact(16).filter_map(|run| Some((u64_at(run, 0)?, u64_at(run, 8)?)));
    runs.filter(|(first, last)| first <= last)
}

fn crc_of(whole: &[u8]) -> Option<u32> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(whole.get(..4)?);
    crc.update(whole.get(8..)?);
    Some(crc.finalize())
}

/// What a record counts for.
pub(crate) fn cost_of(cost: Cost, frame: &Frame<'_>) -> u64 {
    let headers = if frame.headers.is_empty() { 0 } else { u64::from(cost.per_headers) };
    (frame.subject.len() as u64)
        .saturating_add(frame.headers.len() as u64)
        .saturating_add(frame.payload.len() as u64)
        .saturating_add(u64::from(cost.per_record))
        .saturating_add(headers)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed(
            log: u32, seq: u64, time: i64,
            subject in proptest::collection::vec(any::<u8>(), 0..40),
            headers in proptest::collection::vec(any::<u8>(), 0..40),
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let frame = Frame {
                kind: Kind::Message, log, seq, time, subject: &subject, headers: &headers, payload: &payload,
            };
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), frame.len());
            prop_assert_eq!(Frame::parse(&bytes), Some(frame));
        }

        #[test]
        fn every_flipped_bit_is_seen(bit in 0usize..(HEADER + 12) * 8) {
            let mut bytes = Vec::new();
            let frame = Frame { subject: b"a.b", payload: b"123456789", ..Frame::bare(Kind::Message, 7, 9) };
            frame.encode(&mut bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Frame::parse(&bytes), None);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Frame::parse(&bytes);
            let covered: usize = Walk::over(&bytes).map(|piece| match piece {
                Piece::Whole(_, at) | Piece::Broken(at) => at.len(),
            }).sum();
            prop_assert_eq!(covered, bytes.len());
        }
    }

    #[test]
    fn a_walk_goes_on_behind_damage() {
        let mut bytes = Vec::new();
        for seq in 1..=3 {
            Frame { payload: b"xyz", ..Frame::bare(Kind::Message, 1, seq) }.encode(&mut bytes);
        }
        let each = HEADER + 3;
        bytes[each + 20] ^= 1;
        let pieces: Vec<_> = Walk::over(&bytes).collect();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[1], Piece::Broken(each..2 * each));
        assert!(matches!(&pieces[2], Piece::Whole(frame, _) if frame.seq == 3));
    }

    #[test]
    fn runs_survive_the_round_trip() {
        let runs = [(1, 1), (5, 9), (u64::MAX, u64::MAX)];
        assert_eq!(decode_runs(&encode_runs(&runs)).collect::<Vec<_>>(), runs);
        assert_eq!(decode_runs(&encode_runs(&[(2, 1), (3, 3)])).collect::<Vec<_>>(), [(3, 3)]);
    }
}
