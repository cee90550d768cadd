//! One connection: its reading task, which starts and outlives its writing task.
//!
//! The same code runs over TCP and over the in-process pipe. Reading goes through a buffer that all connections of a
//! worker thread share: a connection that waits holds none, and one that stopped in the middle of an operation holds what
//! it has of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use weir_protocol::encode;
use weir_protocol::error::{ClosedReason, ProtocolError};

use super::Shared;
use super::registry::Admission;
use super::session::Session;
use super::writer::write;
use crate::broker::Peer;
use crate::sys::panic::contain;
use crate::sys::task::TaskStarter;

/// What one read takes at most from a connection with small messages.
const READ_BYTES: usize = 64 * 1024;

/// Operations longer than this are read into a buffer of the connection's own, which their payloads then are slices of.
const OWN_BUFFER_BYTES: usize = 32 * 1024;

/// The size of such a buffer; more if the operation is longer.
const OWN_READ_BYTES: usize = 256 * 1024;

/// Above 75 % of `max_pending` of a destination its publisher is held up, so long at most in one pass over a chunk.
const STALL_MAX: Duration = Duration::from_millis(10);

/// So long a client that is told an error is still read from, so that the error reaches it: a socket that is closed with
/// bytes unread throws away what was written.
const LINGER: Duration = Duration::from_millis(500);

/// So many of them are remembered by each worker thread, to be used again when nobody refers to them any more: memory that
/// comes fresh from the system costs more than the copy out of the socket.
const OWN_BUFFERS: usize = 16;

thread_local! {
    static READ_BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
    static USED_BUFFERS: RefCell<VecDeque<Bytes>> = const { RefCell::new(VecDeque::new()) };
}

/// Serves one client until it goes, misbehaves, falls behind, or the server stops.
pub(super) async fn serve<R, W>(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    admission: Admission,
    mut read: R,
    write_half: W,
    tasks: TaskStarter,
) where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let mut writer = tasks.spawn(write(Arc::clone(&peer), write_half, shared.limits.write_deadline));
    drop(tasks);
    let mut session = Session::new(Arc::clone(&shared), Arc::clone(&peer));
    let end = match admission {
        // A mistake of the server's own is not told to the client, but logged.
        Admission::Welcome => contain(converse(&shared, &peer, &mut session, &mut read))
            .await
            .unwrap_or(End::Closed(ClosedReason::Kicked)),
        Admission::TooMany => End::Error(ProtocolError::TooManyConnections),
        Admission::Stopped => End::Closed(ClosedReason::ServerShutdown),
    };
    // What it has delivered is on its way before the client is waited for.
    drop(session);
    let end = match end {
        End::Closed(reason) => reason,
        End::Error(error) => {
            tracing::debug!(cid = peer.id, %error, "closing");
            let reason = error.closes().unwrap_or(ClosedReason::ProtocolViolation);
            if let Some(text) = error.wire_text() {
                let mut line = Vec::new();
                encode::err(&mut line, &text);
                peer.outbox.send(&line);
                peer.outbox.close(reason, true);
                shared.broker.unsubscribe_all(&peer);
                let _ = Box::pin(timeout(LINGER, discard(&mut read))).await;
            }
            reason
        }
    };
    peer.outbox.close(end, true);
    shared.broker.unsubscribe_all(&peer);
    if peer.outbox.writes_on() {
        // Bounded by the write deadline.
        let _ = (&mut writer).await;
    } else {
        writer.abort();
    }
    shared.forget(&peer);
}

/// How the conversation ended.
enum End {
    /// Without a fault of the client that it has to be told of; the outbox may say it better.
    Closed(ClosedReason),
    Error(ProtocolError),
}

async fn converse(
    shared: &Shared,
    peer: &Peer,
    session: &mut Session,
    read: &mut (impl AsyncRead + Unpin),
) -> End {
    let mut partial = BytesMut::new();
    let mut timer = pin!(sleep_until(session.poll_timeout()));
    loop {
        let chunk = tokio::select! {
            biased;
            reason = peer.outbox.ended() => return End::Closed(reason),
            () = &mut timer => {
                if let Err(error) = session.handle_timeout() {
                    return End::Error(error);
                }
                timer.as_mut().reset(session.poll_timeout());
                continue;
            }
            chunk = read_chunk(read, &mut partial, session.needed()) => chunk,
        };
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return End::Closed(ClosedReason::ClientClosed),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return End::Closed(ClosedReason::ClientClosed);
            }
            Err(_) => return End::Closed(ClosedReason::ReadError),
        };
        match session.handle_chunk(&chunk) {
            Ok(taken) => {
                if let Some(rest) = chunk.get(taken..).filter(|rest| !rest.is_empty()) {
                    keep(&mut partial, rest, session.needed());
                }
            }
            Err(error) => return End::Error(error),
        }
        drop(chunk);
        if timer.deadline() != session.poll_timeout() {
            timer.as_mut().reset(session.poll_timeout());
        }
        let congested: Vec<_> = session.congested().collect();
        if !congested.is_empty() {
            // On the heap, as it is rare: every connection would carry it otherwise.
            Box::pin(hold_up(shared, peer, congested)).await;
        }
    }
}

/// Keeps the beginning of an operation until the rest comes.
fn keep(partial: &mut BytesMut, rest: &[u8], needed: Option<usize>) {
    if let Some(needed) = needed.filter(|needed| *needed > OWN_BUFFER_BYTES) {
        make_room(partial, needed);
    }
    partial.extend_from_slice(rest);
}

/// Gives `partial` room for an operation of `needed` bytes, in memory that was used before if there is some.
fn make_room(partial: &mut BytesMut, needed: usize) {
    let wanted = needed.max(OWN_READ_BYTES);
    if partial.capacity() >= wanted {
        return;
    }
    let mut roomy = USED_BUFFERS.with_borrow_mut(|used| {
        for _ in 0..used.len() {
            match used.pop_front().map(Bytes::try_into_mut) {
                // One that is too small is not worth its place.
                Some(Ok(free)) if free.capacity() < wanted => {}
                Some(Ok(mut free)) => {
                    free.clear();
                    return free;
                }
                Some(Err(in_use)) => used.push_back(in_use),
                None => break,
            }
        }
        BytesMut::with_capacity(wanted)
    });
    roomy.extend_from_slice(partial);
    *partial = roomy;
}

/// What was read into a buffer of the connection's own. The buffer is remembered.
fn take_own(partial: &mut BytesMut) -> Bytes {
    let chunk = std::mem::take(partial).freeze();
    USED_BUFFERS.with_borrow_mut(|used| {
        if used.len() == OWN_BUFFERS {
            used.pop_front();
        }
        // Larger ones are rare, and would be kept for long.
        if chunk.len() <= OWN_READ_BYTES {
            used.push_back(chunk.clone());
        }
    });
    chunk
}

/// Reads what there is, at least one byte, behind what `partial` holds. `None` at the end of the stream. Nothing is lost
/// when the future is dropped.
async fn read_chunk(
    read: &mut (impl AsyncRead + Unpin),
    partial: &mut BytesMut,
    needed: Option<usize>,
) -> io::Result<Option<Bytes>> {
    if let Some(needed) = needed.filter(|needed| *needed > OWN_BUFFER_BYTES) {
        make_room(partial, needed);
        while partial.len() < needed {
            if read.read_buf(partial).await? == 0 {
                return Ok(None);
            }
        }
        return Ok(Some(take_own(partial)));
    }
    poll_fn(|context| {
        READ_BUFFER.with_borrow_mut(|buffer| {
            // Takes the memory of the last chunk again, unless somebody kept a slice of it.
            buffer.clear();
            buffer.reserve(READ_BYTES);
            buffer.extend_from_slice(partial);
            let polled = pin!(read.read_buf(buffer)).poll(context);
            match polled {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
                Poll::Ready(Ok(_)) => {
                    *partial = BytesMut::new();
                    Poll::Ready(Ok(Some(buffer.split().freeze())))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            }
        })
    })
    .await
}

/// Slows a publisher down while those it publishes to are far behind. In-process connections are part of the server.
async fn hold_up(shared: &Shared, peer: &Peer, congested: Vec<Arc<Peer>>) {
    let mut until = None;
    for congested in congested {
        if !shared.stalls(peer) {
            continue;
        }
        let until = *until.get_or_insert_with(|| {
            shared.count_stall(peer);
            Instant::now() + STALL_MAX
        });
        let _ = timeout_at(until, congested.outbox.drained()).await;
    }
}

async fn discard(read: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut unread = [0; 4096];
    while read.read(&mut unread).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::ConnectionInfo;
    use crate::server::{Config, Server};
    use tokio::io::AsyncWriteExt;

    #[test]
    fn buffers_are_used_again_once_nobody_refers_to_them() {
        let mut partial = BytesMut::from(&b"beginning"[..]);
        make_room(&mut partial, OWN_READ_BYTES);
        assert_eq!(&partial[..], b"beginning");
        partial.extend_from_slice(&[7; 1000]);
        let first = partial.as_ptr();
        let payload = take_own(&mut partial).slice(9..);
        make_room(&mut partial, 40_000);
        partial.extend_from_slice(b"another");
        assert_ne!(partial.as_ptr(), first, "a payload still refers to it");
        let second = partial.as_ptr();
        drop(take_own(&mut partial));
        assert_eq!(payload, [7; 1000][..]);
        make_room(&mut partial, 40_000);
        assert_eq!((partial.as_ptr(), partial.len()), (second, 0));
        drop(payload);
        let mut other = BytesMut::new();
        make_room(&mut other, 40_000);
        assert_eq!(other.as_ptr(), first);
        assert!(other.capacity() >= OWN_READ_BYTES);
    }

    #[test]
    fn a_buffer_that_is_too_small_makes_way() {
        let mut partial = BytesMut::new();
        make_room(&mut partial, 40_000);
        partial.extend_from_slice(b"x");
        drop(take_own(&mut partial));
        make_room(&mut partial, 2 * OWN_READ_BYTES);
        assert!(partial.capacity() >= 2 * OWN_READ_BYTES);
        assert!(USED_BUFFERS.with_borrow(VecDeque::is_empty));
    }

    /// A socket that cannot be read without a mistake.
    struct Mistaken;

    impl AsyncRead for Mistaken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            panic!("a mistake")
        }
    }

    #[tokio::test]
    async fn a_panic_ends_its_connection_alone() {
        let server = Server::start(Config { listen: None, ..Config::default() }).await.unwrap();
        let shared = Arc::clone(&server.shared);
        let mut other = server.connect_in_process();
        let (near, mut client) = tokio::io::duplex(1 << 10);
        shared.begin(ConnectionInfo::default(), Mistaken, near, server.tasks.starter());
        let mut told = Vec::new();
        client.read_to_end(&mut told).await.unwrap();
        assert!(told.starts_with(b"INFO ") || told.is_empty(), "{}", String::from_utf8_lossy(&told));
        other.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"PONG\r\n") {
            assert!(other.read_buf(&mut said).await.unwrap() > 0, "{}", String::from_utf8_lossy(&said));
        }
        server.shutdown().await.unwrap();
        let mut ends: Vec<_> =
            shared.registry.closed().iter().map(|closed| (closed.info.id, closed.reason)).collect();
        ends.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(ends, [(1, ClosedReason::ServerShutdown), (2, ClosedReason::Kicked)]);
    }

    /// What a waiting connection costs is mostly what its two tasks hold.
    #[tokio::test]
    async fn tasks_are_small() {
        let server = Server::start(Config { listen: None, ..Config::default() }).await.unwrap();
        let shared = &server.shared;
        let peer = shared.broker.connect(ConnectionInfo::default(), 1);
        let (_client, pipe) = tokio::net::unix::pipe::pipe().unwrap();
        let (other, _read) = tokio::net::unix::pipe::pipe().unwrap();
        let writing = write(Arc::clone(&peer), other, Duration::ZERO);
        let size = size_of_val(&writing);
        assert!(size <= 320, "a writing task of {size} bytes");
        drop(writing);
        let (other, _read) = tokio::net::unix::pipe::pipe().unwrap();
        let starter = server.tasks.starter();
        let serving = serve(Arc::clone(shared), Arc::clone(&peer), Admission::Welcome, pipe, other, starter);
        let size = size_of_val(&serving);
        assert!(size <= 960, "a reading task of {size} bytes");
        drop(serving);
        server.shutdown().await.unwrap();
    }
}
