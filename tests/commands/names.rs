//! Names of hosts, which Weir resolves itself: they must work in a static binary, which the C library's resolver does not.

use crate::support::{Server, weir, weir_ok};

/// `localhost`, and the names that `/etc/hosts` gives to this machine.
fn own_names() -> Vec<String> {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut names = vec!["localhost".to_owned(), "weir.localhost".to_owned()];
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        if words.next().is_some_and(|address| address.starts_with("127.")) {
            names.extend(words.map(str::to_owned));
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_this_machine_are_found() {
    let server = Server::start().await;
    let port = server.client_address().rsplit(':').next().expect("a port").to_owned();
    for name in own_names() {
        let list = weir_ok(&format!("nats://{name}:{port}"), &["record", "list"]).await;
        assert_eq!(list.trim(), "no recordings", "{name}");
    }
    let output = weir(&format!("m\u{fc}ller:{port}"), &["record", "list"]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("this is no name of a host"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_listens_on_a_name() {
    let server = Server::weir().args(["--host", "localhost", "--http", "localhost:0"]).start().await;
    assert!(server.client_address().starts_with("127.0.0.1:"), "{}", server.client_address());
    assert!(server.http().starts_with("127.0.0.1:"), "{}", server.http());
    weir_ok(&server.url(), &["device", "list"]).await;
}
