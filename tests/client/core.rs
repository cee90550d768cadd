//! Core NATS: order, requests, queue groups, limits, drain, and the return of a lost server.

use std::time::Duration;

use bytes::Bytes;
use weir::client::{Client, ConnectError, Event, Options, PublishError, RequestError};
use weir_protocol::header;

use crate::support::{PATIENCE, Server};

#[tokio::test]
async fn messages_arrive_in_order_with_their_headers() {
    let server = Server::broker().start().await;
    let client = Client::connect(&server.url(), Options::named("a")).await.unwrap();
    let mut subscription = client.subscribe("orders.*").unwrap();
    client.flush().await.unwrap();
    for n in 0..5_000_u32 {
        let headers = header::Builder::new().add_number("N", n.into()).finish();
        client.publish("orders.eu", Some(&headers), n.to_string().into()).await.unwrap();
    }
    for n in 0..5_000_u32 {
        let message = subscription.next().await.unwrap();
        assert_eq!(message.subject, "orders.eu");
        assert_eq!(message.payload, n.to_string());
        assert_eq!(message.header("N"), Some(n.to_string().as_str()));
    }
    assert_eq!(subscription.dropped(), 0);
}

#[tokio::test]
async fn requests_are_answered_and_a_missing_responder_is_named() {
    let server = Server::broker().start().await;
    let client = Client::connect(&server.url(), Options::named("a")).await.unwrap();
    let mut service = client.queue_subscribe("echo", "workers").unwrap();
    let answering = client.clone();
    let responder = tokio::spawn(async move {
        while let Some(request) = service.next().await {
            let reply = request.reply.unwrap();
            answering.publish(&reply, None, request.payload).await.unwrap();
        }
    });
    let asked =
        (0..100_u8).map(|n| {
            let client = client.clone();
            async move {
                client.request("echo", None, Bytes::copy_from_slice(&[n]), PATIENCE).await.unwrap().payload
            }
        });
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().zip(0..).all(|(answer, n)| answer[..] == [n]));
    let error = client.request("nobody", None, Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(error, RequestError::NoResponders { subject: "nobody".to_owned() });
    responder.abort();
}

#[tokio::test]
async fn bad_subjects_and_sizes_are_refused_before_they_are_sent() {
    let server = Server::broker().start().await;
    let client = Client::connect(&server.url(), Options::named("a")).await.unwrap();
    for subject in ["", "a..b", "a b", "a.*", ">"] {
        let error = client.publish(subject, None, Bytes::new()).await.unwrap_err();
        assert_eq!(error, PublishError::Subject(subject.to_owned()));
    }
    assert!(client.subscribe("a..b").is_err());
    assert!(client.queue_subscribe("a", "b c").is_err());
    let limit = usize::try_from(client.server_info().max_payload).unwrap();
    let error = client.publish("a", None, vec![0; limit + 1].into()).await.unwrap_err();
    assert_eq!(error, PublishError::TooLarge { size: limit + 1, limit });
    client.publish("a", None, vec![0; limit].into()).await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn a_drained_subscription_gives_what_had_arrived_and_ends() {
    let server = Server::broker().start().await;
    let client = Client::connect(&server.url(), Options::named("a")).await.unwrap();
    let mut subscription = client.subscribe("a").unwrap();
    for _ in 0..10 {
        client.publish("a", None, "x".into()).await.unwrap();
    }
    subscription.drain().await.unwrap();
    client.publish("a", None, "late".into()).await.unwrap();
    client.flush().await.unwrap();
    for _ in 0..10 {
        assert_eq!(subscription.next().await.unwrap().payload, "x");
    }
    assert_eq!(subscription.next().await, None);
}

#[tokio::test]
async fn a_lost_server_is_found_again_with_all_subscriptions() {
    let mut server = Server::broker().start().await;
    let client = Client::connect(&server.url(), Options::named("a")).await.unwrap();
    let mut subscription = client.subscribe("a").unwrap();
    client.flush().await.unwrap();
    let mut events = client.events();
    let address = server.client_address().to_owned();
    server.kill().await;
    tokio::time::timeout(PATIENCE, events.wait_for(|event| matches!(event, Event::Lost(_))))
        .await
        .unwrap()
        .unwrap();
    assert!(client.flush().await.is_err());
    client.publish("a", None, "published meanwhile".into()).await.unwrap();
    server.restart_at(&address).await;
    tokio::time::timeout(PATIENCE, events.wait_for(|event| matches!(event, Event::Connected(_))))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(subscription.next().await.unwrap().payload, "published meanwhile");
    client.close();
    assert_eq!(client.publish("a", None, Bytes::new()).await, Err(PublishError::Closed));
    assert_eq!(subscription.next().await, None);
}

#[tokio::test]
async fn an_address_without_a_server_is_an_error_and_the_next_one_is_tried() {
    let server = Server::broker().start().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Client::connect(&free.to_string(), Options::named("a")).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Io(_)), "{error:?}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    let client = Client::connect(&format!("{free},{}", server.url()), Options::named("a")).await.unwrap();
    client.flush().await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_loses_messages_and_is_told() {
    let server = Server::broker().start().await;
    let options = Options { subscription_messages_max: 10, ..Options::named("a") };
    let client = Client::connect(&server.url(), options).await.unwrap();
    let mut subscription = client.subscribe("a").unwrap();
    for _ in 0..25 {
        client.publish("a", None, Bytes::new()).await.unwrap();
    }
    client.flush().await.unwrap();
    assert_eq!(subscription.dropped(), 15);
    assert!(tokio::time::timeout(Duration::from_secs(5), subscription.next()).await.unwrap().is_some());
}
