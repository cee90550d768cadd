//! The JetStream API: requests in, responses out, one response for each request that asks for one.
//!
//! A response is held until what it rests on is durable; `refusing` answers while nothing becomes durable. Which call a subject means is decided in
//! [`weir_protocol::jetstream::api`]; the calls stand in `streams`, `messages` and `consumers`.

mod consumers;
mod messages;
mod refusing;
mod streams;

use bytes::Bytes;
use weir_protocol::jetstream::api::ApiStats as WireStats;
use weir_protocol::jetstream::api::{
    AccountInfoResponse, AccountLimits, AccountTier, ApiCall, ApiPaged, ApiResponse, StreamConfigRequest,
    StreamInfoResponse, StreamListResponse, StreamNamesResponse, StreamPurgeResponse,
};
use weir_protocol::jetstream::consumer::{
    ConsumerListResponse, ConsumerNamesResponse, ConsumerPauseResponse,
};
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json::{self, Json};
use weir_protocol::jetstream::stream::StorageType;
use weir_storage::Store;

use super::context::context;
use super::engine::Engine;
use super::interest::Interest;
use super::output::Failure;
use super::stream::config::check_supported;
use consumers::CreateSubject;

/// A request.
pub(super) struct Request<'a> {
    pub(super) now: i64,
    pub(super) headers: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) store: &'a mut Store,
    pub(super) interest: &'a dyn Interest,
}

/// The text of a response, or the error it is to carry.
pub(super) type Answer = Result<String, ApiError>;

impl Request<'_> {
    /// The body as a request that must have one.
    fn decode<T: Json + Default>(&self) -> Result<T, ApiError> {
        json::decode_strict(self.body).map_err(|error| error::INVALID_JSON.with(error))
    }

    /// The body as a request that may go without.
    fn decode_optional<T: Json + Default>(&self) -> Result<Option<T>, ApiError> {
        let first = self.body.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        if matches!(first, Some(b'{' | b'[')) { self.decode().map(Some) } else { Ok(None) }
    }

    /// Whether the body is no bytes, or an object without fields.
    fn is_empty(&self) -> bool {
        let inner = self.body.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
        self.body.is_empty() || inner.is_some_and(|inner| inner.trim_ascii().is_empty())
    }
}

impl Engine {
    /// Takes a request and answers it.
    #[expect(clippy::too_many_arguments, reason = "the parts of a message, and the world")]
    pub(super) fn handle_api(
        &mut self,
        now: i64,
        subject: &Bytes,
        reply: &Bytes,
        headers: &Bytes,
        body: &Bytes,
        store: &mut Store,
        interest: &dyn Interest,
    ) {
        // A name that is no UTF-8 is nobody's, and whoever asks is told so.
        let subject = String::from_utf8_lossy(subject);
        let call = ApiCall::parse(&subject);
        let kind = response_type(&call);
        let mut request = Request { now, headers, body, store, interest };
        self.api.total += 1;
        if only_reads(&call) && !interest.has(reply) {
            return;
        }
        let context = context!(self, now, request.store, interest);
        let lacks_level = context.lacks_level(headers) && !matches!(call, ApiCall::ConsumerCreate { .. });
        let (mut at_once, mut answer) = (false, None);
        if request.store.refusing().is_some() && !lacks_level {
            answer = self.answer_while_refusing(&call, &mut request);
            at_once = answer.is_some();
        }
        let answer = answer.unwrap_or_else(|| {
            if lacks_level { Err(lacking(&call, &request)) } else { self.answer(&call, &mut request) }
        });
        let text = answer.unwrap_or_else(|error| {
            self.api.errors += 1;
            error_text(&call, kind, error)
        });
        if !at_once {
            self.outputs.held_or(reply.clone(), Bytes::new(), text.into(), Failure::Api(kind));
        } else if !reply.is_empty() {
            self.outputs.now(reply.clone(), reply.clone(), Bytes::new(), Bytes::new(), text.into());
        }
    }

    fn answer(&mut self, call: &ApiCall<'_>, request: &mut Request<'_>) -> Answer {
        match *call {
            ApiCall::AccountInfo => Ok(self.account_info(request)),
            ApiCall::StreamCreate(name) => self.create_stream(name, request),
            ApiCall::StreamUpdate(name) => self.update_stream(name, request),
            ApiCall::StreamNames => self.stream_names(request),
            ApiCall::StreamList => self.stream_list(request),
            ApiCall::StreamInfo(name) => self.stream_info(name, request),
            ApiCall::StreamDelete(name) => self.delete_stream(name, request),
            ApiCall::StreamPurge(name) => self.purge_stream(name, request),
            ApiCall::MessageGet(name) => self.get_message(name, request),
            ApiCall::MessageDelete(name) => self.delete_message(name, request),
            ApiCall::ConsumerCreate { stream, name, filter } => {
                self.create_consumer(CreateSubject::Plain { stream, name, filter }, request)
            }
            ApiCall::ConsumerDurableCreate { stream, name } => {
                self.create_consumer(CreateSubject::Durable { stream, name }, request)
            }
            ApiCall::ConsumerNames(stream) => self.consumer_names(stream, request),
            ApiCall::ConsumerList(stream) => self.consumer_list(stream, request),
            ApiCall::ConsumerInfo(stream, name) => self.consumer_info(stream, name, request),
            ApiCall::ConsumerDelete(stream, name) => self.remove_consumer(stream, name, request),
            ApiCall::ConsumerPause(stream, name) => self.pause_consumer(stream, name, request),
            ApiCall::ClusterOnly(_) => Err(error::CLUSTER_REQUIRED.error()),
            ApiCall::StreamSnapshot(name) => self.refuse_snapshot(name, request),
            ApiCall::StreamRestore(_) if request.is_empty() => Err(error::BAD_REQUEST.error()),
            ApiCall::StreamRestore(_) => Err(error::STREAM_RESTORE.with("not supported by this server yet")),
            ApiCall::ConsumerUnpin(stream, name) => self.unpin_consumer(stream, name, request),
            ApiCall::Unknown => Err(error::BAD_REQUEST.error()),
        }
    }

    fn account_info(&self, request: &Request<'_>) -> String {
        let mut tier = AccountTier {
            streams: i64::try_from(self.streams.len()).unwrap_or(i64::MAX),
            consumers: i64::try_from(self.consumers.len()).unwrap_or(i64::MAX),
            limits: AccountLimits {
                max_memory: -1,
                max_storage: -1,
                max_streams: -1,
                max_consumers: -1,
                max_ack_pending: -1,
                memory_max_stream_bytes: -1,
                storage_max_stream_bytes: -1,
                max_bytes_required: false,
            },
            ..AccountTier::default()
        };
        for stream in self.streams.values() {
            let bytes = stream.state(request.store).bytes;
            let reserved = u64::try_from(stream.config.max_bytes).unwrap_or(0);
            match stream.config.storage {
                StorageType::File => {
                    tier.storage = tier.storage.saturating_add(bytes);
                    tier.reserved_storage = tier.reserved_storage.saturating_add(reserved);
                }
                StorageType::Memory => {
                    tier.memory = tier.memory.saturating_add(bytes);
                    tier.reserved_memory = tier.reserved_memory.saturating_add(reserved);
                }
            }
        }
        json::encode(&AccountInfoResponse {
            response: ApiResponse::new("account_info_response"),
            tier,
            domain: self.config.domain.clone(),
            api: WireStats {
                level: i64::from(self.config.api_level),
                total: self.api.total,
                errors: self.api.errors,
            },
            ..AccountInfoResponse::default()
        })
    }
}

/// The page that starts at `offset` and has at most `limit` entries of `total`.
fn page(total: usize, offset: i64, limit: usize) -> (ApiPaged, usize) {
    let offset = usize::try_from(offset).unwrap_or(0).min(total);
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    (ApiPaged { total: number(total), offset: number(offset), limit: number(limit) }, offset)
}

/// What a request lacks that asks for a higher API level: the field that is not there yet, when it is known.
fn lacking(call: &ApiCall<'_>, request: &Request<'_>) -> ApiError {
    let level = || error::REQUIRED_API_LEVEL.error();
    if !matches!(call, ApiCall::StreamCreate(_) | ApiCall::StreamUpdate(_)) {
        return level();
    }
    let asked = request.decode::<StreamConfigRequest>();
    asked.map_or_else(|_| level(), |asked| check_supported(&asked.config).err().unwrap_or_else(level))
}

/// Whether a call changes nothing: without somebody who waits for the answer there is nothing to do.
fn only_reads(call: &ApiCall<'_>) -> bool {
    matches!(
        call,
        ApiCall::AccountInfo
            | ApiCall::StreamNames
            | ApiCall::StreamList
            | ApiCall::StreamInfo(_)
            | ApiCall::MessageGet(_)
            | ApiCall::ConsumerNames(_)
            | ApiCall::ConsumerList(_)
            | ApiCall::ConsumerInfo(..)
    )
}

fn response_type(call: &ApiCall<'_>) -> &'static str {
    match call {
        ApiCall::AccountInfo => "account_info_response",
        ApiCall::StreamCreate(_) => "stream_create_response",
        ApiCall::StreamUpdate(_) => "stream_update_response",
        ApiCall::StreamNames => "stream_names_response",
        ApiCall::StreamList => "stream_list_response",
        ApiCall::StreamInfo(_) => "stream_info_response",
        ApiCall::StreamDelete(_) => "stream_delete_response",
        ApiCall::StreamPurge(_) => "stream_purge_response",
        ApiCall::MessageGet(_) => "stream_msg_get_response",
        ApiCall::MessageDelete(_) => "stream_msg_delete_response",
        ApiCall::ConsumerCreate { .. } | ApiCall::ConsumerDurableCreate { .. } => "consumer_create_response",
        ApiCall::ConsumerNames(_) => "consumer_names_response",
        ApiCall::ConsumerList(_) => "consumer_list_response",
        ApiCall::ConsumerInfo(..) => "consumer_info_response",
        ApiCall::ConsumerDelete(..) => "consumer_delete_response",
        ApiCall::ConsumerPause(..) => "consumer_pause_response",
        ApiCall::StreamSnapshot(_) => "stream_snapshot_response",
        ApiCall::StreamRestore(_) => "stream_restore_response",
        ApiCall::ConsumerUnpin(..) => "consumer_unpin_response",
        ApiCall::ClusterOnly(kind) => kind,
        ApiCall::Unknown => "system_response",
    }
}

/// An error in the shape of the call's response: with the members that are always there.
fn error_text(call: &ApiCall<'_>, kind: &'static str, error: ApiError) -> String {
    let response = ApiResponse::failed(kind, error);
    match call {
        ApiCall::StreamNames => json::encode(&StreamNamesResponse { response, ..Default::default() }),
        ApiCall::StreamList => json::encode(&StreamListResponse { response, ..Default::default() }),
        ApiCall::StreamInfo(_) => json::encode(&StreamInfoResponse { response, ..Default::default() }),
        ApiCall::StreamPurge(_) => json::encode(&StreamPurgeResponse { response, ..Default::default() }),
        ApiCall::ConsumerNames(_) => json::encode(&ConsumerNamesResponse {
            response,
            consumers: Some(Vec::new()),
            ..Default::default()
        }),
        ApiCall::ConsumerList(_) => json::encode(&ConsumerListResponse { response, ..Default::default() }),
        ApiCall::ConsumerPause(..) => json::encode(&ConsumerPauseResponse { response, ..Default::default() }),
        ApiCall::AccountInfo
        | ApiCall::StreamCreate(_)
        | ApiCall::StreamUpdate(_)
        | ApiCall::StreamDelete(_)
        | ApiCall::MessageGet(_)
        | ApiCall::MessageDelete(_)
        | ApiCall::ConsumerCreate { .. }
        | ApiCall::ConsumerDurableCreate { .. }
        | ApiCall::ConsumerInfo(..)
        | ApiCall::ConsumerDelete(..)
        | ApiCall::ClusterOnly(_)
        | ApiCall::StreamSnapshot(_)
        | ApiCall::StreamRestore(_)
        | ApiCall::ConsumerUnpin(..)
        | ApiCall::Unknown => json::encode(&response),
    }
}
