//! Slow consumers: closed without a word, while everybody else goes on.

use std::time::Duration;

use tokio::time::timeout;
use weir::server::Limits;

use crate::peer::{PATIENCE, with_each};

#[tokio::test]
async fn whoever_falls_behind_is_closed_while_others_go_on() {
    let limits = Limits { max_pending: 1 << 20, max_payload: 1 << 16, ..Limits::default() };
    with_each(limits, async |partner| {
        let mut slow = partner.connect().await;
        slow.send("SUB a 1\r\n").await;
        slow.sync().await;
        let mut healthy = partner.connect().await;
        healthy.send("SUB a 1\r\n").await;
        healthy.sync().await;
        let mut publisher = partner.connect().await;
        let payload = "x".repeat(60_000);
        let (sent, expected) =
            (format!("PUB a 60000\r\n{payload}\r\n"), format!("MSG a 1 60000\r\n{payload}\r\n"));
        // More than the sockets and max_pending hold together.
        for _ in 0..400 {
            tokio::join!(publisher.send(&sent), healthy.expect(&expected));
        }
        healthy.sync().await;
        let rest = slow.rest().await;
        assert!(rest.len() < 400 * expected.len(), "it was closed before the end");
        let whole = rest.len() / expected.len();
        assert_eq!(rest, expected.repeat(whole + 1).as_bytes()[..rest.len()], "no -ERR, no gap");
    })
    .await;
}

#[tokio::test]
async fn a_write_that_takes_too_long_closes() {
    let limits = Limits { write_deadline: Duration::from_millis(200), ..Limits::default() };
    with_each(limits, async |partner| {
        let mut slow = partner.connect().await;
        slow.send("SUB a 1\r\n").await;
        slow.sync().await;
        let mut publisher = partner.connect().await;
        let payload = "x".repeat(1 << 20);
        let sent = format!("PUB a {}\r\n{payload}\r\n", payload.len());
        for _ in 0..20 {
            publisher.send(&sent).await;
        }
        publisher.sync().await;
        // It reads only once it has been closed: when a request on its subject finds nobody.
        publisher.send("SUB r 2\r\n").await;
        timeout(PATIENCE, async {
            loop {
                publisher.send("PUB a r 0\r\n\r\nPING\r\n").await;
                if publisher.line().await.starts_with("HMSG r 2 ") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it is closed");
        let rest = slow.rest().await;
        assert!(rest.len() < 20 * sent.len(), "it was closed before the end");
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_does_not_read_is_still_read_from() {
    with_each(Limits::default(), async |partner| {
        let mut other = partner.connect().await;
        other.send("SUB done 1\r\n").await;
        other.sync().await;
        let mut peer = partner.connect().await;
        peer.send("SUB a 1\r\n").await;
        let payload = "x".repeat(100_000);
        for _ in 0..100 {
            peer.send(format!("PUB a 100000\r\n{payload}\r\n")).await;
        }
        peer.send("PUB done 0\r\n\r\n").await;
        other.expect("MSG done 1 0\r\n\r\n").await;
    })
    .await;
}
