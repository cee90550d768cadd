//! The protocol of one connection, from its first INFO to its last `-ERR`: bytes and timeouts in, answers and deliveries out.
//!
//! A [`Session`] performs no IO. Its connection shows it each read chunk ([`Session::handle_chunk`]), calls it when
//! [`Session::poll_timeout`] has come, and closes when it returns an error. Answers go to the connection's own outbox, in
//! order with what is delivered to it: messages are delivered before anything after them is looked at.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use weir_protocol::connect::ConnectOptions;
use weir_protocol::decode::{ClientDecoder, Template};
use weir_protocol::error::ProtocolError;
use weir_protocol::op::{ClientOp, Publish, Subscribe};
use weir_protocol::{encode, subject};

use super::Shared;
use crate::broker::{Message, Peer, Publisher};

/// So many messages are delivered together at most: what they refer to then stays in the processor's cache.
const TOGETHER_MAX: usize = 1024;

/// The first PING to a client comes so long after CONNECT (plus up to a fifth), to measure the round trip.
const FIRST_PING: Duration = Duration::from_secs(2);

/// The round trip is measured again after this time, however busy the connection is.
const ROUND_TRIP_AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// The protocol state of one connection.
#[derive(Debug)]
pub(super) struct Session {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    /// Made for the first message: many clients only listen.
    publisher: Option<Box<Publisher>>,
    decoder: ClientDecoder,
    agreed: Agreed,
    connected: bool,
    first_pong_sent: bool,
    start: Instant,
    /// When the client last published, subscribed or sent a PING.
    active: Instant,
    next_ping: Instant,
    pings_out: u32,
    ping_sent: Option<Instant>,
    /// Messages and payload bytes of the chunk at hand.
    messages: u64,
    bytes: u64,
}

/// What the last CONNECT asked for, besides what its peer knows. Without one, a client is verbose and pedantic.
#[derive(Debug)]
struct Agreed {
    verbose: bool,
    pedantic: bool,
    no_responders: bool,
    protocol: i64,
}

impl From<&ConnectOptions> for Agreed {
    fn from(options: &ConnectOptions) -> Self {
        let ConnectOptions { verbose, pedantic, no_responders, protocol, .. } = *options;
        Self { verbose, pedantic, no_responders, protocol }
    }
}

impl Session {
    /// A session that greets its client with INFO.
    pub(super) fn new(shared: Arc<Shared>, peer: Arc<Peer>) -> Self {
        let limits = &shared.limits;
        let now = Instant::now();
        let session = Self {
            publisher: None,
            decoder: ClientDecoder::new(limits.max_control_line, Some(limits.max_payload)),
            agreed: Agreed::from(&ConnectOptions::default()),
            connected: false,
            first_pong_sent: false,
            start: now,
            active: now,
            next_ping: now + limits.ping_interval,
            pings_out: 0,
            ping_sent: None,
            messages: 0,
            bytes: 0,
            peer,
            shared,
        };
        session.peer.outbox.send(&session.shared.info_for(&session.peer, |_| {}));
        session
    }

    /// The length in bytes of the operation that is under way, once its size is known.
    pub(super) fn needed(&self) -> Option<usize> {
        self.decoder.needed()
    }

    /// Does all that `chunk` says and wakes everybody concerned. Returns how many bytes were taken; the rest belongs in
    /// front of the next chunk.
    ///
    /// # Errors
    /// What closes the connection. All before it has been done.
    pub(super) fn handle_chunk(&mut self, chunk: &Bytes) -> Result<usize, ProtocolError> {
        let mut at = 0;
        let result = self.handle_operations(chunk, &mut at);
        if self.messages > 0 {
            let (messages, bytes) = (std::mem::take(&mut self.messages), std::mem::take(&mut self.bytes));
            self.peer.received.messages.fetch_add(messages, Ordering::Relaxed);
            self.peer.received.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.shared.broker.totals().in_messages.fetch_add(messages, Ordering::Relaxed);
            self.shared.broker.totals().in_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.flush();
        }
        result.map(|()| at)
    }

    /// Connections that have fallen behind what this one has published since the last call.
    pub(super) fn congested(&mut self) -> impl Iterator<Item = Arc<Peer>> {
        self.publisher.iter_mut().flat_map(|publisher| publisher.congested())
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_ping
    }

    /// The time for a PING has come.
    ///
    /// # Errors
    /// When too many are unanswered.
    pub(super) fn handle_timeout(&mut self) -> Result<(), ProtocolError> {
        let now = Instant::now();
        let limits = &self.shared.limits;
        self.next_ping = now + limits.ping_interval;
        let measure = self.ping_sent.is_none_or(|sent| now.duration_since(sent) > ROUND_TRIP_AGE_MAX);
        if !measure && now.duration_since(self.active) < limits.ping_interval {
            return Ok(());
        }
        if self.pings_out >= limits.ping_max {
            return Err(ProtocolError::StaleConnection);
        }
        self.pings_out += 1;
        self.ping_sent = Some(now);
        self.peer.outbox.send(encode::PING);
        Ok(())
    }

    fn handle_operations(&mut self, chunk: &Bytes, at: &mut usize) -> Result<(), ProtocolError> {
        let mut messages: Vec<Message<'_>> = Vec::new();
        // The last message, if it needed no answer: its like needs none either.
        let mut template: Option<Template<'_>> = None;
        loop {
            let rest = chunk.get(*at..).unwrap_or_default();
            if let Some((publish, taken)) = template.as_ref().and_then(|template| template.decode(rest)) {
                *at += taken;
                self.collect(chunk, &mut messages, publish);
                continue;
            }
            let decoded = self.decoder.decode(rest);
            if decoded.is_err() {
                self.deliver(chunk, &mut messages);
            }
            let Some((op, taken)) = decoded? else { break };
            *at += taken;
            template = None;
            let ClientOp::Pub(publish) = op else {
                self.deliver(chunk, &mut messages);
                self.handle(op)?;
                continue;
            };
            let complaint = self.complaint(&publish);
            if self.agreed.verbose || complaint.is_some() {
                // The answer stands behind what was delivered before.
                self.deliver(chunk, &mut messages);
            } else {
                template = rest.get(..taken).and_then(|operation| Template::new(operation, publish));
            }
            if self.admit(complaint) {
                self.collect(chunk, &mut messages, publish);
            } else {
                self.count(&publish);
            }
        }
        self.deliver(chunk, &mut messages);
        if self.messages > 0 {
            self.is_active();
        }
        Ok(())
    }

    /// Puts a message to those that are delivered together.
    fn collect<'a>(&mut self, chunk: &Bytes, messages: &mut Vec<Message<'a>>, publish: Publish<'a>) {
        self.count(&publish);
        if messages.len() == TOGETHER_MAX {
            self.deliver(chunk, messages);
        }
        let Publish { subject, reply, headers, payload, tail } = publish;
        messages.push(Message { subject, reply, headers, payload, tail });
    }

    fn count(&mut self, publish: &Publish<'_>) {
        self.messages += 1;
        self.bytes += (publish.headers.len() + publish.payload.len()) as u64;
    }

    /// Delivers `messages` and empties them.
    fn deliver(&mut self, chunk: &Bytes, messages: &mut Vec<Message<'_>>) {
        if messages.is_empty() {
            return;
        }
        let publisher = self.publisher.get_or_insert_with(|| {
            let broker = self.shared.broker.clone();
            Box::new(Publisher::new(broker, Arc::clone(&self.peer), self.agreed.no_responders))
        });
        publisher.publish(chunk, messages);
        messages.clear();
    }

    /// What is wrong with a message's subjects, if anything is.
    fn complaint(&self, publish: &Publish<'_>) -> Option<ProtocolError> {
        let Publish { subject, reply, .. } = *publish;
        if self.agreed.pedantic && !(subject::is_valid_subject(subject) && subject::is_literal(subject)) {
            return Some(ProtocolError::InvalidPublishSubject);
        }
        if is_reserved_subject(subject) {
            return Some(ProtocolError::PublishPermission { subject: subject.to_vec() });
        }
        is_reserved_reply(reply).then(|| ProtocolError::ReplyPermission { reply: reply.to_vec() })
    }

    /// Answers a message; whether it is to be delivered all the same.
    fn admit(&mut self, complaint: Option<ProtocolError>) -> bool {
        match complaint {
            // A pedantic client is told, and its message is text that may match.
            Some(ProtocolError::InvalidPublishSubject) => self.refuse(&ProtocolError::InvalidPublishSubject),
            Some(refusal) => {
                self.refuse(&refusal);
                return false;
            }
            None => {}
        }
        self.approve();
        true
    }

    fn handle(&mut self, op: ClientOp<'_>) -> Result<(), ProtocolError> {
        match op {
            ClientOp::Connect(json) => self.handle_connect(json),
            ClientOp::Pub(_) => unreachable!("messages are handled in runs"),
            ClientOp::Sub(subscribe) => {
                self.handle_subscribe(&subscribe);
                Ok(())
            }
            ClientOp::Unsub(unsubscribe) => {
                self.is_active();
                self.shared.broker.unsubscribe(&self.peer, unsubscribe.sid, unsubscribe.max.unwrap_or(0));
                self.approve();
                Ok(())
            }
            ClientOp::Ping => {
                self.handle_ping();
                Ok(())
            }
            ClientOp::Pong => {
                self.handle_pong();
                Ok(())
            }
            ClientOp::Info(_) | ClientOp::Ok => Ok(()),
            ClientOp::Err(text) => Err(ProtocolError::FromClient(String::from_utf8_lossy(text).into_owned())),
        }
    }

    fn handle_connect(&mut self, json: &[u8]) -> Result<(), ProtocolError> {
        let mut options = self.options();
        options.merge_json(json).map_err(|error| ProtocolError::Malformed {
            verb: "CONNECT",
            problem: "bad options",
            line: error.to_string(),
        })?;
        let limits = &self.shared.limits;
        let now = Instant::now();
        let first_ping = FIRST_PING.min(limits.ping_interval);
        let jitter = self.shared.random.below(u64::try_from(first_ping.as_nanos() / 5).unwrap_or(0));
        self.next_ping = now + first_ping + Duration::from_nanos(jitter);
        if self.connected {
            // Who connects again may become somebody else; what was subscribed to belonged to whom it was.
            self.shared.broker.unsubscribe_all(&self.peer);
        }
        self.connected = true;
        self.peer.received.last.store(self.shared.clock.wall(), Ordering::Relaxed);
        if options.new_account || !options.account.is_empty() {
            return Err(ProtocolError::AuthorizationViolation);
        }
        if !options.has_known_protocol() {
            return Err(ProtocolError::BadClientProtocol);
        }
        if options.no_responders && !options.headers {
            return Err(ProtocolError::NoRespondersRequiresHeaders);
        }
        self.agreed = Agreed::from(&options);
        self.peer.agree(options.headers, options.echo);
        self.decoder.set_headers(options.headers);
        let since_start = now.duration_since(self.start);
        self.peer.change_info(|info| {
            (info.name, info.lang, info.version) = (options.name, options.lang, options.version);
            info.rtt = since_start;
        });
        if let Some(publisher) = &mut self.publisher {
            publisher.connected(self.agreed.no_responders);
        }
        self.approve();
        Ok(())
    }

    /// What a CONNECT changes. Secrets are not kept.
    fn options(&self) -> ConnectOptions {
        let Agreed { verbose, pedantic, no_responders, protocol } = self.agreed;
        let info = self.peer.info();
        ConnectOptions {
            verbose,
            pedantic,
            no_responders,
            protocol,
            headers: self.peer.headers.load(Ordering::Relaxed),
            echo: self.peer.echo.load(Ordering::Relaxed),
            name: info.name.clone(),
            lang: info.lang.clone(),
            version: info.version.clone(),
            ..ConnectOptions::default()
        }
    }

    fn handle_subscribe(&mut self, subscribe: &Subscribe<'_>) {
        self.is_active();
        let limits = &self.shared.limits;
        let Subscribe { subject: filter, queue, sid } = *subscribe;
        let queue = (!queue.is_empty()).then_some(queue);
        if queue == Some(RESERVED_QUEUE) {
            let (subject, queue) = (filter.to_vec(), queue.map(<[u8]>::to_vec));
            return self.refuse(&ProtocolError::SubscriptionPermission { subject, queue });
        }
        if limits.max_sub_tokens > 0 && subject::token_count(filter) > limits.max_sub_tokens {
            return self.refuse(&ProtocolError::TooManySubjectTokens { subject: filter.to_vec() });
        }
        if limits.max_subscriptions > 0 && self.peer.subscriptions().len() >= limits.max_subscriptions {
            return self.refuse(&ProtocolError::TooManySubscriptions);
        }
        if !subject::is_valid_filter(filter) && !self.peer.subscriptions().contains_key(sid) {
            return self.refuse(&ProtocolError::InvalidSubject);
        }
        // A sid in use goes on standing for what it stood for.
        self.shared.broker.subscribe(&self.peer, filter, queue, sid);
        self.approve();
    }

    fn handle_ping(&mut self) {
        self.active = Instant::now();
        self.peer.outbox.send(encode::PONG);
        if self.connected && !self.first_pong_sent {
            self.first_pong_sent = true;
            if self.agreed.protocol >= 1 {
                let account = self.peer.info().account.clone();
                let info = self.shared.info_for(&self.peer, |info| {
                    info.connect_info = true;
                    info.remote_account = account;
                });
                self.peer.outbox.send(&info);
                self.peer.follows_info.store(true, Ordering::Relaxed);
            }
        }
    }

    fn handle_pong(&mut self) {
        self.pings_out = 0;
        if let Some(sent) = self.ping_sent {
            let round_trip = sent.elapsed();
            self.peer.change_info(|info| info.rtt = round_trip);
        }
    }

    /// The client has published or subscribed.
    fn is_active(&mut self) {
        self.active = Instant::now();
        self.peer.received.last.store(self.shared.clock.wall(), Ordering::Relaxed);
    }

    /// `+OK`, if the client wants it.
    fn approve(&mut self) {
        if self.agreed.verbose {
            self.peer.outbox.send(encode::OK);
        }
    }

    /// `-ERR`; the connection goes on.
    fn refuse(&mut self, error: &ProtocolError) {
        if let Some(text) = error.wire_text() {
            let mut answer = Vec::new();
            encode::err(&mut answer, &text);
            self.peer.outbox.send(&answer);
        }
    }
}

/// The queue group of the server's own parts.
const RESERVED_QUEUE: &[u8] = b"_sys_";

/// Subjects that only servers among themselves publish on.
fn is_reserved_subject(subject: &[u8]) -> bool {
    begins(subject, b"_GR_.") || begins(subject, b"$NRG.")
}

/// Reply subjects that the server gives out; nobody answers on somebody else's.
fn is_reserved_reply(reply: &[u8]) -> bool {
    reply.starts_with(b"_R_.") || begins(reply, b"$JS.ACK.") || begins(reply, b"_GR_.")
}

/// Whether there is more after `prefix`.
fn begins(subject: &[u8], prefix: &[u8]) -> bool {
    subject.len() > prefix.len() && subject.starts_with(prefix)
}
