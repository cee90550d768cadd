//! Memory under clients that mean harm. What takes ten thousand sockets or a million subscriptions runs by command:
//!
//! ```text
//! cargo test --release --test pressure -- --include-ignored --nocapture --test-threads 1
//! ```
//!
//! Each case prints the resident memory of the server before and its peak, given back or not, and what one of its clients costs,
//! against a bound.

#![allow(clippy::disallowed_methods, reason = "tests of a running process live in real time")]
#![allow(clippy::print_stdout, reason = "figures are what these cases are for")]

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use support::{PATIENCE, Server, http, within};

const MIB: u64 = 1 << 20;
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false}\r\n";

/// Lets this process, and the server it starts, have as many sockets as the system gives.
fn raise_limit(needed: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the limit is raised");
    let files = limit.maximum.unwrap_or(u64::MAX);
    assert!(
        files >= needed,
        "{files} files are allowed to a process, {needed} are needed: raise `ulimit -n`"
    );
}

/// Says what it took, and holds it against the bound.
fn judge(server: &Server, what: &str, before: u64, count: u64, bound: u64) {
    let (peak, now) = (server.peak(), server.resident());
    let grown = peak.saturating_sub(before);
    println!(
        "{what}: {} MiB before, {} MiB at most, {} MiB now: grown by {} MiB, {} bytes each, bound {} MiB in all",
        before / MIB,
        peak / MIB,
        now / MIB,
        grown / MIB,
        grown / count.max(1),
        bound / MIB
    );
    assert!(grown <= bound, "{what}: grown by {} MiB, more than {} MiB", grown / MIB, bound / MIB);
}

/// A client that was greeted, has said CONNECT, and then `operations`.
async fn client(server: &Server, operations: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(server.client_address()).await.expect("it is let in");
    let mut info = [0; 4096];
    assert!(stream.read(&mut info).await.expect("INFO") > 0);
    stream.write_all(CONNECT).await.expect("it is open");
    stream.write_all(operations.as_ref()).await.expect("it is open");
    stream
}

/// Reads until the client's PING is answered; everything that came. The server may have asked with a PING of its own.
async fn answered(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    while memchr::memmem::find(&said, b"PONG\r\n").is_none() {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut said)).await;
        assert!(read.expect("it is answered").expect("it is open") > 0, "{}", said.escape_ascii());
    }
    said
}

/// A well-behaved client and a well-behaved device are served.
async fn others_are_served(server: &Server) {
    let mut stream = client(server, b"SUB still.here 1\r\nPUB still.here 2\r\nhi\r\nPING\r\n").await;
    let begin = Instant::now();
    let said = answered(&mut stream).await;
    assert!(memchr::memmem::find(&said, b"\r\nhi\r\n").is_some(), "{}", said.escape_ascii());
    println!("    another client is answered in {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "by command: see the head of this file"]
async fn ten_thousand_connections() {
    const COUNT: u64 = 10_000;
    raise_limit(COUNT + 200);
    let server = Server::start().await;
    let before = server.resident();
    let mut clients = Vec::new();
    for number in 0..COUNT {
        clients.push(client(&server, format!("SUB idle.{number} 1\r\nPING\r\n")).await);
    }
    for stream in &mut clients {
        answered(stream).await;
    }
    others_are_served(&server).await;
    judge(&server, "10,000 connections with a subscription each", before, COUNT, 100 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads() {
    let server = Server::start().await;
    let before = server.resident();
    let _deaf = client(&server, b"SUB flood 1\r\n").await;
    let mut publisher = client(&server, b"").await;
    let message = [b"PUB flood 65536\r\n".as_slice(), &vec![b'x'; 65536], b"\r\n"].concat();
    for _ in 0..16 * 1024 {
        publisher.write_all(&message).await.expect("it is open");
    }
    others_are_served(&server).await;
    // 64 MiB may wait for it before it is closed.
    judge(&server, "1 GiB for a client that never reads", before, 1, 160 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_finish() {
    const COUNT: u64 = 4000;
    raise_limit(COUNT + 200);
    let server = Server::start().await;
    let before = server.resident();
    let mut clients = Vec::new();
    for number in 0..COUNT {
        // A line without end, and the announcement of a message that does not come.
        let line = if number % 2 == 0 {
            [b"SUB ".as_slice(), &[b'a'; 4000]].concat()
        } else {
            b"PUB a 1048576\r\nx".to_vec()
        };
        clients.push(client(&server, line).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    others_are_served(&server).await;
    judge(&server, "4,000 clients in the middle of an operation", before, COUNT, 100 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "by command: see the head of this file"]
async fn a_million_subscriptions() {
    const COUNT: u64 = 1_000_000;
    let server = Server::weir().args(["--monitor-port", "-1"]).start().await;
    let before = server.resident();
    let subscriptions = || async {
        let page = http::get(server.monitor(), "/varz").await.json();
        page["subscriptions"].as_u64().expect("a number")
    };
    // What one client leaves behind the next uses again: with the gaps in the allocator's memory, that of two at most.
    for round in ["1,000,000 subscriptions", "as many by the next client", "and the next", "and the next"] {
        let mut stream = client(&server, b"").await;
        for chunk in 0..COUNT / 1000 {
            let sids = (0..1000).map(|number| chunk * 1000 + number);
            let lines: String = sids.map(|sid| format!("SUB many.{sid}.* {sid}\r\n")).collect();
            stream.write_all(lines.as_bytes()).await.expect("it is open");
        }
        stream.write_all(b"PING\r\n").await.expect("it is open");
        answered(&mut stream).await;
        others_are_served(&server).await;
        judge(&server, round, before, COUNT, 1300 * MIB);
        drop(stream);
        let gone = async || (subscriptions().await < 1000).then_some(());
        within(Duration::from_secs(60), "they go with their client", gone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_open_requests() {
    const COUNT: u64 = 1000;
    raise_limit(COUNT + 200);
    let server = Server::start().await;
    let before = server.resident();
    let mut requests = Vec::new();
    for number in 0..COUNT {
        let mut stream = TcpStream::connect(server.http()).await.expect("it is let in");
        let head = b"POST /monitor/dev HTTP/1.1\r\nHost: localhost\r\n";
        stream.write_all(head).await.expect("it is open");
        if number % 2 == 0 {
            // Half a header, or a megabyte of a body of two.
            stream.write_all(b"X-Half: ").await.expect("it is open");
        } else {
            stream.write_all(b"Content-Length: 2097152\r\n\r\n").await.expect("it is open");
            // Refused ones may be closed by then.
            let _ =
                tokio::time::timeout(Duration::from_secs(5), stream.write_all(&vec![b' '; 1 << 20])).await;
        }
        requests.push(stream);
    }
    // 64 MiB of bodies in buffers of twice the size, and 64 KiB for each connection.
    judge(&server, "1,000 half-open requests", before, COUNT, 128 * MIB + COUNT * (64 << 10));
    others_are_served(&server).await;
    // Half-open bodies hold all the memory there is for bodies: they have to give it up.
    let begin = Instant::now();
    let answer = http::post_bytes(server.http(), "/monitor/dev", br#"[{"type":"a"}]"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    println!("    a whole request is answered in {:?}", begin.elapsed());
}
