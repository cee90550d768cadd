//! What must not outlive this program: the processes it started, the folder of their stores, a stream on a server that
//! is somebody else's.
//!
//! Whoever holds one of these drops it, failures included. A signal ends the program without that, so all of them are
//! known here as well: SIGINT, SIGTERM and SIGHUP stop the processes, remove the rest and end with 128 plus the signal's
//! number. Against SIGKILL there is no help.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{process, remark};

static HELD: Mutex<Held> =
    Mutex::new(Held { children: BTreeMap::new(), folder: None, streams: BTreeMap::new() });

struct Held {
    /// By process id, which is nobody else's until the process has been waited for.
    children: BTreeMap<u32, Child>,
    folder: Option<PathBuf>,
    /// Servers that go on without us and have our stream, and what removes it.
    streams: BTreeMap<SocketAddr, fn(SocketAddr)>,
}

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens for signals from now on. Those that were ignored when the program began (`nohup`) stay ignored.
pub(crate) fn on_signals() -> std::io::Result<()> {
    let ignored = process::ignored_signals()?;
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(heard)?;
    std::thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        // Locked until the end: nobody starts another process, or tells that one has gone.
        let mut held = held();
        held.release();
        remark(format_args!("ended by signal {signal}"));
        std::process::exit(128 + signal)
    });
    Ok(())
}

impl Held {
    fn release(&mut self) {
        for child in self.children.values_mut() {
            end(child);
        }
        for (address, remove) in &self.streams {
            remove(*address);
        }
        if let Some(folder) = &self.folder
            && let Err(error) = std::fs::remove_dir_all(folder)
            && folder.exists()
        {
            remark(format_args!("folder '{}' is left: {error}", folder.display()));
        }
    }
}

fn end(child: &mut Child) {
    // It has ended by itself: there is nobody to kill.
    let _ = child.kill();
    let _ = child.wait();
}

/// The folder in which everything is kept.
pub(crate) fn hold_folder(path: PathBuf) {
    held().folder = Some(path);
}

/// The server has our stream from now on, until `remove` removes it.
pub(crate) fn hold_stream(address: SocketAddr, remove: fn(SocketAddr)) {
    held().streams.insert(address, remove);
}

/// The server's stream has been seen to.
pub(crate) fn forget_stream(address: SocketAddr) {
    held().streams.remove(&address);
}

/// A process that was started here. It is killed when this is dropped.
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> std::io::Result<(Self, Option<ChildStdout>)> {
        let mut held = held();
        let mut child = command.spawn()?;
        let (pid, output) = (child.id(), child.stdout.take());
        held.children.insert(pid, child);
        Ok((Self { pid }, output))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended; none while it runs.
    pub(crate) fn status(&self) -> std::io::Result<Option<ExitStatus>> {
        held().children.get_mut(&self.pid).map_or(Ok(None), Child::try_wait)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut held = held();
        if let Some(mut child) = held.children.remove(&self.pid) {
            end(&mut child);
        }
    }
}
