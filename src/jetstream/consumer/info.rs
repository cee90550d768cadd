//! What a consumer says about itself.

use weir_protocol::jetstream::Timestamp;
use weir_protocol::jetstream::consumer::{ConsumerInfo, SequenceInfo};

use super::unacked::Position;
use super::{Consumer, Mode, View};

impl Consumer {
    /// What is known about it, staged records included: to be answered once they are durable. The configuration comes
    /// without the metadata added to answers ([`super::config::answer_metadata`]).
    #[must_use]
    pub fn info(&mut self, view: &View<'_>) -> ConsumerInfo {
        if let Err(error) = self.sync_count(view) {
            self.stand_still(error.to_string(), view);
        }
        let count = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        let position = |at: Position, last: Option<i64>| SequenceInfo {
            consumer_seq: at.consumer,
            stream_seq: at.stream,
            last_active: last.map(Timestamp),
        };
        let (num_waiting, push_bound) = match &self.mode {
            Mode::Pull(pulls) => (count(pulls.live(view.now, view.interest)), false),
            Mode::Push(push) => (0, push.active),
        };
        let pause_remaining = self.pause_end().map_or(0, |end| end.saturating_sub(view.now).max(0));
        ConsumerInfo {
            stream_name: view.stream.to_owned(),
            name: self.name.clone(),
            created: Timestamp(self.created),
            config: Some(self.config.clone()),
            delivered: position(self.delivered, self.delivered_at),
            ack_floor: position(self.floor, self.acked_at),
            num_ack_pending: count(self.unacked.len()),
            // With a single delivery allowed nothing is ever delivered again: what is counted was given up.
            num_redelivered: if self.config.max_deliver == 1 {
                0
            } else {
                count(self.unacked.redelivered().len())
            },
            num_waiting,
            num_pending: self.count.value(),
            push_bound,
            paused: self.is_paused(view.now),
            pause_remaining,
            ts: Timestamp(view.now),
            priority_groups: Vec::new(),
        }
    }
}
