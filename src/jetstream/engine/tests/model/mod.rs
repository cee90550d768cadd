//! The engine against a naive reference, in virtual time: random publishes, deletes, purges, expiry, pull and push consumers,
//! acks, interest that comes and goes, a mirror and a source, restarts and crashes, compared after every step.
//!
//! `WEIR_MODEL_STEPS` says how many steps (100,000 if not set), `WEIR_MODEL_SEED` the first seed. Each run of [`RUN`] steps has
//! a seed of its own, which a failure prints: `WEIR_MODEL_SEED=<seed> WEIR_MODEL_STEPS=1` repeats that run alone. Every tenth run is
//! made twice and must say the same bytes. Flow control is left to tests of its own: its window is wider than a run.

mod consumer;
mod consumer_steps;
mod message;
mod reference;
mod steps;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::*;
use consumer::{AckPolicy, Said};
use reference::Limits;

/// Steps of one run.
const RUN: u64 = 500;
const STEPS: u64 = 100_000;
const STEPS_MAX: u64 = 1_000_000_000;
/// All times are multiples of this: age is looked at every 50 ms.
const TICK: i64 = 100 * MILLISECOND;

const SUBJECTS: [&str; 5] = ["s.a", "s.b", "s.c.x", "s.c.y", "s.d"];
const FILTERS: [&str; 4] = ["", "s.a", "s.c.*", "s.*"];

/// The number that a variable of the environment says.
fn number(name: &str, text: Option<&str>, default: u64, least: u64, most: u64) -> Result<u64, String> {
    let Some(text) = text else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("{name} is '{text}'; it is a number from {least} to {most}"))
}

#[test]
fn a_wrong_number_of_steps_is_refused() {
    assert_eq!(number("N", None, 7, 1, 9), Ok(7));
    assert_eq!(number("N", Some("9"), 7, 1, 9), Ok(9));
    for text in ["0", "10", "-1", "many", "", "1e3"] {
        assert_eq!(
            number("N", Some(text), 7, 1, 9),
            Err(format!("N is '{text}'; it is a number from 1 to 9"))
        );
    }
}

#[test]
fn the_engine_agrees_with_a_naive_reference() {
    let asked = |name: &str, default, least, most| {
        let text = std::env::var_os(name).map(|text| {
            text.into_string().unwrap_or_else(|text| panic!("{name} is {text:?}, which is no UTF-8"))
        });
        number(name, text.as_deref(), default, least, most).unwrap_or_else(|why| panic!("{why}"))
    };
    let steps = asked("WEIR_MODEL_STEPS", STEPS, 1, STEPS_MAX);
    let first = asked("WEIR_MODEL_SEED", 1, 0, u64::MAX - STEPS_MAX);
    let mut all = DefaultHasher::new();
    for (index, seed) in (first..first + steps.div_ceil(RUN)).enumerate() {
        let said = run(seed);
        if index % 10 == 0 {
            assert_eq!(run(seed), said, "seed {seed} says other bytes the second time");
        }
        said.hash(&mut all);
    }
    println!("{steps} steps from seed {first}: {:016x}", all.finish());
}

/// Runs one seed; returns a hash of all that was said.
fn run(seed: u64) -> u64 {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut run = Run::new(seed);
        for _ in 0..RUN {
            run.step();
        }
        run.said.finish()
    }));
    outcome.unwrap_or_else(|_| {
        panic!("the engine and the reference disagree: WEIR_MODEL_SEED={seed} WEIR_MODEL_STEPS=1 repeats it")
    })
}

/// A stream that copies from S.
struct Copy {
    name: &'static str,
    is_mirror: bool,
    is_file: bool,
    filter: &'static str,
    /// Where a source goes on.
    next: u64,
    stream: reference::Stream,
}

struct Run {
    choices: Random,
    world: World,
    stream: reference::Stream,
    is_file: bool,
    /// The step at which a mirror and a source of S are made, in some runs.
    copied_from: Option<u64>,
    copies: Vec<Copy>,
    /// Deliver subjects to which somebody is subscribed, in the queue group or alone.
    listeners: BTreeSet<(String, bool)>,
    /// The reply subjects of the latest delivery of each pending message.
    inflight: BTreeMap<(String, u64), String>,
    /// What was acknowledged and answered.
    kept_acks: BTreeSet<(String, u64)>,
    history: Vec<String>,
    said: DefaultHasher,
    steps: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let choices = Random::from_seed(seed);
        let limits = some_limits(&choices);
        let window = 1 + i64::try_from(choices.below(2)).expect("small");
        let is_file = choices.below(5) > 0;
        let copied_from = (choices.below(4) == 0).then(|| choices.below(RUN / 2));
        let mut run = Self {
            choices,
            world: World::new(),
            stream: reference::Stream::new(limits, window * SECOND, is_file),
            is_file,
            copied_from,
            copies: Vec::new(),
            listeners: BTreeSet::new(),
            inflight: BTreeMap::new(),
            kept_acks: BTreeSet::new(),
            history: Vec::new(),
            said: DefaultHasher::new(),
            steps: 0,
        };
        let config = run.config(&run.stream.limits);
        run.note(format!("create {config}"));
        run.world.create(&config);
        run
    }

    fn config(&self, limits: &Limits) -> String {
        let what = r#""subjects":["s.>"],"allow_rollup_hdrs":true,"allow_direct":true"#;
        stream_config("S", what, self.is_file, limits, self.stream.window)
    }

    fn note(&mut self, what: String) {
        self.history.push(what);
    }

    fn below(&self, bound: u64) -> u64 {
        self.choices.below(bound)
    }

    fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(usize::try_from(self.below(from.len() as u64)).expect("small"))
    }

    fn step(&mut self) {
        if self.copied_from == Some(self.steps) {
            self.create_copies();
        }
        self.steps += 1;
        match self.below(100) {
            0..30 => self.publish(),
            30..34 => self.listen(),
            34..37 => self.delete(),
            37..39 => self.purge(),
            39..50 => self.pass_time(),
            50..54 => self.create_consumer(),
            54 => self.delete_consumer(),
            55..69 => self.pull(),
            69..86 => self.acknowledge(),
            86..92 => self.read(),
            92..94 => self.update(),
            94 => self.reset_consumer(),
            95 => self.publish_and_crash(),
            96..98 => self.restart(),
            _ => self.crash(),
        }
        self.copy();
        self.compare();
    }

    /// What the copies of S take from it once a step is over.
    fn copy(&mut self) {
        for copy in &mut self.copies {
            if copy.is_mirror {
                copy.stream.mirror(&self.stream, copy.filter);
            } else {
                copy.next = copy.stream.source(&self.stream, copy.filter, copy.next, self.world.now);
            }
        }
    }

    /// Takes all that was sent and compares it with what the reference says, inbox by inbox.
    fn expect(&mut self, expected: Said) {
        let mut found = Said::new();
        for message in std::mem::take(&mut self.world.sent) {
            self.hash(&message);
            let to = String::from_utf8_lossy(&message.to).into_owned();
            let line = line(&message);
            if let Some(reply) = line.strip_prefix("$JS.ACK.") {
                let mut tokens = reply.split(['.', ' ']);
                let consumer = tokens.nth(1).expect("a consumer").to_owned();
                let seq = tokens.nth(1).and_then(|seq| seq.parse().ok()).expect("a sequence");
                assert!(
                    !self.kept_acks.contains(&(consumer.clone(), seq)),
                    "{consumer} delivers {seq} again, which was acknowledged and answered: {:#?}",
                    self.history
                );
                let reply = String::from_utf8_lossy(&message.reply).into_owned();
                self.inflight.insert((consumer, seq), reply);
            }
            found.entry(to).or_default().push(line);
        }
        assert_eq!(found, expected, "step {}: {:#?}", self.steps, self.tail());
    }

    fn tail(&self) -> Vec<&String> {
        self.history.iter().skip(self.history.len().saturating_sub(100)).collect()
    }

    fn hash(&mut self, message: &Message) {
        let Message { to, subject, reply, headers, payload } = message;
        (to, subject, reply, headers, payload).hash(&mut self.said);
    }

    /// Sends a message, and takes the one answer out of what was said.
    fn ask(&mut self, subject: &str, headers: &[(&str, &str)], body: &str) -> Message {
        let reply = self.world.hand_over(subject, headers, body.as_bytes()).expect("somebody listens");
        self.world.settle();
        let mut answers = self.world.received(&reply);
        assert_eq!(answers.len(), 1, "{subject}: {:#?}", self.tail());
        let answer = answers.remove(0);
        self.hash(&answer);
        answer
    }

    fn ask_json(&mut self, subject: &str, body: &str) -> Value {
        let answer = self.ask(subject, &[], body);
        serde_json::from_slice(&answer.payload).expect("JSON")
    }

    fn expect_drive(&mut self) {
        let mut said = Said::new();
        self.stream.drive_all(self.world.now, &mut said);
        self.expect(said);
    }

    fn compare(&mut self) {
        let streams = self.copies.iter().map(|copy| (copy.name, &copy.stream));
        for (name, stream) in streams.chain([("S", &self.stream)]) {
            let state = self.world.stream(name).state(self.world.store());
            let found = (state.messages, state.first_seq, state.last_seq, state.bytes);
            let bytes = stream.bytes().cast_unsigned();
            let expected = (stream.messages.len() as u64, stream.first, stream.last, bytes);
            assert_eq!(found, expected, "{name}, step {}: {:#?}", self.steps, self.tail());
        }
        if self.steps.is_multiple_of(20) {
            self.compare_messages();
        }
        for name in self.stream.consumers.keys().cloned().collect::<Vec<_>>() {
            if self.below(4) > 0 {
                continue;
            }
            let info = self.ask_json(&format!("$JS.API.CONSUMER.INFO.S.{name}"), "");
            let consumer = &self.stream.consumers[&name];
            let number = |value: &Value| value.as_u64().expect("a number");
            let found = (
                number(&info["delivered"]["consumer_seq"]),
                number(&info["num_ack_pending"]),
                number(&info["num_redelivered"]),
                number(&info["num_pending"]),
                number(&info["num_waiting"]),
            );
            let expected = (
                consumer.consumer_seq,
                consumer.pending().len() as u64,
                consumer.redelivered() as u64,
                consumer.left(&self.stream.messages),
                consumer.pulls.len() as u64,
            );
            assert_eq!(found, expected, "{name}, step {}: {:#?}", self.steps, self.tail());
            let is_bound = consumer.push.as_ref().is_some_and(|push| push.is_active);
            assert_eq!(info["push_bound"] == true, is_bound, "{name}: {info} {:#?}", self.tail());
            let floor = &info["ack_floor"];
            if consumer.policy == AckPolicy::Explicit && !consumer.is_purged {
                assert_eq!(
                    number(&floor["consumer_seq"]),
                    consumer.floor(),
                    "{name}: {info} {:#?}",
                    self.tail()
                );
            }
            if let Some(first) = consumer.pending().first() {
                assert!(number(&floor["stream_seq"]) < *first, "{name}: {info} {:#?}", self.tail());
            }
        }
    }

    fn compare_messages(&self) {
        let streams = self.copies.iter().map(|copy| (copy.name, &copy.stream));
        for (name, stream) in streams.chain([("S", &self.stream)]) {
            let found = self.world.contents(name);
            let messages = stream.messages.iter();
            let expected: Vec<_> =
                messages.map(|each| (each.seq, each.subject.clone(), each.payload.clone())).collect();
            assert_eq!(found, expected, "{name}, step {}: {:#?}", self.steps, self.tail());
        }
    }
}

/// A delivery as `reply subject payload`, a status as `code text left/bytes`.
fn line(message: &Message) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !message.reply.is_empty() {
        return format!("{} {} {}", text(&message.reply), text(&message.subject), text(&message.payload));
    }
    let status = header::status(&message.headers).expect("a delivery or a status");
    let line = format!("{} {}", status.code, text(status.description));
    let get = |name: &str| header::get(&message.headers, name).map(text);
    match (get("Nats-Pending-Messages"), get("Nats-Pending-Bytes")) {
        (Some(messages), Some(bytes)) => format!("{line} {messages}/{bytes}"),
        _ => match get("Nats-Last-Consumer") {
            Some(last) => format!("{line} {last}"),
            None => line,
        },
    }
}

fn stream_config(name: &str, what: &str, is_file: bool, limits: &Limits, window: i64) -> String {
    let Limits { max_msgs, max_bytes, max_age, per_subject, discard_new, new_per_subject } = limits;
    let discard = if *discard_new { "new" } else { "old" };
    let storage = if is_file { "file" } else { "memory" };
    let window = if window > 0 { format!(r#","duplicate_window":{window}"#) } else { String::new() };
    format!(
        r#"{{"name":"{name}",{what},"storage":"{storage}","max_msgs":{max_msgs},"max_bytes":{max_bytes},"max_age":{max_age},"max_msgs_per_subject":{per_subject},"discard":"{discard}","discard_new_per_subject":{new_per_subject}{window}}}"#
    )
}

fn some_limits(choices: &Random) -> Limits {
    let one_of = |values: &[i64]| values[usize::try_from(choices.below(values.len() as u64)).expect("small")];
    let per_subject = one_of(&[-1, -1, 1, 3]);
    let discard_new = choices.below(4) == 0;
    Limits {
        max_msgs: one_of(&[-1, 6, 25]),
        max_bytes: one_of(&[-1, -1, 3_000]),
        max_age: one_of(&[0, 0, 3 * SECOND, 10 * SECOND]),
        per_subject,
        discard_new,
        new_per_subject: discard_new && per_subject > 0 && choices.below(2) == 0,
    }
}
