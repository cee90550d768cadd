//! The publishing side of a connection: its match cache and its deliveries. The connection's reader owns it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

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

impl Publisher {
    pub(crate) fn new(broker: Broker, peer: Arc<Peer>) -> Self {
        let info = peer.info();
        Self {
            broker,
            peer,
            info,
            no_responders: false,
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
        self.cache.renew(generation);
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
    pub(crate) fn answer(&mut self, bytes: &[u8]) {
        let mut appending = self.peer.outbox.append();
        if appending.reserve(bytes.len()) {
            appending.put(bytes);
        }
        if appending.promise_flush() {
            drop(appending);
            self.delivery.touch(&self.peer);
        }
    }

    /// Counts what came, then wakes everybody who was delivered to since the last flush.
    pub(crate) fn flush(&mut self, messages: u64, bytes: u64) {
        if messages > 0 {
            self.peer.received.messages.fetch_add(messages, Ordering::Relaxed);
            self.peer.received.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.broker.totals().in_messages.fetch_add(messages, Ordering::Relaxed);
            self.broker.totals().in_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.delivery.flush(&self.broker);
    }

    /// Connections that have fallen behind what was published since the last call.
    pub(crate) fn congested(&mut self) -> impl Iterator<Item = Arc<Peer>> {
        self.delivery.congested()
    }
}
