//! PING by the server and stale connections, in paused time over the pipe.

use std::time::Duration;

use tokio::time::Instant;
use weir::server::Limits;

use crate::peer::{Partner, Peer, start};

async fn pipe(limits: Limits) -> Partner {
    Partner::Pipe(Box::new(start(limits, None).await))
}

/// The server's next line is PING, and comes so many seconds after `since`.
async fn expect_ping(peer: &mut Peer, since: Instant, seconds: std::ops::RangeInclusive<f64>) {
    peer.expect("PING\r\n").await;
    let after = since.elapsed().as_secs_f64();
    assert!(seconds.contains(&after), "PING came after {after} s, not {seconds:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_ping_measures_the_round_trip_soon() {
    let partner = pipe(Limits::default()).await;
    let start = Instant::now();
    let mut peer = partner.connect().await.patient();
    expect_ping(&mut peer, start, 2.0..=2.5).await;
    peer.send("PONG\r\n").await;
    peer.sync().await;
    // From then on one comes every two minutes, unless the client does something.
    let start = Instant::now();
    expect_ping(&mut peer, start, 119.0..=121.0).await;
    peer.send("PONG\r\n").await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(60)).await;
    peer.send("SUB a 1\r\n").await;
    expect_ping(&mut peer, start, 239.0..=241.0).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_answer_is_stale() {
    let partner =
        pipe(Limits { ping_interval: Duration::from_secs(10), ping_max: 2, ..Limits::default() }).await;
    let start = Instant::now();
    let mut peer = partner.connect().await.patient();
    peer.expect("PING\r\nPING\r\n-ERR 'Stale Connection'\r\n").await;
    peer.expect_closed().await;
    let after = start.elapsed().as_secs_f64();
    assert!(
        (22.0..23.1).contains(&after),
        "stale after {after} s: two pings at 2 and 12 s, the third was due at 22 s"
    );
}

#[tokio::test(start_paused = true)]
async fn one_pong_answers_all_pings() {
    let partner =
        pipe(Limits { ping_interval: Duration::from_secs(10), ping_max: 2, ..Limits::default() }).await;
    let mut peer = partner.connect().await.patient();
    for _ in 0..5 {
        peer.expect("PING\r\nPING\r\n").await;
        peer.send("PONG\r\n").await;
    }
    peer.sync().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_only_ever_pings_is_not_pinged() {
    let partner = pipe(Limits { ping_interval: Duration::from_secs(10), ..Limits::default() }).await;
    let mut peer = partner.connect().await.patient();
    peer.expect("PING\r\n").await;
    peer.send("PONG\r\n").await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        peer.sync().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_connects_is_pinged_at_the_interval() {
    let partner = pipe(Limits::default()).await;
    let start = Instant::now();
    let mut peer = partner.open().await.patient();
    peer.info().await;
    expect_ping(&mut peer, start, 119.0..=121.0).await;
}
