//! Delivery of a run: consecutive messages of one publisher to the same subscribers.
//!
//! Subscribers are the outer loop, messages the inner one, so that a run costs one lock per subscriber; but where a connection
//! has several of the subscriptions, each message goes to all of them before the next. The order of messages from one
//! publisher to one connection is kept. A delivery that a subscriber refuses (it has ended, its limit
//! is reached, it wants no echo) goes nowhere, or to the next member of the queue group.
//!
//! Writers are woken and sinks flushed by [`Delivery::flush`], once for all runs of a read chunk. Between a delivery and
//! its flush nothing may wait.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::matches::Matches;
use super::outbox::{Appending, SPLICE_BYTES};
use super::peer::{Peer, Subscription};
use super::{Broker, ConnectionInfo, InternalMessage, InternalSink, ServerMessage};

/// One message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) reply: &'a [u8],
    /// The header block, with its empty line; empty when there is none.
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// All that follows `MSG <subject> <sid> ` in a delivery with headers, if it lies together as it came; or empty.
    pub(crate) tail: &'a [u8],
}

impl Message<'_> {
    /// Whether it is on `subject`. Neighbours on one subject often share its bytes, which is seen at once.
    #[inline]
    pub(crate) fn is_on(&self, subject: &[u8]) -> bool {
        std::ptr::eq(self.subject, subject) || self.subject == subject
    }
}

/// Consecutive messages that the same subscribers get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) messages: &'a [Message<'a>],
    pub(crate) origin: Origin<'a>,
}

/// Where the bytes of a run lie, so that references can be kept instead of copies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    /// Everything is a slice of this read chunk of a connection.
    Chunk { chunk: &'a Bytes, from: &'a Arc<Peer>, info: &'a Arc<ConnectionInfo> },
    /// The payloads are those of these messages of the server, the rest lies elsewhere.
    Server { run: &'a [ServerMessage<'a>] },
}

/// What one publisher's deliveries have touched since the last flush, and its scratch space.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    touched: Vec<Arc<Peer>>,
    congested: Vec<Arc<Peer>>,
    sinks: Vec<Arc<dyn InternalSink>>,
    /// Deliveries since the last flush: messages and payload bytes.
    messages: u64,
    bytes: u64,
    generator: Option<Box<StdRng>>,
    /// For each member of a queue group, the messages it was chosen for.
    chosen: Vec<Vec<usize>>,
    refused: Vec<(usize, usize)>,
    /// For each message of the last run, whether somebody took it.
    taken: Vec<bool>,
}

impl Delivery {
    /// Delivers `run` to everybody in `matches`. What became of each message is told by [`taken`](Self::taken).
    pub(crate) fn deliver(&mut self, broker: &Broker, matches: &Matches, run: &Run<'_>) {
        self.taken.clear();
        self.taken.resize(run.messages.len(), !matches.internal.is_empty());
        if matches.overlap {
            for index in 0..run.messages.len() {
                self.deliver_part(broker, matches, run, index..index + 1);
            }
        } else {
            self.deliver_part(broker, matches, run, 0..run.messages.len());
        }
    }

    fn deliver_part(&mut self, broker: &Broker, matches: &Matches, run: &Run<'_>, part: Range<usize>) {
        for subscription in &matches.plain {
            let accepted = self.deliver_to(broker, subscription, run, part.clone());
            self.taken[part.start..][..accepted].fill(true);
        }
        for (_, members) in &matches.queues {
            self.deliver_to_group(broker, members, run, part.clone());
        }
        for internal in &matches.internal {
            for index in part.clone() {
                internal.sink.push(run.internal_message(index));
            }
            if !self.sinks.iter().any(|sink| Arc::ptr_eq(sink, &internal.sink)) {
                self.sinks.push(Arc::clone(&internal.sink));
            }
        }
    }

    /// For each message of the last run, whether somebody took it.
    pub(crate) fn taken(&self) -> &[bool] {
        &self.taken
    }

    /// Wakes the writers and flushes the sinks that were delivered to since the last flush.
    pub(crate) fn flush(&mut self, broker: &Broker) {
        for peer in self.touched.drain(..) {
            peer.outbox.flush();
        }
        for sink in self.sinks.drain(..) {
            sink.flush();
        }
        let totals = broker.totals();
        totals.out_messages.fetch_add(std::mem::take(&mut self.messages), Ordering::Relaxed);
        totals.out_bytes.fetch_add(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }

    /// Connections that were delivered to since the last call and are above 75 % of their `max_pending`.
    pub(crate) fn congested(&mut self) -> impl Iterator<Item = Arc<Peer>> {
        self.congested.drain(..)
    }

    /// Promises to wake the writer of `peer` with the next flush.
    pub(crate) fn touch(&mut self, peer: &Arc<Peer>) {
        self.touched.push(Arc::clone(peer));
    }

    /// Gives each message to one member of the group: a random one, or the next that takes it.
    fn deliver_to_group(
        &mut self,
        broker: &Broker,
        members: &[Arc<Subscription>],
        run: &Run<'_>,
        part: Range<usize>,
    ) {
        if let [only] = members {
            let accepted = self.deliver_to(broker, only, run, part.clone());
            self.taken[part.start..][..accepted].fill(true);
            return;
        }
        let mut chosen = std::mem::take(&mut self.chosen);
        let mut refused = std::mem::take(&mut self.refused);
        let mut used = Vec::with_capacity(members.len().min(part.len()));
        if chosen.len() < members.len() {
            chosen.resize_with(members.len(), Vec::new);
        }
        for index in part {
            let member = self.random_below(broker, members.len());
            if chosen[member].is_empty() {
                used.push(member);
            }
            chosen[member].push(index);
        }
        for member in used {
            let accepted = self.deliver_to(broker, &members[member], run, chosen[member].iter().copied());
            for (position, index) in chosen[member].drain(..).enumerate() {
                if position < accepted {
                    self.taken[index] = true;
                } else {
                    refused.push((index, member));
                }
            }
        }
        refused.sort_unstable();
        for (index, member) in refused.drain(..) {
            let others = (1..members.len()).map(|step| &members[(member + step) % members.len()]);
            for other in others {
                if self.deliver_to(broker, other, run, [index]) == 1 {
                    self.taken[index] = true;
                    break;
                }
            }
        }
        (self.chosen, self.refused) = (chosen, refused);
    }

    /// Delivers the messages at `indexes` until one is refused; returns how many were accepted.
    fn deliver_to(
        &mut self,
        broker: &Broker,
        subscription: &Arc<Subscription>,
        run: &Run<'_>,
        indexes: impl IntoIterator<Item = usize>,
    ) -> usize {
        let peer = &subscription.peer;
        let own = run.is_from(peer);
        if own && !peer.echo.load(Ordering::Relaxed) {
            return 0;
        }
        let mut head = Head::new(&subscription.sid, peer.headers.load(Ordering::Relaxed));
        let mut accepted = 0;
        let mut appending = peer.outbox.append();
        let before = (appending.state.messages, appending.state.bytes);
        for index in indexes {
            if !appending.is_open() || !subscription.admit() {
                break;
            }
            let message = &run.messages[index];
            if !head.append(&mut appending, message, || run.payload(index)) {
                break;
            }
            accepted += 1;
        }
        self.messages += appending.state.messages - before.0;
        self.bytes += appending.state.bytes - before.1;
        let flush = appending.promise_flush();
        let congested = !own && appending.is_congested();
        let over = subscription.is_closed();
        drop(appending);
        if flush {
            self.touched.push(Arc::clone(peer));
        }
        if congested {
            self.congested.push(Arc::clone(peer));
        }
        if over {
            broker.remove(subscription);
        }
        accepted
    }

    fn random_below(&mut self, broker: &Broker, bound: usize) -> usize {
        let generator =
            self.generator.get_or_insert_with(|| Box::new(StdRng::seed_from_u64(broker.random().next())));
        usize::try_from(generator.next_u32()).map_or(0, |number| number % bound)
    }
}

impl Run<'_> {
    fn is_from(&self, peer: &Arc<Peer>) -> bool {
        match self.origin {
            Origin::Chunk { from, .. } => Arc::ptr_eq(from, peer),
            Origin::Server { .. } => false,
        }
    }

    /// The payload of a message of this run as a reference.
    fn payload(&self, index: usize) -> Bytes {
        match self.origin {
            Origin::Chunk { chunk, .. } => chunk.slice_ref(self.messages[index].payload),
            Origin::Server { run } => run[index].payload.clone(),
        }
    }

    fn internal_message(&self, index: usize) -> InternalMessage {
        let message = &self.messages[index];
        let keep = |bytes: &[u8]| match self.origin {
            Origin::Chunk { chunk, .. } => chunk.slice_ref(bytes),
            Origin::Server { .. } => Bytes::copy_from_slice(bytes),
        };
        InternalMessage {
            subject: keep(message.subject),
            reply: keep(message.reply),
            headers: keep(message.headers),
            payload: self.payload(index),
            from: match self.origin {
                Origin::Chunk { info, .. } => Some(Arc::clone(info)),
                Origin::Server { .. } => None,
            },
        }
    }
}

/// Writes the messages of one run as MSG and HMSG of one subscription.
struct Head<'a> {
    sid: &'a [u8],
    headers: bool,
    /// The subject of the last message.
    subject: &'a [u8],
    /// Where `MSG <subject> <sid> ` stands in the buffer since then.
    written: Range<usize>,
}

impl<'a> Head<'a> {
    fn new(sid: &'a [u8], headers: bool) -> Self {
        Self { sid, headers, subject: b"", written: 0..0 }
    }

    /// Appends one message; false when the outbox does not take it.
    fn append(
        &mut self,
        out: &mut Appending<'_>,
        message: &Message<'a>,
        payload: impl FnOnce() -> Bytes,
    ) -> bool {
        let size = message.headers.len() + message.payload.len();
        let as_it_came = !message.tail.is_empty() && (self.headers || message.headers.is_empty());
        if as_it_came && message.payload.len() < SPLICE_BYTES {
            let with_headers = !message.headers.is_empty();
            if !out.reserve(usize::from(with_headers) + self.len(message.subject) + message.tail.len()) {
                return false;
            }
            self.put(out, message, with_headers);
            out.put(message.tail);
            out.count(size);
            return true;
        }
        let headers = if self.headers { message.headers } else { b"" };
        let size = headers.len() + message.payload.len();
        let (mut size_digits, mut header_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        let size_text = size_digits.format(size).as_bytes();
        let header_text = header_digits.format(headers.len()).as_bytes();
        let reply = if message.reply.is_empty() { 0 } else { message.reply.len() + 1 };
        let header_size = if headers.is_empty() { 0 } else { 1 + header_text.len() + 1 };
        let total = self.len(message.subject) + reply + header_size + size_text.len() + 2 + size + 2;
        // Taken before anything is put: should it fail, no half message stays in the outbox.
        let spliced = (message.payload.len() >= SPLICE_BYTES).then(payload);
        if !out.reserve(total) {
            return false;
        }
        self.put(out, message, !headers.is_empty());
        if reply > 0 {
            out.put(message.reply);
            out.put(b" ");
        }
        if header_size > 0 {
            out.put(header_text);
            out.put(b" ");
        }
        out.put(size_text);
        out.put(b"\r\n");
        out.put(headers);
        match spliced {
            Some(payload) => out.splice(payload),
            None => out.put(message.payload),
        }
        out.put(b"\r\n");
        out.count(size);
        true
    }

    /// The length of `MSG <subject> <sid> `.
    fn len(&self, subject: &[u8]) -> usize {
        b"MSG ".len() + subject.len() + 1 + self.sid.len() + 1
    }

    fn put(&mut self, out: &mut Appending<'_>, message: &Message<'a>, with_headers: bool) {
        if with_headers {
            out.put(b"H");
        }
        if !self.written.is_empty() && message.is_on(self.subject) {
            out.repeat(self.written.clone());
            return;
        }
        let start = out.position();
        out.put(b"MSG ");
        out.put(message.subject);
        out.put(b" ");
        out.put(self.sid);
        out.put(b" ");
        (self.subject, self.written) = (message.subject, start..out.position());
    }
}
