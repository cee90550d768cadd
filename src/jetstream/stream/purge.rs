//! What leaves a stream because somebody asked for it: purge and delete. Journaled, unlike what limits remove.

use weir_protocol::jetstream::api::StreamPurgeRequest;
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::stream::StorageType;
use weir_protocol::subject;

use super::config::SEQUENCE_MAX;
use super::{Removal, Stream, unreadable};
use crate::jetstream::context::Context;

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
            let purged = self.remove(Removal::Purged(first_kept), context);
            return purged.map_err(|error| error::STREAM_GENERAL_ERROR.with(error));
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
        let messages = subjects.iter().fold(0, |all: u64, state| all.saturating_add(state.messages));
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
        let before = self.state(context.store).messages;
        let purged = self.remove(Removal::PurgedOn { filter, first, last, most }, context);
        purged.map_err(|error| match before - self.state(context.store).messages {
            0 => error::STREAM_GENERAL_ERROR.with(error),
            purged => error::STREAM_GENERAL_ERROR
                .with(format!("{purged} messages are purged, the next is not: {error}")),
        })
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
            let removed = self.remove(Removal::Deleted { seq, subject: &record.subject }, context);
            return removed.map(|_| ()).map_err(|error| failed(&error));
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
}
