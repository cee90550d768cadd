//! `weir serve`: the broker and the services until SIGTERM or SIGINT, or SIGUSR2 for lame duck mode.
//!
//! Starting is all or nothing: what cannot start ends the process with an error that names it. Stopping goes backwards:
//! recordings end and their states are written, then the services go, then the broker, then a temporary store.

use std::path::{Path, PathBuf};

use serde_json::json;
use tracing::info;

use super::failure::{Failure, Outcome};
use super::stack::Stack;
use super::task::{self, LameDuck, Stop};
use super::{log, output, signal};
use crate::config::{Broker, Serve, ServeArgs};
use crate::sys::clock::SystemClock;
use crate::sys::panic;
use crate::sys::process::raise_file_limit;

/// Runs the command.
pub(crate) fn run(args: ServeArgs) -> Outcome {
    if let Some(typed) = &args.signal {
        return signal::send(typed);
    }
    let serve = Serve::resolve(args)?;
    log::start(&serve.log, SystemClock::shared())?;
    panic::end_the_process(weir_storage::catches_panics);
    let files = raise_file_limit();
    tracing::debug!("{files} files may be open");
    task::block_on_all(serve_until_stopped(serve))
}

async fn serve_until_stopped(serve: Serve) -> Outcome {
    let mut stop = Stop::listen()?;
    let mut lame_duck = LameDuck::listen()?;
    info!("Starting weir {} (NATS {})", env!("CARGO_PKG_VERSION"), crate::server::NATS_VERSION);
    let pid = std::process::id().to_string();
    let _pid = serve.pid_file.as_deref().map(|path| Mark::write(path, &pid)).transpose()?;
    let stack = Stack::start(&serve, SystemClock::shared()).await?;
    let _ports = match &serve.broker {
        Broker::Embedded { ports_file_dir: Some(folder), .. } => Some(write_ports(folder, &stack)?),
        Broker::Embedded { ports_file_dir: None, .. } | Broker::External { .. } => None,
    };
    info!("Server is ready");
    let ended = tokio::select! {
        signal = stop.wait() => {
            info!("{signal}: stopping");
            stack.stop().await?
        }
        () = lame_duck.wait() => {
            info!("SIGUSR2: leaving");
            stack.leave(stop.wait_for_interrupt()).await?
        }
    };
    if ended > 0 {
        info!("Ended {}", output::count(ended as u64, "recording"));
    }
    info!("Stopped");
    Ok(())
}

/// The file by which programs that start a nats-server learn its addresses.
fn write_ports(folder: &Path, stack: &Stack) -> Outcome<Mark> {
    let monitoring: Vec<String> =
        stack.monitor().map(|address| format!("http://{address}")).into_iter().collect();
    let text = json!({ "nats": [stack.url()], "monitoring": monitoring, "cluster": [], "profile": [], "websocket": [] });
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
