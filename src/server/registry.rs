//! Every connection that is, the latest that were, and the counts of both.
//!
//! A connection is admitted, refused for the limit or refused for the end of the server under one lock, so none slips in
//! behind the last look. What is kept of those that were is bounded by `max_closed_clients`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_protocol::error::ClosedReason;

use crate::broker::{ConnectionInfo, Peer};

/// All connections of a server.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    last_id: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<u64, Arc<Peer>>,
    closed: VecDeque<Closed>,
    stopped: bool,
    counts: Counts,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: u64,
    pub(super) slow_consumers_pending: u64,
    pub(super) slow_consumers_deadline: u64,
    pub(super) stale_connections: u64,
}

/// A connection that has ended.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) info: Arc<ConnectionInfo>,
    pub(super) stop: i64,
    pub(super) last_activity: i64,
    pub(super) reason: ClosedReason,
    /// Messages and bytes from and to the client.
    pub(super) received: (u64, u64),
    pub(super) delivered: (u64, u64),
}

/// Whether a connection may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Welcome,
    TooMany,
    Stopped,
}

impl Registry {
    pub(super) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Adds a connection, unless there are `max` already or the server stops.
    pub(super) fn add(&self, peer: &Arc<Peer>, max: usize) -> Admission {
        let mut state = self.lock();
        if state.stopped {
            return Admission::Stopped;
        }
        state.counts.connections += 1;
        if state.open.len() >= max {
            return Admission::TooMany;
        }
        state.open.insert(peer.id, Arc::clone(peer));
        Admission::Welcome
    }

    /// Takes a connection out and keeps what there was to know of it, with `keep` others at most.
    pub(super) fn remove(&self, peer: &Peer, stop: i64, keep: usize) {
        let reason = peer.outbox.ended_by().unwrap_or(ClosedReason::ClientClosed);
        let closed = Closed {
            last_activity: peer.received.last.load(Ordering::Relaxed).max(peer.info().start),
            info: peer.info(),
            stop,
            reason,
            received: peer.received.counts(),
            delivered: peer.outbox.delivered(),
        };
        let mut state = self.lock();
        let counts = &mut state.counts;
        counts.slow_consumers_pending += u64::from(reason == ClosedReason::SlowConsumerPendingBytes);
        counts.slow_consumers_deadline += u64::from(reason == ClosedReason::SlowConsumerWriteDeadline);
        counts.stale_connections += u64::from(reason == ClosedReason::StaleConnection);
        state.open.remove(&peer.id);
        state.closed.push_back(closed);
        let surplus = state.closed.len().saturating_sub(keep);
        state.closed.drain(..surplus);
    }

    /// From now on nobody is added; returns everybody who is here.
    pub(super) fn stop(&self) -> Vec<Arc<Peer>> {
        let mut state = self.lock();
        state.stopped = true;
        state.open.values().cloned().collect()
    }

    /// Everybody who is here, by id.
    pub(super) fn open(&self) -> Vec<Arc<Peer>> {
        self.lock().open.values().cloned().collect()
    }

    /// The latest who went, the first to go first.
    pub(super) fn closed(&self) -> Vec<Closed> {
        self.lock().closed.iter().cloned().collect()
    }

    /// How many are here.
    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
