//! The runtime that commands run in, and the signals that end them.

use std::future::Future;

use super::failure::{Failure, Outcome};

/// Runs a command that waits for one server: one thread is enough.
pub(crate) fn block_on<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start", &error))?
        .block_on(work)
}

/// Runs a server: as many threads as the machine has processors.
pub(crate) fn block_on_all<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("cannot start", &error))?
        .block_on(work)
}

/// The signal that asks a server to leave slowly: SIGUSR2. Listening begins when this is made.
pub(crate) struct LameDuck {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl LameDuck {
    /// Listens for the signal from now on.
    pub(crate) fn listen() -> Outcome<Self> {
        Ok(Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined2())
                .map_err(|error| Failure::io("cannot listen for signals", &error))?,
        })
    }

    /// Waits for the signal.
    pub(crate) async fn wait(&mut self) {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}

/// The signals that ask a program to end: SIGINT (Ctrl-C) and SIGTERM. Listening begins when this is made.
pub(crate) struct Stop {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    /// Listens for the signals from now on.
    pub(crate) fn listen() -> Outcome<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let listen =
                |kind| signal(kind).map_err(|error| Failure::io("cannot listen for signals", &error));
            Ok(Self {
                interrupt: listen(SignalKind::interrupt())?,
                terminate: listen(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for SIGINT alone: a server that leaves slowly is not hurried by SIGTERM.
    pub(crate) async fn wait_for_interrupt(&mut self) {
        while self.wait().await == "SIGTERM" {}
    }

    /// Waits for the next of the signals and names it.
    pub(crate) async fn wait(&mut self) -> &'static str {
        #[cfg(unix)]
        {
            tokio::select! {
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
            }
        }
        #[cfg(not(unix))]
        {
            if tokio::signal::ctrl_c().await.is_err() {
                // Without a way to be stopped from the keyboard, only the end of the process ends it.
                std::future::pending::<()>().await;
            }
            "Ctrl-C"
        }
    }
}
