//! The driver's inbox: inputs in the order in which they came, bounded.
//!
//! Publishers push on their own threads and never wait: what finds the inbox full is refused with an answer. The driver
//! alone takes, everything at once, and is woken once for all that a publisher read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use weir_protocol::jetstream::error::STREAM_TOO_MANY_REQUESTS;
use weir_protocol::jetstream::json;
use weir_protocol::jetstream::publish::PubAck;

use crate::broker::{Broker, InternalMessage, InternalSink};
use crate::jetstream::input::{Input, Tag};

/// Bytes of messages that may wait in the inbox (what else came in the same read, up to 64 KiB, stays as long; copying costs a
/// fifth of the rate at 1 KiB); beyond them publishes are refused with 10167, as nats-server does at this size.
const BYTES_MAX: usize = 128 << 20;
/// What a waiting message costs besides its own bytes.
const MESSAGE_BYTES: usize = 192;

/// Takes messages of one subscription into the inbox.
#[derive(Debug)]
pub(super) struct Sink {
    inbox: Arc<Inbox>,
    tag: Tag,
}

impl Sink {
    /// What comes from here carries `tag`.
    pub(super) fn new(inbox: Arc<Inbox>, tag: Tag) -> Self {
        Self { inbox, tag }
    }
}

impl InternalSink for Sink {
    fn push(&self, message: InternalMessage) {
        let InternalMessage { subject, reply, headers, payload, .. } = message;
        let bytes = subject.len() + reply.len() + headers.len() + payload.len() + MESSAGE_BYTES;
        self.inbox.push_bounded(Input::Message { tag: self.tag, subject, reply, headers, payload }, bytes);
    }

    fn is_interest(&self) -> bool {
        matches!(self.tag, Tag::Stream(_))
    }

    fn flush(&self) {
        self.inbox.wake();
    }
}

/// What waits for the driver. Pushed by connections and workers, taken by the driver alone.
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    ready: Condvar,
    broker: Broker,
}

#[derive(Default)]
struct Queue {
    inputs: Vec<Input>,
    /// Bytes of the messages among them.
    bytes: usize,
    /// Watches whose news is among them.
    changed: BTreeSet<Tag>,
    /// Somebody has news: inputs are complete for now, or the store has something to say.
    woken: bool,
    closed: bool,
    /// The driver sleeps and wants to be notified.
    asleep: bool,
}

impl Inbox {
    pub(super) fn new(broker: Broker) -> Self {
        Self { queue: Mutex::default(), ready: Condvar::new(), broker }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interest in a subject may have changed. Taken in any case, and once until the driver takes it: it looks what is then.
    pub(super) fn push_interest_changed(&self, tag: Tag) {
        let mut queue = self.lock();
        if queue.changed.insert(tag) {
            queue.inputs.push(Input::InterestChanged { tag });
        }
        self.notify(queue);
    }

    /// Does not wake the driver: the publisher's `flush` does, once for all it read.
    fn push_bounded(&self, input: Input, bytes: usize) {
        let mut queue = self.lock();
        if queue.bytes + bytes <= BYTES_MAX && !queue.closed {
            queue.inputs.push(input);
            queue.bytes += bytes;
            return;
        }
        drop(queue);
        if let Input::Message { reply, .. } = input
            && !reply.is_empty()
        {
            let body =
                json::encode(&PubAck { error: Some(STREAM_TOO_MANY_REQUESTS.error()), ..PubAck::default() });
            let headers = b"NATS/1.0 429 Too Many Requests\r\n\r\n";
            self.broker.publish(&reply, &reply, b"", headers, &Bytes::from(body));
        }
    }

    /// There is news that is no input: publishers are through with what they read, or the store has something to say.
    pub(super) fn wake(&self) {
        self.notify(self.lock());
    }

    /// Takes no more messages; what is in it is still taken out.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        self.notify(queue);
    }

    fn notify(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.woken = true;
        let asleep = queue.asleep;
        drop(queue);
        if asleep {
            self.ready.notify_one();
        }
    }

    /// Fills the empty `batch` with all that waits, after sleeping up to `sleep` if there is no news. False once closed
    /// and empty.
    pub(super) fn take(&self, batch: &mut Vec<Input>, sleep: Duration) -> bool {
        let mut queue = self.lock();
        if !queue.woken && !queue.closed && !sleep.is_zero() {
            queue.asleep = true;
            queue = self.ready.wait_timeout(queue, sleep).unwrap_or_else(PoisonError::into_inner).0;
            queue.asleep = false;
        }
        queue.woken = false;
        std::mem::swap(&mut queue.inputs, batch);
        queue.bytes = 0;
        queue.changed.clear();
        !queue.closed || !batch.is_empty()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::random::Random;

    #[test]
    fn news_of_a_watch_waits_once_however_often_it_comes() {
        let inbox = Inbox::new(Broker::new(Random::from_seed(1)));
        for round in 0..3 {
            for _ in 0..1000 {
                for consumer in [1, 2] {
                    inbox.push_interest_changed(Tag::Interest(consumer));
                }
            }
            let mut batch = Vec::new();
            inbox.take(&mut batch, Duration::ZERO);
            assert_eq!(batch.len(), 2, "round {round}");
        }
    }
}
