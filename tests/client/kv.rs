//! Key-value buckets, also as the independent client sees them.

use bytes::Bytes;
use weir::client::kv::{Bucket, BucketConfig, KvError, Operation};
use weir::client::{Client, Options};

use crate::support::{Server, connect};

async fn bucket(server: &Server) -> Bucket {
    let client = Client::connect(&server.url(), Options::named("test")).await.unwrap();
    Bucket::open_or_create(&client.jetstream(), &BucketConfig::named("things")).await.unwrap()
}

#[tokio::test]
async fn keys_are_set_read_compared_and_deleted() {
    let server = Server::broker().start().await;
    let bucket = bucket(&server).await;
    assert_eq!(bucket.get("a").await.unwrap(), None);
    let first = bucket.create("a", "1".into()).await.unwrap();
    let taken = KvError::Conflict { key: "a".to_owned() };
    assert_eq!(bucket.create("a", "2".into()).await, Err(taken.clone()));
    let second = bucket.update("a", "2".into(), first).await.unwrap();
    assert_eq!(bucket.update("a", "3".into(), first).await, Err(taken));
    assert_eq!(bucket.entry("a").await.unwrap().unwrap().revision, second);
    assert_eq!(bucket.get("a").await.unwrap(), Some(Bytes::from("2")));
    bucket.put("b/c=2.d", "x".into()).await.unwrap();
    assert_eq!(bucket.keys().await.unwrap(), ["a", "b/c=2.d"]);
    bucket.delete("a").await.unwrap();
    assert_eq!(bucket.get("a").await.unwrap(), None);
    assert_eq!(bucket.entry("a").await.unwrap().unwrap().operation, Operation::Delete);
    assert_eq!(bucket.keys().await.unwrap(), ["b/c=2.d"]);
    bucket.create("a", "again".into()).await.unwrap();
    bucket.purge("a").await.unwrap();
    assert_eq!(bucket.entry("a").await.unwrap().unwrap().operation, Operation::Purge);
    for key in ["", ".a", "a.", "a..b", "a b", "a*"] {
        assert_eq!(bucket.put(key, "x".into()).await, Err(KvError::Key(key.to_owned())));
    }
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_every_change() {
    let server = Server::broker().start().await;
    let bucket = bucket(&server).await;
    for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
        bucket.put(key, value.into()).await.unwrap();
    }
    let mut watch = bucket.watch().await.unwrap();
    assert_eq!(watch.initial_left(), 2);
    let mut seen = Vec::new();
    while watch.initial_left() > 0 {
        let entry = watch.next().await.unwrap();
        seen.push((entry.key, entry.value));
    }
    assert_eq!(seen, [("b".to_owned(), Bytes::from("2")), ("a".to_owned(), Bytes::from("3"))]);
    bucket.delete("b").await.unwrap();
    let entry = watch.next().await.unwrap();
    assert_eq!((entry.key.as_str(), entry.operation), ("b", Operation::Delete));
}

#[tokio::test]
async fn the_independent_client_reads_the_same_bucket() {
    let server = Server::broker().start().await;
    let bucket = bucket(&server).await;
    bucket.put("a", "1".into()).await.unwrap();
    let other = async_nats::jetstream::new(connect(&server.url()).await);
    let theirs = other.get_key_value("things").await.unwrap();
    assert_eq!(theirs.get("a").await.unwrap(), Some(Bytes::from("1")));
    theirs.put("b", "2".into()).await.unwrap();
    assert_eq!(bucket.get("b").await.unwrap(), Some(Bytes::from("2")));
}
