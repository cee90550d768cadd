//! JetStream's API and what else a stream hears: requests of any shape on any subject. Each API request is answered once, with JSON,
//! and a server that starts again on what was stored holds the same streams.
//!
//! The input is a list of messages, one per line: subject, a blank, the rest of the line is the payload.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use weir::jetstream::interest::Interest;
use weir::jetstream::{Engine, EngineConfig, Hearing, Input, Message, Tag};
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
];

/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200_000_000_000;
/// Time from one message to the next.
const STEP: i64 = 1_000_000_000;
/// Messages of one input that count.
const MESSAGES_MAX: usize = 32;

/// See the module.
pub fn body(bytes: &[u8]) {
    let mut world = World::on(empty().copy());
    for line in bytes.split(|byte| *byte == b'\n').take(MESSAGES_MAX) {
        let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (subject, payload) = (&line[..at], line.get(at + 1..).unwrap_or_default());
        // The decoder lets nothing else through.
        if subject::is_valid_subject(subject) && subject::is_literal(subject) {
            world.message(subject, payload);
        }
    }
    let before = world.streams();
    assert_eq!(before, world.restart().streams(), "the streams after a restart");
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

/// Whoever asks waits; somebody listens where consumers deliver.
struct Listens;

impl Interest for Listens {
    fn has(&self, subject: &[u8]) -> bool {
        subject.starts_with(b"_INBOX.") || subject == b"d"
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
    requests: u64,
}

impl World {
    fn on(disk: Simulated) -> Self {
        let store = open(&disk);
        let mut world = Self { disk, store, engine: engine(), now: START, heard: Vec::new(), requests: 0 };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.engine.restore(self.now, &mut self.store, &Listens);
        self.engine.resume_mirrors(self.now, &mut self.store, &Listens);
        self.settle();
    }

    /// Stops and starts again on the same disk.
    fn restart(mut self) -> Self {
        self.engine.shutdown(self.now, &mut self.store, &Listens);
        self.store.close().expect("the store closes");
        let mut again = Self { store: open(&self.disk), engine: engine(), heard: Vec::new(), ..self };
        again.begin();
        again
    }

    fn message(&mut self, to: &[u8], payload: &[u8]) {
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
                headers: Bytes::new(),
                payload: Bytes::copy_from_slice(payload),
            };
            self.engine.handle(self.now, input, &mut self.store, &Listens);
        }
        let sent = self.settle();
        let answers: Vec<&Message> = sent.iter().filter(|message| message.to == reply).collect();
        if heard.contains(&Tag::Api) {
            let [answer] = answers.as_slice() else {
                panic!("{} answers to {}", answers.len(), to.escape_ascii());
            };
            let json = serde_json::from_slice::<serde_json::Value>(&answer.payload);
            let json = json.unwrap_or_else(|error| panic!("{error}: {}", answer.payload.escape_ascii()));
            assert!(json["type"].is_string(), "{json}");
        }
        self.pass(STEP);
    }

    /// Time passes; what is due happens.
    fn pass(&mut self, by: i64) {
        let until = self.now + by;
        for _ in 0..1000 {
            let Some(due) = self.engine.poll_timeout().filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now, &mut self.store, &Listens);
            self.settle();
        }
        self.now = until;
    }

    /// Delivers what is durable until nothing moves any more; what was sent.
    fn settle(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        for _ in 0..10_000 {
            if self.engine.poll_timeout().is_some_and(|due| due <= self.now) {
                self.engine.handle_timeout(self.now, &mut self.store, &Listens);
            } else {
                self.engine.handle_durable(self.now, &mut self.store, &Listens);
            }
            let staged = self.store.staged_bytes() > 0;
            self.store.seal(Box::new(|sealed| sealed.expect("the disk works")));
            let events = self.store.process();
            for change in self.engine.outputs().take_hearing() {
                match change {
                    Hearing::Subscribe { filter, tag } => self.heard.push((filter, tag)),
                    Hearing::Unsubscribe { filter, tag } => {
                        self.heard.retain(|each| *each != (filter.clone(), tag));
                    }
                    Hearing::Watch { .. } | Hearing::Unwatch { .. } => {}
                }
            }
            sent.extend(self.engine.outputs().take_now());
            sent.extend(self.engine.outputs().take_held().into_iter().map(|held| held.message));
            let waits = self.engine.poll_timeout().is_some_and(|due| due <= self.now);
            if !staged && !events.durable && !waits {
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
            _ => serde_json::json!([info["config"], info["state"]["messages"], info["state"]["last_seq"]]),
        };
        streams.iter().map(told).collect()
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
        self.engine.handle(self.now, input, &mut self.store, &Listens);
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
