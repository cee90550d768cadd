//! The publishing side of a connection: its match cache and its deliveries. The connection's reader owns it.

use std::sync::Arc;

use bytes::Bytes;
use weir_protocol::encode;

use super::delivery::{Delivery, Message, Origin, Run};
use super::matches::{Audience, MatchCache, Matches, is_cached};
use super::peer::Peer;
use super::{Broker, ConnectionInfo};

/// The publishing side of a connection.
#[derive(Debug)]
pub(crate) struct Publisher {
    broker: Broker,
    peer: Arc<Peer>,
    info: Arc<ConnectionInfo>,
    /// The client asked to be told when a request reaches nobody.
    no_responders: bool,
    cache: MatchCache,
    /// The match of a subject that is not cached.
    scratch: Matches,
    delivery: Delivery,
}

/// Whoever was delivered to is waiting to be woken, by whatever way the publisher ends.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Publisher {
    pub(crate) fn new(broker: Broker, peer: Arc<Peer>, no_responders: bool) -> Self {
        let info = peer.info();
        Self {
            broker,
            peer,
            info,
            no_responders,
            cache: MatchCache::default(),
            scratch: Matches::default(),
            delivery: Delivery::default(),
        }
    }

    /// CONNECT came: what the peer says of itself may have changed.
    pub(crate) fn connected(&mut self, no_responders: bool) {
        self.info = self.peer.info();
        self.no_responders = no_responders;
    }

    /// Routes messages, in order. All of them are slices of `chunk`.
    pub(crate) fn publish(&mut self, chunk: &Bytes, messages: &[Message<'_>]) {
        let Some(first) = messages.first() else { return };
        // Read before matching: a match made while the sublist changes is then thrown away the next time.
        let generation = self.broker.generation();
        // A generation that was read once is never read as an earlier one later.
        let _ = self.cache.renew(generation);
        let mut audience = self.audience(generation, first.subject);
        let mut from = 0;
        for (at, pair) in (1..).zip(messages.windows(2)) {
            let [last, message] = pair else { continue };
            if message.is_on(last.subject) {
                continue;
            }
            let next = self.audience(generation, message.subject);
            if next.is_none() || next != audience {
                self.deliver(chunk, audience, &messages[from..at]);
                (from, audience) = (at, next);
            }
        }
        self.deliver(chunk, audience, &messages[from..]);
    }

    /// Who gets messages on `subject`, if that is worth remembering.
    fn audience(&mut self, generation: u64, subject: &[u8]) -> Option<Audience> {
        if !is_cached(subject) {
            return None;
        }
        let known = self.cache.find(subject);
        known.or_else(|| Some(self.cache.keep(subject, self.broker.shared_matches(generation, subject))))
    }

    /// Delivers messages for the same audience; without one, they are on the same subject.
    fn deliver(&mut self, chunk: &Bytes, audience: Option<Audience>, messages: &[Message<'_>]) {
        let run = Run { messages, origin: Origin::Chunk { chunk, from: &self.peer, info: &self.info } };
        if let Some(audience) = audience {
            self.delivery.deliver(&self.broker, self.cache.matches(audience), &run);
        } else {
            self.broker.matches(messages[0].subject, &mut self.scratch);
            self.delivery.deliver(&self.broker, &self.scratch, &run);
            self.scratch.clear();
        }
        if self.no_responders {
            for (index, message) in messages.iter().enumerate() {
                if !self.delivery.taken()[index] && !message.reply.is_empty() {
                    self.tell_no_responders(message.subject, message.reply);
                }
            }
        }
    }

    /// Tells the client, on its own subscription for the reply, that nobody was there to take its request.
    fn tell_no_responders(&mut self, subject: &[u8], reply: &[u8]) {
        let Some(subscription) = self.broker.subscription_for(&self.peer, reply) else { return };
        let mut message = Vec::new();
        encode::no_responders(&mut message, reply, &subscription.sid, subject);
        self.answer(&message);
    }

    /// Appends `bytes` to the connection's own outbox; they leave with the next flush.
    fn answer(&mut self, bytes: &[u8]) {
        let mut appending = self.peer.outbox.append();
        if appending.reserve(bytes.len()) {
            appending.put(bytes);
        }
        if appending.promise_flush() {
            drop(appending);
            self.delivery.touch(&self.peer);
        }
    }

    /// Wakes everybody who was delivered to since the last flush.
    pub(crate) fn flush(&mut self) {
        self.delivery.flush(&self.broker);
    }

    /// Connections that have fallen behind what was published since the last call.
    pub(crate) fn congested(&mut self) -> impl Iterator<Item = Arc<Peer>> {
        self.delivery.congested()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};
    use weir_protocol::error::ClosedReason;

    use super::*;
    use crate::broker::outbox::Work;
    use crate::broker::{InternalMessage, InternalSink};
    use crate::sys::random::Random;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<Bytes>>);

    impl InternalSink for Recorder {
        fn push(&self, message: InternalMessage) {
            self.0.lock().unwrap().push(message.subject);
        }
    }

    /// What connections and a part of the server get of messages on `subjects`, so many at a time; and what the publisher is told.
    async fn delivered(subjects: &[&[u8]], together: usize) -> (Vec<Vec<u8>>, Vec<Bytes>) {
        let broker = Broker::new(Random::from_seed(1));
        let connect =
            || broker.connect(ConnectionInfo { id: broker.next_id(), ..ConnectionInfo::default() }, 1 << 20);
        let filters: [&[&[u8]]; 6] =
            [&[b">"], &[b"a.*", b"a.x", b">"], &[b"a.x"], &[b"_INBOX.*"], &[b"b.>"], &[b"a.z"]];
        let mut peers = Vec::from(filters.map(|filters| {
            let peer = connect();
            for (sid, filter) in filters.iter().enumerate() {
                let queue = (*filter == b"b.>").then_some(&b"group of one"[..]);
                broker.subscribe(&peer, filter, queue, sid.to_string().as_bytes());
            }
            peer
        }));
        broker.unsubscribe(&peers[2], b"0", 20);
        broker.unsubscribe(&peers[0], b"0", 100);
        broker.unsubscribe(&peers[1], b"2", 100);
        peers[5].outbox.close(ClosedReason::ClientClosed, false);
        let recorder = Arc::new(Recorder::default());
        let _internal = broker.subscribe_internal(b"a.y", Arc::clone(&recorder) as _);
        let own = connect();
        own.agree(true, true);
        broker.subscribe(&own, b"answer", None, b"0");
        let mut publisher = Publisher::new(broker.clone(), Arc::clone(&own), true);
        peers.push(own);
        let chunk = Bytes::from(subjects.concat());
        let mut at = 0;
        let messages: Vec<_> = subjects
            .iter()
            .enumerate()
            .map(|(number, subject)| {
                at += subject.len();
                let subject = &chunk[at - subject.len()..at];
                // The payload tells the messages apart.
                let payload = &chunk[number % chunk.len()..];
                Message {
                    subject,
                    reply: b"",
                    headers: b"",
                    payload: &payload[..payload.len().min(9)],
                    tail: b"",
                }
            })
            .collect();
        for messages in messages.chunks(together) {
            publisher.publish(&chunk, messages);
        }
        publisher.flush();
        let mut written = Vec::new();
        for peer in &peers {
            if peer.outbox.pending() == 0 {
                written.push(Vec::new());
            } else if let Work::Write(batch) = peer.outbox.work().await {
                written.push(batch.buffer);
            }
        }
        (written, std::mem::take(&mut *recorder.0.lock().unwrap()))
    }

    /// A mistake in what comes behind a message in the same chunk takes the publisher with it.
    #[tokio::test(start_paused = true)]
    async fn whoever_was_delivered_to_is_woken_though_the_publisher_ends() {
        let broker = Broker::new(Random::from_seed(1));
        let connect =
            || broker.connect(ConnectionInfo { id: broker.next_id(), ..ConnectionInfo::default() }, 1 << 20);
        let (subscriber, own) = (connect(), connect());
        broker.subscribe(&subscriber, b"a", None, b"0");
        let mut work = std::pin::pin!(subscriber.outbox.work());
        assert!(work.as_mut().now_or_never().is_none());
        let mut publisher = Publisher::new(broker.clone(), own, false);
        let chunk = Bytes::from_static(b"a");
        let message = Message { subject: &chunk, reply: b"", headers: b"", payload: &chunk, tail: b"" };
        publisher.publish(&chunk, &[message]);
        drop(publisher);
        let woken = tokio::time::timeout(std::time::Duration::from_secs(60), work).await;
        assert!(matches!(woken.expect("it is woken"), Work::Write(_)));
    }

    #[tokio::test]
    async fn messages_delivered_together_arrive_as_if_delivered_one_by_one() {
        const SUBJECTS: [&[u8]; 7] = [b"a.x", b"a.y", b"a.z", b"b.x", b"b.y", b"_INBOX.1", b"nobody"];
        for seed in 0..50 {
            let mut random = StdRng::seed_from_u64(seed);
            let subjects: Vec<_> =
                (0..200).map(|_| SUBJECTS[random.random_range(..SUBJECTS.len())]).collect();
            let one_by_one = delivered(&subjects, 1).await;
            for together in [2, 7, 200] {
                let same = delivered(&subjects, together).await == one_by_one;
                assert!(same, "seed {seed}, {together} together");
            }
        }
    }
}
