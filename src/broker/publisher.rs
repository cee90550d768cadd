//! The publishing side of a connection: its match cache and its deliveries. The connection's reader owns it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use weir_protocol::encode;

use super::delivery::{Delivery, Message, Origin, Run};
use super::matches::{MatchCache, Matches, is_cached};
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

    /// Routes consecutive messages on one subject. `subject` and `messages` are slices of `chunk`.
    pub(crate) fn publish(&mut self, chunk: &Bytes, subject: &[u8], messages: &[Message<'_>]) {
        let origin = Origin::Chunk { chunk, from: &self.peer, info: &self.info };
        let run = Run { subject, messages, origin };
        if is_cached(subject) {
            // Read before matching: a match made while the sublist changes is then thrown away the next time.
            let generation = self.broker.generation();
            let matches = if let Some(matches) = self.cache.find(generation, subject) {
                Arc::clone(matches)
            } else {
                let matches = self.broker.shared_matches(generation, subject);
                self.cache.keep(generation, subject, &matches);
                matches
            };
            self.delivery.deliver(&self.broker, &matches, &run);
        } else {
            self.broker.matches(subject, &mut self.scratch);
            self.delivery.deliver(&self.broker, &self.scratch, &run);
            self.scratch.clear();
        }
        if self.no_responders {
            for (index, message) in messages.iter().enumerate() {
                if !self.delivery.taken()[index] && !message.reply.is_empty() {
                    self.tell_no_responders(subject, message.reply);
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
