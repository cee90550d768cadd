//! A stream: its configuration, its log, and the rules by which messages enter and leave it.
//!
//! A deterministic state machine over one log of the store. It reads what is staged, and all that it says of it is
//! held until it is durable. Messages' times never go backwards within a stream. Deliberately absent: the API
//! (requests and responses), and what crosses streams, which the engine carries from one to the other.

pub mod config;
mod dedup;
mod limits;
mod origin;
mod publish;
mod purge;
mod read;
mod removal;

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_protocol::header;
use weir_protocol::jetstream::error::ApiError;
use weir_protocol::jetstream::json::{self, Timestamp};
use weir_protocol::jetstream::stream::{StorageType, StreamConfig, StreamState};
use weir_protocol::jetstream::{error, publish as publish_headers};
use weir_storage::{Cost, Layout, LogId, LogSpec, LogState, Medium, ReadError, StageError, Store};

use super::consumer::{Consumer, stored};
use super::context::Context;
use dedup::Dedup;
use origin::{Mirror, Source};
use read::seek_time;
use removal::UnreadIds;

pub(super) use origin::Progress;
pub use purge::Purged;
pub(super) use removal::Removal;

/// Attribute of a stream's log: the configuration as JSON.
pub(super) const CONFIG_KEY: &[u8] = b"config";
/// Attribute of a stream's log: when it was created, nanoseconds since 1970, little endian.
pub(super) const CREATED_KEY: &[u8] = b"created";

/// While the store takes no changes: whether what shows of the stream of `log` may be other than what is kept, because a
/// change of its configuration, of a consumer's, or a removal was lost. How far consumers are is promised to nobody.
pub(super) fn is_in_doubt(log: LogId, store: &Store) -> bool {
    let shows = |key: &[u8]| key == CONFIG_KEY || key.starts_with(stored::CONFIG_KEY);
    store.lost_changes().any(|(lost, key)| lost == log && key.is_none_or(shows))
}

/// Bytes of a log's specification in the store, at most.
const LOG_SPEC_BYTES: usize = 64;

/// A stream.
#[derive(Debug)]
pub struct Stream {
    pub(super) log: LogId,
    pub(super) config: StreamConfig,
    pub(super) created: i64,
    /// What every acknowledgement of a publish starts with.
    ack_prefix: Bytes,
    pub(super) name: Bytes,
    dedup: Dedup,
    /// The messages whose ids are not in `dedup` yet.
    pub(super) unread_ids: Option<UnreadIds>,
    last_msg_id: Bytes,
    /// Until when age may wait, so that many expiries are one.
    next_age_check: i64,
    pub(super) consumers: BTreeMap<u64, Consumer>,
    pub(super) consumer_ids: BTreeMap<String, u64>,
    /// Consumers that are kept and not served, with the reasons.
    pub(super) offline_consumers: BTreeMap<String, String>,
    pub(super) mirror: Option<Mirror>,
    pub(super) sources: Vec<Source>,
    /// Up to here consumers and dependent streams were told.
    pub(super) told_seq: u64,
    /// Up to here dependent streams were asked to copy.
    pub(super) offered_seq: u64,
    /// The timeout that the engine keeps for this stream.
    pub(super) timer: Option<i64>,
    /// The configuration changed: every limit is to be looked at.
    limits_changed: bool,
}

/// How the records of a stream with `config` are kept.
pub(super) fn log_spec(config: &StreamConfig) -> LogSpec {
    let (medium, cost) = match config.storage {
        StorageType::File => (Medium::Disk, Cost { per_record: 30, per_headers: 4 }),
        StorageType::Memory => (Medium::Memory, Cost { per_record: 16, per_headers: 0 }),
    };
    let scattered = config.max_msgs_per_subject > 0 || config.allow_rollup_hdrs;
    let layout = if scattered { Layout::Rows } else { Layout::Blocks };
    LogSpec { medium, layout, cost, first_seq: config.first_seq.max(1) }
}

/// Stages a new log with all that a restart needs of a stream with `config`, `more` attributes with it, in place of
/// the log `old` if there is one; or nothing of it.
pub(super) fn stage_stream(
    config: &StreamConfig,
    created: i64,
    more: &[(Bytes, Bytes)],
    old: Option<LogId>,
    store: &mut Store,
) -> Result<LogId, StageError> {
    let (text, created) = (json::encode(config), created.to_le_bytes());
    let mut attributes: Vec<(&[u8], &[u8])> = vec![(CONFIG_KEY, text.as_bytes()), (CREATED_KEY, &created)];
    attributes.extend(more.iter().map(|(key, value)| (&key[..], &value[..])));
    let bytes: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    store.admits(2 + attributes.len(), LOG_SPEC_BYTES + bytes)?;
    if let Some(old) = old {
        store.drop_log(old)?;
    }
    let log = store.create_log(log_spec(config))?;
    for (key, value) in attributes {
        store.set_attribute(log, key, value)?;
    }
    Ok(log)
}

impl Stream {
    /// The stream that `log` holds, its limits applied.
    pub(super) fn new(log: LogId, config: StreamConfig, created: i64, domain: &str) -> Self {
        let mut prefix = String::from("{\"stream\":");
        json::encode_text(&config.name, &mut prefix);
        if !domain.is_empty() {
            prefix.push_str(",\"domain\":");
            json::encode_text(domain, &mut prefix);
        }
        prefix.push_str(",\"seq\":");
        let mut stream = Self {
            log,
            name: Bytes::copy_from_slice(config.name.as_bytes()),
            created,
            ack_prefix: prefix.into(),
            dedup: Dedup::default(),
            unread_ids: None,
            last_msg_id: Bytes::new(),
            next_age_check: i64::MIN,
            consumers: BTreeMap::new(),
            consumer_ids: BTreeMap::new(),
            offline_consumers: BTreeMap::new(),
            mirror: None,
            sources: Vec::new(),
            told_seq: 0,
            offered_seq: 0,
            timer: None,
            limits_changed: false,
            config,
        };
        stream.renew_origins();
        stream
    }

    /// The stream as the store kept it.
    pub(super) fn restore(
        log: LogId,
        config: StreamConfig,
        created: i64,
        context: &mut Context<'_>,
    ) -> Result<Self, ReadError> {
        let mut stream = Self::new(log, config, created, &context.config.domain);
        stream.restore_ids(context)?;
        stream.told_seq = stream.state(context.store).durable_seq;
        stream.offered_seq = stream.copyable_seq(context.store);
        stream.limits_changed = true;
        Ok(stream)
    }

    /// What is to be known of message ids. Those of the duplicate window are read when the first message with an id comes,
    /// or the first message of the window goes: a start does not wait for what a stream without ids never needs.
    fn restore_ids(&mut self, context: &Context<'_>) -> Result<(), ReadError> {
        let state = self.state(context.store);
        let last = match context.store.get(self.log, state.last_seq) {
            Err(ReadError::Damaged { .. }) => None,
            found => found?,
        };
        if let Some(id) = last.as_ref().and_then(|last| header::get(&last.headers, publish_headers::MSG_ID)) {
            self.last_msg_id = Bytes::copy_from_slice(id);
        }
        if self.config.mirror.is_none() && state.messages > 0 {
            self.unread_ids = Some(UnreadIds { last: state.last_seq, first: state.first_seq });
        }
        Ok(())
    }

    /// Reads the ids that a start left unread.
    fn read_ids(&mut self, context: &Context<'_>) -> Result<(), ReadError> {
        let Some(up_to) = self.unread_ids.as_ref().map(|unread| unread.last) else { return Ok(()) };
        if self.config.duplicate_window > 0
            && let Err(error) = self.remember_ids(self.log, up_to, context)
        {
            // It is read from the beginning the next time.
            self.dedup = Dedup::default();
            return Err(error);
        }
        self.unread_ids = None;
        Ok(())
    }

    /// Takes up the ids of the messages of `log`, this stream's own or one that repeats it, up to a sequence.
    pub(super) fn remember_ids(
        &mut self,
        log: LogId,
        up_to: u64,
        context: &Context<'_>,
    ) -> Result<(), ReadError> {
        let oldest = context.now.saturating_sub(self.config.duplicate_window).saturating_add(1);
        let Some(mut next) = seek_time(log, oldest, context.store)? else { return Ok(()) };
        let dedup = &mut self.dedup;
        let mut remember = |seq, time, headers: &[u8]| {
            if !headers.is_empty()
                && let Some(id) = header::get(headers, publish_headers::MSG_ID).filter(|id| !id.is_empty())
            {
                dedup.remember(id, seq, time);
            }
        };
        // The ids of lost messages are lost with them; the stream is served all the same.
        while let Err(error) = context.store.visit_headers(log, next, up_to, &mut remember) {
            let ReadError::Damaged { last, .. } = error else { return Err(error) };
            next = last + 1;
        }
        Ok(())
    }

    /// The numbers of the log, staged records included.
    pub(super) fn state(&self, store: &Store) -> LogState {
        store.state(self.log).unwrap_or_default()
    }

    /// The numbers as the API shows them.
    pub(super) fn api_state(&self, store: &Store) -> StreamState {
        let state = self.state(store);
        let is_new = state.messages == 0 && state.last_seq == 0;
        let first_ts = if state.messages == 0 { Timestamp::ZERO } else { Timestamp(state.first_time) };
        let last_ts = if state.last_time == 0 { Timestamp::ZERO } else { Timestamp(state.last_time) };
        let deleted = if state.messages == 0 {
            0
        } else {
            (state.last_seq + 1).saturating_sub(state.first_seq).saturating_sub(state.messages)
        };
        StreamState {
            messages: state.messages,
            bytes: state.bytes,
            first_seq: if is_new { 0 } else { state.first_seq },
            first_ts,
            last_seq: state.last_seq,
            last_ts,
            num_subjects: i64::try_from(state.subjects).unwrap_or(i64::MAX),
            num_deleted: i64::try_from(deleted).unwrap_or(i64::MAX),
            consumer_count: i64::try_from(self.public_consumers()).unwrap_or(i64::MAX),
            ..StreamState::default()
        }
    }

    fn public_consumers(&self) -> usize {
        self.consumers.len()
    }

    /// Stages a configuration that [`config::check_update`] allowed and takes it.
    pub(super) fn update(&mut self, config: StreamConfig, context: &mut Context<'_>) -> Result<(), ApiError> {
        self.take_config(config, context.store)?;
        self.limits_changed = true;
        self.next_age_check = i64::MIN;
        self.renew_origins();
        self.enforce_limits(context);
        Ok(())
    }

    /// Stages a configuration as an attribute of the log and takes it.
    pub(super) fn take_config(&mut self, config: StreamConfig, store: &mut Store) -> Result<(), ApiError> {
        let kept = store.set_attribute(self.log, CONFIG_KEY, json::encode(&config).as_bytes());
        kept.map_err(|error| error::STREAM_STORE_FAILED.with(error))?;
        self.config = config;
        Ok(())
    }

    /// Brings mirror and sources in line with the configuration; what goes on keeps its position.
    fn renew_origins(&mut self) {
        self.mirror = match (&self.config.mirror, self.mirror.take()) {
            (None, _) => None,
            (Some(_), Some(mirror)) => Some(mirror),
            (Some(_), None) => Some(Mirror::default()),
        };
        let mut old = std::mem::take(&mut self.sources);
        for source in &self.config.sources {
            let name = source.index_name();
            let known =
                old.iter().position(|each| each.index_name == name).map(|index| old.swap_remove(index));
            self.sources.push(known.unwrap_or_else(|| Source::new(source.clone())));
        }
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub(super) fn poll_timeout(&self, store: &Store) -> Option<i64> {
        let age = self.age_timeout(store);
        let ids = self.dedup.poll_timeout(self.config.duplicate_window);
        let consumers = self.consumers.values().filter_map(Consumer::poll_timeout).min();
        [age, ids, consumers].into_iter().flatten().min()
    }

    /// Time passed: messages grow too old, ids are forgotten.
    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        self.dedup.forget(self.config.duplicate_window, context.now);
        self.enforce_limits(context);
    }
}

/// What is said when the store cannot be read.
pub(super) fn unreadable(error: &ReadError) -> ApiError {
    error::STREAM_GENERAL_ERROR.with(error)
}
