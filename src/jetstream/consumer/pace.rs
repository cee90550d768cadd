//! How fast a push consumer goes on purpose: with the gaps of the recording, or below a rate limit.
//!
//! Both are schedules, not pauses: what comes late is made up for, so nothing adds up. Deliberately absent: flow
//! control, which is the client's pace.

use weir_protocol::jetstream::consumer::{ConsumerConfig, ReplayPolicy};

use super::View;

const SECOND: i128 = 1_000_000_000;
/// Smaller gaps are delivered at once.
const SMALLEST_GAP: i64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Pace {
    replay: Option<Replay>,
    rate: Option<Rate>,
    /// When the next message may go.
    pub(super) resume_at: Option<i64>,
}

/// Replay with the original gaps, up to what was there when the consumer started.
#[derive(Debug)]
struct Replay {
    until: u64,
    /// Time of the last message and when it was due.
    last: Option<(i64, i64)>,
}

/// A bucket of bytes that fills with the rate.
#[derive(Debug)]
struct Rate {
    bytes_per_second: i128,
    burst: i128,
    /// When the bucket is, or was, empty.
    empty_at: i128,
}

impl Rate {
    fn nanos(&self, bytes: i128) -> i128 {
        bytes.saturating_mul(SECOND).checked_div(self.bytes_per_second).unwrap_or(0)
    }

    fn start(&self, now: i64) -> i128 {
        self.empty_at.max(i128::from(now).saturating_sub(self.nanos(self.burst)))
    }
}

impl Pace {
    pub(super) fn new(config: &ConsumerConfig, view: &View<'_>) -> Self {
        let replay = (config.replay_policy == ReplayPolicy::Original)
            .then(|| Replay { until: view.store.state(view.log).unwrap_or_default().last_seq, last: None });
        let mut pace = Self { replay, rate: None, resume_at: None };
        pace.set_rate(config, view);
        pace
    }

    /// Takes the rate limit of a configuration; the bucket starts full.
    pub(super) fn set_rate(&mut self, config: &ConsumerConfig, view: &View<'_>) {
        let largest = match usize::try_from(view.config.max_msg_size) {
            Ok(size) if size > 0 => size,
            _ => view.max_payload,
        };
        self.rate = (config.rate_limit_bps > 0).then(|| Rate {
            bytes_per_second: i128::from((config.rate_limit_bps / 8).max(1)),
            burst: i128::try_from(largest.max(1)).unwrap_or(i128::MAX),
            empty_at: i128::MIN / 4,
        });
        self.resume_at = None;
    }

    /// Whether the message may go now; if not, [`Self::resume_at`] says when.
    pub(super) fn admits(&mut self, seq: u64, time: i64, size: usize, now: i64) -> bool {
        self.resume_at = None;
        if self.replay.as_ref().is_some_and(|replay| seq > replay.until) {
            self.replay = None;
        }
        if let Some((last, due)) = self.replay.as_ref().and_then(|replay| replay.last) {
            let gap = time.saturating_sub(last);
            let due = due.saturating_add(gap);
            if gap > SMALLEST_GAP && due > now {
                self.resume_at = Some(due);
                return false;
            }
        }
        if let Some(rate) = &self.rate {
            // A message larger than the burst may go when the bucket is full.
            let size = i128::try_from(size).unwrap_or(i128::MAX).min(rate.burst);
            let due = rate.start(now).saturating_add(rate.nanos(size));
            if due > i128::from(now) {
                self.resume_at = Some(i64::try_from(due).unwrap_or(i64::MAX));
                return false;
            }
        }
        true
    }

    /// The message goes.
    pub(super) fn passed(&mut self, time: i64, size: usize, now: i64) {
        if let Some(replay) = &mut self.replay {
            let due = match replay.last {
                // A consumer that was held up does not rush through what it missed.
                Some((last, due)) if time.saturating_sub(last) > SMALLEST_GAP => {
                    let due = due.saturating_add(time.saturating_sub(last));
                    if now.saturating_sub(due) > 1_000_000_000 { now } else { due }
                }
                Some((_, due)) => due,
                None => now,
            };
            replay.last = Some((time, due));
        }
        if let Some(rate) = &mut self.rate {
            let size = i128::try_from(size).unwrap_or(i128::MAX);
            rate.empty_at = rate.start(now).saturating_add(rate.nanos(size));
        }
    }
}
