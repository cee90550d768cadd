//! The life of a consumer besides delivering: time passing, pauses, updates, inactivity, its end.
//!
//! A push consumer is used while somebody listens, a pull consumer while requests come or what it delivered is not yet due
//! again. It only says that it has expired: ending it is the engine's, because the store has to let it go first.

use bytes::Bytes;
use weir_protocol::jetstream::consumer::ConsumerConfig;
use weir_protocol::jetstream::{Timestamp, pull};

use super::filter::Filter;
use super::pull::earliest;
use super::{Consumer, Mode, View};

const MILLISECOND: i64 = 1_000_000;
/// How long before another attempt to read what could not be read.
const RETRY: i64 = 1_000 * MILLISECOND;

/// Why a consumer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It was deleted, or its stream.
    Deleted,
    /// The server shuts down; the consumer will be back.
    ServerShutdown,
}

/// Whether anybody still uses the consumer.
#[derive(Debug)]
pub(super) struct Lifecycle {
    /// How long without a client it lives, jitter included; 0 for ever.
    threshold: i64,
    /// When to look whether it is still used.
    look_at: Option<i64>,
    pub(super) expired: bool,
    /// When the pause that was announced ends.
    paused_until: Option<i64>,
}

impl Lifecycle {
    pub(super) fn new(config: &ConsumerConfig, view: &View<'_>) -> Self {
        let threshold = threshold(config, view);
        Self {
            threshold,
            look_at: (threshold > 0).then(|| view.now.saturating_add(threshold)),
            expired: false,
            paused_until: pause_end(config).filter(|end| view.now < *end),
        }
    }

    /// Interest in the deliver subject: with it a push consumer lives, without it the time runs.
    pub(super) fn interest(&mut self, active: bool, now: i64) {
        if active || self.threshold == 0 {
            self.look_at = None;
        } else if self.look_at.is_none() {
            self.look_at = Some(now.saturating_add(self.threshold));
        }
    }
}

/// The inactivity threshold with up to a second of jitter, so that many consumers do not end at once.
fn threshold(config: &ConsumerConfig, view: &View<'_>) -> i64 {
    let jitter = MILLISECOND.saturating_mul(100 + i64::try_from(view.random.below(900)).unwrap_or(0));
    match config.inactive_threshold {
        set if set > 0 && (!config.is_push() || !config.is_durable()) => set.saturating_add(jitter),
        set => set.max(0),
    }
}

fn pause_end(config: &ConsumerConfig) -> Option<i64> {
    config.pause_until.and_then(Timestamp::nanos)
}

impl Consumer {
    pub(super) fn pause_end(&self) -> Option<i64> {
        pause_end(&self.config)
    }

    /// The configuration with which nothing is delivered until `until` (nanoseconds since 1970); past or `None` to go on.
    #[must_use]
    pub fn paused_until(&self, until: Option<i64>) -> ConsumerConfig {
        let mut config = ConsumerConfig { pause_until: until.map(Timestamp), ..self.config.clone() };
        super::config::set_level_needed(&mut config);
        config
    }

    /// A client showed itself.
    pub(super) fn note_activity(&mut self, now: i64) {
        match &mut self.mode {
            Mode::Pull(pulls) => pulls.active_at = now,
            Mode::Push(_) => {
                if self.lifecycle.look_at.is_some() {
                    self.lifecycle.look_at = Some(now.saturating_add(self.lifecycle.threshold));
                }
            }
        }
    }

    /// Time passed: acks fall due, requests expire, heartbeats are sent, pauses end, inactivity is noticed.
    pub fn handle_timeout(&mut self, view: &mut View<'_>) {
        let now = view.now;
        for seq in self.unacked.take_due(now) {
            self.enqueue(seq, view);
        }
        if self.lifecycle.paused_until.is_some_and(|end| now >= end) {
            self.lifecycle.paused_until = None;
            self.advise_pause(view);
            self.wants_drive = true;
        }
        if self.pace.resume_at.is_some_and(|at| now >= at) {
            self.pace.resume_at = None;
            self.wants_drive = true;
        }
        if self.unreadable.as_ref().is_some_and(|(at, _)| now >= *at) {
            self.wants_drive = true;
        }
        let position = self.position();
        if let Mode::Pull(pulls) = &mut self.mode
            && pulls.wants_tidying(false, now)
        {
            pulls.tidy(false, position, now, view.interest, view.outputs);
        }
        self.beat(view);
        self.look_for_life(view);
    }

    /// Notices that nobody uses the consumer any more.
    fn look_for_life(&mut self, view: &mut View<'_>) {
        let (now, threshold) = (view.now, self.lifecycle.threshold);
        if self.lifecycle.look_at.is_none_or(|at| now < at) {
            return;
        }
        let position = self.position();
        let next = match &mut self.mode {
            Mode::Push(push) if push.active => None,
            Mode::Push(_) => Some(now),
            Mode::Pull(pulls) => {
                pulls.tidy(true, position, now, view.interest, view.outputs);
                let idle_until = pulls.active_at.saturating_add(threshold);
                if !pulls.is_empty() {
                    Some(now.saturating_add(threshold))
                } else {
                    // Somebody may be at work on what was delivered until its time is over.
                    let busy = self.unacked.iter().filter_map(|(_, entry)| entry.due).max();
                    Some(busy.map_or(idle_until, |due| idle_until.max(due.saturating_add(threshold))))
                }
            }
        };
        self.lifecycle.expired = next.is_some_and(|at| at <= now);
        self.lifecycle.look_at = next.filter(|at| *at > now);
    }

    /// When [`Self::handle_timeout`] and [`Self::drive`] are to be called at the latest; 0 for at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<i64> {
        if self.wants_drive {
            return Some(0);
        }
        let mut next = earliest(self.unacked.next_due(), self.lifecycle.look_at);
        next = earliest(next, self.lifecycle.paused_until);
        next = earliest(next, self.pace.resume_at);
        next = earliest(next, self.unreadable.as_ref().map(|(at, _)| *at));
        next = earliest(next, self.keeping.due_at());
        match &self.mode {
            Mode::Pull(pulls) => earliest(next, pulls.wake_at),
            Mode::Push(push) => earliest(next, push.heartbeat_at),
        }
    }

    /// A record could not be read: delivery stands still and is tried again.
    pub(super) fn stand_still(&mut self, error: String, view: &View<'_>) {
        if self.unreadable.as_ref().is_none_or(|(_, known)| *known != error) {
            tracing::error!(stream = view.stream, consumer = self.name, %error, "a consumer stands still");
        }
        self.unreadable = Some((view.now.saturating_add(RETRY), error));
    }

    /// Takes a configuration that [`super::config::check_update`] allowed and that is staged.
    pub fn update(&mut self, config: ConsumerConfig, view: &mut View<'_>) {
        let old = std::mem::replace(&mut self.config, config);
        if old.deliver_subject != self.config.deliver_subject {
            if let Mode::Push(push) = &mut self.mode {
                push.to = Bytes::copy_from_slice(self.config.deliver_subject.as_bytes());
            }
            // Whoever listens now has seen none of what is pending.
            let pending: Vec<u64> = self.unacked.iter().map(|(seq, _)| seq).collect();
            for seq in pending {
                self.enqueue(seq, view);
            }
        }
        self.handle_interest(view);
        if old.ack_wait != self.config.ack_wait || old.backoff != self.config.backoff {
            let waiting: Vec<(u64, i64)> = self
                .unacked
                .iter()
                .filter(|(_, entry)| entry.queued.is_none())
                .map(|(seq, entry)| (seq, entry.delivered_at))
                .collect();
            for (seq, delivered_at) in waiting {
                let due = self.due(seq, delivered_at);
                self.unacked.put_off(seq, due);
            }
        }
        if old.rate_limit_bps != self.config.rate_limit_bps {
            self.pace.set_rate(&self.config, view);
        }
        if old.inactive_threshold != self.config.inactive_threshold {
            self.lifecycle.threshold = threshold(&self.config, view);
            self.lifecycle.look_at = None;
            let active = matches!(&self.mode, Mode::Push(push) if push.active);
            self.lifecycle.interest(active, view.now);
        }
        let until = self.pause_end();
        if pause_end(&old) != until {
            self.lifecycle.paused_until = until.filter(|end| view.now < *end);
            self.advise_pause(view);
        }
        let filter = Filter::new(self.config.filters());
        if filter != self.filter {
            self.filter = filter;
            self.count.spoil();
        }
        self.keeping.must(view.now);
        self.wants_drive = true;
    }

    /// It was expired and cannot be deleted now: [`Self::is_expired`] is asked again in a second.
    pub fn put_off_end(&mut self, now: i64) {
        self.lifecycle.expired = false;
        self.lifecycle.look_at = Some(now.saturating_add(RETRY));
    }

    /// The consumer ends, or its server: tells whom it keeps waiting.
    pub fn close(&mut self, reason: CloseReason, view: &mut View<'_>) {
        if let Mode::Pull(pulls) = &mut self.mode {
            match reason {
                CloseReason::Deleted => {
                    pulls.end_all(view.outputs, |_, _| pull::status(409, "Consumer Deleted"))
                }
                CloseReason::ServerShutdown => pulls.end_all(view.outputs, |messages, bytes| {
                    pull::status_with_pending(409, "Server Shutdown", messages, bytes)
                }),
            }
        }
        if reason == CloseReason::Deleted {
            self.advise_action("delete", view);
        }
    }
}
