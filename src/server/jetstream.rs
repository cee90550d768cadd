//! JetStream as a part of the server: where its store lives, and how it starts and stops.
//!
//! A start waits for the disk, so it is made where a thread may block. A temporary store goes when JetStream does.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::oneshot;
use weir_storage::Folder;
use weir_storage::disk::FolderError;

use super::NATS_VERSION;
use super::config::{Config, JetStreamConfig, StoreFolder};
use crate::broker::Broker;
use crate::jetstream::driver::{self, Driver, DriverConfig, StoreHealth};
use crate::jetstream::{API_LEVEL, EngineConfig};
use crate::sys::clock::SharedClock;

/// Why JetStream does not start.
#[derive(Debug, thiserror::Error)]
pub enum JetStreamError {
    /// The folder cannot be a store.
    #[error("cannot use the store: {0}")]
    Folder(#[from] FolderError),
    /// No temporary folder.
    #[error("cannot make a temporary folder for the store: {0}")]
    Temporary(io::Error),
    /// A largest message has to fit into half a journal file.
    #[error(
        "max_payload {max_payload} is more than half a journal file of {journal_file_bytes} bytes: make one smaller or the other larger"
    )]
    JournalFile {
        /// Bytes.
        max_payload: usize,
        /// Bytes.
        journal_file_bytes: u64,
    },
    /// The store does not open.
    #[error("cannot open the store in {path}: {source}")]
    Start {
        /// Where.
        path: PathBuf,
        /// Why.
        source: driver::StartError,
    },
}

/// What runs.
pub(super) struct JetStream {
    driver: Driver,
    /// When the driver has ended: whether a temporary store is removed.
    ended: oneshot::Receiver<io::Result<()>>,
    path: PathBuf,
}

/// Lives as long as the driver's thread. A temporary store goes with it.
struct Alive {
    temporary: Option<TempDir>,
    ended: Option<oneshot::Sender<io::Result<()>>>,
}

impl Drop for Alive {
    fn drop(&mut self) {
        let removed = self.temporary.take().map_or(Ok(()), TempDir::close);
        // Nobody may be waiting.
        let _ = self.ended.take().map(|ended| ended.send(removed));
    }
}

impl JetStream {
    /// What starts JetStream, for a thread that may wait for the disk.
    pub(super) fn prepare(
        config: &JetStreamConfig,
        server_name: &str,
        server: &Config,
        broker: &Broker,
    ) -> impl FnOnce() -> Result<Self, JetStreamError> + Send + 'static {
        let engine = EngineConfig {
            server_name: server_name.to_owned(),
            version: NATS_VERSION.to_owned(),
            api_level: API_LEVEL,
            domain: String::new(),
            max_payload: server.limits.max_payload,
            max_pending: server.limits.max_pending,
            random: server.random.clone(),
        };
        let (config, broker, clock) = (config.clone(), broker.clone(), Arc::clone(&server.clock));
        move || Self::start(&config, engine, broker, clock)
    }

    fn start(
        config: &JetStreamConfig,
        engine: EngineConfig,
        broker: Broker,
        clock: SharedClock,
    ) -> Result<Self, JetStreamError> {
        let (max_payload, journal_file_bytes) = (engine.max_payload, config.journal_file_bytes);
        if max_payload as u64 > journal_file_bytes / 2 {
            return Err(JetStreamError::JournalFile { max_payload, journal_file_bytes });
        }
        let (path, temporary) = match &config.store {
            StoreFolder::Path(path) => (path.clone(), None),
            StoreFolder::Temporary => {
                let folder =
                    tempfile::Builder::new().prefix("weir-").tempdir().map_err(JetStreamError::Temporary)?;
                (folder.path().to_path_buf(), Some(folder))
            }
        };
        let disk = Arc::new(Folder::open(&path)?);
        let cache_bytes = config.cache_bytes;
        let (told, ended) = oneshot::channel();
        let alive = Alive { temporary, ended: Some(told) };
        let config = DriverConfig { disk, journal_file_bytes, cache_bytes, engine, clock };
        let driver = driver::start(broker, config, alive)
            .map_err(|source| JetStreamError::Start { path: path.clone(), source })?;
        Ok(Self { driver, ended, path })
    }

    /// Whether the store can be written.
    pub(super) fn health(&self) -> StoreHealth {
        self.driver.health()
    }

    /// Where the store is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes everything durable and closes the store; a temporary one is removed.
    pub(super) async fn stop(self) -> Result<(), String> {
        self.driver.begin_stop();
        // No thread is taken for the waiting: the system may not give one any more.
        let removed = self.ended.await.unwrap_or(Ok(()));
        self.driver.stop()?;
        removed.map_err(|error| format!("cannot remove {}: {error}", self.path.display()))
    }
}

impl fmt::Debug for JetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStream").field("path", &self.path).finish_non_exhaustive()
    }
}
