//! A recording survives SIGKILL of the server in each of its states.
//!
//! A numbered publisher posts events one after another and notes which were answered with 200: while a device is
//! recorded, that answer promises that every running recording of it has the event on stable storage. The moment of
//! the kill is chosen by the session's own state row, watched over NATS. After the restart the session goes on or ends
//! as it should, and holds every number answered before its end: each once, in order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::campaign::carried_out;
use crate::raw::is_gone;
use crate::support::capture::{controlled, numbers, recorded, recording, row, state_of};
use crate::support::jetstream::stream_info;
use crate::support::{self, PATIENCE, Server, http, within};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const DEVICE: &str = "dev";
const SESSION: &str = "s";

/// Posts numbered events until it is told to stop or the server is gone.
struct Publisher {
    task: tokio::task::JoinHandle<()>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

impl Publisher {
    /// Begins at `first`; the number answered last can be asked at any time.
    fn start(address: &str, first: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(first - 1));
        let task = tokio::spawn({
            let (stop, answered, address) = (Arc::clone(&stop), Arc::clone(&answered), address.to_owned());
            async move {
                let mut n = first;
                while !stop.load(Ordering::SeqCst) {
                    match post(&address, n).await {
                        Some(true) => {
                            answered.store(n, Ordering::SeqCst);
                            n += 1;
                        }
                        // The same once more.
                        Some(false) => tokio::time::sleep(Duration::from_millis(5)).await,
                        None => return,
                    }
                }
            }
        });
        Self { task, stop, answered }
    }

    /// The last number that was answered with 200: all before it were too.
    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    async fn at_least(&self, n: u64) {
        within(PATIENCE, &format!("{n} events are answered"), || async {
            (self.answered() >= n).then_some(())
        })
        .await;
    }

    /// Ends it; the number answered last.
    async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the publisher ends");
        self.answered.load(Ordering::SeqCst)
    }
}

/// Whether the event was answered with 200, or may be when it is posted again. A server that is killed answers nothing: that is no
/// failure here.
async fn post(address: &str, n: u64) -> Option<bool> {
    let body =
        json!([{"id": format!("event-{n}"), "type": "state", "symbol": "n", "data": {"n": n}}]).to_string();
    let path = format!("/monitor/{DEVICE}");
    let sent =
        http::try_request(address, "POST", &path, &[("Content-Type", "application/json")], body.as_bytes());
    match sent.await {
        Ok(answer) => Some(carried_out(&answer).is_some()),
        Err(error) => {
            assert!(is_gone(&error), "event {n}: {error}");
            None
        }
    }
}

/// Starts a recording under load, brings it into `state`, kills the server the moment its row says so, and checks what
/// is left.
async fn kill_in_state(state: &str, buffer_storage: &str) {
    let mut server = Server::start().await;
    let client = server.connect().await;
    let enable =
        ["device", "buffer", "enable", "--device-id", DEVICE, "--window", "5m", "--storage", buffer_storage];
    support::weir_ok(&server.url(), &enable).await;
    let mut states =
        client.subscribe(format!("$KV.streams_record_state.{SESSION}")).await.expect("subscribe");
    client.flush().await.expect("flush");
    let publisher = Publisher::start(server.http(), 1);
    publisher.at_least(5).await;
    let start = json!({"action": "start", "device_id": DEVICE, "session_id": SESSION, "pre_roll": "1m",
        "post_roll": "300ms"});
    controlled(&client, &start).await;
    let at_start = publisher.answered();
    publisher.at_least(at_start + 30).await;
    let mut before_stop = u64::MAX;
    if state != "running" {
        // What is answered up to here must be in the session, what comes later may.
        before_stop = publisher.answered();
        let stop = json!({"action": "stop", "session_id": SESSION}).to_string();
        client.publish("streams.record.cmd", stop.into()).await.expect("publish");
    }
    loop {
        let seen = tokio::time::timeout(PATIENCE, states.next()).await;
        let row = seen.unwrap_or_else(|_| panic!("the session never was {state}")).expect("a row");
        let row: Value = serde_json::from_slice(&row.payload).expect("JSON");
        if row["state"] == state {
            break;
        }
    }
    server.kill().await;
    let answered = publisher.finish().await;

    server.restart().await;
    let client = server.connect().await;
    let must_have = if state == "running" {
        // It runs on: what is answered now belongs to it as well.
        assert_eq!(state_of(&client, SESSION).await.as_deref(), Some("running"));
        let publisher = Publisher::start(server.http(), answered + 1);
        publisher.at_least(answered + 20).await;
        let last = publisher.finish().await;
        controlled(&client, &json!({"action": "stop", "session_id": SESSION})).await;
        last
    } else {
        if state_of(&client, SESSION).await.as_deref() == Some("running") {
            // The row was seen before it was on stable storage, and the stop was never answered: it is asked for again.
            controlled(&client, &json!({"action": "stop", "session_id": SESSION})).await;
        }
        before_stop
    };
    within(Duration::from_secs(45), "the session is stopped", || async {
        (state_of(&client, SESSION).await.as_deref() == Some("stopped")).then_some(())
    })
    .await;

    let found = numbers(&recorded(&client, SESSION).await);
    let set: BTreeSet<u64> = found.iter().copied().collect();
    assert!(found.windows(2).all(|pair| pair[0] <= pair[1]), "out of order: {found:?}");
    // The event in flight at the kill was not answered and is sent again with the same id. A buffer on file knows the id;
    // one in memory has forgotten it with everything else, but gets it back from the recording.
    let twice: Vec<u64> = found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty(), "there twice: {twice:?} of {found:?}");
    let missing: Vec<u64> = (1..=must_have).filter(|n| !set.contains(n)).collect();
    assert!(missing.is_empty(), "answered, but not recorded: {missing:?} of 1..={must_have}");
    let state = row(&client, "streams_record_state", SESSION).await.expect("a state");
    assert_eq!(state["message_count"], found.len() as u64, "{state}");
    let session = row(&client, "streams_session", SESSION).await.expect("a session");
    assert_eq!(session["gaps"], Value::Null, "nothing is missing: {session}");
    let info = stream_info(&client, &recording(SESSION)).await;
    assert!(info["config"]["mirror"].is_null(), "it stands on its own: {info}");
    assert_eq!(info["state"]["messages"], found.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_running_with_a_buffer_on_file() {
    kill_in_state("running", "file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_running_with_a_buffer_in_memory() {
    kill_in_state("running", "memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_stopping_with_a_buffer_on_file() {
    kill_in_state("stopping", "file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_stopping_with_a_buffer_in_memory() {
    kill_in_state("stopping", "memory").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_promoting_with_a_buffer_on_file() {
    kill_in_state("promoting", "file").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_promoting_with_a_buffer_in_memory() {
    kill_in_state("promoting", "memory").await;
}
