//! The writing task of a connection: takes what its outbox holds and writes it, until the outbox has ended.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use weir_protocol::error::ClosedReason;

use crate::broker::{Batch, Outbox, Peer, Work};
use crate::sys::panic::contain;

/// Writes until the outbox has ended and what it held is written, or a write fails; then closes the writing half. A write
/// that takes longer than `write_deadline` ends the connection as a slow consumer.
pub(super) fn write(
    peer: Arc<Peer>,
    socket: impl AsyncWrite + Unpin,
    write_deadline: Duration,
) -> impl Future<Output = ()> {
    // Not an async block: that would hold the task twice.
    contain(write_all(Arc::clone(&peer), socket, write_deadline)).map(move |written| {
        if written.is_err() {
            peer.outbox.close(ClosedReason::Kicked, false);
        }
    })
}

async fn write_all(peer: Arc<Peer>, mut socket: impl AsyncWrite + Unpin, write_deadline: Duration) {
    let outbox = &peer.outbox;
    while let Work::Write(batch) = outbox.work().await {
        // On the heap: every connection that has nothing to write would carry it otherwise.
        let writing = Box::pin(timeout(write_deadline, write_batch(&mut socket, outbox, &batch)));
        let written = writing.await;
        let reason = match written {
            Ok(Ok(())) => {
                outbox.recycle(batch);
                continue;
            }
            Ok(Err(_)) => ClosedReason::WriteError,
            Err(_) => ClosedReason::SlowConsumerWriteDeadline,
        };
        outbox.close(reason, false);
        // Also where an earlier end is to be flushed: nothing can follow what was cut off.
        break;
    }
    // The peer may be gone already; there is nobody left to tell.
    let _ = Box::pin(timeout(write_deadline, socket.shutdown())).await;
}

async fn write_batch(
    socket: &mut (impl AsyncWrite + Unpin),
    outbox: &Outbox,
    batch: &Batch,
) -> io::Result<()> {
    if batch.splices.is_empty() {
        let mut rest = batch.buffer.as_slice();
        while !rest.is_empty() {
            let written = socket.write(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[written..];
            outbox.wrote(written);
        }
        return Ok(());
    }
    write_spliced(socket, outbox, batch).await
}

/// So many slices go into one vectored write.
const SLICES_MAX: usize = 64;

async fn write_spliced(
    socket: &mut (impl AsyncWrite + Unpin),
    outbox: &Outbox,
    batch: &Batch,
) -> io::Result<()> {
    let mut parts = Vec::with_capacity(2 * batch.splices.len() + 1);
    let mut from = 0;
    for (position, splice) in &batch.splices {
        parts.push(&batch.buffer[from..*position]);
        parts.push(splice);
        from = *position;
    }
    parts.push(&batch.buffer[from..]);
    parts.retain(|part| !part.is_empty());
    let mut parts = parts.as_mut_slice();
    while !parts.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        for (slice, part) in slices.iter_mut().zip(parts.iter()) {
            *slice = IoSlice::new(part);
        }
        let mut written = socket.write_vectored(&slices[..parts.len().min(SLICES_MAX)]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        outbox.wrote(written);
        while let Some(first) = parts.first_mut() {
            if written < first.len() {
                *first = &first[written..];
                break;
            }
            written -= first.len();
            parts = &mut parts[1..];
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::broker::{Broker, ConnectionInfo};
    use crate::sys::random::Random;
    use crate::sys::task;

    #[tokio::test(start_paused = true)]
    async fn nothing_follows_a_batch_that_was_cut_off() {
        let broker = Broker::new(Random::from_seed(1));
        let peer = broker.connect(ConnectionInfo::default(), 1000);
        let (near, mut far) = tokio::io::duplex(4);
        let writing = task::spawn(write(Arc::clone(&peer), near, Duration::from_secs(10)));
        peer.outbox.send(b"0123456789");
        far.read_exact(&mut [0; 2]).await.unwrap();
        // The server stops, and what waits is still to be written; the client takes nothing more in time.
        peer.outbox.send(b"abc");
        peer.outbox.close(ClosedReason::ServerShutdown, true);
        tokio::time::sleep(Duration::from_secs(11)).await;
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        writing.await.unwrap();
        assert!(b"23456789".starts_with(&rest), "{:?}", String::from_utf8_lossy(&rest));
    }
}
