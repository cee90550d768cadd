//! Queue groups.

use weir::server::Limits;

use crate::peer::{Peer, with_each};

/// How many messages `peer` has got since its last sync, whatever they are.
async fn messages(peer: &mut Peer) -> usize {
    peer.send("PING\r\n").await;
    let mut count = 0;
    loop {
        match peer.line().await.as_str() {
            "PONG" => return count,
            line if line.starts_with("MSG ") => count += 1,
            _ => {}
        }
    }
}

#[tokio::test]
async fn one_member_of_each_group_gets_a_message() {
    with_each(Limits::default(), async |partner| {
        let mut members = Vec::new();
        for filter in ["a.b", "a.b", "a.*", "a.>"] {
            let mut member = partner.connect().await;
            member.send(format!("SUB {filter} workers 1\r\n")).await;
            member.sync().await;
            members.push(member);
        }
        let mut other = partner.connect().await;
        other.send("SUB a.b others 1\r\nSUB a.b 2\r\n").await;
        other.sync().await;
        let mut publisher = partner.connect().await;
        publisher.send("PUB a.b 1\r\nx\r\n".repeat(1000)).await;
        publisher.sync().await;
        let mut total = 0;
        for member in &mut members {
            let count = messages(member).await;
            assert!(count > 100, "a member of four got {count} of 1000");
            total += count;
        }
        assert_eq!(total, 1000, "filters that differ are one group by its name");
        assert_eq!(messages(&mut other).await, 2000);
    })
    .await;
}

#[tokio::test]
async fn a_member_that_is_done_leaves_its_messages_to_the_others() {
    with_each(Limits::default(), async |partner| {
        let mut few = partner.connect().await;
        few.send("SUB a q 1\r\nUNSUB 1 5\r\n").await;
        few.sync().await;
        let mut many = partner.connect().await;
        many.send("SUB a q 1\r\n").await;
        many.sync().await;
        let mut publisher = partner.connect().await;
        publisher.send("PUB a 1\r\nx\r\n".repeat(200)).await;
        publisher.sync().await;
        assert_eq!(messages(&mut few).await, 5);
        assert_eq!(messages(&mut many).await, 195);
    })
    .await;
}

#[tokio::test]
async fn a_publisher_without_echo_is_passed_over_in_its_own_group() {
    with_each(Limits::default(), async |partner| {
        let connect = r#"CONNECT {"verbose":false,"pedantic":false,"echo":false}"#;
        let mut publisher = partner.connect_with(connect).await;
        let mut other = partner.connect().await;
        publisher.send("SUB a q 1\r\n").await;
        other.send("SUB a q 1\r\n").await;
        publisher.sync().await;
        other.sync().await;
        publisher.send("PUB a 1\r\nx\r\n".repeat(50)).await;
        publisher.sync().await;
        assert_eq!(messages(&mut other).await, 50);
    })
    .await;
}

#[tokio::test]
async fn one_connection_may_be_several_members() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send("SUB a q 1\r\nSUB a q 2\r\nSUB a q 3\r\n").await;
        peer.send("PUB a 1\r\nx\r\n".repeat(30)).await;
        assert_eq!(messages(&mut peer).await, 30);
    })
    .await;
}
