//! An independent subscriber: a connection of its own that knows nothing of recordings and writes down what arrives.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::device::event_number;
use crate::client::{Client, PublishError};
use crate::sys::clock::SharedClock;
use crate::sys::task;

/// What arrived so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The numbers of the device's events, in the order of arrival.
    pub(crate) numbers: Vec<u64>,
    /// Messages without an id of that device.
    pub(crate) strangers: u64,
    /// When the first and the last arrived, nanoseconds since 1970.
    pub(crate) first_and_last: Option<(i64, i64)>,
}

/// Listens on one subject until dropped.
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
    arrived: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Witness {
    /// Listens from the moment this returns on.
    pub(crate) async fn listen(
        client: &Client,
        subject: &str,
        device: &'static str,
        clock: SharedClock,
    ) -> Result<Self, PublishError> {
        let mut subscription = client.subscribe(subject)?;
        // The server has the subscription once it has answered what was sent behind it.
        client.flush().await.map_err(|_| PublishError::Closed)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let arrived = Arc::new(Notify::new());
        let task = task::spawn({
            let (seen, arrived) = (seen.clone(), arrived.clone());
            async move {
                while let Some(message) = subscription.next().await {
                    let now = clock.wall();
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    match message.header("X-Monitor-Id").and_then(|id| event_number(device, id)) {
                        Some(number) => seen.numbers.push(number),
                        None => seen.strangers += 1,
                    }
                    seen.first_and_last = Some((seen.first_and_last.map_or(now, |(first, _)| first), now));
                    drop(seen);
                    arrived.notify_one();
                }
            }
        });
        Ok(Self { seen, arrived, task })
    }

    /// What arrived so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many messages have arrived; the caller limits the time.
    pub(crate) async fn until(&self, messages: u64) {
        loop {
            let arrived = self.arrived.notified();
            {
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.numbers.len() as u64 + seen.strangers >= messages {
                    return;
                }
            }
            arrived.await;
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}
