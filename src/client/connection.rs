//! The connection behind a client: one task that opens transports, writes the shared out-buffer and reads what comes.
//!
//! Invariant: while `phase` is `Connected`, every entry of `subscriptions` has its SUB in the out-buffer or at the server;
//! at a loss the out-buffer is emptied, and at the return each subscription is announced again before anything published
//! meanwhile. The lock is held for a few copies and never across a wait.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use weir_protocol::encode;
use weir_protocol::info::ServerInfo;
use weir_protocol::op::{self, ServerOp};
use weir_protocol::subject;

use super::connector::Connector;
use super::handshake::{Session, handshake};
use super::subscription::Sink;
use super::{ConnectError, LONGEST, Message, Options, PublishError, UnavailableError};
use crate::sys::task;

const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
const SPARE_OUT_MAX: usize = 256 << 10;
/// The subscription of the request inbox.
const INBOX_SID: u64 = 1;

/// What happened last to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is a connection to this address.
    Connected(String),
    /// The connection was lost for this reason, and is being opened again.
    Lost(String),
    /// The client is closed, for this reason.
    Closed(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connected,
    Reconnecting,
    Closed,
}

struct Subscribed {
    filter: String,
    queue: Option<String>,
    /// Deliveries left until the server ends it.
    left: Option<u64>,
    /// Set while it is being drained: not announced again.
    ending: bool,
    sink: Sink,
}

struct Shared {
    phase: Phase,
    out: BytesMut,
    subscriptions: BTreeMap<u64, Subscribed>,
    requests: BTreeMap<u64, mpsc::UnboundedSender<Message>>,
    /// Who waits for the next PONG, in order; `None` is our own keep-alive.
    pongs: VecDeque<Option<oneshot::Sender<()>>>,
    next_sid: u64,
    next_request: u64,
    info: Arc<ServerInfo>,
    address: String,
}

pub(super) struct Core {
    pub(super) options: Options,
    connector: Box<dyn Connector>,
    shared: Mutex<Shared>,
    written: Notify,
    room: Notify,
    closed: watch::Sender<bool>,
    events: watch::Sender<Event>,
    inbox: String,
}

/// Opens the first connection and starts the task that keeps it.
pub(super) async fn start(
    connector: Box<dyn Connector>,
    options: Options,
) -> Result<Arc<Core>, ConnectError> {
    let connected = connector.connect().await?;
    let session = handshake(connected, &options).await?;
    let inbox = format!("_INBOX.{}.", options.random.id(22));
    let core = Arc::new(Core {
        connector,
        shared: Mutex::new(Shared {
            phase: Phase::Connected,
            out: BytesMut::new(),
            subscriptions: BTreeMap::new(),
            requests: BTreeMap::new(),
            pongs: VecDeque::new(),
            next_sid: INBOX_SID + 1,
            next_request: 0,
            info: session.info.clone(),
            address: session.address.clone(),
        }),
        written: Notify::new(),
        room: Notify::new(),
        closed: watch::Sender::new(false),
        events: watch::Sender::new(Event::Connected(session.address.clone())),
        inbox,
        options,
    });
    core.announce(&mut core.lock());
    task::spawn(keep(core.clone(), session));
    Ok(core)
}

/// Runs sessions one after the other until the client is closed.
async fn keep(core: Arc<Core>, first: Session) {
    let mut session = Some(first);
    let mut closed = core.closed.subscribe();
    loop {
        if let Some(session) = session.take() {
            let reason = tokio::select! {
                reason = run(&core, session) => reason,
                _ = closed.wait_for(|closed| *closed) => "closed by this client".to_owned(),
            };
            core.lost(&reason);
        }
        if core.is_closed() {
            return;
        }
        tokio::select! {
            opened = reopen(&core) => session = opened,
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }
}

/// Tries until a connection is open again.
async fn reopen(core: &Core) -> Option<Session> {
    let mut wait = core.options.reconnect_wait;
    loop {
        let attempt = async { handshake(core.connector.connect().await?, &core.options).await };
        match attempt.await {
            Ok(session) => {
                let mut shared = core.lock();
                if shared.phase == Phase::Closed {
                    return None;
                }
                shared.phase = Phase::Connected;
                shared.info = session.info.clone();
                shared.address.clone_from(&session.address);
                let held_back = std::mem::take(&mut shared.out);
                core.announce(&mut shared);
                shared.out.extend_from_slice(&held_back);
                drop(shared);
                core.events.send_replace(Event::Connected(session.address.clone()));
                return Some(session);
            }
            Err(error) => {
                tracing::debug!(%error, "reconnect failed");
                core.events.send_replace(Event::Lost(error.to_string()));
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT_WAIT_MAX);
    }
}

/// Reads and writes until the transport fails; the result says why it did.
async fn run(core: &Arc<Core>, session: Session) -> String {
    let Session { transport, mut input, .. } = session;
    let (mut reader, mut writer) = tokio::io::split(transport);
    let read = async {
        loop {
            let mut fatal = None;
            let understood = input.drain(|op, chunk| {
                fatal = core.handle(op, chunk);
                fatal.is_none()
            });
            if let Some(fatal) = fatal {
                return fatal;
            }
            if let Err(error) = understood {
                return format!("the server sent what is no NATS: {error}");
            }
            match input.read(&mut reader).await {
                Ok(0) => return "the server closed the connection".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    };
    let write = async {
        let mut chunk = BytesMut::new();
        loop {
            let more = core.written.notified();
            core.take_output(&mut chunk);
            if chunk.is_empty() {
                more.await;
                continue;
            }
            if let Err(error) = writer.write_all(&chunk).await {
                return error.to_string();
            }
            if let Err(error) = writer.flush().await {
                return error.to_string();
            }
            if chunk.capacity() > SPARE_OUT_MAX {
                chunk = BytesMut::new();
            }
            chunk.clear();
        }
    };
    let keep_alive = async {
        let mut ticks =
            tokio::time::interval(core.options.ping_interval.clamp(Duration::from_millis(1), LONGEST));
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if !core.ping() {
                return "the server answers no PING".to_owned();
            }
        }
    };
    tokio::select! {
        reason = read => reason,
        reason = write => reason,
        reason = keep_alive => reason,
    }
}

impl Core {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closed(&self) -> bool {
        self.lock().phase == Phase::Closed
    }

    pub(super) fn server_info(&self) -> Arc<ServerInfo> {
        self.lock().info.clone()
    }

    pub(super) fn address(&self) -> String {
        self.lock().address.clone()
    }

    pub(super) fn events(&self) -> watch::Receiver<Event> {
        self.events.subscribe()
    }

    /// Puts the SUB of every subscription into the out-buffer.
    fn announce(&self, shared: &mut Shared) {
        let Shared { out, subscriptions, .. } = shared;
        put_sub(out, &format!("{}*", self.inbox), None, INBOX_SID);
        subscriptions.retain(|_, subscribed| !subscribed.ending);
        for (sid, subscribed) in subscriptions {
            put_sub(out, &subscribed.filter, subscribed.queue.as_deref(), *sid);
            if let Some(left) = subscribed.left {
                put_unsub(out, *sid, Some(left));
            }
        }
        self.written.notify_one();
    }

    /// After a loss: nobody waits any longer for what was under way.
    fn lost(&self, reason: &str) {
        let mut shared = self.lock();
        shared.out.clear();
        shared.pongs.clear();
        shared.requests.clear();
        if shared.phase == Phase::Connected {
            shared.phase = if self.options.reconnect { Phase::Reconnecting } else { Phase::Closed };
        }
        let closed = shared.phase == Phase::Closed;
        if closed {
            shared.subscriptions.clear();
        }
        drop(shared);
        self.room.notify_waiters();
        let reason = reason.to_owned();
        self.events.send_replace(if closed { Event::Closed(reason) } else { Event::Lost(reason) });
    }

    pub(super) fn close(&self) {
        let mut shared = self.lock();
        shared.phase = Phase::Closed;
        shared.subscriptions.clear();
        shared.requests.clear();
        shared.pongs.clear();
        drop(shared);
        self.room.notify_waiters();
        self.closed.send_replace(true);
    }

    /// Moves the out-buffer to `chunk`, which is empty.
    fn take_output(&self, chunk: &mut BytesMut) {
        std::mem::swap(&mut self.lock().out, chunk);
        self.room.notify_waiters();
    }

    /// Appends to the out-buffer of an open connection.
    fn put(&self, shared: &mut Shared, encode: impl FnOnce(&mut BytesMut)) {
        if shared.phase == Phase::Connected {
            encode(&mut shared.out);
            self.written.notify_one();
        }
    }

    /// Carries out what the server sent; the answer says why the connection must end, if it must.
    fn handle(&self, op: ServerOp<'_>, chunk: &Bytes) -> Option<String> {
        match op {
            ServerOp::Msg(message) => self.deliver(&message, chunk),
            ServerOp::Ping => self.put(&mut self.lock(), |out| out.extend_from_slice(b"PONG\r\n")),
            ServerOp::Pong => {
                if let Some(Some(waiting)) = self.lock().pongs.pop_front() {
                    let _gone = waiting.send(());
                }
            }
            ServerOp::Info(json) => match serde_json::from_slice::<ServerInfo>(json) {
                Ok(info) => self.lock().info = Arc::new(info),
                Err(error) => return Some(format!("the server's INFO cannot be read: {error}")),
            },
            ServerOp::Ok => {}
            ServerOp::Err(text) => {
                let text = String::from_utf8_lossy(text);
                // The server closes after any other error; these two concern one operation.
                let lower = text.to_ascii_lowercase();
                if !lower.contains("permissions violation") && !lower.contains("invalid subject") {
                    return Some(format!("the server says {text}"));
                }
                tracing::warn!(error = %text, "the server refuses an operation");
            }
        }
        None
    }

    /// Brings a message to whoever asked for it. One that nobody wants any longer is thrown away.
    fn deliver(&self, message: &op::Message<'_>, chunk: &Bytes) {
        let Some(sid) = std::str::from_utf8(message.sid).ok().and_then(|sid| sid.parse::<u64>().ok()) else {
            return;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let owned = Message {
            subject: text(message.subject),
            reply: (!message.reply.is_empty()).then(|| text(message.reply)),
            headers: chunk.slice_ref(message.headers),
            payload: chunk.slice_ref(message.payload),
        };
        let mut shared = self.lock();
        if sid == INBOX_SID {
            if let Some(sender) = self.token(&owned.subject).and_then(|token| shared.requests.get(&token)) {
                let _gone = sender.send(owned);
            }
            return;
        }
        let Some(subscribed) = shared.subscriptions.get_mut(&sid) else { return };
        subscribed.sink.push(owned);
        if let Some(left) = subscribed.left.as_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                shared.subscriptions.remove(&sid);
            }
        }
    }

    /// The request to which a subject of the inbox belongs.
    fn token(&self, subject: &str) -> Option<u64> {
        subject.strip_prefix(&self.inbox)?.parse().ok()
    }

    pub(super) async fn publish(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&Bytes>,
        payload: &Bytes,
    ) -> Result<(), PublishError> {
        for text in [Some(subject), reply].into_iter().flatten() {
            if !subject::is_valid_subject(text.as_bytes()) {
                return Err(PublishError::Subject(text.to_owned()));
            }
        }
        let headers = headers.filter(|headers| !headers.is_empty());
        let size = headers.map_or(0, Bytes::len) + payload.len();
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut shared = self.lock();
                if shared.phase == Phase::Closed {
                    return Err(PublishError::Closed);
                }
                let limit = usize::try_from(shared.info.max_payload).unwrap_or(usize::MAX);
                if size > limit {
                    return Err(PublishError::TooLarge { size, limit });
                }
                if shared.out.len() < self.options.pending_bytes_max {
                    put_publish(&mut shared.out, subject, reply, headers, payload);
                    drop(shared);
                    self.written.notify_one();
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// Publishes without waiting: a message for which there is no room or no connection is not sent. For farewells that
    /// the server would also guess by itself.
    pub(super) fn publish_now(&self, subject: &str, payload: &Bytes) {
        let mut shared = self.lock();
        if shared.phase == Phase::Connected && shared.out.len() < self.options.pending_bytes_max {
            put_publish(&mut shared.out, subject, None, None, payload);
            self.written.notify_one();
        }
    }

    pub(super) fn flush(&self) -> impl Future<Output = Result<(), UnavailableError>> + use<> {
        let (sender, receiver) = oneshot::channel();
        let mut shared = self.lock();
        if shared.phase == Phase::Connected {
            shared.pongs.push_back(Some(sender));
            self.put(&mut shared, |out| out.extend_from_slice(b"PING\r\n"));
        }
        async move { receiver.await.map_err(|_| UnavailableError) }
    }

    /// Sends a keep-alive; false when two have had no answer.
    fn ping(&self) -> bool {
        let mut shared = self.lock();
        if shared.pongs.iter().filter(|waiting| waiting.is_none()).count() >= 2 {
            return false;
        }
        shared.pongs.push_back(None);
        self.put(&mut shared, |out| out.extend_from_slice(b"PING\r\n"));
        true
    }

    pub(super) fn subscribe(
        &self,
        filter: &str,
        queue: Option<&str>,
        sink: Sink,
    ) -> Result<u64, PublishError> {
        let mut shared = self.lock();
        if shared.phase == Phase::Closed {
            return Err(PublishError::Closed);
        }
        let sid = shared.next_sid;
        shared.next_sid += 1;
        let subscribed = Subscribed {
            filter: filter.to_owned(),
            queue: queue.map(str::to_owned),
            left: None,
            ending: false,
            sink,
        };
        shared.subscriptions.insert(sid, subscribed);
        if shared.phase == Phase::Connected {
            put_sub(&mut shared.out, filter, queue, sid);
            self.written.notify_one();
        }
        Ok(sid)
    }

    /// Ends a subscription: at once, or after `max` deliveries in total.
    pub(super) fn unsubscribe(&self, sid: u64, max: Option<u64>) {
        let mut shared = self.lock();
        match max {
            None => {
                if shared.subscriptions.remove(&sid).is_some_and(|subscribed| !subscribed.ending) {
                    self.put(&mut shared, |out| put_unsub(out, sid, None));
                }
            }
            Some(max) => {
                if let Some(subscribed) = shared.subscriptions.get_mut(&sid) {
                    subscribed.left = Some(max);
                    self.put(&mut shared, |out| put_unsub(out, sid, Some(max)));
                }
            }
        }
    }

    /// Asks the server to stop; what is under way still arrives until [`forget`](Self::forget).
    pub(super) fn stop_delivery(&self, sid: u64) {
        let mut shared = self.lock();
        if let Some(subscribed) = shared.subscriptions.get_mut(&sid) {
            subscribed.ending = true;
            self.put(&mut shared, |out| put_unsub(out, sid, None));
        }
    }

    pub(super) fn forget(&self, sid: u64) {
        self.lock().subscriptions.remove(&sid);
    }

    pub(super) fn unsubscribe_all(&self) {
        let sids: Vec<u64> = self.lock().subscriptions.keys().copied().collect();
        for sid in sids {
            self.stop_delivery(sid);
        }
    }

    /// A new request and the subject for its answers.
    pub(super) fn open_request(&self, sender: mpsc::UnboundedSender<Message>) -> (u64, String) {
        let mut shared = self.lock();
        shared.next_request += 1;
        let token = shared.next_request;
        if shared.phase != Phase::Closed {
            shared.requests.insert(token, sender);
        }
        (token, format!("{}{token}", self.inbox))
    }

    pub(super) fn close_request(&self, token: u64) {
        self.lock().requests.remove(&token);
    }
}

fn put_sub(out: &mut BytesMut, filter: &str, queue: Option<&str>, sid: u64) {
    encode::subscribe(
        out,
        filter.as_bytes(),
        queue.unwrap_or_default().as_bytes(),
        sid.to_string().as_bytes(),
    );
}

fn put_unsub(out: &mut BytesMut, sid: u64, max: Option<u64>) {
    encode::unsubscribe(out, sid.to_string().as_bytes(), max);
}

fn put_publish(
    out: &mut BytesMut,
    subject: &str,
    reply: Option<&str>,
    headers: Option<&Bytes>,
    payload: &Bytes,
) {
    let headers = headers.map(|headers| &headers[..]).unwrap_or_default();
    encode::publish(out, subject.as_bytes(), reply.unwrap_or_default().as_bytes(), headers, payload);
}
