//! The consumers of the streams: finding them, driving them, keeping their state, ending them.
//!
//! What is answered is staged first: a change of a consumer that the store refuses is refused, and nothing of it shows in
//! memory. The state behind plain deliveries and acknowledgements is promised to nobody: refused, it waits and is tried
//! again.

use weir_protocol::jetstream::consumer::ConsumerConfig;
use weir_protocol::jetstream::error::{self, ApiError};
use weir_storage::Store;

use super::Engine;
use super::subscriptions::of_consumer;
use crate::jetstream::consumer::{CloseReason, Consumer, View, stored};
use crate::jetstream::context::{Context, context};
use crate::jetstream::interest::Interest;
use crate::jetstream::output::Outputs;
use crate::jetstream::stream::Stream;

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

impl Stream {
    /// Calls one of the stream's consumers.
    pub(in crate::jetstream) fn with_consumer<T>(
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
        match stored::stage_state(consumer, &state, self.log, store) {
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
    pub(in crate::jetstream) fn with_consumer(
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
    pub(in crate::jetstream) fn add_consumer(&mut self, log: u32, consumer: Consumer) -> u64 {
        let id = self.next_consumer;
        self.next_consumer += 1;
        let Some(stream) = self.streams.get_mut(&log) else { return id };
        let filters = of_consumer(id, &stream.config.name, consumer.name(), consumer.config());
        stream.consumer_ids.insert(consumer.name().to_owned(), id);
        stream.consumers.insert(id, consumer);
        self.consumers.insert(id, log);
        self.change_subscriptions(&[], &filters);
        self.touched_consumers.insert(id);
        self.touch(log);
        id
    }

    /// Takes another configuration for a consumer, once it is staged.
    pub(in crate::jetstream) fn update_consumer(
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
        stored::stage_config(consumer, &config, stream.log, store)?;
        let before = of_consumer(id, &name, consumer.name(), consumer.config());
        let after = of_consumer(id, &name, consumer.name(), &config);
        let mut context = context!(self, now, store, interest);
        stream.with_consumer(id, &mut context, |consumer, view| consumer.update(config, view));
        self.change_subscriptions(&before, &after);
        self.touched_consumers.insert(id);
        Ok(())
    }

    /// Sets a consumer back ([`Consumer::reset`]); what is answered is staged.
    pub(in crate::jetstream) fn set_consumer_back(
        &mut self,
        log: u32,
        id: u64,
        seq: u64,
        context: (i64, &mut Store, &dyn Interest),
    ) -> Result<u64, ApiError> {
        let (now, store, interest) = context;
        let Some(stream) = self.streams.get_mut(&log) else { return Err(error::CONSUMER_NOT_FOUND.error()) };
        let Some(consumer) = stream.consumers.get(&id) else { return Err(error::CONSUMER_NOT_FOUND.error()) };
        stored::admits_bare_state(consumer, store)?;
        let mut context = context!(self, now, store, interest);
        let reset = stream.with_consumer(id, &mut context, |consumer, view| consumer.reset(seq, view));
        let seq = reset.ok_or_else(|| error::CONSUMER_NOT_FOUND.error())??;
        if let Some(consumer) = stream.consumers.get_mut(&id).filter(|consumer| consumer.is_kept())
            && let Some(state) = consumer.whole_state()
        {
            stored::stage_state(consumer, &state, stream.log, store).map_err(stored::refused)?;
            consumer.state_staged(now, &mut self.outputs);
        }
        self.touched_consumers.insert(id);
        Ok(seq)
    }

    /// Ends a consumer and forgets what is kept of it.
    ///
    /// # Errors
    /// 10104 when the store does not take it; the consumer goes on then.
    pub(in crate::jetstream) fn delete_consumer(
        &mut self,
        log: u32,
        id: u64,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) -> Result<(), ApiError> {
        let Some(stream) = self.streams.get(&log) else { return Ok(()) };
        let Some(consumer) = stream.consumers.get(&id) else { return Ok(()) };
        stored::forget(consumer.name(), stream.log, store)?;
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
        let filters = of_consumer(id, &stream.config.name, consumer.name(), consumer.config());
        self.change_subscriptions(&filters, &[]);
        self.touch(log);
    }

    /// Ends the consumers of a stream whose log, and all that was kept in it, is dropped.
    pub(in crate::jetstream) fn end_consumers(
        &mut self,
        log: u32,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) {
        let Some(stream) = self.streams.get(&log) else { return };
        for id in stream.consumers.keys().copied().collect::<Vec<_>>() {
            self.end_consumer(log, id, now, store, interest);
        }
    }
}
