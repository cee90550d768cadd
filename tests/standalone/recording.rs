//! Recordings: pre-roll, live, post-roll, retention, overlap, all devices.

use std::time::{Duration, Instant};

use serde_json::json;
use weir::client::jetstream::{MessageSelector, StreamConfig};
use weir::service::session::State;
use weir::sys::clock::SystemClock;
use weir_protocol::header;

use crate::fixture::Fixture;
use crate::support::eventually;

#[tokio::test]
async fn pre_roll_and_live_join_without_gap_or_duplicate_under_load() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "5m").await;
    let client = fixture.client.clone();
    let publisher = tokio::spawn(async move {
        for n in 0..3000_u32 {
            let headers = header::Builder::new().add("Custom", n.to_string()).finish();
            client.publish("t.monitor.dev-1", Some(&headers), n.to_string().into()).await.unwrap();
            if n % 3 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        client.flush().await.unwrap();
    });
    fixture.until_stored("STREAMS_BUFFER_dev-1", 300).await;
    let started = fixture
        .done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1", "pre_roll": "1m", "note": "load"}))
        .await;
    assert_eq!((started.session_id.as_deref(), started.state), (Some("s1"), Some(State::Running)));
    let session = started.session.unwrap();
    assert_eq!((session.start_sequence, session.note.as_str()), (1, "load"));
    assert!(session.first_live_sequence > 1, "messages came before the start");
    publisher.await.unwrap();
    fixture.stop("s1").await;
    fixture.publish("dev-1", 9999..10_000).await;

    let recorded = fixture.messages("STREAMS_REC_s1").await;
    let numbers: Vec<String> = (0..3000).map(|n| n.to_string()).collect();
    assert!(recorded.iter().map(|message| &message.payload[..]).eq(numbers.iter().map(|n| n.as_bytes())));
    let buffered = fixture.messages("STREAMS_BUFFER_dev-1").await;
    assert_eq!(recorded, buffered[..3000]);
    assert_eq!(header::get_str(&recorded[7].headers, "Custom"), Some("7"));
    let boundary = usize::try_from(session.first_live_sequence).unwrap() - 1;
    assert!(recorded[boundary - 1].time <= session.start);

    let shown = fixture.done(json!({"action": "show", "session_id": "s1"})).await.session.unwrap();
    assert_eq!((shown.message_count, shown.end_sequence, shown.gaps.len()), (3000, Some(3000), 0));
    assert_eq!(shown.last_message_at, Some(recorded[2999].time));
    assert!(shown.end.unwrap() >= recorded[2999].time);
    let info = fixture.js.stream_info("STREAMS_REC_s1").await.unwrap();
    assert_eq!((info.config.mirror, info.state.messages), (None, 3000));
}

#[tokio::test]
async fn a_device_without_a_buffer_has_one_while_it_is_recorded() {
    let fixture = Fixture::start().await;
    let response = fixture.done(json!({"action": "start", "device_id": "dev-1"})).await;
    let session = response.session_id.unwrap();
    assert_eq!(session.len(), 36, "{session}");
    let stream = format!("STREAMS_REC_{session}");
    fixture.publish("dev-1", 0..10).await;
    fixture.publish("dev-1.deeper", 10..12).await;
    fixture.until_count(&stream, 12).await;
    assert_eq!(fixture.js.stream_info("STREAMS_BUFFER_dev-1").await.unwrap().config.max_bytes, 64 << 20);
    fixture.stop(&session).await;
    fixture.until_gone("STREAMS_BUFFER_dev-1").await;
    fixture.publish("dev-1", 50..60).await;
    assert_eq!(fixture.numbers(&stream).await, (0..12).collect::<Vec<u32>>());
}

#[tokio::test]
async fn messages_after_the_stop_are_not_in_it_even_while_publishing_goes_on() {
    let fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "keeps-buffer"})).await;
    let client = fixture.client.clone();
    let publisher = tokio::spawn(async move {
        for n in 0.. {
            if client.publish("t.monitor.dev-1", None, n.to_string().into()).await.is_err() {
                return;
            }
            if n % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    fixture.until_stored("STREAMS_REC_s1", 100).await;
    fixture.stop("s1").await;
    publisher.abort();
    let session = fixture.done(json!({"action": "show", "session_id": "s1"})).await.session.unwrap();
    let recorded = fixture.messages("STREAMS_REC_s1").await;
    assert!(recorded.len() >= 100);
    assert_eq!(recorded.len() as u64, session.message_count);
    assert_eq!(Some(recorded.last().unwrap().sequence), session.end_sequence);
    assert!(recorded.last().unwrap().time <= session.end.unwrap());
    let sequences: Vec<u64> = recorded.iter().map(|message| message.sequence).collect();
    assert_eq!(sequences, (1..=session.message_count).collect::<Vec<u64>>());
    let beyond = MessageSelector::sequence(session.end_sequence.unwrap() + 1);
    let next = fixture.js.get_message("STREAMS_BUFFER_dev-1", &beyond).await.unwrap();
    assert!(next.is_none_or(|next| next.time > session.end.unwrap()));
}

#[tokio::test]
async fn post_roll_goes_on_after_the_stop_and_then_ends() {
    let fixture = Fixture::start().await;
    // Says of each message when it came: on a slow machine the post-roll may be over before the last ones.
    fixture.enable_buffer("dev-1", "5m").await;
    fixture
        .done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1", "post_roll": "600ms"}))
        .await;
    fixture.publish("dev-1", 0..3).await;
    let (asked, clock) = (Instant::now(), SystemClock::shared().wall());
    let stopping = fixture.done(json!({"action": "stop", "session_id": "s1"})).await;
    let waited = asked.elapsed();
    assert!(
        stopping.state == Some(State::Stopping) || waited >= Duration::from_millis(600),
        "after {waited:?}: {stopping:?}"
    );
    fixture.publish("dev-1", 3..5).await;
    fixture.until_count("STREAMS_BUFFER_dev-1", 5).await;
    fixture.stopped("s1").await;
    let end = fixture.done(json!({"action": "show", "session_id": "s1"})).await.session.unwrap().end.unwrap();
    assert!(end - clock >= 600_000_000, "it went on for {} ns", end - clock);
    let mut captured = fixture.messages("STREAMS_BUFFER_dev-1").await;
    captured.retain(|message| message.time <= end);
    assert_eq!(fixture.messages("STREAMS_REC_s1").await, captured);
}

#[tokio::test]
async fn an_empty_recording_ends_at_once() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("dev-1", "5m").await;
    fixture.publish("dev-1", 0..5).await;
    fixture.done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1"})).await;
    fixture.stop("s1").await;
    let session = fixture.done(json!({"action": "show", "session_id": "s1"})).await.session.unwrap();
    assert_eq!((session.message_count, session.gaps.len()), (0, 0));
    assert!(fixture.messages("STREAMS_REC_s1").await.is_empty());
}

#[tokio::test]
async fn recorded_messages_older_than_the_retention_go() {
    let fixture = Fixture::start().await;
    fixture
        .done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1", "retention": "1s"}))
        .await;
    fixture.publish("dev-1", 0..5).await;
    fixture.until_stored("STREAMS_REC_s1", 5).await;
    fixture.until_count("STREAMS_REC_s1", 0).await;
    fixture.stop("s1").await;
    let config = fixture.js.stream_info("STREAMS_REC_s1").await.unwrap().config;
    assert_eq!(config.max_age, 1_000_000_000);
}

#[tokio::test]
async fn all_devices_get_a_recording_each() {
    let fixture = Fixture::start().await;
    fixture.enable_buffer("quiet", "5m").await;
    fixture.done(json!({"action": "start", "session_id": "all"})).await;
    for (device, count) in [("a", 3), ("b.c", 2), ("a", 1)] {
        for _ in 0..count {
            let (status, answer) =
                fixture.http("POST", &format!("/monitor/{device}"), r#"[{"type":"t","data":1}]"#).await;
            assert_eq!((status, &answer["durability"]), (200, &json!(fixture.stored())), "{answer}");
        }
    }
    fixture.publish("nats", 0..1).await;
    eventually("the device on NATS is recorded", || async {
        fixture.js.find_stream("STREAMS_REC_all-nats").await.unwrap()
    })
    .await;
    fixture.publish("nats", 1..3).await;
    fixture.until_count("STREAMS_REC_all-nats", 2).await;
    let listed = fixture.done(json!({"action": "list"})).await.sessions.unwrap();
    let mut ids: Vec<&str> = listed.iter().map(|listed| listed.session.session_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["all", "all-a", "all-b.c", "all-nats"]);
    fixture.stop("all").await;
    for (session, count) in [("all-a", 4), ("all-b.c", 2), ("all-nats", 2), ("all", 8)] {
        let response = fixture.done(json!({"action": "show", "session_id": session})).await;
        assert_eq!(response.state, Some(State::Stopped), "{session}");
        assert_eq!(response.session.unwrap().message_count, count, "{session}");
    }
    eventually("temporary buffers are gone", || async {
        let streams = fixture.js.stream_names(Some("t.monitor.>")).await.unwrap();
        (streams == ["STREAMS_BUFFER_quiet"]).then_some(())
    })
    .await;
    assert_eq!(fixture.done(json!({"action": "delete", "session_id": "all"})).await.count, Some(4));
    assert_eq!(fixture.done(json!({"action": "list"})).await.total, Some(0));
}

#[tokio::test]
async fn the_post_roll_of_a_recording_of_all_devices_is_as_long_as_asked() {
    let fixture = Fixture::start().await;
    fixture.done(json!({"action": "start", "session_id": "all", "post_roll": "1500ms"})).await;
    let (status, answer) = fixture.http("POST", "/monitor/a", r#"[{"type":"t","data":1}]"#).await;
    assert_eq!(status, 200, "{answer}");
    let (asked, clock) = (Instant::now(), SystemClock::shared().wall());
    let stopping = fixture.done(json!({"action": "stop", "session_id": "all"})).await;
    let waited = asked.elapsed();
    assert!(
        stopping.state == Some(State::Stopping) || waited >= Duration::from_millis(1500),
        "after {waited:?}: {stopping:?}"
    );
    fixture.stopped("all").await;
    for session in ["all", "all-a"] {
        let row = fixture.done(json!({"action": "show", "session_id": session})).await.session.unwrap();
        let roll = row.end.unwrap() - clock;
        assert!(roll >= 1_500_000_000, "{session} went on for {roll} ns");
    }
}

#[tokio::test]
async fn a_post_roll_is_announced_and_cut_short_by_another_stop() {
    let fixture = Fixture::start().await;
    fixture
        .done(json!({"action": "start", "device_id": "dev-1", "session_id": "s1", "post_roll": "1h"}))
        .await;
    fixture.publish("dev-1", 0..3).await;
    let waits = fixture.done(json!({"action": "stop", "session_id": "s1"})).await;
    assert!(waits.message.starts_with("recording goes on until 2"), "{waits:?}");
    let refused = fixture.ask(json!({"action": "delete", "session_id": "s1"})).await;
    assert!(!refused.ok && refused.message.contains("once more to cut a post-roll short"), "{refused:?}");
    fixture.publish("dev-1", 3..5).await;
    fixture.stop("s1").await;
    assert_eq!(fixture.numbers("STREAMS_REC_s1").await, [0, 1, 2, 3, 4]);
    fixture.done(json!({"action": "delete", "session_id": "s1"})).await;
}

#[tokio::test]
async fn a_recording_of_all_devices_names_those_it_cannot_record() {
    let fixture = Fixture::start().await;
    for device in ["mine", "good"] {
        assert_eq!(fixture.http("POST", &format!("/monitor/{device}"), r#"[{"type":"t"}]"#).await.0, 200);
    }
    let own = StreamConfig { subjects: vec!["t.monitor.mine".to_owned()], ..StreamConfig::named("MINE") };
    fixture.js.create_stream(&own).await.unwrap();
    let started = fixture.done(json!({"action": "start", "session_id": "all"})).await;
    assert!(
        started.message.contains("not recorded: \"mine\" (") && started.message.contains("MINE"),
        "{started:?}"
    );
    let status = fixture.done(json!({"action": "status", "session_id": "all"})).await.status.unwrap();
    assert!(status.reason.is_some_and(|reason| reason.contains("MINE")));
    // It is recorded with the others as soon as it can be.
    fixture.js.delete_stream("MINE").await.unwrap();
    for device in ["mine", "good"] {
        assert_eq!(fixture.http("POST", &format!("/monitor/{device}"), r#"[{"type":"t"}]"#).await.0, 200);
    }
    let shown = fixture.done(json!({"action": "show", "session_id": "all"})).await.session.unwrap();
    assert_eq!((shown.unrecorded, shown.message_count), (vec![], 2));
}
