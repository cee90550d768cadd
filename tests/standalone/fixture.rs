//! A server, a connection, and services with names of their own.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use weir::client::jetstream::{JetStream, StoredMessage};
use weir::client::kv::Bucket;
use weir::client::{Client, Options};
use weir::service::command::Response;
use weir::service::monitor::{HttpConfig, HttpListener};
use weir::service::names::Names;
use weir::service::session::{RecordState, State};
use weir::service::{ServiceConfig, Services};
use weir::sys::clock::SystemClock;

use crate::support::{PATIENCE, Server, eventually, http};

/// How long the answer to a stop waits for the end.
pub(crate) const STOP_WAIT: Duration = Duration::from_secs(4);

pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) js: JetStream,
    pub(crate) services: Option<Services>,
}

pub(crate) fn names() -> Names {
    Names {
        monitor: "t.monitor".to_owned(),
        command: "t.record.cmd".to_owned(),
        command_queue: "t-controllers".to_owned(),
        playback: "t.playback".to_owned(),
        devices: "t_devices".to_owned(),
        sessions: "t_session".to_owned(),
        record_state: "t_record_state".to_owned(),
        replay_state: "t_replay_state".to_owned(),
    }
}

pub(crate) async fn config() -> ServiceConfig {
    ServiceConfig {
        names: names(),
        http: Some(listen(HttpConfig::default()).await),
        refresh: Duration::from_millis(500),
        progress: Duration::from_millis(200),
        ..ServiceConfig::default()
    }
}

/// HTTP on a free port.
pub(crate) async fn listen(config: HttpConfig) -> HttpListener {
    let config = HttpConfig { listen: "127.0.0.1:0".to_owned(), ..config };
    HttpListener::bind(config).await.unwrap()
}

pub(crate) async fn services(server: &Server, config: ServiceConfig) -> Services {
    let client = Client::connect(&server.url(), Options::named("services")).await.unwrap();
    weir::service::start(client, SystemClock::shared(), config).await.unwrap()
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(config().await).await
    }

    pub(crate) async fn with(config: ServiceConfig) -> Self {
        let server = Server::broker().start().await;
        let services = Some(services(&server, config).await);
        let client = Client::connect(&server.url(), Options::named("test")).await.unwrap();
        let js = client.jetstream();
        Self { server, client, js, services }
    }

    pub(crate) fn services(&self) -> &Services {
        self.services.as_ref().unwrap()
    }

    /// Posts a body to the monitor or the API; the status and the JSON of the answer.
    pub(crate) async fn http(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let address = self.services().http_address().unwrap();
        let answer = http::request(&address.to_string(), method, path, &[], body.as_bytes()).await;
        (answer.status, answer.json())
    }

    /// What an answer says of events that are stored: only of Weir the services know that a file is on stable storage.
    pub(crate) fn stored(&self) -> &'static str {
        if self.server.is_nats_server() { "file" } else { "disk" }
    }

    /// A request to the controller.
    pub(crate) async fn ask(&self, request: Value) -> Response {
        self.ask_raw(request.to_string()).await
    }

    pub(crate) async fn ask_raw(&self, request: String) -> Response {
        let reply = self.client.request("t.record.cmd", None, request.into(), PATIENCE).await.unwrap();
        serde_json::from_slice(&reply.payload).unwrap()
    }

    /// A request that must be carried out.
    pub(crate) async fn done(&self, request: Value) -> Response {
        let response = self.ask(request.clone()).await;
        assert!(response.ok, "{request}: {response:?}");
        response
    }

    /// Ends a recording without a post-roll; its last state. The answer says that it is stopped, unless the end took longer than
    /// an answer waits.
    pub(crate) async fn stop(&self, session: &str) -> RecordState {
        let asked = Instant::now();
        let answer = self.done(json!({"action": "stop", "session_id": session})).await;
        let waited = asked.elapsed();
        match answer.state {
            Some(State::Stopped) => assert_eq!(answer.message, "recording stopped"),
            _ => assert!(waited >= STOP_WAIT, "after {waited:?}: {answer:?}"),
        }
        self.stopped(session).await
    }

    /// Waits until a session is stopped, whether there are services or not; its state.
    pub(crate) async fn stopped(&self, session: &str) -> RecordState {
        let states = Bucket::open(&self.js, "t_record_state").await.unwrap();
        eventually("the session is stopped", || async {
            let row: RecordState = serde_json::from_slice(&states.get(session).await.unwrap()?).unwrap();
            (row.state == State::Stopped).then_some(row)
        })
        .await
    }

    pub(crate) async fn enable_buffer(&self, device: &str, window: &str) {
        let body = json!({"window": window}).to_string();
        let (status, answer) = self.http("PUT", &format!("/api/v1/buffers/{device}"), &body).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Publishes numbered messages of a device over NATS.
    pub(crate) async fn publish(&self, device: &str, numbers: std::ops::Range<u32>) {
        for n in numbers {
            self.client.publish(&format!("t.monitor.{device}"), None, n.to_string().into()).await.unwrap();
        }
        self.client.flush().await.unwrap();
    }

    pub(crate) async fn messages(&self, stream: &str) -> Vec<StoredMessage> {
        let mut reader = self.js.reader(stream, 1, None);
        let mut all = Vec::new();
        while let Some(message) = reader.next().await.unwrap() {
            all.push(message);
        }
        all
    }

    /// The numbers in a stream's payloads.
    pub(crate) async fn numbers(&self, stream: &str) -> Vec<u32> {
        let text = |payload: &Bytes| String::from_utf8_lossy(payload).parse().unwrap();
        self.messages(stream).await.iter().map(|message| text(&message.payload)).collect()
    }

    /// Waits until so many messages came, whether they are there still or not.
    pub(crate) async fn until_stored(&self, stream: &str, count: u64) {
        eventually(&format!("{stream} stored {count} messages"), || async {
            let info = self.js.find_stream(stream).await.unwrap()?;
            (info.state.last_seq >= count).then_some(())
        })
        .await;
    }

    /// Waits until a stream no longer exists.
    pub(crate) async fn until_gone(&self, stream: &str) {
        eventually(&format!("{stream} is gone"), || async {
            self.js.find_stream(stream).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    pub(crate) async fn until_count(&self, stream: &str, count: u64) {
        eventually(&format!("{stream} has {count} messages"), || async {
            let info = self.js.find_stream(stream).await.unwrap()?;
            (info.state.messages == count).then_some(())
        })
        .await;
    }
}
