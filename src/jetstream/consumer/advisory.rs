//! What a consumer tells those who watch: events of its life, of messages that went wrong, and measured acks.
//!
//! Advisories are held like answers, so none speaks of what a crash could undo.

use bytes::Bytes;
use weir_protocol::jetstream::Timestamp;
use weir_protocol::jetstream::json::ObjectWriter;

use super::unacked::Entry;
use super::{Consumer, View};

const ADVISORY: &str = "$JS.EVENT.ADVISORY.CONSUMER";

/// Why a pending message is terminated when its record leaves the stream by itself.
pub(super) const DELETED: &str = "Unacknowledged message was deleted";
/// Why pending messages are terminated when the stream's limits take their records.
pub(super) const LIMITS: &str = "Message deleted by stream limits";

/// A delivery that an advisory is about.
pub(super) struct Delivery {
    pub(super) consumer_seq: u64,
    pub(super) stream_seq: u64,
    pub(super) deliveries: u64,
}

impl Consumer {
    fn advise(
        &self,
        prefix: &str,
        kind: &str,
        view: &mut View<'_>,
        members: impl FnOnce(&mut ObjectWriter<'_>),
    ) {
        let subject = format!("{prefix}.{}.{}", view.stream, self.name);
        if !view.interest.has(subject.as_bytes()) {
            return;
        }
        let mut text = String::new();
        ObjectWriter::write(&mut text, |out| {
            out.text_field("type", &format!("io.nats.jetstream.{kind}"));
            out.text_field("id", &view.random.id(22));
            out.field("timestamp", &Timestamp(view.now));
            out.text_field("stream", view.stream);
            out.text_field("consumer", &self.name);
            members(out);
            if !view.domain.is_empty() {
                out.text_field("domain", view.domain);
            }
        });
        view.outputs.held(Bytes::from(subject), Bytes::new(), Bytes::from(text));
    }

    fn advise_delivery(
        &self,
        event: &str,
        kind: &str,
        delivery: &Delivery,
        view: &mut View<'_>,
        members: impl FnOnce(&mut ObjectWriter<'_>),
    ) {
        self.advise(event, kind, view, |out| {
            out.field("consumer_seq", &delivery.consumer_seq);
            out.field("stream_seq", &delivery.stream_seq);
            out.field("deliveries", &delivery.deliveries);
            members(out);
        });
    }

    /// The consumer was created or deleted (`create`, `delete`).
    pub(super) fn advise_action(&self, action: &str, view: &mut View<'_>) {
        let event = if action == "create" { "CREATED" } else { "DELETED" };
        self.advise(&format!("{ADVISORY}.{event}"), "advisory.v1.consumer_action", view, |out| {
            out.text_field("action", action);
        });
    }

    /// A pause was set or ended.
    pub(super) fn advise_pause(&self, view: &mut View<'_>) {
        let until = self.config.pause_until.unwrap_or(Timestamp::ZERO);
        let paused = self.is_paused(view.now);
        self.advise(&format!("{ADVISORY}.PAUSE"), "advisory.v1.consumer_pause", view, |out| {
            out.field("paused", &paused);
            out.field("pause_until", &until);
        });
    }

    /// A message was delivered as often as it may be.
    pub(super) fn advise_given_up(&self, seq: u64, deliveries: u64, view: &mut View<'_>) {
        self.advise(&format!("{ADVISORY}.MAX_DELIVERIES"), "advisory.v1.max_deliver", view, |out| {
            out.field("stream_seq", &seq);
            out.field("deliveries", &deliveries);
        });
    }

    /// A client asked for another delivery.
    pub(super) fn advise_nak(&self, delivery: &Delivery, view: &mut View<'_>) {
        self.advise_delivery(&format!("{ADVISORY}.MSG_NAKED"), "advisory.v1.nak", delivery, view, |_| {});
    }

    /// A message is never to be delivered again.
    pub(super) fn advise_terminated(&self, delivery: &Delivery, reason: &str, view: &mut View<'_>) {
        let event = format!("{ADVISORY}.MSG_TERMINATED");
        self.advise_delivery(&event, "advisory.v1.terminated", delivery, view, |out| {
            if !reason.is_empty() {
                out.text_field("reason", reason);
            }
        });
    }

    /// The time an acknowledgement took, for the share of them that is measured.
    pub(super) fn measure_ack(&self, delivery: &Delivery, entry: &Entry, view: &mut View<'_>) {
        let percent: u64 = self.config.sample_freq.trim_end_matches('%').parse().unwrap_or(0);
        if percent == 0 || percent < 100 && view.random.below(100) >= percent {
            return;
        }
        let took = view.now.saturating_sub(entry.delivered_at);
        // The members stand in another order than in advisories.
        self.advise("$JS.EVENT.METRIC.CONSUMER.ACK", "metric.v1.consumer_ack", view, |out| {
            out.field("consumer_seq", &delivery.consumer_seq);
            out.field("stream_seq", &delivery.stream_seq);
            out.field("ack_time", &took);
            out.field("deliveries", &delivery.deliveries);
        });
    }
}
