//! What the broker knows of a connection: where its messages go, what it subscribed to, what it agreed on in CONNECT.
//!
//! A [`Peer`] is shared by everybody who delivers to the connection; its reader alone subscribes and unsubscribes. Locks
//! here are leaves: none is held while another is taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::outbox::{BufferPool, Outbox};

/// Who a connection is, as monitoring, events and JetStream's advisories tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The connection's id (cid), unlike every other one of this server.
    pub id: u64,
    /// The client's address; empty for an in-process connection.
    pub host: String,
    /// The client's port; 0 for an in-process connection.
    pub port: u16,
    /// When it came, in nanoseconds since 1970.
    pub start: i64,
    /// The account it is bound to.
    pub account: String,
    /// The user it logged in as; empty without authentication.
    pub user: String,
    /// CONNECT's `name`.
    pub name: String,
    /// CONNECT's `lang`.
    pub lang: String,
    /// CONNECT's `version`.
    pub version: String,
    /// True for a connection over the in-process pipe.
    pub in_process: bool,
    /// The round trip measured last; zero until then.
    pub rtt: std::time::Duration,
}

/// The broker's side of one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    pub(crate) in_process: bool,
    pub(crate) outbox: Outbox,
    subscriptions: Mutex<HashMap<Box<[u8]>, Arc<Subscription>>>,
    info: RwLock<Arc<ConnectionInfo>>,
    /// Messages with headers may be sent as such.
    pub(crate) headers: AtomicBool,
    /// Its own messages are delivered to it.
    pub(crate) echo: AtomicBool,
    /// It may be sent INFO at any time: its protocol says so, and it has been greeted.
    pub(crate) follows_info: AtomicBool,
    pub(crate) received: Received,
}

/// Messages and payload bytes that came from the connection. The reader adds to them once per read chunk.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// When it last published or subscribed, in nanoseconds since 1970; 0 before.
    pub(crate) last: AtomicI64,
    /// How often the connection was stalled because a destination fell behind.
    pub(crate) stalls: AtomicU64,
}

impl Received {
    /// Messages and payload bytes.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// One SUB.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) id: u64,
    pub(crate) filter: Box<[u8]>,
    pub(crate) queue: Option<Box<[u8]>>,
    pub(crate) sid: Box<[u8]>,
    pub(crate) peer: Arc<Peer>,
    /// Deliveries so far, the limit UNSUB gave (0: none) and whether it is over: read and written under the lock of the
    /// peer's outbox alone, so that exactly `max` messages are delivered.
    delivered: AtomicU64,
    max: AtomicU64,
    closed: AtomicBool,
}

impl Peer {
    pub(crate) fn new(info: ConnectionInfo, pool: Arc<BufferPool>, max_pending: usize) -> Arc<Self> {
        Arc::new(Self {
            id: info.id,
            in_process: info.in_process,
            outbox: Outbox::new(pool, max_pending),
            subscriptions: Mutex::default(),
            info: RwLock::new(Arc::new(info)),
            headers: AtomicBool::new(false),
            echo: AtomicBool::new(true),
            follows_info: AtomicBool::new(false),
            received: Received::default(),
        })
    }

    /// What CONNECT says about headers and echo.
    pub(crate) fn agree(&self, headers: bool, echo: bool) {
        self.headers.store(headers, Ordering::Relaxed);
        self.echo.store(echo, Ordering::Relaxed);
    }

    pub(crate) fn info(&self) -> Arc<ConnectionInfo> {
        Arc::clone(&self.info.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn change_info(&self, change: impl FnOnce(&mut ConnectionInfo)) {
        let mut slot = self.info.write().unwrap_or_else(PoisonError::into_inner);
        let mut info = ConnectionInfo::clone(&slot);
        change(&mut info);
        *slot = Arc::new(info);
    }

    /// The subscriptions by sid.
    pub(crate) fn subscriptions(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Arc<Subscription>>> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subscriptions, in no order.
    #[expect(clippy::disallowed_methods, reason = "whoever asks sorts them by id")]
    pub(crate) fn all_subscriptions(&self) -> Vec<Arc<Subscription>> {
        self.subscriptions().values().cloned().collect()
    }

    /// Forgets a subscription, unless its sid stands for another one by now.
    pub(crate) fn forget(&self, subscription: &Subscription) {
        let mut subscriptions = self.subscriptions();
        if subscriptions.get(&subscription.sid).is_some_and(|known| known.id == subscription.id) {
            subscriptions.remove(&subscription.sid);
        }
    }
}

impl Subscription {
    pub(crate) fn new(
        id: u64,
        filter: &[u8],
        queue: Option<&[u8]>,
        sid: &[u8],
        peer: Arc<Peer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            filter: filter.into(),
            queue: queue.map(Into::into),
            sid: sid.into(),
            peer,
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// Counts one more delivery if it is allowed. Under the outbox's lock.
    pub(crate) fn admit(&self) -> bool {
        if self.is_closed() {
            return false;
        }
        let delivered = self.delivered.load(Ordering::Relaxed) + 1;
        self.delivered.store(delivered, Ordering::Relaxed);
        if delivered == self.max.load(Ordering::Relaxed) {
            self.closed.store(true, Ordering::Relaxed);
        }
        true
    }

    /// UNSUB with a limit: true when the subscription goes on until then, false when it is over now. Under the outbox's
    /// lock.
    pub(crate) fn limit(&self, max: u64) -> bool {
        let goes_on = max > self.delivered.load(Ordering::Relaxed);
        if goes_on {
            self.max.store(max, Ordering::Relaxed);
        } else {
            self.closed.store(true, Ordering::Relaxed);
        }
        goes_on
    }

    /// Whether it takes no more messages.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Messages delivered so far.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// The limit UNSUB gave; 0 when there is none.
    pub(crate) fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }
}
