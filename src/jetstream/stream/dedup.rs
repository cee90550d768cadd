//! The message ids a stream remembers, and for how long.
//!
//! Rebuilt after a restart from the messages younger than the window, before the first message with an id is taken and
//! before the first of those messages is removed. An id whose message was removed before the restart is forgotten.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

/// The ids of the duplicate window.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    seen: HashMap<Bytes, (u64, i64)>,
    by_age: VecDeque<(i64, Bytes)>,
}

impl Dedup {
    /// The sequence that `id` was stored under within the last `window` nanoseconds.
    pub(super) fn find(&self, id: &[u8], window: i64, now: i64) -> Option<u64> {
        let (seq, time) = self.seen.get(id)?;
        (now.saturating_sub(*time) < window).then_some(*seq)
    }

    /// Remembers an id.
    pub(super) fn remember(&mut self, id: &[u8], seq: u64, time: i64) {
        let id = Bytes::copy_from_slice(id);
        self.seen.insert(id.clone(), (seq, time));
        self.by_age.push_back((time, id));
    }

    /// Forgets what is older than `window`.
    pub(super) fn forget(&mut self, window: i64, now: i64) {
        while let Some((time, _)) = self.by_age.front()
            && now.saturating_sub(*time) >= window
        {
            let Some((time, id)) = self.by_age.pop_front() else { break };
            if self.seen.get(&id).is_some_and(|(_, newest)| *newest <= time) {
                self.seen.remove(&id);
            }
        }
        if self.by_age.is_empty() {
            *self = Self::default();
        }
    }

    /// When the oldest id may be forgotten.
    pub(super) fn poll_timeout(&self, window: i64) -> Option<i64> {
        self.by_age.front().map(|(time, _)| time.saturating_add(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_known_for_the_window_and_forgotten_after_it() {
        let mut dedup = Dedup::default();
        dedup.remember(b"a", 1, 100);
        dedup.remember(b"b", 2, 150);
        assert_eq!(dedup.find(b"a", 100, 199), Some(1));
        assert_eq!(dedup.find(b"a", 100, 200), None);
        dedup.remember(b"a", 3, 210);
        dedup.forget(100, 260);
        assert_eq!((dedup.find(b"a", 100, 260), dedup.find(b"b", 100, 249)), (Some(3), None));
        assert_eq!(dedup.poll_timeout(100), Some(310));
        dedup.forget(100, 310);
        assert!(dedup.seen.is_empty() && dedup.poll_timeout(100).is_none());
    }
}
