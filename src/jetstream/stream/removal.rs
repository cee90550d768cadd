//! The one way out of a stream. What is to leave is decided elsewhere (limits, purges and deletes, rollups); it leaves here.
//!
//! Three things go together for every removal: message ids of the duplicate window outlive their messages, so those that a
//! start left unread are read before one of these messages goes; the store takes the records; the consumers are told.
//! Nothing else calls what removes records in the store.

use weir_protocol::subject;
use weir_storage::{LogId, LogState, Next, StageError, Store};

use super::Stream;
use super::read::seek_time;
use crate::jetstream::consumer::Removed;
use crate::jetstream::context::Context;

/// Sequences removed by one operation of the store.
const CHUNK: usize = 4096;

/// What leaves, and on what terms. Evictions follow from the configuration and the clock: they force no write, and a
/// restart applies them again. The others are journaled.
#[derive(Clone, Copy, Debug)]
pub(in crate::jetstream) enum Removal<'a> {
    /// Evicted: the first message.
    First,
    /// Evicted: one message, with its subject.
    Surplus { seq: u64, subject: &'a [u8] },
    /// Evicted: every message below a sequence.
    Aged(u64),
    /// One message, with its subject.
    Deleted { seq: u64, subject: &'a [u8] },
    /// Messages on one subject, as one operation.
    Replaced { seqs: &'a [u64], subject: &'a [u8] },
    /// Every message below a sequence, which may lie beyond the end: the stream goes on there.
    Purged(u64),
    /// Messages from `first` to `last` on subjects that match, `most` at most.
    PurgedOn { filter: &'a [u8], first: u64, last: u64, most: u64 },
}

/// Messages from before a start whose ids are not known yet.
#[derive(Debug)]
pub(in crate::jetstream) struct UnreadIds {
    /// The last of them.
    pub(super) last: u64,
    /// Those below it were older than the duplicate window when that was looked at.
    pub(super) first: u64,
}

impl Removal<'_> {
    /// The last sequence that may leave.
    fn last(&self, state: &LogState) -> u64 {
        match self {
            Self::First => state.first_seq,
            Self::Surplus { seq, .. } | Self::Deleted { seq, .. } => *seq,
            Self::Replaced { seqs, .. } => seqs.last().copied().unwrap_or(0),
            Self::Aged(first_kept) | Self::Purged(first_kept) => first_kept.saturating_sub(1),
            Self::PurgedOn { last, .. } => *last,
        }
    }

    fn apply(&self, log: LogId, before: &LogState, store: &mut Store) -> Result<u64, StageError> {
        match *self {
            // Also where `first_seq` names one that is gone, because what follows could not be read at the time.
            Self::First => Ok(store.evict_below(log, before.first_seq + 1)),
            Self::Surplus { seq, .. } => Ok(store.evict(log, &[seq])),
            Self::Aged(first_kept) => Ok(store.evict_below(log, first_kept)),
            Self::Deleted { seq, .. } => store.remove(log, &[seq]),
            Self::Replaced { seqs, .. } => store.remove(log, seqs),
            Self::Purged(first_kept) => store.purge(log, first_kept),
            Self::PurgedOn { filter, first, last, most } => {
                remove_matching(log, filter, (first, last), most, store)
            }
        }
    }
}

impl Stream {
    /// Removes records; returns how many.
    ///
    /// # Errors
    /// When the store does not take it. Of a purge on subjects a part may be gone; of anything else nothing is.
    pub(in crate::jetstream) fn remove(
        &mut self,
        removal: Removal<'_>,
        context: &mut Context<'_>,
    ) -> Result<u64, StageError> {
        let before = self.state(context.store);
        self.keep_ids(removal.last(&before), context);
        let removed = removal.apply(self.log, &before, context.store);
        let after = self.state(context.store);
        // A purge sets consumers right even when it finds nothing.
        if after != before || removed.is_ok() && matches!(removal, Removal::Purged(_)) {
            self.tell_removed(removal, &after, context);
        }
        removed
    }

    fn tell_removed(&mut self, removal: Removal<'_>, after: &LogState, context: &mut Context<'_>) {
        let removed = match removal {
            Removal::First | Removal::Aged(_) => Removed::Below { first_seq: after.first_seq },
            Removal::Surplus { seq, subject } | Removal::Deleted { seq, subject } => {
                Removed::One { seq, subject }
            }
            Removal::Replaced { subject, .. } => Removed::Purged { filter: Some(subject) },
            Removal::PurgedOn { filter, .. } => Removed::Purged { filter: Some(filter) },
            Removal::Purged(_) => Removed::Purged { filter: None },
        };
        for consumer in self.consumers.values_mut() {
            consumer.handle_removed(removed, &mut context.view(self.log, &self.config));
        }
    }

    /// Reads the ids that a start left unread before messages up to `last` go, unless all of these are older than the
    /// duplicate window.
    fn keep_ids(&mut self, last: u64, context: &Context<'_>) {
        let Some(unread) = &mut self.unread_ids else { return };
        if last < unread.first {
            return;
        }
        let oldest = context.now.saturating_sub(self.config.duplicate_window).saturating_add(1);
        let kept = match seek_time(self.log, oldest, context.store) {
            Ok(Some(first)) if first <= unread.last => {
                unread.first = first;
                if last < first { Ok(()) } else { self.read_ids(context) }
            }
            Ok(_) => {
                self.unread_ids = None;
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(stream = %self.config.name, %error, "ids of removed messages are forgotten with them");
        }
    }
}

/// Removes what matches between two sequences, `most` messages at most, chunk by chunk.
fn remove_matching(
    log: LogId,
    filter: &[u8],
    (mut next, last): (u64, u64),
    most: u64,
    store: &mut Store,
) -> Result<u64, StageError> {
    let matcher = |each: &[u8]| subject::matches(each, filter);
    let mut removed = 0;
    loop {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK && removed + (chunk.len() as u64) < most {
            match store.next(log, next, last, Some(&matcher), 65_536)? {
                Next::Record(record) => {
                    next = record.seq + 1;
                    chunk.push(record.seq);
                }
                Next::More(seq) => next = seq,
                Next::End => break,
            }
        }
        if chunk.is_empty() {
            return Ok(removed);
        }
        removed += store.remove(log, &chunk)?;
    }
}
