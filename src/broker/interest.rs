//! Watches: somebody in the server wants to know when clients begin or cease to listen on a subject.
//!
//! A watch says only that something may have changed; [`Broker::has_interest`] tells what is. It never misses a change: the
//! sublist is changed first, watchers are called after.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_protocol::subject;

use super::Broker;
use super::sublist::has_wildcard;

/// Called when interest in a subject may have changed.
type Changed = Arc<dyn Fn() + Send + Sync>;
type BySubject = BTreeMap<Box<[u8]>, Vec<(u64, Changed)>>;

/// All watches of a broker.
#[derive(Default)]
pub(crate) struct Watches {
    count: AtomicUsize,
    by_subject: Mutex<BySubject>,
}

/// A watch; dropping it ends it.
#[must_use = "a watch ends when it is dropped"]
pub struct InterestWatch {
    broker: Broker,
    subject: Box<[u8]>,
    id: u64,
}

impl Watches {
    pub(crate) fn add(&self, broker: &Broker, subject: &[u8], id: u64, changed: Changed) -> InterestWatch {
        self.lock().entry(subject.into()).or_default().push((id, changed));
        self.count.fetch_add(1, Ordering::SeqCst);
        InterestWatch { broker: broker.clone(), subject: subject.into(), id }
    }

    fn remove(&self, subject: &[u8], id: u64) {
        let mut by_subject = self.lock();
        if let Some(watches) = by_subject.get_mut(subject) {
            watches.retain(|(other, _)| *other != id);
            if watches.is_empty() {
                by_subject.remove(subject);
            }
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// A subscription on `filter` came or went.
    pub(crate) fn notify(&self, filter: &[u8]) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Called outside the lock: a watcher may add and drop watches.
        let affected: Vec<Changed> = {
            let by_subject = self.lock();
            let changed = |watches: &Vec<(u64, Changed)>| {
                watches.iter().map(|(_, changed)| Arc::clone(changed)).collect::<Vec<_>>()
            };
            if has_wildcard(filter) {
                by_subject
                    .iter()
                    .filter(|(watched, _)| subject::matches(watched, filter))
                    .flat_map(|(_, watches)| changed(watches))
                    .collect()
            } else {
                by_subject.get(filter).map(changed).unwrap_or_default()
            }
        };
        for changed in affected {
            changed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BySubject> {
        self.by_subject.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InterestWatch {
    fn drop(&mut self) {
        self.broker.watches().remove(&self.subject, self.id);
    }
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watches").field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Debug for InterestWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterestWatch").field("subject", &String::from_utf8_lossy(&self.subject)).finish()
    }
}
