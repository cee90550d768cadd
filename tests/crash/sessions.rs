//! Sessions under fire: recordings with random start, stop, pre-roll and post-roll, while the server is killed at random instants,
//! held against what the publishers know.
//!
//! One device posts numbered events over HTTP, the same ones again until they are answered, and notes around each post what
//! time it was; another publishes numbered messages over NATS and never hears of them again. What must be in a session, and
//! what must not, follows from those notes and from the span that the session's rows tell; wherever the buffer still has a
//! message, its timestamp decides and the session must equal it to the byte. Session and expected set must be equal but for
//! what nobody can know: what was in flight at a kill or at the edges of the span.

use std::collections::BTreeMap;
use std::io::Result;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::campaign::{Campaign, Random, carried_out, is_whole, tell};
use crate::raw::{Message, Raw, is_gone};
use crate::support::{Server, http};

const POSTED: &str = "posted";
const SENT: &str = "sent";
const SESSION: &str = "s";
/// How long the publishers publish, in milliseconds.
const LOAD: u64 = 500;
/// Servers at a time.
const AT_ONCE: usize = 4;

/// Where the server is; `None` while it is down.
type Address = watch::Receiver<Option<(String, String)>>;

/// Nanoseconds since 1970: the clock that the server stamps with.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

/// What is known of an event that was posted.
#[derive(Clone, Debug)]
struct Posted {
    /// Before its first post.
    before: i64,
    /// When 200 came, and what it said of durability.
    answered: Option<(i64, String)>,
}

/// Waits for the server, up to the end of the load.
async fn address(server: &mut Address, until: i64) -> Option<(String, String)> {
    let left = Duration::from_nanos(u64::try_from(until.saturating_sub(now())).ok()?);
    let found = tokio::time::timeout(left, server.wait_for(Option::is_some)).await.ok()?.ok()?;
    found.clone()
}

/// The server at this address was killed, or is about to be, and that is what the error says.
#[track_caller]
fn was_killed(server: &Address, address: &str, error: &std::io::Error) {
    let there = server.borrow().clone();
    let is_there = there.is_some_and(|(client, http)| [client, http].iter().any(|other| other == address));
    assert!(!is_there, "the server at {address} was not killed, and yet: {error}");
    assert!(is_gone(error), "not what a kill leaves of a connection: {error}");
}

/// Posts events until `until`; by number, from 1.
async fn post_events(mut server: Address, until: i64, mut random: Random) -> Vec<Posted> {
    let mut log: Vec<Posted> = Vec::new();
    let (mut answered, mut sent) = (0, 0);
    while now() < until {
        let Some((_, http)) = address(&mut server, until).await else { break };
        if sent == answered {
            sent += usize::try_from(random.within(1..=5)).expect("small");
            log.resize(sent, Posted { before: now(), answered: None });
        }
        let events: Vec<Value> = (answered + 1..=sent)
            .map(|n| json!({"id": format!("e{n}"), "type": "n", "symbol": "s", "data": n}))
            .collect();
        let body = Value::from(events).to_string();
        let path = format!("/monitor/{POSTED}");
        let answer = http::try_request(&http, "POST", &path, &[], body.as_bytes()).await;
        match answer.map(|answer| carried_out(&answer)) {
            Ok(Some(body)) => {
                let durability = body["durability"].as_str().unwrap_or("?").to_owned();
                for posted in log.iter_mut().skip(answered) {
                    posted.answered = Some((now(), durability.clone()));
                }
                answered = sent;
            }
            Ok(None) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(error) => was_killed(&server, &http, &error),
        }
        tokio::time::sleep(Duration::from_millis(random.within(0..=6))).await;
    }
    log
}

/// Publishes messages until `until`; before and after each write, by number, from 1.
async fn send_messages(mut server: Address, until: i64, mut random: Random) -> Vec<(i64, i64)> {
    let mut log = Vec::new();
    while let Some((client, _)) = address(&mut server, until).await {
        let publish: Result<()> = async {
            let mut raw = Raw::connect(&client, "sender").await?;
            while now() < until {
                let before = now();
                let number = log.len() + 1;
                log.push((before, before));
                let subject = if random.once_in(3) { "monitor.sent.below" } else { "monitor.sent" };
                raw.write(&Raw::publish(subject, "", number.to_string().as_bytes())).await?;
                raw.flush().await?;
                if let Some(last) = log.last_mut() {
                    last.1 = now();
                }
                tokio::time::sleep(Duration::from_millis(random.within(0..=4))).await;
            }
            Ok(())
        }
        .await;
        match publish {
            Ok(()) => break,
            Err(error) => was_killed(&server, &client, &error),
        }
    }
    log
}

/// One run: what is chosen for it.
#[derive(Clone, Debug)]
struct Plan {
    storage: &'static str,
    /// Milliseconds from the beginning.
    start: u64,
    stop: u64,
    kills: Vec<u64>,
    pre_roll: u64,
    post_roll: u64,
}

impl Plan {
    fn choose(random: &mut Random) -> Self {
        let start = random.within(0..=LOAD);
        let kills = random.within(0..=2);
        let mut kills: Vec<u64> = (0..kills).map(|_| random.within(0..=LOAD)).collect();
        kills.sort_unstable();
        Self {
            storage: if random.once_in(2) { "memory" } else { "file" },
            start,
            stop: random.within(start..=LOAD),
            kills,
            pre_roll: if random.once_in(3) { 0 } else { random.within(1..=LOAD) },
            post_roll: if random.once_in(3) { random.within(1..=100) } else { 0 },
        }
    }
}

/// A request until it is answered; the answer's status and JSON.
async fn ask(server: &mut Address, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    loop {
        let (_, http) = address(server, i64::MAX).await.expect("the server comes back");
        match http::try_request(&http, method, path, &[], body.as_bytes()).await {
            // A kill may cut the body off.
            Ok(answer) if is_whole(&answer) => return (answer.status, answer.json()),
            Ok(_) => was_killed(server, &http, &std::io::ErrorKind::UnexpectedEof.into()),
            Err(error) => was_killed(server, &http, &error),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts and stops the two recordings of a run; when the last start was answered.
async fn record(mut server: Address, begun: i64, plan: Plan) -> i64 {
    let at = |millis: u64| begun + i64::try_from(millis).expect("small") * 1_000_000;
    sleep_until(at(plan.start)).await;
    for device in [POSTED, SENT] {
        let start = json!({"device_id": device, "session_id": session(device),
            "pre_roll": format!("{}ms", plan.pre_roll), "post_roll": format!("{}ms", plan.post_roll)});
        let (status, answer) = ask(&mut server, "POST", "/api/v1/recordings", &start).await;
        let again =
            status == 409 && answer["error"].as_str().is_some_and(|why| why.contains("already running"));
        assert!(status == 201 || again, "{start}: {status} {answer}");
    }
    let started = now();
    sleep_until(at(plan.stop)).await;
    for device in [POSTED, SENT] {
        let path = format!("/api/v1/recordings/{}/stop", session(device));
        let (status, answer) = ask(&mut server, "POST", &path, &Value::Null).await;
        assert_eq!(status, 200, "{answer}");
    }
    started
}

fn session(device: &str) -> String {
    format!("{SESSION}-{device}")
}

async fn sleep_until(at: i64) {
    tokio::time::sleep(Duration::from_nanos(u64::try_from(at - now()).unwrap_or_default())).await;
}

/// A session as its rows tell it, with everything in it.
struct Found {
    row: Value,
    /// The span by the server's clock, pre-roll and post-roll included.
    from: i64,
    to: i64,
    messages: Vec<Message>,
}

fn time(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    weir_protocol::time::parse_rfc3339(text).unwrap_or_else(|error| panic!("{error}"))
}

async fn found(server: &mut Address, raw: &mut Raw, device: &str, plan: &Plan) -> Found {
    let path = format!("/api/v1/recordings/{}", session(device));
    let deadline = now() + 45_000_000_000;
    loop {
        let (status, answer) = ask(server, "GET", &path, &Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        if answer["state"] == "stopped" {
            let row = answer["session"].clone();
            let messages = raw.all(&format!("STREAMS_REC_{}", session(device))).await.expect("a stream");
            assert_eq!(row["message_count"], messages.len(), "{row}");
            let pre_roll = i64::try_from(plan.pre_roll).expect("small") * 1_000_000;
            return Found { from: time(&row["start"]) - pre_roll, to: time(&row["end"]), row, messages };
        }
        assert!(now() < deadline, "the session does not end: {answer}");
        // A stop that a kill swallowed is asked for again.
        if answer["state"] == "running" {
            let (status, answer) = ask(server, "POST", &format!("{path}/stop"), &Value::Null).await;
            assert_eq!(status, 200, "{answer}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn number(message: &Message) -> usize {
    std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok()).expect("a number")
}

/// In order, none twice, no gap named, and equal to the buffer where it has the span.
fn check_against_buffer(found: &Found, buffer: &[Message]) {
    let numbers: Vec<usize> = found.messages.iter().map(number).collect();
    let wrong: Vec<&[usize]> = numbers.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
    assert!(wrong.is_empty(), "out of order or twice: {wrong:?}");
    assert_eq!(found.row["gaps"], Value::Null, "{}", found.row);
    let key = |message: &Message| {
        let seq = message.stream_seq().expect("a sequence");
        let time = message.time().expect("a time");
        (seq, (time, message.subject.clone(), message.headers.clone(), message.payload.clone()))
    };
    let recorded: BTreeMap<u64, _> = found.messages.iter().map(key).collect();
    let start = found.row["start_sequence"].as_u64().expect("a sequence");
    for (seq, message) in buffer.iter().map(key) {
        let inside = seq >= start && message.0 <= found.to;
        if inside {
            assert_eq!(recorded.get(&seq), Some(&message), "sequence {seq} of the buffer, {}", found.row);
        } else {
            assert_eq!(recorded.get(&seq), None, "sequence {seq} is outside, {}", found.row);
        }
        // The first sequence is the first one in the span.
        assert!(seq >= start || message.0 <= found.from, "sequence {seq} was cut off, {}", found.row);
    }
    for (seq, (time, ..)) in recorded {
        assert!(time >= found.from && time <= found.to, "sequence {seq} is outside the span, {}", found.row);
    }
}

/// What the buffer says of the message that is missing.
fn in_buffer(buffer: &[Message], n: usize) -> String {
    match buffer.iter().find(|message| number(message) == n) {
        Some(message) => format!("in the buffer as {:?} at {:?}", message.stream_seq(), message.time()),
        None => "not in the buffer".to_owned(),
    }
}

struct Counts {
    messages: usize,
    required: usize,
    kills: usize,
}

async fn run(campaign: &Campaign, round: u64) -> Counts {
    let mut random = campaign.random(round);
    let plan = Plan::choose(&mut random);
    let mut server = Server::weir().binary(campaign.binary.clone()).start().await;
    let place = |server: &Server| Some((server.client_address().to_owned(), server.http().to_owned()));
    let (tell_address, mut address) = watch::channel(place(&server));
    for device in [POSTED, SENT] {
        let setting = json!({"window": "5m", "storage": plan.storage});
        let (status, answer) = ask(&mut address, "PUT", &format!("/api/v1/buffers/{device}"), &setting).await;
        assert_eq!(status, 200, "{answer}");
    }
    let begun = now();
    let until = begun + i64::try_from(LOAD + plan.post_roll).expect("small") * 1_000_000;
    let posting = tokio::spawn(post_events(address.clone(), until, random.split()));
    let sending = tokio::spawn(send_messages(address.clone(), until, random.split()));
    let recording = tokio::spawn(record(address.clone(), begun, plan.clone()));
    // When each kill began and when the server was there again.
    let mut downs: Vec<(i64, i64)> = Vec::new();
    for kill in &plan.kills {
        sleep_until(begun + i64::try_from(*kill).expect("small") * 1_000_000).await;
        tell_address.send_replace(None);
        let down = now();
        server.kill().await;
        server.restart().await;
        downs.push((down, now()));
        tell_address.send_replace(place(&server));
    }
    let started = recording.await.expect("the recordings are started and stopped");
    let posted = posting.await.expect("the device posts");
    let sent = sending.await.expect("the device sends");

    let mut raw = Raw::connect(server.client_address(), "reader").await.expect("a connection");
    let mut counts = Counts { messages: 0, required: 0, kills: downs.len() };
    for device in [POSTED, SENT] {
        let found = found(&mut address, &mut raw, device, &plan).await;
        let buffer = raw.all(&format!("STREAMS_BUFFER_{device}")).await.expect("the buffer");
        check_against_buffer(&found, &buffer);
        counts.messages += found.messages.len();
        let has: std::collections::BTreeSet<usize> = found.messages.iter().map(number).collect();
        let (from, to) = (found.from, found.to);
        if device == POSTED {
            for (index, event) in posted.iter().enumerate() {
                let n = index + 1;
                let Some((after, durability)) = &event.answered else { continue };
                // It was stored between these two moments, whichever post of it that was.
                let inside = event.before >= from && *after <= to;
                // A buffer in memory may have lost it before the recording was there to copy it.
                let lost = plan.storage == "memory"
                    && durability != "disk"
                    && downs.iter().any(|(down, _)| event.before <= *down && *down <= started.max(*after));
                if inside && !lost {
                    counts.required += 1;
                    assert!(
                        has.contains(&n),
                        "event {n} was answered and is missing: {event:?}, {}, {}",
                        in_buffer(&buffer, n),
                        found.row
                    );
                }
                assert!(*after >= from || !has.contains(&n), "event {n} came before the span: {event:?}");
                assert!(event.before <= to || !has.contains(&n), "event {n} came after the span: {event:?}");
            }
            assert!(has.iter().all(|n| (1..=posted.len()).contains(n)), "something was never posted");
        } else {
            for (index, (before, after)) in sent.iter().enumerate() {
                let n = index + 1;
                // Nobody was told of it: only without a kill it must be there.
                if downs.is_empty() && *before >= from && *after <= to {
                    counts.required += 1;
                    assert!(
                        has.contains(&n),
                        "message {n} was sent and is missing: {before} to {after}, {}, {}",
                        in_buffer(&buffer, n),
                        found.row
                    );
                }
                assert!(*before <= to || !has.contains(&n), "message {n} came after the span");
            }
            assert!(has.iter().all(|n| (1..=sent.len()).contains(n)), "something was never sent");
            if downs.is_empty() {
                let everything: Vec<usize> = buffer.iter().map(number).collect();
                assert_eq!(everything, (1..=sent.len()).collect::<Vec<_>>(), "the buffer has all");
            }
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_under_fire() {
    let campaign = Arc::new(Campaign::read("sessions under fire", "WEIR_SESSION_RUNS", 1_000_000, 100));
    let mut under_way = tokio::task::JoinSet::new();
    let (mut done, mut messages, mut required, mut kills) = (0, 0, 0, 0);
    for round in 0..campaign.rounds {
        if under_way.len() >= AT_ONCE {
            let counts: Counts = joined(under_way.join_next().await);
            (messages, required, kills) =
                (messages + counts.messages, required + counts.required, kills + counts.kills);
            done += 1;
            if done % 20 == 0 {
                tell(&format!("{done} of {} runs", campaign.rounds));
            }
        }
        let campaign = Arc::clone(&campaign);
        under_way.spawn(async move {
            let plan = Plan::choose(&mut campaign.random(round));
            let ended = tokio::spawn({
                let campaign = Arc::clone(&campaign);
                async move { run(&campaign, round).await }
            });
            ended.await.unwrap_or_else(|error| panic!("run {round} with {plan:?}: {error}"))
        });
    }
    while let Some(counts) = under_way.join_next().await {
        let counts = joined(Some(counts));
        (messages, required, kills) =
            (messages + counts.messages, required + counts.required, kills + counts.kills);
    }
    tell(&format!(
        "{} runs, {kills} kills: {messages} messages recorded, {required} of them required by their publishers' notes; \
         every session as expected",
        campaign.rounds
    ));
    assert!(messages > 0 && required > 0, "something was recorded");
}

fn joined(counts: Option<std::result::Result<Counts, tokio::task::JoinError>>) -> Counts {
    match counts.expect("a run is under way") {
        Ok(counts) => counts,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
