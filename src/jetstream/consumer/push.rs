//! Push consumers: interest in the deliver subject, the flow control window, idle heartbeats.
//!
//! The window starts at a sixteenth of its limit and doubles with every answer; half full it asks, full it stops.

use bytes::Bytes;
use weir_protocol::header;
use weir_protocol::jetstream::consumer::{AckPolicy, ConsumerConfig};
use weir_protocol::jetstream::pull;

use super::advisory::Delivery;
use super::{Consumer, Mode, View};

/// The most bytes that may be under way.
const FLOW_LIMIT: u64 = 32 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Push {
    /// The deliver subject.
    pub(super) to: Bytes,
    /// Whether somebody listens.
    pub(super) active: bool,
    heartbeat: i64,
    /// When the next heartbeat is due.
    pub(super) heartbeat_at: Option<i64>,
    flow: Option<Flow>,
}

#[derive(Debug)]
struct Flow {
    window: u64,
    /// Bytes delivered and not confirmed.
    under_way: u64,
    /// The request that waits for its answer, and the bytes it confirms.
    request: Option<(Bytes, u64)>,
}

impl Push {
    pub(super) fn new(config: &ConsumerConfig, now: i64) -> Self {
        let heartbeat = config.idle_heartbeat.max(0);
        Self {
            to: Bytes::copy_from_slice(config.deliver_subject.as_bytes()),
            active: false,
            heartbeat,
            heartbeat_at: (heartbeat > 0).then(|| now.saturating_add(heartbeat)),
            flow: config.flow_control.then_some(Flow {
                window: FLOW_LIMIT / 16,
                under_way: 0,
                request: None,
            }),
        }
    }

    /// Whether a message may be pushed now.
    pub(super) fn is_open(&self) -> bool {
        self.active && self.flow.as_ref().is_none_or(|flow| flow.under_way <= flow.window)
    }

    /// A message of `size` bytes went out. Whether a flow control request is due after it.
    pub(super) fn pushed(&mut self, size: u64, full: bool, now: i64) -> bool {
        if self.heartbeat > 0 {
            self.heartbeat_at = Some(now.saturating_add(self.heartbeat));
        }
        let Some(flow) = &mut self.flow else { return false };
        flow.under_way = flow.under_way.saturating_add(size);
        match &mut flow.request {
            None => flow.under_way > flow.window / 2 || full,
            Some((_, covered)) => {
                if flow.under_way.saturating_sub(*covered) >= flow.window {
                    *covered = covered.saturating_add(size);
                }
                false
            }
        }
    }
}

impl Consumer {
    /// Interest in the deliver subject may have changed.
    pub fn handle_interest(&mut self, view: &View<'_>) {
        let Mode::Push(push) = &mut self.mode else { return };
        let (subject, group) = (self.config.deliver_subject.as_bytes(), self.config.deliver_group.as_bytes());
        let active = view.interest.listens(subject, (!group.is_empty()).then_some(group));
        self.wants_drive |= active && !push.active;
        push.active = active;
        self.lifecycle.interest(active, view.now);
    }

    /// Asks the client whether it keeps up.
    pub(super) fn send_flow_request(&mut self, view: &mut View<'_>) {
        let Mode::Push(push) = &mut self.mode else { return };
        let Some(flow) = &mut push.flow else { return };
        let reply = Bytes::from(format!("$JS.FC.{}.{}.{}", view.stream, self.name, view.random.id(4)));
        flow.request = Some((reply.clone(), flow.under_way));
        let to = push.to.clone();
        view.outputs.now(to.clone(), to, reply, pull::flow_control_request(), Bytes::new());
    }

    /// The answer to a flow control request came (`$JS.FC.<stream>.<consumer>.>`).
    pub fn handle_flow_reply(&mut self, subject: &[u8], headers: &[u8], view: &mut View<'_>) {
        let Mode::Push(push) = &mut self.mode else { return };
        let Some(flow) = &mut push.flow else { return };
        let Some((_, covered)) = flow.request.take_if(|(request, _)| is_answer(request, subject)) else {
            return;
        };
        flow.window = flow.window.saturating_mul(2).min(FLOW_LIMIT);
        flow.under_way = flow.under_way.saturating_sub(covered);
        self.wants_drive = true;
        if self.config.ack_policy != AckPolicy::FlowControl || headers.is_empty() {
            return;
        }
        let number = |name| header::get_str(headers, name).and_then(|value| value.trim().parse::<u64>().ok());
        if let Some(stream_seq) = number(pull::LAST_STREAM).filter(|seq| *seq > 0) {
            let consumer_seq = number(pull::LAST_CONSUMER).unwrap_or(0);
            let delivery = Delivery { consumer_seq, stream_seq, deliveries: 1 };
            // An answer may not acknowledge what was never delivered.
            if stream_seq < self.next_seq {
                self.acknowledge(&delivery, false, view);
            }
        }
    }

    /// Says that the consumer lives.
    pub(super) fn beat(&mut self, view: &mut View<'_>) {
        let position = self.position();
        let asks = self.config.ack_policy == AckPolicy::FlowControl && !self.unacked.is_empty();
        let Mode::Push(push) = &mut self.mode else { return };
        if push.heartbeat_at.is_none_or(|at| view.now < at) {
            return;
        }
        push.heartbeat_at = Some(view.now.saturating_add(push.heartbeat));
        if !push.active {
            return;
        }
        let request = push.flow.as_ref().and_then(|flow| flow.request.as_ref());
        let stalled = request.map(|(subject, _)| String::from_utf8_lossy(subject).into_owned());
        let headers = pull::idle_heartbeat(position.0, position.1, stalled.as_deref());
        view.outputs.status(push.to.clone(), headers);
        if asks && stalled.is_none() {
            self.send_flow_request(view);
        }
    }
}

/// Whether `subject` answers `request`; the longer form carries domain and account hash before the stream.
fn is_answer(request: &[u8], subject: &[u8]) -> bool {
    const PREFIX: &[u8] = b"$JS.FC.";
    if request == subject {
        return true;
    }
    let (Some(request), Some(subject)) = (request.strip_prefix(PREFIX), subject.strip_prefix(PREFIX)) else {
        return false;
    };
    subject.splitn(3, |byte| *byte == b'.').nth(2) == Some(request)
}
