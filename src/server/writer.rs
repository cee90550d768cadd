//! The writing task of a connection: takes what its outbox holds and writes it, until the outbox has ended.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use weir_protocol::error::ClosedReason;

use crate::broker::{Batch, Outbox, Peer, Work};

/// Writes until the outbox has ended and what it held is written, then closes the writing half. A write that takes longer
/// than `write_deadline` ends the connection as a slow consumer.
pub(super) async fn write(peer: Arc<Peer>, mut socket: impl AsyncWrite + Unpin, write_deadline: Duration) {
    let outbox = &peer.outbox;
    while let Work::Write(batch) = outbox.work().await {
        // On the heap: every connection that has nothing to write would carry it otherwise.
        let writing = Box::pin(timeout(write_deadline, write_batch(&mut socket, outbox, &batch)));
        let written = writing.await;
        match written {
            Ok(Ok(())) => outbox.recycle(batch),
            Ok(Err(_)) => outbox.close(ClosedReason::WriteError, false),
            Err(_) => outbox.close(ClosedReason::SlowConsumerWriteDeadline, false),
        }
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
