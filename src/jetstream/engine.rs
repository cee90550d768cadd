//! The engine: all streams with their consumers, as one deterministic state machine.
//!
//! The engine performs no IO but reads of the [`Store`] and staging into it, and reads no clock. Its owner calls
//! [`Engine::handle`] with each input, [`Engine::handle_durable`] after each batch of inputs and whenever the store
//! says that something became durable, drains [`Engine::outputs`], seals the store with what is held, and sleeps until
//! [`Engine::poll_timeout`]. `now` may jump; messages' times still never go backwards within a stream.
//!
//! What crosses streams is decided here: names, overlapping subjects, and the feeding of mirrors and sources. After a
//! failed sync the engine is thrown away and a new one restored from the store.

mod consumers;
mod restore;
mod resume_mirrors;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_protocol::jetstream::stream::StreamConfig;
use weir_storage::Store;

use super::consumer::CloseReason;
use super::context::{EngineConfig, Hold, context};
use super::input::{Input, Tag};
use super::interest::Interest;
use super::output::Outputs;
use super::stream::config::{HOLD, Neighbours};
use super::stream::{Progress, Stream};
use consumers::When;
use restore::Offline;

/// Copies staged in one call before the owner gets to seal; a store takes a chunk of a journal file at the most.
const COPIED_BYTES_MAX: usize = 1 << 20;

/// How much the API was used since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ApiStats {
    pub(super) total: u64,
    pub(super) errors: u64,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) outputs: Outputs,
    pub(super) streams: BTreeMap<u32, Stream>,
    pub(super) names: BTreeMap<String, u32>,
    /// The stream of each consumer.
    pub(super) consumers: HashMap<u64, u32>,
    next_consumer: u64,
    pub(super) holds: BTreeMap<u32, Vec<Hold>>,
    /// The streams that copy from each name.
    dependents: BTreeMap<String, BTreeSet<u32>>,
    /// Streams that may have something to tell their consumers and dependents.
    touched: BTreeSet<u32>,
    /// Consumers that may have something to deliver.
    touched_consumers: BTreeSet<u64>,
    /// Those of them that wait until there is room for what they deliver.
    undriven: BTreeSet<u64>,
    /// Whose turn to deliver it is.
    next_driven: u64,
    /// Streams that copy and may have something to copy.
    hungry: BTreeSet<u32>,
    timers: BTreeSet<(i64, u32)>,
    /// Streams that the store keeps and that cannot be served, by log.
    pub(super) offline: BTreeMap<u32, Offline>,
    pub(super) api: ApiStats,
}

impl Neighbours for (&BTreeMap<String, u32>, &BTreeMap<u32, Stream>) {
    fn config_of(&self, name: &str) -> Option<&StreamConfig> {
        self.1.get(self.0.get(name)?).map(|stream| &stream.config)
    }
}

impl Engine {
    /// An engine without streams.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            config,
            outputs: Outputs::default(),
            streams: BTreeMap::new(),
            names: BTreeMap::new(),
            consumers: HashMap::new(),
            next_consumer: 1,
            holds: BTreeMap::new(),
            dependents: BTreeMap::new(),
            touched: BTreeSet::new(),
            touched_consumers: BTreeSet::new(),
            undriven: BTreeSet::new(),
            next_driven: 0,
            hungry: BTreeSet::new(),
            timers: BTreeSet::new(),
            offline: BTreeMap::new(),
            api: ApiStats::default(),
        }
    }

    /// An engine to go on with in this one's place. What is still under way to a consumer of this one finds nobody there: it
    /// must not be taken for another's.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self { next_consumer: self.next_consumer, ..Self::new(self.config.clone()) }
    }

    /// Takes up the streams and consumers that the store keeps, and asks to hear what concerns them. What is damaged is
    /// offline: named in the log, in lists, and in the answer to each request to it.
    pub fn restore(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        self.listen_to_api();
        self.restore_streams(now, store, interest);
    }

    /// What was said since the last call of its `take_*`.
    pub fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    /// Takes an input. Nothing is delivered to consumers before [`Self::handle_durable`].
    pub fn handle(&mut self, now: i64, input: Input, store: &mut Store, interest: &dyn Interest) {
        match input {
            Input::Message { tag, subject, reply, headers, payload } => match tag {
                Tag::Stream(id) => {
                    let Some(stream) = self.streams.get_mut(&id) else { return };
                    let mut context = context!(self, now, store, interest);
                    stream.handle_publish(&subject, reply, &headers, &payload, &mut context);
                    self.touched.insert(id);
                }
                Tag::DirectGet(id) => {
                    let Some(stream) = self.streams.get(&id) else { return };
                    let mut context = context!(self, now, store, interest);
                    stream.handle_direct_get(&reply, &headers, &payload, &mut context);
                }
                Tag::DirectGetSubject(id) => {
                    let Some(stream) = self.streams.get(&id) else { return };
                    let mut context = context!(self, now, store, interest);
                    stream.handle_direct_get_subject(&subject, &reply, &headers, &payload, &mut context);
                }
                Tag::Api => self.handle_api(now, &subject, &reply, &headers, &payload, store, interest),
                Tag::Pull(id) => self.with_consumer(id, now, store, interest, |consumer, view| {
                    consumer.handle_pull(&reply, &headers, &payload, view);
                }),
                Tag::Ack(id) => self.with_consumer(id, now, store, interest, |consumer, view| {
                    consumer.handle_ack(&subject, &reply, &payload, view);
                }),
                Tag::Flow(id) => self.with_consumer(id, now, store, interest, |consumer, view| {
                    consumer.handle_flow_reply(&subject, &headers, view);
                }),
                Tag::Reset(id) => self.reset_consumer(id, now, &reply, &headers, &payload, store, interest),
                Tag::Interest(_) => {}
            },
            Input::InterestChanged { tag: Tag::Interest(id) } => {
                self.with_consumer(id, now, store, interest, |consumer, view| consumer.handle_interest(view));
            }
            Input::InterestChanged { .. } => {}
        }
    }

    /// Delivers and copies what is durable by now. Call it after each batch of inputs, and whenever the store says that
    /// something became durable; consumers' states are staged here, so seal after it.
    pub fn handle_durable(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        // Streams in memory are durable at once, so copying may go on from stream to stream within one call.
        for _ in 0..8 {
            let told = self.tell_durable(now, store, interest);
            let fed = self.feed(now, store, interest);
            if (!told && !fed) || store.staged_bytes() >= COPIED_BYTES_MAX {
                break;
            }
        }
        self.drive_touched(now, store, interest);
        self.keep_consumers(now, store);
        self.renew_timers(store);
    }

    /// Tells consumers and dependents of touched streams how far the stream is durable; says whether any moved on.
    fn tell_durable(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) -> bool {
        let mut moved = false;
        for id in std::mem::take(&mut self.touched) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let state = stream.state(store);
            let durable = state.durable_seq > stream.told_seq;
            if durable {
                stream.told_seq = state.durable_seq;
                self.touched_consumers.extend(stream.consumers.keys());
            }
            let copyable = stream.copyable_seq(store);
            if (durable || copyable > stream.offered_seq)
                && let Some(dependents) = self.dependents.get(&stream.config.name)
            {
                self.hungry.extend(dependents);
                moved |= !dependents.is_empty();
            }
            stream.offered_seq = copyable;
            self.renew_timer(id, store);
            if state.durable_seq < state.last_seq {
                self.touched.insert(id);
            }
        }
        if moved {
            // Consumers of what is copied are driven with the rest; those of the origin need not wait for the copy.
            self.drive_touched(now, store, interest);
        }
        moved
    }

    /// Copies into the streams that are hungry; says whether anything moved.
    fn feed(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) -> bool {
        let mut moved = false;
        for id in std::mem::take(&mut self.hungry) {
            let Some(mut stream) = self.streams.remove(&id) else { continue };
            let before = stream.state(store).last_seq;
            let mut progress = Progress::Done;
            let mut context = context!(self, now, store, interest);
            let origin = |name: &str| self.names.get(name).and_then(|id| self.streams.get(id));
            if let Some(origin) = stream.config.mirror.as_ref().and_then(|mirror| origin(&mirror.name)) {
                progress = stream.feed_mirror(origin, &mut context);
                if stream.config.metadata.contains_key(HOLD) {
                    stream.note_behind(origin, &mut context);
                }
            }
            for index in 0..stream.sources.len() {
                let Some(origin) = stream.sources.get(index).and_then(|source| origin(&source.config.name))
                else {
                    continue;
                };
                if stream.feed_source(index, origin, &mut context) == Progress::More {
                    progress = Progress::More;
                }
            }
            stream.forget_failures(|name| self.names.contains_key(name));
            let after = stream.state(store).last_seq;
            moved |= after > before;
            self.streams.insert(id, stream);
            if progress == Progress::More {
                self.hungry.insert(id);
            }
            self.touched.insert(id);
            self.renew_hold(id, after);
        }
        moved
    }

    /// Notes how far a mirror that holds back its origin has come.
    fn renew_hold(&mut self, mirror: u32, copied_seq: u64) {
        let Some(stream) = self.streams.get(&mirror) else { return };
        let Some(bytes) = stream.config.metadata.get(HOLD).and_then(|bytes| bytes.parse().ok()) else {
            return;
        };
        let origin = stream.config.mirror.as_ref().and_then(|config| self.names.get(&config.name));
        let Some(origin) = origin else { return };
        let holds = self.holds.entry(*origin).or_default();
        holds.retain(|hold| hold.mirror != mirror);
        holds.push(Hold { mirror, bytes, copied_seq });
    }

    fn renew_timers(&mut self, store: &Store) {
        let touched: Vec<u32> = self.touched.iter().copied().collect();
        for id in touched {
            self.renew_timer(id, store);
        }
    }

    fn renew_timer(&mut self, id: u32, store: &Store) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let due = [stream.poll_timeout(store), stream.origin_timeout()].into_iter().flatten().min();
        if due != stream.timer {
            if let Some(old) = stream.timer {
                self.timers.remove(&(old, id));
            }
            stream.timer = due;
            if let Some(due) = due {
                self.timers.insert((due, id));
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called at the latest; 0 for at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<i64> {
        if !self.hungry.is_empty() || !self.touched_consumers.is_empty() {
            return Some(0);
        }
        [self.timers.first().map(|(due, _)| *due), self.restore_timeout()].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        self.restore_again(now, store, interest);
        let due: Vec<u32> =
            self.timers.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
        for id in due {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let mut context = context!(self, now, store, interest);
            stream.handle_timeout(&mut context);
            if stream.origin_timeout().is_some_and(|at| at <= now) {
                self.hungry.insert(id);
            }
            self.touched.insert(id);
            self.time_out_consumers(id, now, store, interest);
        }
        self.handle_durable(now, store, interest);
    }

    /// The server stops: whoever waits is told, and states are staged.
    pub fn shutdown(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        self.touched_consumers = self.dismiss(now, store, interest);
        self.keep_touched(now, When::Stopping, store);
    }

    /// Tells those who wait that nothing more comes from this engine, and keeps nothing: after a failed write it knows more
    /// than the store does. Returns the consumers.
    pub fn dismiss(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) -> BTreeSet<u64> {
        let consumers: BTreeSet<u64> =
            self.streams.values().flat_map(|stream| stream.consumers.keys().copied()).collect();
        for id in &consumers {
            self.with_consumer(*id, now, store, interest, |consumer, view| {
                consumer.close(CloseReason::ServerShutdown, view);
            });
        }
        consumers
    }

    /// Marks a stream: its consumers, dependents and timers are looked at with the next [`Self::handle_durable`].
    pub(super) fn touch(&mut self, id: u32) {
        self.touched.insert(id);
    }

    /// Marks a stream that copies.
    pub(super) fn make_hungry(&mut self, id: u32) {
        self.hungry.insert(id);
    }

    /// Those who copy from `name` are to look whether it is there now.
    pub(super) fn wake_dependents(&mut self, name: &str) {
        if let Some(dependents) = self.dependents.get(name) {
            self.hungry.extend(dependents);
        }
    }

    /// Notes from which names a stream copies.
    pub(super) fn depend(&mut self, id: u32) {
        self.depend_no_more(id);
        let Some(stream) = self.streams.get(&id) else { return };
        let origins = stream.config.mirror.iter().chain(&stream.config.sources);
        for name in origins.map(|origin| origin.name.clone()).collect::<Vec<_>>() {
            self.dependents.entry(name).or_default().insert(id);
        }
    }

    /// Forgets from which names a stream copies, and what it holds back.
    fn depend_no_more(&mut self, id: u32) {
        self.dependents.retain(|_, dependents| {
            dependents.remove(&id);
            !dependents.is_empty()
        });
        self.holds.retain(|_, holds| {
            holds.retain(|hold| hold.mirror != id);
            !holds.is_empty()
        });
    }

    /// Forgets what is kept for a stream that is gone.
    pub(super) fn forget_stream(&mut self, id: u32, stream: &Stream) {
        if let Some(due) = stream.timer {
            self.timers.remove(&(due, id));
        }
        self.touched.remove(&id);
        self.hungry.remove(&id);
        self.holds.remove(&id);
        self.depend_no_more(id);
    }
}

#[cfg(test)]
mod tests;
