//! Key-value buckets as the client libraries use them.

use async_nats::jetstream;
use async_nats::jetstream::kv::{Config, Operation};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::support::{PATIENCE, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_puts_gets_creates_updates_deletes_and_purges() {
    let server = Server::broker().start().await;
    let context = jetstream::new(server.connect().await);
    let config = Config { bucket: "settings".to_owned(), history: 3, ..Config::default() };
    let bucket = context.create_key_value(config).await.expect("a bucket");
    assert_eq!(bucket.put("a.b", "1".into()).await.expect("put"), 1);
    assert_eq!(bucket.put("a.b", "2".into()).await.expect("put"), 2);
    assert_eq!(bucket.get("a.b").await.expect("get"), Some(Bytes::from("2")));
    assert_eq!(bucket.get("none").await.expect("get"), None);
    assert!(bucket.create("a.b", "x".into()).await.is_err(), "create needs a free key");
    assert_eq!(bucket.create("c", "1".into()).await.expect("create"), 3);
    assert!(bucket.update("c", "2".into(), 2).await.is_err(), "update needs the last revision");
    assert_eq!(bucket.update("c", "2".into(), 3).await.expect("update"), 4);
    let old = bucket.entry_for_revision("a.b", 1).await.expect("get").expect("an entry");
    assert_eq!(old.value, "1");

    bucket.delete("a.b").await.expect("delete");
    assert_eq!(bucket.get("a.b").await.expect("get"), None);
    let history: Vec<_> = bucket.history("a.b").await.expect("history").try_collect().await.expect("entries");
    let operations: Vec<Operation> = history.iter().map(|entry| entry.operation).collect();
    assert_eq!(operations, [Operation::Put, Operation::Put, Operation::Delete]);
    assert_eq!(bucket.create("a.b", "again".into()).await.expect("create over a delete marker"), 6);
    bucket.purge("a.b").await.expect("purge");
    let history: Vec<_> = bucket.history("a.b").await.expect("history").try_collect().await.expect("entries");
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].operation, Operation::Purge);
    let keys: Vec<String> = bucket.keys().await.expect("keys").try_collect().await.expect("names");
    assert_eq!(keys, ["c"]);

    let status = bucket.status().await.expect("status");
    assert_eq!((status.bucket(), status.history()), ("settings", 3));
    context.delete_key_value("settings").await.expect("delete the bucket");
    assert!(context.get_key_value("settings").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_see_the_values_there_and_then_every_change() {
    let server = Server::broker().start().await;
    let context = jetstream::new(server.connect().await);
    let config = Config { bucket: "w".to_owned(), ..Config::default() };
    let bucket = context.create_key_value(config).await.expect("a bucket");
    bucket.put("one", "1".into()).await.expect("put");
    bucket.put("two", "2".into()).await.expect("put");
    let mut all = bucket.watch_all_from_revision(1).await.expect("watch");
    let mut news = bucket.watch("one").await.expect("watch");
    bucket.put("one", "3".into()).await.expect("put");
    bucket.delete("two").await.expect("delete");
    let mut seen = Vec::new();
    // One value per key is kept, so the first value of `one` may be replaced before it is read.
    while seen.last() != Some(&("two".to_owned(), Operation::Delete, Bytes::new())) {
        let entry = tokio::time::timeout(PATIENCE, all.next())
            .await
            .expect("in time")
            .expect("open")
            .expect("an entry");
        seen.push((entry.key, entry.operation, entry.value));
    }
    assert!(seen.contains(&("one".to_owned(), Operation::Put, Bytes::from("3"))), "{seen:?}");
    let entry =
        tokio::time::timeout(PATIENCE, news.next()).await.expect("in time").expect("open").expect("an entry");
    assert_eq!(
        (entry.key.as_str(), entry.value),
        ("one", Bytes::from("3")),
        "a plain watch shows what is new"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_survives_a_kill() {
    let mut server = Server::broker().start().await;
    let context = jetstream::new(server.connect().await);
    let config = Config { bucket: "k".to_owned(), history: 5, ..Config::default() };
    let bucket = context.create_key_value(config).await.expect("a bucket");
    for n in 0..50 {
        bucket.put(format!("key-{}", n % 10), format!("{n}").into()).await.expect("put");
    }
    bucket.delete("key-3").await.expect("delete");
    server.kill().await;
    server.restart().await;
    let context = jetstream::new(server.connect().await);
    let bucket = context.get_key_value("k").await.expect("the bucket is there");
    for n in 0..10 {
        let value = bucket.get(format!("key-{n}")).await.expect("get");
        let expected = (n != 3).then(|| Bytes::from(format!("{}", 40 + n)));
        assert_eq!(value, expected, "key-{n}");
    }
    assert_eq!(bucket.put("key-3", "new".into()).await.expect("put"), 52);
}
