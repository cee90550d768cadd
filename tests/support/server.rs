//! A server process: `weir serve` on free ports with a store of its own, or a nats-server to compare with.
//!
//! Where it listens is read from its printed lines, the ones nats-server prints too; the process counts as started
//! when it prints `Server is ready`. Stop, kill and start again keep the store and the flags. Dropped, the process
//! is killed and, in a failing test, its output is shown.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::within;

/// How long a server may take to start or to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// How long others may have the usual ports.
const USUAL_PORTS: Duration = Duration::from_secs(120);

/// Which program a [`Server`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The built `weir`.
    Weir,
    /// A real nats-server at this path.
    NatsServer(PathBuf),
}

/// What to start and how.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    program: Program,
    binary: Option<PathBuf>,
    store: Option<PathBuf>,
    own_store: Option<Arc<TempDir>>,
    port: Option<u16>,
    services_of: Option<String>,
    bare: bool,
    words: &'static [&'static str],
    args: Vec<OsString>,
    envs: Vec<(String, String)>,
    files: Option<u64>,
}

impl Builder {
    /// Further arguments, after those of the support itself.
    pub(crate) fn args<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// An environment variable for the process.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// So many files may the process have open, until it asks for more.
    pub(crate) fn files(mut self, count: u64) -> Self {
        self.files = Some(count);
        self
    }

    /// This store directory instead of a temporary one of the test's.
    pub(crate) fn store(mut self, path: &Path) -> Self {
        self.store = Some(path.to_owned());
        self.own_store = None;
        self
    }

    /// No `--store` at all.
    pub(crate) fn without_store(mut self) -> Self {
        self.store = None;
        self.own_store = None;
        self
    }

    /// `weir serve` and nothing else: default ports, a temporary store.
    pub(crate) fn bare(mut self) -> Self {
        self.bare = true;
        self.without_store()
    }

    /// Another build of `weir`.
    pub(crate) fn binary(mut self, path: Option<PathBuf>) -> Self {
        self.binary = path;
        self
    }

    /// Another spelling of `serve`.
    pub(crate) fn words(mut self, words: &'static [&'static str]) -> Self {
        self.words = words;
        self
    }

    /// Starts the process and waits until it says that it is ready; panics with its output when it is not.
    pub(crate) async fn start(self) -> Server {
        let running = self.launch().await;
        Server { builder: self, running: Some(running), former_log: String::new(), turn: None }
    }

    /// Starts it where it listens unless told otherwise: one test at a time, and again while somebody else's server has the
    /// ports.
    pub(crate) async fn start_at_usual_ports(self) -> Server {
        let path = std::env::temp_dir().join("weir-test-usual-ports");
        let turn = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        within(USUAL_PORTS, "no other test has the usual ports", async || turn.try_lock().ok()).await;
        let running = within(USUAL_PORTS, "the usual ports are free", async || {
            let started = self.try_launch().await;
            started.map_err(|said| assert!(said.contains("the port is in use"), "{said}")).ok()
        })
        .await;
        Server { builder: self, running: Some(running), former_log: String::new(), turn: Some(turn) }
    }

    /// Starts a process that must end by itself with an error; its exit status and everything it printed.
    pub(crate) async fn start_failing(self) -> (ExitStatus, String) {
        let (mut child, log) = self.spawn();
        let status = tokio::time::timeout(LIMIT, child.wait())
            .await
            .unwrap_or_else(|_| panic!("it runs, but should refuse to start:\n{}", log.text()))
            .expect("the process can be waited for");
        log.settle().await;
        (status, log.text())
    }

    fn arguments(&self) -> Vec<OsString> {
        let port = self.port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let mut args: Vec<OsString> = Vec::new();
        match self.program {
            Program::Weir if self.services_of.is_some() => {
                args.extend(self.words.iter().map(OsString::from));
                let url = self.services_of.clone().unwrap_or_default();
                args.extend(["--server", &url, "--http", "127.0.0.1:0"].map(OsString::from));
            }
            Program::Weir if self.bare => args.extend(self.words.iter().map(OsString::from)),
            Program::Weir => {
                args.extend(self.words.iter().map(OsString::from));
                for (flag, value) in [("--port", port.as_str()), ("--http", "127.0.0.1:0")] {
                    if !self.args.iter().any(|given| given == flag) {
                        args.extend([flag, value].map(OsString::from));
                    }
                }
                if let Some(store) = &self.store {
                    args.push("--store".into());
                    args.push(store.into());
                }
            }
            Program::NatsServer(_) => {
                args.extend(["-a", "127.0.0.1", "-p", &port, "-js"].map(OsString::from));
                if let Some(store) = &self.store {
                    args.push("-sd".into());
                    args.push(store.into());
                }
            }
        }
        args.extend(self.args.iter().cloned());
        args
    }

    fn spawn(&self) -> (Child, Log) {
        let path = match &self.program {
            Program::Weir => self.binary.as_deref().unwrap_or(Path::new(env!("CARGO_BIN_EXE_weir"))),
            Program::NatsServer(path) => path.as_path(),
        };
        let mut command = match self.files {
            None => Command::new(path),
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -Sn {count}; exec \"$0\" \"$@\"")).arg(path);
                shell
            }
        };
        let mut child = command
            .args(self.arguments())
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", path.display()));
        let log = Log::default();
        log.follow(child.stdout.take().expect("stdout is piped"));
        log.follow(child.stderr.take().expect("stderr is piped"));
        (child, log)
    }

    async fn launch(&self) -> Running {
        self.try_launch().await.unwrap_or_else(|said| panic!("{said}"))
    }

    /// The error is what a process said that ended instead of starting.
    async fn try_launch(&self) -> Result<Running, String> {
        let (mut child, log) = self.spawn();
        let started = Instant::now();
        loop {
            if log.text().contains("Server is ready") {
                break;
            }
            if let Some(status) = child.try_wait().expect("the process can be waited for") {
                log.settle().await;
                let text = log.text();
                return Err(format!("{:?} ended with {status} instead of starting:\n{text}", self.program));
            }
            assert!(started.elapsed() < LIMIT, "{:?} is not ready:\n{}", self.program, log.text());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = log.text();
        let client = address_after(&text, "Listening for client connections on ");
        let http = address_after(&text, "Listening for HTTP requests on ");
        let monitor = address_after(&text, "Starting http monitor on ");
        Ok(Running { child, log, client, http, monitor })
    }
}

/// A running (or stopped) server process and its store.
#[derive(Debug)]
pub(crate) struct Server {
    builder: Builder,
    running: Option<Running>,
    former_log: String,
    /// Locked while it may have the usual ports.
    turn: Option<File>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    log: Log,
    client: Option<String>,
    http: Option<String>,
    monitor: Option<String>,
}

impl Server {
    /// `weir serve` with a temporary store and its services, on free ports.
    pub(crate) async fn start() -> Self {
        Self::weir().start().await
    }

    /// The same, to be given more flags first.
    pub(crate) fn weir() -> Builder {
        Self::builder(Program::Weir)
    }

    /// A plain NATS server with JetStream: `weir serve`, or the nats-server binary that `WEIR_TEST_SERVER` names, so
    /// that what the tests expect can be held against the original.
    pub(crate) fn broker() -> Builder {
        Self::builder(
            std::env::var_os("WEIR_TEST_SERVER")
                .map_or(Program::Weir, |path| Program::NatsServer(path.into())),
        )
    }

    /// A server that is not the one under test: the nats-server binary that `WEIR_NATS_SERVER` names (`.ci/run`
    /// installs it and sets the variable), else a second `weir serve`.
    pub(crate) fn external() -> Builder {
        Self::builder(
            std::env::var_os("WEIR_NATS_SERVER")
                .map_or(Program::Weir, |path| Program::NatsServer(path.into())),
        )
    }

    /// The services of `weir serve` alone, as clients of the server at `url`.
    pub(crate) fn services_of(url: &str) -> Builder {
        let mut builder = Self::builder(Program::Weir).without_store();
        builder.services_of = Some(url.to_owned());
        builder
    }

    fn builder(program: Program) -> Builder {
        let own = Arc::new(TempDir::with_prefix("weir-test-").expect("a temporary folder"));
        Builder {
            program,
            binary: None,
            store: Some(own.path().join("store")),
            own_store: Some(own),
            port: None,
            services_of: None,
            bare: false,
            words: &["serve"],
            args: Vec::new(),
            envs: Vec::new(),
            files: None,
        }
    }

    /// True when this is a nats-server and not Weir.
    pub(crate) fn is_nats_server(&self) -> bool {
        self.builder.program != Program::Weir
    }

    /// `nats://127.0.0.1:PORT`.
    #[track_caller]
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.client_address())
    }

    /// `127.0.0.1:PORT` of the NATS listener.
    #[track_caller]
    pub(crate) fn client_address(&self) -> &str {
        self.running().client.as_deref().expect("the server printed where it listens for clients")
    }

    /// `127.0.0.1:PORT` of ingest and API.
    #[track_caller]
    pub(crate) fn http(&self) -> &str {
        self.running().http.as_deref().expect("the server printed where it listens for HTTP requests")
    }

    /// `127.0.0.1:PORT` of NATS monitoring (needs a flag).
    #[track_caller]
    pub(crate) fn monitor(&self) -> &str {
        self.running().monitor.as_deref().expect("the server printed where its monitoring listens")
    }

    /// The store directory.
    #[track_caller]
    pub(crate) fn store(&self) -> &Path {
        self.builder.store.as_deref().expect("the server has a store directory")
    }

    /// Everything that all processes of this server have printed so far.
    pub(crate) fn log(&self) -> String {
        let mut text = self.former_log.clone();
        if let Some(running) = &self.running {
            text.push_str(&running.log.text());
        }
        text
    }

    /// The process id.
    #[track_caller]
    pub(crate) fn pid(&self) -> u32 {
        self.running().child.id().expect("the process runs")
    }

    /// A connection of the independent client library.
    pub(crate) async fn connect(&self) -> async_nats::Client {
        super::connect(&self.url()).await
    }

    /// Resident memory in bytes.
    #[track_caller]
    pub(crate) fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that the process ever had, in bytes.
    #[track_caller]
    pub(crate) fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    #[track_caller]
    fn memory(&self, label: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(label));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("the kernel tells no {label} {status}")) * 1024
    }

    /// SIGKILL, as a power cut for the process: nothing of it can run any more.
    pub(crate) async fn kill(&mut self) {
        let mut running = self.take();
        running.child.kill().await.expect("the process can be killed");
        self.keep_log(&running).await;
    }

    /// Starts it and kills it after so long, ready or not.
    pub(crate) async fn start_and_kill(&mut self, after: Duration) {
        assert!(self.running.is_none(), "stop or kill it first");
        let (mut child, log) = self.builder.spawn();
        tokio::time::sleep(after).await;
        child.kill().await.expect("the process can be killed");
        log.settle().await;
        self.former_log.push_str(&log.text());
        self.former_log.push_str("--- the process was killed at its start\n");
    }

    /// SIGTERM, then the exit status.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait().await
    }

    /// Sends a signal by its name without `SIG`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = std::process::Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
            .status()
            .expect("a shell runs");
        assert!(status.success(), "kill -s {name} {pid}: {status}");
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let mut running = self.take();
        let status = tokio::time::timeout(LIMIT, running.child.wait()).await;
        self.keep_log(&running).await;
        status
            .unwrap_or_else(|_| panic!("the server did not end within {LIMIT:?}"))
            .expect("the process can be waited for")
    }

    /// Starts it again on the same store, on a free port.
    pub(crate) async fn restart(&mut self) {
        assert!(self.running.is_none(), "stop or kill it first");
        self.running = Some(self.builder.launch().await);
    }

    /// Starts it again on the same store, where clients expect it.
    pub(crate) async fn restart_at(&mut self, client_address: &str) {
        let port = client_address.rsplit(':').next().and_then(|port| port.parse().ok());
        self.builder.port = port;
        self.restart().await;
        self.builder.port = None;
    }

    #[track_caller]
    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    #[track_caller]
    fn take(&mut self) -> Running {
        self.running.take().expect("the server runs")
    }

    async fn keep_log(&mut self, running: &Running) {
        running.log.settle().await;
        self.former_log.push_str(&running.log.text());
        self.former_log.push_str("--- the process ended\n");
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "a failing test shows what its server printed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of {:?}\n{}---", self.builder.program, self.log());
        }
    }
}

/// What a process printed, standard output and error together.
#[derive(Clone, Debug, Default)]
struct Log {
    text: Arc<Mutex<String>>,
    readers: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

impl Log {
    fn follow(&self, source: impl AsyncRead + Unpin + Send + 'static) {
        let text = Arc::clone(&self.text);
        let reader = tokio::spawn(async move {
            let mut lines = BufReader::new(source).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
    }

    /// Waits until the ended process's last lines are read.
    async fn settle(&self) {
        let readers = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        for reader in readers {
            drop(tokio::time::timeout(Duration::from_secs(5), reader).await);
        }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn address_after(text: &str, label: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.split_once(label))?.1;
    Some(line.split_whitespace().next()?.trim_start_matches("http://").to_owned())
}
