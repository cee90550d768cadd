//! Lame duck mode: the connections of a server that leaves are told, and closed one after the other.
//!
//! How the closing is spread is nats-server's: over what the grace period leaves of the whole duration, a second between two at
//! most, each pause a random one between half and all of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use weir_protocol::error::ClosedReason;

use super::{Limits, Shared};
use crate::broker::Peer;

/// The longest pause between two connections.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Tells every client that the server leaves, and closes them all; returns when the last is told to close, or at once after `hurry`.
pub(super) async fn dismiss(shared: &Shared, hurry: impl Future<Output = ()>) {
    let peers = shared.registry.open();
    for peer in peers.iter().filter(|peer| peer.follows_info.load(Ordering::Relaxed)) {
        peer.outbox.send(&shared.info_for(peer, |info| info.ldm = true));
    }
    if peers.is_empty() {
        return;
    }
    tokio::select! {
        () = close_slowly(shared, &peers) => {}
        () = hurry => {}
    }
}

async fn close_slowly(shared: &Shared, peers: &[Arc<Peer>]) {
    tokio::time::sleep(shared.limits.lame_duck_grace_period).await;
    tracing::info!("Closing existing clients");
    let pause = pause(&shared.limits, peers.len());
    let half = u64::try_from(pause.as_nanos() / 2).unwrap_or(u64::MAX);
    for (index, peer) in peers.iter().enumerate() {
        if index > 0 {
            tokio::time::sleep(Duration::from_nanos(half.saturating_add(shared.random.below(half)))).await;
        }
        peer.outbox.close(ClosedReason::ServerShutdown, true);
    }
}

/// The longest pause between two of `count` connections.
fn pause(limits: &Limits, count: usize) -> Duration {
    let rest = limits.lame_duck_duration.saturating_sub(limits.lame_duck_grace_period);
    let rest = if rest.is_zero() { PAUSE_MAX } else { rest };
    (rest / u32::try_from(count.max(1)).unwrap_or(u32::MAX)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_is_spread_over_what_is_left() {
        let limits = |duration, grace| Limits {
            lame_duck_duration: Duration::from_secs(duration),
            lame_duck_grace_period: Duration::from_secs(grace),
            ..Limits::default()
        };
        for (limits, count, millis) in [
            (limits(120, 10), 1, 1000),
            (limits(120, 10), 110, 1000),
            (limits(120, 10), 1100, 100),
            (limits(120, 10), 110_000, 1),
            (limits(10, 10), 10, 100),
            (limits(1, 10), 10, 100),
        ] {
            assert_eq!(pause(&limits, count), Duration::from_millis(millis), "{count} connections");
        }
    }
}
