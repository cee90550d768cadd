//! One end of a conversation: bytes sent and bytes expected, over TCP or the pipe, with Weir or with nats-server.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use weir::server::{Address, Config, Limits, Server};
use weir::sys::random::Random;

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a server asks by itself, the first time some 2 s after CONNECT.
const PING: &[u8] = b"PING\r\n";

/// CONNECT as a usual client sends it.
pub(crate) const CONNECT: &str = r#"CONNECT {"verbose":false,"pedantic":false,"protocol":1,"echo":true,"headers":true,"no_responders":true}"#;

/// Whom to talk to, and how.
pub(crate) enum Partner {
    Tcp(Box<Server>),
    Pipe(Box<Server>),
    NatsServer(Box<NatsServer>),
}

/// A running nats-server; dropped, it is killed.
pub(crate) struct NatsServer {
    address: String,
    _child: Child,
    _folder: tempfile::TempDir,
}

/// Runs a conversation with each partner: Weir over TCP, Weir over the pipe, and the nats-server that `WEIR_NATS_SERVER`
/// names, if it does.
pub(crate) async fn with_each(limits: Limits, conversation: impl AsyncFn(&Partner)) {
    let tcp = Partner::Tcp(Box::new(start(limits.clone(), Some(Address::loopback(0))).await));
    conversation(&tcp).await;
    tcp.stop().await;
    let pipe = Partner::Pipe(Box::new(start(limits.clone(), None).await));
    conversation(&pipe).await;
    pipe.stop().await;
    if let Some(program) = std::env::var_os("WEIR_NATS_SERVER") {
        conversation(&nats_server(&program, &limits).await).await;
    }
}

pub(crate) async fn start(limits: Limits, listen: Option<Address>) -> Server {
    let random = Random::from_seed(1);
    Server::start(Config { listen, limits, random, ..Config::default() }).await.expect("the server starts")
}

async fn nats_server(program: &std::ffi::OsStr, limits: &Limits) -> Partner {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = "host: 127.0.0.1\nport: -1\n".to_owned();
    let mut set = |name: &str, value: String| writeln!(config, "{name}: {value}").expect("a string");
    set("ports_file_dir", format!("{:?}", folder.path()));
    set("max_connections", limits.max_connections.to_string());
    set("max_subscriptions", limits.max_subscriptions.to_string());
    if limits.max_sub_tokens > 0 {
        set("max_sub_tokens", limits.max_sub_tokens.to_string());
    }
    set("max_control_line", limits.max_control_line.to_string());
    set("max_payload", limits.max_payload.to_string());
    set("max_pending", limits.max_pending.to_string());
    set("write_deadline", format!("\"{}ms\"", limits.write_deadline.as_millis()));
    set("ping_interval", format!("\"{}ms\"", limits.ping_interval.as_millis()));
    set("ping_max", limits.ping_max.to_string());
    let path = folder.path().join("nats.conf");
    std::fs::write(&path, config).expect("the configuration is written");
    let child = Command::new(program)
        .arg("-c")
        .arg(&path)
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nats-server starts");
    let ports = folder.path().join(format!(
        "{}_{}.ports",
        std::path::Path::new(program).file_name().expect("a name").to_string_lossy(),
        child.id().expect("it runs")
    ));
    let address = timeout(PATIENCE, async {
        loop {
            if let Ok(text) = std::fs::read_to_string(&ports)
                && let Some((_, rest)) = text.split_once("nats://")
                && let Some((address, _)) = rest.split_once('"')
            {
                return address.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("nats-server tells its port");
    Partner::NatsServer(Box::new(NatsServer { address, _child: child, _folder: folder }))
}

impl Partner {
    /// A connection as the socket gives it: INFO is still to come.
    pub(crate) async fn open(&self) -> Peer {
        match self {
            Self::Tcp(server) => {
                Peer::over(TcpStream::connect(server.client_address().unwrap()).await.unwrap())
            }
            Self::Pipe(server) => Peer::over(server.connect_in_process()),
            Self::NatsServer(server) => Peer::over(TcpStream::connect(&server.address).await.unwrap()),
        }
    }

    /// A connection that has said CONNECT and PING and heard the answers.
    pub(crate) async fn connect(&self) -> Peer {
        self.connect_with(CONNECT).await
    }

    pub(crate) async fn connect_with(&self, connect: &str) -> Peer {
        let mut peer = self.open().await;
        peer.info().await;
        peer.send(&format!("{connect}\r\nPING\r\n")).await;
        peer.expect("PONG\r\n").await;
        if connect.contains(r#""protocol":1"#) {
            peer.info().await;
        }
        peer
    }

    pub(crate) fn is_weir(&self) -> bool {
        !matches!(self, Self::NatsServer(_))
    }

    async fn stop(self) {
        if let Self::Tcp(server) | Self::Pipe(server) = self {
            timeout(PATIENCE, server.shutdown()).await.expect("the server stops").expect("in order");
        }
    }
}

/// Nobody listens there any more. Asked by listening, not by connecting: a server of another test may have the port by now.
pub(crate) async fn expect_free(address: SocketAddr) {
    timeout(PATIENCE, async {
        while TcpListener::bind(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("nobody listens any more");
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One end of a connection. In real time it may be slow enough to be asked by the server: such a PING is passed over.
pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    patience: Duration,
    passes_pings: bool,
}

impl Peer {
    pub(crate) fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { stream: Box::new(stream), unread: Vec::new(), patience: PATIENCE, passes_pings: true }
    }

    /// Waits for hours, and expects every PING: for paused time.
    pub(crate) fn patient(mut self) -> Self {
        self.patience = Duration::from_secs(24 * 60 * 60);
        self.passes_pings = false;
        self
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref()))
            .await
            .expect("it is read")
            .expect("it is open");
    }

    /// Sends as far as the other side reads.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("it is read or closed");
    }

    /// The next bytes are these.
    pub(crate) async fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        loop {
            let count = expected.len().min(self.unread.len());
            let (got, wanted) = (&self.unread[..count], &expected[..count]);
            let goes_on = if got == wanted {
                if count == expected.len() {
                    break;
                }
                self.read().await
            } else {
                let same = got.iter().zip(wanted).take_while(|(got, wanted)| got == wanted).count();
                let line = got[..same].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                self.pass_ping(line).await
            };
            if !goes_on {
                let all = String::from_utf8_lossy(&self.unread).into_owned();
                panic!("expected {:?}, got {all:?}", String::from_utf8_lossy(expected));
            }
        }
        self.unread.drain(..expected.len());
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if !self.unread.is_empty() && self.pass_ping(0).await {
                continue;
            }
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8(self.unread[..end].to_vec()).expect("text");
                self.unread.drain(..end + 2);
                return line;
            }
            assert!(self.read().await, "closed before a line: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// The next line is an INFO; its fields.
    pub(crate) async fn info(&mut self) -> serde_json::Value {
        let line = self.line().await;
        let json = line.strip_prefix("INFO ").unwrap_or_else(|| panic!("no INFO: {line:?}"));
        serde_json::from_str(json).expect("INFO is JSON")
    }

    /// All that was sent has been dealt with, and nothing else was said.
    pub(crate) async fn sync(&mut self) {
        self.send("PING\r\n").await;
        self.expect("PONG\r\n").await;
    }

    /// The connection is closed, and nothing was said.
    pub(crate) async fn expect_closed(&mut self) {
        while self.unread.is_empty() || self.pass_ping(0).await {
            if self.unread.is_empty() && !self.read().await {
                return;
            }
        }
        panic!("expected the end, got {:?}", String::from_utf8_lossy(&self.unread));
    }

    /// Everything until the connection is closed.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        let mut line = 0;
        while !self.pass_ping(line).await
            && let Some(end) = memchr::memmem::find(&self.unread[line..], b"\r\nP")
        {
            line += end + 2;
        }
        std::mem::take(&mut self.unread)
    }

    /// Takes the PING out with which the unread bytes go on at `line`, where a line begins; false when it is none.
    async fn pass_ping(&mut self, line: usize) -> bool {
        while self.passes_pings
            && self.unread[line..].len() < PING.len()
            && PING.starts_with(&self.unread[line..])
        {
            if !self.read().await {
                return false;
            }
        }
        let is_ping = self.passes_pings && self.unread[line..].starts_with(PING);
        if is_ping {
            self.unread.drain(line..line + PING.len());
        }
        is_ping
    }

    /// False at the end of the stream.
    async fn read(&mut self) -> bool {
        match timeout(self.patience, self.stream.read_buf(&mut self.unread)).await {
            Ok(Ok(count)) => count > 0,
            // The other side closed with bytes unread.
            Ok(Err(_)) => false,
            Err(_) => panic!("nothing came; unread is {:?}", String::from_utf8_lossy(&self.unread)),
        }
    }
}
