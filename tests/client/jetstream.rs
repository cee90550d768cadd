//! JetStream's API: streams, publishing, direct get, reading, mirrors and their promotion.

use weir::client::jetstream::{
    DeliverPolicy, MessageSelector, Mirror, OrderedOptions, Purge, Storage, StreamConfig,
};
use weir::client::{Client, Options};
use weir_protocol::header;

use crate::support::{Server, eventually};

async fn client(server: &Server) -> Client {
    Client::connect(&server.url(), Options::named("test")).await.unwrap()
}

fn orders() -> StreamConfig {
    StreamConfig {
        subjects: vec!["orders.>".to_owned()],
        allow_direct: true,
        ..StreamConfig::named("ORDERS")
    }
}

#[tokio::test]
async fn streams_are_made_found_changed_and_deleted() {
    let server = Server::broker().start().await;
    let js = client(&server).await.jetstream();
    assert_eq!(js.find_stream("ORDERS").await.unwrap(), None);
    let made = js.create_stream(&orders()).await.unwrap();
    assert_eq!(made.state.messages, 0);
    let mut config = js.stream_info("ORDERS").await.unwrap().config;
    config.max_age = 600_000_000_000;
    js.update_stream(&config).await.unwrap();
    assert_eq!(js.stream_info("ORDERS").await.unwrap().config.max_age, 600_000_000_000);
    let error = js.create_stream(&orders()).await.unwrap_err();
    assert_eq!(error.err_code(), Some(10_058), "{error}");
    let twin = StreamConfig { subjects: vec!["orders.eu".to_owned()], ..StreamConfig::named("TWIN") };
    assert_eq!(js.create_stream(&twin).await.unwrap_err().err_code(), Some(10_065));
    assert!(js.stream_names(None).await.unwrap().contains(&"ORDERS".to_owned()));
    assert_eq!(js.stream_names(Some("orders.eu")).await.unwrap(), ["ORDERS"]);
    assert_eq!(js.streams(Some("other")).await.unwrap(), []);
    assert!(js.delete_stream("ORDERS").await.unwrap());
    assert!(!js.delete_stream("ORDERS").await.unwrap());
    assert!(js.stream_info("ORDERS").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn many_publishes_under_way_are_acknowledged_in_order_and_read_back() {
    let server = Server::broker().start().await;
    let js = client(&server).await.jetstream();
    js.create_stream(&orders()).await.unwrap();
    let mut acks = Vec::new();
    for n in 1..=1_000_u64 {
        let headers = header::Builder::new().add_number("Nats-Msg-Id", n).finish();
        let subject = format!("orders.{}", n % 3);
        acks.push(js.start_publish(&subject, Some(&headers), n.to_string().into()).await.unwrap());
    }
    for (ack, n) in acks.into_iter().zip(1..) {
        let ack = ack.ack().await.unwrap();
        assert_eq!((ack.sequence, ack.duplicate), (n, false));
    }
    let headers = header::Builder::new().add_number("Nats-Msg-Id", 7).finish();
    let again = js.publish("orders.1", Some(&headers), "again".into()).await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (7, true));

    let mut reader = js.reader("ORDERS", 1, None);
    for n in 1..=1_000_u64 {
        let message = reader.next().await.unwrap().unwrap();
        assert_eq!((message.sequence, message.payload), (n, n.to_string().into()));
        assert_eq!(header::get_str(&message.headers, "Nats-Msg-Id"), Some(n.to_string().as_str()));
        assert_eq!(header::get(&message.headers, "Nats-Sequence"), None);
        assert!(message.time > 0);
    }
    assert_eq!(reader.next().await.unwrap(), None);
    let mut reader = js.reader("ORDERS", 500, Some("orders.2"));
    assert_eq!(reader.next().await.unwrap().unwrap().sequence, 500);
    assert_eq!(reader.next().await.unwrap().unwrap().sequence, 503);
    assert_eq!(js.consumer_names("ORDERS").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn single_messages_are_found_by_sequence_subject_and_time() {
    let server = Server::broker().start().await;
    let js = client(&server).await.jetstream();
    js.create_stream(&orders()).await.unwrap();
    for n in 1..=3 {
        js.publish(&format!("orders.{n}"), None, n.to_string().into()).await.unwrap();
    }
    let second = js.direct_get("ORDERS", &MessageSelector::sequence(2)).await.unwrap().unwrap();
    assert_eq!((second.subject.as_str(), second.sequence, &second.headers[..]), ("orders.2", 2, &b""[..]));
    assert_eq!(js.get_message("ORDERS", &MessageSelector::sequence(2)).await.unwrap(), Some(second.clone()));
    let last = js.direct_get("ORDERS", &MessageSelector::last_on("orders.*")).await.unwrap().unwrap();
    assert_eq!(last.sequence, 3);
    let since = MessageSelector::since(second.time);
    assert_eq!(js.direct_get("ORDERS", &since).await.unwrap(), Some(second.clone()));
    let after = MessageSelector::since(last.time + 1);
    assert_eq!(js.direct_get("ORDERS", &after).await.unwrap(), None);
    assert_eq!(js.get_message("ORDERS", &after).await.unwrap(), None);
    assert!(js.delete_message("ORDERS", 2).await.unwrap());
    assert!(!js.delete_message("ORDERS", 2).await.unwrap());
    assert_eq!(js.stream_info_with_deleted("ORDERS").await.unwrap().state.deleted, Some(vec![2]));
    assert_eq!(js.purge_stream("ORDERS", &Purge::default()).await.unwrap(), 2);
}

#[tokio::test]
async fn a_mirror_keeps_places_and_times_and_can_be_promoted() {
    let server = Server::broker().start().await;
    let js = client(&server).await.jetstream();
    js.create_stream(&StreamConfig { storage: Storage::Memory, ..orders() }).await.unwrap();
    for n in 1..=10 {
        js.publish("orders.eu", None, n.to_string().into()).await.unwrap();
    }
    let mirror = Mirror { name: "ORDERS".to_owned(), opt_start_seq: Some(4), ..Mirror::default() };
    let copy = StreamConfig { mirror: Some(mirror), allow_direct: true, ..StreamConfig::named("COPY") };
    js.create_stream(&copy).await.unwrap();
    let info = eventually("the mirror has caught up", || async {
        let info = js.stream_info("COPY").await.unwrap();
        (info.state.last_seq == 10).then_some(info)
    })
    .await;
    assert_eq!((info.state.first_seq, info.state.messages), (4, 7));
    assert_eq!(info.mirror.unwrap().name, "ORDERS");
    let original = js.direct_get("ORDERS", &MessageSelector::sequence(7)).await.unwrap();
    assert_eq!(js.direct_get("COPY", &MessageSelector::sequence(7)).await.unwrap(), original);
    let promoted = js.update_stream(&StreamConfig { mirror: None, ..info.config }).await.unwrap();
    assert_eq!(promoted.mirror, None);
    js.publish("orders.eu", None, "later".into()).await.unwrap();
    let info = js.stream_info("COPY").await.unwrap();
    assert_eq!((info.state.last_seq, info.config.mirror), (10, None));
}

#[tokio::test]
async fn an_ordered_consumer_survives_its_own_deletion_and_a_restart() {
    let mut server = Server::broker().start().await;
    let js = client(&server).await.jetstream();
    js.create_stream(&orders()).await.unwrap();
    for n in 1..=5 {
        js.publish("orders.eu", None, n.to_string().into()).await.unwrap();
    }
    let options = OrderedOptions { deliver: DeliverPolicy::Sequence(2), ..OrderedOptions::default() };
    let mut consumer = js.ordered_consumer("ORDERS", options).await.unwrap();
    assert_eq!(consumer.initial_pending(), 4);
    for (sequence, pending) in [(2, 3), (3, 2), (4, 1), (5, 0)] {
        let delivery = consumer.next().await.unwrap();
        assert_eq!((delivery.message.sequence, delivery.pending), (sequence, pending));
    }
    let address = server.client_address().to_owned();
    server.kill().await;
    server.restart_at(&address).await;
    eventually("a message is stored again", || async {
        js.publish("orders.eu", None, "6".into()).await.ok()
    })
    .await;
    let delivery = tokio::time::timeout(crate::support::PATIENCE, consumer.next()).await.unwrap().unwrap();
    assert_eq!(delivery.message.sequence, 6);
    drop(consumer);
    eventually("no consumer is left", || async {
        js.consumer_names("ORDERS").await.unwrap().is_empty().then_some(())
    })
    .await;
}
