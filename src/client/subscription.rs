//! A subscription: messages in the order in which they came, bounded, and dropped when their reader is too slow.
//!
//! One slow reader holds up nobody else: what finds no room is counted and thrown away. Dropping a subscription ends it at the
//! server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;
use weir_protocol::subject;

use super::{Client, Message, PublishError, UnavailableError};

/// The connection's end of a subscription.
pub(super) struct Sink {
    queue: mpsc::UnboundedSender<Message>,
    load: Arc<Load>,
    messages_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Sink {
    /// Hands over a message, or counts it as dropped when the reader is too far behind.
    pub(super) fn push(&self, message: Message) {
        let size = message.size();
        let load = &self.load;
        if load.messages.load(Ordering::Relaxed) >= self.messages_max
            || load.bytes.load(Ordering::Relaxed).saturating_add(size) > self.bytes_max
        {
            load.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        load.messages.fetch_add(1, Ordering::Relaxed);
        load.bytes.fetch_add(size, Ordering::Relaxed);
        // A reader that is gone has sent UNSUB, or is about to.
        let _gone = self.queue.send(message);
    }
}

/// Receives what is published on its filter (or filters) until it is dropped, which unsubscribes.
///
/// Above the limits of [`Options`](super::Options) new messages are dropped and counted: the other subscriptions of the
/// client do not wait for a slow one.
pub struct Subscription {
    client: Client,
    sids: Vec<u64>,
    queue: mpsc::UnboundedReceiver<Message>,
    load: Arc<Load>,
}

pub(super) fn start(
    client: &Client,
    filters: &[&str],
    queue: Option<&str>,
) -> Result<Subscription, PublishError> {
    let bad_queue = queue.filter(|queue| queue.is_empty() || queue.contains([' ', '\t', '\r', '\n']));
    let bad_filter = filters.iter().copied().find(|filter| !subject::is_valid_filter(filter.as_bytes()));
    if let Some(bad) = bad_queue.or(bad_filter) {
        return Err(PublishError::Subject(bad.to_owned()));
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let load = Arc::new(Load::default());
    let options = &client.core.options;
    // Messages of all filters go through one queue, so they keep the order in which the server sent them.
    let mut subscription =
        Subscription { client: client.clone(), sids: Vec::new(), queue: receiver, load: load.clone() };
    for filter in filters {
        let sink = Sink {
            queue: sender.clone(),
            load: load.clone(),
            messages_max: options.subscription_messages_max,
            bytes_max: options.subscription_bytes_max,
        };
        subscription.sids.push(client.core.subscribe(filter, queue, sink)?);
    }
    Ok(subscription)
}

impl Subscription {
    /// The next message; `None` once the subscription has ended and is empty.
    pub async fn next(&mut self) -> Option<Message> {
        let message = self.queue.recv().await?;
        self.taken(&message);
        Some(message)
    }

    /// The next message if one is here already.
    pub fn try_next(&mut self) -> Option<Message> {
        let message = self.queue.try_recv().ok()?;
        self.taken(&message);
        Some(message)
    }

    fn taken(&self, message: &Message) {
        self.load.messages.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(message.size(), Ordering::Relaxed);
    }

    /// How many messages were dropped so far because the reader was too slow.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.load.dropped.load(Ordering::Relaxed)
    }

    /// Asks the server to end the subscription after `max` messages in total (of each filter, when it has several).
    pub fn unsubscribe_after(&self, max: u64) {
        for sid in &self.sids {
            self.client.core.unsubscribe(*sid, Some(max));
        }
    }

    /// Ends the subscription at the server; what already arrived can still be read with [`next`](Self::next).
    ///
    /// # Errors
    /// When the connection breaks meanwhile: then messages under way are lost.
    pub async fn drain(&mut self) -> Result<(), UnavailableError> {
        for sid in &self.sids {
            self.client.core.stop_delivery(*sid);
        }
        let flushed = self.client.flush().await;
        for sid in &self.sids {
            self.client.core.forget(*sid);
        }
        flushed
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for sid in &self.sids {
            self.client.core.unsubscribe(*sid, None);
        }
    }
}
