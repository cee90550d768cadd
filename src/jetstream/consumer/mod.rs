//! Consumers: what of a stream was delivered to whom, what is acknowledged, and what is to be delivered next.
//!
//! A deterministic state machine: it reads the [`Store`], is told the time, and leaves what it says in [`Outputs`]. It
//! delivers records up to the stream's durable sequence alone, so no position it keeps can be ahead of the stream after
//! a crash. `handle_*` only change state; [`Consumer::drive`] delivers, and is to be called after them. Deliberately
//! absent: the API's requests and answers, the clock, tasks, locks.
//!
//! What comes in: requests in `pull`, acknowledgements in `ack`, interest and flow control in `push`, records that leave in
//! `removal`, time in `lifecycle`. What goes out: messages in `deliver`, what is kept in `state`.

mod ack;
mod advisory;
pub mod config;
mod count;
mod deliver;
mod filter;
mod info;
mod lifecycle;
mod pace;
mod pull;
mod push;
mod removal;
mod start;
mod state;
pub mod stored;
mod unacked;

use bytes::Bytes;
use weir_protocol::jetstream::consumer::{AckPolicy, ConsumerConfig};
use weir_protocol::jetstream::stream::StreamConfig;
use weir_protocol::jetstream::{ApiError, ack as ack_wire};
use weir_storage::{LogId, Store};

use crate::jetstream::interest::Interest;
use crate::jetstream::output::Outputs;
use crate::sys::random::Random;

use count::Count;
use filter::Filter;
use lifecycle::Lifecycle;
use pace::Pace;
use pull::Pulls;
use push::Push;
use start::SkipList;
use state::Keeping;
use unacked::{Position, Unacked};

pub use config::Limits;
pub use lifecycle::CloseReason;
pub use removal::Removed;
pub use state::RestoreError;

/// What a consumer sees of the world while it is called.
pub struct View<'a> {
    /// Where the stream's records are.
    pub store: &'a Store,
    /// The stream's log.
    pub log: LogId,
    /// The stream's name.
    pub stream: &'a str,
    /// The stream's configuration.
    pub config: &'a StreamConfig,
    /// Who is subscribed to what.
    pub interest: &'a dyn Interest,
    /// Randomness for identifiers, jitter and sampling.
    pub random: &'a Random,
    /// Nanoseconds since 1970.
    pub now: i64,
    /// The JetStream domain, or empty; advisories name it.
    pub domain: &'a str,
    /// The highest API level requests may ask for.
    pub api_level: u32,
    /// The largest payload in bytes; the burst of a rate limit.
    pub max_payload: usize,
    /// Takes what is said.
    pub outputs: &'a mut Outputs,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("stream", &self.stream).field("now", &self.now).finish_non_exhaustive()
    }
}

/// How messages leave: pulled by requests or pushed to a subject.
#[derive(Debug)]
enum Mode {
    Pull(Pulls),
    Push(Push),
}

/// A consumer.
#[derive(Debug)]
pub struct Consumer {
    config: ConsumerConfig,
    name: String,
    created: i64,
    filter: Filter,
    mode: Mode,
    /// The next stream sequence to look at (while a skip list is worked off: of its next entry).
    next_seq: u64,
    delivered: Position,
    floor: Position,
    unacked: Unacked,
    skip: Option<SkipList>,
    count: Count,
    pace: Pace,
    lifecycle: Lifecycle,
    keeping: Keeping,
    /// `$JS.ACK.<stream>.<consumer>`.
    ack_prefix: Bytes,
    delivered_at: Option<i64>,
    acked_at: Option<i64>,
    /// Sequences acknowledged since the stream asked, where retention depends on it.
    acked: Vec<u64>,
    /// Who waits for the state to be staged: clients that asked whether their acknowledgement is kept.
    waiting: Vec<Bytes>,
    /// Something may be delivered that was not looked at.
    wants_drive: bool,
    /// A record could not be read: when to try again, and what was wrong.
    unreadable: Option<(i64, String)>,
}

impl Consumer {
    /// A new consumer at its start position; `config` is validated and its defaults are filled in
    /// ([`config::with_defaults`], [`config::validate`]). Says nothing: [`Self::announce`] does, once it is staged.
    ///
    /// # Errors
    /// 10104 when the stream cannot be read.
    pub fn create(
        config: ConsumerConfig,
        name: String,
        created: i64,
        view: &View<'_>,
    ) -> Result<Self, ApiError> {
        let mut consumer = Self::new(config, name, created, view);
        consumer.select_start(view).map_err(|error| start::unreadable(&error))?;
        consumer.count.spoil();
        Ok(consumer)
    }

    /// Says that it was created.
    pub fn announce(&self, view: &mut View<'_>) {
        self.advise_action("create", view);
        if self.is_paused(view.now) {
            self.advise_pause(view);
        }
    }

    /// The consumer as `state` ([`Self::due_state`]) left it; without a state (or with one of another version) it
    /// starts as a new one. Says nothing.
    ///
    /// # Errors
    /// When the stream cannot be read or the state is damaged.
    pub fn restore(
        config: ConsumerConfig,
        name: String,
        created: i64,
        state: Option<&[u8]>,
        view: &mut View<'_>,
    ) -> Result<Self, RestoreError> {
        let mut consumer = Self::new(config, name, created, view);
        match state {
            Some(state) => consumer.restore_state(state, view)?,
            None => consumer.select_start(view)?,
        }
        consumer.count.spoil();
        Ok(consumer)
    }

    fn new(config: ConsumerConfig, name: String, created: i64, view: &View<'_>) -> Self {
        let mode = if config.is_push() {
            Mode::Push(Push::new(&config, view.now))
        } else {
            Mode::Pull(Pulls::new(config.max_waiting, view.now))
        };
        let ack_prefix =
            Bytes::from([ack_wire::PREFIX, view.stream.as_bytes(), b".", name.as_bytes()].concat());
        let mut consumer = Self {
            filter: Filter::new(config.filters()),
            mode,
            next_seq: 1,
            delivered: Position::default(),
            floor: Position::default(),
            unacked: Unacked::default(),
            skip: None,
            count: Count::default(),
            pace: Pace::new(&config, view),
            lifecycle: Lifecycle::new(&config, view),
            keeping: Keeping::new(&config, view.config),
            ack_prefix,
            delivered_at: None,
            acked_at: None,
            acked: Vec::new(),
            waiting: Vec::new(),
            wants_drive: true,
            unreadable: None,
            config,
            name,
            created,
        };
        consumer.handle_interest(view);
        consumer
    }

    /// The configuration, defaults filled in, without the metadata added to answers.
    #[must_use]
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it was created, in nanoseconds since 1970.
    #[must_use]
    pub fn created(&self) -> i64 {
        self.created
    }

    /// A record was staged. Optional: it spares a look at the store.
    pub fn handle_appended(&mut self, seq: u64, subject: &[u8]) {
        let is_ahead = seq >= self.first_counted();
        self.count.appended(seq, || is_ahead && self.filter.matches(subject));
    }

    /// Whether it is paused at `now`.
    #[must_use]
    pub fn is_paused(&self, now: i64) -> bool {
        self.pause_end().is_some_and(|end| now < end)
    }

    /// Whether its inactivity threshold has passed: the stream deletes it then.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.lifecycle.expired
    }

    /// Whether the consumer is to be kept across a restart: not one that serves a passing client alone.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.keeping.is_kept()
    }

    /// The state to be kept as an attribute of the log, when it is time for it: at once for a double ack; with the next
    /// group (`riding`: something else is sealed anyway) for plain acks; else 250 ms or 1,000 deliveries after the last.
    /// The caller stages it before it seals and says how that went: [`Self::state_staged`] or [`Self::state_refused`].
    #[must_use]
    pub fn due_state(&self, now: i64, riding: bool) -> Option<Vec<u8>> {
        self.keeping.is_due(now, riding).then(|| self.encode_state())
    }

    /// The state, when it is not kept as it is: for a last write.
    #[must_use]
    pub fn unkept_state(&self) -> Option<Vec<u8>> {
        self.keeping.is_dirty().then(|| self.encode_state())
    }

    /// The state as it is, when it is one that is kept.
    #[must_use]
    pub fn whole_state(&self) -> Option<Vec<u8>> {
        self.keeping.is_state_kept().then(|| self.encode_state())
    }

    /// The state as it is now is staged: who waited for it is answered once it is durable.
    pub fn state_staged(&mut self, now: i64, outputs: &mut Outputs) {
        self.keeping.written(now);
        for reply in self.waiting.drain(..) {
            outputs.held(reply, Bytes::new(), Bytes::new());
        }
    }

    /// The store took no state: it stays to be kept and is tried again, and who waits for it goes on waiting. Says
    /// whether the refusal is the first of a row.
    pub fn state_refused(&mut self, now: i64) -> bool {
        self.keeping.refused(now)
    }

    /// Whether so many wait for the state that it should be staged now.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.waiting.len() >= ack::WAITING_MAX / 2
    }

    /// Whether the stream must keep the record for this consumer: not acknowledged, and not given up.
    #[must_use]
    pub fn needs(&self, seq: u64, subject: &[u8]) -> bool {
        if !self.filter.matches(subject) {
            return false;
        }
        let wanted = match self.config.ack_policy {
            AckPolicy::None | AckPolicy::All | AckPolicy::FlowControl => seq > self.floor.stream,
            AckPolicy::Explicit => {
                seq > self.floor.stream && (seq >= self.next_seq || self.unacked.get(seq).is_some())
            }
        };
        wanted || self.unacked.redelivered().contains_key(&seq)
    }

    /// The sequences acknowledged since the last call, for streams whose retention depends on it.
    pub fn take_acked(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.acked)
    }
}

#[cfg(test)]
mod tests;
