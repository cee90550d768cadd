//! Limits, at and over.

use weir::server::Limits;

use crate::peer::with_each;

#[tokio::test]
async fn max_payload_counts_headers() {
    let limits = Limits { max_payload: 100, ..Limits::default() };
    with_each(limits, async |partner| {
        let mut peer = partner.open().await;
        assert_eq!(peer.info().await["max_payload"], 100);
        let mut peer = partner.connect().await;
        let (fits, payload) = ("x".repeat(100), "x".repeat(88));
        peer.send(format!(
            "SUB a 1\r\nPUB a 100\r\n{fits}\r\nHPUB a 12 100\r\nNATS/1.0\r\n\r\n{payload}\r\n"
        ))
        .await;
        peer.expect(format!("MSG a 1 100\r\n{fits}\r\nHMSG a 1 12 100\r\nNATS/1.0\r\n\r\n{payload}\r\n"))
            .await;
        peer.send("HPUB a 12 101\r\n").await;
        assert_eq!(peer.rest().await, b"-ERR 'Maximum Payload Violation'\r\n");
    })
    .await;
}

#[tokio::test]
async fn an_error_reaches_whoever_is_still_sending() {
    let limits = Limits { max_payload: 100, ..Limits::default() };
    with_each(limits, async |partner| {
        if partner.is_weir() {
            let mut peer = partner.connect().await;
            peer.try_send(format!("PUB a 200000\r\n{}\r\n", "x".repeat(200_000))).await;
            assert_eq!(peer.rest().await, b"-ERR 'Maximum Payload Violation'\r\n");
        }
    })
    .await;
}

#[tokio::test]
async fn max_control_line_is_about_arguments() {
    let limits = Limits { max_control_line: 200, ..Limits::default() };
    with_each(limits, async |partner| {
        let subject = "s".repeat(198);
        let mut peer = partner.connect().await;
        peer.send(format!("SUB {subject} 1\r\n")).await;
        peer.sync().await;
        for line in [
            format!("SUB {subject} 22\r\n"),
            format!("PUB {subject}{subject} 1\r\nx\r\n"),
            "SUB ".to_owned() + &subject + &subject,
        ] {
            let mut peer = partner.connect().await;
            peer.send(line).await;
            assert_eq!(peer.rest().await, b"-ERR 'maximum control line exceeded'\r\n");
        }
    })
    .await;
}

#[tokio::test]
async fn max_subscriptions_refuses_and_goes_on() {
    let limits = Limits { max_subscriptions: 2, ..Limits::default() };
    with_each(limits, async |partner| {
        let mut peer = partner.connect().await;
        peer.send("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n").await;
        peer.expect("-ERR 'maximum subscriptions exceeded'\r\n").await;
        peer.send("UNSUB 1\r\nSUB c 3\r\nPUB c 1\r\nx\r\nPUB a 1\r\nx\r\n").await;
        peer.expect("MSG c 3 1\r\nx\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn max_sub_tokens_refuses_and_goes_on() {
    let limits = Limits { max_sub_tokens: 3, ..Limits::default() };
    with_each(limits, async |partner| {
        let mut peer = partner.connect().await;
        peer.send("SUB a.b.c 1\r\nSUB a.b.c.d 2\r\n").await;
        peer.expect("-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'\r\n")
            .await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn max_connections_turns_the_next_one_away() {
    let limits = Limits { max_connections: 2, ..Limits::default() };
    with_each(limits, async |partner| {
        let first = partner.connect().await;
        let mut second = partner.connect().await;
        let mut third = partner.open().await;
        third.info().await;
        assert_eq!(third.rest().await, b"-ERR 'maximum connections exceeded'\r\n");
        second.sync().await;
        drop(first);
        // There is room again as soon as the server has noticed.
        loop {
            let mut next = partner.open().await;
            next.info().await;
            next.try_send("PING\r\n").await;
            if next.line().await == "PONG" {
                break;
            }
        }
    })
    .await;
}
