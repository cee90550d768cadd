//! Serving HTTP/1.1: connections are accepted, requests go to a router, and a peer that dawdles or says too much costs little.
//!
//! A connection may be idle, or in the middle of a request's head, for [`HEAD_TIMEOUT`]; what it has begun by then is answered with
//! 408. About [`HEAD_BYTES_MAX`] are read ahead of what the router has taken. A peer that takes nothing of an answer for
//! [`TAKE_TIMEOUT`] is closed. Bodies are the routes' own to bound.
//!
//! A stop waits [`DRAIN`] for the requests under way, whatever their peers do, and not at all for one whose head has not come.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::panic::{Panicked, contain};
use super::task::TaskGroup;

/// Longest from the end of one request to the end of the next one's head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head in bytes, and most that is read ahead of a body; what one read brings may go beyond, up to half as much again. A
/// longer head is answered with 431, and so is one with more than 100 lines.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// Longest an answer may wait for its peer to take anything of it.
pub const TAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest the requests under way are waited for at the end.
pub const DRAIN: Duration = Duration::from_secs(5);
/// Rest after a connection could not be accepted: the process has as many files open as it may, most often.
const REST: Duration = Duration::from_secs(1);

/// Serves what comes to the listener until `stopped`, then the requests under way to their end, or for [`DRAIN`]. Dropped before,
/// it drops them.
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
    drain(connections, stop).await;
}

/// Has the connections end, those that take longer than [`DRAIN`] unanswered.
async fn drain(connections: TaskGroup, stop: watch::Sender<()>) {
    stop.send_replace(());
    let mut ended = pin!(connections.ended());
    if timeout(DRAIN, &mut ended).await.is_err() {
        drop(stop);
        ended.await;
    }
}

/// Serves one connection to its end. `stop` lets the request under way be the last one; its sender dropped ends it at once.
async fn serve_connection<I>(io: I, router: Router, stop: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut stopped = stop.clone();
    tokio::select! {
        // A panic outside of a handler closes this connection, as the end of it does.
        _ = contain(converse(io, router, stop)) => {}
        // Only the end of the sender ends this.
        _ = stopped.wait_for(|()| false) => {}
    }
}

async fn converse<I>(io: I, router: Router, mut stop: watch::Receiver<()>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let router = TowerToHyperService::new(router);
    let requested = AtomicBool::new(false);
    let service = service_fn(|request| {
        requested.store(true, Ordering::Relaxed);
        let answer = contain(router.call(request));
        Box::pin(async move { answer.await.unwrap_or_else(|panicked| Ok(mistake(panicked))) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Taken::new(io)), service);
    let ended = loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            Ok(()) = stop.changed() => {
                // A graceful shutdown waits for the rest of a first head.
                if !requested.load(Ordering::Relaxed) {
                    return;
                }
                Pin::new(&mut connection).graceful_shutdown();
            }
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
    // An error is the end of the connection too.
    drop(last.await);
}

/// A socket whose peer has to take what is written: after [`TAKE_TIMEOUT`] without a byte taken, writing is an error.
struct Taken<I> {
    io: I,
    /// When it is too late; `None` while nothing waits for the peer.
    late: Option<Pin<Box<Sleep>>>,
}

impl<I: Unpin> Taken<I> {
    fn new(io: I) -> Self {
        Self { io, late: None }
    }

    /// What `write` comes to, in time.
    fn in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut I>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.io), cx) {
            self.late = None;
            return Poll::Ready(written);
        }
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + TAKE_TIMEOUT)));
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Taken<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Taken<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx, |io, cx| io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx, |io, cx| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx, |io, cx| io.poll_shutdown(cx))
    }
}

/// The answer of a handler that has panicked.
fn mistake(panicked: Panicked) -> Response {
    let body = format!("{{\"error\":\"{panicked}\"}}\n");
    (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "application/json")], body).into_response()
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
    use axum::body::Bytes;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use crate::sys::task;

    /// Longer than anything that is waited for.
    const FOREVER: Duration = Duration::from_secs(3600);

    fn router() -> Router {
        let large = || async { "x".repeat(1 << 20) };
        let slow = || async {
            tokio::time::sleep(HEAD_TIMEOUT * 2).await;
            "at last"
        };
        let mistaken = async || -> String { panic!("a mistake") };
        let router = Router::new().route("/", get(async || "hello")).route("/mistake", get(mistaken));
        router
            .route("/large", get(large))
            .route("/slow", get(slow))
            .route("/body", post(async |_: Bytes| "taken"))
    }

    /// A client whose connection is served, and what ends it.
    fn connect() -> (DuplexStream, watch::Sender<()>) {
        let (client, server) = duplex(1 << 20);
        let stop = watch::Sender::new(());
        drop(task::spawn(serve_connection(server, router(), stop.subscribe())));
        (client, stop)
    }

    /// How long the end of everything takes after a client has said this, without reading, and a second has passed.
    async fn drained(said: &str) -> Duration {
        let (connections, stop) = (TaskGroup::default(), watch::Sender::new(()));
        let (mut client, server) = duplex(1 << 10);
        drop(connections.starter().spawn(serve_connection(server, router(), stop.subscribe())));
        client.write_all(said.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begin = Instant::now();
        timeout(FOREVER, drain(connections, stop)).await.expect("it ends");
        begin.elapsed()
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
    async fn a_handler_that_panics_is_an_answer_and_its_connection_goes_on() {
        let (mut client, _stop) = connect();
        client.write_all(b"GET /mistake HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let (said, _) = rest(&mut client).await;
        assert!(said.starts_with("HTTP/1.1 500 Internal Server Error\r\n"), "{said}");
        assert!(said.contains("{\"error\":\"an internal error") && said.ends_with("\r\n\r\nhello"), "{said}");
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

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_of_an_answer_is_closed() {
        let (mut client, server) = duplex(1 << 10);
        let stop = watch::Sender::new(());
        let served = task::spawn(serve_connection(server, router(), stop.subscribe()));
        client.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut some = [0; 2000];
        for _ in 0..5 {
            // Slow, but it goes on.
            tokio::time::sleep(TAKE_TIMEOUT - Duration::from_secs(1)).await;
            client.read_exact(&mut some).await.unwrap();
        }
        assert!(!served.is_finished());
        let begin = Instant::now();
        timeout(FOREVER, served).await.expect("it ends").unwrap();
        assert!(about(begin.elapsed(), TAKE_TIMEOUT), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_for_no_request_that_has_not_come() {
        for said in ["", "G", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: "] {
            assert_eq!(drained(said).await, Duration::ZERO, "{said:?}");
        }
        // The same after a request.
        let whole = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(drained(&format!("{whole}GET / HTT")).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_waits_only_so_long_for_a_peer() {
        let deaf = "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let half = "POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf";
        let slow = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for said in [deaf, half, slow] {
            let span = drained(said).await;
            assert!(about(span, DRAIN), "{said:?}: {span:?}");
        }
    }
}
