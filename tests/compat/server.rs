//! Starting, listening, stopping: what comes before the first message and after the last.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::jetstream::{all_messages, create_stream, store};
use crate::support::{Server, api, connect, http, succeeded};

#[tokio::test(flavor = "multi_thread")]
async fn s0_001_without_flags_jetstream_is_on_127_0_0_1_4222() {
    // Weir alone.
    let server = Server::weir().bare().start_at_usual_ports().await;
    assert_eq!(server.client_address(), "127.0.0.1:4222");
    assert_eq!(server.http(), "127.0.0.1:5555");
    let client = connect("nats://127.0.0.1:4222").await;
    let info = succeeded(api(&client, "INFO", &Value::Null).await);
    assert_eq!(info["type"], "io.nats.jetstream.api.v1.account_info_response");
    for field in ["memory", "storage", "streams", "consumers", "limits", "api"] {
        assert!(!info[field].is_null(), "{field}: {info}");
    }
    assert!(client.server_info().jetstream);
    // Loopback only: the port is closed on every other address of this machine.
    let addresses =
        std::process::Command::new("hostname").arg("-I").output().map(|o| o.stdout).unwrap_or_default();
    for address in String::from_utf8_lossy(&addresses).split_whitespace().filter(|a| a.contains('.')) {
        let other = tokio::net::TcpStream::connect((address, 4222)).await;
        assert!(other.is_err(), "it also listens on {address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_002_port_minus_1_takes_a_free_port_and_prints_it() {
    let one = Server::broker().start().await;
    let two = Server::broker().start().await;
    assert_ne!(one.client_address(), two.client_address());
    for server in [&one, &two] {
        assert!(server.client_address().starts_with("127.0.0.1:"), "{}", server.client_address());
        let client = server.connect().await;
        client.flush().await.expect("a PING is answered");
        assert_eq!(client.server_info().port.to_string(), server.client_address()["127.0.0.1:".len()..]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_003_a_given_store_survives_shutdown_with_its_data() {
    let mut server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "S", "subjects": ["s.>"]})).await;
    for n in 1..=100 {
        store(&client, "s.x", format!("{n}")).await;
    }
    let before = all_messages(&client, "S").await;
    let status = server.stop().await;
    assert!(status.success(), "SIGTERM ends it with {status}");
    assert!(server.store().is_dir());
    server.restart().await;
    let client = server.connect().await;
    assert_eq!(all_messages(&client, "S").await, before);
    assert_eq!(store(&client, "s.x", "101").await["seq"], 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_004_without_a_store_the_data_is_gone_after_a_clean_stop() {
    // Weir alone: nats-server leaves its folder behind.
    let home = tempfile::tempdir().expect("a folder");
    let mut server = Server::weir()
        .without_store()
        .env("TMPDIR", home.path().to_str().expect("a path in UTF-8"))
        .start()
        .await;
    let log = server.log();
    let line =
        log.lines().find(|line| line.contains("Store Directory: ")).expect("it says where its data is");
    let store_dir = PathBuf::from(line.split('"').nth(1).expect("a quoted path"));
    assert!(store_dir.starts_with(home.path()), "{}", store_dir.display());
    assert!(log.to_lowercase().contains("temporary"), "it says that the store is temporary:\n{log}");
    let client = server.connect().await;
    create_stream(&client, json!({"name": "S", "subjects": ["s"]})).await;
    store(&client, "s", "1").await;
    assert!(store_dir.is_dir());
    assert!(server.stop().await.success());
    let left: Vec<_> = std::fs::read_dir(home.path()).expect("the folder").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_001_healthz_answers_200_once_ready() {
    let server = Server::broker().args(["-m", "-1"]).start().await;
    let health = http::get(server.monitor(), "/healthz").await;
    assert_eq!(health.status, 200, "{}", health.text());
    assert_eq!(health.json()["status"], "ok");
}
