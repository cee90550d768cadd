//! Sockets, connections, tasks: the broker as a server.
//!
//! [`Server::start`] opens the listener; [`Server::connect_in_process`] gives a connection over a pipe, which is served by
//! the same code as one over TCP. Every task belongs to one group, and [`Server::shutdown`] returns when the last has ended. No
//! peer can put that off: what is written to one, over NATS or HTTP, has a deadline.
//!
//! Absent: authentication, permissions, TLS, clustering.

mod config;
mod connection;
mod jetstream;
mod lame_duck;
mod listener;
mod monitoring;
mod registry;
mod session;
mod user_info;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::io::DuplexStream;
use tokio::sync::watch;
use weir_protocol::encode;
use weir_protocol::error::ClosedReason;
use weir_protocol::info::ServerInfo;

pub use config::{Address, Config, ConfigError, JetStreamConfig, Limits, StoreFolder};
pub use jetstream::JetStreamError;

use crate::broker::{Broker, ConnectionInfo, InternalSub, Peer};
use crate::jetstream::driver::StoreHealth;
use crate::sys::clock::SharedClock;
use crate::sys::net::{self, BindError};
use crate::sys::random::Random;
use crate::sys::task::{TaskGroup, TaskStarter, WeakTaskStarter};
use jetstream::JetStream;
use registry::Registry;
use user_info::UserInfo;

/// The nats-server whose behaviour clients may expect: they decide by this what they try.
pub const NATS_VERSION: &str = "2.14.5";

/// The account of everybody while there is no authentication.
pub const GLOBAL_ACCOUNT: &str = "$G";

/// What is served on [`Config::listen`], as a [`BindError`] names it.
pub const FOR_CLIENTS: &str = "clients";

/// What is served on [`Config::monitor`], as a [`BindError`] names it.
pub const FOR_MONITORING: &str = "monitoring";

/// What the in-process pipe holds in each direction before its writer waits.
const PIPE_BYTES: usize = 64 * 1024;

/// A running server. Dropping it stops it, but waits for nothing: see [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    monitor_address: Option<SocketAddr>,
    user_info: InternalSub,
    jetstream: Option<JetStream>,
    tasks: TaskGroup,
    /// Dropped, it has everything close.
    phase: watch::Sender<Phase>,
}

/// What the server does. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// No new connections; those that are there go on.
    Finishing,
    /// Connections are closed.
    Closing,
}

/// Opens connections over the in-process pipe, as long as the server runs.
#[derive(Clone, Debug)]
pub struct InProcess {
    shared: Weak<Shared>,
    tasks: WeakTaskStarter,
}

/// What every connection uses.
#[derive(Debug)]
pub(crate) struct Shared {
    broker: Broker,
    limits: Limits,
    clock: SharedClock,
    random: Random,
    info: ServerInfo,
    /// When the server started, in nanoseconds since 1970.
    start: i64,
    registry: Registry,
    /// Whether JetStream's store can be written; `None` without JetStream.
    store: Option<StoreHealth>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be meant.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// JetStream does not start.
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
    /// A part panicked while it started.
    #[error("the start failed: {0}")]
    Panic(String),
}

impl Server {
    /// Starts a server: opens its sockets, then serves.
    ///
    /// # Errors
    /// When the configuration cannot be meant or a socket cannot be opened; nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        let listener = match &config.listen {
            Some(Address { host, port }) => Some(net::bind(FOR_CLIENTS, host, *port).await?),
            None => None,
        };
        let monitor = match &config.monitor {
            Some(Address { host, port }) => Some(net::bind(FOR_MONITORING, host, *port).await?),
            None => None,
        };
        let address = listener.as_ref().map(|(_, address)| *address);
        let monitor_address = monitor.as_ref().map(|(_, address)| *address);
        let info = server_info(&config, address);
        let broker = Broker::new(config.random.clone());
        let jetstream = match &config.jetstream {
            Some(jetstream) => {
                let start = JetStream::prepare(jetstream, &info.server_name, &config, &broker);
                // Opening a store reads it.
                let started = tokio::task::spawn_blocking(start).await;
                Some(started.map_err(|panic| StartError::Panic(panic.to_string()))??)
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            broker,
            limits: config.limits,
            start: config.clock.wall(),
            clock: config.clock,
            random: config.random,
            info,
            registry: Registry::default(),
            store: jetstream.as_ref().map(JetStream::health),
        });
        let tasks = TaskGroup::default();
        let (phase, phases) = watch::channel(Phase::Serving);
        let starter = tasks.starter();
        if let Some((listener, _)) = monitor {
            let closing = until(phases.clone(), Phase::Closing);
            starter.spawn(monitoring::serve(Arc::clone(&shared), listener, closing));
        }
        let listener = listener.map(|(listener, _)| listener);
        starter.spawn(listener::accept(Arc::clone(&shared), listener, phases, tasks.starter()));
        let who = UserInfo::new(shared.broker.clone(), Arc::clone(&shared.clock), shared.info.clone());
        let user_info = shared.broker.subscribe_internal(user_info::SUBJECT, who);
        Ok(Self { shared, address, monitor_address, user_info, jetstream, tasks, phase })
    }

    /// The broker, for parts of the server.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.shared.broker
    }

    /// The server's id: 56 characters that begin with `N`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.info.server_id
    }

    /// Where clients connect; `None` without a listener.
    #[must_use]
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The URL for clients; `None` without a listener.
    #[must_use]
    pub fn client_url(&self) -> Option<String> {
        self.address.map(|address| format!("nats://{address}"))
    }

    /// Where the monitoring pages are; `None` without them.
    #[must_use]
    pub fn monitor_address(&self) -> Option<SocketAddr> {
        self.monitor_address
    }

    /// A connection over a pipe within this process; it speaks the protocol like every other. Its producer is never held
    /// up; a reader that falls behind by `max_pending` is closed as every other is.
    #[must_use]
    pub fn connect_in_process(&self) -> DuplexStream {
        self.shared.connect_in_process(self.tasks.starter())
    }

    /// Opens connections over the pipe for whoever reconnects by itself. Does not keep the server running.
    #[must_use]
    pub fn in_process(&self) -> InProcess {
        InProcess { shared: Arc::downgrade(&self.shared), tasks: self.tasks.starter().downgrade() }
    }

    /// Where JetStream keeps its streams; `None` without JetStream.
    #[must_use]
    pub fn store_path(&self) -> Option<&Path> {
        self.jetstream.as_ref().map(JetStream::path)
    }

    /// Takes no new connections over TCP from now on; those that are there go on.
    pub fn stop_accepting(&self) {
        self.phase.send_replace(Phase::Finishing);
    }

    /// Leaves slowly, so that not all clients look for another server at once (lame duck mode): no new connections; JetStream
    /// closes its store; clients are told by INFO; after the grace period their connections are closed one after the other.
    /// Then the server stops. `hurry` cuts the waiting short.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub async fn leave(mut self, hurry: impl Future<Output = ()>) -> Result<(), String> {
        tracing::info!("Entering lame duck mode, stop accepting new clients");
        self.stop_accepting();
        let closed = close_store(self.jetstream.take()).await;
        lame_duck::dismiss(&self.shared, hurry).await;
        self.shutdown().await.and(closed)
    }

    /// Stops: no new connections; JetStream tells those who wait, makes everything durable and closes its store; what waits
    /// to be written is written, connections are closed, every task ends.
    ///
    /// # Errors
    /// When the store does not close in order. What was answered is on disk all the same, and the server is stopped.
    pub async fn shutdown(self) -> Result<(), String> {
        let Self { shared, user_info, jetstream, tasks, phase, .. } = self;
        phase.send_replace(Phase::Finishing);
        let closed = close_store(jetstream).await;
        drop(phase);
        drop(user_info);
        drop(shared);
        tasks.ended().await;
        closed
    }
}

async fn close_store(jetstream: Option<JetStream>) -> Result<(), String> {
    match jetstream {
        Some(jetstream) => jetstream.stop().await,
        None => Ok(()),
    }
}

impl InProcess {
    /// A connection, as [`Server::connect_in_process`] gives it.
    ///
    /// # Errors
    /// When the server has stopped.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        match (self.shared.upgrade(), self.tasks.upgrade()) {
            (Some(shared), Some(tasks)) => Ok(shared.connect_in_process(tasks)),
            _ => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the server in this process has stopped",
            )),
        }
    }
}

impl Shared {
    fn connect_in_process(self: &Arc<Self>, tasks: TaskStarter) -> DuplexStream {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let (read, write) = tokio::io::split(server);
        let info = ConnectionInfo { in_process: true, ..ConnectionInfo::default() };
        self.begin(info, read, write, tasks);
        client
    }

    /// Starts to serve a connection.
    fn begin<R, W>(self: &Arc<Self>, info: ConnectionInfo, read: R, write: W, tasks: TaskStarter)
    where
        R: tokio::io::AsyncRead + Send + Unpin + 'static,
        W: tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let info = ConnectionInfo {
            id: self.registry.next_id(),
            start: self.clock.wall(),
            account: GLOBAL_ACCOUNT.to_owned(),
            ..info
        };
        let peer = self.broker.connect(info, self.limits.max_pending);
        let admitted = self.registry.add(&peer, self.limits.max_connections);
        let starter = tasks.clone();
        starter.spawn(connection::serve(Arc::clone(self), peer, admitted, read, write, tasks));
    }

    /// A connection has ended.
    fn forget(&self, peer: &Peer) {
        self.registry.remove(peer, self.clock.wall(), self.limits.max_closed_clients);
    }

    /// Whether a publisher may be held up for others.
    fn stalls(&self, peer: &Peer) -> bool {
        !peer.in_process
    }

    fn count_stall(&self, peer: &Peer) {
        peer.received.stalls.fetch_add(1, Ordering::Relaxed);
        self.broker.totals().stalls.fetch_add(1, Ordering::Relaxed);
    }

    /// The line by which a connection learns of the server, with what `change` makes of it.
    fn info_for(&self, peer: &Peer, change: impl FnOnce(&mut ServerInfo)) -> Vec<u8> {
        let connection = peer.info();
        let mut info = self.info.clone();
        info.client_id = connection.id;
        info.client_ip.clone_from(&connection.host);
        change(&mut info);
        let mut line = Vec::new();
        encode::info(&mut line, &info.to_json());
        line
    }

    /// Closes every connection once what waits for it is written.
    fn close_all(&self, reason: ClosedReason) {
        for peer in self.registry.stop() {
            peer.outbox.close(reason, true);
        }
    }
}

/// Waits until `phase` has come, or the server has been dropped.
async fn until(mut phases: watch::Receiver<Phase>, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}

fn server_info(config: &Config, address: Option<SocketAddr>) -> ServerInfo {
    let id = server_id(&config.random);
    ServerInfo {
        server_name: config.server_name.clone().unwrap_or_else(|| id.clone()),
        server_id: id,
        version: NATS_VERSION.to_owned(),
        git_commit: format!("weir-{}", env!("CARGO_PKG_VERSION")),
        go: "rust".to_owned(),
        host: config.listen.as_ref().map(|listen| listen.host.clone()).unwrap_or_default(),
        port: address.map_or(0, |address| address.port()),
        max_payload: i64::try_from(config.limits.max_payload).unwrap_or(i64::MAX),
        jetstream: config.jetstream.is_some(),
        api_lvl: if config.jetstream.is_some() { u64::from(crate::jetstream::API_LEVEL) } else { 0 },
        ..ServerInfo::default()
    }
}

/// `N` and 55 more of the characters that NATS keys are written in.
fn server_id(random: &Random) -> String {
    const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digit = |_| char::from(DIGITS[usize::try_from(random.below(32)).unwrap_or(0)]);
    std::iter::once('N').chain((0..55).map(digit)).collect()
}
