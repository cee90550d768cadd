//! Recordings: what is asked of the controller, what lies in the session's stream, and what the buckets say about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::fixture::{
    SESSIONS, STATES, buffer, command_bytes, control, controlled, enable_buffer, exists, feed, has_messages,
    has_stored, is_refusal, keys, nanos, next, now, numbers, publish, recording, refused, row, start,
    start_with, stop, stopped, streams, texts,
};
use crate::support::jetstream::{SECOND, all_messages, stream_info, stream_messages};
use crate::support::{Server, api, eventually, weir_ok, within};

#[tokio::test]
async fn s0_039_a_start_is_answered_with_session_and_state() {
    let server = Server::start().await;
    let client = server.connect().await;
    let answer =
        control(&client, &json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(!answer["message"].as_str().unwrap_or_default().is_empty(), "{answer}");
    assert_eq!(answer["session_id"], "s1", "{answer}");
    assert_eq!(answer["state"], "running", "{answer}");
    // It runs when the answer is there: what comes now is recorded.
    feed(&server, "dev-1", [1]).await;
    assert_eq!(numbers(&has_messages(&client, &recording("s1"), 1).await), [1]);
}

#[tokio::test]
async fn s0_040_a_session_id_is_used_verbatim_or_made_up() {
    let server = Server::start().await;
    let client = server.connect().await;
    let answer = start(&client, "dev-1", "My_Session-1").await;
    assert_eq!(answer["session_id"], "My_Session-1");
    assert_eq!(row(&client, SESSIONS, "my_session-1").await.expect("the row")["session_id"], "My_Session-1");
    assert!(exists(&client, &recording("My_Session-1")).await);

    let mut made_up = Vec::new();
    for _ in 0..2 {
        let answer = controlled(&client, &json!({"action": "start", "device_id": "dev-1"})).await;
        let id = answer["session_id"].as_str().expect("an id").to_owned();
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id} is a UUID");
        assert!(id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()), "{id}");
        assert!(exists(&client, &recording(&id)).await);
        made_up.push(id);
    }
    assert_ne!(made_up[0], made_up[1]);
    // An id that is no name is encoded.
    start(&client, "dev-1", "s 1.x").await;
    assert!(exists(&client, &recording("s=201=2Ex")).await);
    assert!(row(&client, SESSIONS, "s=201=2ex").await.is_some());
}

#[tokio::test]
async fn s0_041_a_recording_is_a_file_stream_of_its_own() {
    let server = Server::start().await;
    let client = server.connect().await;
    start_with(&client, "dev-1", "kept", json!({})).await;
    start_with(&client, "dev-1", "aged", json!({"retention": "36h"})).await;
    feed(&server, "dev-1", 1..=3).await;
    stop(&client, "kept").await;
    stop(&client, "aged").await;
    for (session, max_age) in [("kept", 0), ("aged", 36 * 3600 * SECOND)] {
        let info = stream_info(&client, &recording(session)).await;
        assert_eq!(info["config"]["storage"], "file", "{info}");
        assert_eq!(info["config"]["max_age"], max_age, "{info}");
        assert_eq!(info["state"]["messages"], 3, "{info}");
        assert!(
            info["config"].get("mirror").is_none_or(Value::is_null),
            "a stopped recording stands alone: {info}"
        );
    }
    // Any client reads it: an ordered consumer of the independent library.
    let stream = async_nats::jetstream::new(client.clone()).get_stream(recording("kept")).await.unwrap();
    let consumer = stream
        .create_consumer(async_nats::jetstream::consumer::pull::OrderedConfig::default())
        .await
        .unwrap();
    let mut messages = consumer.messages().await.unwrap();
    for number in 1..=3_u64 {
        let message = messages.next().await.unwrap().unwrap();
        let value: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!((message.subject.as_str(), value["n"].as_u64()), ("monitor.dev-1", Some(number)));
    }
}

#[tokio::test]
async fn s0_042_recorded_messages_are_the_captured_ones_to_the_nanosecond() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "5m").await;
    let send = |number: u32| {
        let mut headers = HeaderMap::new();
        headers.append("X-Own", number.to_string());
        headers.append("X-Own", "again");
        client.publish_with_headers("monitor.dev-1", headers, number.to_string().into())
    };
    for number in 0..10 {
        send(number).await.unwrap();
    }
    client.flush().await.unwrap();
    has_messages(&client, &buffer("dev-1"), 10).await;
    start_with(&client, "dev-1", "s1", json!({"pre_roll": "1m"})).await;
    for number in 10..20 {
        send(number).await.unwrap();
    }
    client.flush().await.unwrap();
    has_messages(&client, &buffer("dev-1"), 20).await;
    stop(&client, "s1").await;
    let recorded = all_messages(&client, &recording("s1")).await;
    let captured = all_messages(&client, &buffer("dev-1")).await;
    // Subject, payload, header block, time and even the sequence.
    assert_eq!(recorded, captured);
    assert_eq!(recorded.len(), 20);
}

#[tokio::test]
async fn s0_043_the_session_s_description_has_its_fields_and_the_count() {
    let server = Server::start().await;
    let client = server.connect().await;
    let before = now();
    start_with(&client, "dev-1", "s1", json!({"note": "a note", "retention": "24h"})).await;
    feed(&server, "dev-1", 1..=100).await;
    has_messages(&client, &recording("s1"), 100).await;
    stop(&client, "s1").await;
    let session = row(&client, SESSIONS, "s1").await.expect("the row");
    assert_eq!(session["session_id"], "s1", "{session}");
    assert_eq!(session["device_id"], "dev-1", "{session}");
    assert_eq!(session["subject"], "monitor.dev-1", "{session}");
    assert_eq!(session["stream"], recording("s1"), "{session}");
    assert_eq!(session["retention"], "24h", "{session}");
    assert_eq!(session["note"], "a note", "{session}");
    assert_eq!(session["message_count"], 100, "{session}");
    assert!((before..=now()).contains(&nanos(&session["start"])), "{session}");
    assert!(nanos(&session["end"]) >= nanos(&session["start"]), "{session}");
    assert_eq!(stream_messages(&client, &recording("s1")).await, 100);
}

#[tokio::test]
async fn s0_044_the_state_goes_from_running_to_stopped() {
    let server = Server::start().await;
    let client = server.connect().await;
    start(&client, "dev-0", "earlier").await;
    let bucket = async_nats::jetstream::new(client.clone()).get_key_value(STATES).await.unwrap();
    let mut watch = bucket.watch_with_history("s1").await.unwrap();
    let before = now();
    start(&client, "dev-1", "s1").await;
    feed(&server, "dev-1", 1..=5).await;
    has_messages(&client, &recording("s1"), 5).await;
    controlled(&client, &json!({"action": "stop", "session_id": "s1"})).await;
    let mut seen: Vec<Value> = Vec::new();
    while seen.last().is_none_or(|state| state["state"] != "stopped") {
        let entry = tokio::time::timeout(crate::support::PATIENCE, watch.next()).await;
        let entry = entry.unwrap_or_else(|_| panic!("it never stopped: {seen:?}")).unwrap().unwrap();
        seen.push(serde_json::from_slice(&entry.value).unwrap());
    }
    let order = ["running", "stopping", "promoting", "stopped"];
    let places: Vec<usize> = seen
        .iter()
        .map(|state| {
            order.iter().position(|name| state["state"] == *name).unwrap_or_else(|| panic!("{state}"))
        })
        .collect();
    assert_eq!(places.first(), Some(&0), "{seen:?}");
    assert!(places.is_sorted(), "{seen:?}");
    assert!(
        seen.windows(2).all(|pair| nanos(&pair[0]["updated_at"]) <= nanos(&pair[1]["updated_at"])),
        "{seen:?}"
    );
    let last = seen.last().unwrap();
    assert_eq!(
        (&last["session_id"], &last["device_id"], &last["message_count"]),
        (&json!("s1"), &json!("dev-1"), &json!(5))
    );
    let (started, message, updated) =
        (nanos(&last["started_at"]), nanos(&last["last_message_at"]), nanos(&last["updated_at"]));
    assert!(before <= started && started <= message && message <= updated, "{last}");
    assert_eq!(row(&client, STATES, "earlier").await.unwrap()["state"], "running");
}

#[tokio::test]
async fn s0_045_a_stop_ends_the_recording() {
    let server = Server::start().await;
    let client = server.connect().await;
    start(&client, "dev-1", "s1").await;
    feed(&server, "dev-1", 1..=3).await;
    let state = stop(&client, "s1").await;
    assert_eq!(state["message_count"], 3, "{state}");
    feed(&server, "dev-1", 4..=6).await;
    publish(&client, "monitor.dev-1", "later").await;
    assert_eq!(numbers(&all_messages(&client, &recording("s1")).await), [1, 2, 3]);
    let session = row(&client, SESSIONS, "s1").await.unwrap();
    assert!(nanos(&session["end"]) >= nanos(&session["start"]), "{session}");
    // The temporary buffer of a device without one goes with its last recording.
    eventually("the recording's own buffer is gone", || async {
        streams(&client, "STREAMS_BUFFER_").await.is_empty().then_some(())
    })
    .await;

    // A post-roll goes on after the stop.
    enable_buffer(&server, &client, "dev-1", "5m").await;
    start_with(&client, "dev-1", "s2", json!({"post_roll": "1s"})).await;
    let asked = now();
    controlled(&client, &json!({"action": "stop", "session_id": "s2"})).await;
    feed(&server, "dev-1", [7]).await;
    stopped(&client, "s2").await;
    let end = nanos(&row(&client, SESSIONS, "s2").await.unwrap()["end"]);
    assert!(end >= asked + SECOND, "it went on for {} ns", end - asked);
    // On a slow machine the post-roll may be over before the message came; the buffer knows when it did.
    let mut captured = has_messages(&client, &buffer("dev-1"), 1).await;
    captured.retain(|message| nanos(&json!(message.time)) <= end);
    assert_eq!(all_messages(&client, &recording("s2")).await, captured);
}

#[tokio::test]
async fn s0_046_stop_by_device_and_stop_all_end_the_sessions_meant() {
    let server = Server::start().await;
    let client = server.connect().await;
    for (device, session) in [("dev-1", "a"), ("dev-1", "b"), ("dev-2", "c")] {
        start(&client, device, session).await;
    }
    let answer = controlled(&client, &json!({"action": "stop", "device_id": "dev-1"})).await;
    assert_eq!(answer["count"], 2, "{answer}");
    stopped(&client, "a").await;
    stopped(&client, "b").await;
    assert_eq!(row(&client, STATES, "c").await.unwrap()["state"], "running");
    start(&client, "dev-3", "d").await;
    let answer = controlled(&client, &json!({"action": "stop-all"})).await;
    assert_eq!(answer["count"], 2, "{answer}");
    stopped(&client, "c").await;
    stopped(&client, "d").await;
    let answer = controlled(&client, &json!({"action": "stop-all"})).await;
    assert_eq!(answer["count"], 0, "{answer}");
}

#[tokio::test]
async fn s0_047_stopping_an_unknown_session_is_no_error() {
    let server = Server::start().await;
    let client = server.connect().await;
    for body in
        [json!({"action": "stop", "session_id": "nobody"}), json!({"action": "stop", "device_id": "nobody"})]
    {
        let answer = controlled(&client, &body).await;
        assert!(answer["message"].as_str().unwrap().contains("no active recording"), "{answer}");
    }
    assert!(keys(&client, STATES).await.is_empty(), "nothing is written about what never was");
    start(&client, "dev-1", "s1").await;
    stop(&client, "s1").await;
    let answer = controlled(&client, &json!({"action": "stop", "session_id": "s1"})).await;
    assert!(answer["message"].as_str().unwrap().contains("no active recording"), "{answer}");
}

#[tokio::test]
async fn s0_048_a_running_session_is_not_started_again() {
    let server = Server::start().await;
    let client = server.connect().await;
    start(&client, "dev-1", "s1").await;
    feed(&server, "dev-1", [1]).await;
    refused(&client, json!({"action": "start", "device_id": "dev-1", "session_id": "s1"}), "already running")
        .await;
    refused(&client, json!({"action": "start", "device_id": "dev-2", "session_id": "s1"}), "already running")
        .await;
    feed(&server, "dev-1", [2]).await;
    let state = stop(&client, "s1").await;
    assert_eq!((&state["device_id"], &state["message_count"]), (&json!("dev-1"), &json!(2)), "{state}");
}

#[tokio::test]
async fn s0_049_a_finished_session_is_not_touched_by_a_start_with_its_id() {
    let server = Server::start().await;
    let client = server.connect().await;
    start(&client, "dev-1", "s1").await;
    feed(&server, "dev-1", 1..=3).await;
    stop(&client, "s1").await;
    let (session, state) = (row(&client, SESSIONS, "s1").await, row(&client, STATES, "s1").await);
    let messages = all_messages(&client, &recording("s1")).await;
    refused(&client, json!({"action": "start", "device_id": "dev-1", "session_id": "s1"}), "s1").await;
    feed(&server, "dev-1", [4]).await;
    assert_eq!(row(&client, SESSIONS, "s1").await, session);
    assert_eq!(row(&client, STATES, "s1").await, state);
    assert_eq!(all_messages(&client, &recording("s1")).await, messages);
    // An id that differs only in case would share the row.
    refused(&client, json!({"action": "start", "device_id": "dev-1", "session_id": "S1"}), "s1").await;
    assert_eq!(row(&client, SESSIONS, "s1").await, session);
}

#[tokio::test]
async fn s0_050_recordings_of_a_device_overlap_unless_one_is_exclusive() {
    let server = Server::start().await;
    let client = server.connect().await;
    start(&client, "dev-1", "a").await;
    feed(&server, "dev-1", 1..=2).await;
    start(&client, "dev-1", "b").await;
    feed(&server, "dev-1", 3..=4).await;
    start(&client, "dev-1", "c").await;
    feed(&server, "dev-1", 5..=6).await;
    let exclusive = json!({"action": "start", "device_id": "dev-1", "session_id": "x", "exclusive": true});
    refused(&client, exclusive.clone(), "dev-1").await;
    stop(&client, "a").await;
    feed(&server, "dev-1", 7..=8).await;
    stop(&client, "b").await;
    stop(&client, "c").await;
    for (session, expected) in [("a", 1..=6), ("b", 3..=8), ("c", 5..=8)] {
        let found = numbers(&all_messages(&client, &recording(session)).await);
        assert_eq!(found, expected.collect::<Vec<_>>(), "{session}");
    }
    // Alone it starts, and then keeps others away from this device.
    controlled(&client, &exclusive).await;
    refused(&client, json!({"action": "start", "device_id": "dev-1", "session_id": "y"}), "x").await;
    start(&client, "dev-2", "z").await;
    assert!(row(&client, SESSIONS, "y").await.is_none());
}

#[tokio::test]
async fn s0_051_the_pre_roll_comes_first_with_its_own_times() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "5m").await;
    feed(&server, "dev-1", 1..=5).await;
    // These are to stay outside: older than the pre-roll when the recording starts.
    let inside = now() + 2 * SECOND;
    eventually("the first messages are two seconds old", || async { (now() > inside).then_some(()) }).await;
    feed(&server, "dev-1", 6..=10).await;
    start_with(&client, "dev-1", "s1", json!({"pre_roll": "1500ms"})).await;
    feed(&server, "dev-1", 11..=15).await;
    stop(&client, "s1").await;

    let session = row(&client, SESSIONS, "s1").await.unwrap();
    assert_eq!(session["pre_roll"], "1.5s", "{session}");
    let captured = all_messages(&client, &buffer("dev-1")).await;
    assert_eq!(numbers(&captured), (1..=15).collect::<Vec<_>>());
    assert_eq!(session["first_live_sequence"], captured[10].seq, "{session}");
    let started = nanos(&session["start"]);
    let time = |index: usize| nanos(&json!(captured[index].time));
    assert!(time(9) <= started && started <= time(10), "{session}");
    // On a slow machine some of 6 to 10 are too old as well.
    let first = (0..15).find(|index| time(*index) >= started - 1_500_000_000).unwrap();
    assert!(first >= 5, "message {} was two seconds old: {session}", first + 1);
    let recorded = all_messages(&client, &recording("s1")).await;
    assert_eq!(recorded, captured[first..], "original times and sequences");
}

#[tokio::test]
async fn s0_052_a_pre_roll_beyond_the_buffer_is_refused() {
    let server = Server::start().await;
    let client = server.connect().await;
    let with = |device: &str, pre_roll: &str| json!({"action": "start", "device_id": device, "session_id": "s1", "pre_roll": pre_roll});
    refused(&client, with("dev-1", "1m"), "buffer").await;
    enable_buffer(&server, &client, "dev-1", "2m").await;
    let answer = refused(&client, with("dev-1", "5m"), "2m").await;
    assert!(answer["message"].as_str().unwrap().contains("5m"), "value and limit are named: {answer}");
    assert!(row(&client, SESSIONS, "s1").await.is_none(), "nothing is left of a refused start");
    assert!(streams(&client, "STREAMS_REC_").await.is_empty());
    controlled(&client, &with("dev-1", "2m")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s0_053_nothing_is_missing_or_double_where_pre_roll_and_live_meet() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "5m").await;
    let (sent, go_on) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
    let publisher = {
        let (client, sent, go_on) = (server.connect().await, Arc::clone(&sent), Arc::clone(&go_on));
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(1));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            while go_on.load(Ordering::Relaxed) {
                tick.tick().await;
                let number = sent.load(Ordering::Relaxed) + 1;
                client.publish("monitor.dev-1", json!({"n": number}).to_string().into()).await.unwrap();
                client.flush().await.unwrap();
                sent.store(number, Ordering::Relaxed);
            }
        })
    };
    let reached = |number: u64| {
        let sent = Arc::clone(&sent);
        within(Duration::from_secs(60), "the publisher goes on", move || {
            let sent = Arc::clone(&sent);
            async move { (sent.load(Ordering::Relaxed) >= number).then_some(()) }
        })
    };
    reached(1000).await;
    // Five recordings begin while it runs, each with its own boundary.
    let mut boundaries = Vec::new();
    for session in 0..5 {
        let before = sent.load(Ordering::Relaxed);
        start_with(&client, "dev-1", &format!("s{session}"), json!({"pre_roll": "1m"})).await;
        boundaries.push((before, sent.load(Ordering::Relaxed)));
        reached(before + 300).await;
    }
    let mut ends = Vec::new();
    for session in 0..5 {
        ends.push(sent.load(Ordering::Relaxed));
        stop(&client, &format!("s{session}")).await;
    }
    go_on.store(false, Ordering::Relaxed);
    publisher.await.unwrap();
    for (session, ((before, started), stopping)) in boundaries.into_iter().zip(ends).enumerate() {
        let found = numbers(&all_messages(&client, &recording(&format!("s{session}"))).await);
        let (first, last) = (found[0], *found.last().unwrap());
        assert_eq!(found, (first..=last).collect::<Vec<_>>(), "session {session}: a gap or a duplicate");
        assert!(first <= started, "session {session} starts with {first}, after the start at {started}");
        assert!(first < before, "session {session} has no pre-roll: {first} to {before}");
        assert!(last >= stopping, "session {session} ends with {last} before the stop at {stopping}");
        let row = row(&client, SESSIONS, &format!("s{session}")).await.unwrap();
        assert!(row.get("gaps").is_none(), "{row}");
    }
}

#[tokio::test]
async fn s0_054_pre_roll_messages_keep_their_headers() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev-1", "5m").await;
    let mut headers = HeaderMap::new();
    headers.append("X-Own", "kept");
    client.publish_with_headers("monitor.dev-1", headers, "x".into()).await.unwrap();
    client.flush().await.unwrap();
    feed(&server, "dev-1", [2]).await;
    has_messages(&client, &buffer("dev-1"), 2).await;
    start_with(&client, "dev-1", "s1", json!({"pre_roll": "1m"})).await;
    stop(&client, "s1").await;
    let recorded = all_messages(&client, &recording("s1")).await;
    assert_eq!(recorded[0].header("X-Own").as_deref(), Some("kept"));
    assert_eq!(recorded[1].header("X-Monitor-Device").as_deref(), Some("dev-1"));
    assert_eq!(recorded[1].header("X-Monitor-Type").as_deref(), Some("state"));
}

#[tokio::test]
async fn s0_055_retention_takes_recorded_messages_away() {
    let server = Server::start().await;
    let client = server.connect().await;
    start_with(&client, "dev-1", "s1", json!({"retention": "2s"})).await;
    feed(&server, "dev-1", 1..=10).await;
    has_stored(&client, &recording("s1"), 10).await;
    stop(&client, "s1").await;
    eventually("the recording is empty", || async {
        (stream_messages(&client, &recording("s1")).await == 0).then_some(())
    })
    .await;
    assert!(row(&client, SESSIONS, "s1").await.is_some());
}

#[tokio::test]
async fn s0_056_bad_requests_are_refused_with_a_reason() {
    let server = Server::start().await;
    let client = server.connect().await;
    let bad: [(&[u8], &str); 12] = [
        (br#"{"action":"start","device_id":"dev-1","pre_roll":"soon"}"#, "soon"),
        (br#"{"action":"start","device_id":"dev-1","retention":"-1s"}"#, "-1s"),
        (br#"{"action":"start","device_id":"dev-1","post_roll":"5"}"#, "5"),
        (br#"{"action":"start","subject":""}"#, "subject"),
        (br#"{"action":"start","subject":"monitor.*"}"#, "monitor.*"),
        (br#"{"action":"start","subject":"elsewhere.dev-1"}"#, "elsewhere"),
        (br#"{"action":"start","device_id":""}"#, "empty"),
        (br#"{"action":"start","device_id":"dev-1","session_id":" "}"#, "empty"),
        (br#"{"action":"dance"}"#, "dance"),
        (br#"{"device_id":"dev-1"}"#, "action"),
        (br#"{"action":"#, ""),
        (b"\xff\xfe", ""),
    ];
    for (body, reason) in bad {
        is_refusal(&command_bytes(&client, body).await, reason);
    }
    is_refusal(&command_bytes(&client, b"").await, "");
    is_refusal(
        &command_bytes(&client, br#"{"action":"start","device_id":"d","colour":"red"}"#).await,
        "colour",
    );
    assert!(keys(&client, SESSIONS).await.is_empty());
    assert!(streams(&client, "STREAMS_").await.is_empty());
}

#[tokio::test]
async fn s0_057_a_note_is_kept_and_shown() {
    let server = Server::start().await;
    let client = server.connect().await;
    let note = "Pump 3 hums \u{2014} \"again\"";
    start_with(&client, "dev-1", "s1", json!({"note": note})).await;
    assert_eq!(row(&client, SESSIONS, "s1").await.unwrap()["note"], note);
    let shown = weir_ok(&server.url(), &["record", "show", "s1"]).await;
    assert!(shown.contains(note), "{shown}");
    stop(&client, "s1").await;
    assert_eq!(row(&client, SESSIONS, "s1").await.unwrap()["note"], note);
    let answer = controlled(&client, &json!({"action": "show", "session_id": "s1"})).await;
    assert_eq!(answer["session"]["note"], note, "{answer}");
}

#[tokio::test]
async fn s0_058_all_devices_are_recorded_each_in_a_session_of_its_own() {
    let server = Server::start().await;
    let client = server.connect().await;
    feed(&server, "known", [0]).await;
    controlled(&client, &json!({"action": "start", "session_id": "all"})).await;
    feed(&server, "known", 1..=5).await;
    feed(&server, "fresh.1", 1..=5).await;
    // Over NATS nobody can be held back: a device that was never seen is recorded from soon after its first message on.
    publish(&client, "monitor.native", json!({"n": 0}).to_string()).await;
    eventually("the device on NATS is recorded", || async {
        exists(&client, &recording("all-native")).await.then_some(())
    })
    .await;
    for number in 1..=5 {
        publish(&client, "monitor.native", json!({"n": number}).to_string()).await;
    }
    for (session, least) in [("all-known", 5), ("all-fresh=2E1", 5), ("all-native", 5)] {
        let stream = recording(session);
        eventually(&format!("{stream} has its messages"), || {
            let (client, stream) = (client.clone(), stream.clone());
            async move {
                (exists(&client, &stream).await && stream_messages(&client, &stream).await >= least)
                    .then_some(())
            }
        })
        .await;
    }
    assert_eq!(streams(&client, "STREAMS_REC_").await.len(), 3);
    feed(&server, "known", [6]).await;
    publish(&client, "monitor.native", json!({"n": 6}).to_string()).await;
    controlled(&client, &json!({"action": "stop", "session_id": "all"})).await;
    for session in ["all", "all-known", "all-fresh=2e1", "all-native"] {
        stopped(&client, session).await;
    }
    feed(&server, "known", [7]).await;
    assert_eq!(numbers(&all_messages(&client, &recording("all-known")).await), (1..=6).collect::<Vec<_>>());
    assert_eq!(
        numbers(&all_messages(&client, &recording("all-fresh=2E1")).await),
        (1..=5).collect::<Vec<_>>()
    );
    let native = numbers(&all_messages(&client, &recording("all-native")).await);
    assert!(native == [1, 2, 3, 4, 5, 6] || native == [0, 1, 2, 3, 4, 5, 6], "{native:?}");
    for session in ["all-known", "all-fresh=2e1", "all-native"] {
        assert_eq!(row(&client, SESSIONS, session).await.unwrap()["parent"], "all");
    }
}

/// The buffer was purged far ahead while the recording ended.
#[tokio::test]
async fn an_end_does_not_count_the_sequences_that_no_message_has() {
    let server = Server::start().await;
    let client = server.connect().await;
    enable_buffer(&server, &client, "dev", "5m").await;
    start(&client, "dev", "s").await;
    feed(&server, "dev", [1]).await;
    let far = json!({"seq": 1u64 << 62});
    let purged = api(&client, &format!("STREAM.PURGE.{}", buffer("dev")), &far).await;
    assert!(purged["error"].is_null(), "{purged}");
    feed(&server, "dev", [2]).await;
    has_messages(&client, &recording("s"), 2).await;
    let mut state = row(&client, STATES, "s").await.unwrap();
    state["state"] = json!("promoting");
    state["stop_sequence"] = json!(1);
    publish(&client, &format!("$KV.{STATES}.s"), state.to_string()).await;
    controlled(&client, &json!({"action": "stop", "session_id": "s"})).await;
    stopped(&client, "s").await;
    assert_eq!(numbers(&all_messages(&client, &recording("s")).await), [1]);
}

/// The rows are anybody's to write.
#[tokio::test]
async fn a_session_that_names_itself_its_parent_is_listed() {
    let server = Server::start().await;
    let client = server.connect().await;
    controlled(&client, &json!({"action": "start", "session_id": "all"})).await;
    let mut written = row(&client, SESSIONS, "all").await.unwrap();
    written["parent"] = json!("all");
    written["message_count"] = json!(u64::MAX);
    publish(&client, &format!("$KV.{SESSIONS}.all"), written.to_string()).await;
    eventually("it is listed as it was written", || async {
        let listed = controlled(&client, &json!({"action": "list"})).await;
        let told = listed["sessions"][0]["parent"] == "all";
        told.then_some(())
    })
    .await;
    controlled(&client, &json!({"action": "stop", "session_id": "all"})).await;
    stopped(&client, "all").await;
}

#[tokio::test]
async fn s0_059_recordings_of_two_devices_do_not_mix() {
    let server = Server::start().await;
    let client = server.connect().await;
    start(&client, "dev-1", "a").await;
    start(&client, "dev-2", "b").await;
    for number in 0..200 {
        let device = if number % 2 == 0 { "dev-1" } else { "dev-2" };
        client.publish(format!("monitor.{device}"), json!({"n": number}).to_string().into()).await.unwrap();
    }
    client.flush().await.unwrap();
    has_messages(&client, &recording("a"), 100).await;
    has_messages(&client, &recording("b"), 100).await;
    stop(&client, "a").await;
    stop(&client, "b").await;
    for (session, first) in [("a", 0), ("b", 1)] {
        let found = numbers(&all_messages(&client, &recording(session)).await);
        assert_eq!(found, (first..200).step_by(2).collect::<Vec<_>>(), "{session}");
    }
}

#[tokio::test]
async fn s0_060_deeper_subjects_are_recorded_with_the_device() {
    let server = Server::start().await;
    let client = server.connect().await;
    start(&client, "dev-1", "s1").await;
    publish(&client, "monitor.dev-1", "1").await;
    publish(&client, "monitor.dev-1.sensor", "2").await;
    publish(&client, "monitor.dev-1.sensor.temp", "3").await;
    publish(&client, "monitor.dev-10.sensor", "not this").await;
    has_messages(&client, &recording("s1"), 3).await;
    stop(&client, "s1").await;
    let recorded = all_messages(&client, &recording("s1")).await;
    assert_eq!(texts(&recorded), ["1", "2", "3"]);
    assert_eq!(recorded[2].subject, "monitor.dev-1.sensor.temp");
}

/// A session is deleted over the controller, and over a list it can be found before.
#[tokio::test]
async fn sessions_are_listed_and_deleted_over_the_controller() {
    let server = Server::start().await;
    let client = server.connect().await;
    let mut playback = client.subscribe("streams.record.cmd").await.unwrap();
    client.flush().await.unwrap();
    start(&client, "dev-1", "a").await;
    start(&client, "dev-2", "b").await;
    // Others may listen to the commands; the controller alone answers.
    next(&mut playback).await;
    let answer = controlled(&client, &json!({"action": "list", "device_id": "dev-1"})).await;
    assert_eq!(
        (&answer["total"], &answer["sessions"][0]["session_id"]),
        (&json!(1), &json!("a")),
        "{answer}"
    );
    refused(&client, json!({"action": "delete", "session_id": "a"}), "running").await;
    stop(&client, "a").await;
    controlled(&client, &json!({"action": "delete", "session_id": "a"})).await;
    assert!(row(&client, SESSIONS, "a").await.is_none() && row(&client, STATES, "a").await.is_none());
    assert_eq!(streams(&client, "STREAMS_REC_").await, [recording("b")]);
    refused(&client, json!({"action": "delete", "session_id": "a"}), "a").await;
    refused(&client, json!({"action": "show", "session_id": "a"}), "a").await;
}

/// While rows of devices change, buffers are compared with them again and again: the buffer that a recording has just been
/// given must not be taken for one that nobody needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffer_made_for_a_recording_survives_changes_of_the_devices_rows() {
    let server = Server::start().await;
    let client = server.connect().await;
    feed(&server, "other", [0]).await;
    let go_on = Arc::new(AtomicBool::new(true));
    let writer = {
        let (client, go_on) = (server.connect().await, Arc::clone(&go_on));
        let bucket = async_nats::jetstream::new(client).get_key_value(crate::fixture::DEVICES).await.unwrap();
        tokio::spawn(async move {
            let mut number = 0_u64;
            while go_on.load(Ordering::Relaxed) {
                number += 1;
                let row = json!({"device_id": "other", "description": number.to_string()});
                bucket.put("other", row.to_string().into()).await.unwrap();
            }
        })
    };
    for number in 0..150 {
        let (device, session) = (format!("dev-{number}"), format!("s{number}"));
        start(&client, &device, &session).await;
        feed(&server, &device, [number]).await;
        assert_eq!(numbers(&all_messages(&client, &recording(&session)).await), [number], "{session}");
        // Few buffers at a time, so that they are compared often.
        stop(&client, &session).await;
    }
    go_on.store(false, Ordering::Relaxed);
    writer.await.unwrap();
}
