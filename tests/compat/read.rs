//! Reading a stream without disturbing it: the pager, `nats sub --stream`, direct get, the newest K.

use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::jetstream::{
    SECOND, ack, all_messages, answer, consumer_info, create_consumer, create_stream, delivery, fetch,
    get_message, header, pull, store, stream_info, text, try_create_consumer,
};
use crate::support::{PATIENCE, Server, api, refused, succeeded};

/// Ten messages on three subjects: `s.a` 1 4 7 10, `s.b` 2 5 8, `s.c` 3 6 9.
async fn ten(client: &Client, storage: &str) {
    create_stream(
        client,
        json!({"name": "S", "subjects": ["s.*"], "storage": storage, "allow_direct": true}),
    )
    .await;
    for n in 0..10 {
        let subject = ["s.a", "s.b", "s.c"][n % 3];
        store(client, subject, format!("{}", n + 1)).await;
    }
}

/// A consumer as `nats sub --stream` makes it: named by the client, without acks; then everything there is for it.
async fn read(client: &Client, config: Value) -> Vec<u64> {
    let mut config = config;
    config["name"] = json!("reader");
    config["ack_policy"] = json!("none");
    let info = create_consumer(client, "S", config).await;
    let expected = info["num_pending"].as_u64().expect("a count");
    let pulled = fetch(client, "S", "reader", 500).await;
    assert_eq!(pulled.messages.len() as u64, expected, "num_pending of the create answer is exact");
    succeeded(api(client, "CONSUMER.DELETE.S.reader", &Value::Null).await);
    pulled.messages.iter().map(|m| delivery(m).stream_seq).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_016_paging_by_subject_by_id_and_by_age() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    ten(&client, "file").await;
    let pager = json!({"durable_name": "stream_pager_1", "name": "stream_pager_1", "ack_policy": "explicit",
        "mem_storage": true, "num_replicas": 1, "inactive_threshold": 3600 * SECOND, "filter_subject": "s.a",
        "deliver_policy": "all"});
    create_consumer(&client, "S", pager).await;
    let page = fetch(&client, "S", "stream_pager_1", 3).await;
    assert_eq!((page.texts(), page.status), (vec!["1".into(), "4".into(), "7".into()], None));
    for message in &page.messages {
        answer(&client, message, "+ACK").await;
    }
    let rest = fetch(&client, "S", "stream_pager_1", 3).await;
    assert_eq!(
        (rest.texts(), rest.status),
        (vec!["10".to_owned()], Some(404)),
        "404 straight after the rest"
    );
    succeeded(api(&client, "CONSUMER.DELETE.S.stream_pager_1", &Value::Null).await);

    let from_id = json!({"name": "p", "ack_policy": "explicit", "deliver_policy": "by_start_sequence",
        "opt_start_seq": 9});
    create_consumer(&client, "S", from_id).await;
    assert_eq!(fetch(&client, "S", "p", 10).await.texts(), ["9", "10"]);

    tokio::time::sleep(Duration::from_millis(50)).await;
    let eleventh = store(&client, "s.b", "11").await["seq"].as_u64().expect("a sequence");
    let time = get_message(&client, "S", &json!({"seq": eleventh})).await.expect("it is there").time;
    let by_age = json!({"name": "q", "ack_policy": "explicit", "deliver_policy": "by_start_time",
        "opt_start_time": time});
    create_consumer(&client, "S", by_age).await;
    assert_eq!(fetch(&client, "S", "q", 10).await.texts(), ["11"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_017_every_start_of_a_subscription_delivers_the_right_set() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    ten(&client, "memory").await;
    let none: [u64; 0] = [];
    assert_eq!(read(&client, json!({"deliver_policy": "all"})).await, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(read(&client, json!({"deliver_policy": "new"})).await, none);
    assert_eq!(read(&client, json!({"deliver_policy": "last"})).await, [10]);
    let sequence = json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 8});
    assert_eq!(read(&client, sequence).await, [8, 9, 10]);
    let per_subject = json!({"deliver_policy": "last_per_subject", "filter_subject": ">"});
    assert_eq!(read(&client, per_subject).await, [8, 9, 10]);
    let time = get_message(&client, "S", &json!({"seq": 5})).await.expect("it is there").time;
    let since = json!({"deliver_policy": "by_start_time", "opt_start_time": time});
    assert_eq!(read(&client, since).await, [5, 6, 7, 8, 9, 10]);
    // A start beyond the end waits for that sequence.
    let beyond = json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 12});
    assert_eq!(read(&client, beyond).await, none);

    // `--new`: what is published after the subscription, and nothing else.
    create_consumer(&client, "S", json!({"name": "new", "ack_policy": "none", "deliver_policy": "new"}))
        .await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { pull(&client, "S", "new", &json!({"batch": 2, "expires": 5 * SECOND})).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    store(&client, "s.a", "11").await;
    store(&client, "s.b", "12").await;
    assert_eq!(waiting.await.expect("it pulls").texts(), ["11", "12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_018_filters_and_times_of_a_subscription() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    ten(&client, "file").await;
    assert_eq!(read(&client, json!({"filter_subject": "s.b"})).await, [2, 5, 8]);
    assert_eq!(read(&client, json!({"filter_subjects": ["s.b", "s.c"]})).await, [2, 3, 5, 6, 8, 9]);
    let last = json!({"filter_subject": "s.c", "deliver_policy": "last"});
    assert_eq!(read(&client, last).await, [9]);
    assert_eq!(read(&client, json!({"filter_subject": "other"})).await, [0_u64; 0]);
    // The time that `--timestamp` prints travels in the reply subject, to the nanosecond.
    create_consumer(&client, "S", json!({"name": "t", "ack_policy": "none"})).await;
    let pulled = fetch(&client, "S", "t", 10).await;
    for (message, stored) in pulled.messages.iter().zip(all_messages(&client, "S").await) {
        let time: jiff::Timestamp = stored.time.parse().expect("RFC 3339");
        assert_eq!(i128::from(delivery(message).timestamp), time.as_nanosecond());
        assert_eq!(text(message), stored.text());
        assert_eq!(message.subject.as_str(), stored.subject);
    }
    // `filter` in the subject of the create request, as current clients send it.
    let created = api(
        &client,
        "CONSUMER.CREATE.S.named.s.b",
        &json!({"stream_name": "S", "action": "create", "config": {"name": "named", "filter_subject": "s.b",
            "ack_policy": "none", "pause_until": "0001-01-01T00:00:00Z"}}),
    )
    .await;
    assert_eq!(succeeded(created)["num_pending"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_029_the_newest_k_from_an_ephemeral_and_a_nak_that_disturbs_nobody() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    ten(&client, "memory").await;
    let last = stream_info(&client, "S").await["state"]["last_seq"].as_u64().expect("a sequence");
    let newest = async |k: u64| {
        let start = last.saturating_sub(k - 1).max(1);
        let config =
            json!({"deliver_policy": "by_start_sequence", "opt_start_seq": start, "ack_policy": "explicit"});
        let info = create_consumer(&client, "S", config).await;
        let name = info["name"].as_str().expect("the server names it").to_owned();
        assert_eq!(name.len(), 8, "{name}");
        assert_eq!(info["config"]["inactive_threshold"], 5 * SECOND);
        (name.clone(), fetch(&client, "S", &name, k).await)
    };
    let (_, first) = newest(3).await;
    assert_eq!(first.texts(), ["8", "9", "10"]);
    for message in &first.messages {
        answer(&client, message, "-NAK").await;
    }
    assert_eq!(stream_info(&client, "S").await["state"]["messages"], 10);
    let (name, second) = newest(3).await;
    assert_eq!(second.texts(), ["8", "9", "10"], "a later reader sees the same");
    assert!(second.messages.iter().all(|m| delivery(m).deliveries == 1));
    for message in &second.messages {
        ack(&client, message).await;
    }
    assert_eq!(consumer_info(&client, "S", &name).await["num_ack_pending"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_030_the_newest_k_of_fewer_than_k() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    create_stream(&client, json!({"name": "S", "subjects": ["s"], "storage": "memory"})).await;
    for n in 1..=5 {
        store(&client, "s", format!("{n}")).await;
    }
    let config = json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 1, "ack_policy": "explicit"});
    let info = create_consumer(&client, "S", config).await;
    let name = info["name"].as_str().expect("a name");
    let asked = tokio::time::Instant::now();
    let pulled = pull(&client, "S", name, &json!({"batch": 100, "expires": SECOND})).await;
    assert_eq!(pulled.texts(), ["1", "2", "3", "4", "5"]);
    assert_eq!(pulled.status, Some(408), "the rest never comes: the request times out");
    assert!(asked.elapsed() >= Duration::from_millis(900));
    // A start of 0 is no start.
    let zero = json!({"deliver_policy": "by_start_sequence", "opt_start_seq": 0, "ack_policy": "explicit"});
    refused(&try_create_consumer(&client, "S", zero).await, 10094);
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_get_by_sequence_by_subject_and_in_a_batch() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    ten(&client, "file").await;
    let by_subject = client.request("$JS.API.DIRECT.GET.S.s.b", "".into()).await.expect("an answer");
    assert_eq!(text(&by_subject), "8");
    assert_eq!(header(&by_subject, "Nats-Stream"), Some("S"));
    assert_eq!(header(&by_subject, "Nats-Subject"), Some("s.b"));
    assert_eq!(header(&by_subject, "Nats-Sequence"), Some("8"));
    let stored = get_message(&client, "S", &json!({"seq": 8})).await.expect("it is there");
    assert_eq!(header(&by_subject, "Nats-Time-Stamp"), Some(stored.time.as_str()));

    let missing = client.request("$JS.API.DIRECT.GET.S", r#"{"seq":99}"#.into()).await.expect("an answer");
    assert_eq!(missing.status.map(|s| s.as_u16()), Some(404));

    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("subscribe");
    let body = r#"{"seq":1,"next_by_subj":"s.a","batch":3}"#;
    client.publish_with_reply("$JS.API.DIRECT.GET.S", inbox, body.into()).await.expect("publish");
    let mut batch = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, answers.next()).await.expect("in time").expect("one");
        if message.status.is_some() {
            assert_eq!(message.status.map(|s| s.as_u16()), Some(204), "the batch ends with EOB");
            break;
        }
        batch.push((text(&message), header(&message, "Nats-Num-Pending").map(str::to_owned)));
    }
    let expected = [("1", "3"), ("4", "2"), ("7", "1")];
    assert_eq!(batch, expected.map(|(text, pending)| (text.to_owned(), Some(pending.to_owned()))));
}
