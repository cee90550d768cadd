//! Publishing into a stream: acks, duplicates, payloads.

use std::time::Duration;

use serde_json::json;

use crate::support::jetstream::{
    SECOND, all_messages, create_consumer, create_stream, fetch, get_message, store, store_with,
    stream_messages,
};
use crate::support::{Server, undisturbed};

#[tokio::test(flavor = "multi_thread")]
async fn s1_007_a_repeated_message_id_is_stored_once_inside_the_window() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    for storage in ["memory", "file"] {
        let id = [("Nats-Msg-Id", "one")];
        let (name, first, second) = undisturbed(Duration::from_secs(1), async |number| {
            let name = format!("{storage}-{number}");
            let config =
                json!({"name": name, "subjects": [name], "storage": storage, "duplicate_window": SECOND});
            create_stream(&client, config).await;
            let first = store_with(&client, &name, &id, "1").await;
            let second = store_with(&client, &name, &id, "2").await;
            (name, first, second)
        })
        .await;
        assert_eq!(first, json!({"stream": name, "seq": 1}));
        assert_eq!(second, json!({"stream": name, "seq": 1, "duplicate": true}));
        assert_eq!(stream_messages(&client, &name).await, 1);
        tokio::time::sleep(Duration::from_millis(1600)).await;
        let third = store_with(&client, &name, &id, "3").await;
        assert_eq!(third, json!({"stream": name, "seq": 2}));
        let texts: Vec<String> = all_messages(&client, &name).await.iter().map(|m| m.text()).collect();
        assert_eq!(texts, ["1", "3"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn message_ids_are_remembered_over_a_restart() {
    let mut server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "S", "subjects": ["s"]})).await;
    store_with(&client, "s", &[("Nats-Msg-Id", "one")], "1").await;
    server.kill().await;
    server.restart().await;
    let client = server.connect().await;
    let again = store_with(&client, "s", &[("Nats-Msg-Id", "one")], "1").await;
    assert_eq!(again, json!({"stream": "S", "seq": 1, "duplicate": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_008_a_no_ack_stream_stores_and_stays_silent() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "QUIET", "subjects": ["quiet"], "no_ack": true})).await;
    let request = async_nats::Request::new().payload("1".into()).timeout(Some(Duration::from_millis(700)));
    let answer = client.send_request("quiet", request).await;
    let error = answer.expect_err("nobody answers");
    assert_eq!(error.kind(), async_nats::RequestErrorKind::TimedOut, "silence, and no 503 either");
    assert_eq!(stream_messages(&client, "QUIET").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_033_binary_payloads_come_back_byte_for_byte() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    for storage in ["memory", "file"] {
        create_stream(&client, json!({"name": storage, "subjects": [storage], "storage": storage})).await;
        let mut sent: Vec<Vec<u8>> = vec![(0..=255).collect(), Vec::new(), b"\r\nMSG x 1 0\r\n\r\n".to_vec()];
        // A fixed multiplicative sequence stands for protobuf: every byte value, no structure, sizes around the limits
        // of blocks and buffers.
        for size in [1, 127, 128, 4095, 4096, 8191, 16_385, 65_535, 65_536, 1_000_000] {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(size + 1);
            let bytes = (0..size).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            });
            sent.push(bytes.collect());
        }
        for payload in &sent {
            let ack = store(&client, storage, payload.clone()).await;
            assert_eq!(ack["stream"], storage, "{ack}");
        }
        create_consumer(&client, storage, json!({"durable_name": "C", "ack_policy": "none"})).await;
        let pulled = fetch(&client, storage, "C", sent.len() as u64).await;
        assert_eq!(pulled.messages.len(), sent.len());
        for (n, (message, payload)) in pulled.messages.iter().zip(&sent).enumerate() {
            assert!(message.payload == *payload, "payload {n} of {} bytes differs", payload.len());
            let seq = n as u64 + 1;
            let stored = get_message(&client, storage, &json!({"seq": seq})).await.expect("it is stored");
            assert!(stored.data == *payload, "stored payload {n} of {} bytes differs", payload.len());
        }
    }
}
