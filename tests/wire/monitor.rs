//! The monitoring pages, and what every user may ask the server over NATS.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, pause, resume, timeout};
use weir::server::{Address, Config, Limits, Server};

use crate::peer::{CONNECT, Peer, with_each};

/// GET on the monitoring port: status line, headers, body.
async fn get(server: &Server, path: &str) -> (String, String, String) {
    let mut stream = TcpStream::connect(server.monitor_address().unwrap()).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("an HTTP response");
    let (status, headers) = head.split_once("\r\n").expect("a status line");
    (status.to_owned(), headers.to_ascii_lowercase(), body.to_owned())
}

async fn page(server: &Server, path: &str) -> Value {
    let (status, _, body) = get(server, path).await;
    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
    serde_json::from_str(&body).expect("JSON")
}

async fn monitored() -> Server {
    let (listen, monitor) = (Some(Address::loopback(0)), Some(Address::loopback(0)));
    Server::start(Config { listen, monitor, ..Config::default() }).await.unwrap()
}

#[tokio::test]
async fn healthz_says_ok_once_ready() {
    let server = monitored().await;
    let (status, headers, body) = get(&server, "/healthz").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "{\"status\":\"ok\"}"));
    assert!(headers.contains("content-type: application/json"));
    assert!(headers.contains("access-control-allow-origin: *"));
    assert!(get(&server, "/").await.2.contains("healthz"));
    assert_eq!(get(&server, "/nope").await.0, "HTTP/1.1 404 Not Found");
    let varz = page(&server, "/varz").await;
    assert_eq!(varz["http_req_stats"], serde_json::json!({"/": 1, "/healthz": 1, "/varz": 1}));
    server.shutdown().await.expect("it stops in order");
}

#[tokio::test]
async fn varz_counts_what_went_through() {
    let server = monitored().await;
    let id = server.id().to_owned();
    let mut peer = Peer::over(TcpStream::connect(server.client_address().unwrap()).await.unwrap());
    peer.info().await;
    peer.send(format!("{CONNECT}\r\nSUB a 1\r\nSUB a 2\r\nPUB a 5\r\nhello\r\nPUB nobody 3\r\nabc\r\n"))
        .await;
    peer.send("HPUB a 12 13\r\nNATS/1.0\r\n\r\nx\r\nPING\r\n").await;
    while peer.line().await != "PONG" {}
    let varz = page(&server, "/varz").await;
    assert_eq!(varz["server_id"], id);
    assert_eq!(varz["version"], "2.14.5");
    assert_eq!([&varz["in_msgs"], &varz["in_bytes"]], [3, 5 + 3 + 13]);
    assert_eq!([&varz["out_msgs"], &varz["out_bytes"]], [4, 10 + 26]);
    assert_eq!([&varz["connections"], &varz["total_connections"], &varz["slow_consumers"]], [1, 1, 0]);
    assert_eq!([&varz["max_payload"], &varz["max_pending"]], [1 << 20, 64 << 20]);
    assert_eq!(
        varz["subscriptions"], 3,
        "two of the client, and the server's own answers to who asks for itself"
    );
    assert!(varz["mem"].as_u64().unwrap() > 0 && varz["cores"].as_u64().unwrap() > 0);
    server.shutdown().await.expect("it stops in order");
}

#[tokio::test]
async fn connz_shows_who_is_there_and_who_was() {
    let server = monitored().await;
    let connect = async |name: &str| {
        let mut peer = Peer::over(TcpStream::connect(server.client_address().unwrap()).await.unwrap());
        peer.info().await;
        peer.send(format!(
            "CONNECT {{\"verbose\":false,\"name\":\"{name}\",\"lang\":\"rust\",\"version\":\"1.2\"}}\r\n"
        ))
        .await;
        peer.sync().await;
        peer
    };
    let mut first = connect("first").await;
    let mut second = connect("second").await;
    first.send("SUB a 1\r\nSUB b.* q 2\r\nPUB a 2\r\nhi\r\n").await;
    first.expect("MSG a 1 2\r\nhi\r\n").await;
    first.sync().await;

    let connz = page(&server, "/connz?subs=detail").await;
    assert_eq!(
        [&connz["num_connections"], &connz["total"], &connz["offset"], &connz["limit"]],
        [2, 2, 0, 1024]
    );
    let shown = &connz["connections"][0];
    assert_eq!(
        [&shown["name"], &shown["lang"], &shown["version"], &shown["kind"], &shown["ip"]],
        ["first", "rust", "1.2", "Client", "127.0.0.1"]
    );
    assert_eq!(
        [
            &shown["in_msgs"],
            &shown["in_bytes"],
            &shown["out_msgs"],
            &shown["out_bytes"],
            &shown["subscriptions"]
        ],
        [1, 2, 1, 2, 2]
    );
    assert_eq!(
        shown["subscriptions_list_detail"],
        serde_json::json!([
            {"subject": "a", "sid": "1", "msgs": 1, "cid": shown["cid"]},
            {"subject": "b.*", "qgroup": "q", "sid": "2", "msgs": 0, "cid": shown["cid"]},
        ])
    );
    let names = |connz: &Value| -> Vec<String> {
        connz["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        page(&server, "/connz?subs=1").await["connections"][0]["subscriptions_list"],
        serde_json::json!(["a", "b.*"])
    );
    assert_eq!(names(&page(&server, "/connz?sort=subs").await), ["first", "second"]);
    assert_eq!(names(&page(&server, "/connz?limit=1&offset=1").await), ["second"]);
    assert_eq!(names(&page(&server, "/connz?cid=2").await), ["second"]);

    second.send("BAD\r\n").await;
    second.rest().await;
    // The end of a connection is noted a moment after it is seen.
    let closed = loop {
        let closed = page(&server, "/connz?state=closed").await;
        if closed["total"] == 1 {
            break closed;
        }
    };
    assert_eq!(
        [&closed["connections"][0]["name"], &closed["connections"][0]["reason"]],
        ["second", "Protocol Violation"]
    );
    assert_eq!(page(&server, "/connz?state=any").await["total"], 2);
    for (query, problem) in [
        ("sort=x", "invalid sorting option: x"),
        ("sort=stop", "sort by stop only valid on closed connections"),
        ("state=x", "Error decoding state for x"),
        ("limit=x", "Error decoding int for 'limit': \"x\" is no number of 0 or more"),
        ("subs=x", "Error decoding boolean for 'subs': \"x\" is neither true nor false"),
    ] {
        let (status, _, body) = get(&server, &format!("/connz?{query}")).await;
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 400 Bad Request", problem));
    }
    server.shutdown().await.expect("it stops in order");
}

#[tokio::test]
async fn a_monitoring_port_in_use_is_named_and_nothing_is_left_running() {
    let server = monitored().await;
    let taken = server.monitor_address().unwrap().port();
    let (listen, monitor) = (Some(Address::loopback(0)), Some(Address::loopback(taken)));
    let error =
        Server::start(Config { listen, monitor, ..Config::default() }).await.expect_err("the port is taken");
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on 127.0.0.1:{taken} for monitoring: the port is in use"))
    );
    server.shutdown().await.expect("it stops in order");
}

#[tokio::test]
async fn every_user_may_ask_who_it_is() {
    with_each(Limits::default(), async |partner| {
        let mut peer = partner.connect().await;
        peer.send("SUB r 1\r\nPUB $SYS.REQ.USER.INFO r 0\r\n\r\n").await;
        assert!(peer.line().await.starts_with("MSG r 1 "));
        let answer: Value = serde_json::from_str(&peer.line().await).expect("JSON");
        assert_eq!(answer["data"], serde_json::json!({"user": "", "account": "$G", "account_name": "$G"}));
        assert_eq!(answer["server"]["ver"], "2.14.5");
        // Everything else below it has no responders for ordinary users.
        peer.send("PUB $SYS.REQ.SERVER.PING r 0\r\n\r\n").await;
        peer.expect("HMSG r 1 52 52\r\nNATS/1.0 503\r\nNats-Subject: $SYS.REQ.SERVER.PING\r\n\r\n\r\n").await;
    })
    .await;
}

/// A client of the monitoring pages that has said this.
async fn visitor(server: &Server, said: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.monitor_address().unwrap()).await.unwrap();
    stream.write_all(said.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn no_visitor_puts_a_stop_off() {
    let server = monitored().await;
    let mut half = visitor(&server, "GET /varz HTTP/1.1\r\nHost: x\r\nX-Half: ").await;
    // Only the stop is timed: while the sockets carry what comes before, paused time would run ahead.
    pause();
    let begin = Instant::now();
    server.shutdown().await.expect("it stops in order");
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(!matches!(half.read(&mut [0; 1]).await, Ok(1..)), "nobody answers");
    resume();

    // A page longer than the sockets hold, of which nobody reads more than the first byte.
    let server = monitored().await;
    let mut peer = Peer::over(server.connect_in_process());
    peer.info().await;
    peer.send(format!("{CONNECT}\r\n")).await;
    for sid in 0..8000 {
        peer.send(format!("SUB {}.{sid} {sid}\r\n", "x".repeat(4000))).await;
    }
    peer.sync().await;
    let mut deaf = visitor(&server, "GET /connz?subs=1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    deaf.read_exact(&mut [0; 1]).await.expect("it is answered");
    pause();
    let begin = Instant::now();
    timeout(Duration::from_secs(3600), server.shutdown()).await.expect("it ends").expect("in order");
    let span = begin.elapsed().as_secs_f64();
    assert!((5.0..6.0).contains(&span), "{span} s: as long as a request under way is waited for");
}
