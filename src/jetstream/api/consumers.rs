//! The API of consumers: create, info, names, list, delete, pause, reset.
//!
//! A change is staged before the engine shows it; one that the store refuses changes nothing. Absent: pull requests and
//! acknowledgements, which come on subjects of the consumer's own.

use bytes::Bytes;
use weir_protocol::jetstream::api::{ApiPagedRequest, ApiResponse, LIST_LIMIT, NAMES_LIMIT, SuccessResponse};
use weir_protocol::jetstream::consumer::{
    ConsumerAction, ConsumerConfig, ConsumerInfo, ConsumerInfoResponse, ConsumerListResponse,
    ConsumerNamesResponse, ConsumerPauseResponse, ConsumerResetResponse, CreateConsumerRequest,
    PauseConsumerRequest, ResetConsumerRequest, UnpinConsumerRequest,
};
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json;
use weir_storage::Store;

use super::{Answer, Request, page};
use crate::jetstream::consumer::{Consumer, Limits, config, stored};
use crate::jetstream::context::context;
use crate::jetstream::engine::Engine;
use crate::jetstream::interest::Interest;
use crate::jetstream::output::Failure;
use crate::jetstream::stream::config::is_valid_name;

impl Engine {
    /// The ids of a stream and one of its consumers.
    fn find_consumer(&self, stream: &str, name: &str) -> Result<(u32, u64), ApiError> {
        let id = self.find_stream(stream)?;
        let stream = self.streams.get(&id).ok_or_else(|| error::STREAM_NOT_FOUND.error())?;
        match stream.consumer_ids.get(name) {
            Some(consumer) => Ok((id, *consumer)),
            None => Err(stream.offline_consumer(name).unwrap_or_else(|| error::CONSUMER_NOT_FOUND.error())),
        }
    }

    pub(super) fn create_consumer(
        &mut self,
        subject: CreateSubject<'_>,
        request: &mut Request<'_>,
    ) -> Answer {
        let mut asked: CreateConsumerRequest = request.decode()?;
        let context = context!(self, request.now, request.store, request.interest);
        if context.lacks_level(request.headers) {
            return Err(error::REQUIRED_API_LEVEL.error());
        }
        check_subject(subject, &mut asked)?;
        if asked.config.num_replicas > 1 {
            return Err(error::STREAM_REPLICAS_NOT_SUPPORTED.error());
        }
        let log = self.find_stream(&asked.stream_name)?;
        let id = self.put_consumer(log, asked, request)?;
        let info = self.describe_consumer(log, id, true, request);
        Ok(json::encode(&ConsumerInfoResponse {
            response: ApiResponse::new("consumer_create_response"),
            info,
        }))
    }

    /// Creates or updates a consumer.
    fn put_consumer(
        &mut self,
        log: u32,
        asked: CreateConsumerRequest,
        request: &mut Request<'_>,
    ) -> Result<u64, ApiError> {
        let Some(stream) = self.streams.get(&log) else { return Err(error::STREAM_NOT_FOUND.error()) };
        let mut wanted = asked.config;
        let named = if wanted.durable_name.is_empty() { &wanted.name } else { &wanted.durable_name };
        if let Some(refusal) = stream.offline_consumer(named) {
            return Err(refusal);
        }
        let existing = stream.consumer_ids.get(named).copied();
        if let Some(consumer) = existing.and_then(|id| stream.consumers.get(&id)) {
            wanted.pause_until = consumer.config().pause_until;
        }
        let limits = Limits::default();
        let mut wanted = config::with_defaults(wanted, &stream.config, &limits, asked.pedantic)?;
        config::validate(&wanted, &stream.config, &limits)?;
        if let Some(id) = existing {
            let Some(consumer) = stream.consumers.get(&id) else {
                return Err(error::CONSUMER_NOT_FOUND.error());
            };
            if asked.action == ConsumerAction::Create && !config::is_same(consumer.config(), &wanted) {
                return Err(error::CONSUMER_ALREADY_EXISTS.error());
            }
            config::check_update(consumer.config(), &wanted, request.interest)?;
            self.update_consumer(log, id, wanted, (request.now, request.store, request.interest))?;
            return Ok(id);
        }
        if asked.action == ConsumerAction::Update {
            return Err(error::CONSUMER_DOES_NOT_EXIST.error());
        }
        let counted = stream.consumers.values().filter(|consumer| !consumer.config().direct).count();
        if usize::try_from(stream.config.max_consumers).is_ok_and(|max| max > 0 && counted >= max) {
            return Err(error::MAXIMUM_CONSUMERS_LIMIT.error());
        }
        let name = self.name_for(log, &mut wanted);
        if !is_valid_name(&name) {
            return Err(error::CONSUMER_BAD_DURABLE_NAME.error());
        }
        let Some(stream) = self.streams.get(&log) else { return Err(error::STREAM_NOT_FOUND.error()) };
        let mut context = context!(self, request.now, request.store, request.interest);
        let mut consumer =
            Consumer::create(wanted, name, request.now, &context.view(stream.log, &stream.config))?;
        stored::stage(&consumer, stream.log, context.store)?;
        consumer.state_staged(request.now, context.outputs);
        consumer.announce(&mut context.view(stream.log, &stream.config));
        Ok(self.add_consumer(log, consumer))
    }

    /// The name of a new consumer, made up if the configuration has none.
    fn name_for(&self, log: u32, config: &mut ConsumerConfig) -> String {
        if !config.durable_name.is_empty() {
            config.name.clone_from(&config.durable_name);
        }
        let taken =
            |name: &str| self.streams.get(&log).is_some_and(|stream| stream.consumer_ids.contains_key(name));
        while config.name.is_empty() || config.durable_name.is_empty() && taken(&config.name) {
            config.name = self.config.random.id(8);
        }
        config.name.clone()
    }

    /// What the API shows of a consumer; lists do without the server's metadata.
    fn describe_consumer(
        &mut self,
        log: u32,
        id: u64,
        with_metadata: bool,
        request: &mut Request<'_>,
    ) -> Option<ConsumerInfo> {
        let (version, level) = (self.config.version.clone(), self.config.api_level);
        let stream = self.streams.get_mut(&log)?;
        let mut context = context!(self, request.now, request.store, request.interest);
        let mut info = stream.with_consumer(id, &mut context, |consumer, view| consumer.info(view))?;
        if let Some(config) = info.config.as_mut().filter(|_| with_metadata) {
            config::answer_metadata(config, &version, level);
        }
        Some(info)
    }

    pub(super) fn consumer_info(&mut self, stream: &str, name: &str, request: &mut Request<'_>) -> Answer {
        if !request.is_empty() {
            return Err(error::NOT_EMPTY_REQUEST.error());
        }
        let (log, id) = self.find_consumer(stream, name)?;
        let info = self.describe_consumer(log, id, true, request);
        Ok(json::encode(&ConsumerInfoResponse { response: ApiResponse::new("consumer_info_response"), info }))
    }

    /// The consumers of a stream that are not the server's own, by name: their ids, or why they are offline.
    fn public_consumers(&self, log: u32) -> Vec<(String, Result<u64, String>)> {
        let Some(stream) = self.streams.get(&log) else { return Vec::new() };
        let online = stream.consumers.iter().filter(|(_, consumer)| !consumer.config().direct);
        let online = online.map(|(id, consumer)| (consumer.name().to_owned(), Ok(*id)));
        let offline = stream.offline_consumers.iter();
        let offline = offline.map(|(name, reason)| (name.clone(), Err(reason.clone())));
        let mut all: Vec<_> = online.chain(offline).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn consumer_names(&mut self, stream: &str, request: &mut Request<'_>) -> Answer {
        let asked: ApiPagedRequest = request.decode_optional()?.unwrap_or_default();
        let log = self.find_stream(stream)?;
        let consumers = self.public_consumers(log);
        let (page, offset) = page(consumers.len(), asked.offset, NAMES_LIMIT);
        Ok(json::encode(&ConsumerNamesResponse {
            response: ApiResponse::new("consumer_names_response"),
            page,
            consumers: Some(
                consumers.into_iter().skip(offset).take(NAMES_LIMIT).map(|(name, _)| name).collect(),
            ),
        }))
    }

    pub(super) fn consumer_list(&mut self, stream: &str, request: &mut Request<'_>) -> Answer {
        let asked: ApiPagedRequest = request.decode_optional()?.unwrap_or_default();
        let log = self.find_stream(stream)?;
        let consumers = self.public_consumers(log);
        let (page, offset) = page(consumers.len(), asked.offset, LIST_LIMIT);
        let response = ApiResponse::new("consumer_list_response");
        let mut listed = ConsumerListResponse { response, page, ..ConsumerListResponse::default() };
        for (name, found) in consumers.into_iter().skip(offset) {
            match found {
                Ok(id) => listed.consumers.extend(self.describe_consumer(log, id, false, request)),
                Err(reason) => {
                    listed.missing.push(name.clone());
                    listed.offline.insert(name, reason);
                }
            }
            if listed.consumers.len() >= LIST_LIMIT {
                break;
            }
        }
        Ok(json::encode(&listed))
    }

    pub(super) fn remove_consumer(&mut self, stream: &str, name: &str, request: &mut Request<'_>) -> Answer {
        if !request.is_empty() {
            return Err(error::NOT_EMPTY_REQUEST.error());
        }
        let log = self.find_stream(stream)?;
        let is_offline = self.streams.get(&log).is_some_and(|stream| stream.offline_consumer(name).is_some());
        if is_offline {
            self.forget_offline(log, name, request.store)?;
        } else {
            let (log, id) = self.find_consumer(stream, name)?;
            self.delete_consumer(log, id, request.now, request.store, request.interest)?;
        }
        Ok(json::encode(&SuccessResponse {
            response: ApiResponse::new("consumer_delete_response"),
            success: true,
        }))
    }

    pub(super) fn pause_consumer(&mut self, stream: &str, name: &str, request: &mut Request<'_>) -> Answer {
        let asked: PauseConsumerRequest = request.decode_optional()?.unwrap_or_default();
        let (log, id) = self.find_consumer(stream, name)?;
        let until = asked.pause_until.nanos();
        let consumer = self.streams.get(&log).and_then(|stream| stream.consumers.get(&id));
        if let Some(paused) = consumer.map(|consumer| consumer.paused_until(until)) {
            self.update_consumer(log, id, paused, (request.now, request.store, request.interest))?;
        }
        let remaining = until.map_or(0, |until| until.saturating_sub(request.now)).max(0);
        Ok(json::encode(&ConsumerPauseResponse {
            response: ApiResponse::new("consumer_pause_response"),
            paused: remaining > 0,
            pause_until: asked.pause_until,
            pause_remaining: remaining,
        }))
    }

    /// No consumer has priority groups yet, so there is never one to unpin.
    pub(super) fn unpin_consumer(&mut self, stream: &str, name: &str, request: &mut Request<'_>) -> Answer {
        let asked = json::decode_lenient::<UnpinConsumerRequest>(request.body);
        let group = asked.map_err(|error| error::INVALID_JSON.with(error))?.group;
        if group.is_empty() {
            return Err(error::INVALID_JSON.with("consumer group not specified"));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_=-".contains(&byte);
        if group.len() > 16 || !group.bytes().all(is_plain) {
            return Err(error::CONSUMER_INVALID_GROUP_NAME.error());
        }
        self.find_consumer(stream, name)?;
        Err(error::CONSUMER_INVALID_PRIORITY_GROUP.error())
    }

    /// Sets a consumer back, as its own subject asks.
    #[expect(clippy::too_many_arguments, reason = "the parts of a message, and the world")]
    pub(in crate::jetstream) fn reset_consumer(
        &mut self,
        id: u64,
        now: i64,
        reply: &Bytes,
        headers: &[u8],
        body: &[u8],
        store: &mut Store,
        interest: &dyn Interest,
    ) {
        if reply.is_empty() {
            return;
        }
        let mut request = Request { now, headers, body, store, interest };
        let text = self.set_back(id, &mut request).unwrap_or_else(|error| {
            let response = ApiResponse::failed("consumer_reset_response", error);
            json::encode(&ConsumerResetResponse { response, ..ConsumerResetResponse::default() })
        });
        self.outputs.held_or(
            reply.clone(),
            Bytes::new(),
            text.into(),
            Failure::Api("consumer_reset_response"),
        );
    }

    fn set_back(&mut self, id: u64, request: &mut Request<'_>) -> Answer {
        let Some(log) = self.consumers.get(&id).copied() else {
            return Err(error::CONSUMER_NOT_FOUND.error());
        };
        let context = context!(self, request.now, request.store, request.interest);
        if context.lacks_level(request.headers) {
            return Err(error::REQUIRED_API_LEVEL.error());
        }
        let asked: ResetConsumerRequest = if request.body.is_empty() {
            ResetConsumerRequest::default()
        } else {
            json::decode_lenient(request.body).map_err(|error| error::INVALID_JSON.with(error))?
        };
        let world = (request.now, &mut *request.store, request.interest);
        let reset_seq = self.set_consumer_back(log, id, asked.seq, world)?;
        let info = self.describe_consumer(log, id, true, request);
        let response = ApiResponse::new("consumer_reset_response");
        Ok(json::encode(&ConsumerResetResponse { response, info, reset_seq }))
    }
}

/// What the subject of a create says.
#[derive(Clone, Copy, Debug)]
pub(super) enum CreateSubject<'a> {
    /// `CONSUMER.CREATE.<s>[.<c>[.<filter>]]`.
    Plain { stream: &'a str, name: Option<&'a str>, filter: Option<&'a str> },
    /// `CONSUMER.DURABLE.CREATE.<s>.<c>`, or with a number of tokens that is wrong.
    Durable { stream: &'a str, name: Option<&'a str> },
}

/// Whether the subject of a create and its body agree; takes the name from the subject.
fn check_subject(subject: CreateSubject<'_>, asked: &mut CreateConsumerRequest) -> Result<(), ApiError> {
    let config = &mut asked.config;
    let (stream, name, filter) = match subject {
        CreateSubject::Plain { stream, name, filter } => (stream, name, filter),
        CreateSubject::Durable { stream, name: Some(name) } => (stream, Some(name), None),
        CreateSubject::Durable { name: None, .. } => {
            return Err(error::CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT.error());
        }
    };
    if stream != asked.stream_name {
        return Err(error::STREAM_MISMATCH.error());
    }
    if name.unwrap_or(&config.name).contains(['\\', '/']) {
        return Err(error::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS.error());
    }
    let is_durable = !config.durable_name.is_empty();
    match name {
        Some(_) if matches!(subject, CreateSubject::Durable { .. }) && !is_durable => {
            return Err(error::CONSUMER_DURABLE_NAME_NOT_SET.error());
        }
        Some(name) if is_durable && config.durable_name != name => {
            return Err(error::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT.error());
        }
        Some(name) => name.clone_into(&mut config.name),
        None if is_durable => return Err(error::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME.error()),
        None => {}
    }
    if let Some(filter) = filter {
        if !config.filter_subjects.is_empty() {
            return Err(error::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED.error());
        }
        if config.filter_subject != filter {
            return Err(error::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH.error());
        }
    }
    Ok(())
}
