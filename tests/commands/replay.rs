//! `weir replay`: what is published, when, where, and what stays behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::capture::{
    ingest, number, numbers, recorded, recording, start_recording, stop_recording,
};
use crate::support::jetstream::{Stored, header, stream_messages, take, take_all};
use crate::support::{PATIENCE, Server, api, eventually, weir, weir_err, weir_ok};

/// A session `s` of device `dev` with `count` numbered messages, `gap` apart, each with a header of its own.
async fn record(server: &Server, count: u64, gap: Duration) -> Client {
    let client = server.connect().await;
    start_recording(&client, "dev", "s").await;
    let start = Instant::now();
    for n in 1..=count {
        let due = start + gap * u32::try_from(n - 1).expect("small");
        tokio::time::sleep_until(due.into()).await;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("X-Own", format!("own-{n}"));
        let payload = json!({"n": n}).to_string();
        client.publish_with_headers("monitor.dev", headers, payload.into()).await.expect("publish");
        client.flush().await.expect("flush");
    }
    stop_recording(&client, "s").await;
    assert_eq!(numbers(&recorded(&client, "s").await), (1..=count).collect::<Vec<_>>());
    client
}

fn payload_numbers(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| number(&message.payload)).collect()
}

/// How many entries the bucket with the positions of replays holds, markers of deleted ones included.
async fn positions(client: &Client) -> u64 {
    stream_messages(client, "KV_streams_replay_state").await
}

/// `weir replay ARGS`, running.
fn replay(server: &Server, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("replay")
        .args(args)
        .env("NATS_URL", server.url())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts")
}

/// Replays and notes how long after the command was typed each message arrived.
async fn timed(
    server: &Server,
    client: &Client,
    args: &[&str],
    count: usize,
) -> (Vec<Message>, Vec<Duration>) {
    let mut playback = client.subscribe("playback").await.expect("subscribe");
    client.flush().await.expect("flush");
    let mut all: Vec<&str> = vec!["s", "--target", "playback"];
    all.extend(args);
    let begin = Instant::now();
    let mut child = replay(server, &all);
    let (mut messages, mut times) = (Vec::new(), Vec::new());
    while messages.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(60), playback.next()).await;
        let message =
            next.unwrap_or_else(|_| panic!("{} of {count} came", messages.len())).expect("a message");
        times.push(begin.elapsed());
        messages.push(message);
    }
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("status");
    assert!(status.success(), "{status}");
    (messages, times)
}

/// Replays a whole session and holds each arrival against its recorded time divided by `speed`. No message may come earlier
/// after the command than it is due after the first one; each must come when it is due in one of some replays, because what
/// is late can be the machine's doing.
async fn paced(server: &Server, client: &Client, args: &[&str], speed: f64) {
    let recorded = recorded(client, "s").await;
    let at = |message: &Stored| message.time.parse::<jiff::Timestamp>().expect("a time").as_duration();
    let first = at(&recorded[0]);
    let due: Vec<Duration> =
        recorded.iter().map(|message| (at(message) - first).unsigned_abs().div_f64(speed)).collect();
    let mut not_yet: Vec<usize> = (0..due.len()).collect();
    for _ in 0..20 {
        let (messages, times) = timed(server, client, args, due.len()).await;
        assert_eq!(payload_numbers(&messages), numbers(&recorded));
        for (time, due) in times.iter().zip(&due) {
            assert!(time >= due, "{args:?}: due {due:?}, came {time:?}");
        }
        not_yet.retain(|n| (times[*n] - times[0]).abs_diff(due[*n]) >= Duration::from_millis(60));
        if not_yet.is_empty() {
            return;
        }
    }
    panic!("{args:?}: the messages at {not_yet:?} never came when they were due");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_066_every_message_once_in_order_on_the_target() {
    let server = Server::start().await;
    let client = record(&server, 100, Duration::ZERO).await;
    for (args, subject) in [
        (vec!["s"], "streams.playback.dev"),
        (vec!["s", "--target", "elsewhere"], "elsewhere"),
        (vec!["s", "--map", "monitor.>=test.>"], "test.dev"),
    ] {
        let mut playback = client.subscribe(subject).await.expect("subscribe");
        client.flush().await.expect("flush");
        let mut all = vec!["replay"];
        all.extend(args);
        all.extend(["--speed", "100"]);
        weir_ok(&server.url(), &all).await;
        let messages = take_all(&client, &mut playback, 100).await;
        assert_eq!(payload_numbers(&messages), (1..=100).collect::<Vec<_>>(), "on {subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_067_speed_1_keeps_the_original_gaps() {
    let server = Server::start().await;
    let client = record(&server, 8, Duration::from_millis(200)).await;
    paced(&server, &client, &[], 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_068_speed_5_takes_a_fifth_and_a_quarter_four_times() {
    let server = Server::start().await;
    let client = record(&server, 6, Duration::from_millis(200)).await;
    paced(&server, &client, &["--speed", "5"], 5.0).await;
    paced(&server, &client, &["--speed", "0.25"], 0.25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_069_speed_0_means_1_and_impossible_speeds_are_refused() {
    let server = Server::start().await;
    let client = record(&server, 4, Duration::from_millis(200)).await;
    paced(&server, &client, &["--speed", "0"], 1.0).await;
    let mut playback = client.subscribe("streams.playback.>").await.expect("subscribe");
    client.flush().await.expect("flush");
    for bad in ["-1", "NaN", "inf", "-inf", "0.001", "1001", "fast"] {
        let flag = format!("--speed={bad}");
        let error = weir_err(&server.url(), &["replay", "s", &flag]).await;
        assert!(error.contains("speed") && error.contains(bad), "{bad}: {error}");
    }
    client.publish("streams.playback.end", "".into()).await.expect("publish");
    let first = take(&mut playback, 1).await.remove(0);
    assert_eq!(first.subject.as_str(), "streams.playback.end", "a refused replay publishes nothing");
    let error = weir_err(&server.url(), &["replay", "nope"]).await;
    assert!(error.contains("nope"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_070_headers_stay_and_four_are_added() {
    let server = Server::start().await;
    let client = record(&server, 3, Duration::from_millis(10)).await;
    let originals = recorded(&client, "s").await;
    let before = jiff::Timestamp::now();
    let (messages, _) = timed(&server, &client, &[], 3).await;
    for (n, (message, original)) in messages.iter().zip(&originals).enumerate() {
        assert_eq!(header(message, "X-Own"), Some(format!("own-{}", n + 1).as_str()));
        assert_eq!(header(message, "X-Streams-Device"), Some("dev"));
        assert_eq!(header(message, "X-Streams-Session"), Some("s"));
        let time = |name: &str| {
            let value = header(message, name).unwrap_or_else(|| panic!("{name} is missing"));
            value.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{name} {value}: {error}"))
        };
        let recorded_at: jiff::Timestamp = original.time.parse().expect("a time");
        assert_eq!(time("X-Streams-Recorded-At"), recorded_at);
        assert!(
            time("X-Streams-Replayed-At") >= before
                && time("X-Streams-Replayed-At") <= jiff::Timestamp::now()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_071_a_start_time_skips_what_was_before_it() {
    let server = Server::start().await;
    let client = record(&server, 10, Duration::from_millis(20)).await;
    let originals = recorded(&client, "s").await;
    let (messages, _) = timed(&server, &client, &["--from", &originals[6].time, "--speed", "100"], 4).await;
    assert_eq!(payload_numbers(&messages), [7, 8, 9, 10]);
    let (messages, _) = timed(
        &server,
        &client,
        &["--from", &originals[2].time, "--to", &originals[4].time, "--speed", "100"],
        2,
    )
    .await;
    assert_eq!(payload_numbers(&messages)[..2], [3, 4]);
    let error = weir_err(&server.url(), &["replay", "s", "--from", "yesterday-ish"]).await;
    assert!(error.contains("yesterday-ish"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_072_a_stopped_replay_continues_at_the_next_message() {
    let server = Server::start().await;
    let client = server.connect().await;
    start_recording(&client, "dev", "s").await;
    ingest(server.http(), "dev", 1..=40).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ingest(server.http(), "dev", 41..=100).await;
    stop_recording(&client, "s").await;
    let mut playback = client.subscribe("playback").await.expect("subscribe");
    client.flush().await.expect("flush");
    // After 40 messages nothing comes for 20 s: time enough to interrupt it.
    let mut child = replay(&server, &["s", "--target", "playback", "--speed", "0.05"]);
    let mut seen = take(&mut playback, 40).await;
    let pid = child.id().expect("it runs").to_string();
    let signalled = std::process::Command::new("sh").args(["-c", "kill -s INT \"$0\"", &pid]).status();
    assert!(signalled.expect("a shell runs").success());
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("status");
    assert_eq!(positions(&client).await, 1, "a stopped one is kept");
    weir_ok(&server.url(), &["replay", "s", "--target", "playback", "--resume", "--speed", "100"]).await;
    seen.extend(take_all(&client, &mut playback, 60).await);
    assert_eq!(payload_numbers(&seen), (1..=100).collect::<Vec<_>>(), "all, none twice");
    assert_eq!(positions(&client).await, 0, "a finished replay leaves no position");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_073_a_slow_replay_neither_repeats_nor_ends_early() {
    // Longer than any ack wait (30 s by default): a replay must not depend on one.
    let server = Server::start().await;
    let client = record(&server, 36, Duration::from_millis(10)).await;
    let (messages, times) = timed(&server, &client, &["--rate", "1"], 36).await;
    assert_eq!(payload_numbers(&messages), (1..=36).collect::<Vec<_>>());
    let took = *times.last().expect("times");
    assert!(took >= Duration::from_secs(35), "one a second: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_074_two_replays_are_independent_and_leave_nothing_behind() {
    let server = Server::start().await;
    let client = record(&server, 20, Duration::from_millis(25)).await;
    let mut one = client.subscribe("one").await.expect("subscribe");
    let mut two = client.subscribe("two").await.expect("subscribe");
    client.flush().await.expect("flush");
    let mut first = replay(&server, &["s", "--target", "one"]);
    let mut second = replay(&server, &["s", "--target", "two", "--speed", "2"]);
    for child in [&mut first, &mut second] {
        let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("it ends");
        assert!(status.expect("status").success());
    }
    for playback in [&mut one, &mut two] {
        let messages = take_all(&client, playback, 20).await;
        assert_eq!(payload_numbers(&messages), (1..=20).collect::<Vec<_>>());
    }
    let consumers = api(&client, &format!("CONSUMER.NAMES.{}", recording("s")), &Value::Null).await;
    assert_eq!(consumers["total"], 0, "{consumers}");
    assert_eq!(positions(&client).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_session_takes_the_positions_of_its_replays_with_it() {
    let server = Server::start().await;
    let client = record(&server, 20, Duration::from_millis(25)).await;
    let mut playback = client.subscribe("playback").await.expect("subscribe");
    client.flush().await.expect("flush");
    let mut child = replay(&server, &["s", "--target", "playback", "--speed", "0.01"]);
    take(&mut playback, 1).await;
    eventually("its position is kept", || async { (positions(&client).await == 1).then_some(()) }).await;
    child.kill().await.expect("it can be killed");
    weir_ok(&server.url(), &["record", "delete", "s"]).await;
    assert_eq!(positions(&client).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_081_the_replay_of_an_empty_session_returns_at_once() {
    let server = Server::start().await;
    let client = server.connect().await;
    ingest(server.http(), "dev", 1..=3).await;
    start_recording(&client, "dev", "s").await;
    stop_recording(&client, "s").await;
    weir_ok(&server.url(), &["replay", "s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_nothing_says_why() {
    let server = Server::start().await;
    let client = record(&server, 3, Duration::from_millis(10)).await;
    let times: Vec<String> = recorded(&client, "s").await.into_iter().map(|message| message.time).collect();
    let shown =
        |time: &str| time.parse::<jiff::Timestamp>().map(|time| format!("{time:.3}")).expect("a time");
    let (first, last) = (shown(&times[0]), shown(&times[2]));
    let bounds = format!("from {first} to {last}");
    for (args, parts) in [
        (&["--from", "30m"][..], [" is after the last message", &*bounds]),
        (
            &["--from", "2200-01-01T00:00:00Z"],
            ["--from 2200-01-01T00:00:00.000Z is after the last message", &bounds],
        ),
        (&["--to", "0s"], ["is not after the first message", &bounds]),
        (&["--from", "2s", "--to", "1s"], ["--to is not after --from", &bounds]),
        (&["--loop", "0"], ["--loop", "above 0"]),
        (&["--loop", "-1"], ["-1", "--loop"]),
    ] {
        let error = weir_err(&server.url(), &[&["replay", "s"], args].concat()).await;
        for part in parts {
            assert!(error.contains(part), "{args:?}: {part:?} is not in {error}");
        }
    }
    let output = weir(&server.url(), &["replay", "s", "--filter", "other.>"]).await;
    assert!(output.status.success());
    let (said, remark) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("replayed 0 messages"), "{said}");
    assert!(remark.contains("--filter"), "{remark}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_as_long_as_it_says() {
    let server = Server::start().await;
    let client = record(&server, 3, Duration::from_millis(10)).await;
    let (messages, _) = timed(&server, &client, &["--loop", "2"], 6).await;
    assert_eq!(payload_numbers(&messages), [1, 2, 3, 1, 2, 3]);
    let (mut messages, mut child) = (client.subscribe("endless").await.expect("subscribe"), None);
    client.flush().await.expect("flush");
    for _ in 0..100 {
        child.get_or_insert_with(|| replay(&server, &["s", "--target", "endless", "--unpaced", "--loop"]));
        take(&mut messages, 1).await;
    }
    let mut child = child.expect("it runs");
    assert!(child.try_wait().expect("a status").is_none(), "it goes on");
    child.kill().await.expect("it is stopped");
}
