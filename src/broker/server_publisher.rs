//! Publishing by the server's own parts: one message, or many with receivers woken once for a run of them.
//!
//! A connection owns its [`Publisher`](super::Publisher); the server's threads share a few server publishers, each taken
//! for one call. Nobody waits: for a free one (a call that finds none makes one), or for a receiver that has fallen behind.

use std::sync::TryLockError;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Broker;
use super::delivery::{Delivery, Message, Origin, Run};
use super::matches::Matches;

/// A message made by the server; see [`Broker::publish`].
#[derive(Clone, Copy, Debug)]
pub struct ServerMessage<'a> {
    /// Decides who gets it.
    pub to: &'a [u8],
    /// What receivers see.
    pub subject: &'a [u8],
    /// Where an answer goes; empty when none is asked for.
    pub reply: &'a [u8],
    /// The header block; empty when there is none.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a Bytes,
}

impl<'a> ServerMessage<'a> {
    fn message(&self) -> Message<'a> {
        let Self { subject, reply, headers, payload, .. } = *self;
        Message { subject, reply, headers, payload, tail: b"" }
    }
}

/// After so many messages of the server receivers are woken, though more follow.
const FLUSH_MESSAGES: usize = 256;

/// The state of publishing by the server: the driver of JetStream mostly sends long runs to one deliver subject.
#[derive(Debug, Default)]
pub(super) struct ServerPublisher {
    delivery: Delivery,
    /// The last match: generation, inbox generation, subject.
    key: Option<(u64, u64, Box<[u8]>)>,
    matches: Matches,
}

impl Broker {
    /// Routes a message made by the server. `to` decides who gets it; `subject` is what receivers see (equal unless
    /// JetStream delivers a stored message to an inbox). `headers` is a header block or empty. Returns true when somebody
    /// (a connection or an internal subscriber) took it.
    ///
    /// Never waits: a connection that has more than its `max_pending` waiting is closed as a slow consumer.
    pub fn publish(&self, to: &[u8], subject: &[u8], reply: &[u8], headers: &[u8], payload: &Bytes) -> bool {
        self.with_server_publisher(|publisher| {
            let taken = publisher.publish(self, &[ServerMessage { to, subject, reply, headers, payload }]);
            publisher.delivery.flush(self);
            taken
        })
    }

    /// Routes messages made by the server as [`publish`](Self::publish) does, in order, and wakes receivers once for many:
    /// the way for what comes in great numbers.
    pub fn publish_all<'a>(&self, messages: impl IntoIterator<Item = ServerMessage<'a>>) {
        self.with_server_publisher(|publisher| {
            let mut run: Vec<ServerMessage<'_>> = Vec::new();
            for (number, message) in messages.into_iter().enumerate() {
                let is_due = number > 0 && number % FLUSH_MESSAGES == 0;
                if is_due || run.first().is_some_and(|first| first.to != message.to) {
                    publisher.publish(self, &run);
                    run.clear();
                }
                if is_due {
                    publisher.delivery.flush(self);
                }
                run.push(message);
            }
            publisher.publish(self, &run);
            publisher.delivery.flush(self);
        });
    }

    fn with_server_publisher<T>(&self, publish: impl FnOnce(&mut ServerPublisher) -> T) -> T {
        for publisher in &self.0.server {
            match publisher.try_lock() {
                Ok(mut publisher) => return publish(&mut publisher),
                Err(TryLockError::Poisoned(publisher)) => return publish(&mut publisher.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        // Many parts of the server publish at once, or sinks publish from within a push.
        publish(&mut ServerPublisher::default())
    }
}

impl ServerPublisher {
    /// Delivers messages that are all to the same receivers; whoever is delivered to is woken by the next flush. Whether somebody took one.
    fn publish(&mut self, broker: &Broker, run: &[ServerMessage<'_>]) -> bool {
        let Some(&ServerMessage { to, .. }) = run.first() else { return false };
        let now = (broker.generation(), broker.0.inbox_generation.load(Ordering::SeqCst));
        let known = self.key.as_ref().is_some_and(|(a, b, subject)| (*a, *b) == now && **subject == *to);
        if !known {
            broker.matches(to, &mut self.matches);
            self.key = Some((now.0, now.1, to.into()));
        }
        let (one, many);
        let messages: &[Message<'_>] = if let [only] = run {
            one = [only.message()];
            &one
        } else {
            many = run.iter().map(ServerMessage::message).collect::<Vec<_>>();
            &many
        };
        self.delivery.deliver(broker, &self.matches, &Run { messages, origin: Origin::Server { run } });
        // Nobody waits for a message made by the server.
        self.delivery.congested().for_each(drop);
        self.delivery.taken().iter().any(|taken| *taken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::internal::tests::Recorder;
    use super::super::outbox::{SPLICE_BYTES, Work};
    use super::super::tests::{broker, connect, received, say};
    use super::*;

    #[tokio::test]
    async fn the_server_publishes_to_clients() {
        let broker = broker();
        let peer = connect(&broker);
        assert!(!say(&broker, "a.b", "nobody"));
        assert!(broker.subscribe(&peer, b"a.*", None, b"1"));
        assert!(!broker.subscribe(&peer, b"other", None, b"1"), "the sid is taken");
        assert!(say(&broker, "a.b", "hi"));
        let payload = Bytes::from_static(b"stored");
        assert!(broker.publish(b"a.inbox", b"orders.1", b"$JS.ACK.x", b"NATS/1.0\r\n\r\n", &payload));
        assert_eq!(
            received(&peer).await,
            "MSG a.b 1 2\r\nhi\r\nHMSG orders.1 1 $JS.ACK.x 12 18\r\nNATS/1.0\r\n\r\nstored\r\n"
        );
        peer.headers.store(false, Ordering::Relaxed);
        assert!(broker.publish(b"a.inbox", b"orders.1", b"", b"NATS/1.0\r\n\r\n", &payload));
        assert_eq!(received(&peer).await, "MSG orders.1 1 6\r\nstored\r\n", "no headers agreed, none sent");
        broker.unsubscribe_all(&peer);
        assert!(!say(&broker, "a.b", "gone"));
        assert_eq!(broker.subscription_count(), 0);
    }

    #[tokio::test]
    async fn large_payloads_are_spliced() {
        let broker = broker();
        let peer = connect(&broker);
        broker.subscribe(&peer, b"a", None, b"1");
        let payload = Bytes::from(vec![7; SPLICE_BYTES]);
        assert!(broker.publish(b"a", b"a", b"", b"", &payload));
        let Work::Write(batch) = peer.outbox.work().await else { panic!("ended") };
        assert_eq!(batch.buffer, b"MSG a 1 16384\r\n\r\n");
        assert_eq!(batch.splices, [(15, payload.clone())]);
        assert_eq!(batch.splices[0].1.as_ptr(), payload.as_ptr(), "not copied");
        assert_eq!(peer.outbox.pending(), 15 + 16384 + 2);
    }

    #[tokio::test]
    async fn what_the_server_publishes_in_runs_arrives_as_published_one_by_one() {
        let large: Vec<_> = (1..=2).map(|fill| Bytes::from(vec![fill; SPLICE_BYTES])).collect();
        let small = Bytes::from_static(b"small");
        let message = |to: &'static str, subject: &'static str, reply: &'static str, payload| ServerMessage {
            to: to.as_bytes(),
            subject: subject.as_bytes(),
            reply: reply.as_bytes(),
            headers: b"",
            payload,
        };
        let mut messages = vec![
            message("a", "x", "r.1", &small),
            message("a", "x", "r.2", &large[0]),
            message("a", "x", "r.3", &large[1]),
            message("a", "y", "r.4", &small),
            message("b", "y", "r.5", &small),
            message("c", "y", "r.6", &small),
            message("a", "x", "r.7", &small),
        ];
        messages.extend(std::iter::repeat_n(message("a", "x", "many", &small), 2 * FLUSH_MESSAGES));
        let mut written = Vec::new();
        for at_once in [true, false] {
            let broker = broker();
            let peer = connect(&broker);
            let recorder = Arc::new(Recorder::default());
            broker.subscribe(&peer, b"*", None, b"1");
            let _internal = broker.subscribe_internal(b"b", Arc::clone(&recorder) as _);
            if at_once {
                broker.publish_all(messages.iter().copied());
            } else {
                for ServerMessage { to, subject, reply, headers, payload } in &messages {
                    broker.publish(to, subject, reply, headers, payload);
                }
            }
            assert_eq!(recorder.messages.lock().unwrap().len(), 1);
            let Work::Write(batch) = peer.outbox.work().await else { panic!("ended") };
            written.push((batch.buffer, batch.splices));
        }
        assert_eq!(written[0], written[1]);
        assert_eq!(written[0].1.len(), 2);
    }
}
