//! `weir serve`: the broker and the services until SIGTERM or SIGINT.
//!
//! Starting is all or nothing: what cannot start ends the process with an error that names it. Stopping goes backwards:
//! recordings end and their states are written, then the services go, then the broker, then a temporary store.

use std::path::{Path, PathBuf};

use serde_json::json;
use tracing::info;

use super::failure::{Failure, Outcome};
use super::log;
use super::task::{self, Stop};
use crate::config::{Broker, Place, Serve, ServeArgs};
use crate::server::{Address, Config, JetStreamConfig, Server, StoreFolder};
use crate::sys::clock::SystemClock;

/// Runs the command.
pub(crate) fn run(args: ServeArgs) -> Outcome {
    let serve = Serve::resolve(args)?;
    log::start(&serve.log, SystemClock::shared())?;
    task::block_on_all(serve_until_stopped(serve))
}

async fn serve_until_stopped(serve: Serve) -> Outcome {
    let mut stop = Stop::listen()?;
    info!("Starting weir {} (NATS {})", env!("CARGO_PKG_VERSION"), crate::server::NATS_VERSION);
    let _pid = serve
        .pid_file
        .as_deref()
        .map(|path| Mark::write(path, &std::process::id().to_string()))
        .transpose()?;
    let Broker::Embedded { host, port, store, name, ports_file_dir, .. } = serve.broker else {
        return Err(Failure::new("--server: the services are not built yet"));
    };
    let store = match store {
        Place::Temporary => StoreFolder::Temporary,
        Place::Directory(path) => StoreFolder::Path(path),
    };
    let jetstream = Some(JetStreamConfig { store, ..JetStreamConfig::default() });
    let listen = Some(Address { host, port });
    let config = Config { listen, jetstream, server_name: name, ..Config::default() };
    let server = Server::start(config).await.map_err(|error| Failure::new(error.to_string()))?;
    info!("  Store Directory: \"{}\"", server.store_path().unwrap_or(Path::new("")).display());
    let url = server.client_url().unwrap_or_default();
    info!("Listening for client connections on {}", url.trim_start_matches("nats://"));
    let _ports = ports_file_dir.map(|folder| write_ports(&folder, &url, None)).transpose()?;
    info!("Server is ready");
    let signal = stop.wait().await;
    info!("{signal}: stopping");
    server.shutdown().await.map_err(Failure::new)?;
    info!("Stopped");
    Ok(())
}

/// The file by which programs that start a nats-server learn its addresses.
fn write_ports(folder: &Path, client: &str, monitor: Option<&str>) -> Outcome<Mark> {
    let monitoring: Vec<String> = monitor.map(|address| format!("http://{address}")).into_iter().collect();
    let text =
        json!({ "nats": [client], "monitoring": monitoring, "cluster": [], "profile": [], "websocket": [] });
    Mark::write(&folder.join(format!("nats-server_{}.ports", std::process::id())), &text.to_string())
}

/// A file that is there while the server runs.
struct Mark {
    path: PathBuf,
}

impl Mark {
    fn write(path: &Path, text: &str) -> Outcome<Self> {
        std::fs::write(path, text)
            .map_err(|error| Failure::io(format!("file {}", path.display()), &error))?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // Whoever removed it before us wanted it gone.
        let _ = std::fs::remove_file(&self.path);
    }
}
