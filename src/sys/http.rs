//! Serving HTTP/1.1: connections are accepted, requests go to a router, and a peer that dawdles or says too much costs little.
//!
//! A connection may be idle, or in the middle of a request's head, for [`HEAD_TIMEOUT`]; what it has begun by then is answered with
//! 408. At most [`HEAD_BYTES_MAX`] are read ahead of what the router has taken. Bodies are the routes' own to bound.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::task::TaskGroup;

/// Longest from the end of one request to the end of the next one's head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head in bytes, and most that is read ahead of a body. A longer head is answered with 431.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// Rest after a connection could not be accepted: the process has as many files open as it may, most often.
const REST: Duration = Duration::from_secs(1);

/// Serves what comes to the listener until `stopped`, then the requests under way to their end. Dropped before, it drops them.
pub async fn serve(listener: TcpListener, router: Router, stopped: impl Future<Output = ()> + Send) {
    let connections = TaskGroup::default();
    let stop = watch::Sender::new(());
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let served = serve_connection(stream, router.clone(), stop.subscribe());
                    drop(connections.starter().spawn(served));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    };
    tokio::select! {
        () = stopped => {}
        () = accept => {}
    }
    drop(listener);
    stop.send_replace(());
    connections.ended().await;
}

/// Serves one connection to its end. `stop` lets the request under way be the last one; its sender dropped ends it at once.
async fn serve_connection<I>(io: I, router: Router, mut stop: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| Box::pin(router.call(request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(io), service);
    let ended = loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            changed = stop.changed() => match changed {
                Ok(()) => std::pin::Pin::new(&mut connection).graceful_shutdown(),
                Err(_) => return,
            },
        }
    };
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    let last = async {
        // Who was idle is waiting for no answer.
        if ended.is_err_and(|error| error.is_timeout()) && !parts.read_buf.is_empty() {
            io.write_all(late_head().as_bytes()).await?;
        }
        io.shutdown().await
    };
    // An error is the end of the connection too; who does not take the answer is not waited for.
    drop(tokio::time::timeout(HEAD_TIMEOUT, pin!(last)).await);
}

/// The answer to a head that does not end.
fn late_head() -> String {
    let seconds = HEAD_TIMEOUT.as_secs();
    let body = format!("{{\"error\":\"the head of the request did not come within {seconds}s\"}}\n");
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use crate::sys::task;

    /// A client whose connection is served, and what ends it.
    fn connect() -> (DuplexStream, watch::Sender<()>) {
        let router = Router::new().route("/", get(async || "hello")).route(
            "/slow",
            get(async || {
                tokio::time::sleep(HEAD_TIMEOUT * 2).await;
                "at last"
            }),
        );
        let (client, server) = duplex(1 << 20);
        let stop = watch::Sender::new(());
        drop(task::spawn(serve_connection(server, router, stop.subscribe())));
        (client, stop)
    }

    /// Everything that comes until the connection is closed, and when that is.
    async fn rest(client: &mut DuplexStream) -> (String, Duration) {
        let (begin, mut said) = (Instant::now(), String::new());
        client.read_to_string(&mut said).await.unwrap();
        (said, begin.elapsed())
    }

    fn about(span: Duration, expected: Duration) -> bool {
        span >= expected && span < expected + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_end_is_answered_and_closed() {
        let (mut client, _stop) = connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ").await.unwrap();
        let drip = async {
            // A byte now and then does not make it longer.
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let (begin, mut said) = (Instant::now(), String::new());
            let send = async {
                while writer.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                () = send => {}
                read = reader.read_to_string(&mut said) => drop(read.unwrap()),
            }
            (said, begin.elapsed())
        };
        let (said, span) = drip.await;
        assert!(said.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{said}");
        assert!(
            said.ends_with("{\"error\":\"the head of the request did not come within 30s\"}\n"),
            "{said}"
        );
        assert!(about(span, HEAD_TIMEOUT), "{span:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_without_a_word() {
        let (mut client, _stop) = connect();
        let (said, span) = rest(&mut client).await;
        assert_eq!(said, "");
        assert!(about(span, HEAD_TIMEOUT), "{span:?}");
        // The same after a request, counted from its end.
        let (mut client, _stop) = connect();
        tokio::time::sleep(HEAD_TIMEOUT / 2).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let (said, span) = rest(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nhello"), "{said}");
        assert!(about(span, HEAD_TIMEOUT), "{span:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_take_longer_than_its_head() {
        let (mut client, _stop) = connect();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let (said, _) = rest(&mut client).await;
        assert!(said.ends_with("at last"), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_too_long_is_refused() {
        let (mut client, _stop) = connect();
        let long = format!("GET / HTTP/1.1\r\nX-Long: {}", "x".repeat(HEAD_BYTES_MAX));
        client.write_all(long.as_bytes()).await.unwrap();
        let (said, span) = rest(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
        assert!(span < HEAD_TIMEOUT, "{span:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_lets_the_request_under_way_end() {
        let (mut client, stop) = connect();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.send_replace(());
        let (said, span) = rest(&mut client).await;
        assert!(said.ends_with("at last"), "{said}");
        assert!(span < HEAD_TIMEOUT * 2, "{span:?}");
        // Nobody to let it end.
        let (mut client, stop) = connect();
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(stop);
        assert_eq!(rest(&mut client).await, (String::new(), Duration::ZERO));
    }
}
