//! The records of a log that are in memory, in order of sequence.

use std::collections::VecDeque;

use crate::record::Frame;
use crate::segments::{Place, Segments};

/// One record; removed ones keep their entry until the front passes them or too many have gathered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) place: Place,
}

impl Entry {
    /// Whether the record is present.
    pub(crate) fn is_live(&self) -> bool {
        self.place.len != 0
    }
}

/// Entries by sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    entries: VecDeque<Entry>,
    dead: usize,
}

impl Tail {
    /// Adds a record above all others.
    pub(crate) fn push(&mut self, seq: u64, place: Place) {
        self.entries.push_back(Entry { seq, place });
    }

    /// The first sequence there is an entry for.
    pub(crate) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Index of the first entry at or above `seq`.
    pub(crate) fn position(&self, seq: u64) -> usize {
        let Some(front) = self.entries.front() else { return 0 };
        if seq <= front.seq {
            return 0;
        }
        // Without gaps the index is the distance to the front.
        if let Ok(guess) = usize::try_from(seq - front.seq)
            && self.entries.get(guess).is_some_and(|entry| entry.seq == seq)
        {
            return guess;
        }
        self.entries.partition_point(|entry| entry.seq < seq)
    }

    /// The record at `seq`, with its index.
    pub(crate) fn find(&self, seq: u64) -> Option<(usize, Entry)> {
        let at = self.position(seq);
        let entry = *self.entries.get(at)?;
        (entry.seq == seq && entry.is_live()).then_some((at, entry))
    }

    /// Present records with sequences in `low..=high`.
    pub(crate) fn live_within(&self, low: u64, high: u64) -> impl DoubleEndedIterator<Item = &Entry> {
        let end = self.position(high.saturating_add(1));
        self.entries.range(self.position(low).min(end)..end).filter(|entry| entry.is_live())
    }

    /// Entry at an index.
    pub(crate) fn get(&self, at: usize) -> Option<Entry> {
        self.entries.get(at).copied()
    }

    /// The last entry.
    pub(crate) fn back(&self) -> Option<&Entry> {
        self.entries.back()
    }

    /// Takes the last entry out.
    pub(crate) fn pop_back(&mut self) {
        if self.entries.pop_back().is_some_and(|entry| !entry.is_live()) {
            self.dead -= 1;
        }
    }

    /// How many entries there are, removed ones among them.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Marks the record at index `at` as removed.
    pub(crate) fn kill(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at)
            && entry.is_live()
        {
            entry.place.len = 0;
            self.dead += 1;
        }
    }

    /// Forgets removed entries where that pays; indexes are void afterwards.
    pub(crate) fn tidy(&mut self) {
        while self.entries.front().is_some_and(|entry| !entry.is_live()) {
            self.entries.pop_front();
            self.dead -= 1;
        }
        if self.dead > 1024 && self.dead > self.entries.len() / 2 {
            self.entries.retain(Entry::is_live);
            self.dead = 0;
        }
        if self.entries.capacity() > 1024 && self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// Takes out every entry whose segment is at or below `segment` (segments ascend with sequences in a disk log).
    pub(crate) fn release_through(&mut self, segment: u64) {
        while let Some(entry) = self.entries.front()
            && entry.place.segment <= segment
        {
            if !entry.is_live() {
                self.dead -= 1;
            }
            self.entries.pop_front();
        }
        self.tidy();
    }

    /// The record at `seq` has a new place.
    fn moved(&mut self, seq: u64, from: Place, to: Place) {
        let at = self.position(seq);
        if let Some(entry) = self.entries.get_mut(at)
            && entry.seq == seq
            && entry.place == from
        {
            entry.place = to;
        }
    }

    fn is_at(&self, seq: u64, place: Place) -> bool {
        self.find(seq).is_some_and(|(_, entry)| entry.place == place)
    }
}

/// Bytes at which a memory log's segment is sealed.
const SEGMENT_BYTES: usize = 128 * 1024;

/// The segments of a memory log. One that is more than half removed is copied together.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) segments: Segments,
    /// Bytes present per segment, from the first kept to the current one.
    live: VecDeque<(u64, usize)>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { segments: Segments::starting_at(0), live: VecDeque::from([(0, 0)]) }
    }

    /// Stores a record.
    pub(crate) fn push(&mut self, frame: &Frame<'_>) -> Place {
        if self.segments.current.len() >= SEGMENT_BYTES {
            self.segments.seal();
            self.live.push_back((self.segments.current_number(), 0));
        }
        let offset = self.segments.current.len();
        if offset == 0 {
            self.segments.current.reserve(frame.len().min(SEGMENT_BYTES));
        }
        frame.encode_unchecked(&mut self.segments.current);
        if let Some((_, live)) = self.live.back_mut() {
            *live += frame.len();
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a segment is cut at 128 KiB, a record is below 4 GiB"
        )]
        let place =
            Place { segment: self.segments.current_number(), offset: offset as u32, len: frame.len() as u32 };
        place
    }

    /// A record is gone; its segment follows when nothing else is in it, and is copied together when it is half empty.
    pub(crate) fn kill(&mut self, place: Place, tail: &mut Tail) {
        let at = self.live.partition_point(|(segment, _)| *segment < place.segment);
        let Some((segment, live)) = self.live.get_mut(at) else { return };
        *live = live.saturating_sub(place.len as usize);
        let (segment, live) = (*segment, *live);
        let Some(bytes) = self.segments.sealed(segment) else {
            if live == 0 {
                self.segments.current.clear();
            }
            return;
        };
        if live * 2 >= bytes.len() {
            return;
        }
        let mut offset = 0;
        while let Some(frame) = bytes.get(offset..).and_then(Frame::peek) {
            let len = frame.len();
            #[expect(clippy::cast_possible_truncation, reason = "it was a place before")]
            let from = Place { segment, offset: offset as u32, len: len as u32 };
            if tail.is_at(frame.seq, from) {
                let to = self.push(&frame);
                tail.moved(frame.seq, from, to);
            }
            offset += len;
        }
        self.segments.release(segment);
        self.live.retain(|(number, _)| *number != segment);
    }
}
