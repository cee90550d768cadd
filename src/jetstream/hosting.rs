//! The consumers of the streams: finding them, driving them, keeping their state, ending them.

use std::collections::BTreeSet;

use bytes::Bytes;
use weir_protocol::jetstream::ack;
use weir_protocol::jetstream::consumer::{AckPolicy, ConsumerConfig};
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json;
use weir_storage::Store;

use super::consumer::{CloseReason, Consumer, Interest, View};
use super::engine::{Context, Engine, context};
use super::input::Tag;
use super::output::Hearing;
use super::stream::Stream;

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

impl Stream {
    /// Calls one of the stream's consumers.
    pub(super) fn with_consumer<T>(
        &mut self,
        id: u64,
        context: &mut Context<'_>,
        call: impl FnOnce(&mut Consumer, &mut View<'_>) -> T,
    ) -> Option<T> {
        let consumer = self.consumers.get_mut(&id)?;
        let mut view = View {
            store: context.store,
            log: self.log,
            stream: &self.config.name,
            config: &self.config,
            interest: context.interest,
            random: &context.config.random,
            now: context.now,
            domain: &context.config.domain,
            api_level: context.config.api_level,
            max_payload: context.config.max_payload,
            outputs: context.outputs,
        };
        Some(call(consumer, &mut view))
    }

    /// The world as a consumer that is yet to be made sees it.
    pub(super) fn view<'a>(&'a self, context: &'a mut Context<'_>) -> View<'a> {
        View {
            store: context.store,
            log: self.log,
            stream: &self.config.name,
            config: &self.config,
            interest: context.interest,
            random: &context.config.random,
            now: context.now,
            domain: &context.config.domain,
            api_level: context.config.api_level,
            max_payload: context.config.max_payload,
            outputs: context.outputs,
        }
    }

    /// Stages a consumer's configuration, if the consumer is to be kept.
    pub(super) fn keep_consumer(&self, id: u64, context: &mut Context<'_>) -> Result<(), ApiError> {
        let Some(consumer) = self.consumers.get(&id).filter(|consumer| consumer.is_kept()) else {
            return Ok(());
        };
        let text = json::encode(consumer.config());
        let store = &mut *context.store;
        store
            .set_attribute(self.log, &key(CONFIG_KEY, consumer.name()), text.as_bytes())
            .map_err(store_failed)?;
        let created = consumer.created().to_le_bytes();
        store.set_attribute(self.log, &key(CREATED_KEY, consumer.name()), &created).map_err(store_failed)
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
        stream.with_consumer(id, &mut context, call);
        self.touched_consumers.insert(id);
    }

    /// Delivers what the marked consumers may deliver, and ends those whose time is over.
    pub(super) fn drive_touched(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        let ids: Vec<u64> = self.touched_consumers.iter().copied().collect();
        for id in ids {
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
                self.delete_consumer(log, id, now, store, interest);
            }
            self.touch(log);
        }
    }

    /// Stages the states of the marked consumers that are due, and takes the marks away.
    pub(super) fn keep_consumers(&mut self, now: i64, store: &mut Store) {
        let riding = store.staged_bytes() > 0;
        self.keep_touched(now, riding, store);
    }

    /// As [`Self::keep_consumers`]; `riding` says that something is written anyway.
    pub(super) fn keep_touched(&mut self, now: i64, riding: bool, store: &mut Store) {
        for id in std::mem::take(&mut self.touched_consumers) {
            let Some(stream) = self.consumers.get(&id).and_then(|stream| self.streams.get_mut(stream)) else {
                continue;
            };
            let log = stream.log;
            let Some(consumer) = stream.consumers.get_mut(&id).filter(|consumer| consumer.is_kept()) else {
                continue;
            };
            let Some(state) = consumer.dirty_state(now, riding) else { continue };
            if let Err(error) = store.set_attribute(log, &key(STATE_KEY, consumer.name()), &state) {
                tracing::error!(consumer = consumer.name(), %error, "the consumer's state is not kept");
            }
        }
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

    /// Makes the consumers that the store keeps for a stream.
    pub(super) fn restore_consumers(
        &mut self,
        log: u32,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) -> Result<(), ApiError> {
        let Some(stream) = self.streams.get(&log).map(|stream| stream.log) else { return Ok(()) };
        for (name, text) in store.attributes(stream, CONFIG_KEY) {
            let name = String::from_utf8_lossy(name.get(CONFIG_KEY.len()..).unwrap_or_default()).into_owned();
            let config: ConsumerConfig = json::decode_lenient(&text).map_err(store_failed)?;
            let created = store.attribute(stream, &key(CREATED_KEY, &name));
            let created = created.and_then(|bytes| bytes[..].try_into().ok()).map_or(now, i64::from_le_bytes);
            let state = store.attribute(stream, &key(STATE_KEY, &name));
            let Some(stream) = self.streams.get(&log) else { return Ok(()) };
            let mut context = context!(self, now, store, interest);
            let consumer =
                Consumer::restore(config, name, created, state.as_deref(), &mut stream.view(&mut context))?;
            self.host(log, consumer);
        }
        Ok(())
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

    /// Takes another configuration for a consumer.
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
        let before = hearings(id, &name, consumer.name(), consumer.config());
        let after = hearings(id, &name, consumer.name(), &config);
        let mut context = context!(self, now, store, interest);
        stream
            .with_consumer(id, &mut context, |consumer, view| consumer.update(config, view))
            .unwrap_or(Ok(()))?;
        stream.keep_consumer(id, &mut context)?;
        for (filter, tag) in before.iter().filter(|each| !after.contains(each)) {
            self.outputs.hear(unsubscribe(filter.clone(), *tag));
        }
        for (filter, tag) in after.iter().filter(|each| !before.contains(each)) {
            self.outputs.hear(subscribe(filter.clone(), *tag));
        }
        self.touched_consumers.insert(id);
        Ok(())
    }

    /// Ends a consumer and forgets what is kept of it.
    pub(super) fn delete_consumer(
        &mut self,
        log: u32,
        id: u64,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) {
        let Some(stream) = self.streams.get_mut(&log) else { return };
        let mut context = context!(self, now, store, interest);
        stream.with_consumer(id, &mut context, |consumer, view| consumer.close(CloseReason::Deleted, view));
        let Some(consumer) = stream.consumers.remove(&id) else { return };
        stream.consumer_ids.remove(consumer.name());
        self.consumers.remove(&id);
        self.touched_consumers.remove(&id);
        for prefix in [CONFIG_KEY, CREATED_KEY, STATE_KEY] {
            let key = key(prefix, consumer.name());
            if store.attribute(stream.log, &key).is_some()
                && let Err(error) = store.remove_attribute(stream.log, &key)
            {
                tracing::error!(consumer = consumer.name(), %error, "the consumer is still kept");
            }
        }
        let hearings = hearings(id, &stream.config.name, consumer.name(), consumer.config());
        for (filter, tag) in hearings {
            self.outputs.hear(unsubscribe(filter, tag));
        }
        self.touch(log);
    }

    /// Ends the consumers of a stream that ends.
    pub(super) fn delete_consumers(
        &mut self,
        log: u32,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) {
        let ids: BTreeSet<u64> = self
            .streams
            .get(&log)
            .map(|stream| stream.consumers.keys().copied().collect())
            .unwrap_or_default();
        for id in ids {
            self.delete_consumer(log, id, now, store, interest);
        }
    }
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
