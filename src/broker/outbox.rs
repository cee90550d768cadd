//! What waits to be written to one connection: one contiguous buffer that every publisher appends to.
//!
//! A publisher takes the lock, appends a whole run of messages and lets go; the connection's writer takes the filled buffer
//! away under the same lock and writes it outside. Small payloads are copied; from [`SPLICE_BYTES`] on a payload is kept as
//! a reference and spliced in where it belongs. An outbox with nothing to write holds no buffer: buffers come from a
//! [`BufferPool`] and go back to it.
//!
//! Invariant: `pending` is what was appended and not yet written, taken batches included, and never exceeds
//! `max_pending`: the append that would pass it closes the outbox as a slow consumer instead, and nothing more is written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use weir_protocol::error::ClosedReason;

/// Payloads of this size and more are referred to, smaller ones are copied: below, a copy is cheaper than the reference
/// and the extra slice in the write; above, the copy is what costs.
pub(crate) const SPLICE_BYTES: usize = 16 * 1024;

/// The size of a pooled buffer when it is new.
const BUFFER_BYTES: usize = 32 * 1024;
/// Larger buffers are given back to the allocator.
const BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// So many idle buffers are kept for all connections together.
const BUFFERS_MAX: usize = 32;

/// Buffers that no outbox uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    fn take(&self) -> Vec<u8> {
        let pooled = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        pooled.unwrap_or_default()
    }

    fn give(&self, mut buffer: Vec<u8>) {
        // What is small was filled by little traffic: it is not worth a place.
        if buffer.capacity() < BUFFER_BYTES || buffer.capacity() > BUFFER_BYTES_MAX {
            return;
        }
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < BUFFERS_MAX {
            free.push(buffer);
        }
    }
}

/// Bytes to write, in order: `buffer` with every splice put in at its position.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) buffer: Vec<u8>,
    /// `(position in buffer, what comes before the byte there)`, positions never falling.
    pub(crate) splices: VecDeque<(usize, Bytes)>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.splices.is_empty()
    }
}

/// The outgoing side of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    pool: Arc<BufferPool>,
    /// The writer waits here for something to write, or for the end.
    filled: Notify,
    /// Stalled publishers wait here until the outbox is below its high mark.
    drained: Notify,
    /// The reader waits here for the end.
    ended: Notify,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State {
    batch: Batch,
    pending: usize,
    max_pending: usize,
    /// Somebody has promised to wake the writer for what is in `batch`.
    flush_promised: bool,
    end: Option<End>,
    /// Messages and payload bytes delivered since the start.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct End {
    reason: ClosedReason,
    /// What was appended before is still to be written.
    flush: bool,
}

/// What the writer is to do.
#[derive(Debug)]
pub(crate) enum Work {
    Write(Batch),
    /// Nothing more will come.
    End,
}

impl Outbox {
    pub(crate) fn new(pool: Arc<BufferPool>, max_pending: usize) -> Self {
        Self {
            state: Mutex::new(State {
                batch: Batch::default(),
                pending: 0,
                max_pending,
                flush_promised: false,
                end: None,
                messages: 0,
                bytes: 0,
            }),
            pool,
            filled: Notify::new(),
            drained: Notify::new(),
            ended: Notify::new(),
        }
    }

    /// The lock, to append a run of messages. Whoever is told by [`Appending::promise_flush`] to flush must do so.
    pub(crate) fn append(&self) -> Appending<'_> {
        Appending { state: self.lock(), outbox: self }
    }

    /// Appends `bytes` and wakes the writer. Nothing happens when the outbox has ended.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let mut appending = self.append();
        if appending.reserve(bytes.len()) {
            appending.put(bytes);
        }
        if appending.promise_flush() {
            drop(appending);
            self.flush();
        }
    }

    /// Wakes the writer.
    pub(crate) fn flush(&self) {
        self.filled.notify_one();
    }

    /// Ends the outbox; the first reason stays. With `flush`, what was appended before is still written.
    pub(crate) fn close(&self, reason: ClosedReason, flush: bool) {
        let mut state = self.lock();
        state.close(reason, flush);
        drop(state);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.filled.notify_one();
        self.ended.notify_one();
        self.drained.notify_waiters();
    }

    /// Why the outbox ended, if it did.
    pub(crate) fn ended_by(&self) -> Option<ClosedReason> {
        self.lock().end.map(|end| end.reason)
    }

    /// Whether what was appended is still written: true until an end that drops it.
    pub(crate) fn writes_on(&self) -> bool {
        self.lock().end.is_none_or(|end| end.flush)
    }

    /// Waits for the end. One waiter, the connection's reader.
    pub(crate) async fn ended(&self) -> ClosedReason {
        loop {
            if let Some(reason) = self.ended_by() {
                return reason;
            }
            self.ended.notified().await;
        }
    }

    /// Waits until there is something to write. One waiter, the connection's writer. An empty outbox keeps no buffer.
    pub(crate) async fn work(&self) -> Work {
        loop {
            if let Some(work) = self.take() {
                return work;
            }
            self.filled.notified().await;
        }
    }

    fn take(&self) -> Option<Work> {
        let mut state = self.lock();
        state.flush_promised = false;
        if !state.batch.is_empty() {
            return Some(Work::Write(std::mem::take(&mut state.batch)));
        }
        state.end.map(|_| Work::End)
    }

    /// So many bytes of the batch at hand are written.
    pub(crate) fn wrote(&self, bytes: usize) {
        let mut state = self.lock();
        let was_full = state.is_congested();
        state.pending = state.pending.saturating_sub(bytes);
        if was_full && !state.is_congested() {
            drop(state);
            self.drained.notify_waiters();
        }
    }

    /// Gives a written batch's buffer back.
    pub(crate) fn recycle(&self, batch: Batch) {
        self.pool.give(batch.buffer);
    }

    /// Waits until the outbox is below its high mark or has ended.
    pub(crate) async fn drained(&self) {
        loop {
            let drained = self.drained.notified();
            {
                let state = self.lock();
                if !state.is_congested() || state.end.is_some() {
                    return;
                }
            }
            drained.await;
        }
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending(&self) -> usize {
        self.lock().pending
    }

    /// Messages and payload bytes delivered to this connection since it came.
    pub(crate) fn delivered(&self) -> (u64, u64) {
        let state = self.lock();
        (state.messages, state.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Above 75 % of `max_pending` whoever publishes to this connection is to be slowed down.
    fn is_congested(&self) -> bool {
        self.pending > self.max_pending / 4 * 3
    }

    fn close(&mut self, reason: ClosedReason, flush: bool) {
        if self.end.is_none() {
            self.end = Some(End { reason, flush });
        }
        if self.end.is_some_and(|end| !end.flush) {
            self.batch = Batch::default();
            self.pending = 0;
        }
    }
}

/// An outbox under its lock. Each message is [`reserve`](Self::reserve)d, then put together with `put` and `splice`.
pub(crate) struct Appending<'a> {
    pub(crate) state: MutexGuard<'a, State>,
    outbox: &'a Outbox,
}

impl Appending<'_> {
    /// Whether a message may still be appended.
    pub(crate) fn is_open(&self) -> bool {
        self.state.end.is_none()
    }

    /// Makes room for `bytes` and counts them as pending. False when the outbox has ended, or ends now because the bytes
    /// would pass `max_pending`.
    pub(crate) fn reserve(&mut self, bytes: usize) -> bool {
        if self.state.end.is_some() {
            return false;
        }
        let pending = self.state.pending.saturating_add(bytes);
        if pending > self.state.max_pending {
            self.state.close(ClosedReason::SlowConsumerPendingBytes, false);
            self.outbox.wake_all();
            return false;
        }
        self.state.pending = pending;
        if self.state.batch.buffer.capacity() == 0 {
            self.state.batch.buffer = self.outbox.pool.take();
        }
        true
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> usize {
        self.state.batch.buffer.len()
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.state.batch.buffer.extend_from_slice(bytes);
    }

    /// Puts again what lies at `range` of the buffer.
    pub(crate) fn repeat(&mut self, range: std::ops::Range<usize>) {
        self.state.batch.buffer.extend_from_within(range);
    }

    /// Puts `bytes` without copying them.
    pub(crate) fn splice(&mut self, bytes: Bytes) {
        let position = self.position();
        self.state.batch.splices.push_back((position, bytes));
    }

    /// Counts one delivered message.
    pub(crate) fn count(&mut self, payload_bytes: usize) {
        self.state.messages += 1;
        self.state.bytes += payload_bytes as u64;
    }

    pub(crate) fn is_congested(&self) -> bool {
        self.state.is_congested()
    }

    /// True when there is something to write and nobody else is going to wake the writer: the caller then must, by
    /// [`Outbox::flush`].
    pub(crate) fn promise_flush(&mut self) -> bool {
        !self.state.batch.is_empty() && !std::mem::replace(&mut self.state.flush_promised, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    fn outbox(max_pending: usize) -> Outbox {
        Outbox::new(Arc::default(), max_pending)
    }

    fn written(outbox: &Outbox) -> Option<Vec<u8>> {
        match outbox.take()? {
            Work::Write(batch) => {
                let mut bytes = Vec::new();
                let mut from = 0;
                for (position, splice) in &batch.splices {
                    bytes.extend_from_slice(&batch.buffer[from..*position]);
                    bytes.extend_from_slice(splice);
                    from = *position;
                }
                bytes.extend_from_slice(&batch.buffer[from..]);
                outbox.wrote(bytes.len());
                outbox.recycle(batch);
                Some(bytes)
            }
            Work::End => None,
        }
    }

    #[test]
    fn splices_lie_where_they_were_put() {
        let outbox = outbox(1000);
        {
            let mut appending = outbox.append();
            assert!(appending.reserve(9));
            appending.put(b"ab");
            appending.splice(Bytes::from_static(b"XYZ"));
            appending.put(b"c");
            appending.repeat(0..2);
            appending.splice(Bytes::from_static(b"!"));
        }
        assert_eq!(outbox.pending(), 9);
        assert_eq!(written(&outbox).as_deref(), Some(b"abXYZcab!".as_slice()));
        assert_eq!(outbox.pending(), 0);
        assert!(written(&outbox).is_none());
    }

    #[test]
    fn what_passes_max_pending_closes_without_writing() {
        let outbox = outbox(10);
        outbox.send(b"0123456789");
        assert!(outbox.ended_by().is_none(), "exactly max_pending is allowed");
        outbox.send(b"x");
        assert_eq!(outbox.ended_by(), Some(ClosedReason::SlowConsumerPendingBytes));
        assert!(matches!(outbox.take(), Some(Work::End)));
        outbox.send(b"y");
        assert_eq!(outbox.pending(), 0);
    }

    #[test]
    fn a_closing_outbox_writes_what_it_has_and_takes_no_more() {
        let outbox = outbox(100);
        outbox.send(b"-ERR 'x'\r\n");
        outbox.close(ClosedReason::ParseError, true);
        outbox.close(ClosedReason::ClientClosed, true);
        outbox.send(b"late");
        assert_eq!(written(&outbox).as_deref(), Some(b"-ERR 'x'\r\n".as_slice()));
        assert!(matches!(outbox.take(), Some(Work::End)));
        assert_eq!(outbox.ended_by(), Some(ClosedReason::ParseError), "the first reason stays");
    }

    #[test]
    fn one_promise_per_batch() {
        let outbox = outbox(100);
        let mut appending = outbox.append();
        assert!(!appending.promise_flush(), "nothing to write");
        assert!(appending.reserve(1));
        appending.put(b"x");
        assert!(appending.promise_flush());
        assert!(!appending.promise_flush());
        drop(appending);
        assert!(written(&outbox).is_some());
        let mut appending = outbox.append();
        assert!(appending.reserve(1));
        appending.put(b"y");
        assert!(appending.promise_flush(), "the writer took the last batch, so it has to be woken again");
    }

    #[test]
    fn stalled_publishers_go_on_below_the_high_mark() {
        let outbox = outbox(100);
        outbox.send(&[0; 80]);
        let drained = outbox.drained();
        let mut drained = std::pin::pin!(drained);
        let context = &mut Context::from_waker(Waker::noop());
        assert!(drained.as_mut().poll(context).is_pending());
        outbox.wrote(4);
        assert!(drained.as_mut().poll(context).is_pending());
        outbox.wrote(2);
        assert!(drained.as_mut().poll(context).is_ready());
    }

    #[test]
    fn idle_outboxes_hold_no_buffer_and_share_the_pool() {
        let pool = Arc::new(BufferPool::default());
        let (a, b) = (Outbox::new(Arc::clone(&pool), 1 << 20), Outbox::new(Arc::clone(&pool), 1 << 20));
        a.send(&[1; BUFFER_BYTES]);
        assert!(written(&a).is_some());
        assert_eq!(a.lock().batch.buffer.capacity(), 0);
        assert_eq!(pool.free.lock().unwrap().len(), 1);
        b.send(b"x");
        assert!(pool.free.lock().unwrap().is_empty());
        assert!(b.lock().batch.buffer.capacity() >= BUFFER_BYTES);
    }
}
