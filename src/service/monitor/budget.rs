//! The memory that all bodies share, and who has to give way when it is used up.
//!
//! A body that finds too little waits a moment, and all others are told ([`Taken::needed`]): those that make no progress
//! meanwhile have to give theirs back, so that half-open requests keep nobody out for long. A body that goes on keeps what it has.
//!
//! Absent: what progress is, which whoever reads a body decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{interval, timeout};

/// Longest a body waits for memory; longer than those that must give theirs may hold it.
pub(super) const ROOM_PATIENCE: Duration = Duration::from_secs(2);
/// How often a body that waits for memory looks for it.
const ROOM_RETRY: Duration = Duration::from_millis(50);

/// The memory that all bodies share.
#[derive(Clone, Debug)]
pub(in crate::service) struct BodyBudget(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    max: usize,
    taken: AtomicUsize,
    /// Told again and again while a body waits for memory.
    need: Notify,
}

impl BodyBudget {
    /// At most `max` bytes in memory at one time.
    pub(in crate::service) fn new(max: usize) -> Self {
        Self(Arc::new(Budget { max, taken: AtomicUsize::new(0), need: Notify::new() }))
    }

    /// Nothing taken yet.
    pub(super) fn begin(&self) -> Taken {
        Taken { budget: self.clone(), bytes: 0 }
    }

    /// Bytes in memory at this moment.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.0.taken.load(Ordering::Relaxed)
    }
}

/// What one body has taken; given back when dropped.
pub(super) struct Taken {
    budget: BodyBudget,
    bytes: usize,
}

impl Taken {
    /// How many bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes more, if there is as much.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let budget = &self.budget.0;
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= budget.max);
        let there_is = budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if there_is {
            self.bytes += bytes;
        }
        there_is
    }

    /// Takes more as soon as there is as much; false when there is not in time.
    pub(super) async fn wait_for(&mut self, bytes: usize) -> bool {
        let mut tries = interval(ROOM_RETRY);
        let room = async {
            while {
                tries.tick().await;
                !self.take(bytes)
            } {
                self.budget.0.need.notify_waiters();
            }
        };
        timeout(ROOM_PATIENCE, room).await.is_ok()
    }

    /// Waits until another body, from now on, waits for memory.
    pub(super) async fn needed(&self) {
        self.budget.0.need.notified().await;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
