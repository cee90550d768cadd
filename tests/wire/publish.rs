//! PUB, SUB, UNSUB and MSG.

use weir::server::Limits;

use crate::peer::with_each;

/// Says `sent` on a usual connection and hears `expected`.
async fn transcript(sent: &str, expected: &str) {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send(sent).await;
        peer.expect(expected).await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn a_message_reaches_its_subscriber() {
    transcript("SUB a.* 1\r\nPUB a.b 2\r\nhi\r\n", "MSG a.b 1 2\r\nhi\r\n").await;
}

#[tokio::test]
async fn the_reply_subject_travels_along() {
    transcript("SUB a 1\r\nPUB a _INBOX.x 2\r\nhi\r\n", "MSG a 1 _INBOX.x 2\r\nhi\r\n").await;
}

#[tokio::test]
async fn an_empty_message_is_a_message() {
    transcript("SUB a 1\r\nPUB a 0\r\n\r\n", "MSG a 1 0\r\n\r\n").await;
}

#[tokio::test]
async fn every_matching_subscription_gets_a_copy() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send(
            "SUB a.b 1\r\nSUB a.* 2\r\nSUB a.> 3\r\nSUB > 4\r\nSUB *.b 5\r\nSUB a 6\r\nSUB a.b.> 7\r\n",
        )
        .await;
        peer.send("PUB a.b 1\r\nx\r\n").await;
        let mut sids = Vec::new();
        for _ in 0..5 {
            sids.push(peer.line().await);
            assert_eq!(peer.line().await, "x");
        }
        sids.sort();
        let expected: Vec<_> = (1..6).map(|sid| format!("MSG a.b {sid} 1")).collect();
        assert_eq!(sids, expected);
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn spacing_and_case_are_free() {
    transcript(
        "sub  a.*\t 1 \r\npub\ta.b   2\nhi\r\nPuB a.b _INBOX.q\t2 \r\nho\r\n",
        "MSG a.b 1 2\r\nhi\r\nMSG a.b 1 _INBOX.q 2\r\nho\r\n",
    )
    .await;
}

#[tokio::test]
async fn payloads_are_bytes() {
    let payload: Vec<u8> = (0..=255).chain(*b"\r\nPUB a 1\r\n").collect();
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send("SUB a 1\r\n").await;
        peer.send([format!("PUB a {}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat()).await;
        peer.expect([format!("MSG a 1 {}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat()).await;
    })
    .await;
}

#[tokio::test]
async fn wildcards_in_published_subjects_are_text() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send("SUB foo.bar 1\r\nSUB foo.* 2\r\nPUB foo.* 1\r\nx\r\n").await;
        peer.expect("MSG foo.* 2 1\r\nx\r\n").await;
        peer.send("PUB foo..bar 1\r\nx\r\nPUB .foo 1\r\nx\r\nPUB foo. 1\r\nx\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn messages_of_one_publisher_keep_their_order() {
    with_each(Limits::default(), async |partner| {
        let mut subscriber = partner.connect().await;
        let mut publisher = partner.connect().await;
        subscriber.send("SUB a.> 1\r\n").await;
        subscriber.sync().await;
        let (mut sent, mut expected) = (String::new(), String::new());
        for number in 0..20_000 {
            let payload = number.to_string();
            let subject = format!("a.{}", number / 3 % 7);
            sent += &format!("PUB {subject} {}\r\n{payload}\r\n", payload.len());
            expected += &format!("MSG {subject} 1 {}\r\n{payload}\r\n", payload.len());
        }
        tokio::join!(publisher.send(sent), subscriber.expect(expected));
    })
    .await;
}

#[tokio::test]
async fn chunks_may_end_anywhere() {
    let sent = "SUB a.* 1\r\nPUB a.b 2\r\nhi\r\nHPUB a.c r 12 14\r\nNATS/1.0\r\n\r\nho\r\nPING\r\n";
    let expected = "MSG a.b 1 2\r\nhi\r\nHMSG a.c 1 r 12 14\r\nNATS/1.0\r\n\r\nho\r\nPONG\r\nPONG\r\n";
    with_each(Limits::default(), async |partner| {
        for at in 1..sent.len() {
            let mut peer = partner.connect().await;
            peer.send(&sent[..at]).await;
            tokio::task::yield_now().await;
            peer.send(&sent[at..]).await;
            peer.send("PING\r\n").await;
            peer.expect(expected).await;
        }
        let mut peer = partner.connect().await;
        for byte in sent.as_bytes().chunks(1) {
            peer.send(byte).await;
            tokio::task::yield_now().await;
        }
        peer.send("PING\r\n").await;
        peer.expect(expected).await;
    })
    .await;
}

#[tokio::test]
async fn large_messages_go_through_whole() {
    with_each(Limits::default(), async |partner| {
        let mut subscriber = partner.connect().await;
        let mut other = partner.connect().await;
        let mut publisher = partner.connect().await;
        for peer in [&mut subscriber, &mut other] {
            peer.send("SUB a 1\r\n").await;
            peer.sync().await;
        }
        let (mut sent, mut expected) = (Vec::new(), Vec::new());
        for size in [1, 16_383, 16_384, 32_767, 32_768, 65_535, 65_536, 100_000, 300_000, 1_048_576, 5] {
            let payload: Vec<u8> = (0..size).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
            for (line, out) in
                [(format!("PUB a {size}\r\n"), &mut sent), (format!("MSG a 1 {size}\r\n"), &mut expected)]
            {
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(&payload);
                out.extend_from_slice(b"\r\n");
            }
        }
        tokio::join!(publisher.send(&sent), subscriber.expect(&expected), other.expect(&expected));
    })
    .await;
}

#[tokio::test]
async fn unsub_ends_at_once() {
    transcript("SUB a 1\r\nPUB a 1\r\n1\r\nUNSUB 1\r\nPUB a 1\r\n2\r\nUNSUB 7\r\n", "MSG a 1 1\r\n1\r\n")
        .await;
}

#[tokio::test]
async fn unsub_with_a_maximum_counts_from_sub() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        let one = "PUB a 1\r\nx\r\n";
        // One came before, so two more.
        peer.send(format!("SUB a 1\r\n{one}UNSUB 1 3\r\n{one}{one}{one}{one}")).await;
        peer.expect("MSG a 1 1\r\nx\r\n".repeat(3)).await;
        peer.sync().await;
        // As many came already: it ends now.
        peer.send(format!("SUB a 1\r\n{one}{one}UNSUB 1 2\r\n{one}")).await;
        peer.expect("MSG a 1 1\r\nx\r\n".repeat(2)).await;
        peer.sync().await;
        // A later UNSUB takes the maximum back.
        peer.send(format!("SUB a 2\r\nUNSUB 2 5\r\n{one}UNSUB 2\r\n{one}")).await;
        peer.expect("MSG a 2 1\r\nx\r\n").await;
        peer.sync().await;
        // Zero is now.
        peer.send(format!("SUB a 3\r\nUNSUB 3 0\r\n{one}")).await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn exactly_the_maximum_is_delivered_among_many_publishers() {
    with_each(Limits::default(), async |partner| {
        let mut subscriber = partner.connect().await;
        subscriber.send("SUB a 1\r\nUNSUB 1 1000\r\n").await;
        subscriber.sync().await;
        let publish = async || {
            let mut publisher = partner.connect().await;
            publisher.send("PUB a 1\r\nx\r\n".repeat(400)).await;
            publisher.sync().await;
        };
        tokio::join!(publish(), publish(), publish(), publish());
        subscriber.expect("MSG a 1 1\r\nx\r\n".repeat(1000)).await;
        subscriber.sync().await;
    })
    .await;
}

#[tokio::test]
async fn a_sid_in_use_goes_on_standing_for_what_it_stood_for() {
    transcript("SUB a 1\r\nSUB b 1\r\nPUB b 1\r\nx\r\nPUB a 1\r\ny\r\n", "MSG a 1 1\r\ny\r\n").await;
}

#[tokio::test]
async fn sids_are_opaque() {
    transcript("SUB a x-1.9\r\nPUB a 1\r\ny\r\nUNSUB x-1.9\r\nPUB a 1\r\ny\r\n", "MSG a x-1.9 1\r\ny\r\n")
        .await;
}

#[tokio::test]
async fn without_echo_nothing_comes_back_to_the_publisher() {
    with_each(Limits::default(), async |partner| {
        let mut other = partner.connect().await;
        other.send("SUB a 9\r\n").await;
        other.sync().await;
        let connect =
            r#"CONNECT {"verbose":false,"pedantic":false,"echo":false,"headers":true,"no_responders":true}"#;
        let mut peer = partner.connect_with(connect).await;
        peer.send("SUB a 1\r\nSUB a q 2\r\nPUB a 1\r\nx\r\n").await;
        peer.sync().await;
        other.expect("MSG a 9 1\r\nx\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn subscriptions_go_with_their_connection() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        let mut other = partner.connect().await;
        other.send("SUB a q 1\r\n").await;
        other.sync().await;
        drop(other);
        peer.send("SUB a q 1\r\n").await;
        // All of them come here once the other has gone, which takes a moment to be noticed.
        loop {
            peer.send("PUB a 1\r\nx\r\nPUB a 1\r\nx\r\nPUB a 1\r\nx\r\nPUB a 1\r\nx\r\nPING\r\n").await;
            let mut came = 0;
            while peer.line().await != "PONG" {
                came += 1;
            }
            if came == 8 {
                break;
            }
        }
    })
    .await;
}
