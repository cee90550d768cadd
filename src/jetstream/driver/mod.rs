//! The driver: one thread that owns the engine and the store.
//!
//! Each turn it takes what the broker pushed into the inbox, hands it to the engine, sends what may be sent now, and seals
//! what was staged; the answers travel with the chunk and leave on the journal's thread once it is durable (durable, then
//! visible, then answered). While the journal syncs one group, turns go on and fill the next.
//!
//! All that the engine must not know is here: time, threads, the broker, back-pressure, and what to do when a sync fails.
//! No decision about a stream or a consumer is.

mod inbox;
mod subscriptions;
mod time;
mod waiting;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use weir_storage::{Disk, OpenError, Options, Store};

use super::context::EngineConfig;
use super::engine::Engine;
use super::output::Message;
use crate::broker::{Broker, ServerMessage};
use crate::sys::clock::SharedClock;
use crate::sys::task;
use inbox::Inbox;
use subscriptions::Subscriptions;
use time::Time;
use waiting::Waiting;

/// What is staged goes to the journal at this size at the latest, or at a quarter of a journal file.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// The longest sleep: wall time may be set while the driver sleeps towards a timeout.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// From this pressure on the journal is ahead of redb and turns are slowed down.
const PRESSURE_SLOW: u8 = 50;
/// From here on nothing is taken until it has sunk: what is left holds the chunks under way.
const PRESSURE_FULL: u8 = 90;

/// How JetStream is started.
#[derive(Clone)]
pub struct DriverConfig {
    /// The folder that the store lives in.
    pub disk: Arc<dyn Disk>,
    /// Size of a journal file in bytes.
    pub journal_file_bytes: u64,
    /// redb's cache in bytes.
    pub cache_bytes: usize,
    /// What the engine is told.
    pub engine: EngineConfig,
    /// Time.
    pub clock: SharedClock,
}

/// Why JetStream does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// No thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running JetStream.
#[derive(Debug)]
pub struct Driver {
    inbox: Arc<Inbox>,
    health: StoreHealth,
    thread: JoinHandle<Result<(), String>>,
}

/// Whether the store can be written, as the driver saw it last. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StoreHealth(Arc<Mutex<Option<String>>>);

impl StoreHealth {
    /// What keeps the store from being written: changes are refused, or its database does not follow the journal.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, trouble: Option<&str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != trouble {
            *known = trouble.map(str::to_owned);
        }
    }
}

/// Opens the store, restores every stream and consumer, and starts to serve them at `broker`. `alive` is dropped when the
/// thread has ended, by whatever way.
///
/// # Errors
/// See [`StartError`]; nothing is served then.
pub fn start(broker: Broker, config: DriverConfig, alive: impl Send + 'static) -> Result<Driver, StartError> {
    let inbox = Arc::new(Inbox::new(broker.clone()));
    let wake = Arc::clone(&inbox);
    let options = Options {
        journal_file_bytes: config.journal_file_bytes,
        cache_bytes: config.cache_bytes,
        wake: Arc::new(move || wake.wake()),
        ..Options::default()
    };
    // A chunk never spans journal files, and the largest message takes half of one.
    let chunk_bytes_max = usize::try_from(config.journal_file_bytes / 4)
        .map_or(CHUNK_BYTES_MAX, |bytes| bytes.min(CHUNK_BYTES_MAX));
    let store = Store::open(Arc::clone(&config.disk), options)?;
    let health = StoreHealth::default();
    let mut worker = Worker {
        engine: Engine::new(config.engine),
        store,
        time: Time::new(config.clock),
        subscriptions: Subscriptions::new(broker.clone(), Arc::clone(&inbox)),
        broker,
        inbox: Arc::clone(&inbox),
        _end: EndOfThread { health: health.clone() },
        health: health.clone(),
        failure: None,
        is_stuck: false,
        waiting: Arc::default(),
        chunk_bytes_max,
    };
    worker.restore();
    let now = worker.time.now();
    worker.engine.resume_mirrors(now, &mut worker.store, &worker.broker);
    let thread = task::thread("jetstream", move || {
        let _ends_last = alive;
        worker.run()
    })?;
    Ok(Driver { inbox, health, thread })
}

impl Driver {
    /// Whether the store can be written.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        self.health.clone()
    }

    /// Answers waiting pull requests with `409 Server Shutdown`, makes everything durable, moves it to redb, closes the
    /// store: begins with that, and waits for nothing.
    pub fn begin_stop(&self) {
        self.inbox.close();
    }

    /// Stops, and waits until it is done.
    ///
    /// # Errors
    /// What the store says when it cannot be closed in order; what was answered is on disk all the same.
    pub fn stop(self) -> Result<(), String> {
        self.begin_stop();
        self.thread.join().unwrap_or_else(|_| Err("the jetstream thread panicked".to_owned()))
    }
}

/// After a panic there is no JetStream any more, and that can be seen.
struct EndOfThread {
    health: StoreHealth,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.health.set(Some("the jetstream thread has panicked"));
        }
    }
}

struct Worker {
    /// First, so that a panic is seen, and nobody is listened to any more, before the store has done what it was at.
    _end: EndOfThread,
    subscriptions: Subscriptions,
    engine: Engine,
    store: Store,
    time: Time,
    broker: Broker,
    inbox: Arc<Inbox>,
    health: StoreHealth,
    /// The answers that wait for the journal.
    waiting: Arc<Waiting>,
    chunk_bytes_max: usize,
    /// What the store failed with, until the engine is made anew.
    failure: Option<String>,
    /// It was logged that the database cannot be written.
    is_stuck: bool,
}

impl Worker {
    fn run(mut self) -> Result<(), String> {
        let mut batch = Vec::new();
        loop {
            let sleep = self.sleep();
            let more = self.inbox.take(&mut batch, sleep);
            for input in batch.drain(..) {
                let now = self.time.now();
                self.engine.handle(now, input, &mut self.store, &self.broker);
                if self.failure.is_some() && self.store.refusing().is_none() {
                    // It freed space, and the store has recovered: nothing more is taken by an engine that knows too much.
                    self.attend();
                }
                if self.store.staged_bytes() >= self.chunk_bytes_max || self.engine.outputs().is_full() {
                    // Mirrors of streams in memory come first: what is acknowledged is copied, or noted as not yet copied.
                    self.engine.handle_durable(now, &mut self.store, &self.broker);
                    self.release();
                    self.waiting.wait_for_room();
                    self.slow_down();
                }
            }
            self.attend();
            if !more {
                return self.close();
            }
            self.slow_down();
        }
    }

    /// What a turn does besides its inputs: news of the store, timeouts, outputs.
    fn attend(&mut self) {
        let events = self.store.process();
        if let Some(reason) = events.failed {
            tracing::error!(
                "JetStream cannot write: {reason}; until it can, every change is answered with an error"
            );
            self.failure = Some(reason);
        }
        if self.store.refusing().is_none()
            && let Some(reason) = self.failure.take()
        {
            self.rebuild(&reason);
        }
        self.tell_whether_stuck();
        self.health.set(self.store.refusing().or(self.store.stuck()));
        let now = self.time.now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now, &mut self.store, &self.broker);
        }
        self.engine.handle_durable(now, &mut self.store, &self.broker);
        self.release();
        self.waiting.wait_for_room();
    }

    /// Logs when the database begins to fall behind because it cannot be written, and when it follows again; not while
    /// nothing is written at all, for that is logged already.
    fn tell_whether_stuck(&mut self) {
        if self.failure.is_some() || self.store.stuck().is_some() == self.is_stuck {
            return;
        }
        self.is_stuck = !self.is_stuck;
        if let Some(reason) = self.store.stuck() {
            tracing::error!(
                "JetStream's database cannot be written: {reason}; until it can, changes stay in the journal alone, as \
                 long as it has room"
            );
        } else {
            tracing::warn!("JetStream's database is written again");
        }
    }

    /// Lets everything out that the engine has to say: changes of subscriptions, what may be sent now, and behind the
    /// journal what must wait. Here acknowledgements of publishes are released: by the closure that the journal's thread
    /// calls once what they speak of is synced.
    fn release(&mut self) {
        let outputs = self.engine.outputs();
        for change in outputs.take_subscription_changes() {
            self.subscriptions.change(change);
        }
        self.broker.publish_all(outputs.take_now().iter().map(routed));
        let bytes = outputs.held_bytes();
        let held = outputs.take_held();
        if held.is_empty() && self.store.staged_bytes() == 0 {
            return;
        }
        let place = self.waiting.place(bytes);
        let broker = self.broker.clone();
        self.store.seal(Box::new(move |result| {
            match result {
                Ok(()) => broker.publish_all(held.iter().map(|held| routed(&held.message))),
                Err(why) => {
                    let failed: Vec<_> = held.into_iter().filter_map(|held| held.failed(&why)).collect();
                    broker.publish_all(failed.iter().map(routed));
                }
            }
            drop(place);
        }));
    }

    /// Brings all streams and consumers back from the store, at the start and after a failed sync.
    fn restore(&mut self) {
        let now = self.time.now();
        self.engine.restore(now, &mut self.store, &self.broker);
        self.release();
    }

    /// Once the store has recovered from a failed write it holds what was answered and nothing else; the state machines
    /// on top know more than that. They are thrown away and made anew. Waiting pulls are told to come again.
    fn rebuild(&mut self, reason: &str) {
        let now = self.time.now();
        self.engine.dismiss(now, &mut self.store, &self.broker);
        let outputs = self.engine.outputs();
        self.broker.publish_all(outputs.take_now().iter().map(routed));
        let failed: Vec<_> = outputs.take_held().into_iter().filter_map(|held| held.failed(reason)).collect();
        self.broker.publish_all(failed.iter().map(routed));
        self.subscriptions.forget_all();
        self.engine = self.engine.successor();
        self.restore();
        tracing::warn!("JetStream writes again; it goes on from what was acknowledged");
    }

    fn close(mut self) -> Result<(), String> {
        let now = self.time.now();
        self.engine.shutdown(now, &mut self.store, &self.broker);
        self.release();
        self.subscriptions.forget_all();
        self.store.close()
    }

    fn sleep(&mut self) -> Duration {
        let Some(at) = self.engine.poll_timeout() else { return SLEEP_MAX };
        let left = at.saturating_sub(self.time.now());
        Duration::from_nanos(u64::try_from(left).unwrap_or(0)).min(SLEEP_MAX)
    }

    /// Publishers feel it when redb cannot follow the journal: more the fuller the journal is, and before it is full they
    /// wait until redb has followed, unless something keeps it from that.
    fn slow_down(&mut self) {
        loop {
            let pressure = self.store.pressure();
            if pressure <= PRESSURE_SLOW {
                return;
            }
            let over = u64::from(pressure - PRESSURE_SLOW);
            std::thread::sleep(Duration::from_micros(over * over * 4));
            if pressure < PRESSURE_FULL || self.store.refusing().is_some() || self.store.stuck().is_some() {
                return;
            }
            self.attend();
        }
    }
}

/// A message as the broker takes it.
fn routed(message: &Message) -> ServerMessage<'_> {
    let Message { to, subject, reply, headers, payload, .. } = message;
    ServerMessage { to, subject, reply, headers, payload }
}

impl fmt::Debug for DriverConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriverConfig")
            .field("disk", &self.disk)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}
