//! The broker as a library: in another program, with in-process clients, with or without a port.

use std::time::Duration;

use tokio::time::timeout;
use weir::client::{Client, Options, Pipe};
use weir::server::{Address, Config, Server};

async fn client(server: &Server, name: &str) -> Client {
    let in_process = server.in_process();
    Client::over(Pipe::new(move || in_process.connect()), Options::named(name)).await.expect("the pipe opens")
}

/// The sockets of this process that listen, by the kernel's own account.
#[cfg(target_os = "linux")]
fn listening_sockets() -> usize {
    const LISTEN: &str = "0A";
    let own: std::collections::BTreeSet<String> = std::fs::read_dir("/proc/self/fd")
        .expect("this process has files")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .flat_map(|table| {
            std::fs::read_to_string(table).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .filter(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            fields.get(3) == Some(&LISTEN) && fields.get(9).is_some_and(|inode| own.contains(*inode))
        })
        .count()
}

/// One test alone in its process: sockets are counted.
#[tokio::test]
async fn s0_006_embedded_with_in_process_clients_and_no_open_port() {
    let server = Server::start(Config { listen: None, ..Config::default() }).await.expect("it starts");
    assert_eq!((server.client_url(), server.client_address()), (None, None));

    let (publisher, subscriber) = (client(&server, "publisher").await, client(&server, "subscriber").await);
    let mut readings = subscriber.subscribe("readings.*").expect("a filter");
    subscriber.flush().await.expect("the server answers");
    #[cfg(target_os = "linux")]
    assert_eq!(listening_sockets(), 0, "no port is open");

    for number in 0..1000 {
        publisher.publish("readings.a", None, format!("{number}").into()).await.expect("a subject");
    }
    for number in 0..1000 {
        let message =
            timeout(Duration::from_secs(10), readings.next()).await.expect("it comes").expect("it is open");
        assert_eq!(
            (message.subject.as_str(), &message.payload[..]),
            ("readings.a", number.to_string().as_bytes())
        );
    }

    // With a listener the count sees it: the check above can fail.
    let listening = Server::start(Config { listen: Some(Address::loopback(0)), ..Config::default() })
        .await
        .expect("it starts");
    #[cfg(target_os = "linux")]
    assert_eq!(listening_sockets(), 1);
    listening.shutdown().await.expect("it stops in order");

    publisher.drain().await.expect("it is flushed");
    let in_process = server.in_process();
    timeout(Duration::from_secs(10), server.shutdown())
        .await
        .expect("every task ends, with a client still there")
        .expect("in order");
    assert_eq!(
        in_process.connect().expect_err("it has stopped").kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}
