//! What leaves a stream because somebody asked for it: purge and delete. Journaled, unlike what limits remove.

use weir_protocol::jetstream::api::StreamPurgeRequest;
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::stream::StorageType;
use weir_protocol::subject;
use weir_storage::{Matcher, Next, StageError};

use super::config::SEQUENCE_MAX;
use super::{Stream, unreadable};
use crate::jetstream::consumer::Removed;
use crate::jetstream::context::Context;

/// Sequences removed by one operation of the store.
const CHUNK: usize = 4096;

/// How many messages a purge removed.
pub type Purged = u64;

impl Stream {
    /// Removes what `request` names.
    pub(in crate::jetstream) fn purge(
        &mut self,
        request: &StreamPurgeRequest,
        context: &mut Context<'_>,
    ) -> Result<Purged, ApiError> {
        if request.seq == 1 {
            return Ok(0);
        }
        if request.seq > SEQUENCE_MAX {
            let text = format!("sequence {} exceeds the maximum of {SEQUENCE_MAX}", request.seq);
            return Err(error::STREAM_PURGE_FAILED.with(text));
        }
        let is_whole = request.filter.is_empty() || request.filter == ">";
        let state = self.state(context.store);
        self.keep_ids(state.last_time, context);
        if is_whole {
            let first_kept = if request.seq > 1 {
                request.seq
            } else if request.keep == 0 {
                state.last_seq + 1
            } else if request.keep >= state.messages {
                return Ok(0);
            } else {
                self.nth_from_end(request.keep, context)?
            };
            let purged = context.store.purge(self.log, first_kept);
            let purged = purged.map_err(|error| error::STREAM_GENERAL_ERROR.with(error))?;
            self.tell_removed(Removed::Purged { filter: None }, context);
            return Ok(purged);
        }
        self.purge_matching(request, context)
    }

    fn nth_from_end(&self, count: u64, context: &Context<'_>) -> Result<u64, ApiError> {
        let mut up_to = self.state(context.store).last_seq;
        let mut found = up_to + 1;
        for _ in 0..count {
            match context.store.last(self.log, up_to, None).map_err(|error| unreadable(&error))? {
                Some(record) => {
                    found = record.seq;
                    up_to = record.seq.saturating_sub(1);
                }
                None => break,
            }
        }
        Ok(found)
    }

    fn purge_matching(
        &mut self,
        request: &StreamPurgeRequest,
        context: &mut Context<'_>,
    ) -> Result<Purged, ApiError> {
        let filter = request.filter.as_bytes();
        let matcher = |each: &[u8]| subject::matches(each, filter);
        let subjects = if subject::is_literal(filter) {
            context.store.subject(self.log, filter).into_iter().collect::<Vec<_>>()
        } else {
            context.store.subjects(self.log, Some(&matcher)).into_iter().map(|(_, state)| state).collect()
        };
        let messages: u64 = subjects.iter().map(|state| state.messages).sum();
        let Some(first) = subjects.iter().map(|state| state.first_seq).min() else { return Ok(0) };
        let mut last = subjects.iter().map(|state| state.last_seq).max().unwrap_or(0);
        if request.seq > 1 {
            last = last.min(request.seq - 1);
        }
        let mut most = u64::MAX;
        if request.keep > 0 {
            if request.keep >= messages {
                return Ok(0);
            }
            most = messages - request.keep;
        }
        let mut purged = 0;
        let outcome = self.remove_matching(first, last, most, &matcher, &mut purged, context);
        if purged > 0 {
            self.tell_removed(Removed::Purged { filter: Some(filter) }, context);
        }
        match outcome {
            Ok(()) => Ok(purged),
            Err(error) if purged == 0 => Err(error::STREAM_GENERAL_ERROR.with(error)),
            Err(error) => Err(error::STREAM_GENERAL_ERROR
                .with(format!("{purged} messages are purged, the next is not: {error}"))),
        }
    }

    /// Removes what matches from `next` to `last`, `most` messages at most. `purged` counts what is removed, whatever
    /// comes after it.
    fn remove_matching(
        &self,
        mut next: u64,
        last: u64,
        most: u64,
        matcher: Matcher<'_>,
        purged: &mut Purged,
        context: &mut Context<'_>,
    ) -> Result<(), StageError> {
        loop {
            let mut chunk = Vec::new();
            while chunk.len() < CHUNK && *purged + (chunk.len() as u64) < most {
                match context.store.next(self.log, next, last, Some(matcher), 65_536)? {
                    Next::Record(record) => {
                        next = record.seq + 1;
                        chunk.push(record.seq);
                    }
                    Next::More(seq) => next = seq,
                    Next::End => break,
                }
            }
            if chunk.is_empty() {
                return Ok(());
            }
            *purged += context.store.remove(self.log, &chunk)?;
        }
    }

    /// Removes one message.
    pub(in crate::jetstream) fn delete_message(
        &mut self,
        seq: u64,
        context: &mut Context<'_>,
    ) -> Result<(), ApiError> {
        let state = self.state(context.store);
        let failed = |text: &dyn std::fmt::Display| error::STREAM_MSG_DELETE_FAILED.with(text);
        if let Some(record) = context.store.get(self.log, seq).map_err(|error| failed(&error))? {
            self.keep_ids(record.time, context);
            context.store.remove(self.log, &[seq]).map_err(|error| failed(&error))?;
            self.tell_removed(Removed::One { seq, subject: &record.subject }, context);
            return Ok(());
        }
        let is_file = self.config.storage == StorageType::File;
        Err(if is_file && seq > state.last_seq {
            failed(&"stream store EOF")
        } else if is_file && seq < state.first_seq.max(1) {
            failed(&"no message found")
        } else {
            error::SEQUENCE_NOT_FOUND.with(seq)
        })
    }

    /// Tells the consumers that records are gone.
    pub(super) fn tell_removed(&mut self, removed: Removed<'_>, context: &mut Context<'_>) {
        for consumer in self.consumers.values_mut() {
            consumer.handle_removed(removed, &mut context.view(self.log, &self.config));
        }
    }
}
