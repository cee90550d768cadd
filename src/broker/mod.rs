//! Routing: who gets a message, and getting it into their outboxes.
//!
//! A [`Broker`] is the meeting point of connections, each a `Peer` that subscribes and a `Publisher` that publishes, and
//! of the server's own parts, which publish through [`Broker::publish`] and listen as [`InternalSink`]s. Delivery happens on
//! the publisher's thread and ends in outboxes and sinks; nothing here waits, reads a clock or knows a socket.
//!
//! Locks are leaves: none is held while another is taken, and none while a sink or a watcher is called; but for those of the
//! server's publishers, which nobody waits for.

mod delivery;
mod interest;
mod internal;
mod matches;
mod outbox;
mod peer;
mod publisher;
mod server_publisher;
mod sublist;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use interest::InterestWatch;
pub use internal::{InternalMessage, InternalSink, InternalSub};
pub use peer::ConnectionInfo;
pub use server_publisher::ServerMessage;

pub(crate) use delivery::Message;
pub(crate) use outbox::{Batch, Outbox, Work};
pub(crate) use peer::{Peer, Subscription};
pub(crate) use publisher::Publisher;

use interest::Watches;
use internal::InternalSubscription;
use matches::{MatchCache, Matches, Target, is_inbox};
use outbox::BufferPool;
use server_publisher::ServerPublisher;
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

    /// Whether a client's subscription, plain or in a queue group, or a stream's matches `subject`.
    #[must_use]
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        self.any(subject, |target| match target {
            Target::Client(subscription) => !subscription.is_closed(),
            Target::Internal(internal) => internal.sink.is_interest(),
        })
    }

    /// Whether a client is subscribed to `subject` itself, alone or in the queue group `queue`; a wildcard that matches does
    /// not count.
    #[must_use]
    pub fn has_literal_interest(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.any(subject, |target| match target {
            Target::Client(subscription) => {
                let is_literal = *subscription.filter == *subject && subscription.queue.as_deref() == queue;
                is_literal && !subscription.is_closed()
            }
            Target::Internal(_) => false,
        })
    }

    /// Whether a part of the server listens on `subject`.
    #[must_use]
    pub fn is_served(&self, subject: &[u8]) -> bool {
        self.any(subject, |target| matches!(target, Target::Internal(_)))
    }

    fn any(&self, subject: &[u8], wanted: impl Fn(&Target) -> bool) -> bool {
        let mut found = false;
        self.sublist().visit(subject, |members| {
            let queued = members.queues.iter().flat_map(|(_, group)| group);
            found = members.plain.iter().chain(queued).any(|(_, target)| wanted(target));
            if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// Lets `sink` listen on `filter`, a valid subject filter. Internal subscribers count as takers of a message (no 503 is
    /// sent), and as interest where the sink says so.
    pub fn subscribe_internal(&self, filter: &[u8], sink: Arc<dyn InternalSink>) -> InternalSub {
        let id = self.insert(filter, None, |_| Target::Internal(Arc::new(InternalSubscription { sink })));
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
        let shared = || {
            let mut shared = self.0.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.renew(generation).then_some(shared)
        };
        if let Some(shared) = shared()
            && let Some(audience) = shared.find(subject)
        {
            return Arc::clone(shared.matches(audience));
        }
        let mut matches = Matches::default();
        self.matches(subject, &mut matches);
        let matches = Arc::new(matches);
        // Others may have gone on to a later generation.
        let Some(mut shared) = shared() else { return matches };
        let audience = shared.keep(subject, matches);
        Arc::clone(shared.matches(audience))
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use bytes::Bytes;

    use super::*;

    pub(super) fn broker() -> Broker {
        Broker::new(Random::from_seed(1))
    }

    pub(super) fn connect(broker: &Broker) -> Arc<Peer> {
        let peer =
            broker.connect(ConnectionInfo { id: broker.next_id(), ..ConnectionInfo::default() }, 1 << 20);
        peer.headers.store(true, Ordering::Relaxed);
        peer
    }

    /// What waits to be written to `peer`, as text.
    pub(super) async fn received(peer: &Peer) -> String {
        if peer.outbox.pending() == 0 {
            return String::new();
        }
        let Work::Write(batch) = peer.outbox.work().await else { panic!("ended") };
        assert!(batch.splices.is_empty());
        peer.outbox.wrote(batch.buffer.len());
        String::from_utf8(batch.buffer).unwrap()
    }

    pub(super) fn say(broker: &Broker, subject: &str, payload: &'static str) -> bool {
        broker.publish(
            subject.as_bytes(),
            subject.as_bytes(),
            b"",
            b"",
            &Bytes::from_static(payload.as_bytes()),
        )
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
