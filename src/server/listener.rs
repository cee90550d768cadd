//! The listening socket: accepts connections until the server stops, then has them all closed.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use weir_protocol::error::ClosedReason;

use super::{Phase, Shared, until};
use crate::broker::ConnectionInfo;
use crate::sys::task::TaskStarter;

/// How long accepting rests when the system has no more sockets to give.
const REST: Duration = Duration::from_millis(100);

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
