//! What the API does while the store takes no changes, as on a full disk: people look, and free space.
//!
//! What is shown is durable: a stream with a lost change that would show is not shown. A removal is handed to the store,
//! which writes it together with all that was answered or not at all; nothing of it shows in the engine, which is made
//! anew from the store once that has recovered. Only the plain forms are there: a stream, a message, a purge of everything
//! or up to a sequence; ids of the removed messages are not kept for the recognition of duplicates. A removal that would be
//! refused anyhow is refused for its own reason. Deliberately absent: an
//! answer to `$JS.API.INFO`, which tells by its error that JetStream cannot write.

use weir_protocol::jetstream::api::{ApiCall, MessageDeleteRequest, StreamPurgeRequest};
use weir_protocol::jetstream::error::{self, ApiError};
use weir_storage::{LogId, Removal, Store};

use super::messages::erased_text;
use super::streams::{deleted_text, purged_text};
use super::{Answer, Request};
use crate::jetstream::engine::Engine;
use crate::jetstream::stream::config::SEQUENCE_MAX;
use crate::jetstream::stream::is_in_doubt;

impl Engine {
    /// The answer to a call that can be given while the store takes no changes; `None` for any other.
    pub(super) fn answer_while_refusing(
        &mut self,
        call: &ApiCall<'_>,
        request: &mut Request<'_>,
    ) -> Option<Answer> {
        match *call {
            ApiCall::StreamNames | ApiCall::StreamList => {
                let is_in_doubt =
                    request.store.lost_changes().any(|(log, _)| is_in_doubt(log, request.store));
                self.show(is_in_doubt, call, request)
            }
            ApiCall::StreamInfo(name)
            | ApiCall::MessageGet(name)
            | ApiCall::ConsumerNames(name)
            | ApiCall::ConsumerList(name)
            | ApiCall::ConsumerInfo(name, _) => {
                let is_in_doubt = self.is_stream_in_doubt(name, request.store);
                self.show(is_in_doubt, call, request)
            }
            ApiCall::StreamDelete(name) => self.free_stream(name, request),
            ApiCall::StreamPurge(name) => self.free_messages(name, request),
            ApiCall::MessageDelete(name) => self.free_message(name, request),
            ApiCall::AccountInfo
            | ApiCall::StreamCreate(_)
            | ApiCall::StreamUpdate(_)
            | ApiCall::ClusterOnly(_)
            | ApiCall::StreamSnapshot(_)
            | ApiCall::StreamRestore(_)
            | ApiCall::ConsumerCreate { .. }
            | ApiCall::ConsumerDurableCreate { .. }
            | ApiCall::ConsumerDelete(..)
            | ApiCall::ConsumerPause(..)
            | ApiCall::ConsumerUnpin(..)
            | ApiCall::Unknown => None,
        }
    }

    fn show(&mut self, is_in_doubt: bool, call: &ApiCall<'_>, request: &mut Request<'_>) -> Option<Answer> {
        if is_in_doubt { None } else { Some(self.answer(call, request)) }
    }

    /// A stream that is not there may be one whose deletion was lost.
    fn is_stream_in_doubt(&self, name: &str, store: &Store) -> bool {
        match self.names.get(name) {
            Some(id) => is_in_doubt(LogId(*id), store),
            None => store.lost_changes().any(|(log, _)| !self.streams.contains_key(&log.0)),
        }
    }

    fn free_stream(&mut self, name: &str, request: &mut Request<'_>) -> Option<Answer> {
        match self.find_stream(name) {
            Ok(id) if request.is_empty() => Some(free(id, Removal::Log, request).map(|()| deleted_text())),
            // Its deletion is a change that cannot be made now.
            Err(_) if self.find_offline(name).is_some() => None,
            _ => self.show_why(&ApiCall::StreamDelete(name), name, request),
        }
    }

    fn free_messages(&mut self, name: &str, request: &mut Request<'_>) -> Option<Answer> {
        let asked = request.decode_optional::<StreamPurgeRequest>().map(Option::unwrap_or_default);
        let (Ok(asked), Ok(id)) = (asked, self.find_purgeable(name)) else {
            return self.show_why(&ApiCall::StreamPurge(name), name, request);
        };
        if asked.seq > SEQUENCE_MAX || (asked.seq > 0 && asked.keep > 0) {
            return self.show_why(&ApiCall::StreamPurge(name), name, request);
        }
        let is_whole = asked.filter.is_empty() || asked.filter == ">";
        let state = request.store.state(LogId(id))?;
        if !is_whole || asked.keep > 0 || asked.seq == 1 || asked.seq > state.last_seq {
            return None;
        }
        let first_kept = if asked.seq == 0 { state.last_seq + 1 } else { asked.seq };
        let kept = match request.store.count(LogId(id), first_kept, None) {
            Ok(kept) => kept,
            Err(error) => return Some(Err(error::STREAM_GENERAL_ERROR.with(error))),
        };
        let freed = free(id, Removal::Below(first_kept), request);
        Some(freed.map(|()| purged_text(state.messages.saturating_sub(kept))))
    }

    fn free_message(&mut self, name: &str, request: &mut Request<'_>) -> Option<Answer> {
        if let (Ok(asked), Ok(id)) = (request.decode::<MessageDeleteRequest>(), self.find_erasable(name))
            && let Ok(Some(_)) = request.store.get(LogId(id), asked.seq)
        {
            let freed = free(id, Removal::These(&[asked.seq]), request);
            return Some(freed.map(|()| erased_text()));
        }
        // The message is not there, or cannot be read.
        self.show_why(&ApiCall::MessageDelete(name), name, request)
    }

    /// The answer to a call that would be refused anyhow: the usual way says why, and changes nothing.
    fn show_why(&mut self, call: &ApiCall<'_>, name: &str, request: &mut Request<'_>) -> Option<Answer> {
        let is_in_doubt = self.is_stream_in_doubt(name, request.store);
        self.show(is_in_doubt, call, request)
    }
}

fn free(id: u32, removal: Removal<'_>, request: &mut Request<'_>) -> Result<(), ApiError> {
    request.store.free(LogId(id), removal).map_err(|error| error::STREAM_STORE_FAILED.with(error))
}
