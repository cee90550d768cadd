//! Routing: who gets a message, and getting it into their outboxes.
//!
//! A [`Broker`] is the meeting point of connections, each a `Peer` that subscribes and a `Publisher` that publishes, and
//! of the server's own parts, which publish through [`Broker::publish`] and listen as [`InternalSink`]s. Delivery happens on
//! the publisher's thread and ends in outboxes and sinks; nothing here waits, reads a clock or knows a socket.
//!
//! Locks are leaves: none is held while another is taken, and none while a sink or a watcher is called.

mod delivery;
mod interest;
mod matches;
mod outbox;
mod peer;
mod publisher;
mod sublist;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use bytes::Bytes;

pub use interest::InterestWatch;
pub use peer::ConnectionInfo;

pub(crate) use delivery::Message;
pub(crate) use outbox::{Batch, Outbox, Work};
pub(crate) use peer::{Peer, Subscription};
pub(crate) use publisher::Publisher;

use delivery::{Delivery, Origin, Run};
use interest::Watches;
use matches::{MatchCache, Matches, Target, is_inbox};
use outbox::BufferPool;
use sublist::Sublist;

use crate::sys::random::Random;

/// The meeting point of everybody who publishes and subscribes. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Broker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sublist: RwLock<Sublist<Target>>,
    /// Raised under the sublist's lock with each change that a cached match could miss.
    generation: AtomicU64,
    /// Raised with each of the other changes.
    inbox_generation: AtomicU64,
    /// Matches that connections share, so that a wide fan-out is kept once and not once per publisher.
    shared: Mutex<MatchCache>,
    watches: Watches,
    ids: AtomicU64,
    totals: Totals,
    random: Random,
    pool: Arc<BufferPool>,
    /// One for each thread of the server that publishes at the same time, as far as they go.
    server: [Mutex<ServerPublisher>; 4],
}

/// Messages and payload bytes of all connections that ever were.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) in_messages: AtomicU64,
    pub(crate) in_bytes: AtomicU64,
    pub(crate) out_messages: AtomicU64,
    pub(crate) out_bytes: AtomicU64,
    pub(crate) stalls: AtomicU64,
}

/// A message for a part of the server.
#[derive(Clone, Debug)]
pub struct InternalMessage {
    /// The tag of the internal subscription that matched.
    pub tag: u64,
    /// The subject as receivers see it.
    pub subject: Bytes,
    /// Where an answer goes; empty when none is asked for.
    pub reply: Bytes,
    /// The header block as it came; empty when there is none.
    pub headers: Bytes,
    /// The payload.
    pub payload: Bytes,
    /// The connection that published it; `None` for a message made by the server.
    pub from: Option<Arc<ConnectionInfo>>,
}

/// A part of the server that listens. `push` and `flush` are called on the publisher's thread and must not block.
pub trait InternalSink: Send + Sync {
    /// A message, in the publisher's order. `Bytes` of a client's message are slices of what was read from its socket and
    /// keep that (usually 64 KiB) alive: copy what stays long.
    fn push(&self, message: InternalMessage);
    /// After the messages of one read chunk of a connection, or after each message made by the server.
    fn flush(&self) {}
}

/// An internal subscription; dropping it ends it.
#[must_use = "an internal subscription ends when it is dropped"]
#[derive(Debug)]
pub struct InternalSub {
    broker: Broker,
    id: u64,
    filter: Box<[u8]>,
}

pub(crate) struct InternalSubscription {
    tag: u64,
    sink: Arc<dyn InternalSink>,
}

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
        let Self { reply, headers, payload, .. } = *self;
        Message { reply, headers, payload, tail: b"" }
    }

    /// Whether both can be in one run.
    fn goes_with(&self, other: &ServerMessage<'_>) -> bool {
        self.to == other.to && self.subject == other.subject
    }
}

/// After so many messages of the server receivers are woken, though more follow.
const FLUSH_MESSAGES: usize = 256;

/// The state of publishing by the server: the driver of JetStream mostly sends long runs to one deliver subject.
#[derive(Debug, Default)]
struct ServerPublisher {
    delivery: Delivery,
    /// The last match: generation, inbox generation, subject.
    key: Option<(u64, u64, Box<[u8]>)>,
    matches: Matches,
}

impl Broker {
    /// A broker without connections. `random` chooses among queue group members.
    #[must_use]
    pub fn new(random: Random) -> Self {
        Self(Arc::new(Inner {
            sublist: RwLock::default(),
            generation: AtomicU64::new(1),
            inbox_generation: AtomicU64::new(1),
            shared: Mutex::default(),
            watches: Watches::default(),
            ids: AtomicU64::new(1),
            totals: Totals::default(),
            random,
            pool: Arc::default(),
            server: Default::default(),
        }))
    }

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
                if is_due || run.first().is_some_and(|first| !first.goes_with(&message)) {
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

    /// Whether a client's subscription, plain or in a queue group, matches `subject`.
    #[must_use]
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        self.any_client(subject, |_| true)
    }

    /// Whether a client is subscribed to `subject` itself, alone or in the queue group `queue`; a wildcard that matches does
    /// not count.
    #[must_use]
    pub fn has_literal_interest(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.any_client(subject, |subscription| {
            *subscription.filter == *subject && subscription.queue.as_deref() == queue
        })
    }

    /// Whether a part of the server listens on `subject`.
    #[must_use]
    pub fn is_served(&self, subject: &[u8]) -> bool {
        let mut found = false;
        self.sublist().visit(subject, |members| {
            found = members.plain.iter().any(|(_, target)| matches!(target, Target::Internal(_)));
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    fn any_client(&self, subject: &[u8], wanted: impl Fn(&Subscription) -> bool) -> bool {
        let mut found = false;
        self.sublist().visit(subject, |members| {
            let queued = members.queues.iter().flat_map(|(_, group)| group);
            found = members.plain.iter().chain(queued).any(|(_, target)| match target {
                Target::Client(subscription) => !subscription.is_closed() && wanted(subscription),
                Target::Internal(_) => false,
            });
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Lets `sink` listen on `filter`, a valid subject filter; `tag` is told with each message. Internal subscribers count
    /// as takers of a message (no 503 is sent), not as interest.
    pub fn subscribe_internal(&self, filter: &[u8], tag: u64, sink: Arc<dyn InternalSink>) -> InternalSub {
        let id =
            self.insert(filter, None, |_| Target::Internal(Arc::new(InternalSubscription { tag, sink })));
        InternalSub { broker: self.clone(), id, filter: filter.into() }
    }

    /// Calls `changed`, from the subscribing connection's thread, whenever interest of clients in exactly `subject` may
    /// have appeared or gone; [`has_interest`](Self::has_interest) tells what is.
    pub fn watch_interest(&self, subject: &[u8], changed: Arc<dyn Fn() + Send + Sync>) -> InterestWatch {
        self.0.watches.add(self, subject, self.next_id(), changed)
    }

    /// How many subscriptions clients and the server have.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.sublist().len()
    }

    /// A new connection.
    pub(crate) fn connect(&self, info: ConnectionInfo, max_pending: usize) -> Arc<Peer> {
        Peer::new(info, Arc::clone(&self.0.pool), max_pending)
    }

    /// Ends every subscription of `peer`.
    pub(crate) fn unsubscribe_all(&self, peer: &Peer) {
        let subscriptions = std::mem::take(&mut *peer.subscriptions());
        let mut subscriptions: Vec<_> = subscriptions.into_values().collect();
        subscriptions.sort_unstable_by_key(|subscription| subscription.id);
        for subscription in subscriptions {
            self.remove(&subscription);
        }
    }

    /// Adds a client's subscription; false when `sid` already stands for one, which then stays.
    pub(crate) fn subscribe(
        &self,
        peer: &Arc<Peer>,
        filter: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
    ) -> bool {
        if peer.subscriptions().get(sid).is_some_and(|known| !known.is_closed()) {
            return false;
        }
        self.insert(filter, queue, |id| {
            let subscription = Subscription::new(id, filter, queue, sid, Arc::clone(peer));
            peer.subscriptions().insert(sid.into(), Arc::clone(&subscription));
            Target::Client(subscription)
        });
        self.0.watches.notify(filter);
        true
    }

    /// Ends the subscription `sid` of `peer` after `max` deliveries in total, now if that many were made or `max` is 0. An
    /// unknown sid is nothing to end.
    pub(crate) fn unsubscribe(&self, peer: &Peer, sid: &[u8], max: u64) {
        let Some(subscription) = peer.subscriptions().get(sid).cloned() else { return };
        let goes_on = {
            let _appending = peer.outbox.append();
            subscription.limit(max)
        };
        if !goes_on {
            self.remove(&subscription);
        }
    }

    /// Takes a client's subscription out, if that has not happened yet.
    pub(crate) fn remove(&self, subscription: &Subscription) {
        subscription.peer.forget(subscription);
        if self.take_out(&subscription.filter, subscription.queue.as_deref(), subscription.id) {
            self.0.watches.notify(&subscription.filter);
        }
    }

    /// The subscription of `peer`, outside queue groups, that gets messages on `reply`.
    pub(crate) fn subscription_for(&self, peer: &Arc<Peer>, reply: &[u8]) -> Option<Arc<Subscription>> {
        let mut found = None;
        self.sublist().visit(reply, |members| {
            found = members.plain.iter().find_map(|(_, target)| match target {
                Target::Client(subscription) if Arc::ptr_eq(&subscription.peer, peer) => {
                    Some(Arc::clone(subscription))
                }
                Target::Client(_) | Target::Internal(_) => None,
            });
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.0.totals
    }

    /// A number never given before.
    pub(crate) fn next_id(&self) -> u64 {
        self.0.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn random(&self) -> &Random {
        &self.0.random
    }

    fn watches(&self) -> &Watches {
        &self.0.watches
    }

    fn insert(&self, filter: &[u8], queue: Option<&[u8]>, target: impl FnOnce(u64) -> Target) -> u64 {
        let id = self.next_id();
        let target = target(id);
        let mut sublist = self.sublist_mut();
        sublist.insert(filter, queue, id, target);
        self.raise_generation(filter);
        drop(sublist);
        id
    }

    fn take_out(&self, filter: &[u8], queue: Option<&[u8]>, id: u64) -> bool {
        let mut sublist = self.sublist_mut();
        let removed = sublist.remove(filter, queue, id);
        if removed.is_some() {
            self.raise_generation(filter);
        }
        drop(sublist);
        removed.is_some()
    }

    /// Under the sublist's lock.
    fn raise_generation(&self, filter: &[u8]) {
        let generation = if is_inbox(filter) { &self.0.inbox_generation } else { &self.0.generation };
        generation.fetch_add(1, Ordering::SeqCst);
    }

    fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::SeqCst)
    }

    /// Everybody who gets a message on `subject`, from the cache that connections share if it is there.
    fn shared_matches(&self, generation: u64, subject: &[u8]) -> Arc<Matches> {
        let shared = || self.0.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matches) = shared().find(generation, subject) {
            return Arc::clone(matches);
        }
        let mut matches = Matches::default();
        self.matches(subject, &mut matches);
        let matches = Arc::new(matches);
        shared().keep(generation, subject, &matches);
        matches
    }

    /// Everybody who gets a message on `subject`, in place of what `matches` held.
    fn matches(&self, subject: &[u8], matches: &mut Matches) {
        matches.clear();
        matches.collect(&self.sublist(), subject);
    }

    fn sublist(&self) -> RwLockReadGuard<'_, Sublist<Target>> {
        self.0.sublist.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn sublist_mut(&self) -> RwLockWriteGuard<'_, Sublist<Target>> {
        self.0.sublist.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerPublisher {
    /// Delivers messages that go together; whoever is delivered to is woken by the next flush. Whether somebody took one.
    fn publish(&mut self, broker: &Broker, run: &[ServerMessage<'_>]) -> bool {
        let Some(&ServerMessage { to, subject, .. }) = run.first() else { return false };
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
        self.delivery.deliver(
            broker,
            &self.matches,
            &Run { subject, messages, origin: Origin::Server { run } },
        );
        // Nobody waits for a message made by the server.
        self.delivery.congested().for_each(drop);
        self.delivery.taken().iter().any(|taken| *taken)
    }
}

impl InternalSub {
    /// Ends the subscription.
    pub fn unsubscribe(self) {
        drop(self);
    }
}

impl Drop for InternalSub {
    fn drop(&mut self) {
        self.broker.take_out(&self.filter, None, self.id);
    }
}

impl fmt::Debug for InternalSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalSubscription").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn InternalSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InternalSink")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn broker() -> Broker {
        Broker::new(Random::from_seed(1))
    }

    fn connect(broker: &Broker) -> Arc<Peer> {
        let peer =
            broker.connect(ConnectionInfo { id: broker.next_id(), ..ConnectionInfo::default() }, 1 << 20);
        peer.headers.store(true, Ordering::Relaxed);
        peer
    }

    /// What waits to be written to `peer`, as text.
    async fn received(peer: &Peer) -> String {
        if peer.outbox.pending() == 0 {
            return String::new();
        }
        let Work::Write(batch) = peer.outbox.work().await else { panic!("ended") };
        assert!(batch.splices.is_empty());
        peer.outbox.wrote(batch.buffer.len());
        String::from_utf8(batch.buffer).unwrap()
    }

    #[derive(Default)]
    struct Recorder {
        messages: Mutex<Vec<InternalMessage>>,
        flushes: AtomicUsize,
    }

    impl InternalSink for Recorder {
        fn push(&self, message: InternalMessage) {
            self.messages.lock().unwrap().push(message);
        }

        fn flush(&self) {
            self.flushes.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn say(broker: &Broker, subject: &str, payload: &'static str) -> bool {
        broker.publish(
            subject.as_bytes(),
            subject.as_bytes(),
            b"",
            b"",
            &Bytes::from_static(payload.as_bytes()),
        )
    }

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
        let payload = Bytes::from(vec![7; outbox::SPLICE_BYTES]);
        assert!(broker.publish(b"a", b"a", b"", b"", &payload));
        let Work::Write(batch) = peer.outbox.work().await else { panic!("ended") };
        assert_eq!(batch.buffer, b"MSG a 1 16384\r\n\r\n");
        assert_eq!(batch.splices, [(15, payload.clone())]);
        assert_eq!(batch.splices[0].1.as_ptr(), payload.as_ptr(), "not copied");
        assert_eq!(peer.outbox.pending(), 15 + 16384 + 2);
    }

    #[tokio::test]
    async fn what_the_server_publishes_in_runs_arrives_as_published_one_by_one() {
        let large: Vec<_> = (1..=2).map(|fill| Bytes::from(vec![fill; outbox::SPLICE_BYTES])).collect();
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
            let _internal = broker.subscribe_internal(b"b", 0, Arc::clone(&recorder) as _);
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

    #[test]
    fn internal_subscribers_take_messages_but_are_no_interest() {
        let broker = broker();
        let sink = Arc::new(Recorder::default());
        let sub = broker.subscribe_internal(b"$JS.API.>", 9, sink.clone());
        assert!(!broker.has_interest(b"$JS.API.INFO"));
        assert!(broker.is_served(b"$JS.API.INFO") && !broker.is_served(b"$JS.API"));
        assert!(say(&broker, "$JS.API.INFO", "x"));
        assert_eq!(sink.flushes.load(Ordering::SeqCst), 1);
        let message = sink.messages.lock().unwrap().pop().unwrap();
        assert_eq!((message.tag, &*message.subject, &*message.payload), (9, &b"$JS.API.INFO"[..], &b"x"[..]));
        assert_eq!(message.from, None);
        sub.unsubscribe();
        assert!(!say(&broker, "$JS.API.INFO", "x"));
    }

    #[test]
    fn a_sink_may_publish_from_within_push() {
        struct Echo(Broker);
        impl InternalSink for Echo {
            fn push(&self, message: InternalMessage) {
                self.0.publish(&message.reply, &message.reply, b"", b"", &message.payload);
            }
        }
        let broker = broker();
        let _echo = broker.subscribe_internal(b"echo", 0, Arc::new(Echo(broker.clone())));
        let answers = Arc::new(Recorder::default());
        let _answers = broker.subscribe_internal(b"answers", 0, answers.clone());
        assert!(broker.publish(b"echo", b"echo", b"answers", b"", &Bytes::from_static(b"x")));
        assert_eq!(answers.messages.lock().unwrap().len(), 1);
    }

    #[test]
    fn interest_is_that_of_clients_and_knows_queues() {
        let broker = broker();
        let peer = connect(&broker);
        broker.subscribe(&peer, b"push.*", Some(b"workers"), b"1");
        assert!(broker.has_interest(b"push.a"));
        assert!(!broker.has_literal_interest(b"push.a", Some(b"workers")));
        broker.subscribe(&peer, b"push.a", Some(b"workers"), b"2");
        assert!(broker.has_literal_interest(b"push.a", Some(b"workers")));
        assert!(!broker.has_literal_interest(b"push.a", Some(b"others")));
        broker.unsubscribe(&peer, b"2", 0);
        assert!(!broker.has_literal_interest(b"push.a", None));
        assert!(!broker.has_interest(b"push"));
        broker.unsubscribe(&peer, b"1", 0);
        assert!(!broker.has_interest(b"push.a"));
    }

    #[test]
    fn watches_hear_of_every_filter_that_covers_their_subject() {
        let broker = broker();
        let peer = connect(&broker);
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let watch = broker.watch_interest(
            b"deliver.a",
            Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        );
        let mut expected = 0;
        for (filter, heard) in
            [("deliver.a", 1), ("deliver.*", 1), (">", 1), ("deliver.b", 0), ("deliver", 0)]
        {
            broker.subscribe(&peer, filter.as_bytes(), None, filter.as_bytes());
            expected += heard;
            assert_eq!(calls.load(Ordering::SeqCst), expected, "SUB {filter}");
            broker.unsubscribe(&peer, filter.as_bytes(), 0);
            expected += heard;
            assert_eq!(calls.load(Ordering::SeqCst), expected, "UNSUB {filter}");
        }
        broker.subscribe(&peer, b"deliver.a", None, b"x");
        broker.unsubscribe_all(&peer);
        assert_eq!(calls.load(Ordering::SeqCst), expected + 2);
        drop(watch);
        broker.subscribe(&peer, b"deliver.a", None, b"y");
        assert_eq!(calls.load(Ordering::SeqCst), expected + 2);
    }

    #[tokio::test]
    async fn exactly_max_messages_are_delivered() {
        let broker = broker();
        let peer = connect(&broker);
        broker.subscribe(&peer, b"a", None, b"1");
        assert!(say(&broker, "a", "1"));
        broker.unsubscribe(&peer, b"1", 3);
        assert_eq!(
            [say(&broker, "a", "2"), say(&broker, "a", "3"), say(&broker, "a", "4")],
            [true, true, false]
        );
        assert_eq!(received(&peer).await, "MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\nMSG a 1 1\r\n3\r\n");
        assert_eq!(broker.subscription_count(), 0);
        assert!(broker.subscribe(&peer, b"a", None, b"1"), "the sid is free again");
        assert!(say(&broker, "a", "5"));
        broker.unsubscribe(&peer, b"1", 1);
        assert!(!say(&broker, "a", "6"), "one was delivered already");
    }
}
