//! HPUB, HMSG, and the 503 of no responders.

use weir::server::Limits;

use crate::peer::with_each;

const NO_HEADERS: &str =
    r#"CONNECT {"verbose":false,"pedantic":false,"protocol":1,"echo":true,"headers":false}"#;

#[tokio::test]
async fn headers_travel_as_they_are() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send("SUB a 1\r\nHPUB a 21 26\r\nNATS/1.0\r\nKey:  v\r\n\r\nhello\r\n").await;
        peer.expect("HMSG a 1 21 26\r\nNATS/1.0\r\nKey:  v\r\n\r\nhello\r\n").await;
        peer.send("HPUB a r 12 12\r\nNATS/1.0\r\n\r\n\r\n").await;
        peer.expect("HMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn a_receiver_without_headers_gets_the_payload_alone() {
    with_each(Limits::default(), async |partner| {
        let mut old = partner.connect_with(NO_HEADERS).await;
        old.send("SUB a 1\r\n").await;
        old.sync().await;
        let mut peer = partner.connect().await;
        peer.send("HPUB a r 12 17\r\nNATS/1.0\r\n\r\nhello\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\nPUB a 2\r\nhi\r\n").await;
        old.expect("MSG a 1 r 5\r\nhello\r\nMSG a 1 0\r\n\r\nMSG a 1 2\r\nhi\r\n").await;
        let large = "x".repeat(20_000);
        peer.send(format!("HPUB a 12 20012\r\nNATS/1.0\r\n\r\n{large}\r\n")).await;
        old.expect(format!("MSG a 1 20000\r\n{large}\r\n")).await;
    })
    .await;
}

#[tokio::test]
async fn a_request_to_nobody_is_answered_with_503() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        let told = "HMSG _INBOX.x.1 7 43 43\r\nNATS/1.0 503\r\nNats-Subject: nobody.home\r\n\r\n\r\n";
        peer.send("SUB _INBOX.x.* 7\r\nPUB nobody.home _INBOX.x.1 2\r\nhi\r\n").await;
        peer.expect(told).await;
        // Only to one's own plain subscription for the reply, and only if there is a reply.
        peer.send(
            "PUB nobody.home 2\r\nhi\r\nPUB nobody.home other 2\r\nhi\r\nUNSUB 7\r\nSUB _INBOX.x.* q 8\r\n",
        )
        .await;
        peer.send("PUB nobody.home _INBOX.x.1 2\r\nhi\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn a_503_needs_to_be_asked_for() {
    with_each(Limits::default(), async |partner| {
        let connect = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true}"#;
        let mut peer = partner.connect_with(connect).await;
        peer.send("SUB r 7\r\nPUB nobody r 2\r\nhi\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn a_suppressed_echo_is_no_responder() {
    with_each(Limits::default(), async |partner| {
        let connect =
            r#"CONNECT {"verbose":false,"pedantic":false,"echo":false,"headers":true,"no_responders":true}"#;
        let mut peer = partner.connect_with(connect).await;
        peer.send("SUB r 7\r\nSUB a 1\r\nPUB a r 2\r\nhi\r\n").await;
        peer.expect("HMSG r 7 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn each_request_of_a_run_is_answered_for_itself() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send(
            "SUB r.* 7\r\nSUB a 1\r\nUNSUB 1 1\r\nPUB a r.1 0\r\n\r\nPUB a r.2 0\r\n\r\nPUB a r.3 0\r\n\r\n",
        )
        .await;
        peer.expect("MSG a 1 r.1 0\r\n\r\n").await;
        peer.expect("HMSG r.2 7 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n").await;
        peer.expect("HMSG r.3 7 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n").await;
        peer.sync().await;
    })
    .await;
}
