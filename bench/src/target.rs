//! The servers under test: given by name and place, started, recognised, and stopped.
//!
//! A binary is started anew for every run on a free port of loopback, with JetStream on and an empty store, in an empty
//! environment, and killed afterwards. What answers there must be the process that was started (it repeats the name it
//! was given) and the kind of server that was named; otherwise nothing is measured.

use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cleanup::Process;
use crate::fault::Fault;
use crate::process;
use crate::wire::Connection;

/// How long a server may take until it answers its first client.
const START: Duration = Duration::from_secs(60);

/// A program that is known by its INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Weir,
    NatsServer,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::NatsServer => "nats-server",
        }
    }

    /// Which program greets like this; its words for other programs.
    fn of(info: &Value) -> Result<Self, String> {
        let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("git_commit").starts_with("weir-") {
            Ok(Self::Weir)
        } else if text("go").starts_with("go") {
            Ok(Self::NatsServer)
        } else {
            Err(format!("version '{}', go '{}'", text("version"), text("go")))
        }
    }
}

/// A server as the command line names it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    kind: Kind,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Binary(PathBuf),
    Running(SocketAddr),
}

impl Target {
    /// `weir=PATH`, `nats-server=PATH`, or an address (`nats://HOST:PORT`) instead of the path.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((name, place)) = text.split_once('=') else {
            return Err("expected NAME=PATH or NAME=nats://HOST:PORT".to_owned());
        };
        let kind = match name {
            "weir" => Kind::Weir,
            "nats-server" => Kind::NatsServer,
            other => return Err(format!("server '{other}' is not known: weir or nats-server")),
        };
        let place = match place.strip_prefix("nats://") {
            Some(host) => {
                let host = host.trim_end_matches('/');
                let mut found =
                    host.to_socket_addrs().map_err(|error| format!("address '{host}': {error}"))?;
                Place::Running(found.next().ok_or_else(|| format!("address '{host}': no such host"))?)
            }
            None => {
                let path = Path::new(place);
                // Not looked for where the shell would look for it: what is measured is named.
                let file = path.metadata().map_err(|error| {
                    let is_name = !place.contains('/');
                    let hint = if is_name { "; it takes a path, such as ./weir" } else { "" };
                    format!("binary '{place}': {error}{hint}")
                })?;
                if !file.is_file() {
                    return Err(format!("binary '{place}': not a file"));
                }
                let path = path.canonicalize().map_err(|error| format!("binary '{place}': {error}"))?;
                Place::Binary(path)
            }
        };
        Ok(Self { kind, place })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The program's file; none for a server that runs already.
    pub(crate) fn binary(&self) -> Option<&Path> {
        match &self.place {
            Place::Binary(path) => Some(path),
            Place::Running(_) => None,
        }
    }

    /// Starts the server with a store of its own in `folder`, which goes when the server does.
    pub(crate) fn start(&self, folder: &Path, sync_always: bool) -> Result<Server, Fault> {
        let own = TempDir::new_in(folder).map_err(|error| failed(folder.display(), &error))?;
        let store = own.path().join("store");
        let mut server = self.start_on(&store, own.path(), sync_always)?;
        server.own = Some(own);
        Ok(server)
    }

    /// Starts the server on `store`; what it prints goes to `scratch`, where its configuration is written, too.
    pub(crate) fn start_on(&self, store: &Path, scratch: &Path, sync_always: bool) -> Result<Server, Fault> {
        let path = match &self.place {
            Place::Binary(path) => path,
            Place::Running(_) if sync_always => {
                return Err(Fault::unfit("needs a binary, to set sync_interval"));
            }
            Place::Running(address) => return self.running(*address),
        };
        let address = free_port().map_err(|error| failed("a free port", &error))?;
        let name = unique_name();
        let mut command = Command::new(path);
        command.env_clear().current_dir(scratch).stdin(Stdio::null());
        let port = address.port().to_string();
        match self.kind {
            Kind::Weir if sync_always => {
                return Err(Fault::unfit("sync_interval is a word of nats-server"));
            }
            Kind::Weir => {
                command.args(["serve", "--host", "127.0.0.1", "--port", &port, "--name", &name]);
                command.args(["--http", "127.0.0.1:0"]).arg("--store").arg(store);
            }
            Kind::NatsServer => {
                command.args(["-a", "127.0.0.1", "-p", &port, "-n", &name]);
                if sync_always {
                    let file = scratch.join("server.conf");
                    let text =
                        format!("jetstream {{ store_dir: '{}', sync_interval: always }}\n", store.display());
                    std::fs::write(&file, text).map_err(|error| failed(file.display(), &error))?;
                    command.arg("-c").arg(file);
                } else {
                    command.arg("-js").arg("-sd").arg(store);
                }
            }
        }
        let log = scratch.join("server.log");
        let output = File::create(&log).map_err(|error| failed(log.display(), &error))?;
        let errors = output.try_clone().map_err(|error| failed(log.display(), &error))?;
        let (process, _) = Process::spawn(command.stdout(output).stderr(errors))
            .map_err(|error| failed(format!("'{}'", path.display()), &error))?;
        let mut server = Server { process: Some(process), address, info: Value::Null, own: None };
        server.wait(&name, &log)?;
        self.recognise(&server.info)?;
        Ok(server)
    }

    /// A program of another kind does not understand the words it is started with, so it is asked once before. What answers
    /// on its port is looked at with every start.
    pub(crate) fn ask_version(&self) -> Result<(), Fault> {
        let Place::Binary(path) = &self.place else { return Ok(()) };
        let what = || format!("'{}' --version", path.display());
        let mut command = Command::new(path);
        command
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let (_process, output) = Process::spawn(&mut command).map_err(|error| failed(what(), &error))?;
        let mut text = Vec::new();
        if let Some(mut output) = output {
            output.read_to_end(&mut text).map_err(|error| failed(what(), &error))?;
        }
        let text = String::from_utf8_lossy(&text);
        let words = text.lines().next().unwrap_or("nothing").trim();
        let name = words.split([' ', ':']).next().unwrap_or_default();
        if name == self.kind.name() {
            return Ok(());
        }
        Err(Fault::Wrong(format!("named {}, but {} says {words}", self.kind.name(), what())))
    }

    fn running(&self, address: SocketAddr) -> Result<Server, Fault> {
        let connection = Connection::open(address).map_err(|error| failed(address, &error))?;
        self.recognise(connection.info())?;
        Ok(Server { process: None, address, info: connection.info().clone(), own: None })
    }

    fn recognise(&self, info: &Value) -> Result<(), Fault> {
        let found = match Kind::of(info) {
            Ok(kind) if kind == self.kind => return Ok(()),
            Ok(kind) => format!("{} {}", kind.name(), version(info)),
            Err(words) => words,
        };
        Err(Fault::Wrong(format!("named {}, but the server that answers is {found}", self.kind.name())))
    }
}

/// A server that answers.
pub(crate) struct Server {
    process: Option<Process>,
    address: SocketAddr,
    info: Value,
    /// Where its store lies, if that goes with it. Last: the process is gone before its files are.
    own: Option<TempDir>,
}

impl Server {
    /// Waits until the process answers its first client, and looks whether that is the one that was started.
    fn wait(&mut self, name: &str, log: &Path) -> Result<(), Fault> {
        let begun = Instant::now();
        loop {
            let status = self.process.as_ref().map_or(Ok(None), Process::status);
            if let Some(status) = status.map_err(|error| failed("the server's process", &error))? {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
                return Err(Fault::failed(format!("the server ended ({status}): {last}")));
            }
            match Connection::open(self.address) {
                Ok(connection) => {
                    let found = connection.info().get("server_name").and_then(Value::as_str);
                    if found != Some(name) {
                        let found = found.unwrap_or("a server without a name");
                        return Err(Fault::Wrong(format!("started {name}, but {found} answers")));
                    }
                    self.info = connection.info().clone();
                    return Ok(());
                }
                Err(_) if begun.elapsed() < START => std::thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(failed("no answer within 60 s", &error)),
            }
        }
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Result<Connection, Fault> {
        Connection::open(self.address).map_err(|error| failed("connection", &error))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Name and version of the program, by what it said.
    pub(crate) fn title(&self) -> String {
        let kind = Kind::of(&self.info).map_or("unknown", Kind::name);
        format!("{kind} {}", self.version())
    }

    /// The version of the program, by what it said.
    pub(crate) fn version(&self) -> String {
        version(&self.info)
    }

    /// The process; none if it was not started here.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Processor time the server has spent; none if it was not started here.
    pub(crate) fn cpu_time(&self) -> Result<Option<Duration>, Fault> {
        let time = self.pid().map(process::cpu_time).transpose();
        time.map_err(|error| failed("processor time of the server", &error))
    }

    /// Ends the process as a power switch would, not as it likes to be ended.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// Weir announces the NATS version it speaks; its own is in `git_commit`.
fn version(info: &Value) -> String {
    let text = |name: &str| info.get(name).and_then(Value::as_str).unwrap_or("?");
    match text("git_commit").strip_prefix("weir-") {
        Some(own) => format!("{own} (INFO version {})", text("version")),
        None => text("version").to_owned(),
    }
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn unique_name() -> String {
    thread_local!(static COUNT: Cell<u32> = const { Cell::new(0) });
    COUNT.set(COUNT.get() + 1);
    format!("bench-{}-{}", std::process::id(), COUNT.get())
}

fn failed(what: impl Display, error: &std::io::Error) -> Fault {
    Fault::failed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_that_cannot_be_is_named() {
        for (text, expected) in [
            ("/bin/true", "expected NAME=PATH or NAME=nats://HOST:PORT"),
            ("redis=/bin/true", "server 'redis' is not known: weir or nats-server"),
            ("weir=/no/such", "binary '/no/such': No such file or directory (os error 2)"),
            (
                "weir=no-such",
                "binary 'no-such': No such file or directory (os error 2); it takes a path, such as ./weir",
            ),
            ("weir=/tmp", "binary '/tmp': not a file"),
            ("weir=nats://nowhere", "address 'nowhere': invalid socket address"),
        ] {
            assert_eq!(Target::parse(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn servers_are_told_apart_by_their_greeting() {
        let weir = json!({ "version": "2.14.5", "git_commit": "weir-0.1.0", "go": "rust" });
        let nats = json!({ "version": "2.14.5", "git_commit": "abc", "go": "go1.26" });
        assert_eq!(Kind::of(&weir), Ok(Kind::Weir));
        assert_eq!(version(&weir), "0.1.0 (INFO version 2.14.5)");
        assert_eq!(Kind::of(&nats), Ok(Kind::NatsServer));
        assert_eq!(version(&nats), "2.14.5");
        assert_eq!(Kind::of(&json!({ "version": "1" })), Err("version '1', go ''".to_owned()));
    }

    #[test]
    fn a_server_of_another_kind_is_refused() {
        let target = Target { kind: Kind::Weir, place: Place::Binary(PathBuf::new()) };
        let nats = json!({ "version": "2.14.5", "go": "go1.26" });
        let refusal = target.recognise(&nats).unwrap_err().to_string();
        assert_eq!(refusal, "named weir, but the server that answers is nats-server 2.14.5");
    }

    #[test]
    fn a_program_that_is_no_server_is_told_by_what_it_says() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let program = tempfile::tempdir().unwrap();
        let script = |text: &str| {
            let path = program.path().join("program");
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            let target = Target::parse(&format!("nats-server={}", path.display())).unwrap();
            // A process that another test is just starting may still have what was written here.
            let faults = std::iter::repeat_with(|| {
                let fault = target.ask_version().and_then(|()| target.start(folder.path(), false)).err();
                fault.unwrap().to_string()
            });
            let mut faults = faults.skip_while(|fault| fault.contains("Text file busy"));
            (faults.next().unwrap(), path)
        };
        let (fault, path) = script("echo weir 0.1.0");
        let path = path.canonicalize().unwrap();
        assert_eq!(fault, format!("named nats-server, but '{}' --version says weir 0.1.0", path.display()));
        let (fault, _) = script("echo nats-server: v0; [ $1 = --version ] || { echo no such disk; exit 1; }");
        assert_eq!(fault, "FAILED: the server ended (exit status: 1): no such disk");
        assert!(folder.path().read_dir().unwrap().next().is_none(), "nothing is left behind");
    }
}
