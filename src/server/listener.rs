//! The listening socket: accepts connections until the server stops, then has them all closed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::watch;
use weir_protocol::error::ClosedReason;

use super::config::Address;
use super::{Phase, Shared, StartError, until};
use crate::broker::ConnectionInfo;
use crate::sys::task::TaskStarter;

/// How long accepting rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(100);

/// Opens a listening socket. `what` is served there, for the error.
pub(super) async fn bind(
    what: &'static str,
    address: &Address,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let refuse = |source: io::Error| {
        let address = address.clone();
        if source.kind() == io::ErrorKind::AddrInUse {
            StartError::PortInUse { what, address }
        } else {
            StartError::Listen { what, address, source }
        }
    };
    let resolved = resolve(address).await.map_err(refuse)?;
    let listener = TcpListener::bind(resolved.as_slice()).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    Ok((listener, bound))
}

async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port)]);
    }
    Ok(lookup_host((host, address.port)).await?.collect())
}

/// Accepts as long as the server serves; closes every connection when it closes.
pub(super) async fn accept(
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    phases: watch::Receiver<Phase>,
    tasks: TaskStarter,
) {
    if let Some(listener) = listener {
        let mut finishing = pin!(until(phases.clone(), Phase::Finishing));
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut finishing => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, from)) => begin(&shared, socket, from, &tasks),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
    until(phases, Phase::Closing).await;
    shared.close_all(ClosedReason::ServerShutdown);
}

fn begin(shared: &Arc<Shared>, socket: TcpStream, from: SocketAddr, tasks: &TaskStarter) {
    // Batches are made here, not by the kernel. A socket without the option still works.
    let _ = socket.set_nodelay(true);
    let info = ConnectionInfo { host: from.ip().to_string(), port: from.port(), ..ConnectionInfo::default() };
    let (read, write) = socket.into_split();
    shared.begin(info, read, write, tasks.clone());
}
