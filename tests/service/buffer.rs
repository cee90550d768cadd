//! Buffers: the last minutes of a device, as a stream that any client can read.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use serde_json::{Value, json};

use crate::fixture::{
    DEVICES, buffer, enable_buffer, exists, feed, has_messages, has_stored, nanos, now, numbers, post,
    publish, row, streams, texts,
};
use crate::support::jetstream::{
    SECOND, all_messages, create_stream, get_message, stream_info, stream_messages,
};
use crate::support::{Server, eventually, weir_err, weir_ok};

#[tokio::test]
async fn s0_026_a_buffer_is_a_stream_on_the_device_s_subjects() {
    let server = Server::start().await;
    let client = server.connect().await;
    let info = enable_buffer(&server, &client, "dev-1", "2m").await;
    let config = &info["config"];
    assert_eq!(config["subjects"], json!(["monitor.dev-1", "monitor.dev-1.>"]));
    assert_eq!(config["max_age"], 120 * SECOND);
    assert_eq!(config["storage"], "memory");
    assert_eq!(config["retention"], "limits");

    feed(&server, "dev-1", [1]).await;
    publish(&client, "monitor.dev-1", "two").await;
    publish(&client, "monitor.dev-1.deep.er", "three").await;
    publish(&client, "monitor.dev-10", "not this one").await;
    publish(&client, "monitor", "nor this").await;
    let messages = has_messages(&client, &buffer("dev-1"), 3).await;
    let subjects: Vec<&str> = messages.iter().map(|message| message.subject.as_str()).collect();
    assert_eq!(subjects, ["monitor.dev-1", "monitor.dev-1", "monitor.dev-1.deep.er"]);
    assert_eq!(texts(&messages[1..]), ["two", "three"]);

    let args = ["device", "buffer", "enable", "--device-id", "dev-2", "--window", "1h", "--storage", "file"];
    weir_ok(&server.url(), &args).await;
    let info =
        eventually("the file buffer", || async { exists(&client, &buffer("dev-2")).await.then_some(()) });
    info.await;
    let config = &stream_info(&client, &buffer("dev-2")).await["config"];
    assert_eq!(config["storage"], "file");
    assert_eq!(config["max_age"], 3600 * SECOND);
}

/// A stream of the user's own on the device's subjects is named, and the device counts as not buffered.
#[tokio::test]
async fn a_stream_of_the_user_s_own_in_the_way_is_named() {
    let server = Server::start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "MINE", "subjects": ["monitor.>"], "storage": "memory"})).await;
    let args = ["device", "buffer", "enable", "--device-id", "dev-1", "--window", "2m"];
    let said = weir_err(&server.url(), &args).await;
    assert!(said.contains("MINE"), "the stream in the way is named: {said}");
    assert!(!exists(&client, &buffer("dev-1")).await);
}

#[tokio::test]
async fn s0_027_a_buffered_message_keeps_payload_headers_and_arrival_time() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "2m").await;
    let mut headers = HeaderMap::new();
    headers.append("X-Own", "one");
    headers.append("X-Own", "two");
    headers.append("x-own", "three");
    let before = now();
    client.publish_with_headers("monitor.dev-1", headers, vec![0, 255, 13, 10, 0].into()).await.unwrap();
    client.flush().await.unwrap();
    let message = has_messages(&client, &buffer("dev-1"), 1).await.remove(0);
    let after = now();
    assert_eq!(message.data, [0, 255, 13, 10, 0]);
    let block = String::from_utf8(message.headers.clone()).unwrap();
    let mut lines: Vec<&str> = block.trim_end().split("\r\n").skip(1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["X-Own: one", "X-Own: two", "x-own: three"], "{block:?}");
    let time = nanos(&json!(message.time));
    assert!((before..=after).contains(&time), "{before} <= {time} <= {after}");
}

#[tokio::test]
async fn s0_028_messages_older_than_the_window_leave_the_buffer() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "2s").await;
    let sent = Instant::now();
    feed(&server, "dev-1", 1..=10).await;
    has_stored(&client, &buffer("dev-1"), 10).await;
    eventually("the buffer is empty", || async {
        (stream_messages(&client, &buffer("dev-1")).await == 0).then_some(())
    })
    .await;
    assert!(sent.elapsed() >= Duration::from_millis(1900), "gone after {:?}", sent.elapsed());
}

#[tokio::test]
async fn s0_029_a_disabled_buffer_stores_nothing_more() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "2m").await;
    feed(&server, "dev-1", 1..=3).await;
    weir_ok(&server.url(), &["device", "buffer", "disable", "--device-id", "dev-1"]).await;
    feed(&server, "dev-1", 4..=6).await;
    publish(&client, "monitor.dev-1", "x").await;
    let captures = crate::support::api(&client, "STREAM.NAMES", &json!({"subject": "monitor.dev-1"})).await;
    assert_eq!(captures["total"], 0, "{captures}");
    if exists(&client, &buffer("dev-1")).await {
        assert!(stream_messages(&client, &buffer("dev-1")).await <= 3);
    }
    // And on again: from now on, and nothing of what came while it was off.
    enable_buffer(&server, &client, "dev-1", "2m").await;
    feed(&server, "dev-1", [7]).await;
    let kept = numbers(&all_messages(&client, &buffer("dev-1")).await);
    assert_eq!(kept.last(), Some(&7));
    assert!(!kept.iter().any(|number| (4..=6).contains(number)), "{kept:?}");
}

#[tokio::test]
async fn s0_030_a_window_changed_in_the_bucket_is_applied() {
    let server = Server::weir().args(["--buffer-refresh", "1s"]).start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "2m").await;
    feed(&server, "dev-1", 1..=3).await;
    let mut device = row(&client, DEVICES, "dev-1").await.unwrap();
    assert_eq!(device["buffer"]["window"], "2m", "{device}");
    device["buffer"]["window"] = json!("4m30s");
    let bucket = async_nats::jetstream::new(client.clone()).get_key_value(DEVICES).await.unwrap();
    bucket.put("dev-1", device.to_string().into()).await.unwrap();
    eventually("the stream has the new window", || async {
        (stream_info(&client, &buffer("dev-1")).await["config"]["max_age"] == 270 * SECOND).then_some(())
    })
    .await;
    assert_eq!(numbers(&all_messages(&client, &buffer("dev-1")).await), [1, 2, 3]);
    // Through the command line it is there when the command ends.
    let info = enable_buffer(&server, &client, "dev-1", "1m").await;
    assert_eq!(info["config"]["max_age"], 60 * SECOND);
}

#[tokio::test]
async fn s0_031_info_and_list_show_the_windows() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-a", "2m").await;
    enable_buffer(&server, &client, "dev-b", "1h30m").await;
    weir_ok(&server.url(), &["device", "buffer", "disable", "--device-id", "dev-b"]).await;
    feed(&server, "dev-c", [1]).await;

    let info = weir_ok(&server.url(), &["device", "buffer", "info", "--device-id", "dev-a"]).await;
    assert!(info.contains("2m"), "{info}");
    let info = weir_ok(&server.url(), &["device", "buffer", "info", "--device-id", "dev-b"]).await;
    assert!(info.to_lowercase().contains("disabled"), "{info}");

    let list = weir_ok(&server.url(), &["device", "buffer", "list"]).await;
    let line = |device: &str| {
        list.lines()
            .find(|line| line.contains(device))
            .unwrap_or_else(|| panic!("{device} is not in {list}"))
            .to_lowercase()
    };
    assert!(line("dev-a").contains("2m") && !line("dev-a").contains("disabled"), "{list}");
    assert!(line("dev-b").contains("disabled"), "{list}");
    weir_err(&server.url(), &["device", "buffer", "info", "--device-id", "nobody"]).await;
}

#[tokio::test]
async fn s0_032_similar_ids_do_not_share_a_buffer() {
    let server = Server::start().await;
    let client = server.connect().await;
    let devices = [("dev-1", "dev-1"), ("dev.1", "dev=2E1"), ("DEV_1", "DEV_1"), ("dev 1", "dev=201")];
    for (number, (id, token)) in (1_u64..).zip(devices) {
        weir_ok(&server.url(), &["device", "buffer", "enable", "--device-id", id, "--window", "2m"]).await;
        let stream = buffer(token);
        eventually(&stream, || async { exists(&client, &stream).await.then_some(()) }).await;
        let answer = post(&server, &id.replace(' ', "%20"), &json!([crate::fixture::event(number)])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for (number, (_, token)) in (1_u64..).zip(devices) {
        assert_eq!(numbers(&has_messages(&client, &buffer(token), 1).await), [number], "{token}");
    }
    // Over NATS `monitor.dev.1` is the device `dev`, which has no buffer.
    publish(&client, "monitor.dev.1", "x").await;
    assert_eq!(streams(&client, "STREAMS_BUFFER_").await.len(), 4);
    assert_eq!(stream_messages(&client, &buffer("dev=2E1")).await, 1);
    // A second id in another case is refused, and the first one is named.
    let args = ["device", "buffer", "enable", "--device-id", "dev_1", "--window", "2m"];
    let said = weir_err(&server.url(), &args).await;
    assert!(said.contains("DEV_1"), "{said}");
}

#[tokio::test]
async fn s0_033_a_default_window_applies_to_every_device() {
    let server = Server::weir().args(["--default-buffer", "--buffer-refresh", "1s"]).start().await;
    let client = server.connect().await;
    feed(&server, "dev-http", 1..=3).await;
    let info = eventually("the buffer of a device seen over HTTP", || async {
        exists(&client, &buffer("dev-http")).await.then_some(())
    });
    info.await;
    assert_eq!(stream_info(&client, &buffer("dev-http")).await["config"]["max_age"], 300 * SECOND);
    feed(&server, "dev-http", [4]).await;
    let kept = numbers(&all_messages(&client, &buffer("dev-http")).await);
    assert_eq!(kept.last(), Some(&4), "{kept:?}");

    publish(&client, "monitor.dev-nats", "first").await;
    eventually("the buffer of a device seen over NATS", || async {
        exists(&client, &buffer("dev-nats")).await.then_some(())
    })
    .await;
    // A device that is switched off stays off.
    weir_ok(&server.url(), &["device", "buffer", "disable", "--device-id", "dev-http"]).await;
    feed(&server, "dev-http", [5]).await;
    let captures =
        crate::support::api(&client, "STREAM.NAMES", &json!({"subject": "monitor.dev-http"})).await;
    assert_eq!(captures["total"], 0, "{captures}");
}

#[tokio::test]
async fn s0_034_a_file_buffer_survives_a_restart_and_a_memory_buffer_does_not() {
    let mut server = Server::start().await;
    let client = server.connect().await;
    let args = ["device", "buffer", "enable", "--device-id", "kept", "--window", "10m", "--storage", "file"];
    weir_ok(&server.url(), &args).await;
    enable_buffer(&server, &client, "lost", "10m").await;
    feed(&server, "kept", 1..=20).await;
    feed(&server, "lost", 1..=20).await;
    let before = has_messages(&client, &buffer("kept"), 20).await;
    has_messages(&client, &buffer("lost"), 20).await;
    drop(client);
    assert!(server.stop().await.success());
    server.restart().await;
    let client = server.connect().await;
    assert_eq!(all_messages(&client, &buffer("kept")).await, before);
    assert_eq!(stream_messages(&client, &buffer("lost")).await, 0);
    feed(&server, "kept", [21]).await;
    feed(&server, "lost", [21]).await;
    assert_eq!(numbers(&all_messages(&client, &buffer("kept")).await).last(), Some(&21));
    let after =
        get_message(&client, &buffer("lost"), &json!({"last_by_subj": "monitor.lost"})).await.unwrap();
    assert!(after.seq > 20, "sequence {} was used before the restart", after.seq);
    let device: Value = row(&client, DEVICES, "kept").await.unwrap();
    assert_eq!(device["buffer"]["storage"], "file", "{device}");
}
