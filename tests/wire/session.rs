//! INFO, CONNECT, verbose and pedantic, PING.

use weir::server::Limits;

use crate::peer::{CONNECT, Partner, expect_free, start, with_each};

#[tokio::test]
async fn info_comes_first_and_again_after_the_first_pong() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.open().await;
        let first = peer.info().await;
        assert_eq!(first["server_id"].as_str().unwrap().len(), 56);
        assert!(first["server_id"].as_str().unwrap().starts_with('N'));
        assert_eq!(first["version"], "2.14.5");
        assert_eq!(first["proto"], 1);
        assert_eq!(first["headers"], true);
        assert_eq!(first["max_payload"], 1_048_576);
        assert!(first["client_id"].as_u64().unwrap() > 0);
        assert_eq!(first["server_name"], first["server_id"]);
        assert_eq!((first.get("connect_info"), first.get("auth_required")), (None, None));
        if !matches!(partner, Partner::Pipe(_)) {
            assert_eq!(first["client_ip"], "127.0.0.1");
            assert_eq!(first["host"], "127.0.0.1");
            assert!(first["port"].as_u64().unwrap() > 0);
        }
        // PONG stands before the second INFO, which comes once.
        peer.send(format!("{CONNECT}\r\nPING\r\nPING\r\n")).await;
        peer.expect("PONG\r\n").await;
        let second = peer.info().await;
        assert_eq!(second["connect_info"], true);
        assert_eq!(second["remote_account"], "$G");
        assert_eq!(second["client_id"], first["client_id"]);
        peer.expect("PONG\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn an_old_client_gets_no_second_info() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.open().await;
        peer.info().await;
        peer.send("CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await;
        peer.sync().await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_does_not_connect_is_verbose_and_pedantic() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.open().await;
        peer.info().await;
        peer.send("PING\r\nSUB a 1\r\nPUB a 1\r\nx\r\nPUB a.* 1\r\nx\r\nUNSUB 1\r\n").await;
        peer.expect(
            "PONG\r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n-ERR 'Invalid Publish Subject'\r\n+OK\r\n+OK\r\n",
        )
        .await;
        peer.sync().await;
        // CONNECT without the fields changes nothing of that.
        peer.send("CONNECT {}\r\nPUB b 1\r\nx\r\n").await;
        peer.expect("+OK\r\n+OK\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn verbose_says_ok_before_it_delivers() {
    with_each(Limits::default(), async |partner| {
        let mut peer =
            partner.connect_with(r#"CONNECT {"verbose":false,"pedantic":false,"headers":true}"#).await;
        peer.send("CONNECT {\"verbose\":true}\r\nSUB a 1\r\nSUB a 1\r\nPUB a 1\r\nx\r\nPUB a 1\r\ny\r\n")
            .await;
        peer.expect("+OK\r\n+OK\r\n+OK\r\n+OK\r\nMSG a 1 1\r\nx\r\n+OK\r\nMSG a 1 1\r\ny\r\n").await;
        peer.send("HPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\nUNSUB 1 9\r\nUNSUB 77\r\nPING\r\n").await;
        peer.expect("+OK\r\nHMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n+OK\r\n+OK\r\nPONG\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn a_pedantic_client_is_told_and_served() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect_with(r#"CONNECT {"verbose":false,"pedantic":true}"#).await;
        peer.send("SUB > 1\r\n").await;
        for subject in ["a.*", "a.>", ">"] {
            peer.send(format!("PUB {subject} 1\r\nx\r\n")).await;
            peer.expect(format!("-ERR 'Invalid Publish Subject'\r\nMSG {subject} 1 1\r\nx\r\n")).await;
        }
        for subject in ["a..b", ".a", "a."] {
            peer.send(format!("PUB {subject} 1\r\nx\r\n")).await;
            peer.expect("-ERR 'Invalid Publish Subject'\r\n").await;
        }
        peer.send("PUB a* 1\r\nx\r\n").await;
        peer.expect("MSG a* 1 1\r\nx\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn a_second_connect_drops_what_was_subscribed_to() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send(format!("SUB a 1\r\nPUB a 1\r\nx\r\n{CONNECT}\r\nPUB a 1\r\nx\r\n")).await;
        peer.expect("MSG a 1 1\r\nx\r\n").await;
        peer.sync().await;
        peer.send("SUB a 1\r\nPUB a 1\r\nx\r\n").await;
        peer.expect("MSG a 1 1\r\nx\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn what_a_client_should_not_say_is_borne() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send("+OK\r\nPONG\r\nPONG\r\nINFO {}\r\n").await;
        peer.sync().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_said_before_closing_is_done_and_answered() {
    with_each(Limits::default(), async |partner| {
        let mut subscriber = partner.connect().await;
        subscriber.send("SUB a 1\r\n").await;
        subscriber.sync().await;
        let mut publisher = partner.connect().await;
        publisher.send("PUB a 1\r\nx\r\n".repeat(5000)).await;
        drop(publisher);
        subscriber.expect("MSG a 1 1\r\nx\r\n".repeat(5000)).await;
    })
    .await;
}

#[tokio::test]
async fn shutdown_flushes_and_closes_everybody() {
    let server = start(Limits::default(), Some(weir::server::Address::loopback(0))).await;
    let address = server.client_address().unwrap();
    let partner = Partner::Tcp(Box::new(server));
    let mut peer = partner.connect().await;
    let mut other = partner.connect().await;
    peer.send("SUB a 1\r\n").await;
    peer.sync().await;
    other.send("PUB a 1\r\nx\r\n".repeat(1000)).await;
    other.sync().await;
    let Partner::Tcp(server) = partner else { unreachable!() };
    let (rest, stopped) = tokio::join!(peer.rest(), server.shutdown());
    stopped.unwrap();
    assert_eq!(rest, "MSG a 1 1\r\nx\r\n".repeat(1000).into_bytes());
    other.expect_closed().await;
    expect_free(address).await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    use weir::server::{Address, Config, Server};
    let server = start(Limits::default(), Some(Address::loopback(0))).await;
    let port = server.client_address().unwrap().port();
    let listen = Some(Address::loopback(port));
    let error = Server::start(Config { listen, ..Config::default() }).await.expect_err("the port is taken");
    assert_eq!(
        error.to_string(),
        format!("cannot listen on 127.0.0.1:{port} for clients: the port is in use")
    );
    server.shutdown().await.expect("it stops in order");
}
