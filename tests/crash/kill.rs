//! The kill campaign: a server under load of many kinds, killed at random instants, also while it starts.
//!
//! Clients of bytes publish with acks to a file stream and to one in memory, acknowledge what a consumer gives them, write keys
//! with expected revisions; devices post events, and recordings of them run. Each notes what was answered. After each start
//! everything is read back and held against the notes: nothing answered is lost, nothing is out of order, no sequence names two
//! messages, nothing that was never sent appears, nothing that was seen once is gone, a confirmed ack is final, a key has its last
//! answered value.
//!
//! One store lives for some kills, so that recoveries build on recoveries.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io::Result;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::campaign::{Campaign, Random, carried_out, tell};
use crate::raw::{Raw, is_gone};
use crate::support::{Server, http, within};

const FILE: &str = "K";
const MEMORY: &str = "V";
const BUCKET: &str = "KV_b";
const CONSUMER: &str = "C";
const KEYS: u64 = 4;
/// Publishes under way per publisher.
const WINDOW: usize = 64;
/// Kills that one store lives through.
const KILLS: u64 = 8;
/// Devices, and where their buffers are.
const DEVICES: [&str; 2] = ["memory", "file"];
/// Messages in a pull that takes what is left.
const REST: usize = 250;
/// Longest a recording's end may take: its mirror is waited for up to 30 s.
const ENDED: Duration = Duration::from_secs(45);
/// Longest a worker may need to notice that its server is gone.
const GONE: Duration = Duration::from_secs(20);

/// A publisher of numbered messages and what it knows.
struct Publisher {
    stream: &'static str,
    subject: String,
    sent: u64,
    /// Number and sequence.
    acked: Vec<(u64, u64)>,
    random: Random,
}

impl Publisher {
    fn new(stream: &'static str, subject: &str, random: Random) -> Self {
        Self { stream, subject: subject.to_owned(), sent: 0, acked: Vec::new(), random }
    }

    async fn run(&mut self, address: &str) -> Result<Infallible> {
        let mut raw = Raw::connect(address, &self.subject).await?;
        let mut open: VecDeque<u64> = VecDeque::new();
        loop {
            let mut bytes = Vec::new();
            while open.len() < WINDOW {
                self.sent += 1;
                let size = if self.random.once_in(50) { 20_000 } else { self.random.within(0..=600) };
                let payload = payload(&self.subject, self.sent, usize::try_from(size).expect("small"));
                bytes.extend(Raw::publish(&self.subject, &raw.reply(self.sent), &payload));
                open.push_back(self.sent);
            }
            raw.write(&bytes).await?;
            let ack = raw.message().await?;
            let number = open.pop_front().expect("one is open");
            assert_eq!(ack.subject, raw.reply(number), "acks come in the order of the publishes");
            let ack: Value = serde_json::from_slice(&ack.payload).expect("an ack is JSON");
            assert_eq!(ack["stream"], self.stream, "{ack}");
            self.acked.push((number, ack["seq"].as_u64().expect("a sequence")));
        }
    }
}

fn payload(subject: &str, number: u64, filler: usize) -> Vec<u8> {
    let mut payload = format!("{subject} {number} ").into_bytes();
    payload.resize(payload.len() + filler, b'x');
    payload
}

/// Subject and number of a payload.
fn read_payload(payload: &[u8]) -> (String, u64) {
    let text = std::str::from_utf8(payload).expect("text");
    let mut words = text.split(' ');
    let subject = words.next().expect("a subject").to_owned();
    (subject, words.next().and_then(|number| number.parse().ok()).expect("a number"))
}

/// A worker on the consumer: acknowledges, and waits for the confirmation.
#[derive(Default)]
struct Acker {
    confirmed: BTreeSet<u64>,
    /// Acknowledged without a confirmation, because a kill came between: nobody knows.
    unanswered: BTreeSet<u64>,
}

impl Acker {
    async fn run(&mut self, address: &str) -> Result<Infallible> {
        let mut raw = Raw::connect(address, "acker").await?;
        loop {
            for (sequence, reply) in self.pull(&mut raw, 16).await? {
                self.unanswered.insert(sequence);
                let answer = raw.request(&reply, b"+ACK").await?;
                let confirmed = answer.payload.is_empty() && answer.status().is_none();
                assert!(confirmed, "the ack of sequence {sequence} was answered with {answer:?}");
                self.unanswered.remove(&sequence);
                self.confirmed.insert(sequence);
            }
        }
    }

    /// Up to so many messages, as sequence and reply: none whose ack was confirmed.
    async fn pull(&self, raw: &mut Raw, batch: usize) -> Result<Vec<(u64, String)>> {
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{FILE}.{CONSUMER}");
        let pull = json!({"batch": batch, "expires": 200_000_000}).to_string();
        raw.write(&Raw::publish(&next, &raw.reply(0), pull.as_bytes())).await?;
        let mut pulled = Vec::new();
        while pulled.len() < batch {
            let message = raw.message().await?;
            if let Some(status) = message.status() {
                assert_eq!(status, "408", "a pull ends with its span: {message:?}");
                break;
            }
            let sequence = message.stream_seq().unwrap_or_else(|| panic!("no delivery: {message:?}"));
            assert!(
                !self.confirmed.contains(&sequence),
                "sequence {sequence} was delivered again after its ack was confirmed"
            );
            pulled.push((sequence, message.reply));
        }
        Ok(pulled)
    }

    /// Takes everything that the consumer still gives: no message whose ack was confirmed, and each other one of the stream.
    async fn take_rest(&self, raw: &mut Raw, stream: &BTreeSet<u64>) -> Result<()> {
        let mut rest = BTreeSet::new();
        let info = loop {
            let pulled = self.pull(raw, REST).await?;
            let acks: Vec<u8> =
                pulled.iter().flat_map(|(_, reply)| Raw::publish(reply, "", b"+ACK")).collect();
            raw.write(&acks).await?;
            rest.extend(pulled.iter().map(|(sequence, _)| *sequence));
            let info = raw.api(&format!("CONSUMER.INFO.{FILE}.{CONSUMER}"), &Value::Null).await?;
            if info["num_pending"] == 0 && info["num_ack_pending"] == 0 {
                break info;
            }
        };
        let known = |sequence: &&u64| {
            self.confirmed.contains(sequence) || rest.contains(sequence) || self.unanswered.contains(sequence)
        };
        let skipped: Vec<&u64> = stream.iter().filter(|sequence| !known(sequence)).collect();
        assert!(skipped.is_empty(), "neither acknowledged nor ever delivered: {skipped:?}");
        let last = stream.last().copied().unwrap_or_default();
        assert_eq!(info["ack_floor"]["stream_seq"], last, "all is acknowledged: {info}");
        Ok(())
    }
}

/// A writer of keys with expected revisions.
struct Writer {
    /// By key: the last answered revision and value.
    answered: BTreeMap<String, (u64, u64)>,
    under_way: Option<(String, u64)>,
    value: u64,
    random: Random,
}

impl Writer {
    async fn run(&mut self, address: &str) -> Result<Infallible> {
        let mut raw = Raw::connect(address, "writer").await?;
        loop {
            let key = format!("k{}", self.random.within(1..=KEYS));
            self.value += 1;
            let (revision, _) = self.answered.get(&key).copied().unwrap_or_default();
            self.under_way = Some((key.clone(), self.value));
            let headers = [("Nats-Expected-Last-Subject-Sequence", revision.to_string())];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let ack = raw
                .request_with(&format!("$KV.b.{key}"), &headers, self.value.to_string().as_bytes())
                .await?;
            let ack: Value = serde_json::from_slice(&ack.payload).expect("an ack is JSON");
            let sequence = ack["seq"].as_u64().unwrap_or_else(|| panic!("{key} after {revision}: {ack}"));
            assert!(sequence > revision, "revision {sequence} of {key} comes after {revision}");
            self.answered.insert(key, (sequence, self.value));
            self.under_way = None;
        }
    }

    /// Holds the keys against the notes, and takes up what was written without an answer.
    async fn verify(&mut self, raw: &mut Raw) -> Result<()> {
        let found: BTreeMap<String, (u64, u64)> = raw
            .all(BUCKET)
            .await?
            .iter()
            .map(|entry| {
                let key = entry.subject.strip_prefix("$KV.b.").expect("a key").to_owned();
                let value = std::str::from_utf8(&entry.payload).ok().and_then(|text| text.parse().ok());
                (key, (entry.stream_seq().expect("a sequence"), value.expect("a number")))
            })
            .collect();
        for (key, answered) in &self.answered {
            let found = found.get(key);
            let under_way = self.under_way.as_ref().is_some_and(|(other, value)| {
                other == key && found.is_some_and(|found| found.1 == *value && found.0 > answered.0)
            });
            assert!(
                found == Some(answered) || under_way,
                "key {key} was answered {answered:?} (revision, value) and is {found:?}"
            );
        }
        for (key, entry) in found {
            let known = self.answered.contains_key(&key)
                || self.under_way.as_ref().is_some_and(|(other, value)| *other == key && *value == entry.1);
            assert!(known, "key {key} was never written: {entry:?}");
            self.answered.insert(key, entry);
        }
        self.under_way = None;
        Ok(())
    }
}

/// A device that posts numbered events, again with the same ids until they are answered.
struct Device {
    name: &'static str,
    /// All up to here were answered.
    answered: u64,
    /// All up to here were sent.
    sent: u64,
    random: Random,
}

impl Device {
    async fn run(&mut self, address: &str) -> Result<Infallible> {
        loop {
            if self.sent == self.answered {
                self.sent += self.random.within(1..=20);
            }
            let events: Vec<Value> = (self.answered + 1..=self.sent)
                .map(|n| json!({"id": format!("event-{n}"), "type": "n", "data": n}))
                .collect();
            let body = Value::from(events).to_string();
            let path = format!("/monitor/{}", self.name);
            let answer = http::try_request(address, "POST", &path, &[], body.as_bytes()).await?;
            if let Some(body) = carried_out(&answer) {
                assert!(body.is_null() || body["durability"] == "disk", "the device is recorded: {body}");
                self.answered = self.sent;
            } else {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn session(&self) -> String {
        format!("of-{}", self.name)
    }

    async fn verify(&self, raw: &mut Raw) -> Result<u64> {
        let recorded = raw.all(&format!("STREAMS_REC_{}", self.session())).await?;
        let number = |payload: &[u8]| std::str::from_utf8(payload).ok()?.parse::<u64>().ok();
        let numbers: Vec<u64> =
            recorded.iter().map(|message| number(&message.payload).expect("a number")).collect();
        let wrong: Vec<&[u64]> = numbers.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
        assert!(wrong.is_empty(), "recording of {}: out of order or twice: {wrong:?}", self.name);
        let found: BTreeSet<u64> = numbers.iter().copied().collect();
        let lost: Vec<u64> = (1..=self.answered).filter(|n| !found.contains(n)).collect();
        assert!(lost.is_empty(), "recording of {}: answered and lost: {lost:?}", self.name);
        let last = numbers.last().copied().unwrap_or_default();
        assert!(last <= self.sent, "recording of {}: {last} was never sent", self.name);
        Ok(numbers.len() as u64)
    }
}

/// A worker ends when the server is killed, by what a killed server leaves of a connection, and not otherwise.
async fn until_killed(who: &str, killed: &Cell<bool>, work: impl Future<Output = Result<Infallible>>) {
    let Err(error) = work.await;
    assert!(killed.get(), "the worker on {who} ended before the kill: {error}");
    assert!(is_gone(&error), "the worker on {who} ended by something else than the kill: {error}");
}

/// A store, the server on it, and everybody who knows what was answered.
struct Life {
    server: Server,
    publishers: Vec<Publisher>,
    acker: Acker,
    writer: Writer,
    devices: Vec<Device>,
    /// What was ever seen or acknowledged: the message of each sequence of each stream.
    used: BTreeMap<(&'static str, u64), (String, u64)>,
    /// What a reader has seen of the file stream.
    seen: BTreeSet<u64>,
}

impl Life {
    async fn begin(campaign: &Campaign, random: &mut Random) -> Self {
        let server = Server::weir().binary(campaign.binary.clone()).start().await;
        let mut raw = Raw::connect(server.client_address(), "setup").await.expect("a connection");
        for config in [
            json!({"name": FILE, "subjects": ["k.>"], "storage": "file"}),
            json!({"name": MEMORY, "subjects": ["v.>"], "storage": "memory", "max_msgs": 1000}),
            json!({"name": BUCKET, "subjects": ["$KV.b.>"], "storage": "file", "max_msgs_per_subject": 1,
                "discard": "new", "deny_delete": true, "allow_rollup_hdrs": true, "allow_direct": true}),
        ] {
            let call = format!("STREAM.CREATE.{}", config["name"].as_str().expect("a name"));
            raw.api(&call, &config).await.expect("the stream is made");
        }
        let consumer = json!({"durable_name": CONSUMER, "ack_policy": "explicit", "ack_wait": 500_000_000,
            "deliver_policy": "all", "max_ack_pending": 256});
        let body = json!({"stream_name": FILE, "config": consumer});
        raw.api(&format!("CONSUMER.DURABLE.CREATE.{FILE}.{CONSUMER}"), &body).await.expect("a consumer");
        let devices: Vec<Device> = DEVICES
            .into_iter()
            .map(|name| Device { name, answered: 0, sent: 0, random: random.split() })
            .collect();
        for device in &devices {
            let setting = json!({"window": "5m", "storage": device.name});
            post(&server, "PUT", &format!("/api/v1/buffers/{}", device.name), &setting).await;
            let start = json!({"device_id": device.name, "session_id": device.session()});
            post(&server, "POST", "/api/v1/recordings", &start).await;
        }
        let publisher =
            |stream, subject, random: &mut Random| Publisher::new(stream, subject, random.split());
        Self {
            server,
            publishers: vec![
                publisher(FILE, "k.1", random),
                publisher(FILE, "k.2", random),
                publisher(MEMORY, "v.1", random),
            ],
            acker: Acker::default(),
            writer: Writer { answered: BTreeMap::new(), under_way: None, value: 0, random: random.split() },
            devices,
            used: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Load until the kill, which ends every worker.
    async fn load(&mut self, until_kill: Duration) {
        let client = self.server.client_address().to_owned();
        let http = self.server.http().to_owned();
        let Self { server, publishers, acker, writer, devices, .. } = self;
        let killed = Cell::new(false);
        let everybody = async {
            tokio::join!(
                join_all(publishers.iter_mut().map(|each| until_killed(
                    each.stream,
                    &killed,
                    each.run(&client)
                ))),
                join_all(devices.iter_mut().map(|each| until_killed(each.name, &killed, each.run(&http)))),
                until_killed("the acker", &killed, acker.run(&client)),
                until_killed("the writer", &killed, writer.run(&client))
            )
        };
        let kill = async {
            tokio::time::sleep(until_kill).await;
            killed.set(true);
            server.kill().await;
        };
        let ended = tokio::time::timeout(until_kill + GONE, async { tokio::join!(everybody, kill) }).await;
        assert!(ended.is_ok(), "a worker has not noticed that the server is gone");
    }

    /// Everything that the notes say is there, and nothing else.
    async fn verify(&mut self) {
        let address = self.server.client_address().to_owned();
        let mut raw = Raw::connect(&address, "verify").await.expect("a connection");
        let stored = raw.all(FILE).await.expect("the stream can be read");
        let mut found: BTreeMap<u64, (String, u64)> = BTreeMap::new();
        let mut last = 0;
        for message in &stored {
            let sequence = message.stream_seq().expect("a sequence");
            assert!(sequence > last, "sequence {sequence} comes after {last}");
            last = sequence;
            let (subject, number) = read_payload(&message.payload);
            assert_eq!(subject, message.subject, "sequence {sequence}");
            found.insert(sequence, (subject, number));
        }
        let gone: Vec<&u64> = self.seen.iter().filter(|sequence| !found.contains_key(sequence)).collect();
        assert!(gone.is_empty(), "seen after an earlier start and gone now: {gone:?}");
        self.seen.extend(found.keys());
        for publisher in &self.publishers {
            let mine = found.values().filter(|(subject, _)| *subject == publisher.subject);
            let numbers: Vec<u64> = mine.map(|(_, number)| *number).collect();
            let wrong: Vec<&[u64]> = numbers.windows(2).filter(|pair| pair[0] >= pair[1]).collect();
            assert!(wrong.is_empty(), "{}: out of order or twice: {wrong:?}", publisher.subject);
            let invented = numbers.last().is_some_and(|last| *last > publisher.sent);
            assert!(!invented, "{}: a number beyond {} was never sent", publisher.subject, publisher.sent);
            let mut lost = Vec::new();
            for &(number, sequence) in &publisher.acked {
                let message = (publisher.subject.clone(), number);
                if publisher.stream == FILE && found.get(&sequence) != Some(&message) {
                    lost.push((number, sequence, found.get(&sequence)));
                }
                let before = self.used.insert((publisher.stream, sequence), message.clone());
                assert!(
                    before.as_ref().is_none_or(|before| *before == message),
                    "sequence {sequence} of {} names {before:?} and {message:?}",
                    publisher.stream
                );
            }
            assert!(
                lost.is_empty(),
                "{}: acknowledged and lost (number, sequence, what is there): {lost:?}",
                publisher.subject
            );
        }
        for (sequence, message) in found {
            let before = self.used.insert((FILE, sequence), message.clone());
            assert!(
                before.as_ref().is_none_or(|before| *before == message),
                "sequence {sequence} named {before:?} and now {message:?}"
            );
        }
        self.writer.verify(&mut raw).await.expect("the keys can be read");
        for device in &self.devices {
            device.verify(&mut raw).await.expect("the recording can be read");
        }
        let info =
            raw.api(&format!("CONSUMER.INFO.{FILE}.{CONSUMER}"), &Value::Null).await.expect("a consumer");
        let floor = info["ack_floor"]["stream_seq"].as_u64().expect("a sequence");
        assert!(floor <= last, "the ack floor {floor} is beyond the stream's last sequence {last}");
    }

    /// The consumer gives what is left and nothing else, and the recordings end whole.
    async fn end(&mut self) {
        let mut raw = Raw::connect(self.server.client_address(), "rest").await.expect("a connection");
        self.acker.take_rest(&mut raw, &self.seen).await.expect("the consumer can be read");
        for device in &self.devices {
            let path = format!("/api/v1/recordings/{}", device.session());
            post(&self.server, "POST", &format!("{path}/stop"), &Value::Null).await;
            within(ENDED, "the recording is stopped", || async {
                (post(&self.server, "GET", &path, &Value::Null).await["state"] == "stopped").then_some(())
            })
            .await;
            let mut raw = Raw::connect(self.server.client_address(), "end").await.expect("a connection");
            let count = device.verify(&mut raw).await.expect("the recording can be read");
            let session = post(&self.server, "GET", &path, &Value::Null).await["session"].clone();
            assert_eq!(session["message_count"], count, "{session}");
            assert_eq!(session["gaps"], Value::Null, "nothing is missing: {session}");
        }
    }
}

/// A request that must be carried out.
async fn post(server: &Server, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = http::request(server.http(), method, path, &[], body.as_bytes()).await;
    assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_campaign() {
    let campaign = Campaign::read("kill campaign", "WEIR_KILL_ROUNDS", 100_000, 10);
    let (mut acked, mut confirmed, mut posted, mut early) = (0, 0, 0, 0);
    let mut round = 0;
    while round < campaign.rounds {
        let mut random = campaign.random(round);
        let mut life = Life::begin(&campaign, &mut random).await;
        for _ in 0..KILLS.min(campaign.rounds - round) {
            round += 1;
            tell(&format!("kill {round} of {}", campaign.rounds));
            life.load(Duration::from_millis(random.within(20..=700))).await;
            while random.once_in(3) {
                // Again before it is ready.
                early += 1;
                life.server.start_and_kill(Duration::from_millis(random.within(0..=150))).await;
            }
            life.server.restart().await;
            life.verify().await;
        }
        life.end().await;
        acked += life.publishers.iter().map(|publisher| publisher.acked.len()).sum::<usize>();
        confirmed += life.acker.confirmed.len();
        posted += life.devices.iter().map(|device| device.answered).sum::<u64>();
    }
    tell(&format!(
        "{round} kills under load, {early} more during starts: {acked} acknowledged messages, {confirmed} confirmed acks, \
         {posted} recorded events; 0 lost, 0 reordered, 0 sequences used twice, 0 delivered after a confirmed ack"
    ));
    assert!(acked > 0 && confirmed > 0 && posted > 0, "every kind of load was there");
}
