//! What leaves a stream because of its limits: age, messages, bytes, messages on one subject.
//!
//! Removals by limits are evictions: they follow from the configuration and the clock, so they force no write; they go with
//! the next chunk, and a restart applies again what did not.

use weir_protocol::jetstream::stream::DiscardPolicy;
use weir_storage::{LogState, Store};

use super::{Removal, Stream};
use crate::jetstream::context::Context;

/// Age is looked at no more often than this (nanoseconds), so that one look removes many messages.
const AGE_CHECK: i64 = 50_000_000;
/// When age is looked at again after the stream could not be read (nanoseconds).
const UNREADABLE_CHECK: i64 = 5_000_000_000;
/// Most messages one look removes one by one before it asks for another.
const REMOVALS_MAX: usize = 10_000;

impl Stream {
    /// When the oldest message grows too old.
    pub(super) fn age_timeout(&self, store: &Store) -> Option<i64> {
        if self.limits_changed {
            return Some(0);
        }
        if self.config.max_age <= 0 {
            return None;
        }
        let state = self.state(store);
        let due = state.first_time.saturating_add(self.config.max_age);
        (state.messages > 0).then(|| due.max(self.next_age_check))
    }

    /// Removes what the limits no longer allow; `self.limits_changed` says whether each subject is to be looked at.
    pub(super) fn enforce_limits(&mut self, context: &mut Context<'_>) {
        if self.limits_changed {
            self.limits_changed = false;
            self.enforce_every_subject(context);
        }
        self.enforce_count(context);
        self.enforce_bytes(context);
        self.enforce_age(context);
    }

    /// After a message was stored on `subject`.
    pub(in crate::jetstream) fn enforce_after(&mut self, subject: &[u8], context: &mut Context<'_>) {
        if self.config.max_msgs_per_subject > 0 {
            self.enforce_subject(subject, context);
        }
        self.enforce_count(context);
        self.enforce_bytes(context);
    }

    fn enforce_every_subject(&mut self, context: &mut Context<'_>) {
        let Ok(max) = u64::try_from(self.config.max_msgs_per_subject) else { return };
        if max == 0 {
            return;
        }
        let over =
            context.store.subjects(self.log, None).into_iter().filter(|(_, state)| state.messages > max);
        for (subject, _) in over.collect::<Vec<_>>() {
            self.enforce_subject(&subject, context);
        }
    }

    fn enforce_subject(&mut self, subject: &[u8], context: &mut Context<'_>) {
        let Ok(max) = u64::try_from(self.config.max_msgs_per_subject) else { return };
        while let Some(state) = context.store.subject(self.log, subject)
            && state.messages > max
        {
            if !self.evict(Removal::Surplus { seq: state.first_seq, subject }, context) {
                return;
            }
        }
    }

    /// With discard policy new nothing leaves for a new message, nor for a limit that was lowered.
    fn discards_old(&self) -> bool {
        self.config.discard == DiscardPolicy::Old
    }

    fn enforce_count(&mut self, context: &mut Context<'_>) {
        let Ok(max) = u64::try_from(self.config.max_msgs) else { return };
        if max == 0 || !self.discards_old() {
            return;
        }
        self.evict_front(context, |state| state.messages > max);
    }

    fn enforce_bytes(&mut self, context: &mut Context<'_>) {
        let Ok(max) = u64::try_from(self.config.max_bytes) else { return };
        if max == 0 || !self.discards_old() {
            return;
        }
        self.evict_front(context, |state| state.bytes > max);
    }

    /// Removes from the front while `over` says so.
    fn evict_front(&mut self, context: &mut Context<'_>, over: impl Fn(&LogState) -> bool) {
        for _ in 0..REMOVALS_MAX {
            let state = self.state(context.store);
            let is_due = state.messages > 0 && over(&state) && !self.is_held(&state, context);
            if !is_due {
                return;
            }
            // Where the first one was gone already, the next is the first now.
            let is_evicted = self.evict(Removal::First, context);
            if !is_evicted && self.state(context.store).first_seq == state.first_seq {
                return;
            }
        }
        self.limits_changed = true;
    }

    /// Whether something was there to be removed; the store does not refuse what it can derive again.
    fn evict(&mut self, removal: Removal<'_>, context: &mut Context<'_>) -> bool {
        self.remove(removal, context).is_ok_and(|removed| removed > 0)
    }

    fn enforce_age(&mut self, context: &mut Context<'_>) {
        if self.config.max_age <= 0 {
            return;
        }
        let state = self.state(context.store);
        if state.messages == 0 || state.first_time.saturating_add(self.config.max_age) > context.now {
            return;
        }
        self.next_age_check = context.now.saturating_add(AGE_CHECK);
        let oldest = context.now.saturating_sub(self.config.max_age).saturating_add(1);
        let young = match self.seek_time(oldest, context.store) {
            Ok(Some(seq)) => seq,
            Ok(None) => state.last_seq + 1,
            Err(error) => {
                tracing::warn!(stream = %self.config.name, %error, "age limit waits: the stream cannot be read");
                self.next_age_check = context.now.saturating_add(UNREADABLE_CHECK);
                return;
            }
        };
        let first_kept = self.hold_floor(&state, context).map_or(young, |floor| floor.min(young));
        if first_kept > state.first_seq {
            self.evict(Removal::Aged(first_kept), context);
        }
    }

    /// Whether a mirror still needs the first message.
    fn is_held(&self, state: &LogState, context: &Context<'_>) -> bool {
        self.hold_floor(state, context).is_some_and(|floor| state.first_seq >= floor)
    }

    /// The first sequence that a mirror which holds this stream has not copied yet, while the stream is small enough.
    fn hold_floor(&self, state: &LogState, context: &Context<'_>) -> Option<u64> {
        let holds = context.holds.get(&self.log.0)?;
        holds.iter().filter(|hold| state.bytes <= hold.bytes).map(|hold| hold.copied_seq + 1).min()
    }
}
