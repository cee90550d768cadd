//! Streams that copy other streams: sources and mirrors.

use serde_json::{Value, json};

use crate::support::jetstream::{
    Stored, all_messages, create_stream, store, store_with, stream_info, stream_messages,
};
use crate::support::{Server, api, eventually, refused, succeeded};

async fn trade_and_record(client: &async_nats::Client) {
    create_stream(client, json!({"name": "TRADE", "subjects": ["trade.>"], "storage": "memory"})).await;
    let record = json!({"name": "RECORD", "subjects": ["record.>"], "storage": "file", "sources": [{"name": "TRADE"}]});
    create_stream(client, record).await;
}

async fn wait_for(client: &async_nats::Client, stream: &str, count: u64) -> Vec<Stored> {
    eventually(&format!("{stream} has {count} messages"), || async {
        (stream_messages(client, stream).await >= count).then_some(())
    })
    .await;
    all_messages(client, stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_009_a_source_copies_everything_in_order_with_its_origin() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    trade_and_record(&client).await;
    for n in 1..=1000 {
        let subject = format!("trade.{}", ["btc", "eth", "xrp"][n % 3]);
        client.publish(subject, format!("{n}").into()).await.expect("publish");
    }
    let copied = wait_for(&client, "RECORD", 1000).await;
    let originals = all_messages(&client, "TRADE").await;
    assert_eq!(copied.len(), 1000);
    for (copy, original) in copied.iter().zip(&originals) {
        assert_eq!((&copy.subject, &copy.data), (&original.subject, &original.data));
        let origin = copy.header("Nats-Stream-Source").expect("the header names the origin");
        let tokens: Vec<&str> = origin.split(' ').collect();
        assert_eq!(tokens, ["TRADE", &original.seq.to_string(), ">", ">", &original.subject]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_010_own_subjects_and_a_source_live_together() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    trade_and_record(&client).await;
    assert_eq!(store(&client, "record.trade.x", "own").await["stream"], "RECORD");
    assert_eq!(store(&client, "trade.x", "sourced").await["stream"], "TRADE");
    let both = wait_for(&client, "RECORD", 2).await;
    let mut subjects: Vec<&str> = both.iter().map(|m| m.subject.as_str()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["record.trade.x", "trade.x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_011_sourcing_resumes_after_a_kill_without_loss_or_duplicate() {
    let mut server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "TRADE", "subjects": ["trade.>"], "storage": "file"})).await;
    create_stream(&client, json!({"name": "RECORD", "sources": [{"name": "TRADE"}]})).await;
    for n in 1..=300 {
        store(&client, "trade.x", format!("{n}")).await;
    }
    // Killed while the copy may still be on its way.
    server.kill().await;
    server.restart().await;
    let client = server.connect().await;
    for n in 301..=400 {
        store(&client, "trade.x", format!("{n}")).await;
    }
    let copied = wait_for(&client, "RECORD", 400).await;
    let expected: Vec<String> = (1..=400).map(|n| n.to_string()).collect();
    assert_eq!(copied.iter().map(Stored::text).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_012_deleting_the_source_leaves_what_was_copied() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    trade_and_record(&client).await;
    for n in 1..=5 {
        store(&client, "trade.x", format!("{n}")).await;
    }
    let before = wait_for(&client, "RECORD", 5).await;
    succeeded(api(&client, "STREAM.DELETE.TRADE", &Value::Null).await);
    assert_eq!(all_messages(&client, "RECORD").await, before);
    assert_eq!(store(&client, "record.x", "own").await["seq"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_013_info_tells_name_lag_and_last_activity_of_a_source() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    trade_and_record(&client).await;
    store(&client, "trade.x", "1").await;
    wait_for(&client, "RECORD", 1).await;
    let info = stream_info(&client, "RECORD").await;
    let source = &info["sources"][0];
    assert_eq!(source["name"], "TRADE");
    assert_eq!(source["lag"], 0);
    let active = source["active"].as_i64().expect("nanoseconds");
    assert!((0..30_000_000_000).contains(&active), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_keeps_sequences_and_times_and_can_be_promoted() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "ORIGIN", "subjects": ["origin.>"]})).await;
    for n in 1..=10 {
        store_with(&client, "origin.x", &[("Mine", "kept")], format!("{n}")).await;
    }
    succeeded(api(&client, "STREAM.MSG.DELETE.ORIGIN", &json!({"seq": 6})).await);
    let originals = all_messages(&client, "ORIGIN").await;
    let from = originals[3].time.clone();
    let mirror = json!({"name": "MIRROR", "mirror": {"name": "ORIGIN", "opt_start_time": from}});
    create_stream(&client, mirror).await;
    let copied = wait_for(&client, "MIRROR", 6).await;
    assert_eq!(copied, originals[3..], "sequence, time, subject, headers, payload: all the same");

    // Still a mirror: nobody else writes to it. Promoted: it has subjects of its own and goes on counting.
    refused(
        &api(
            &client,
            "STREAM.UPDATE.MIRROR",
            &json!({"name": "MIRROR", "subjects": ["m"],
        "mirror": {"name": "ORIGIN", "opt_start_time": from}}),
        )
        .await,
        10034,
    );
    let promoted = json!({"name": "MIRROR", "subjects": ["mirror.>"]});
    let updated = succeeded(api(&client, "STREAM.UPDATE.MIRROR", &promoted).await);
    assert!(updated["config"]["mirror"].is_null(), "{updated}");
    store(&client, "origin.x", "only there").await;
    assert_eq!(store(&client, "mirror.x", "own").await["seq"], 11);
    assert_eq!(stream_messages(&client, "MIRROR").await, 7);
}
