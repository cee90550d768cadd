//! Lame duck mode: clients are told, may go on, and are closed one after the other.

use std::future::pending;
use std::time::Duration;

use tokio::time::Instant;
use weir::server::{Address, Limits, Server};

use crate::peer::{Partner, Peer, expect_free, start};

const SECOND: Duration = Duration::from_secs(1);

/// A server that takes 600 ms after its grace period.
async fn server(lame_duck_grace_period: Duration, listen: Option<Address>) -> Box<Server> {
    let lame_duck_duration = lame_duck_grace_period + Duration::from_millis(600);
    let limits = Limits { lame_duck_duration, lame_duck_grace_period, ..Limits::default() };
    Box::new(start(limits, listen).await)
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_and_closed_one_after_the_other() {
    let partner = Partner::Pipe(server(SECOND, None).await);
    let mut told = [partner.connect().await, partner.connect().await];
    let mut old = partner.connect_with(r#"CONNECT {"verbose":false}"#).await;
    let mut silent = partner.open().await;
    let first = silent.info().await;
    let Partner::Pipe(server) = partner else { unreachable!("it was made so") };
    let begin = Instant::now();
    let leaving = weir::sys::task::spawn(server.leave(pending()));
    for peer in &mut told {
        let info = peer.info().await;
        assert_eq!(info["ldm"], true);
        assert_eq!((info.get("connect_info"), &info["server_id"]), (None, &first["server_id"]));
    }
    // Who is there goes on, and a client that does not know such INFOs gets none.
    told[0].send("SUB a 1\r\nPUB a 2\r\nhi\r\n").await;
    told[0].expect("MSG a 1 2\r\nhi\r\n").await;
    old.sync().await;
    assert_eq!(begin.elapsed(), Duration::ZERO, "they are told at once");
    let mut ends = Vec::new();
    for mut peer in told.into_iter().chain([old, silent]) {
        peer.expect_closed().await;
        ends.push(begin.elapsed());
    }
    leaving.await.unwrap().expect("in order");
    assert_eq!(ends[0], SECOND, "the grace period");
    // 600 ms for four: three pauses of 75 to 150 ms.
    let pauses: Vec<Duration> = ends.windows(2).map(|two| two[1] - two[0]).collect();
    let allowed = Duration::from_millis(75)..=Duration::from_millis(151);
    assert!(pauses.iter().all(|pause| allowed.contains(pause)), "{pauses:?}: one after the other");
}

#[tokio::test]
async fn nobody_is_let_in_any_more() {
    let server = server(60 * SECOND, Some(Address::loopback(0))).await;
    let address = server.client_address().unwrap();
    let partner = Partner::Tcp(server);
    let mut peer = partner.connect().await;
    let Partner::Tcp(server) = partner else { unreachable!("it was made so") };
    let (hurry, hurried) = tokio::sync::oneshot::channel();
    let leaving = weir::sys::task::spawn(server.leave(async { hurried.await.unwrap() }));
    assert_eq!(peer.info().await["ldm"], true);
    expect_free(address).await;
    peer.sync().await;
    hurry.send(()).unwrap();
    peer.expect_closed().await;
    leaving.await.unwrap().expect("in order");
}

#[tokio::test]
async fn whoever_is_in_a_hurry_does_not_wait() {
    let server = server(60 * SECOND, None).await;
    let mut peer = Peer::over(server.connect_in_process());
    peer.info().await;
    let begin = Instant::now();
    server.leave(std::future::ready(())).await.expect("in order");
    peer.expect_closed().await;
    assert!(begin.elapsed() < 30 * SECOND, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn without_clients_there_is_nothing_to_wait_for() {
    let begin = Instant::now();
    server(60 * SECOND, None).await.leave(pending()).await.expect("in order");
    assert!(begin.elapsed() < 30 * SECOND, "{:?}", begin.elapsed());
}
