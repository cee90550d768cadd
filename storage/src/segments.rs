//! Encoded records in memory: numbered buffers, the last of which still grows.
//!
//! A sealed segment is shared and never changes; what lies in the growing one is copied when it is read. Disk logs
//! share the segments of the journal's chunks; a memory log has its own.

use std::collections::VecDeque;

use bytes::Bytes;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// Numbered buffers.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Number of the first one kept.
    base: u64,
    sealed: VecDeque<Bytes>,
    pub(crate) current: Vec<u8>,
}

impl Segments {
    /// Empty, numbers starting at `base`.
    pub(crate) fn starting_at(base: u64) -> Self {
        Self { base, sealed: VecDeque::new(), current: Vec::new() }
    }

    /// The number of the segment that grows.
    pub(crate) fn current_number(&self) -> u64 {
        self.base + self.sealed.len() as u64
    }

    /// The bytes at `place`, which must not have been released.
    pub(crate) fn slice(&self, place: Place) -> &[u8] {
        let buffer: &[u8] = match self.sealed_at(place.segment) {
            Some(bytes) => bytes,
            None => &self.current,
        };
        let start = place.offset as usize;
        &buffer[start..start + place.len as usize]
    }

    /// As [`Self::slice`], shared where that is possible.
    pub(crate) fn share(&self, place: Place) -> Bytes {
        match self.sealed_at(place.segment) {
            Some(bytes) => {
                let start = place.offset as usize;
                bytes.slice(start..start + place.len as usize)
            }
            None => Bytes::copy_from_slice(self.slice(place)),
        }
    }

    fn sealed_at(&self, segment: u64) -> Option<&Bytes> {
        usize::try_from(segment.checked_sub(self.base)?).ok().and_then(|at| self.sealed.get(at))
    }

    /// Ends the growing segment and begins the next.
    pub(crate) fn seal(&mut self) -> Bytes {
        let mut full = std::mem::take(&mut self.current);
        // A capacity far above the length would be paid for as long as the segment lives.
        if full.capacity() > full.len() + full.len() / 4 {
            full.shrink_to_fit();
        }
        let bytes = Bytes::from(full);
        self.sealed.push_back(bytes.clone());
        bytes
    }

    /// Lets go of every segment up to `number`.
    pub(crate) fn release_through(&mut self, number: u64) {
        while self.base <= number && self.sealed.pop_front().is_some() {
            self.base += 1;
        }
    }

    /// Lets go of one sealed segment, wherever it stands.
    pub(crate) fn release(&mut self, segment: u64) {
        let Some(at) = segment.checked_sub(self.base).and_then(|at| usize::try_from(at).ok()) else { return };
        if let Some(bytes) = self.sealed.get_mut(at) {
            *bytes = Bytes::new();
        }
        while self.sealed.front().is_some_and(Bytes::is_empty) {
            self.sealed.pop_front();
            self.base += 1;
        }
    }

    /// The bytes of a sealed segment.
    pub(crate) fn sealed(&self, segment: u64) -> Option<Bytes> {
        self.sealed_at(segment).cloned()
    }
}
