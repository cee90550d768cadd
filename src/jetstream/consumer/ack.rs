//! Acknowledgements: what each kind does to the pending messages and to the ack floor.
//!
//! A client that asks whether its acknowledgement is kept is answered once the state that has it is durable; all others
//! cost no write of their own.

use bytes::Bytes;
use weir_protocol::jetstream::ack::{Ack, AckSubject};
use weir_protocol::jetstream::consumer::AckPolicy;
use weir_protocol::jetstream::stream::RetentionPolicy;

use super::advisory::Delivery;
use super::unacked::Position;
use super::{Consumer, View};

/// Most acknowledgements that wait for an answer while the store takes no state; those beyond stay without one.
pub(super) const WAITING_MAX: usize = 2_048;

impl Consumer {
    /// An acknowledgement came (`$JS.ACK.>`); a `reply` is answered once the acknowledgement is durable, and not at all
    /// while the store takes no state: the client asks again.
    pub fn handle_ack(&mut self, subject: &[u8], reply: &Bytes, body: &[u8], view: &mut View<'_>) {
        if matches!(self.config.ack_policy, AckPolicy::None | AckPolicy::FlowControl) {
            return;
        }
        let Some(subject) = AckSubject::parse(subject) else { return };
        self.note_activity(view.now);
        let delivery = Delivery {
            consumer_seq: subject.consumer_seq,
            stream_seq: subject.stream_seq,
            deliveries: subject.deliveries,
        };
        let answered = match Ack::parse(body) {
            Some(Ack::Ack) => self.acknowledge(&delivery, true, view),
            Some(Ack::Next(request)) => {
                self.acknowledge(&delivery, true, view);
                self.handle_pull(reply, b"", request, view);
                false
            }
            Some(Ack::Nak(delay)) => {
                self.deliver_again(&delivery, delay, view);
                true
            }
            Some(Ack::InProgress) => {
                self.extend(delivery.stream_seq, view.now);
                true
            }
            Some(Ack::Term(reason)) => {
                let answered = self.acknowledge(&delivery, false, view);
                self.advise_terminated(&delivery, reason, view);
                answered
            }
            None => true,
        };
        if answered && !reply.is_empty() && delivery.stream_seq > 0 {
            self.answer_when_kept(reply, view);
        }
    }

    /// Answers an acknowledgement once the state that has it is staged and durable.
    fn answer_when_kept(&mut self, reply: &Bytes, view: &mut View<'_>) {
        if !self.keeping.is_state_kept() {
            view.outputs.held(reply.clone(), Bytes::new(), Bytes::new());
            return;
        }
        self.keeping.must(view.now);
        if self.waiting.len() < WAITING_MAX {
            // Copied: it may outlive the buffer it came in.
            self.waiting.push(Bytes::copy_from_slice(reply));
        }
    }

    /// Applies an acknowledgement; false when it is for a message that was not delivered.
    pub(super) fn acknowledge(&mut self, delivery: &Delivery, measured: bool, view: &mut View<'_>) -> bool {
        let seq = delivery.stream_seq;
        if seq == 0 || seq >= self.next_seq && !self.config.flow_control {
            return false;
        }
        // With flow control an answer may speak of more than was delivered, as on nats-server; it settles what was.
        let seq = seq.min(self.next_seq.saturating_sub(1));
        match self.config.ack_policy {
            AckPolicy::None => return false,
            AckPolicy::Explicit => {
                if let Some(entry) = self.unacked.get(seq).copied() {
                    if measured {
                        self.measure_ack(delivery, &entry, view);
                    }
                    self.settle(seq);
                    self.acked_at = Some(view.now);
                }
                self.forget_count(seq, view.now);
            }
            AckPolicy::All | AckPolicy::FlowControl => {
                if seq <= self.floor.stream {
                    return true;
                }
                self.acknowledge_up_to(seq, delivery.consumer_seq, view);
                self.acked_at = Some(view.now);
            }
        }
        self.keeping.acked(view.now);
        if view.config.retention != RetentionPolicy::Limits {
            self.acked.push(seq);
        }
        true
    }

    fn acknowledge_up_to(&mut self, seq: u64, consumer_seq: u64, view: &mut View<'_>) {
        for seq in self.unacked.up_to(seq) {
            self.unacked.remove(seq);
            self.forget_count(seq, view.now);
            if view.config.retention != RetentionPolicy::Limits {
                self.acked.push(seq);
            }
        }
        let consumer_seq = match self.unacked.first() {
            Some((_, entry)) => entry.consumer_seq.saturating_sub(1),
            None => consumer_seq.min(self.delivered.consumer),
        };
        self.floor = Position { consumer: consumer_seq.max(self.floor.consumer), stream: seq };
        self.wants_drive = true;
    }

    /// Takes a message out of the pending ones and moves the ack floor past it.
    pub(super) fn settle(&mut self, seq: u64) {
        if let Some(entry) = self.unacked.remove(seq) {
            self.move_floor(entry.consumer_seq, seq);
            self.wants_drive = true;
        }
    }

    pub(super) fn forget_count(&mut self, seq: u64, now: i64) {
        if self.unacked.forget(seq) {
            self.keeping.acked(now);
        }
    }

    /// The message under these sequences is no longer pending: the floor follows when it was the lowest.
    fn move_floor(&mut self, consumer_seq: u64, seq: u64) {
        match self.unacked.first() {
            None => self.floor = self.delivered,
            Some((next_seq, next))
                if consumer_seq == self.floor.consumer.saturating_add(1) && seq < next_seq =>
            {
                self.floor = Position {
                    consumer: next.consumer_seq.saturating_sub(1),
                    stream: next_seq.saturating_sub(1),
                };
            }
            Some(_) => {}
        }
    }

    /// A client asks for another delivery, at once or after `delay` nanoseconds.
    fn deliver_again(&mut self, delivery: &Delivery, delay: Option<i64>, view: &mut View<'_>) {
        let seq = delivery.stream_seq;
        let in_range =
            delivery.consumer_seq > self.floor.consumer && delivery.consumer_seq <= self.delivered.consumer;
        if !in_range || self.unacked.get(seq).is_none() {
            return;
        }
        self.advise_nak(delivery, view);
        match delay {
            Some(delay) => {
                self.unacked.put_off(seq, Some(view.now.saturating_add(delay)));
            }
            None => self.enqueue(seq, view),
        }
        self.keeping.acked(view.now);
    }

    /// A client is still at work on a message: its time starts again.
    fn extend(&mut self, seq: u64, now: i64) {
        let due = self.due(seq, now);
        self.unacked.in_progress(seq, now, due);
        self.keeping.acked(now);
    }

    /// When a message delivered at `now` falls due for another delivery.
    pub(super) fn due(&self, seq: u64, now: i64) -> Option<i64> {
        let wait = match self.config.backoff.as_slice() {
            [] => self.config.ack_wait,
            backoff => {
                let index =
                    usize::try_from(self.unacked.deliveries(seq).saturating_sub(1)).unwrap_or(usize::MAX);
                backoff.get(index).or(backoff.last()).copied().unwrap_or(self.config.ack_wait)
            }
        };
        (self.config.ack_wait > 0).then(|| now.saturating_add(wait))
    }

    /// Queues a pending message for another delivery, or gives it up when it was delivered as often as it may be.
    pub(super) fn enqueue(&mut self, seq: u64, view: &mut View<'_>) {
        if self.is_worn_out(seq) {
            self.give_up(seq, view);
        } else if self.unacked.enqueue(seq) {
            self.wants_drive = true;
        }
    }

    pub(super) fn is_worn_out(&self, seq: u64) -> bool {
        u64::try_from(self.config.max_deliver).is_ok_and(|max| max > 0 && self.unacked.deliveries(seq) >= max)
    }

    /// A message was delivered as often as it may be: it leaves the pending ones, but stays in the stream.
    pub(super) fn give_up(&mut self, seq: u64, view: &mut View<'_>) {
        let deliveries = self.unacked.deliveries(seq);
        self.advise_given_up(seq, deliveries, view);
        self.settle(seq);
        self.unacked.keep_count(seq);
        self.keeping.acked(view.now);
    }
}
