//! The API of streams: create, update, info, names, list, delete, purge.
//!
//! What one stream's configuration may say is checked in `stream::config`; here it is held against the other streams: names,
//! subjects that overlap, those that are offline. A change is staged before the engine shows it.

use weir_protocol::jetstream::api::{
    ApiResponse, LIST_LIMIT, NAMES_LIMIT, SUBJECTS_LIMIT, StreamConfigRequest, StreamCreateResponse,
    StreamInfoRequest, StreamInfoResponse, StreamListRequest, StreamListResponse, StreamNamesRequest,
    StreamNamesResponse, StreamPurgeRequest, StreamPurgeResponse, StreamUpdateResponse, SuccessResponse,
};
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json::{self, Timestamp};
use weir_protocol::jetstream::stream::{ClusterInfo, StreamConfig, StreamInfo};
use weir_protocol::subject;

use super::{Answer, Request, page};
use crate::jetstream::context::context;
use crate::jetstream::engine::Engine;
use crate::jetstream::stream::config::{self, SERVER_LEVEL, SERVER_VERSION};
use crate::jetstream::stream::{Stream, stage_stream};

/// Most deleted sequences that an info lists.
const DELETED_MAX: usize = 1_000_000;

pub(super) fn deleted_text() -> String {
    let response = ApiResponse::new("stream_delete_response");
    json::encode(&SuccessResponse { response, success: true })
}

pub(super) fn purged_text(purged: u64) -> String {
    let response = ApiResponse::new("stream_purge_response");
    json::encode(&StreamPurgeResponse { response, success: true, purged })
}

fn invalid(text: &str) -> ApiError {
    error::STREAM_INVALID_CONFIG.with(text)
}

impl Engine {
    /// The id of a stream.
    ///
    /// # Errors
    /// 10059; 10194 when it is offline.
    pub(super) fn find_stream(&self, name: &str) -> Result<u32, ApiError> {
        self.names.get(name).copied().ok_or_else(|| match self.find_offline(name) {
            Some((_, offline)) => offline.error(),
            None => error::STREAM_NOT_FOUND.error(),
        })
    }

    pub(super) fn create_stream(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        let asked: StreamConfigRequest = request.decode()?;
        let mut wanted = asked.config;
        config::set_stored_metadata(&mut wanted);
        if wanted.name != name {
            return Err(error::STREAM_MISMATCH.error());
        }
        if name.contains(['\\', '/']) {
            return Err(error::STREAM_NAME_CONTAINS_PATH_SEPARATORS.error());
        }
        if wanted.sealed {
            return Err(invalid("stream configuration for create can not be sealed"));
        }
        if wanted.mirror_direct && wanted.mirror.is_none() {
            return Err(invalid("stream has no mirror but does have mirror direct"));
        }
        let wanted = config::check(&wanted, asked.pedantic, &(&self.names, &self.streams))?;
        if wanted.num_replicas > 1 {
            return Err(error::STREAM_REPLICAS_NOT_SUPPORTED.error());
        }
        let id = match self.names.get(name) {
            Some(id) => {
                let same =
                    self.streams.get(id).is_some_and(|stream| config::is_same(&stream.config, &wanted));
                if !same {
                    return Err(error::STREAM_NAME_EXIST.error());
                }
                *id
            }
            None => self.add_stream(wanted, request)?,
        };
        let info = self.describe(id, request).map(|info| self.with_server_metadata(info));
        Ok(json::encode(&StreamCreateResponse {
            response: ApiResponse::new("stream_create_response"),
            info: info.map(|info| StreamInfo { domain: String::new(), ..info }),
            did_create: true,
        }))
    }

    fn add_stream(&mut self, wanted: StreamConfig, request: &mut Request<'_>) -> Result<u32, ApiError> {
        if let Some((_, offline)) = self.find_offline(&wanted.name) {
            return Err(offline.error());
        }
        config::check_filters(&wanted)?;
        if self.overlaps(&wanted.subjects, None) {
            return Err(error::STREAM_SUBJECT_OVERLAP.error());
        }
        let log = stage_stream(&wanted, request.now, &[], None, request.store)
            .map_err(|error| error::STREAM_CREATE.with(error))?;
        let name = wanted.name.clone();
        let stream = Stream::new(log, wanted, request.now, &self.config.domain);
        let mut context = context!(self, request.now, request.store, request.interest);
        context.advise(&format!("$JS.EVENT.ADVISORY.STREAM.CREATED.{name}"), "stream_action", |fields| {
            fields.text_field("stream", &name);
            fields.text_field("action", "create");
        });
        self.names.insert(name.clone(), log.0);
        self.streams.insert(log.0, stream);
        self.listen(log.0, None);
        self.depend(log.0);
        self.make_hungry(log.0);
        self.wake_dependents(&name);
        self.touch(log.0);
        Ok(log.0)
    }

    fn overlaps(&self, subjects: &[String], except: Option<u32>) -> bool {
        let others = self.streams.iter().filter(|(id, _)| Some(**id) != except);
        others
            .flat_map(|(_, stream)| &stream.config.subjects)
            .chain(self.offline_subjects())
            .any(|theirs| subjects.iter().any(|ours| subject::collide(ours.as_bytes(), theirs.as_bytes())))
    }

    pub(super) fn update_stream(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        let asked: StreamConfigRequest = request.decode()?;
        let mut wanted = config::check(&asked.config, asked.pedantic, &(&self.names, &self.streams))?;
        if wanted.name != name {
            return Err(error::STREAM_MISMATCH.error());
        }
        let id = self.find_stream(name)?;
        config::set_stored_metadata(&mut wanted);
        let Some(old) = self.streams.get(&id).map(|stream| stream.config.clone()) else {
            return Err(error::STREAM_NOT_FOUND.error());
        };
        let mut wanted = config::check_update(&old, wanted)?;
        if wanted.num_replicas > 1 {
            return Err(error::STREAM_REPLICAS_NOT_SUPPORTED.error());
        }
        if wanted.mirror.is_none() {
            wanted.mirror_direct = false;
        }
        self.check_consumer_limits(id, &old, &wanted)?;
        config::check_filters(&wanted)?;
        if self.overlaps(&wanted.subjects, Some(id)) {
            return Err(error::STREAM_SUBJECT_OVERLAP.error());
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Err(error::STREAM_NOT_FOUND.error()) };
        let mut context = context!(self, request.now, request.store, request.interest);
        stream.update(wanted, &mut context)?;
        context.advise(&format!("$JS.EVENT.ADVISORY.STREAM.UPDATED.{name}"), "stream_action", |fields| {
            fields.text_field("stream", name);
            fields.text_field("action", "modify");
        });
        self.listen(id, Some(&old));
        self.depend(id);
        self.make_hungry(id);
        self.wake_dependents(name);
        self.touch(id);
        let info = self.describe(id, request).map(|info| self.with_server_metadata(info));
        Ok(json::encode(&StreamUpdateResponse { response: ApiResponse::new("stream_update_response"), info }))
    }

    /// Whether the consumers keep the bounds of an update.
    fn check_consumer_limits(&self, id: u32, old: &StreamConfig, new: &StreamConfig) -> Result<(), ApiError> {
        let (was, is) = (&old.consumer_limits, &new.consumer_limits);
        let changed = is.inactive_threshold > 0 && was.inactive_threshold != is.inactive_threshold
            || is.max_ack_pending > 0 && was.max_ack_pending != is.max_ack_pending;
        let Some(stream) = self.streams.get(&id).filter(|_| changed) else { return Ok(()) };
        let over = stream.consumers.values().filter(|consumer| {
            let config = consumer.config();
            is.inactive_threshold > 0 && config.inactive_threshold > is.inactive_threshold
                || is.max_ack_pending > 0 && config.max_ack_pending > is.max_ack_pending
        });
        let names: Vec<&str> = over.map(|consumer| consumer.name()).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(error::STREAM_UPDATE.with(format!("change to limits violates consumers: {}", names.join(", "))))
    }

    /// What the API shows of a stream, as lists show it.
    fn describe(&mut self, id: u32, request: &mut Request<'_>) -> Option<StreamInfo> {
        let context = context!(self, request.now, request.store, request.interest);
        let stream = self.streams.get(&id)?;
        let origin = |name: &str| self.names.get(name).and_then(|id| self.streams.get(id));
        let mirror = stream.config.mirror.as_ref().and_then(|mirror| origin(&mirror.name));
        let sources = stream.sources.iter().enumerate();
        Some(StreamInfo {
            config: stream.config.clone(),
            created: Timestamp(stream.created),
            state: stream.api_state(context.store),
            domain: context.config.domain.clone(),
            cluster: None,
            mirror: stream.mirror_info(mirror, &context),
            sources: sources
                .filter_map(|(index, source)| {
                    stream.source_info(index, origin(&source.config.name), &context)
                })
                .collect(),
            ts: Timestamp(request.now),
        })
    }

    fn with_server_metadata(&self, mut info: StreamInfo) -> StreamInfo {
        info.config.metadata.insert(SERVER_VERSION.to_owned(), self.config.version.clone());
        info.config.metadata.insert(SERVER_LEVEL.to_owned(), self.config.api_level.to_string());
        info
    }

    pub(super) fn stream_info(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        let asked: StreamInfoRequest = request.decode_optional()?.unwrap_or_default();
        let id = self.find_stream(name)?;
        let Some(info) = self.describe(id, request) else { return Err(error::STREAM_NOT_FOUND.error()) };
        let mut info = self.with_server_metadata(info);
        info.cluster =
            Some(ClusterInfo { leader: self.config.server_name.clone(), ..ClusterInfo::default() });
        let mut response = StreamInfoResponse {
            response: ApiResponse::new("stream_info_response"),
            ..StreamInfoResponse::default()
        };
        let Some(stream) = self.streams.get(&id) else { return Err(error::STREAM_NOT_FOUND.error()) };
        if asked.deleted_details {
            let gaps = request.store.gaps(stream.log, DELETED_MAX);
            info.state.deleted = gaps.map_err(|error| error::STREAM_GENERAL_ERROR.with(error))?;
        }
        if !asked.subjects_filter.is_empty() {
            let filter = asked.subjects_filter.as_bytes();
            let matcher = |each: &[u8]| subject::matches(each, filter);
            let subjects = request.store.subjects(stream.log, Some(&matcher));
            if !subjects.is_empty() {
                let (paged, offset) = page(subjects.len(), asked.page.offset, SUBJECTS_LIMIT);
                response.page = paged;
                let wanted = subjects.into_iter().skip(offset).take(SUBJECTS_LIMIT);
                info.state.subjects = wanted
                    .map(|(subject, state)| (String::from_utf8_lossy(&subject).into_owned(), state.messages))
                    .collect();
            }
        }
        response.info = Some(info);
        Ok(json::encode(&response))
    }

    /// The streams whose subjects collide with `filter`, or all, by name: their ids, or why they are offline.
    fn filtered(&self, filter: &str) -> Vec<(String, Result<u32, String>)> {
        let collides = |subject: &String| subject::collide(filter.as_bytes(), subject.as_bytes());
        let wanted = |config: &StreamConfig| filter.is_empty() || config.subjects.iter().any(collides);
        let online = self.streams.values().filter(|stream| wanted(&stream.config));
        let online = online.map(|stream| (stream.config.name.clone(), Ok(stream.log.0)));
        let offline =
            self.offline.values().filter(|offline| offline.config.as_ref().map_or(filter.is_empty(), wanted));
        let offline = offline.map(|offline| (offline.name.clone(), Err(offline.reason.clone())));
        let mut all: Vec<_> = online.chain(offline).collect();
        all.sort_unstable();
        all
    }

    pub(super) fn stream_names(&mut self, request: &mut Request<'_>) -> Answer {
        let asked: StreamNamesRequest = request.decode_optional()?.unwrap_or_default();
        let streams = self.filtered(&asked.subject);
        let (page, offset) = page(streams.len(), asked.page.offset, NAMES_LIMIT);
        let names: Vec<String> =
            streams.into_iter().skip(offset).take(NAMES_LIMIT).map(|(name, _)| name).collect();
        Ok(json::encode(&StreamNamesResponse {
            response: ApiResponse::new("stream_names_response"),
            page,
            streams: (!names.is_empty()).then_some(names),
        }))
    }

    pub(super) fn stream_list(&mut self, request: &mut Request<'_>) -> Answer {
        let asked: StreamListRequest = request.decode_optional()?.unwrap_or_default();
        let streams = self.filtered(&asked.subject);
        let (page, offset) = page(streams.len(), asked.page.offset, LIST_LIMIT);
        let response = ApiResponse::new("stream_list_response");
        let mut listed = StreamListResponse { response, page, ..StreamListResponse::default() };
        for (name, found) in streams.into_iter().skip(offset) {
            match found {
                Ok(id) => listed.streams.extend(self.describe(id, request)),
                Err(reason) => {
                    listed.missing.push(name.clone());
                    listed.offline.insert(name, reason);
                }
            }
            if listed.streams.len() >= LIST_LIMIT {
                break;
            }
        }
        Ok(json::encode(&listed))
    }

    pub(super) fn delete_stream(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        if !request.is_empty() {
            return Err(error::NOT_EMPTY_REQUEST.error());
        }
        if let Some(deleted) = self.delete_offline(name, request.store) {
            deleted?;
            return Ok(deleted_text());
        }
        let id = self.find_stream(name)?;
        let Some(stream) = self.streams.get(&id) else { return Err(error::STREAM_NOT_FOUND.error()) };
        request.store.drop_log(stream.log).map_err(|error| error::STREAM_DELETE.with(error))?;
        self.end_consumers(id, request.now, request.store, request.interest);
        let Some(stream) = self.streams.remove(&id) else { return Err(error::STREAM_NOT_FOUND.error()) };
        self.names.remove(name);
        self.listen_no_more(id, &stream.config);
        self.forget_stream(id, &stream);
        let mut context = context!(self, request.now, request.store, request.interest);
        context.advise(&format!("$JS.EVENT.ADVISORY.STREAM.DELETED.{name}"), "stream_action", |fields| {
            fields.text_field("stream", name);
            fields.text_field("action", "delete");
        });
        Ok(deleted_text())
    }

    pub(super) fn purge_stream(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        let asked: StreamPurgeRequest = request.decode_optional()?.unwrap_or_default();
        if asked.seq > 0 && asked.keep > 0 {
            return Err(error::BAD_REQUEST.error());
        }
        let id = self.find_purgeable(name)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Err(error::STREAM_NOT_FOUND.error()) };
        let mut context = context!(self, request.now, request.store, request.interest);
        let purged = stream.purge(&asked, &mut context)?;
        self.touch(id);
        Ok(purged_text(purged))
    }

    /// A stream that may be purged.
    pub(super) fn find_purgeable(&self, name: &str) -> Result<u32, ApiError> {
        let id = self.find_stream(name)?;
        let config = self.streams.get(&id).map(|stream| &stream.config);
        if config.is_some_and(|config| config.sealed) {
            return Err(error::STREAM_SEALED.error());
        }
        if config.is_some_and(|config| config.deny_purge) {
            return Err(error::STREAM_PURGE_FAILED.with("stream purge not permitted"));
        }
        Ok(id)
    }

    /// Snapshots are not there yet: says so once the request is in order.
    pub(super) fn refuse_snapshot(&mut self, name: &str, request: &mut Request<'_>) -> Answer {
        if request.is_empty() {
            return Err(error::BAD_REQUEST.error());
        }
        self.find_stream(name)?;
        Err(error::STREAM_SNAPSHOT.with("not supported by this server yet"))
    }
}
