//! The consumers of the streams: finding them, driving them, keeping their state, ending them.
//!
//! What is answered is staged first: a change of a consumer that the store refuses is refused, and nothing of it shows in
//! memory. The state behind plain deliveries and acknowledgements is promised to nobody: refused, it waits and is tried
//! again.

use std::collections::BTreeSet;

use bytes::Bytes;
use weir_protocol::jetstream::ack;
use weir_protocol::jetstream::consumer::{AckPolicy, ConsumerConfig};
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json;
use weir_storage::{LogId, Store};

use super::consumer::{BARE_STATE_MAX, CloseReason, Consumer, Interest, View};
use super::context::{Context, context};
use super::engine::Engine;
use super::input::Tag;
use super::output::{Hearing, Outputs};
use super::stream::Stream;

/// What the keys of all that is kept of consumers start with.
pub(super) const PREFIX: &[u8] = b"consumer/";
/// Attribute of a stream's log: the configuration of a consumer as JSON, its name following.
const CONFIG_KEY: &[u8] = b"consumer/config/";
/// Attribute of a stream's log: when a consumer was created, its name following.
const CREATED_KEY: &[u8] = b"consumer/created/";
/// Attribute of a stream's log: the state of a consumer, its name following.
const STATE_KEY: &[u8] = b"consumer/state/";

fn key(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes()].concat()
}

fn store_failed(error: impl std::fmt::Display) -> ApiError {
    error::CONSUMER_STORE_FAILED.with(error)
}

/// Stages all that a restart needs of a new consumer, or nothing of it.
pub(super) fn stage_consumer(consumer: &Consumer, log: LogId, store: &mut Store) -> Result<(), ApiError> {
    if !consumer.is_kept() {
        return Ok(());
    }
    let created = consumer.created().to_le_bytes();
    let text = json::encode(consumer.config());
    let mut attributes = vec![(CONFIG_KEY, text.into_bytes()), (CREATED_KEY, created.to_vec())];
    attributes.extend(consumer.whole_state().map(|state| (STATE_KEY, state)));
    let attributes: Vec<_> =
        attributes.into_iter().map(|(prefix, value)| (key(prefix, consumer.name()), value)).collect();
    let bytes = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    store.admits(attributes.len(), bytes).map_err(store_failed)?;
    for (key, value) in attributes {
        store.set_attribute(log, &key, &value).map_err(store_failed)?;
    }
    Ok(())
}

/// The occasion on which states are staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Somebody waits for them, or they have waited long enough.
    Due,
    /// Something is written anyway.
    Riding,
    /// The server stops: whatever is not kept yet.
    Stopping,
}

/// What is kept of a consumer.
pub(super) struct Kept {
    pub(super) config: Option<Bytes>,
    pub(super) created: Option<i64>,
    pub(super) state: Option<Bytes>,
}

pub(super) fn read_consumer(name: &str, log: LogId, store: &Store) -> Kept {
    let created = store.attribute(log, &key(CREATED_KEY, name));
    Kept {
        config: store.attribute(log, &key(CONFIG_KEY, name)),
        created: created.and_then(|bytes| bytes[..].try_into().ok()).map(i64::from_le_bytes),
        state: store.attribute(log, &key(STATE_KEY, name)),
    }
}

/// The names of the consumers of which something is kept.
pub(super) fn kept_consumers(log: LogId, store: &Store) -> BTreeSet<String> {
    let names = |prefix: &'static [u8]| {
        let keys = store.attributes(log, prefix).into_iter();
        keys.filter_map(|(key, _)| Some(String::from_utf8_lossy(key.strip_prefix(prefix)?).into_owned()))
    };
    [CONFIG_KEY, CREATED_KEY, STATE_KEY].into_iter().flat_map(names).collect()
}

impl Stream {
    /// Calls one of the stream's consumers.
    pub(super) fn with_consumer<T>(
        &mut self,
        id: u64,
        context: &mut Context<'_>,
        call: impl FnOnce(&mut Consumer, &mut View<'_>) -> T,
    ) -> Option<T> {
        let consumer = self.consumers.get_mut(&id)?;
        Some(call(consumer, &mut context.view(self.log, &self.config)))
    }

    /// Stages the state of a consumer if it is time for it.
    fn keep_state(&mut self, id: u64, now: i64, when: When, store: &mut Store, outputs: &mut Outputs) {
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.is_kept()) else {
            return;
        };
        let state = match when {
            When::Due => consumer.due_state(now, false),
            When::Riding => consumer.due_state(now, true),
            When::Stopping => consumer.unkept_state(),
        };
        let Some(state) = state else { return };
        match store.set_attribute(self.log, &key(STATE_KEY, consumer.name()), &state) {
            Ok(()) => consumer.state_staged(now, outputs),
            Err(error) => {
                if consumer.state_refused(now) {
                    let (stream, consumer) = (&self.config.name, consumer.name());
                    tracing::warn!(%stream, consumer, %error, "the consumer's state waits to be kept");
                }
            }
        }
    }
}

impl Engine {
    /// Calls a consumer, and marks it to be driven.
    pub(super) fn with_consumer(
        &mut self,
        id: u64,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
        call: impl FnOnce(&mut Consumer, &mut View<'_>),
    ) {
        let Some(stream) = self.consumers.get(&id).and_then(|stream| self.streams.get_mut(stream)) else {
            return;
        };
        let mut context = context!(self, now, store, interest);
        let awaited = stream.with_consumer(id, &mut context, |consumer, view| {
            call(consumer, view);
            consumer.is_awaited()
        });
        if awaited == Some(true) {
            stream.keep_state(id, now, When::Due, store, &mut self.outputs);
        }
        self.touched_consumers.insert(id);
    }

    /// Delivers what the marked consumers may deliver, and ends those whose time is over. When there is no more room for
    /// outputs, the others have their turn after these are let out.
    pub(super) fn drive_touched(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        let mut ids: Vec<u64> = self.touched_consumers.iter().copied().collect();
        let first = ids.partition_point(|id| *id < self.next_driven);
        ids.rotate_left(first);
        for (driven, id) in ids.iter().copied().enumerate() {
            if self.outputs.is_full() {
                self.next_driven = id;
                self.undriven.extend(ids.iter().skip(driven));
                return;
            }
            let Some(log) = self.consumers.get(&id).copied() else {
                self.touched_consumers.remove(&id);
                continue;
            };
            let Some(stream) = self.streams.get_mut(&log) else { continue };
            let mut context = context!(self, now, store, interest);
            let expired = stream.with_consumer(id, &mut context, |consumer, view| {
                consumer.drive(view);
                consumer.is_expired()
            });
            if expired == Some(true) {
                self.end_expired(log, id, now, store, interest);
            }
            self.touch(log);
        }
    }

    /// Stages the states of the marked consumers that are due, and takes the marks away.
    pub(super) fn keep_consumers(&mut self, now: i64, store: &mut Store) {
        let when = if store.staged_bytes() > 0 { When::Riding } else { When::Due };
        self.keep_touched(now, when, store);
    }

    /// As [`Self::keep_consumers`], with the occasion.
    pub(super) fn keep_touched(&mut self, now: i64, when: When, store: &mut Store) {
        for id in std::mem::take(&mut self.touched_consumers) {
            if let Some(stream) = self.consumers.get(&id).and_then(|stream| self.streams.get_mut(stream)) {
                stream.keep_state(id, now, when, store, &mut self.outputs);
            }
        }
        self.touched_consumers = std::mem::take(&mut self.undriven);
    }

    /// Ends a consumer that nobody used for long; later, when the store does not let it go now.
    fn end_expired(&mut self, log: u32, id: u64, now: i64, store: &mut Store, interest: &dyn Interest) {
        let Err(error) = self.delete_consumer(log, id, now, store, interest) else { return };
        let Some(stream) = self.streams.get_mut(&log) else { return };
        let Some(consumer) = stream.consumers.get_mut(&id) else { return };
        let (stream, name) = (&stream.config.name, consumer.name());
        tracing::warn!(%stream, consumer = name, %error, "an unused consumer lives on until the store lets it go");
        consumer.put_off_end(now);
    }

    /// Time passed for the consumers of a stream.
    pub(super) fn time_out_consumers(
        &mut self,
        log: u32,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) {
        let Some(stream) = self.streams.get_mut(&log) else { return };
        let due = stream
            .consumers
            .iter()
            .filter(|(_, consumer)| consumer.poll_timeout().is_some_and(|due| due <= now));
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        let mut context = context!(self, now, store, interest);
        for id in &due {
            stream.with_consumer(*id, &mut context, |consumer, view| consumer.handle_timeout(view));
        }
        self.touched_consumers.extend(due);
    }

    /// Takes a consumer in and asks to hear what concerns it; returns its id.
    pub(super) fn host(&mut self, log: u32, consumer: Consumer) -> u64 {
        let id = self.next_consumer;
        self.next_consumer += 1;
        let Some(stream) = self.streams.get_mut(&log) else { return id };
        let hearings = hearings(id, &stream.config.name, consumer.name(), consumer.config());
        stream.consumer_ids.insert(consumer.name().to_owned(), id);
        stream.consumers.insert(id, consumer);
        self.consumers.insert(id, log);
        for (filter, tag) in hearings {
            self.outputs.hear(subscribe(filter, tag));
        }
        self.touched_consumers.insert(id);
        self.touch(log);
        id
    }

    /// Takes another configuration for a consumer, once it is staged.
    pub(super) fn update_consumer(
        &mut self,
        log: u32,
        id: u64,
        config: ConsumerConfig,
        context: (i64, &mut Store, &dyn Interest),
    ) -> Result<(), ApiError> {
        let (now, store, interest) = context;
        let Some(stream) = self.streams.get_mut(&log) else { return Ok(()) };
        let name = stream.config.name.clone();
        let Some(consumer) = stream.consumers.get(&id) else { return Ok(()) };
        if consumer.is_kept() {
            let text = json::encode(&config);
            let kept = store.set_attribute(stream.log, &key(CONFIG_KEY, consumer.name()), text.as_bytes());
            kept.map_err(store_failed)?;
        }
        let before = hearings(id, &name, consumer.name(), consumer.config());
        let after = hearings(id, &name, consumer.name(), &config);
        let mut context = context!(self, now, store, interest);
        stream.with_consumer(id, &mut context, |consumer, view| consumer.update(config, view));
        for (filter, tag) in before.iter().filter(|each| !after.contains(each)) {
            self.outputs.hear(unsubscribe(filter.clone(), *tag));
        }
        for (filter, tag) in after.iter().filter(|each| !before.contains(each)) {
            self.outputs.hear(subscribe(filter.clone(), *tag));
        }
        self.touched_consumers.insert(id);
        Ok(())
    }

    /// Sets a consumer back ([`Consumer::reset`]); what is answered is staged.
    pub(super) fn set_consumer_back(
        &mut self,
        log: u32,
        id: u64,
        seq: u64,
        context: (i64, &mut Store, &dyn Interest),
    ) -> Result<u64, ApiError> {
        let (now, store, interest) = context;
        let Some(stream) = self.streams.get_mut(&log) else { return Err(error::CONSUMER_NOT_FOUND.error()) };
        let Some(consumer) = stream.consumers.get(&id) else { return Err(error::CONSUMER_NOT_FOUND.error()) };
        let (is_kept, key) = (consumer.is_kept(), key(STATE_KEY, consumer.name()));
        if is_kept {
            store.admits(1, key.len() + BARE_STATE_MAX).map_err(store_failed)?;
        }
        let mut context = context!(self, now, store, interest);
        let reset = stream.with_consumer(id, &mut context, |consumer, view| consumer.reset(seq, view));
        let seq = reset.ok_or_else(|| error::CONSUMER_NOT_FOUND.error())??;
        if let Some(consumer) = stream.consumers.get_mut(&id).filter(|_| is_kept)
            && let Some(state) = consumer.whole_state()
        {
            store.set_attribute(stream.log, &key, &state).map_err(store_failed)?;
            consumer.state_staged(now, &mut self.outputs);
        }
        self.touched_consumers.insert(id);
        Ok(seq)
    }

    /// Ends a consumer and forgets what is kept of it.
    ///
    /// # Errors
    /// 10104 when the store does not take it; the consumer goes on then.
    pub(super) fn delete_consumer(
        &mut self,
        log: u32,
        id: u64,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) -> Result<(), ApiError> {
        let Some(stream) = self.streams.get(&log) else { return Ok(()) };
        let Some(consumer) = stream.consumers.get(&id) else { return Ok(()) };
        forget_consumer(consumer.name(), stream.log, store)?;
        self.end_consumer(log, id, now, store, interest);
        Ok(())
    }

    /// Ends a consumer of which nothing is kept any more.
    fn end_consumer(&mut self, log: u32, id: u64, now: i64, store: &mut Store, interest: &dyn Interest) {
        let Some(stream) = self.streams.get_mut(&log) else { return };
        let mut context = context!(self, now, store, interest);
        stream.with_consumer(id, &mut context, |consumer, view| consumer.close(CloseReason::Deleted, view));
        let Some(consumer) = stream.consumers.remove(&id) else { return };
        stream.consumer_ids.remove(consumer.name());
        self.consumers.remove(&id);
        self.touched_consumers.remove(&id);
        let hearings = hearings(id, &stream.config.name, consumer.name(), consumer.config());
        for (filter, tag) in hearings {
            self.outputs.hear(unsubscribe(filter, tag));
        }
        self.touch(log);
    }

    /// Ends the consumers of a stream whose log, and all that was kept in it, is dropped.
    pub(super) fn end_consumers(&mut self, log: u32, now: i64, store: &mut Store, interest: &dyn Interest) {
        let Some(stream) = self.streams.get(&log) else { return };
        for id in stream.consumers.keys().copied().collect::<Vec<_>>() {
            self.end_consumer(log, id, now, store, interest);
        }
    }
}

/// Stages that nothing is kept of a consumer: all of it, or nothing.
pub(super) fn forget_consumer(name: &str, log: LogId, store: &mut Store) -> Result<(), ApiError> {
    let keys = [CONFIG_KEY, CREATED_KEY, STATE_KEY].map(|prefix| key(prefix, name));
    let kept: Vec<_> = keys.into_iter().filter(|key| store.attribute(log, key).is_some()).collect();
    if kept.is_empty() {
        return Ok(());
    }
    store.admits(kept.len(), kept.iter().map(Vec::len).sum()).map_err(store_failed)?;
    for key in kept {
        store.remove_attribute(log, &key).map_err(store_failed)?;
    }
    Ok(())
}

fn subscribe(filter: String, tag: Tag) -> Hearing {
    let filter = Bytes::from(filter);
    if matches!(tag, Tag::Interest(_)) {
        Hearing::Watch { subject: filter, tag }
    } else {
        Hearing::Subscribe { filter, tag }
    }
}

fn unsubscribe(filter: String, tag: Tag) -> Hearing {
    if matches!(tag, Tag::Interest(_)) {
        Hearing::Unwatch { tag }
    } else {
        Hearing::Unsubscribe { filter: Bytes::from(filter), tag }
    }
}

/// What a consumer listens to.
fn hearings(id: u64, stream: &str, name: &str, config: &ConsumerConfig) -> Vec<(String, Tag)> {
    let mut filters = vec![
        (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"), Tag::Pull(id)),
        (format!("$JS.API.CONSUMER.RESET.{stream}.{name}"), Tag::Reset(id)),
    ];
    if !matches!(config.ack_policy, AckPolicy::None | AckPolicy::FlowControl) {
        let prefix = String::from_utf8_lossy(ack::PREFIX);
        filters.push((format!("{prefix}{stream}.{name}.>"), Tag::Ack(id)));
        filters.push((format!("{prefix}*.*.{stream}.{name}.>"), Tag::Ack(id)));
    }
    if config.flow_control {
        filters.push((format!("$JS.FC.{stream}.{name}.>"), Tag::Flow(id)));
    }
    if config.is_push() {
        filters.push((config.deliver_subject.clone(), Tag::Interest(id)));
    }
    filters
}
