//! The API of single messages: get and delete.

use weir_protocol::jetstream::api::{ApiResponse, MessageDeleteRequest, MessageGetResponse, SuccessResponse};
use weir_protocol::jetstream::direct::{MessageGetRequest, StoredMessage};
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json::{self, Base64, Timestamp};

use super::{Answer, Request};
use crate::jetstream::context::context;
use crate::jetstream::engine::Engine;

impl Engine {
    pub(super) fn get_message(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        if request.is_empty() {
            return Err(error::BAD_REQUEST.error());
        }
        let asked: MessageGetRequest = request.decode()?;
        let has_last = !asked.last_by_subj.is_empty();
        let has_next = !asked.next_by_subj.is_empty();
        let illegal = asked.batch > 0
            || asked.max_bytes > 0
            || asked.seq > 0 && has_last
            || asked.seq == 0 && !has_last && !has_next && asked.start_time.is_none()
            || asked.seq > 0 && asked.start_time.is_some()
            || asked.start_time.is_some() && has_last
            || has_last && has_next;
        if illegal {
            return Err(error::BAD_REQUEST.error());
        }
        let id = self.find_stream(name)?;
        let Some(stream) = self.streams.get(&id) else { return Err(error::STREAM_NOT_FOUND.error()) };
        let found = stream.find_message(&asked, request.store);
        let found = found.map_err(|error| error::STREAM_GENERAL_ERROR.with(error))?;
        let record = found.ok_or_else(|| error::NO_MESSAGE_FOUND.error())?;
        let hdrs = if asked.no_hdr { Base64::default() } else { Base64(record.headers) };
        Ok(json::encode(&MessageGetResponse {
            response: ApiResponse::new("stream_msg_get_response"),
            message: Some(StoredMessage {
                subject: String::from_utf8_lossy(&record.subject).into_owned(),
                seq: record.seq,
                hdrs,
                data: Base64(record.payload),
                time: Timestamp(record.time),
            }),
        }))
    }

    pub(super) fn delete_message(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        if request.is_empty() {
            return Err(error::BAD_REQUEST.error());
        }
        let asked: MessageDeleteRequest = request.decode()?;
        let id = self.find_erasable(name)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Err(error::STREAM_NOT_FOUND.error()) };
        let mut context = context!(self, request.now, request.store, request.interest);
        stream.delete_message(asked.seq, &mut context)?;
        self.touch(id);
        Ok(erased_text())
    }

    /// A stream whose messages may be deleted.
    pub(super) fn find_erasable(&self, name: &str) -> Result<u32, ApiError> {
        let id = self.find_stream(name)?;
        let config = self.streams.get(&id).map(|stream| &stream.config);
        if config.is_some_and(|config| config.sealed) {
            return Err(error::STREAM_SEALED.error());
        }
        if config.is_some_and(|config| config.deny_delete) {
            return Err(error::STREAM_MSG_DELETE_FAILED.with("message delete not permitted"));
        }
        Ok(id)
    }
}

pub(super) fn erased_text() -> String {
    json::encode(&SuccessResponse { response: ApiResponse::new("stream_msg_delete_response"), success: true })
}
