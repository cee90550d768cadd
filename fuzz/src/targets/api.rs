//! JetStream's API and what else a stream hears: requests of any shape on any subject. Each API request is answered once, with JSON,
//! and a server that starts again on what was stored holds the same streams.
//!
//! The input is a list of steps, one per line. What a line begins with says which:
//!
//! ```text
//! ^        a message with headers: pairs of a letter for the name and one for the value, a blank, then as below
//! @        time passes: the next byte says how much
//! %        the engine starts again on what is stored, after a shutdown; %! without one
//! ~        interest changes: the bits of the next byte say who listens
//! +        an answer to a delivery: the next byte says to which, what follows is its body
//! &        what is kept of a consumer is damaged: the next byte says how much of it, what follows takes its place
//! else     a message: subject, a blank, the rest of the line is the payload
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use weir::jetstream::interest::Interest;
use weir::jetstream::{Engine, EngineConfig, Input, Message, SubscriptionChange, Tag};
use weir::sys::random::Random;
use weir_protocol::subject;
use weir_storage::simulated::Simulated;
use weir_storage::{Options, Store};

/// What means something in a request.
pub const WORDS: &[&str] = &[
    "$JS.API.STREAM.CREATE.S ",
    "$JS.API.STREAM.UPDATE.S ",
    "$JS.API.STREAM.INFO.S ",
    "$JS.API.STREAM.DELETE.S ",
    "$JS.API.STREAM.PURGE.S ",
    "$JS.API.STREAM.NAMES ",
    "$JS.API.STREAM.LIST ",
    "$JS.API.STREAM.MSG.GET.S ",
    "$JS.API.STREAM.MSG.DELETE.S ",
    "$JS.API.DIRECT.GET.S ",
    "$JS.API.CONSUMER.CREATE.S.C ",
    "$JS.API.CONSUMER.DURABLE.CREATE.S.C ",
    "$JS.API.CONSUMER.MSG.NEXT.S.C ",
    "$JS.API.CONSUMER.INFO.S.C ",
    "$JS.API.CONSUMER.LIST.S ",
    "$JS.API.CONSUMER.DELETE.S.C ",
    "$JS.API.CONSUMER.PAUSE.S.C ",
    "$JS.API.INFO ",
    "$JS.ACK.S.C.1.1.1.1704067200000000000.0 ",
    "s.a ",
    "\n",
    "{",
    "}",
    ",",
    "null",
    "\"name\":\"S\"",
    "\"subjects\":[\"s.>\"]",
    "\"storage\":\"memory\"",
    "\"max_msgs\":1",
    "\"max_bytes\":1",
    "\"max_age\":1",
    "\"max_msgs_per_subject\":1",
    "\"discard\":\"new\"",
    "\"first_seq\":5",
    "\"mirror\":{\"name\":\"S\"}",
    "\"sources\":[{\"name\":\"S\"}]",
    "\"allow_direct\":true",
    "\"deny_delete\":true",
    "\"seq\":1",
    "\"keep\":1",
    "\"filter\":\"s.a\"",
    "\"stream_name\":\"S\"",
    "\"config\":{",
    "\"durable_name\":\"C\"",
    "\"ack_policy\":\"explicit\"",
    "\"deliver_policy\":\"by_start_sequence\"",
    "\"opt_start_seq\":1",
    "\"deliver_subject\":\"d\"",
    "\"filter_subject\":\"s.a\"",
    "\"max_deliver\":2",
    "\"ack_wait\":1",
    "\"backoff\":[1,2]",
    "\"batch\":5",
    "\"expires\":1000000",
    "\"no_wait\":true",
    "\"idle_heartbeat\":100000000",
    "\"max_ack_pending\":1",
    "\"headers_only\":true",
    "\"last_by_subj\":\"s.a\"",
    "\"multi_last\":[\"s.>\"]",
    "\"next_by_subj\":\"s.a\"",
    "\"up_to_seq\":3",
    "-NAK {\"delay\":1}",
    "+TERM",
    "+NXT 3",
    "+WPI",
    "\"2024-01-01T00:00:00Z\"",
    "\n^m1 s.a ",
    "\n^el s.a ",
    "\n^sl s.a ",
    "\n^slSw s.a ",
    "\n^ru s.a ",
    "\n^ra s.a ",
    "\n^td s.a ",
    "\n^l1 s.a ",
    "\n^q1 $JS.API.STREAM.INFO.S ",
    "\n@1",
    "\n@3",
    "\n@5",
    "\n@7",
    "\n%",
    "\n%!",
    "\n~0",
    "\n~1",
    "\n~3",
    "\n+0",
    "\n+1+ACK",
    "\n+0-NAK",
    "\n+0+TERM",
    "\n+2+WPI",
    "\n&0\u{1}\u{0}\u{0}",
    "\n&2",
    "\"allow_rollup_hdrs\":true",
    "\"duplicate_window\":1000000000",
    "\"ack_policy\":\"all\"",
    "\"inactive_threshold\":1",
    "\"deliver_group\":\"q\"",
    "\"flow_control\":true",
    "\"pause_until\":\"2024-01-01T01:00:00Z\"",
];

/// Headers that steer, by the letter that stands for each.
const HEADERS: &[(u8, &str)] = &[
    (b'm', "Nats-Msg-Id"),
    (b'e', "Nats-Expected-Last-Sequence"),
    (b's', "Nats-Expected-Last-Subject-Sequence"),
    (b'S', "Nats-Expected-Last-Subject-Sequence-Subject"),
    (b'l', "Nats-Expected-Last-Msg-Id"),
    (b'x', "Nats-Expected-Stream"),
    (b'r', "Nats-Rollup"),
    (b't', "Nats-TTL"),
    (b'i', "Nats-Incr"),
    (b'b', "Nats-Batch-Id"),
    (b'c', "Nats-Schedule"),
    (b'o', "Nats-Stream-Source"),
    (b'q', "Nats-Required-Api-Level"),
    (b'f', "Nats-Request-Info"),
];

/// Values of headers, by the byte that stands for each; any other byte stands for itself.
const VALUES: &[(u8, &str)] = &[
    (b'a', "all"),
    (b'u', "sub"),
    (b'n', "never"),
    (b'd', "10s"),
    (b's', "s.a"),
    (b'w', "s.>"),
    (b'S', "S"),
    (b'-', "-1"),
    (b'M', "18446744073709551615"),
    (b'I', "9223372036854775807"),
    (b'B', "99999999999999999999"),
    (b'E', ""),
];

/// How long time passes, by the digit that stands for it.
const SPANS: &[i64] = &[
    0,
    1_000_000,
    STEP,
    60 * STEP,
    3600 * STEP,
    24 * 3600 * STEP,
    31 * 24 * 3600 * STEP,
    20 * 365 * 24 * 3600 * STEP,
];

/// What is kept of a consumer, by the digit that stands for it; its name follows.
const KEPT: &[&[u8]] = &[b"consumer/state/", b"consumer/created/", b"consumer/config/"];

/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200_000_000_000;
/// No clock goes beyond this: 2240.
const END: i64 = 8_520_336_000_000_000_000;
/// Deliveries that can be answered.
const DELIVERIES_MAX: usize = 64;
/// Time from one message to the next.
const STEP: i64 = 1_000_000_000;
/// Messages of one input that count.
const MESSAGES_MAX: usize = 32;

/// See the module.
pub fn body(bytes: &[u8]) {
    let mut world = World::on(empty().copy());
    for line in bytes.split(|byte| *byte == b'\n').take(MESSAGES_MAX) {
        let second = line.get(1).copied().unwrap_or_default();
        let rest = line.get(2..).unwrap_or_default();
        match line.first() {
            Some(b'^') => {
                let (pairs, line) = cut(&line[1..]);
                let headers = world.headers(pairs);
                world.message(line, headers);
            }
            Some(b'@') => world.pass(SPANS[usize::from(second & 0x0f) % SPANS.len()]),
            Some(b'%') => world = world.restarted(second != b'!'),
            Some(b'~') => world.change_interest(Listens(second)),
            Some(b'+') => world.answer_delivery(usize::from(second & 0x0f), rest),
            Some(b'&') => world = world.damaged(usize::from(second & 0x0f), rest),
            _ => world.message(line, Bytes::new()),
        }
    }
    let _ = world.restarted(true);
}

/// What is before the first blank, and what is behind it.
fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    (&line[..at], line.get(at + 1..).unwrap_or_default())
}

/// A disk with a new store: making one takes longer than most inputs.
fn empty() -> &'static Simulated {
    static EMPTY: OnceLock<Simulated> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let disk = Simulated::new();
        open(&disk).close().expect("the store closes");
        disk
    })
}

fn open(disk: &Simulated) -> Store {
    let options = Options { journal_file_bytes: 256 << 10, is_threaded: false, ..Options::default() };
    Store::open(Arc::new(disk.clone()), options).expect("the store opens")
}

/// Who listens: bit 0 where consumers deliver, bit 1 where answers go.
#[derive(Clone, Copy)]
struct Listens(u8);

impl Interest for Listens {
    fn has(&self, subject: &[u8]) -> bool {
        (self.0 & 1 != 0 && subject == b"d") || (self.0 & 2 != 0 && subject.starts_with(b"_INBOX."))
    }

    fn listens(&self, subject: &[u8], _queue: Option<&[u8]>) -> bool {
        self.has(subject)
    }
}

struct World {
    disk: Simulated,
    store: Store,
    engine: Engine,
    now: i64,
    heard: Vec<(Bytes, Tag)>,
    watched: Vec<Tag>,
    listens: Listens,
    requests: u64,
    /// Where deliveries want their answers.
    deliveries: Vec<Bytes>,
    /// The highest sequence that was acknowledged, by stream.
    acked: BTreeMap<String, u64>,
    /// The last one.
    last_acked: u64,
}

impl World {
    fn on(disk: Simulated) -> Self {
        let mut world = Self {
            store: open(&disk),
            disk,
            engine: engine(),
            now: START,
            heard: Vec::new(),
            watched: Vec::new(),
            listens: Listens(3),
            requests: 0,
            deliveries: Vec::new(),
            acked: BTreeMap::new(),
            last_acked: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.engine.restore(self.now, &mut self.store, &self.listens);
        self.engine.resume_mirrors(self.now, &mut self.store, &self.listens);
        self.settle();
    }

    /// Starts again on the same disk: the streams and what is kept of consumers are as before.
    fn restarted(mut self, is_orderly: bool) -> Self {
        self.let_age();
        let before = (self.streams(), self.consumers());
        let mut again = self.again(is_orderly);
        assert_eq!(before, (again.streams(), again.consumers()), "streams and consumers after a restart");
        again.sequences_hold();
        again
    }

    fn again(mut self, is_orderly: bool) -> Self {
        let disk = if is_orderly {
            self.engine.shutdown(self.now, &mut self.store, &self.listens);
            self.store.close().expect("the store closes");
            self.disk
        } else {
            let disk = self.disk.copy();
            drop(self.store);
            disk
        };
        let mut again = Self {
            store: open(&disk),
            disk,
            engine: engine(),
            heard: Vec::new(),
            watched: Vec::new(),
            ..self
        };
        again.begin();
        again
    }

    /// No stream is behind what it acknowledged.
    fn sequences_hold(&mut self) {
        let list = self.ask("$JS.API.STREAM.LIST");
        for info in list["streams"].as_array().into_iter().flatten() {
            let last = info["state"]["last_seq"].as_u64().expect("a sequence");
            let name = info["config"]["name"].as_str().expect("a name");
            let acked = self.acked.get(name).copied().unwrap_or_default();
            assert!(last >= acked, "{name} acknowledged {acked} and is at {last}");
        }
    }

    /// Other bytes take the place of what is kept of a consumer; then the engine starts again, and the streams are as before.
    fn damaged(mut self, part: usize, bytes: &[u8]) -> Self {
        let prefix = KEPT[part % KEPT.len()];
        let kept = self.store.logs().into_iter().find_map(|log| {
            let found = self.store.attributes(log, prefix).into_iter().next();
            found.map(|(key, _)| (log, key))
        });
        let Some((log, key)) = kept else { return self };
        self.store.set_attribute(log, &key, bytes).expect("it fits");
        self.settle();
        let before = self.streams();
        let mut again = self.again(false);
        assert_eq!(before, again.streams(), "the streams after a consumer was damaged");
        again
    }

    /// A header block from pairs of bytes.
    fn headers(&self, pairs: &[u8]) -> Bytes {
        let mut block = b"NATS/1.0\r\n".to_vec();
        for pair in pairs.chunks_exact(2) {
            let name = HEADERS.iter().find(|(letter, _)| *letter == pair[0]).map_or("X", |(_, name)| name);
            let value = match VALUES.iter().find(|(letter, _)| *letter == pair[1]) {
                Some((_, value)) => value.as_bytes().to_vec(),
                None if pair[1] == b'l' => self.last_acked.to_string().into_bytes(),
                None => vec![pair[1]],
            };
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(b": ");
            block.extend_from_slice(&value);
            block.extend_from_slice(b"\r\n");
        }
        block.extend_from_slice(b"\r\n");
        block.into()
    }

    fn change_interest(&mut self, listens: Listens) {
        self.listens = listens;
        for tag in self.watched.clone() {
            let input = Input::InterestChanged { tag };
            self.engine.handle(self.now, input, &mut self.store, &self.listens);
        }
        self.settle();
    }

    fn answer_delivery(&mut self, back: usize, body: &[u8]) {
        let index = self.deliveries.len().checked_sub(back + 1);
        let Some(to) = index.and_then(|index| self.deliveries.get(index)).cloned() else { return };
        self.send(&to, Bytes::new(), body);
    }

    fn message(&mut self, line: &[u8], headers: Bytes) {
        let (to, payload) = cut(line);
        // The decoder lets nothing else through.
        if subject::is_valid_subject(to) && subject::is_literal(to) {
            self.send(to, headers, payload);
        }
    }

    fn send(&mut self, to: &[u8], headers: Bytes, payload: &[u8]) {
        let heard: Vec<Tag> = self
            .heard
            .iter()
            .filter(|(filter, _)| subject::matches(to, filter))
            .map(|(_, tag)| *tag)
            .collect();
        self.requests += 1;
        let reply = Bytes::from(format!("_INBOX.{}", self.requests));
        for tag in &heard {
            let input = Input::Message {
                tag: *tag,
                subject: Bytes::copy_from_slice(to),
                reply: reply.clone(),
                headers: headers.clone(),
                payload: Bytes::copy_from_slice(payload),
            };
            self.engine.handle(self.now, input, &mut self.store, &self.listens);
        }
        let sent = self.settle();
        let answers: Vec<&Message> = sent.iter().filter(|message| message.to == reply).collect();
        if heard.contains(&Tag::Api) {
            // Whoever does not listen may be left without an answer.
            let least = usize::from(self.listens.has(&reply));
            let count = answers.len();
            assert!((least..=1).contains(&count), "{count} answers to {}", to.escape_ascii());
            for answer in answers {
                let json = serde_json::from_slice::<serde_json::Value>(&answer.payload);
                let json = json.unwrap_or_else(|error| panic!("{error}: {}", answer.payload.escape_ascii()));
                assert!(json["type"].is_string(), "{json}");
            }
            if let Some(name) = to.strip_prefix(b"$JS.API.STREAM.DELETE.") {
                self.acked.remove(&*String::from_utf8_lossy(name));
            }
        } else if heard.iter().any(|tag| matches!(tag, Tag::Stream(_))) {
            for answer in answers.iter().filter(|answer| answer.payload.starts_with(b"{\"stream\"")) {
                self.acknowledged(&answer.payload);
            }
        }
        self.pass(STEP);
    }

    /// Each acknowledged message is behind the former one of its stream.
    fn acknowledged(&mut self, ack: &[u8]) {
        let ack: serde_json::Value = serde_json::from_slice(ack).expect("an acknowledgement is JSON");
        let seq = ack["seq"].as_u64().expect("a sequence");
        let name = ack["stream"].as_str().expect("a name").to_owned();
        if ack["duplicate"] == true {
            return;
        }
        let former = self.acked.insert(name, seq).unwrap_or_default();
        assert!(seq > former, "{ack} behind {former}");
        self.last_acked = seq;
    }

    /// Time passes; what is due happens.
    fn pass(&mut self, by: i64) {
        let until = self.now.saturating_add(by).min(END).max(self.now);
        for _ in 0..1000 {
            let Some(due) = self.engine.poll_timeout().filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now, &mut self.store, &self.listens);
            self.settle();
        }
        self.now = until;
    }

    /// Until nothing stands that is too old: a start removes it at once, a stream that runs looks every 50 ms.
    fn let_age(&mut self) {
        const LOOK: i64 = 50_000_000;
        for _ in 0..100 {
            match self.engine.poll_timeout() {
                Some(due) if due <= self.now.saturating_add(LOOK) => self.pass(due.saturating_sub(self.now)),
                _ => break,
            }
        }
    }

    /// Delivers what is durable until nothing moves any more; what was sent.
    fn settle(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        for _ in 0..10_000 {
            if self.engine.poll_timeout().is_some_and(|due| due <= self.now) {
                self.engine.handle_timeout(self.now, &mut self.store, &self.listens);
            } else {
                self.engine.handle_durable(self.now, &mut self.store, &self.listens);
            }
            let staged = self.store.staged_bytes() > 0;
            self.store.seal(Box::new(|sealed| sealed.expect("the disk works")));
            let events = self.store.process();
            for change in self.engine.outputs().take_subscription_changes() {
                match change {
                    SubscriptionChange::Subscribe { filter, tag } => self.heard.push((filter, tag)),
                    SubscriptionChange::Unsubscribe { filter, tag } => {
                        self.heard.retain(|each| *each != (filter.clone(), tag));
                    }
                    SubscriptionChange::Watch { tag, .. } => self.watched.push(tag),
                    SubscriptionChange::Unwatch { tag } => self.watched.retain(|each| *each != tag),
                }
            }
            sent.extend(self.engine.outputs().take_now());
            sent.extend(self.engine.outputs().take_held().into_iter().map(|held| held.message));
            let waits = self.engine.poll_timeout().is_some_and(|due| due <= self.now);
            if !staged && !events.durable && !waits {
                let delivered = sent.iter().map(|message| &message.reply);
                self.deliveries.extend(delivered.filter(|reply| reply.starts_with(b"$JS.")).cloned());
                let old = self.deliveries.len().saturating_sub(DELIVERIES_MAX);
                self.deliveries.drain(..old);
                return sent;
            }
        }
        panic!("the engine does not come to rest");
    }

    /// Configuration and state of every stream, as the API tells them; what is in memory keeps its configuration alone.
    fn streams(&mut self) -> Vec<serde_json::Value> {
        let list = self.ask("$JS.API.STREAM.LIST");
        let streams = list["streams"].as_array().cloned().unwrap_or_default();
        let told = |info: &serde_json::Value| match info["config"]["storage"].as_str() {
            Some("memory") => serde_json::json!([info["config"]]),
            // A mirror follows its origin, which leaves sequences out when it was in memory.
            _ if info["config"]["mirror"].is_object() => {
                serde_json::json!([info["config"], info["state"]["messages"]])
            }
            _ => serde_json::json!([info["config"], info["state"]["messages"], info["state"]["last_seq"]]),
        };
        streams.iter().map(told).collect()
    }

    /// Name and configuration of every durable consumer that is kept, by stream.
    fn consumers(&mut self) -> Vec<serde_json::Value> {
        let names = self.ask("$JS.API.STREAM.NAMES");
        let mut told = Vec::new();
        for stream in names["streams"].as_array().into_iter().flatten().filter_map(|name| name.as_str()) {
            let list = self.ask(&format!("$JS.API.CONSUMER.LIST.{stream}"));
            let consumers = list["consumers"].as_array().cloned().unwrap_or_default();
            let kept = consumers.iter().map(|info| &info["config"]);
            let kept =
                kept.filter(|config| config["durable_name"].is_string() && config["mem_storage"] != true);
            told.push(serde_json::json!([stream, kept.collect::<Vec<_>>()]));
        }
        told
    }

    fn ask(&mut self, to: &str) -> serde_json::Value {
        self.requests += 1;
        let reply = Bytes::from(format!("_INBOX.{}", self.requests));
        let input = Input::Message {
            tag: Tag::Api,
            subject: Bytes::copy_from_slice(to.as_bytes()),
            reply: reply.clone(),
            headers: Bytes::new(),
            payload: Bytes::new(),
        };
        self.engine.handle(self.now, input, &mut self.store, &Listens(3));
        let sent = self.settle();
        let answer =
            sent.iter().find(|message| message.to == reply).unwrap_or_else(|| panic!("{to}: no answer"));
        serde_json::from_slice(&answer.payload).unwrap_or_else(|error| panic!("{to}: {error}"))
    }
}

fn engine() -> Engine {
    Engine::new(EngineConfig {
        server_name: "weir".to_owned(),
        version: "2.14.0".to_owned(),
        api_level: 0,
        domain: String::new(),
        max_payload: 64 << 10,
        max_pending: 64 << 20,
        random: Random::from_seed(7),
    })
}
