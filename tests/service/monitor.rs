//! The HTTP monitor: what a device posts, and what comes out on its subject.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{
    DEVICES, SESSIONS, buffer, enable_buffer, event, feed, keys, next, now, post, publish, row, so_far,
    start, streams,
};
use crate::support::jetstream::{header, stream_messages, take, text};
use crate::support::{Server, eventually, http, weir_ok};

#[tokio::test]
async fn s0_010_events_are_published_in_array_order() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.>").await.unwrap();
    client.flush().await.unwrap();
    feed(&server, "dev-1", 1..=50).await;
    feed(&server, "dev-1", 51..=60).await;
    for number in 1..=60_u64 {
        let message = next(&mut all).await;
        assert_eq!(message.subject.as_str(), "monitor.dev-1");
        let value: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(value["n"], number);
    }
    assert!(so_far(&client, &mut all).await.is_empty());
}

#[tokio::test]
async fn s0_011_the_http_address_is_a_flag_with_a_default() {
    let server = Server::weir().bare().args(["--port", "-1"]).start_at_usual_ports().await;
    assert_eq!(server.http(), "127.0.0.1:5555");
    feed(&server, "dev-1", [1]).await;
    drop(server);

    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let server = Server::weir().bare().args(["--port", "-1", "--http", &address]).start().await;
    assert_eq!(server.http(), address);
    feed(&server, "dev-1", [1]).await;
}

#[tokio::test]
async fn s0_012_a_bad_body_is_refused_and_nothing_is_published() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.>").await.unwrap();
    client.flush().await.unwrap();
    let good = event(1).to_string();
    let bodies = [
        "{}".to_owned(),
        "hello".to_owned(),
        String::new(),
        "[]".to_owned(),
        "[1]".to_owned(),
        "null".to_owned(),
        "\"text\"".to_owned(),
        format!("[{good},1]"),
        format!("[{good},"),
        format!("[{good}]x"),
        "[{\"type\":1}]".to_owned(),
    ];
    for body in &bodies {
        let answer = http::post_bytes(server.http(), "/monitor/dev-1", body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
        assert!(!answer.text().trim().is_empty(), "{body:?} was refused without a reason");
    }
    let answer = http::post_bytes(server.http(), "/monitor/dev-1", b"[{\"data\":{\"a\":\"\xff\"}}]").await;
    assert_eq!(answer.status, 400, "bytes that are no UTF-8: {}", answer.text());
    assert!(so_far(&client, &mut all).await.is_empty());
}

#[tokio::test]
async fn s0_013_a_missing_device_id_is_refused() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe(">").await.unwrap();
    client.flush().await.unwrap();
    for path in ["/monitor/", "/monitor", "/monitor/%20", "/monitor//"] {
        let answer = http::post(server.http(), path, &json!([event(1)])).await;
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    let messages = so_far(&client, &mut all).await;
    assert!(!messages.iter().any(|message| message.subject.starts_with("monitor")), "{messages:?}");
}

#[tokio::test]
async fn s0_014_ids_that_are_no_subject_tokens_are_encoded_or_refused() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.>").await.unwrap();
    client.flush().await.unwrap();
    let encoded = [
        ("a.b", "monitor.a=2Eb"),
        ("%2A", "monitor.=2A"),
        ("*", "monitor.=2A"),
        ("%3E", "monitor.=3E"),
        ("a%20b", "monitor.a=20b"),
        ("a%3Db", "monitor.a=3Db"),
        ("%C3%A9", "monitor.=C3=A9"),
        ("Dev_1-x", "monitor.Dev_1-x"),
    ];
    for (id, subject) in encoded {
        feed(&server, id, [1]).await;
        assert_eq!(next(&mut all).await.subject.as_str(), subject, "{id}");
    }
    let longest = "x".repeat(128);
    feed(&server, &longest, [1]).await;
    assert_eq!(next(&mut all).await.subject.as_str(), format!("monitor.{longest}"));
    let answer = post(&server, &"x".repeat(129), &json!([event(1)])).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("128"), "the limit is named: {}", answer.text());
    // One id in two spellings would be two devices with one row.
    let answer = post(&server, "dev_1-X", &json!([event(1)])).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert!(answer.text().contains("Dev_1-x"), "the first spelling is named: {}", answer.text());
    assert!(so_far(&client, &mut all).await.is_empty());
}

#[tokio::test]
async fn s0_015_missing_ids_and_timestamps_are_filled_in_and_given_ones_kept() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.>").await.unwrap();
    client.flush().await.unwrap();
    let before = now();
    let given = json!({"id": "event-7", "type": "state", "symbol": "s", "timestamp": "2020-01-02T03:04:05.678Z", "data": {}});
    let answer = post(&server, "dev-1", &json!([event(1), event(2), given])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let messages = take(&mut all, 3).await;
    let ids: Vec<&str> = messages.iter().map(|m| header(m, "X-Monitor-Id").unwrap()).collect();
    assert!(!ids[0].is_empty() && !ids[1].is_empty() && ids[0] != ids[1], "{ids:?}");
    assert_eq!(ids[2], "event-7");
    let time = |index: usize| header(&messages[index], "X-Monitor-Timestamp").unwrap();
    let filled = weir_protocol::time::parse_rfc3339(time(0)).unwrap();
    assert!((before - 1_000_000_000..=now()).contains(&filled), "{}", time(0));
    assert_eq!(
        weir_protocol::time::parse_rfc3339(time(2)),
        weir_protocol::time::parse_rfc3339("2020-01-02T03:04:05.678Z"),
        "{}",
        time(2)
    );
}

#[tokio::test]
async fn s0_016_a_device_in_the_body_does_not_count() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.>").await.unwrap();
    client.flush().await.unwrap();
    let mut spoofed = event(1);
    spoofed["device"] = json!("evil");
    let answer = post(&server, "good", &json!([spoofed])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let message = next(&mut all).await;
    assert_eq!(message.subject.as_str(), "monitor.good");
    assert_eq!(header(&message, "X-Monitor-Device"), Some("good"));
    assert!(so_far(&client, &mut all).await.is_empty());
    eventually("the device has a row", || async { row(&client, DEVICES, "good").await }).await;
    assert!(row(&client, DEVICES, "evil").await.is_none());
}

#[tokio::test]
async fn s0_017_headers_carry_the_event_and_the_payload_is_its_data() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.dev-1").await.unwrap();
    client.flush().await.unwrap();
    let data = json!({"c": 21.5, "deep": {"list": [1, "zwei", null, true]}, "text": "\u{fc}\"\\"});
    let sent = json!([{"id": "i1", "type": "signal", "symbol": "demo/temp", "timestamp": "2026-01-02T03:04:05Z", "data": data}]);
    let answer = post(&server, "dev-1", &sent).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let message = next(&mut all).await;
    let expected = [
        ("X-Monitor-Device", "dev-1"),
        ("X-Monitor-Id", "i1"),
        ("X-Monitor-Type", "signal"),
        ("X-Monitor-Timestamp", "2026-01-02T03:04:05Z"),
        ("X-Monitor-Symbol", "demo/temp"),
        ("Nats-Msg-Id", "i1"),
    ];
    for (name, value) in expected {
        assert_eq!(header(&message, name), Some(value), "{name}");
    }
    assert_eq!(serde_json::from_slice::<Value>(&message.payload).unwrap(), data, "{}", text(&message));
    // A value from outside cannot add a header line.
    let sent = json!([{"id": "i2", "type": "a\r\nX-Evil: 1", "symbol": "b\nc", "data": {}}]);
    let answer = post(&server, "dev-1", &sent).await;
    if answer.status == 200 {
        let message = next(&mut all).await;
        assert_eq!(header(&message, "X-Evil"), None);
    } else {
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
}

#[tokio::test]
async fn s0_018_the_older_form_without_headers_is_understood() {
    let server = Server::start().await;
    let client = server.connect().await;
    let old = |kind: &str, n: u64| {
        json!({"id": format!("{kind}-{n}"), "device": "dev-1", "type": kind, "symbol": "s",
               "timestamp": "2026-01-02T03:04:05Z", "data": {"n": n}})
        .to_string()
    };
    let url = server.url();
    let tail = tokio::spawn(async move {
        weir_ok(&url, &["data", "tail", "--device-id", "dev-1", "--type", "state", "--count", "2"]).await
    });
    // The tail is there once a message reaches it: publish until it has what it wants.
    let mut number = 0;
    while !tail.is_finished() {
        number += 1;
        publish(&client, "monitor.dev-1", old("call", number)).await;
        publish(&client, "monitor.dev-1", old("state", number)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(number < 600, "the tail never ended");
    }
    let printed = tail.await.unwrap();
    assert!(printed.contains("state-") && !printed.contains("call-"), "{printed}");

    start(&client, "dev-1", "old").await;
    publish(&client, "monitor.dev-1", old("state", 9000)).await;
    crate::fixture::has_messages(&client, "STREAMS_REC_old", 1).await;
    crate::fixture::stop(&client, "old").await;
    let mut target = client.subscribe("out.dev-1").await.unwrap();
    client.flush().await.unwrap();
    weir_ok(&server.url(), &["replay", "old", "--target", "out.dev-1"]).await;
    assert_eq!(text(&next(&mut target).await), old("state", 9000));
}

#[tokio::test]
async fn s0_019_the_answer_comes_after_the_whole_batch_is_accepted() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "5m").await;
    for round in 0..5 {
        feed(&server, "dev-1", round * 1000..(round + 1) * 1000).await;
        assert_eq!(stream_messages(&client, &buffer("dev-1")).await, (round + 1) * 1000);
    }
}

#[tokio::test]
async fn s0_020_nothing_is_stored_without_buffer_or_recording() {
    let server = Server::start().await;
    let client = server.connect().await;
    feed(&server, "dev-1", 1..=100).await;
    publish(&client, "monitor.dev-2", "x").await;
    eventually("the device has a row", || async { row(&client, DEVICES, "dev-1").await }).await;
    let stored = streams(&client, "").await;
    assert!(stored.iter().all(|name| name.starts_with("KV_")), "{stored:?}");
    let rows = stream_messages(&client, &format!("KV_{DEVICES}")).await;
    feed(&server, "dev-1", 101..=200).await;
    assert_eq!(stream_messages(&client, &format!("KV_{DEVICES}")).await, rows, "a row for each post");
    assert_eq!(streams(&client, "").await, stored);
}

#[tokio::test]
async fn s0_021_a_device_gets_a_row_on_its_first_post() {
    let server = Server::start().await;
    let client = server.connect().await;
    assert!(row(&client, DEVICES, "dev-new").await.is_none());
    feed(&server, "dev-new", [1]).await;
    let device = eventually("the row", || async { row(&client, DEVICES, "dev-new").await }).await;
    assert!(device.is_object(), "{device}");
    feed(&server, "A.b", [1]).await;
    eventually("the encoded row", || async { row(&client, DEVICES, "a=2eb").await }).await;
    assert_eq!(keys(&client, DEVICES).await, ["a=2eb", "dev-new"]);
}

#[tokio::test]
async fn s0_022_auto_recording_starts_one_session_for_each_new_device() {
    let server = Server::weir().args(["--auto-record"]).start().await;
    let client = server.connect().await;
    start(&client, "known", "mine").await;
    let posts: Vec<_> = (0..50)
        .map(|number| {
            let (http, device) = (server.http().to_owned(), if number % 5 == 4 { "known" } else { "fresh" });
            tokio::spawn(async move {
                http::post(&http, &format!("/monitor/{device}"), &json!([event(number)])).await.status
            })
        })
        .collect();
    for answer in posts {
        assert_eq!(answer.await.unwrap(), 200);
    }
    let of = |device: &'static str| {
        let client = client.clone();
        async move {
            let mut found = Vec::new();
            for key in keys(&client, SESSIONS).await {
                if let Some(session) = row(&client, SESSIONS, &key).await
                    && session["device_id"] == device
                {
                    found.push(session);
                }
            }
            found
        }
    };
    let fresh = eventually("the new device is recorded", || async {
        let found = of("fresh").await;
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(fresh.len(), 1, "{fresh:?}");
    feed(&server, "fresh", [100]).await;
    feed(&server, "known", [100]).await;
    assert_eq!(of("fresh").await.len(), 1);
    assert_eq!(of("known").await.len(), 1);
}

#[tokio::test]
async fn s0_023_a_body_too_large_is_refused_without_taking_memory() {
    let server = Server::start().await;
    feed(&server, "dev-1", [1]).await;
    let before = server.resident();
    let body = vec![b' '; 100 * 1024 * 1024];
    let answer = http::post_bytes(server.http(), "/monitor/dev-1", &body).await;
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(!answer.text().trim().is_empty(), "413 says why");
    // The same without a length: only reading shows how much it is.
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20)).repeat(20);
    let status = chunked(server.http(), chunk.as_bytes()).await;
    assert_eq!(status, 413);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "resident memory grew by {grown} bytes");
    feed(&server, "dev-1", [2]).await;
}

/// Sends a chunked body that never ends and reads the status.
async fn chunked(address: &str, chunks: &[u8]) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stream = tokio::net::TcpStream::connect(address).await.expect("connect");
    let (mut reader, mut writer) = stream.into_split();
    let head = format!(
        "POST /monitor/dev-1 HTTP/1.1\r\nHost: {address}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let bytes = [head.as_bytes(), chunks].concat();
    let sending = tokio::spawn(async move {
        drop(writer.write_all(&bytes).await);
        writer
    });
    let mut answer = vec![0; 12];
    let read = tokio::time::timeout(crate::support::PATIENCE, reader.read_exact(&mut answer)).await;
    read.expect("an answer in time").expect("an answer");
    sending.abort();
    std::str::from_utf8(&answer[9..12]).expect("text").parse().expect("a status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s0_024_parallel_posts_of_many_devices_all_arrive() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.*").await.unwrap();
    client.flush().await.unwrap();
    let devices: Vec<_> = (0..50)
        .map(|device| {
            let http = server.http().to_owned();
            tokio::spawn(async move {
                for number in 0..200 {
                    let path = format!("/monitor/dev-{device}");
                    let answer = http::post(&http, &path, &json!([event(number)])).await;
                    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
                }
            })
        })
        .collect();
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for _ in 0..50 * 200 {
        let message = next(&mut all).await;
        let value: Value = serde_json::from_slice(&message.payload).unwrap();
        found.entry(message.subject.to_string()).or_default().push(value["n"].as_u64().unwrap());
    }
    for device in devices {
        device.await.unwrap();
    }
    assert_eq!(found.len(), 50);
    for (subject, numbers) in found {
        assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "{subject}");
    }
    assert!(so_far(&client, &mut all).await.is_empty());
}

/// A page of somebody else's cannot post here through a visitor's browser, and a name that was rebound to this address
/// neither.
#[tokio::test]
async fn a_foreign_origin_or_host_is_refused() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut all = client.subscribe("monitor.>").await.unwrap();
    client.flush().await.unwrap();
    let body = json!([event(1)]).to_string();
    for headers in [[("Origin", "http://evil.example")], [("Host", "evil.example")]] {
        let answer = http::request(server.http(), "POST", "/monitor/dev-1", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.text());
    }
    assert!(so_far(&client, &mut all).await.is_empty());
}
