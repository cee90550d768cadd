//! `weir record list`, `show`, `status`, `delete` and `purge-all`.

use serde_json::{Value, json};

use crate::support::capture::{ingest, recording, row, start_recording, stop_recording};
use crate::support::jetstream::{create_stream, stream_info};
use crate::support::{Server, api, eventually, refused, variable, weir_err, weir_ok};

/// Sessions `a1` and `a2` of device `a`, `b1` of device `b`, each with three messages.
async fn three_sessions(server: &Server) -> async_nats::Client {
    let client = server.connect().await;
    for (device, session) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        start_recording(&client, device, session).await;
        ingest(server.http(), device, 1..=3).await;
        stop_recording(&client, session).await;
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_063_list_prints_sessions_filtered_by_device() {
    let server = Server::start().await;
    let url = server.url();
    let empty = weir_ok(&url, &["record", "list"]).await;
    assert!(empty.to_lowercase().contains("no "), "an empty list says so: {empty:?}");
    three_sessions(&server).await;
    let list = weir_ok(&url, &["record", "list"]).await;
    for session in ["a1", "a2", "b1"] {
        let line =
            list.lines().find(|line| line.contains(session)).unwrap_or_else(|| panic!("{session}: {list}"));
        assert!(line.contains('3'), "the number of messages: {line}");
        assert_eq!(
            line.split_whitespace().count(),
            8,
            "session, device, state, start, end, pre-roll, duration, messages: {line}"
        );
    }
    let of_a = weir_ok(&url, &["record", "list", "--device-id", "a"]).await;
    assert!(of_a.contains("a1") && of_a.contains("a2") && !of_a.contains("b1"), "{of_a}");
    let json = weir_ok(&url, &["record", "list", "--device-id", "b", "--json"]).await;
    let json: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let rows = json.first().and_then(Value::as_array).unwrap_or(&json);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["session_id"], "b1");
    assert_eq!(rows[0]["message_count"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_064_show_and_status_print_one_session() {
    let server = Server::start().await;
    let url = server.url();
    let args = [
        "record",
        "start",
        "--device-id",
        "dev",
        "--session-id",
        "s",
        "--retention",
        "24h",
        "--note",
        "first run",
        "--pre-roll",
        "1s",
    ];
    weir_ok(&url, &["device", "buffer", "enable", "--device-id", "dev"]).await;
    weir_ok(&url, &args).await;
    let status = weir_ok(&url, &["record", "status", "--session-id", "s"]).await;
    assert!(status.contains("running"), "{status}");
    ingest(server.http(), "dev", 1..=4).await;
    weir_ok(&url, &["record", "stop", "--session-id", "s"]).await;
    let show = weir_ok(&url, &["record", "show", "--session-id", "s"]).await;
    for part in ["STREAMS_REC_s", "monitor.dev", "24h", "first run", "dev", "s, the pre-roll included"] {
        assert!(show.contains(part), "{part}: {show}");
    }
    let status = weir_ok(&url, &["record", "status", "--session-id", "s"]).await;
    assert!(status.contains("stopped") && status.contains('4'), "{status}");
    let error = weir_err(&url, &["record", "show", "--session-id", "nope"]).await;
    assert!(error.contains("nope"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_065_delete_and_purge_all_remove_streams_and_rows() {
    let server = Server::start().await;
    let url = server.url();
    let client = three_sessions(&server).await;
    weir_ok(&url, &["record", "delete", "--session-id", "a1"]).await;
    refused(&api(&client, &format!("STREAM.INFO.{}", recording("a1")), &Value::Null).await, 10059);
    assert_eq!(row(&client, "streams_session", "a1").await, None);
    let error = weir_err(&url, &["record", "delete", "--session-id", "a1"]).await;
    assert!(error.contains("a1"), "{error}");
    let report = weir_ok(&url, &["record", "purge-all", "--yes"]).await;
    assert!(report.contains('2'), "it reports how many: {report}");
    eventually("no recording is left", || async {
        let names = api(&client, "STREAM.NAMES", &Value::Null).await;
        let names = names["streams"].as_array().cloned().unwrap_or_default();
        let left =
            names.iter().filter(|name| name.as_str().is_some_and(|name| name.starts_with("STREAMS_REC_")));
        (left.count() == 0).then_some(())
    })
    .await;
    for session in ["a2", "b1"] {
        assert_eq!(row(&client, "streams_session", session).await, None);
    }
}

/// `WEIR_RECORD_SECONDS` says for how long: 1 to 3600, 3 when absent.
#[tokio::test(flavor = "multi_thread")]
async fn s0_062_recording_keeps_up_with_10_000_messages_a_second() {
    const RATE: u32 = 10_000;
    let seconds = variable("WEIR_RECORD_SECONDS").map_or(3, |told| {
        let seconds = told.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
        seconds.unwrap_or_else(|| panic!("WEIR_RECORD_SECONDS is {told:?}; it lies between 1 and 3600"))
    });
    let server = Server::start().await;
    let client = server.connect().await;
    start_recording(&client, "dev", "s").await;
    let payload = bytes::Bytes::from(vec![b'x'; 200]);
    let start = std::time::Instant::now();
    // Ten milliseconds' worth at a time, on an absolute schedule: a late batch does not lower the rate.
    for tick in 0..seconds * 100 {
        tokio::time::sleep_until((start + std::time::Duration::from_millis(10) * tick).into()).await;
        for _ in 0..RATE / 100 {
            client.publish("monitor.dev", payload.clone()).await.expect("publish");
        }
    }
    client.flush().await.expect("flush");
    let expected = u64::from(RATE * seconds);
    println!("{expected} messages in {:?}", start.elapsed());
    stop_recording(&client, "s").await;
    let state = row(&client, "streams_record_state", "s").await.expect("a state");
    assert_eq!(state["message_count"], expected, "{state}");
    let info = stream_info(&client, &recording("s")).await;
    assert_eq!(info["state"]["messages"], expected, "{info}");
    assert_eq!(info["state"]["num_deleted"].as_u64().unwrap_or_default(), 0, "no gap: {info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_no_plural_and_what_does_not_run_is_named() {
    let server = Server::start().await;
    let url = server.url();
    let client = server.connect().await;
    start_recording(&client, "dev", "s").await;
    ingest(server.http(), "dev", 1..=1).await;
    assert_eq!(weir_ok(&url, &["record", "stop", "s"]).await.trim(), "session s stopped: 1 message");
    assert_eq!(weir_ok(&url, &["record", "stop", "nope"]).await.trim(), "no active recording: nope");
    assert_eq!(weir_ok(&url, &["record", "stop", "--all"]).await.trim(), "no active recording");
    assert!(weir_ok(&url, &["replay", "s"]).await.starts_with("replayed 1 message of s"));
    assert!(weir_err(&url, &["record", "show", "nope"]).await.contains("\"nope\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_an_error_and_leaves_nothing() {
    let server = Server::start().await;
    let (url, client) = (server.url(), server.connect().await);
    let error = weir_err(&url, &["device", "buffer", "disable", "--device-id", "nobody"]).await;
    assert!(error.contains("there is no device \"nobody\""), "{error}");
    create_stream(&client, json!({"name": "MINE", "subjects": ["monitor.mine"]})).await;
    let error = weir_err(&url, &["device", "buffer", "enable", "--device-id", "mine"]).await;
    assert!(error.contains("MINE") && error.contains("monitor.mine"), "{error}");
    let devices = weir_ok(&url, &["device", "list"]).await;
    assert!(devices.contains("no devices"), "{devices}");
    // Ended twice is no mistake.
    start_recording(&client, "dev", "s").await;
    weir_ok(&url, &["record", "stop", "s"]).await;
    weir_ok(&url, &["record", "stop", "s"]).await;
}
