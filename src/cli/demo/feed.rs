//! One task per device: tells its events to the monitor at regular times and notes what was accepted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::device::Device;
use super::ledger::{Accepted, Ledger};
use super::post::{Monitor, PostError};
use crate::sys::clock::SharedClock;
use crate::sys::task;

/// What the feeds of all devices count together.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Events accepted with a 2xx.
    pub(crate) accepted: AtomicU64,
    /// Events refused by the monitor.
    pub(crate) refused: AtomicU64,
    /// Events whose fate is not known: the connection broke.
    pub(crate) unknown: AtomicU64,
}

/// A ledger that one device writes and the demo reads. None: nobody compares any more, nothing is kept.
pub(crate) type SharedLedger = Arc<Mutex<Option<Ledger>>>;

/// The task of a device.
pub(crate) struct Feed {
    task: JoinHandle<()>,
}

impl Feed {
    /// Starts telling. It ends when `stop` says true, after the post under way is answered.
    pub(crate) fn start(
        mut device: Device,
        mut monitor: Monitor,
        clock: SharedClock,
        counts: Arc<Counts>,
        ledger: SharedLedger,
        mut stop: watch::Receiver<bool>,
    ) -> Self {
        let task = task::spawn(async move {
            let mut ticks = tokio::time::interval(device.period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                let events = device.events(clock.monotonic());
                if events.is_empty() {
                    continue;
                }
                let bodies: Vec<_> = events.iter().map(|event| &event.body).collect();
                let body = serde_json::to_vec(&bodies).map(Bytes::from);
                let number = events.len() as u64;
                let sent = clock.wall();
                let outcome = match body {
                    Ok(body) => monitor.post(device.id, body).await,
                    // Readings are finite numbers and texts: they always fit JSON.
                    Err(_) => continue,
                };
                let answered = clock.wall();
                match outcome {
                    Ok(()) => {
                        counts.accepted.fetch_add(number, Ordering::Relaxed);
                        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(ledger) = ledger.as_mut() {
                            for event in &events {
                                ledger.note(event.number, Accepted { sent, answered });
                            }
                        }
                    }
                    Err(PostError::Refused { status, text }) => {
                        counts.refused.fetch_add(number, Ordering::Relaxed);
                        tracing::warn!(device = device.id, %status, "the monitor refuses: {text}");
                    }
                    Err(error @ PostError::Connection { .. }) => {
                        counts.unknown.fetch_add(number, Ordering::Relaxed);
                        tracing::warn!(device = device.id, "not accepted: {error}");
                    }
                }
            }
        });
        Self { task }
    }

    /// Waits until the device has stopped telling.
    pub(crate) async fn ended(self) {
        // A task that panicked has told its story on the standard error already.
        let _ = self.task.await;
    }
}
