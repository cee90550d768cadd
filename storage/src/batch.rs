//! The net effect of journal records on redb.
//!
//! Durable chunks are applied in order, each with the evictions that belong to it, and what is left at the end is
//! written in one transaction. A record that is removed before that never reaches redb. Knows no redb.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::log::LogSpec;
use crate::record::{Frame, Kind, LAST_SEQ, decode_runs};
use crate::runs::Runs;
use crate::segments::Place;
use crate::tail::Tail;

/// What happened to one log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) created: Option<LogSpec>,
    pub(crate) dropped: bool,
    /// Everything below is removed.
    pub(crate) floor: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_time: Option<i64>,
    pub(crate) reserved: Option<u64>,
    /// Records to be stored.
    pub(crate) tail: Tail,
    /// Records to be removed that redb may have.
    pub(crate) removed: Runs,
    /// Attributes set, or removed.
    pub(crate) attributes: BTreeMap<Bytes, Option<Bytes>>,
}

/// What happened to all logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) changes: BTreeMap<u32, Change>,
    buffers: Vec<Bytes>,
    /// Operations that removed something.
    pub(crate) removals: usize,
    /// Space waits to be given back.
    pub(crate) is_urgent: bool,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Applies a run of records that was checked before, or never left memory.
    pub(crate) fn apply(&mut self, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.buffers.push(bytes.clone());
        let mut offset = 0;
        while let Some(frame) = bytes.get(offset..).and_then(Frame::peek) {
            self.apply_frame(&frame, offset);
            offset += frame.len();
        }
    }

    /// Applies one record at `offset` of the buffer given last.
    fn apply_frame(&mut self, frame: &Frame<'_>, offset: usize) {
        let segment = self.buffers.len() as u64 - 1;
        let change = self.changes.entry(frame.log).or_default();
        match frame.kind {
            Kind::Message => {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a buffer is shorter than a journal file"
                )]
                let place = Place { segment, offset: offset as u32, len: frame.len() as u32 };
                change.tail.push(frame.seq, place);
                change.last_seq = change.last_seq.max(frame.seq);
                change.last_time = Some(frame.time);
            }
            Kind::Skip => change.last_seq = change.last_seq.max(frame.seq.min(LAST_SEQ)),
            Kind::Remove => {
                self.removals += 1;
                for (first, last) in decode_runs(frame.payload) {
                    change.removed.insert(first, last);
                    change.kill(first, last);
                }
            }
            Kind::Purge => {
                self.removals += 1;
                change.floor = change.floor.max(frame.seq);
                change.last_seq = change.last_seq.max(frame.seq.saturating_sub(1));
                change.kill(0, frame.seq.saturating_sub(1));
            }
            Kind::Create => change.created = LogSpec::decode(frame.payload),
            Kind::Drop => {
                *change = Change { dropped: true, ..Change::default() };
                self.is_urgent = true;
            }
            Kind::Set => {
                let value = Bytes::copy_from_slice(frame.payload);
                change.attributes.insert(Bytes::copy_from_slice(frame.subject), Some(value));
            }
            Kind::Unset => {
                change.attributes.insert(Bytes::copy_from_slice(frame.subject), None);
            }
            Kind::Reserve => change.reserved = Some(frame.seq),
        }
    }

    /// The records of a change that are to be stored, in order.
    pub(crate) fn records<'a>(&'a self, change: &'a Change) -> impl Iterator<Item = (Frame<'a>, &'a [u8])> {
        change.tail.live_within(0, u64::MAX).filter_map(|entry| {
            let buffer = self.buffers.get(usize::try_from(entry.place.segment).ok()?)?;
            let start = entry.place.offset as usize;
            let whole = buffer.get(start..start + entry.place.len as usize)?;
            Some((Frame::peek(whole)?, whole))
        })
    }
}

impl Change {
    fn kill(&mut self, first: u64, last: u64) {
        let mut at = self.tail.position(first);
        while let Some(entry) = self.tail.get(at)
            && entry.seq <= last
        {
            self.tail.kill(at);
            at += 1;
        }
        self.tail.tidy();
    }
}
