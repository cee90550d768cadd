//! Names and listening sockets: how a host becomes addresses, and how a port is taken.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::resolve::resolve;

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {}", reason(.source))]
pub struct BindError {
    /// What was to be served there.
    pub what: &'static str,
    /// `host:port`.
    pub address: String,
    /// What the system says.
    pub source: io::Error,
}

fn reason(source: &io::Error) -> String {
    if source.kind() == io::ErrorKind::AddrInUse {
        "the port is in use".to_owned()
    } else {
        source.to_string()
    }
}

impl BindError {
    /// Whether somebody else listens there.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }
}

/// A host and a port as people write them: `[::1]:4222`.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// A name or an address, without brackets.
    pub host: &'a str,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Listens on the first address of a host that can be listened on; port 0 takes a free one. `what` is served there, for the
/// error.
///
/// # Errors
/// When the name has no address, or none of its addresses can be listened on.
pub async fn bind(what: &'static str, host: &str, port: u16) -> Result<(TcpListener, SocketAddr), BindError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let refuse = |source| BindError { what, address: Place { host, port }.to_string(), source };
    let addresses: Vec<SocketAddr> =
        resolve(host).await.map_err(refuse)?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let listener = TcpListener::bind(addresses.as_slice()).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    Ok((listener, bound))
}
