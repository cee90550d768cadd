//! `weir serve --signal NAME=PROCESS`: sends a signal to a running server, as nats-server's `-sl` does.

use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::failure::{Failure, Outcome};

/// The names of nats-server's signals that Weir obeys.
const NAMES: &[(&str, Signal)] =
    &[("ldm", Signal::USR2), ("quit", Signal::INT), ("term", Signal::TERM), ("stop", Signal::KILL)];

/// Sends what `typed` says: `ldm=4711`, `quit=/run/weir.pid`.
pub(crate) fn send(typed: &str) -> Outcome {
    let (name, process) = typed.split_once('=').unwrap_or((typed, ""));
    let Some((_, signal)) = NAMES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        return Err(Failure::new(format!("--signal {typed}: there is no signal {name:?}"))
            .hint(format!("the signals are {}", known.join(", "))));
    };
    let pid = pid(typed, process)?;
    kill_process(pid, *signal).map_err(|error| {
        let process = pid.as_raw_nonzero();
        Failure::new(match error {
            Errno::SRCH => format!("--signal {typed}: there is no process {process}"),
            Errno::PERM => format!("--signal {typed}: process {process} belongs to somebody else"),
            error => format!("--signal {typed}: process {process}: {error}"),
        })
    })
}

/// The process that a number or a file with a number names.
fn pid(typed: &str, process: &str) -> Outcome<Pid> {
    let read = |text: &str| text.trim().parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw);
    if process.is_empty() {
        return Err(Failure::new(format!("--signal {typed}: the process is missing")).hint(format!(
            "give its id or the file of --pid, for example --signal {}=4711",
            typed.trim_end_matches('=')
        )));
    }
    if let Some(pid) = read(process) {
        return Ok(pid);
    }
    let text = std::fs::read_to_string(Path::new(process)).map_err(|error| {
        Failure::io(format!("--signal {typed}: {process} is no process id, and the file"), &error)
    })?;
    read(&text)
        .ok_or_else(|| Failure::new(format!("--signal {typed}: the file {process} holds no process id")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_signalled_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        std::fs::write(&file, "no number").unwrap();
        let of_file = format!("quit={}", file.display());
        for (typed, says) in [
            ("reload=1", "the signals are ldm, quit, term, stop"),
            ("", "there is no signal \"\""),
            ("ldm", "--signal ldm=4711"),
            ("ldm=", "the process is missing"),
            ("ldm=-1", "-1 is no process id"),
            ("ldm=0", "0 is no process id"),
            ("ldm=2147483647", "there is no process 2147483647"),
            (of_file.as_str(), "holds no process id"),
        ] {
            let failure = send(typed).expect_err(typed).to_string();
            assert!(failure.contains(says), "{typed}: {failure}");
        }
    }
}
