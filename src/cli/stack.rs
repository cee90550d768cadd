//! Broker and services together, as `weir serve` and `weir demo` run them: started all or not at all, stopped in the
//! opposite order.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing::info;

use super::failure::{Failure, Outcome};
use crate::client::{Client, Options, Pipe};
use crate::config::{Broker, Place, Serve};
use crate::server::{
    Address, Config, FOR_CLIENTS, FOR_MONITORING, JetStreamConfig, JetStreamError, Server, StartError,
    StoreFolder,
};
use crate::service::device::BufferSetting;
use crate::service::monitor::HttpListener;
use crate::service::{self, ServiceConfig, Services};
use crate::sys::clock::SharedClock;
use crate::sys::net::BindError;
use weir_storage::disk::FolderError;

/// What runs.
pub(crate) struct Stack {
    /// None: the broker is another process.
    server: Option<Server>,
    services: Services,
    client: Client,
    url: String,
}

impl Stack {
    /// Starts the broker, unless another one is used, and then the services.
    ///
    /// # Errors
    /// What could not start; nothing is left running, and a temporary store is removed.
    pub(crate) async fn start(serve: &Serve, clock: SharedClock) -> Outcome<Self> {
        // Taken before the store is opened: a start that fails at a port leaves nothing behind.
        let http = match &serve.http {
            Some(config) => Some(HttpListener::bind(config.clone()).await.map_err(|error| busy(&error))?),
            None => None,
        };
        let (server, client, url) = match &serve.broker {
            Broker::Embedded { .. } => {
                let server = start_server(&serve.broker, clock.clone()).await?;
                let pipe = server.in_process();
                let client =
                    Client::over(Pipe::new(move || pipe.connect()), Options::named("weir services")).await;
                let url = server.client_url().unwrap_or_default();
                (Some(server), client, url)
            }
            Broker::External { url } => {
                let client = Client::connect(url, Options::named("weir services")).await;
                (None, client, url.clone())
            }
        };
        let started = match client {
            Ok(client) => match service::start(client.clone(), clock, services(serve, http)).await {
                Ok(services) => Ok((client, services)),
                Err(error) => Err(explain(&error)),
            },
            Err(error) => Err(Failure::new(format!("--server {url}: {error}")).hint(
                "the services need a NATS server with JetStream; without --server weir runs one itself",
            )),
        };
        match started {
            Ok((client, services)) => {
                info!("Services are clients of {}", client.address());
                if let Some(address) = services.http_address() {
                    info!("Listening for HTTP requests on {address}");
                }
                Ok(Self { server, services, client, url })
            }
            Err(failure) => {
                if let Some(server) = server {
                    server.shutdown().await.map_err(Failure::new)?;
                }
                Err(failure)
            }
        }
    }

    /// Where NATS clients connect.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where HTTP is served.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.services.http_address()
    }

    /// Where the monitoring pages are.
    pub(crate) fn monitor(&self) -> Option<SocketAddr> {
        self.server.as_ref().and_then(Server::monitor_address)
    }

    /// Where the data is.
    pub(crate) fn store(&self) -> Option<PathBuf> {
        self.server.as_ref().and_then(Server::store_path).map(Into::into)
    }

    /// Ends the recordings, then the services, then the broker. Returns how many recordings were ended.
    ///
    /// # Errors
    /// What did not end in order; all else is stopped all the same.
    pub(crate) async fn stop(self) -> Outcome<usize> {
        let (ended, server) = self.stop_services().await;
        if let Some(server) = server {
            server.shutdown().await.map_err(not_in_order)?;
        }
        ended
    }

    /// As [`stop`](Self::stop), but the broker takes its time in lame duck mode, unless `hurry` comes.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub(crate) async fn leave(self, hurry: impl Future<Output = ()>) -> Outcome<usize> {
        if let Some(server) = &self.server {
            server.stop_accepting();
        }
        let (ended, server) = self.stop_services().await;
        if let Some(server) = server {
            server.leave(hurry).await.map_err(not_in_order)?;
        }
        ended
    }

    async fn stop_services(self) -> (Outcome<usize>, Option<Server>) {
        let ended = self.services.shutdown().await.map_err(|error| {
            Failure::new(format!("not all recordings could be ended: {error}"))
                .hint("they are ended or go on when the services run again")
        });
        // Nothing of the services' is under way any more; a connection that breaks now loses nothing.
        let _ = self.client.drain().await;
        (ended, self.server)
    }
}

fn not_in_order(error: String) -> Failure {
    Failure::new(format!("the store did not close in order: {error}"))
}

async fn start_server(broker: &Broker, clock: SharedClock) -> Outcome<Server> {
    let Broker::Embedded { host, port, store, monitor_port, name, .. } = broker else {
        return Err(Failure::new("there is no broker to start"));
    };
    let address = |port: u16| Address { host: host.clone(), port };
    let folder = match store {
        Place::Temporary => StoreFolder::Temporary,
        Place::Directory(path) => StoreFolder::Path(path.clone()),
    };
    let config = Config {
        listen: Some(address(*port)),
        monitor: monitor_port.map(address),
        jetstream: Some(JetStreamConfig { store: folder, ..JetStreamConfig::default() }),
        server_name: name.clone(),
        clock,
        ..Config::default()
    };
    let server = Server::start(config).await.map_err(|error| match &error {
        StartError::Listen(error) => busy(error),
        StartError::JetStream(JetStreamError::Folder(FolderError::InUse { .. })) => Failure::new(
            error.to_string(),
        )
        .hint(
            "stop the weir that runs on it, use it with --server URL, or give another directory with --store",
        ),
        StartError::Config(_) | StartError::JetStream(_) | StartError::Panic(_) => {
            Failure::new(error.to_string())
        }
    })?;
    let kept = match store {
        Place::Temporary => " (temporary: removed on a clean stop; --store DIR keeps it)",
        Place::Directory(_) => "",
    };
    if let Some(path) = server.store_path() {
        info!("  Store Directory: \"{}\"{kept}", path.display());
    }
    if let Some(address) = server.monitor_address() {
        info!("Starting http monitor on {address}");
    }
    if let Some(address) = server.client_address() {
        info!("Listening for client connections on {address}");
    }
    Ok(server)
}

/// What to do about a port that cannot be had.
fn busy(error: &BindError) -> Failure {
    let failure = Failure::new(error.to_string());
    let (port, free, host) = match error.what {
        FOR_CLIENTS => ("--port PORT", "-1", "--host HOST"),
        FOR_MONITORING => ("--monitor-port PORT", "-1", "--host HOST"),
        _ => ("--http HOST:PORT", "port 0", "--http HOST:PORT"),
    };
    if error.is_in_use() {
        failure.hint(format!("stop what uses it, or choose another with {port}; {free} takes a free one"))
    } else {
        failure.hint(format!("give an address or a name of this machine with {host}"))
    }
}

fn services(serve: &Serve, http: Option<HttpListener>) -> ServiceConfig {
    let services = &serve.services;
    ServiceConfig {
        names: services.names.clone(),
        http,
        default_buffer: services
            .default_buffer
            .map(|window| BufferSetting { window, ..BufferSetting::default() }),
        auto_record: services.auto_record,
        refresh: services.buffer_refresh,
        ..ServiceConfig::default()
    }
}

fn explain(error: &service::StartError) -> Failure {
    let failure = Failure::new(error.to_string());
    if matches!(error, service::StartError::NoJetStream { .. }) {
        failure.hint("start it with JetStream, for example nats-server -js")
    } else {
        failure
    }
}
