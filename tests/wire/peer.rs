//! One end of a conversation: bytes sent and bytes expected, over TCP or the pipe, with Weir or with nats-server.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use weir::server::{Address, Config, Limits, Server};
use weir::sys::random::Random;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

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

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One end of a connection.
pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    patience: Duration,
}

impl Peer {
    pub(crate) fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { stream: Box::new(stream), unread: Vec::new(), patience: PATIENCE }
    }

    /// Waits for hours: for paused time.
    pub(crate) fn patient(mut self) -> Self {
        self.patience = Duration::from_secs(24 * 60 * 60);
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
        while self.unread.len() < expected.len() && self.unread[..] == expected[..self.unread.len()] {
            if !self.read().await {
                break;
            }
        }
        let got = &self.unread[..expected.len().min(self.unread.len())];
        if got != expected {
            let all = String::from_utf8_lossy(&self.unread).into_owned();
            panic!("expected {:?}, got {all:?}", String::from_utf8_lossy(expected));
        }
        self.unread.drain(..expected.len());
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        loop {
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
        while self.unread.is_empty() {
            if !self.read().await {
                return;
            }
        }
        panic!("expected the end, got {:?}", String::from_utf8_lossy(&self.unread));
    }

    /// Everything until the connection is closed.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.unread)
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
