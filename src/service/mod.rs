//! Monitor, buffer, recordings and replay: clients of the NATS protocol.
//!
//! Everything here talks to a server through [`crate::client`] alone, so it works the same over the in-process pipe and
//! against any NATS server with JetStream (2.12 or newer). What must survive is in buckets and streams; a service process
//! can be killed at any moment and another one goes on.
//!
//! ```text
//! HTTP -> monitor -> ingest -> monitor.<device> -> buffer -> recording -> replay
//! ```

pub mod buffer;
pub mod command;
mod controller;
pub mod device;
pub mod event;
pub mod fields;
pub mod id;
pub mod ingest;
pub mod monitor;
pub mod names;
pub mod recorder;
pub mod replay;
pub mod session;
pub mod span;
pub mod table;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::client::jetstream::JetStreamError;
use crate::client::{Client, Event, PublishError, UnavailableError};
use crate::sys::clock::SharedClock;
use crate::sys::random::Random;
use crate::sys::task;
use buffer::Buffers;
use device::{BufferSetting, BufferSettingError, DeviceStore};
use ingest::Ingest;
use monitor::{BodyBudget, Context, Http, HttpListener};
use names::{NameError, Names};
use recorder::{RecordError, Recorder};
use session::SessionStore;
use table::TableError;

/// The oldest server on which a recording can be made a stream of its own.
const SERVER_VERSION_MIN: (u64, u64) = (2, 12);
/// Longest the recordings are waited for at the end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

/// What the services do and under which names.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Subjects and buckets.
    pub names: Names,
    /// Where HTTP is served; `None` serves none. Default: `None`.
    pub http: Option<HttpListener>,
    /// Buffer of devices whose rows say nothing about one; `None`: they have none.
    pub default_buffer: Option<BufferSetting>,
    /// The first event of a new device starts a recording of it. Default: no.
    pub auto_record: bool,
    /// How often buffers are compared with their settings besides when these change. Default 15 s.
    pub refresh: Duration,
    /// How often the counts of running recordings are written. Default 2 s.
    pub progress: Duration,
    /// Where ids come from.
    pub random: Random,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            names: Names::default(),
            http: None,
            default_buffer: None,
            auto_record: false,
            refresh: Duration::from_secs(15),
            progress: Duration::from_secs(2),
            random: Random::from_system(),
        }
    }
}

/// Services that did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The default buffer.
    #[error("default buffer: {0}")]
    Buffer(#[from] BufferSettingError),
    /// The server is too old.
    #[error("the server at {address} has version {version}: recordings need {}.{} or newer", SERVER_VERSION_MIN.0, SERVER_VERSION_MIN.1)]
    Version {
        /// Which server.
        address: String,
        /// Its version.
        version: String,
    },
    /// There is no JetStream.
    #[error("the server at {address} has no JetStream for this account: {reason}")]
    NoJetStream {
        /// Which server.
        address: String,
        /// What it said.
        reason: String,
    },
    /// The server's error.
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
    /// A bucket.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The connection.
    #[error(transparent)]
    Client(#[from] PublishError),
    /// The connection broke.
    #[error(transparent)]
    Unavailable(#[from] UnavailableError),
}

/// The running services.
pub struct Services {
    devices: DeviceStore,
    buffers: Buffers,
    recorder: Recorder,
    http: Option<Http>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts all services over a connection. They follow the server through its restarts.
///
/// # Errors
/// A configuration that cannot be, or a server without JetStream or too old.
pub async fn start(
    client: Client,
    clock: SharedClock,
    config: ServiceConfig,
) -> Result<Services, StartError> {
    config.names.check()?;
    if let Some(buffer) = &config.default_buffer {
        buffer.check()?;
    }
    let ServiceConfig { names, http, default_buffer, auto_record, refresh, progress, random } = config;
    let jetstream = client.jetstream();
    check_server(&client).await?;
    let devices = DeviceStore::open(&jetstream, &names.devices, clock.clone()).await?;
    let sessions = SessionStore::open(&jetstream, &names.sessions, &names.record_state).await?;
    let notices_new = default_buffer.is_some() || auto_record;
    let buffers =
        Buffers::new(jetstream.clone(), names.clone(), devices.clone(), sessions.clone(), default_buffer);
    let recorder = Recorder::new(
        jetstream.clone(),
        names.clone(),
        devices.clone(),
        sessions,
        buffers.clone(),
        clock.clone(),
        random.clone(),
    );
    let ingest = Ingest::new(
        jetstream,
        names.clone(),
        devices.clone(),
        buffers.clone(),
        recorder.clone(),
        auto_record,
    );
    let requests = controller::subscribe(&client, &names)?;
    // Whoever is told that the services run may ask at once, over another connection.
    client.flush().await?;
    let http = match http {
        Some(HttpListener { listener, address, config }) => {
            let context = Context {
                client: client.clone(),
                devices: devices.clone(),
                buffers: buffers.clone(),
                recorder: recorder.clone(),
                ingest: ingest.clone(),
                clock,
                random,
                bodies: BodyBudget::new(config.bodies_bytes_max),
                config,
            };
            Some(Http::start(listener, address, context))
        }
        None => None,
    };
    let tasks = vec![
        task::spawn(tell_connection(client.clone())),
        task::spawn(recorder.clone().answer_alive()),
        task::spawn(recorder.clone().keep(progress)),
        task::spawn(buffers.clone().follow(refresh)),
        task::spawn(ingest.discover(notices_new)),
        task::spawn(controller::serve(requests, client, recorder.clone())),
    ];
    Ok(Services { devices, buffers, recorder, http, tasks })
}

/// Says when the connection is lost and when it is back, until the task is ended.
async fn tell_connection(client: Client) {
    let mut events = client.events();
    while events.changed().await.is_ok() {
        let event = events.borrow_and_update().clone();
        match event {
            Event::Connected(address) => tracing::info!("the NATS server at {address} answers again"),
            Event::Lost(reason) => tracing::warn!(%reason, "the connection to the NATS server is lost"),
            Event::Closed(_) => return,
        }
    }
}

async fn check_server(client: &Client) -> Result<(), StartError> {
    let info = client.server_info();
    let address = client.address();
    let mut numbers = info.version.split(['.', '-']).map(|part| part.parse::<u64>().ok());
    let version = (numbers.next().flatten(), numbers.next().flatten());
    if let (Some(major), Some(minor)) = version
        && (major, minor) < SERVER_VERSION_MIN
    {
        return Err(StartError::Version { address, version: info.version.clone() });
    }
    match client.jetstream().account_info().await {
        Ok(_) => Ok(()),
        Err(error) if error.is_disabled() => {
            Err(StartError::NoJetStream { address, reason: error.to_string() })
        }
        Err(error) => Err(error.into()),
    }
}

impl Services {
    /// Where HTTP is served.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(Http::address)
    }

    /// The devices.
    #[must_use]
    pub fn devices(&self) -> &DeviceStore {
        &self.devices
    }

    /// The buffers.
    #[must_use]
    pub fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// The recordings.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Takes no more requests, ends the recordings that this process looks after with their final counts, and stops. Returns how
    /// many recordings were ended.
    ///
    /// # Errors
    /// When the server does not let the recordings be ended; all else is stopped all the same, and the next process to
    /// look after them goes on.
    pub async fn shutdown(mut self) -> Result<usize, RecordError> {
        if let Some(http) = self.http.take() {
            http.stop().await;
        }
        let ended = self.recorder.shutdown(SHUTDOWN_WAIT).await;
        for task in &self.tasks {
            task.abort();
        }
        // The server may be gone before the last clone of a table is.
        self.devices.table().close();
        self.recorder.sessions().close();
        ended
    }
}

impl Drop for Services {
    /// Dropped without [`shutdown`](Self::shutdown): the recordings go on at the server.
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
