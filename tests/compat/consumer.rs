//! Consumers: pull and push, acks, redelivery, limits, and the calls behind `nats consumer ...`.

use std::time::{Duration, Instant};

use async_nats::{Client, Message};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use crate::support::jetstream::{
    SECOND, ack, answer, consumer_info, create_consumer, create_stream, delivery, drain, fetch, header, pull,
    store, take, text, try_create_consumer,
};
use crate::support::{Server, api, eventually, refused, succeeded, undisturbed};

async fn stream_of(client: &Client, messages: u64) {
    create_stream(client, json!({"name": "S", "subjects": ["s.*"]})).await;
    for n in 1..=messages {
        store(client, "s.x", format!("{n}")).await;
    }
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_019_an_empty_deliver_subject_makes_a_pull_consumer() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 3).await;
    // As the command line sends a consumer file with `name` equal to `durable_name`.
    let config = json!({"durable_name": "WORK", "name": "WORK", "deliver_subject": "", "deliver_policy": "all",
        "ack_policy": "explicit", "replay_policy": "instant", "pause_until": "0001-01-01T00:00:00Z"});
    let body = json!({"stream_name": "S", "config": config, "action": "create"});
    let info = succeeded(api(&client, "CONSUMER.CREATE.S.WORK", &body).await);
    assert!(info["config"]["deliver_subject"].is_null(), "{info}");
    assert_eq!(info["config"]["max_waiting"], 512);
    assert_eq!(info["config"]["max_deliver"], -1);
    assert_eq!(info["config"]["ack_wait"], 30 * SECOND);
    assert_eq!(info["config"]["max_ack_pending"], 1000);
    assert_eq!(fetch(&client, "S", "WORK", 5).await.texts(), numbers(1..=3));
    // A key that no consumer has, as written in some files, is refused by name.
    let foreign =
        json!({"stream_name": "S", "config": {"name": "X", "stream_name": "S", "ack_policy": "none"}});
    let answer = api(&client, "CONSUMER.CREATE.S.X", &foreign).await;
    refused(&answer, 10025);
    assert_eq!(answer["error"]["description"], r#"invalid JSON: json: unknown field "stream_name""#);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_020_ack_none_with_max_deliver_1_delivers_once() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 10).await;
    let config = json!({"durable_name": "C", "ack_policy": "none", "max_deliver": 1});
    create_consumer(&client, "S", config).await;
    assert_eq!(fetch(&client, "S", "C", 10).await.texts(), numbers(1..=10));
    let again = fetch(&client, "S", "C", 10).await;
    assert_eq!((again.texts(), again.status), (Vec::new(), Some(404)));
    let info = consumer_info(&client, "S", "C").await;
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&json!(0), &json!(0)));
    assert_eq!(info["delivered"]["stream_seq"], 10);
    assert_eq!(info["ack_floor"]["stream_seq"], 10);
}

/// A dead-letter stream: nobody but the stream listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_captures_advisories_by_itself() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let subjects = ["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"];
    api(&client, "STREAM.CREATE.DLQ", &json!({"name": "DLQ", "subjects": subjects})).await;
    stream_of(&client, 1).await;
    let config =
        json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": SECOND / 5, "max_deliver": 1});
    create_consumer(&client, "S", config).await;
    assert_eq!(fetch(&client, "S", "C", 1).await.messages.len(), 1);
    eventually("the advisory is kept", || async {
        let info = succeeded(api(&client, "STREAM.INFO.DLQ", &json!({})).await);
        (info["state"]["messages"] == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_021_explicit_acks_redeliver_up_to_max_deliver() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 2).await;
    let config = json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": SECOND, "max_deliver": 3,
        "max_ack_pending": 1000});
    create_consumer(&client, "S", config).await;
    let mut advisories =
        client.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C").await.expect("subscribe");
    client.flush().await.expect("flush");
    let started = Instant::now();
    let first = fetch(&client, "S", "C", 2).await;
    ack(&client, &first.messages[0]).await;
    assert_eq!(delivery(&first.messages[1]).deliveries, 1);
    for round in 2..=3 {
        let again = pull(&client, "S", "C", &json!({"batch": 1, "expires": 5 * SECOND})).await;
        assert_eq!(again.texts(), ["2"]);
        assert_eq!(delivery(&again.messages[0]).deliveries, round);
        assert_eq!(delivery(&again.messages[0]).stream_seq, 2);
        let at_least = Duration::from_millis(950) * u32::try_from(round - 1).expect("small");
        assert!(started.elapsed() >= at_least, "round {round} came after {:?}", started.elapsed());
        assert_eq!(consumer_info(&client, "S", "C").await["num_redelivered"], 1);
    }
    let no_more = pull(&client, "S", "C", &json!({"batch": 1, "expires": 2 * SECOND})).await;
    assert_eq!((no_more.texts(), no_more.status), (Vec::new(), Some(408)));
    let advisory = take(&mut advisories, 1).await;
    let advisory: Value = serde_json::from_slice(&advisory[0].payload).expect("JSON");
    assert_eq!(advisory["type"], "io.nats.jetstream.advisory.v1.max_deliver");
    assert_eq!((&advisory["stream_seq"], &advisory["deliveries"]), (&json!(2), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_022_max_ack_pending_stops_delivery_and_acks_resume_it() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 20).await;
    let config = json!({"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 10});
    create_consumer(&client, "S", config).await;
    let first = pull(&client, "S", "C", &json!({"batch": 20, "expires": SECOND})).await;
    assert_eq!((first.texts(), first.status), (numbers(1..=10), Some(408)));
    assert_eq!(consumer_info(&client, "S", "C").await["num_ack_pending"], 10);
    for message in &first.messages[..5] {
        ack(&client, message).await;
    }
    let second = pull(&client, "S", "C", &json!({"batch": 20, "expires": SECOND})).await;
    assert_eq!(second.texts(), numbers(11..=15));
    let info = consumer_info(&client, "S", "C").await;
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&json!(10), &json!(5)));
    assert_eq!((&info["ack_floor"]["stream_seq"], &info["delivered"]["stream_seq"]), (&json!(5), &json!(15)));
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_023_a_push_consumer_without_acks_reaches_every_subscriber() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 0).await;
    let mut one = client.subscribe("fanout.btcusdt").await.expect("subscribe");
    let second = server.connect().await;
    let mut other = second.subscribe("fanout.btcusdt").await.expect("subscribe");
    for subscribed in [&client, &second] {
        subscribed.flush().await.expect("flush");
    }
    let config = json!({"durable_name": "FAN", "deliver_subject": "fanout.btcusdt", "ack_policy": "none"});
    create_consumer(&client, "S", config).await;
    for n in 1..=5 {
        store(&client, "s.btcusdt", format!("{n}")).await;
    }
    for subscriber in [&mut one, &mut other] {
        let messages = take(subscriber, 5).await;
        assert_eq!(messages.iter().map(text).collect::<Vec<_>>(), numbers(1..=5));
        // The wire subject is the deliver subject; the client library shows that one.
        assert!(messages.iter().all(|m| delivery(m).deliveries == 1));
    }
    assert_eq!(consumer_info(&client, "S", "FAN").await["push_bound"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_024_a_push_consumer_with_acks_redelivers_what_is_not_acked() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 3).await;
    let mut pushed = client.subscribe("push.here").await.expect("subscribe");
    client.flush().await.expect("flush");
    let config = json!({"durable_name": "P", "deliver_subject": "push.here", "ack_policy": "explicit",
        "ack_wait": SECOND});
    create_consumer(&client, "S", config).await;
    let mut acked = Vec::new();
    for (number, deliveries) in [("2", 1), ("1", 2), ("3", 2)] {
        let not_acked = |message: &Message| {
            assert!(!acked.contains(&text(message)), "acked means done: {message:?}");
        };
        let message = loop {
            let next = take(&mut pushed, 1).await.remove(0);
            not_acked(&next);
            if text(&next) == number && delivery(&next).deliveries >= deliveries {
                break next;
            }
        };
        ack(&client, &message).await;
        // All of it comes on one connection: what is here by now was sent before the confirmation.
        while let Some(before) = pushed.next().now_or_never().flatten() {
            not_acked(&before);
        }
        acked.push(number.to_owned());
    }
    assert!(drain(&mut pushed, Duration::from_millis(1500)).await.is_empty(), "acked means done");
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_025_a_push_consumer_waits_for_interest() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 0).await;
    let config = json!({"durable_name": "P", "deliver_subject": "push.later", "ack_policy": "explicit"});
    create_consumer(&client, "S", config).await;
    for n in 1..=4 {
        store(&client, "s.x", format!("{n}")).await;
    }
    let info = consumer_info(&client, "S", "P").await;
    assert_eq!((&info["num_pending"], &info["delivered"]["consumer_seq"]), (&json!(4), &json!(0)));
    let mut deliveries = client.subscribe("push.later").await.expect("subscribe");
    let messages = take(&mut deliveries, 4).await;
    assert_eq!(messages.iter().map(text).collect::<Vec<_>>(), numbers(1..=4));
    for message in &messages {
        ack(&client, message).await;
    }
    deliveries.unsubscribe().await.expect("unsubscribe");
    client.flush().await.expect("flush");
    eventually("nobody is bound", || async {
        consumer_info(&client, "S", "P").await["push_bound"].is_null().then_some(())
    })
    .await;
    store(&client, "s.x", "5").await;
    let mut deliveries = client.subscribe("push.later").await.expect("subscribe");
    assert_eq!(text(&take(&mut deliveries, 1).await[0]), "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_026_list_info_next_delete_copy_and_edit() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 3).await;
    for name in ["B", "A"] {
        create_consumer(&client, "S", json!({"durable_name": name, "name": name, "ack_policy": "explicit"}))
            .await;
    }
    let names = succeeded(api(&client, "CONSUMER.NAMES.S", &json!({"offset": 0})).await);
    assert_eq!((&names["consumers"], &names["limit"]), (&json!(["A", "B"]), &json!(1024)));
    let list = succeeded(api(&client, "CONSUMER.LIST.S", &json!({"offset": 0})).await);
    assert_eq!((&list["total"], &list["limit"]), (&json!(2), &json!(256)));
    assert_eq!(list["consumers"][0]["name"], "A");
    let info = consumer_info(&client, "S", "A").await;
    for field in [
        "stream_name",
        "name",
        "created",
        "config",
        "delivered",
        "ack_floor",
        "num_ack_pending",
        "num_redelivered",
        "num_waiting",
        "num_pending",
        "ts",
    ] {
        assert!(!info[field].is_null(), "{field}: {info}");
    }
    // `next`: one message, one ack without a reply subject.
    let next = pull(&client, "S", "A", &json!({"expires": 5 * SECOND, "batch": 1})).await;
    answer(&client, &next.messages[0], "+ACK").await;
    eventually("the ack is counted", || async {
        (consumer_info(&client, "S", "A").await["ack_floor"]["stream_seq"] == 1).then_some(())
    })
    .await;
    // `edit`: the same create request with another config.
    let edited = json!({"durable_name": "A", "name": "A", "ack_policy": "explicit", "ack_wait": 10 * SECOND,
        "max_deliver": 7, "description": "edited"});
    let info = create_consumer(&client, "S", edited.clone()).await;
    assert_eq!(
        (&info["config"]["ack_wait"], &info["config"]["max_deliver"]),
        (&json!(10 * SECOND), &json!(7))
    );
    assert_eq!(info["delivered"]["stream_seq"], 1, "an edit keeps the state");
    let mut fixed = edited;
    fixed["deliver_policy"] = json!("new");
    let answer = try_create_consumer(&client, "S", fixed).await;
    refused(&answer, 10012);
    assert_eq!(answer["error"]["description"], "deliver policy can not be updated");
    let exists = json!({"stream_name": "S", "action": "create",
        "config": {"durable_name": "A", "name": "A", "ack_policy": "explicit"}});
    refused(&api(&client, "CONSUMER.CREATE.S.A", &exists).await, 10148);
    let missing = json!({"stream_name": "S", "action": "update",
        "config": {"durable_name": "Z", "name": "Z", "ack_policy": "explicit"}});
    refused(&api(&client, "CONSUMER.CREATE.S.Z", &missing).await, 10149);
    // `rm`.
    assert_eq!(succeeded(api(&client, "CONSUMER.DELETE.S.B", &Value::Null).await)["success"], true);
    refused(&api(&client, "CONSUMER.INFO.S.B", &Value::Null).await, 10014);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_to_a_delivery_does_what_it_says() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 6).await;
    // With 400 ms three times in 1.8 s no two steps lie an ack_wait apart.
    let (name, at_once, advisory, delayed) = undisturbed(Duration::from_millis(1800), async |number| {
        let name = format!("C{number}");
        let config = json!({"durable_name": name, "ack_policy": "explicit", "ack_wait": SECOND});
        create_consumer(&client, "S", config).await;
        let terminated = format!("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.{name}");
        let mut terminated = client.subscribe(terminated).await.expect("subscribe");
        let first = fetch(&client, "S", &name, 5).await;
        answer(&client, &first.messages[0], "-NAK").await;
        answer(&client, &first.messages[1], r#"-NAK {"delay": 400000000}"#).await;
        answer(&client, &first.messages[2], "+TERM poison").await;
        ack(&client, &first.messages[3]).await;
        let at_once = pull(&client, "S", &name, &json!({"batch": 1, "expires": SECOND})).await;
        ack(&client, &at_once.messages[0]).await;
        let advisory = take(&mut terminated, 1).await.remove(0);
        // Work in progress keeps the fifth from coming again for another ack_wait.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            answer(&client, &first.messages[4], "+WPI").await;
        }
        let delayed = fetch(&client, "S", &name, 2).await;
        (name, at_once, advisory, delayed)
    })
    .await;
    assert_eq!((at_once.texts(), delivery(&at_once.messages[0]).deliveries), (vec!["1".to_owned()], 2));
    let advisory: Value = serde_json::from_slice(&advisory.payload).expect("JSON");
    assert_eq!((&advisory["stream_seq"], &advisory["reason"]), (&json!(3), &json!("poison")));
    assert_eq!(delayed.texts(), ["2", "6"], "the delayed one first, the fifth is still in work");
    ack(&client, &delayed.messages[0]).await;
    ack(&client, &delayed.messages[1]).await;
    let late = pull(&client, "S", &name, &json!({"batch": 1, "expires": 3 * SECOND})).await;
    assert_eq!(late.texts(), ["5"]);
    ack(&client, &late.messages[0]).await;
    let info = consumer_info(&client, "S", &name).await;
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&json!(0), &json!(0)));
    assert_eq!(info["ack_floor"]["stream_seq"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_survive_a_kill() {
    // Weir alone: here a confirmed ack is on stable storage, nats-server writes it down some time later.
    let mut server = Server::weir().start().await;
    let client = server.connect().await;
    stream_of(&client, 10).await;
    create_consumer(&client, "S", json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": SECOND}))
        .await;
    let first = fetch(&client, "S", "C", 6).await;
    for message in &first.messages[..4] {
        ack(&client, message).await;
    }
    server.kill().await;
    server.restart().await;
    let client = server.connect().await;
    let info = consumer_info(&client, "S", "C").await;
    assert_eq!(info["ack_floor"]["stream_seq"], 4, "{info}");
    let rest = pull(&client, "S", "C", &json!({"batch": 6, "expires": 4 * SECOND})).await;
    let mut texts = rest.texts();
    texts.sort_by_key(|text| text.parse::<u64>().expect("a number"));
    assert_eq!(texts, numbers(5..=10));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_only_and_idle_heartbeats() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    stream_of(&client, 2).await;
    let config = json!({"durable_name": "H", "ack_policy": "none", "headers_only": true});
    create_consumer(&client, "S", config).await;
    let pulled = fetch(&client, "S", "H", 2).await;
    assert_eq!(pulled.texts(), ["", ""]);
    assert_eq!(header(&pulled.messages[0], "Nats-Msg-Size"), Some("1"));

    let mut deliveries = client.subscribe("beat").await.expect("subscribe");
    client.flush().await.expect("flush");
    let config = json!({"name": "B", "deliver_subject": "beat", "ack_policy": "none", "idle_heartbeat": SECOND / 2,
        "flow_control": true});
    create_consumer(&client, "S", config).await;
    let messages = take(&mut deliveries, 3).await;
    assert_eq!(messages[2].status.map(|s| s.as_u16()), Some(100));
    assert_eq!(header(&messages[2], "Nats-Last-Consumer"), Some("2"));
    assert_eq!(header(&messages[2], "Nats-Last-Stream"), Some("2"));
}
