//! What closes a connection, with and without a word, and what does not.

use weir::server::Limits;

use crate::peer::with_each;

/// Each is said on a connection of its own, answered so, and closed.
#[tokio::test]
async fn what_closes_the_connection() {
    const UNKNOWN: &str = "-ERR 'Unknown Protocol Operation'\r\n";
    let cases = [
        ("FOO bar\r\n", UNKNOWN),
        ("PUBX\r\n", UNKNOWN),
        ("\r\n", UNKNOWN),
        ("PUB a 2\r\nhiXX", UNKNOWN),
        ("PUB a 2\r\nhi\n\n", UNKNOWN),
        ("MSG a 1 2\r\nhi\r\n", UNKNOWN),
        ("PUB a\r\n", ""),
        ("PUB a b c d\r\n", ""),
        ("PUB a x\r\n", ""),
        ("PUB a -1\r\n", ""),
        ("PUB a 1234567890\r\n", ""),
        ("SUB a\r\n", ""),
        ("SUB a b c d\r\n", ""),
        ("UNSUB\r\n", UNKNOWN),
        ("UNSUB 1 2 3\r\n", ""),
        ("HPUB a 2\r\n", ""),
        ("HPUB a 9 2\r\n", ""),
        ("HPUB a x 2\r\n", ""),
        ("CONNECT {\r\n", ""),
        ("CONNECT {\"verbose\":1}\r\n", ""),
        ("-ERR 'I give up'\r\n", ""),
        ("CONNECT {\"protocol\":2}\r\n", "-ERR 'invalid client protocol'\r\n"),
        (
            "CONNECT {\"headers\":false,\"no_responders\":true}\r\n",
            "-ERR 'no responders requires headers support'\r\n",
        ),
        ("CONNECT {\"account\":\"A\"}\r\n", "-ERR 'Authorization Violation'\r\n"),
        ("PUB a 1048577\r\n", "-ERR 'Maximum Payload Violation'\r\n"),
        ("HPUB a 12 1048577\r\n", "-ERR 'Maximum Payload Violation'\r\n"),
    ];
    with_each(Limits::default(), async |partner| {
        for (said, answer) in cases {
            let mut peer = partner.connect().await;
            peer.send("PING\r\n").await;
            peer.expect("PONG\r\n").await;
            peer.send(said).await;
            let rest = peer.rest().await;
            assert_eq!(String::from_utf8_lossy(&rest), answer, "{said:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn hpub_without_negotiated_headers_closes_without_a_word() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect_with(r#"CONNECT {"verbose":false,"pedantic":false}"#).await;
        peer.send("HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n").await;
        peer.expect_closed().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_and_goes_on() {
    let cases = [
        ("SUB a..b 1\r\n", "-ERR 'Invalid Subject'\r\n"),
        ("SUB .a 1\r\n", "-ERR 'Invalid Subject'\r\n"),
        ("SUB a.>.b 1\r\n", "-ERR 'Invalid Subject'\r\n"),
        (
            "SUB a _sys_ 1\r\n",
            "-ERR 'Permissions Violation for Subscription to \"a\" using queue \"_sys_\"'\r\n",
        ),
        ("PUB $NRG.x 1\r\nx\r\n", "-ERR 'Permissions Violation for Publish to \"$NRG.x\"'\r\n"),
        ("PUB _GR_.x 1\r\nx\r\n", "-ERR 'Permissions Violation for Publish to \"_GR_.x\"'\r\n"),
        (
            "PUB a $JS.ACK.x 1\r\nx\r\n",
            "-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.x\"'\r\n",
        ),
        ("PUB a _R_.x 1\r\nx\r\n", "-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n"),
        ("PUB a _GR_.x 1\r\nx\r\n", "-ERR 'Permissions Violation for Publish with Reply of \"_GR_.x\"'\r\n"),
    ];
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        for (said, answer) in cases {
            peer.send(said).await;
            peer.expect(answer).await;
            peer.sync().await;
        }
        // The refused message was not delivered, those around it were, in order with the answers.
        peer.send("SUB a 1\r\nPUB a 1\r\n1\r\nPUB a _R_.x 1\r\n2\r\nPUB a 1\r\n3\r\n").await;
        peer.expect("MSG a 1 1\r\n1\r\n").await;
        peer.expect("-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n").await;
        peer.expect("MSG a 1 1\r\n3\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn what_stood_before_the_error_is_done() {
    with_each(Limits::default(), async |partner| {
        let mut subscriber = partner.connect().await;
        subscriber.send("SUB a 1\r\n").await;
        subscriber.sync().await;
        let mut peer = partner.connect().await;
        peer.send("PUB a 1\r\nx\r\nPUB a 1\r\ny\r\nBAD\r\n").await;
        assert_eq!(peer.rest().await, b"-ERR 'Unknown Protocol Operation'\r\n");
        subscriber.expect("MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n").await;
        subscriber.sync().await;
    })
    .await;
}
