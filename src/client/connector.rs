//! Where a client's bytes travel: TCP addresses tried in turn, or a pipe into a server of the same process.
//!
//! A connector makes a fresh transport for each (re)connect and hands over the credentials that belong to the address it
//! chose. It knows nothing of the protocol.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::sys::net::Place;
use crate::sys::resolve::resolve;

/// The port of a NATS server whose URL names none.
pub const DEFAULT_PORT: u16 = 4222;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A two-way stream of bytes.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// What a client shows to the server at CONNECT.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// A token instead of user and password.
    pub token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    /// Shows which credentials there are, never the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("token", &self.token.as_ref().map(|_| "***"))
            .finish()
    }
}

/// A transport just opened.
pub struct Connected {
    /// The bytes.
    pub transport: Box<dyn Transport>,
    /// What the address itself says about who connects.
    pub credentials: Credentials,
    /// The address, without secrets.
    pub address: String,
}

/// Opens transports to one server or to several equal ones.
pub trait Connector: Send + Sync + 'static {
    /// Opens one. Called again after each loss.
    fn connect(&self) -> BoxFuture<'_, io::Result<Connected>>;
}

/// A URL that names no NATS server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not a NATS URL: {reason}; write nats://host:port")]
pub struct UrlError {
    url: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    host: String,
    port: u16,
    credentials: Credentials,
}

/// TCP to the addresses of one or more URLs, separated by commas, tried in turn.
#[derive(Debug)]
pub struct Tcp {
    addresses: Vec<Address>,
    next: AtomicUsize,
}

impl Tcp {
    /// Reads `nats://[user:password@ | token@]host[:port]`, or `host[:port]`, or several with commas.
    ///
    /// # Errors
    /// When an entry has another scheme, no host, or a port that is no number.
    pub fn parse(urls: &str) -> Result<Self, UrlError> {
        let addresses = urls
            .split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(parse_url)
            .collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(UrlError { url: urls.to_owned(), reason: "it is empty" });
        }
        Ok(Self { addresses, next: AtomicUsize::new(0) })
    }
}

fn parse_url(url: &str) -> Result<Address, UrlError> {
    let fail = |reason| UrlError { url: hide_secrets(url), reason };
    let rest = match url.split_once("://") {
        Some(("nats" | "tcp", rest)) => rest,
        Some(("tls", _)) => return Err(fail("TLS is not available in this build")),
        Some(_) => return Err(fail("the scheme is not nats")),
        None => url,
    };
    let rest = rest.trim_end_matches('/');
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, rest),
    };
    let mut credentials = Credentials::default();
    match login.map(|login| login.split_once(':').map_or((login, None), |(user, pass)| (user, Some(pass)))) {
        Some((user, Some(password))) => {
            credentials.user =
                Some(percent_decode(user).ok_or_else(|| fail("bad percent code in the user"))?);
            credentials.password =
                Some(percent_decode(password).ok_or_else(|| fail("bad percent code in the password"))?);
        }
        Some((token, None)) => {
            credentials.token =
                Some(percent_decode(token).ok_or_else(|| fail("bad percent code in the token"))?);
        }
        None => {}
    }
    let (host, port) = if let Some(after) = place.strip_prefix('[') {
        let (host, port) = after.split_once(']').ok_or_else(|| fail("']' is missing"))?;
        (host, port.strip_prefix(':'))
    } else {
        place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err(fail("the host is missing"));
    }
    let port = match port {
        Some(text) => text.parse().map_err(|_| fail("the port is not a number from 1 to 65535"))?,
        None => DEFAULT_PORT,
    };
    Ok(Address { host: host.to_owned(), port, credentials })
}

fn hide_secrets(url: &str) -> String {
    let Some((before, place)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
    format!("{scheme}***@{place}")
}

/// Replaces `%XX` by the byte it stands for; `None` when a code is broken or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

impl Connector for Tcp {
    fn connect(&self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            let mut last = None;
            for _ in 0..self.addresses.len() {
                let index = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
                let Some(address) = self.addresses.get(index) else { continue };
                match open(address).await {
                    Ok(connected) => {
                        // The next reconnect begins with the address that worked.
                        self.next.store(index, Ordering::Relaxed);
                        return Ok(connected);
                    }
                    Err(error) => last = Some(error),
                }
            }
            Err(last.unwrap_or_else(|| io::Error::other("no address to connect to")))
        })
    }
}

async fn open(address: &Address) -> io::Result<Connected> {
    let place = Place { host: &address.host, port: address.port }.to_string();
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{place}: {error}"));
    let attempt = async {
        let mut last = None;
        for ip in resolve(&address.host).await? {
            match TcpStream::connect((ip, address.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
    };
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(result) => result.map_err(named)?,
        Err(_) => return Err(named(io::Error::new(io::ErrorKind::TimedOut, "no connection within 5 s"))),
    };
    stream.set_nodelay(true)?;
    Ok(Connected { transport: Box::new(stream), credentials: address.credentials.clone(), address: place })
}

/// A pipe into a server of the same process; `open` makes a new end for each (re)connect.
pub struct Pipe<F> {
    open: F,
}

impl<F, T> Pipe<F>
where
    F: Fn() -> io::Result<T> + Send + Sync + 'static,
    T: Transport + 'static,
{
    /// A connector that calls `open`.
    pub fn new(open: F) -> Self {
        Self { open }
    }
}

impl<F, T> Connector for Pipe<F>
where
    F: Fn() -> io::Result<T> + Send + Sync + 'static,
    T: Transport + 'static,
{
    fn connect(&self) -> BoxFuture<'_, io::Result<Connected>> {
        Box::pin(async move {
            let transport = Box::new((self.open)()?);
            Ok(Connected { transport, credentials: Credentials::default(), address: "in-process".to_owned() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_port_and_credentials() {
        let login = |user: &str, password: &str| Credentials {
            user: Some(user.to_owned()),
            password: Some(password.to_owned()),
            token: None,
        };
        let token = |token: &str| Credentials { token: Some(token.to_owned()), ..Credentials::default() };
        for (url, host, port, credentials) in [
            ("nats://127.0.0.1:4223", "127.0.0.1", 4223, Credentials::default()),
            ("localhost", "localhost", 4222, Credentials::default()),
            ("nats://[::1]:99/", "::1", 99, Credentials::default()),
            ("nats://a:b%40c@edge", "edge", 4222, login("a", "b@c")),
            ("nats://s3cret@edge:1", "edge", 1, token("s3cret")),
        ] {
            let address = Address { host: host.to_owned(), port, credentials };
            assert_eq!(parse_url(url), Ok(address), "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_named_without_its_secret() {
        for url in ["http://x", "nats://", "nats://u:geheim@host:port", "nats://geheim@", "", " , ", "[::1"] {
            let error = Tcp::parse(url).expect_err(url).to_string();
            assert!(!error.contains("geheim"), "{error}");
            assert!(error.contains("nats://host:port"), "{error}");
        }
    }
}
