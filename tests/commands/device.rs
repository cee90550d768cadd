//! `weir device`: what is shown, what is refused, and that looking changes nothing.

use serde_json::{Value, json};

use crate::support::jetstream::create_stream;
use crate::support::{Server, api, weir_err, weir_ok};

#[tokio::test(flavor = "multi_thread")]
async fn looking_makes_no_bucket() {
    let server = Server::start().await;
    let client = server.connect().await;
    for args in [
        &["device", "list"][..],
        &["device", "get", "dev"],
        &["device", "delete", "dev"],
        &["device", "buffer", "list"],
        &["device", "buffer", "info", "dev"],
        &["device", "buffer", "disable", "dev"],
    ] {
        let error = weir_err(&server.url(), &[args, &["--device-bucket", "typo"]].concat()).await;
        assert!(error.contains("there is no bucket typo"), "{args:?}: {error}");
    }
    let names = api(&client, "STREAM.NAMES", &Value::Null).await;
    assert!(!names.to_string().contains("KV_typo"), "{names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_named_with_or_without_a_flag() {
    let server = Server::start().await;
    let url = server.url();
    weir_ok(&url, &["device", "set", "dev", "--owner", "Ann"]).await;
    let (plain, flag) = (
        weir_ok(&url, &["device", "get", "dev"]).await,
        weir_ok(&url, &["device", "get", "--device-id", "dev"]).await,
    );
    assert_eq!(plain, flag);
    assert!(plain.contains("Ann"), "{plain}");
    weir_ok(&url, &["device", "delete", "dev"]).await;
    assert!(weir_err(&url, &["device", "get", "dev"]).await.contains("dev"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buffer_that_cannot_be_says_why() {
    let server = Server::start().await;
    let (client, url) = (server.connect().await, server.url());
    create_stream(&client, json!({"name": "MINE", "subjects": ["monitor.dev"]})).await;
    weir_ok(&url, &["device", "set", "dev", "--buffer", "2m"]).await;
    for args in [&["device", "buffer", "info", "dev"][..], &["device", "buffer", "list"]] {
        let shown = weir_ok(&url, args).await;
        assert!(shown.contains("stream MINE takes monitor.dev already"), "{args:?}: {shown}");
    }
    let json: Value =
        serde_json::from_str(&weir_ok(&url, &["device", "buffer", "info", "dev", "--json"]).await)
            .expect("JSON");
    assert_eq!(json["active"], false, "{json}");
    assert!(json["problem"].as_str().is_some_and(|problem| problem.contains("MINE")), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_cannot_be_meant_are_named() {
    let server = Server::start().await;
    for (args, parts) in [
        (&["device", "set", "dev", "--buffer", "-5m"][..], ["-5m", "negative"]),
        (&["device", "buffer", "enable", "dev", "--window", "-5m"], ["-5m", "negative"]),
        (&["device", "buffer", "enable", "dev", "--max-bytes", "-1"], ["-1", "--max-bytes"]),
        (
            &["device", "buffer", "enable", "dev", "--max-bytes", "18446744073709551615"],
            ["18446744073709551615", "--max-bytes"],
        ),
        (&["record", "start", "--pre-roll", "-1m"], ["-1m", "negative"]),
        (&["data", "publish", "--device-id", "dev", "-f", "-", "--interval", "-1s"], ["-1s", "negative"]),
        (
            &["data", "publish", "--device-id", "dev", "-f", "-", "--max-line-bytes", "0"],
            ["--max-line-bytes", "0"],
        ),
        (&["data", "tail", "--count", "-1"], ["-1", "--count"]),
        (&["data", "generate", "-t", "x", "--count", "-1"], ["-1", "--count"]),
    ] {
        let error = weir_err(&server.url(), args).await;
        assert!(!error.contains("unexpected argument"), "{args:?}: {error}");
        for part in parts {
            assert!(error.contains(part), "{args:?}: {part:?} is not in {error}");
        }
    }
}
