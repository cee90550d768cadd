//! What `weir serve` refuses at its start: an error that names the thing and what to do, nothing half-made.

use std::path::Path;

use crate::support::Server;
use crate::support::jetstream::{create_stream, store, stream_messages};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_none_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    for flag in ["--host", "--http"] {
        let value = if flag == "--http" { "m\u{fc}ller:0" } else { "m\u{fc}ller" };
        refused(&store, &[flag, value], &["m\u{fc}ller", "no name of a host", flag]).await;
    }
    refused(&store, &["--host", "203.0.113.7"], &["203.0.113.7", "--host"]).await;
    assert!(!store.exists(), "a start that is refused at a name makes no store");
}

/// Starts `weir serve ARGS` on that store, which must be refused with words that contain all of `parts`.
async fn refused(store: &Path, args: &[&str], parts: &[&str]) {
    let (status, output) = Server::weir().store(store).args(args).start_failing().await;
    assert!(!status.success(), "{args:?} ended with {status}:\n{output}");
    for part in parts {
        assert!(output.contains(part), "{args:?}: {part:?} is not in\n{output}");
    }
    assert!(!output.contains("panicked"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let store = folder.path().join("store");
    refused(
        &store,
        &["--port", &port],
        &[&port, "for clients", "in use", "--port PORT; -1 takes a free one"],
    )
    .await;
    let http = format!("127.0.0.1:{port}");
    refused(
        &store,
        &["--http", &http],
        &[&port, "for HTTP", "in use", "--http HOST:PORT; port 0 takes a free one"],
    )
    .await;
    let monitor = ["--monitor-port", &port];
    refused(
        &store,
        &monitor,
        &[&port, "for monitoring", "in use", "--monitor-port PORT; -1 takes a free one"],
    )
    .await;
    assert!(!store.exists(), "a start that is refused at a port makes no store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_refused_and_its_owner_goes_on() {
    let server = Server::start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "S", "subjects": ["s"]})).await;
    store(&client, "s", "1").await;
    let path = server.store().to_str().expect("a path in UTF-8");
    refused(server.store(), &[], &[path, "in use", "hint: stop the weir that runs on it"]).await;
    store(&client, "s", "2").await;
    assert_eq!(stream_messages(&client, "S").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_can_be_no_store_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a-file");
    std::fs::write(&file, "something").expect("a file");
    refused(&file, &[], &["a-file"]).await;
    refused(&file.join("below"), &[], &["a-file"]).await;
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "something", "it is untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_nats_server_is_named_with_a_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let stream = folder.path().join("jetstream/$G/streams/ORDERS");
    std::fs::create_dir_all(stream.join("msgs")).expect("folders");
    std::fs::write(stream.join("meta.inf"), "{}").expect("a file");
    refused(folder.path(), &[], &["nats-server", "mirror or source"]).await;
    let entries: Vec<_> = std::fs::read_dir(folder.path()).expect("the folder").collect();
    assert_eq!(entries.len(), 1, "nothing was put beside it: {entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_outside_their_limits_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    for (args, parts) in [
        (&["--port", "70000"][..], &["70000"][..]),
        (&["--http", "nonsense"], &["nonsense"]),
        (&["--monitor-prefix", "a.*"], &["a.*"]),
        (&["--command-subject", "with space"], &["with space"]),
        (&["--session-bucket", "a.b"], &["a.b"]),
        (&["--default-buffer", "soon"], &["soon"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["--server", "http://example.test"], &["--server"]),
    ] {
        refused(&store, args, parts).await;
    }
    assert!(!store.exists(), "a refused start makes no store");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_server_that_is_not_there_is_named() {
    let (status, output) = Server::services_of("nats://127.0.0.1:1").start_failing().await;
    assert!(!status.success());
    assert!(output.contains("127.0.0.1:1"), "{output}");
    let (status, output) = Server::services_of(":").start_failing().await;
    assert!(!status.success());
    assert!(output.contains("error: --server: \":\" is not a NATS URL: the host is missing"), "{output}");
}
