//! Our own NATS client, over TCP or an in-process pipe.
//!
//! One task owns the transport; everybody else appends to one shared out-buffer under a short lock and waits only when it
//! is full. The client reconnects by itself and subscribes again; what was published and not yet written when a connection
//! broke is lost, as core NATS has it, and an open request fails at once instead of waiting out its time.
//!
//! Layers: [`Client`] is core NATS; [`jetstream`] asks the `$JS.API`; [`kv`] is a view of a stream. Absent: TLS, push
//! consumers with acknowledgements, object store.

mod connection;
pub mod connector;
mod error;
mod handshake;
pub mod jetstream;
pub mod json;
pub mod kv;
mod message;
mod request;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

pub use connection::Event;
pub use connector::{Connector, Credentials, Pipe, Tcp};
pub use error::{ConnectError, PublishError, RequestError, UnavailableError};
pub use message::Message;
pub use request::Replies;
pub use subscription::Subscription;

use bytes::Bytes;
use tokio::sync::watch;
use weir_protocol::info::ServerInfo;

use crate::sys::random::Random;
use connection::Core;

/// Longest wait that is counted; a longer one is this one. 30 years.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// How a client connects and what it holds back.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name that the server's connection list shows.
    pub name: String,
    /// Used when the address names no credentials.
    pub credentials: Credentials,
    /// Whether a lost connection is opened again. Default: yes, for ever.
    pub reconnect: bool,
    /// Pause before a second attempt to reconnect; it doubles up to 2 s. Default 50 ms.
    pub reconnect_wait: Duration,
    /// Bytes held back for a slow or absent server before publishers wait. Default 8 MiB.
    pub pending_bytes_max: usize,
    /// Messages a subscription holds back for a slow reader before it drops new ones. Default 65,536.
    pub subscription_messages_max: usize,
    /// Bytes a subscription holds back for a slow reader before it drops new ones. Default 64 MiB.
    pub subscription_bytes_max: usize,
    /// How often a PING asks whether the server is still there; two without an answer end the connection. Default 20 s.
    pub ping_interval: Duration,
    /// Where inbox names come from.
    pub random: Random,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "weir".to_owned(),
            credentials: Credentials::default(),
            reconnect: true,
            reconnect_wait: Duration::from_millis(50),
            pending_bytes_max: 8 << 20,
            subscription_messages_max: 65_536,
            subscription_bytes_max: 64 << 20,
            ping_interval: Duration::from_secs(20),
            random: Random::from_system(),
        }
    }
}

impl Options {
    /// The defaults under a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// A connection to a NATS server that outlives single transports. Clones share it; it ends when the last one is dropped.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
    _last: Arc<CloseOnDrop>,
}

struct CloseOnDrop(Arc<Core>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("name", &self.core.options.name).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects over TCP to one URL, or to several equal servers separated by commas.
    ///
    /// # Errors
    /// When the URL names no server, none of them can be reached, or the server refuses the connection. Later losses are
    /// mended behind the scenes.
    pub async fn connect(urls: &str, options: Options) -> Result<Client, ConnectError> {
        Self::over(Tcp::parse(urls)?, options).await
    }

    /// Connects over what `connector` opens.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn over(connector: impl Connector, options: Options) -> Result<Client, ConnectError> {
        let core = connection::start(Box::new(connector), options).await?;
        Ok(Client { _last: Arc::new(CloseOnDrop(core.clone())), core })
    }

    /// Publishes. Returns once the message stands in the out-buffer, waiting only while that is full.
    ///
    /// `headers` is a whole block as `weir_protocol::header::Builder` makes it. Nothing tells whether the message arrived;
    /// [`flush`](Self::flush) does, up to the server.
    ///
    /// # Errors
    /// A subject that is not valid, a message above the server's `max_payload`, or a closed client.
    pub async fn publish(
        &self,
        subject: &str,
        headers: Option<&Bytes>,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        check_literal(subject)?;
        self.core.publish(subject, None, headers, &payload).await
    }

    /// As [`publish`](Self::publish), with the subject on which an answer is wanted.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_with_reply(
        &self,
        subject: &str,
        reply: &str,
        headers: Option<&Bytes>,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        check_literal(subject)?;
        self.core.publish(subject, Some(reply), headers, &payload).await
    }

    /// Waits until the server has read everything published before.
    ///
    /// # Errors
    /// When the connection breaks before its answer: then nobody knows.
    pub async fn flush(&self) -> Result<(), UnavailableError> {
        self.core.flush().await
    }

    /// Publishes and waits for the first answer.
    ///
    /// # Errors
    /// No responders, no answer in time, or the connection broke while waiting.
    pub async fn request(
        &self,
        subject: &str,
        headers: Option<&Bytes>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        self.start_request(subject, headers, payload, timeout).await?.reply().await
    }

    /// Publishes and returns the answer still to come, so that many requests can be open at once.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn start_request(
        &self,
        subject: &str,
        headers: Option<&Bytes>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Replies, RequestError> {
        request::start(self, subject, headers, payload, timeout).await
    }

    /// Subscribes to a subject filter. Wildcards are `*` for one token and `>` for the rest.
    ///
    /// # Errors
    /// A filter that is not valid, or a closed client.
    pub fn subscribe(&self, filter: &str) -> Result<Subscription, PublishError> {
        subscription::start(self, &[filter], None)
    }

    /// Subscribes to several filters at once: one reader, in the order in which the server sends. A message that matches
    /// two of them comes twice.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_all(&self, filters: &[&str]) -> Result<Subscription, PublishError> {
        subscription::start(self, filters, None)
    }

    /// Subscribes as one member of a queue group: each message reaches one member.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn queue_subscribe(&self, filter: &str, queue: &str) -> Result<Subscription, PublishError> {
        subscription::start(self, &[filter], Some(queue))
    }

    /// A fresh subject that nobody else uses, for answers.
    #[must_use]
    pub fn new_inbox(&self) -> String {
        format!("_INBOX.{}", self.core.options.random.id(22))
    }

    /// What the server said about itself when this connection was opened.
    #[must_use]
    pub fn server_info(&self) -> Arc<ServerInfo> {
        self.core.server_info()
    }

    /// The address of the server, without secrets.
    #[must_use]
    pub fn address(&self) -> String {
        self.core.address()
    }

    /// Connection losses and returns as they happen.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<Event> {
        self.core.events()
    }

    /// Ends all subscriptions, lets their readers empty them, writes what was published, and closes.
    ///
    /// # Errors
    /// When the connection breaks before all of it is written.
    pub async fn drain(&self) -> Result<(), UnavailableError> {
        self.core.unsubscribe_all();
        let flushed = self.flush().await;
        self.core.close();
        flushed
    }

    /// Closes at once. What is not yet written is lost; open requests fail.
    pub fn close(&self) {
        self.core.close();
    }

    /// JetStream's API over this connection.
    #[must_use]
    pub fn jetstream(&self) -> jetstream::JetStream {
        jetstream::JetStream::new(self.clone())
    }
}

/// A wildcard in a publish is a mistake, except in the API's requests, which carry filters in their subjects.
fn check_literal(subject: &str) -> Result<(), PublishError> {
    if weir_protocol::subject::is_literal(subject.as_bytes()) {
        Ok(())
    } else {
        Err(PublishError::Subject(subject.to_owned()))
    }
}
