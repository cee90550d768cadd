//! Streams: configuration, limits, purge, delete, and the calls behind `nats stream ...`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::jetstream::{
    SECOND, all_messages, create_consumer, create_stream, get_message, store, store_with, stream_info,
    stream_messages,
};
use crate::support::{Server, api, eventually, refused, succeeded};

/// A memory stream for live data, every field given.
fn trade() -> Value {
    json!({
        "name": "TRADE", "subjects": ["TRADE.trade.>", "TRADE.depth.>"], "retention": "limits",
        "max_consumers": -1, "max_msgs_per_subject": -1, "max_msgs": -1, "max_bytes": 1_073_741_824_i64,
        "max_age": 5 * SECOND, "max_msg_size": 1_048_576, "storage": "memory", "discard": "old",
        "num_replicas": 1, "no_ack": true, "duplicate_window": SECOND, "sealed": false,
        "deny_delete": false, "deny_purge": false, "description": "live trades and depth"
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_002_a_config_with_18_fields_comes_back_unchanged() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let given = trade();
    assert_eq!(given.as_object().expect("an object").len(), 18);
    create_stream(&client, given.clone()).await;
    let info = stream_info(&client, "TRADE").await;
    for (field, value) in given.as_object().expect("an object") {
        assert_eq!(&info["config"][field], value, "{field}");
    }
    // The same config again is no error, another one is.
    create_stream(&client, given.clone()).await;
    let mut other = given;
    other["max_age"] = json!(6 * SECOND);
    refused(&api(&client, "STREAM.CREATE.TRADE", &other).await, 10058);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_003_memory_streams_start_empty_and_file_streams_keep_their_messages() {
    let mut server = Server::broker().start().await;
    let client = server.connect().await;
    let on_file =
        json!({"name": "FILE", "subjects": ["file.>"], "storage": "file", "max_age": 3600 * SECOND});
    let in_memory = json!({"name": "MEMORY", "subjects": ["memory.>"], "storage": "memory", "max_msgs": 77});
    create_stream(&client, on_file).await;
    create_stream(&client, in_memory).await;
    for n in 1..=10 {
        store(&client, "file.a", format!("{n}")).await;
        store(&client, "memory.a", format!("{n}")).await;
    }
    let before = all_messages(&client, "FILE").await;
    assert!(server.stop().await.success());
    server.restart().await;

    let client = server.connect().await;
    assert_eq!(all_messages(&client, "FILE").await, before);
    assert_eq!(stream_info(&client, "FILE").await["config"]["max_age"], 3600 * SECOND);
    if server.is_nats_server() {
        return; // It forgets memory streams altogether: a listed difference.
    }
    let memory = stream_info(&client, "MEMORY").await;
    assert_eq!(memory["config"]["max_msgs"], 77);
    assert_eq!(memory["state"]["messages"], 0);
    let next = store(&client, "memory.a", "after").await;
    assert!(next["seq"].as_u64() > Some(10), "a sequence is never used twice: {next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_004_max_age_removes_messages_without_traffic() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let begin = Instant::now();
    for storage in ["memory", "file"] {
        let config = json!({"name": storage, "subjects": [format!("{storage}.>")], "storage": storage,
            "max_age": 2 * SECOND});
        create_stream(&client, config).await;
        for _ in 0..5 {
            store(&client, &format!("{storage}.x"), "x").await;
        }
    }
    for storage in ["memory", "file"] {
        let state = eventually("the messages expire", || async {
            let state = stream_info(&client, storage).await["state"].clone();
            (state["messages"] == 0).then_some(state)
        })
        .await;
        assert!(begin.elapsed() >= Duration::from_millis(1950), "gone after {:?}", begin.elapsed());
        assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(6), &json!(5)));
        assert_eq!(state["first_ts"], "0001-01-01T00:00:00Z");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_005_max_bytes_with_discard_old_keeps_the_newest() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    for storage in ["memory", "file"] {
        let config = json!({"name": storage, "subjects": [storage], "storage": storage, "max_bytes": 10_000,
            "discard": "old"});
        create_stream(&client, config).await;
        for n in 0..30 {
            store(&client, storage, format!("{n:0>1000}")).await;
        }
        let state = stream_info(&client, storage).await["state"].clone();
        // nats-server's own count of a record: the length of subject and payload, and a fixed part per storage.
        let record = 1000 + storage.len() as u64 + if storage == "file" { 30 } else { 16 };
        let kept = 10_000 / record;
        assert_eq!(state["messages"], kept, "{storage}: {state}");
        assert_eq!(state["bytes"], kept * record, "{storage}: {state}");
        assert_eq!(state["first_seq"], 30 - kept + 1, "{storage}: {state}");
        let newest = all_messages(&client, storage).await;
        let expected: Vec<String> = (30 - kept..30).map(|n| format!("{n:0>1000}")).collect();
        assert_eq!(newest.iter().map(|m| m.text()).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_006_a_bad_duplicate_window_is_refused() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let with = |window: i64| json!({"name": "S", "max_age": 5 * SECOND, "duplicate_window": window});
    let longer = api(&client, "STREAM.CREATE.S", &with(6 * SECOND)).await;
    refused(&longer, 10052);
    assert_eq!(longer["error"]["description"], "duplicates window can not be larger then max age");
    let shorter = api(&client, "STREAM.CREATE.S", &with(99_000_000)).await;
    refused(&shorter, 10052);
    assert_eq!(shorter["error"]["description"], "duplicates window needs to be >= 100ms");
    refused(&api(&client, "STREAM.INFO.S", &Value::Null).await, 10059);
    succeeded(api(&client, "STREAM.CREATE.S", &with(5 * SECOND)).await);
}

async fn stream_count(client: &async_nats::Client) -> u64 {
    api(client, "INFO", &Value::Null).await["streams"].as_u64().expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_014_the_calls_behind_list_info_state_subjects_find_and_report() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    // Weir's own services keep their buckets, after these by name; nats-server has none.
    let before = stream_count(&client).await;
    for name in ["B", "A", "KV_bucket"] {
        create_stream(&client, json!({"name": name, "subjects": [format!("{name}.>")]})).await;
    }
    for subject in ["A.x", "A.x", "A.y"] {
        store(&client, subject, "1").await;
    }
    let names = succeeded(api(&client, "STREAM.NAMES", &json!({"offset": 0})).await);
    assert_eq!(names["type"], "io.nats.jetstream.api.v1.stream_names_response");
    let first: Vec<Value> = names["streams"].as_array().expect("an array").iter().take(3).cloned().collect();
    assert_eq!(first, ["A", "B", "KV_bucket"]);
    assert_eq!((&names["total"], &names["limit"]), (&json!(before + 3), &json!(1024)));
    let by_subject = succeeded(api(&client, "STREAM.NAMES", &json!({"subject": "B.anything"})).await);
    assert_eq!(by_subject["streams"], json!(["B"]));

    let list = succeeded(api(&client, "STREAM.LIST", &json!({"offset": 0})).await);
    assert_eq!(list["type"], "io.nats.jetstream.api.v1.stream_list_response");
    assert_eq!(list["limit"], 256);
    let streams = list["streams"].as_array().expect("an array");
    assert_eq!(
        streams.iter().take(3).map(|s| s["config"]["name"].clone()).collect::<Vec<_>>(),
        ["A", "B", "KV_bucket"]
    );
    assert_eq!(streams[0]["state"]["messages"], 3);
    assert_eq!(streams[0]["config"]["num_replicas"], 1);
    let past_the_end = succeeded(api(&client, "STREAM.LIST", &json!({"offset": 99})).await);
    assert_eq!(past_the_end["streams"], json!([]));

    let info = stream_info(&client, "A").await;
    assert_eq!(info["type"], "io.nats.jetstream.api.v1.stream_info_response");
    for field in ["config", "created", "state", "ts", "cluster"] {
        assert!(!info[field].is_null(), "{field}: {info}");
    }
    assert_eq!(info["state"]["num_subjects"], 2);
    let subjects = succeeded(api(&client, "STREAM.INFO.A", &json!({"subjects_filter": ">"})).await);
    assert_eq!(subjects["state"]["subjects"], json!({"A.x": 2, "A.y": 1}));
    assert_eq!((&subjects["total"], &subjects["limit"]), (&json!(2), &json!(100_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_015_a_deleted_stream_takes_its_consumers_along() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "TRADE", "subjects": ["trade.>"]})).await;
    create_consumer(&client, "TRADE", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
    store(&client, "trade.x", "1").await;
    let deleted = succeeded(api(&client, "STREAM.DELETE.TRADE", &Value::Null).await);
    assert_eq!(deleted["success"], true);
    assert_eq!(deleted["type"], "io.nats.jetstream.api.v1.stream_delete_response");
    refused(&api(&client, "STREAM.INFO.TRADE", &Value::Null).await, 10059);
    refused(&api(&client, "CONSUMER.INFO.TRADE.C", &Value::Null).await, 10059);
    // The subject is free again, and a stream of the same name starts from nothing.
    let answer = client.request("trade.x", "2".into()).await;
    assert!(answer.is_err(), "nobody stores it any more: {answer:?}");
    create_stream(&client, json!({"name": "TRADE", "subjects": ["trade.>"]})).await;
    assert_eq!(store(&client, "trade.x", "3").await["seq"], 1);
    refused(&api(&client, "CONSUMER.INFO.TRADE.C", &Value::Null).await, 10014);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_028_purge_by_subject_by_sequence_and_keep() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    for storage in ["memory", "file"] {
        create_stream(
            &client,
            json!({"name": storage, "subjects": [format!("{storage}.*")], "storage": storage}),
        )
        .await;
        for n in 1..=10 {
            let subject = if n % 2 == 0 { "even" } else { "odd" };
            store(&client, &format!("{storage}.{subject}"), format!("{n}")).await;
        }
        let purge = async |body: Value| {
            let answer = succeeded(api(&client, &format!("STREAM.PURGE.{storage}"), &body).await);
            assert_eq!(answer["success"], true);
            answer["purged"].as_u64().expect("a count")
        };
        let left = async || all_messages(&client, storage).await.iter().map(|m| m.seq).collect::<Vec<_>>();
        assert_eq!(purge(json!({"seq": 3})).await, 2);
        assert_eq!(left().await, [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(purge(json!({"filter": format!("{storage}.even"), "keep": 2})).await, 2);
        assert_eq!(left().await, [3, 5, 7, 8, 9, 10]);
        assert_eq!(purge(json!({"filter": format!("{storage}.odd"), "seq": 8})).await, 3);
        assert_eq!(left().await, [8, 9, 10]);
        assert_eq!(purge(json!({"filter": format!("{storage}.even")})).await, 2);
        assert_eq!(left().await, [9]);
        assert_eq!(purge(json!({"keep": 1})).await, 0);
        assert_eq!(purge(Value::Null).await, 1);
        let state = stream_info(&client, storage).await["state"].clone();
        assert_eq!((&state["first_seq"], &state["last_seq"]), (&json!(11), &json!(10)), "{state}");
        assert_eq!(store(&client, &format!("{storage}.odd"), "11").await["seq"], 11);
        let both = api(&client, &format!("STREAM.PURGE.{storage}"), &json!({"seq": 1, "keep": 1})).await;
        refused(&both, 10003);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_031_missing_streams_and_consumers_have_their_own_errors() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let missing = api(&client, "STREAM.INFO.NOPE", &Value::Null).await;
    refused(&missing, 10059);
    assert_eq!(missing["error"], json!({"code": 404, "err_code": 10059, "description": "stream not found"}));
    assert_eq!(missing["type"], "io.nats.jetstream.api.v1.stream_info_response");
    refused(&api(&client, "STREAM.DELETE.NOPE", &Value::Null).await, 10059);
    refused(&api(&client, "STREAM.PURGE.NOPE", &Value::Null).await, 10059);
    refused(&api(&client, "STREAM.MSG.GET.NOPE", &json!({"seq": 1})).await, 10059);
    refused(&api(&client, "CONSUMER.INFO.NOPE.C", &Value::Null).await, 10059);
    create_stream(&client, json!({"name": "S", "subjects": ["s"]})).await;
    let missing = api(&client, "CONSUMER.INFO.S.NOPE", &Value::Null).await;
    assert_eq!(
        missing["error"],
        json!({"code": 404, "err_code": 10014, "description": "consumer not found"})
    );
    refused(&api(&client, "CONSUMER.DELETE.S.NOPE", &Value::Null).await, 10014);
    assert_eq!(get_message(&client, "S", &json!({"seq": 1})).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_reject_or_discard_as_configured() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "NEW", "subjects": ["new.*"], "max_msgs": 2, "discard": "new"}))
        .await;
    store(&client, "new.a", "1").await;
    store(&client, "new.a", "2").await;
    let full = store(&client, "new.a", "3").await;
    refused(&full, 10077);
    assert_eq!(full["error"]["description"], "maximum messages exceeded");
    assert_eq!(
        stream_info(&client, "NEW").await["state"]["last_seq"],
        2,
        "a refused message takes no sequence"
    );

    let per_subject =
        json!({"name": "PER", "subjects": ["per.*"], "max_msgs_per_subject": 2, "max_msg_size": 10});
    create_stream(&client, per_subject).await;
    for n in 1..=5 {
        store(&client, "per.a", format!("a{n}")).await;
        store(&client, "per.b", format!("b{n}")).await;
    }
    let kept: Vec<String> = all_messages(&client, "PER").await.iter().map(|m| m.text()).collect();
    assert_eq!(kept, ["a4", "b4", "a5", "b5"]);
    refused(&store(&client, "per.a", "12345678901").await, 10054);
    let last = get_message(&client, "PER", &json!({"last_by_subj": "per.a"})).await.expect("a message");
    assert_eq!((last.seq, last.text()), (9, "a5".to_owned()));

    succeeded(api(&client, "STREAM.MSG.DELETE.PER", &json!({"seq": 9, "no_erase": true})).await);
    assert_eq!(get_message(&client, "PER", &json!({"seq": 9})).await, None);
    refused(&api(&client, "STREAM.MSG.DELETE.PER", &json!({"seq": 9})).await, 10043);
    let info = api(&client, "STREAM.INFO.PER", &json!({"deleted_details": true})).await;
    assert_eq!(info["state"]["deleted"], json!([9]));

    let update = json!({"name": "PER", "subjects": ["per.*"], "max_msgs_per_subject": 1, "max_msgs": 5});
    let updated = succeeded(api(&client, "STREAM.UPDATE.PER", &update).await);
    assert_eq!(updated["config"]["max_msgs"], 5);
    let kept: Vec<String> = all_messages(&client, "PER").await.iter().map(|m| m.text()).collect();
    assert_eq!(kept, ["a4", "b5"]);
    refused(
        &api(&client, "STREAM.CREATE.OTHER", &json!({"name": "OTHER", "subjects": ["per.>"]})).await,
        10065,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rollup_and_expected_headers() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "R", "subjects": ["r.*"], "allow_rollup_hdrs": true})).await;
    for n in 1..=3 {
        store(&client, "r.a", format!("a{n}")).await;
        store(&client, "r.b", format!("b{n}")).await;
    }
    let seq = store_with(&client, "r.a", &[("Nats-Rollup", "sub")], "only").await["seq"].clone();
    assert_eq!(seq, 7);
    let kept: Vec<String> = all_messages(&client, "R").await.iter().map(|m| m.text()).collect();
    assert_eq!(kept, ["b1", "b2", "b3", "only"]);
    refused(&store_with(&client, "r.a", &[("Nats-Expected-Last-Sequence", "6")], "x").await, 10071);
    refused(&store_with(&client, "r.a", &[("Nats-Expected-Last-Subject-Sequence", "6")], "x").await, 10071);
    refused(&store_with(&client, "r.a", &[("Nats-Expected-Stream", "S")], "x").await, 10060);
    refused(&store_with(&client, "r.a", &[("Nats-Expected-Last-Msg-Id", "id")], "x").await, 10070);
    let expected = [
        ("Nats-Expected-Stream", "R"),
        ("Nats-Expected-Last-Sequence", "7"),
        ("Nats-Expected-Last-Subject-Sequence", "7"),
    ];
    assert_eq!(store_with(&client, "r.a", &expected, "x").await["seq"], 8);
    store_with(&client, "r.a", &[("Nats-Rollup", "all")], "all").await;
    assert_eq!(stream_messages(&client, "R").await, 1);
}
