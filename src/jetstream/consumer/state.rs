//! The state that outlives a restart, and when it is worth writing.
//!
//! A version byte, then LEB128 numbers: floor and last delivery (as differences), the next sequence, where a skip list
//! ends, the pending messages (sequence differences, first consumer sequence, when due) and the delivery counts. A
//! crash may lower a delivery count and deliver again what was acknowledged just before; it never loses a message.
//! Deliberately absent: the configuration, which the stream keeps.

use weir_protocol::jetstream::consumer::{AckPolicy, ConsumerConfig};
use weir_protocol::jetstream::stream::{StorageType, StreamConfig};
use weir_storage::{ReadError, StageError};

use super::unacked::Position;
use super::{Consumer, View};

const VERSION: u8 = 1;
/// Delivered positions are kept so long after they changed at the latest.
const COALESCE: i64 = 250_000_000;
/// ... or after so many deliveries.
const DELIVERIES: u32 = 1_000;
/// Between two writes that nobody waits for.
const SPACING: i64 = 20_000_000;
/// How long a state that the store refused waits before it is staged again.
const RETRY: i64 = 100_000_000;
/// Most bytes of the state of a consumer without pending messages: nine numbers and the version.
pub(super) const BARE_STATE_MAX: usize = 96;

/// Why a stream or consumer could not be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What is kept of it is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The store cannot be read or written now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        if matches!(error, ReadError::Unavailable(_)) {
            Self::Unavailable(error.to_string())
        } else {
            Self::Damaged(error.to_string())
        }
    }
}

impl From<StageError> for RestoreError {
    fn from(error: StageError) -> Self {
        if let StageError::Unreadable(error) = error {
            error.into()
        } else {
            Self::Unavailable(error.to_string())
        }
    }
}

/// What of the state is not yet kept.
#[derive(Debug)]
pub(super) struct Keeping {
    config_kept: bool,
    state_kept: bool,
    dirty_since: Option<i64>,
    deliveries: u32,
    acked: bool,
    must: bool,
    written_at: i64,
    /// The store refused the state: not before this time again.
    refused_until: Option<i64>,
}

impl Keeping {
    /// A consumer without a name of its own that is not acknowledged belongs to its client alone and is not kept; the
    /// state of one on a memory stream says nothing once the messages are gone.
    pub(super) fn new(config: &ConsumerConfig, stream: &StreamConfig) -> Self {
        let passing = config.mem_storage
            || config.direct
            || (!config.is_durable() && config.ack_policy == AckPolicy::None);
        Self {
            config_kept: !passing,
            state_kept: !passing && stream.storage == StorageType::File,
            dirty_since: None,
            deliveries: 0,
            acked: false,
            must: false,
            written_at: i64::MIN,
            refused_until: None,
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.config_kept
    }

    pub(super) fn is_state_kept(&self) -> bool {
        self.state_kept
    }

    fn dirty(&mut self, now: i64) {
        self.dirty_since.get_or_insert(now);
    }

    pub(super) fn delivered(&mut self, now: i64) {
        if self.state_kept {
            self.deliveries = self.deliveries.saturating_add(1);
            self.dirty(now);
        }
    }

    pub(super) fn acked(&mut self, now: i64) {
        if self.state_kept {
            self.acked = true;
            self.dirty(now);
        }
    }

    /// Somebody waits for the state to be kept.
    pub(super) fn must(&mut self, now: i64) {
        if self.state_kept {
            self.must = true;
            self.dirty(now);
        }
    }

    /// When it is to be written at the latest.
    pub(super) fn due_at(&self) -> Option<i64> {
        let since = self.dirty_since?;
        if self.refused_until.is_some() {
            return self.refused_until;
        }
        if self.must {
            return Some(0);
        }
        if self.deliveries >= DELIVERIES {
            return Some(self.written_at.saturating_add(SPACING));
        }
        Some(since.saturating_add(COALESCE))
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty_since.is_some()
    }

    pub(super) fn is_due(&self, now: i64, riding: bool) -> bool {
        if self.refused_until.is_some_and(|until| now < until) {
            return false;
        }
        let spaced = now.saturating_sub(SPACING) >= self.written_at;
        self.due_at().is_some_and(|at| now >= at) || (riding && self.acked && spaced)
    }

    pub(super) fn written(&mut self, now: i64) {
        (self.dirty_since, self.deliveries, self.acked, self.must) = (None, 0, false, false);
        self.written_at = now;
        self.refused_until = None;
    }

    /// The store takes nothing now; says whether that is news.
    pub(super) fn refused(&mut self, now: i64) -> bool {
        self.refused_until.replace(now.saturating_add(RETRY)).is_none()
    }
}

impl Consumer {
    pub(super) fn encode_state(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let mut put = |value: u64| put_number(&mut out, value);
        put(self.floor.consumer);
        put(self.floor.stream);
        put(self.delivered.consumer.saturating_sub(self.floor.consumer));
        put(self.delivered.stream.saturating_sub(self.floor.stream));
        put(self.next_seq);
        put(self.skip.as_ref().map_or(0, |skip| skip.resume.saturating_add(1)));
        put(u64::try_from(self.unacked.len()).unwrap_or(0));
        let mut last_seq = 0u64;
        let mut last_due = 0i64;
        for (seq, entry) in self.unacked.iter() {
            put(seq.saturating_sub(last_seq));
            last_seq = seq;
            put(entry.consumer_seq.saturating_sub(self.floor.consumer));
            // 0: queued, 1: never due (nor is what is due at the end of time), else the difference to the last one.
            match entry.due {
                Some(i64::MAX) => put(1),
                Some(due) => {
                    put(zigzag(due.wrapping_sub(last_due)).saturating_add(2));
                    last_due = due;
                }
                None => put(u64::from(entry.queued.is_none())),
            }
        }
        let counts = self.unacked.redelivered();
        put(u64::try_from(counts.len()).unwrap_or(0));
        last_seq = 0;
        for (seq, again) in counts {
            put(seq.saturating_sub(last_seq));
            last_seq = *seq;
            put(*again);
        }
        out
    }

    pub(super) fn restore_state(&mut self, state: &[u8], view: &mut View<'_>) -> Result<(), RestoreError> {
        let what = || format!("the state of consumer '{}' of stream '{}'", self.name, view.stream);
        let damaged = || RestoreError::Damaged(format!("{} is damaged", what()));
        let mut reader = match state.split_first() {
            Some((&VERSION, rest)) => Reader(rest),
            Some((version, _)) => {
                let text = format!("{} has format {version}, this server knows {VERSION}", what());
                return Err(RestoreError::Damaged(text));
            }
            None => return Err(damaged()),
        };
        let kept = reader.state().ok_or_else(damaged)?;
        self.next_seq = kept.next_seq;
        let passed = kept.next_seq.saturating_sub(1);
        let within = |position: Position| Position { stream: position.stream.min(passed), ..position };
        (self.floor, self.delivered) = (within(kept.floor), within(kept.delivered));
        for (seq, again) in kept.counts {
            self.unacked.restore_count(seq, again);
        }
        let first_seq = view.store.state(view.log).unwrap_or_default().first_seq;
        for (seq, consumer_seq, due) in kept.pending {
            let wait = self.due(seq, 0).unwrap_or(0);
            let delivered_at = |due: i64| due.saturating_sub(wait);
            match due {
                // What is overdue comes in stream order, whether it was queued when the state was kept or not.
                Due::At(at) if at <= view.now && !self.is_worn_out(seq) => {
                    self.unacked.delivered(seq, consumer_seq, delivered_at(at), None);
                    self.unacked.enqueue(seq);
                }
                Due::At(at) => self.unacked.delivered(seq, consumer_seq, delivered_at(at), Some(at)),
                Due::Never => self.unacked.delivered(seq, consumer_seq, view.now, None),
                Due::Now => {
                    self.unacked.delivered(seq, consumer_seq, delivered_at(view.now), None);
                    self.unacked.enqueue(seq);
                }
            }
        }
        self.drop_gone(view);
        if let Some(resume) = kept.resume {
            let list = self.list_lasts(resume, self.next_seq, view)?;
            let ended = list.seqs.is_empty();
            self.skip = Some(list);
            if ended {
                self.leave_skip_list();
            }
        }
        self.next_seq = self.next_seq.max(first_seq);
        Ok(())
    }
}

enum Due {
    Now,
    Never,
    At(i64),
}

struct Kept {
    floor: Position,
    delivered: Position,
    next_seq: u64,
    resume: Option<u64>,
    pending: Vec<(u64, u64, Due)>,
    counts: Vec<(u64, u64)>,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let part = u64::from(byte & 0x7f);
            let shifted = part.checked_shl(shift)?;
            if shifted.checked_shr(shift)? != part {
                return None;
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn position(&mut self, base: Position) -> Option<Position> {
        let consumer = base.consumer.checked_add(self.number()?)?;
        Some(Position { consumer, stream: base.stream.checked_add(self.number()?)? })
    }

    fn state(&mut self) -> Option<Kept> {
        let floor = self.position(Position::default())?;
        let delivered = self.position(floor)?;
        let next_seq = self.number()?;
        let resume = self.number()?.checked_sub(1);
        let mut pending = Vec::new();
        let (mut seq, mut last_due) = (0u64, 0i64);
        for _ in 0..self.number()? {
            seq = seq.checked_add(self.number()?)?;
            let consumer_seq = floor.consumer.checked_add(self.number()?)?;
            let due = match self.number()? {
                0 => Due::Now,
                1 => Due::Never,
                difference => {
                    last_due = last_due.wrapping_add(unzigzag(difference.checked_sub(2)?));
                    Due::At(last_due)
                }
            };
            pending.push((seq, consumer_seq, due));
        }
        let mut counts = Vec::new();
        seq = 0;
        for _ in 0..self.number()? {
            seq = seq.checked_add(self.number()?)?;
            counts.push((seq, self.number()?));
        }
        self.0.is_empty().then_some(Kept { floor, delivered, next_seq, resume, pending, counts })
    }
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        proptest::proptest!(|(value: u64, signed: i64)| {
            let mut out = Vec::new();
            put_number(&mut out, value);
            let mut reader = Reader(&out);
            proptest::prop_assert_eq!(reader.number(), Some(value));
            proptest::prop_assert!(reader.0.is_empty());
            proptest::prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        });
    }

    #[test]
    fn any_bytes_are_answered() {
        proptest::proptest!(|(bytes: Vec<u8>)| {
            let _ = Reader(&bytes).state();
        });
    }
}
