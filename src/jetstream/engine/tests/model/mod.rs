//! The engine against a naive reference, in virtual time: random publishes, deletes, purges, expiry, consumers, pulls, acks,
//! restarts and crashes, compared after every step.
//!
//! `WEIR_MODEL_STEPS` says how many steps (100,000 if not set), `WEIR_MODEL_SEED` the first seed. Each run of [`RUN`] steps has
//! a seed of its own, which a failure prints: `WEIR_MODEL_SEED=<seed> WEIR_MODEL_STEPS=1` repeats that run alone. Every tenth run is
//! made twice and must say the same bytes.

mod reference;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use super::*;
use reference::{AckPolicy, Consumer, Limits, Outcome, Pull, Said};

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
        let text = std::env::var(name).ok();
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

struct Run {
    choices: Random,
    world: World,
    stream: reference::Stream,
    is_file: bool,
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
        let mut run = Self {
            choices,
            world: World::new(),
            stream: reference::Stream::new(limits, window * SECOND, is_file),
            is_file,
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
        let Limits { max_msgs, max_bytes, max_age, per_subject, discard_new, new_per_subject } = limits;
        let discard = if *discard_new { "new" } else { "old" };
        let storage = if self.is_file { "file" } else { "memory" };
        format!(
            r#"{{"name":"S","subjects":["s.>"],"storage":"{storage}","max_msgs":{max_msgs},"max_bytes":{max_bytes},"max_age":{max_age},"max_msgs_per_subject":{per_subject},"discard":"{discard}","discard_new_per_subject":{new_per_subject},"duplicate_window":{},"allow_rollup_hdrs":true,"allow_direct":true}}"#,
            self.stream.window
        )
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
        self.steps += 1;
        match self.below(100) {
            0..32 => self.publish(),
            32..36 => self.delete(),
            36..38 => self.purge(),
            38..50 => self.pass_time(),
            50..54 => self.create_consumer(),
            54 => self.delete_consumer(),
            55..70 => self.pull(),
            70..86 => self.acknowledge(),
            86..92 => self.read(),
            92..94 => self.update(),
            94 => self.reset_consumer(),
            95 => self.publish_and_crash(),
            96..98 => self.restart(),
            _ => self.crash(),
        }
        self.compare();
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

    fn some_message(&mut self) -> reference::Message {
        let subject = (*self.pick(&SUBJECTS).expect("some")).to_owned();
        let mut headers = Vec::new();
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        if self.below(4) == 0 {
            add("Nats-Msg-Id", format!("id-{}", self.below(12)));
        }
        match self.below(24) {
            0 => add(
                "Nats-Expected-Last-Sequence",
                (self.stream.last.saturating_sub(self.below(2))).to_string(),
            ),
            1 => {
                let on = self.stream.messages.iter().rev().find(|each| each.subject == subject);
                let last = on.map_or(0, |last| last.seq);
                add("Nats-Expected-Last-Subject-Sequence", last.saturating_sub(self.below(2)).to_string());
            }
            2 => add("Nats-Expected-Last-Msg-Id", format!("id-{}", self.below(12))),
            3 => add("Nats-Rollup", if self.below(3) == 0 { "all" } else { "sub" }.to_owned()),
            4 | 5 => add("X-Other", "y".repeat(usize::try_from(self.below(40)).expect("small"))),
            _ => {}
        }
        let length = if self.below(30) == 0 { 3_000 } else { self.below(120) };
        let payload = "x".repeat(usize::try_from(length).expect("small"));
        reference::Message { seq: 0, time: 0, subject, headers, payload }
    }

    fn publish(&mut self) {
        let message = self.some_message();
        self.note(format!("{} publish {message:?}", self.world.now));
        let headers: Vec<(&str, &str)> =
            message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = self.ask(&message.subject, &headers, &message.payload);
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        let found: Outcome = match answer["error"]["err_code"].as_u64() {
            Some(code) => Err(code),
            None => {
                Ok((answer["seq"].as_u64().expect("a sequence"), answer["duplicate"].as_bool() == Some(true)))
            }
        };
        let now = self.world.now;
        self.note(format!("{found:?}"));
        assert_eq!(found, self.stream.publish(now, message.clone()), "{answer}: {:#?}", self.tail());
        self.expect_drive();
    }

    fn expect_drive(&mut self) {
        let mut said = Said::new();
        self.stream.drive_all(self.world.now, &mut said);
        self.expect(said);
    }

    fn delete(&mut self) {
        let seq = self.stream.last.saturating_sub(self.below(12));
        self.note(format!("delete {seq}"));
        let answer = self.ask_json("$JS.API.STREAM.MSG.DELETE.S", &format!(r#"{{"seq":{seq}}}"#));
        let expected = self.stream.delete(seq);
        assert_eq!(answer["success"].as_bool() == Some(true), expected, "{answer}: {:#?}", self.tail());
        self.expect_drive();
    }

    fn purge(&mut self) {
        let filter = if self.below(4) == 0 { "" } else { self.pick(&FILTERS).expect("some") };
        let (seq, keep) = match self.below(4) {
            0 => (0, 0),
            1 => (0, self.below(6)),
            _ => ((self.stream.last + 3).saturating_sub(self.below(20)), 0),
        };
        let body = format!(r#"{{"filter":"{filter}","seq":{seq},"keep":{keep}}}"#);
        self.note(format!("purge {body}"));
        let answer = self.ask_json("$JS.API.STREAM.PURGE.S", &body);
        let expected = self.stream.purge(filter, seq, keep);
        assert_eq!(answer["purged"].as_u64(), Some(expected), "{answer}: {:#?}", self.tail());
        self.expect_drive();
    }

    /// Lets time pass, tick by tick.
    fn pass_time(&mut self) {
        let ticks = if self.below(6) == 0 { 40 } else { 1 + self.below(8) };
        self.note(format!("{ticks} ticks from {}", self.world.now));
        let mut expected = Said::new();
        for tick in 1..=i64::try_from(ticks).expect("small") {
            for (to, lines) in self.stream.pass(self.world.now + tick * TICK) {
                expected.entry(to).or_default().extend(lines);
            }
        }
        self.world.advance(i64::try_from(ticks).expect("small") * TICK);
        self.expect(expected);
    }

    fn create_consumer(&mut self) {
        let name = format!("C{}", self.below(3));
        if self.stream.consumers.contains_key(&name) {
            return;
        }
        let filter = *self.pick(&FILTERS).expect("some");
        let (policy, text) = match self.below(6) {
            0 => (AckPolicy::None, "none"),
            1 => (AckPolicy::All, "all"),
            _ => (AckPolicy::Explicit, "explicit"),
        };
        let mut consumer = Consumer::new(&name, filter, policy);
        let mut body = format!(r#""durable_name":"{name}","ack_policy":"{text}""#);
        if !filter.is_empty() {
            body.push_str(&format!(r#","filter_subject":"{filter}""#));
        }
        if policy != AckPolicy::None {
            consumer.max_deliver = 2 + self.below(4);
            consumer.max_ack_pending = usize::try_from(2 + self.below(8)).expect("small");
            consumer.ack_wait = (3 + i64::try_from(self.below(20)).expect("small")) * TICK;
            if self.below(3) == 0 {
                consumer.backoff = vec![consumer.ack_wait, 2 * consumer.ack_wait];
                consumer.max_deliver += 1;
                body.push_str(&format!(r#","backoff":[{},{}]"#, consumer.backoff[0], consumer.backoff[1]));
            }
            body.push_str(&format!(
                r#","ack_wait":{},"max_deliver":{},"max_ack_pending":{}"#,
                consumer.ack_wait, consumer.max_deliver, consumer.max_ack_pending
            ));
        }
        consumer.max_waiting = usize::try_from(2 + self.below(5)).expect("small");
        body.push_str(&format!(r#","max_waiting":{}"#, consumer.max_waiting));
        let stream = &self.stream;
        let wanted = |each: &&reference::Message| reference::matches(&each.subject, filter);
        match self.below(6) {
            0 => {
                body.push_str(r#","deliver_policy":"new""#);
                consumer.next = stream.last + 1;
            }
            1 => {
                body.push_str(r#","deliver_policy":"last""#);
                // Without a filter the last sequence, whether its message is there or not.
                let last = stream.messages.iter().rev().find(wanted).map_or(stream.first, |last| last.seq);
                let last = if filter.is_empty() { stream.last } else { last };
                consumer.next = last.max(stream.first);
            }
            2 => {
                let seq = 1 + self.below(stream.last + 4);
                body.push_str(&format!(r#","deliver_policy":"by_start_sequence","opt_start_seq":{seq}"#));
                consumer.next = seq.max(stream.first);
            }
            3 if !filter.is_empty() => {
                body.push_str(r#","deliver_policy":"last_per_subject""#);
                consumer.list_lasts(stream);
            }
            _ => {
                body.push_str(r#","deliver_policy":"all""#);
                consumer.next = stream.first;
            }
        }
        self.note(format!("consumer {body}"));
        let subject = if filter.is_empty() {
            format!("$JS.API.CONSUMER.CREATE.S.{name}")
        } else {
            format!("$JS.API.CONSUMER.CREATE.S.{name}.{filter}")
        };
        let answer = self.ask_json(&subject, &format!(r#"{{"stream_name":"S","config":{{{body}}}}}"#));
        assert!(answer["error"].is_null(), "{answer} {:#?}", self.tail());
        let left = consumer.left(&self.stream.messages);
        assert_eq!(answer["num_pending"].as_u64(), Some(left), "{answer}: {:#?}", self.tail());
        self.stream.consumers.insert(name, consumer);
        self.expect_drive();
    }

    fn some_consumer(&self) -> Option<String> {
        let names: Vec<String> = self.stream.consumers.keys().cloned().collect();
        self.pick(&names).cloned()
    }

    fn delete_consumer(&mut self) {
        let Some(name) = self.some_consumer() else { return };
        self.note(format!("delete consumer {name}"));
        let answer = self.ask_json(&format!("$JS.API.CONSUMER.DELETE.S.{name}"), "");
        assert_eq!(answer["success"], true, "{answer}");
        let consumer = self.stream.consumers.remove(&name).expect("it is there");
        self.forget(&name);
        let ended = consumer.pulls.into_iter().map(|pull| (pull.to, vec!["409 Consumer Deleted".to_owned()]));
        self.expect(ended.collect());
    }

    fn forget(&mut self, name: &str) {
        self.inflight.retain(|(consumer, _), _| consumer != name);
        self.kept_acks.retain(|(consumer, _)| consumer != name);
    }

    fn pull(&mut self) {
        let Some(name) = self.some_consumer() else { return };
        let left = 1 + i64::try_from(self.below(6)).expect("small");
        let expires = (self.below(5) > 0).then(|| (1 + i64::try_from(self.below(30)).expect("small")) * TICK);
        let no_wait = self.below(3) == 0;
        let bytes = if self.below(5) == 0 { 60 + i64::try_from(self.below(500)).expect("small") } else { 0 };
        let body = format!(
            r#"{{"batch":{left},"no_wait":{no_wait},"expires":{},"max_bytes":{bytes}}}"#,
            expires.unwrap_or(0)
        );
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{name}");
        let to = self.world.hand_over(&subject, &[], body.as_bytes()).expect("heard");
        let to = String::from_utf8_lossy(&to).into_owned();
        self.note(format!("{to} pulls {name} {body}"));
        self.world.settle();
        let now = self.world.now;
        let pull =
            Pull { to, left, bytes, expires: expires.map(|expires| now + expires), no_wait, has_got: false };
        let mut said = Said::new();
        let messages = self.stream.messages.clone();
        self.stream.consumers.get_mut(&name).expect("it is there").pull(pull, &messages, &mut said);
        self.stream.drive_all(now, &mut said);
        self.expect(said);
    }

    fn acknowledge(&mut self) {
        let pending: Vec<(String, u64)> = self
            .stream
            .consumers
            .iter()
            .flat_map(|(name, consumer)| consumer.pending().into_iter().map(|seq| (name.clone(), seq)))
            .collect();
        let Some((name, seq)) = self.pick(&pending).cloned() else { return };
        let Some(subject) = self.inflight.get(&(name.clone(), seq)).cloned() else {
            panic!("{name} has {seq} pending, which was never delivered: {:#?}", self.tail());
        };
        let (body, kind) = match self.below(16) {
            0 | 1 => ("-NAK".to_owned(), 'n'),
            2 | 3 => (format!(r#"-NAK {{"delay": {}}}"#, 5 * TICK), 'd'),
            4 => ("+WPI".to_owned(), 'w'),
            5 => ("+TERM".to_owned(), 'a'),
            6 => ("+TERM for a reason".to_owned(), 'a'),
            7 => ("something else".to_owned(), ' '),
            8 => (String::new(), 'a'),
            _ => ("+ACK".to_owned(), 'a'),
        };
        let is_double = self.below(3) == 0;
        self.note(format!("{} {body} {subject} double: {is_double}", self.world.now));
        let now = self.world.now;
        let consumer = self.stream.consumers.get_mut(&name).expect("it is there");
        let before = consumer.pending();
        match kind {
            'n' => consumer.nak(seq, None, now),
            'd' => consumer.nak(seq, Some(5 * TICK), now),
            'w' => consumer.in_progress(seq, now),
            'a' => consumer.ack(seq),
            _ => {}
        }
        let gone: Vec<u64> = before.into_iter().filter(|seq| !consumer.pending().contains(seq)).collect();
        if is_double {
            let answer = self.ask(&subject, &[], &body);
            assert!(answer.payload.is_empty() && answer.headers.is_empty());
            if kind == 'a' && self.is_file {
                self.kept_acks.extend(gone.into_iter().map(|seq| (name.clone(), seq)));
            }
        } else {
            // Without a reply nobody waits, and the state may be kept late.
            self.world.hand_over_quietly(&subject, body.as_bytes());
            self.world.settle();
        }
        self.expect_drive();
    }

    fn read(&mut self) {
        let by_subject = self.below(2) == 0;
        let (subject, body, expected) = if by_subject {
            let subject = *self.pick(&SUBJECTS).expect("some");
            let found = self.stream.messages.iter().rev().find(|each| each.subject == subject);
            (format!("$JS.API.DIRECT.GET.S.{subject}"), String::new(), found.cloned())
        } else {
            let seq = 1 + self.below(self.stream.last + 1);
            let found = self.stream.messages.iter().find(|each| each.seq == seq);
            ("$JS.API.DIRECT.GET.S".to_owned(), format!(r#"{{"seq":{seq}}}"#), found.cloned())
        };
        self.note(format!("get {subject} {body}"));
        let answer = self.ask(&subject, &[], &body);
        let get =
            |name: &str| header::get(&answer.headers, name).map(|v| String::from_utf8_lossy(v).into_owned());
        match expected {
            None => assert!(answer.headers.starts_with(b"NATS/1.0 404"), "{answer:?}: {:#?}", self.tail()),
            Some(message) => {
                assert_eq!(get("Nats-Sequence"), Some(message.seq.to_string()), "{:#?}", self.tail());
                assert_eq!(get("Nats-Subject"), Some(message.subject));
                assert_eq!(answer.payload, message.payload.as_bytes());
                for (name, value) in message.headers {
                    assert_eq!(get(&name), Some(value));
                }
            }
        }
    }

    fn update(&mut self) {
        let limits = some_limits(&self.choices);
        // What may not be changed stays.
        let limits = Limits { per_subject: self.stream.limits.per_subject, ..limits };
        let limits = Limits {
            new_per_subject: limits.discard_new && limits.per_subject > 0 && limits.new_per_subject,
            ..limits
        };
        let config = self.config(&limits);
        self.note(format!("{} update {config}", self.world.now));
        let answer = self.ask_json("$JS.API.STREAM.UPDATE.S", &config);
        assert!(answer["error"].is_null(), "{answer}: {:#?}", self.tail());
        self.stream.update(limits, self.world.now);
        self.expect_drive();
    }

    fn reset_consumer(&mut self) {
        let Some(name) = self.some_consumer() else { return };
        self.note(format!("reset {name}"));
        self.set_back(&name);
    }

    /// Back to the ack floor: from here on the reference knows where the consumer is.
    fn set_back(&mut self, name: &str) {
        let answer = self.ask_json(&format!("$JS.API.CONSUMER.RESET.S.{name}"), "");
        let seq = answer["reset_seq"].as_u64().unwrap_or_else(|| panic!("{answer}: {:#?}", self.tail()));
        self.stream.consumers.get_mut(name).expect("it is there").reset(seq);
        self.forget(name);
        self.expect_drive();
    }

    fn restart(&mut self) {
        if !self.is_file {
            return;
        }
        self.note(format!("{} restart", self.world.now));
        self.world.restart();
        self.stream.restart(self.world.now);
        self.expect_drive();
        self.compare_messages();
    }

    /// Publishes whose answers never went out, and a crash.
    fn publish_and_crash(&mut self) {
        if !self.is_file {
            return;
        }
        for _ in 0..1 + self.below(3) {
            let message = self.some_message();
            self.note(format!("{} publish without an answer {message:?}", self.world.now));
            let headers: Vec<(&str, &str)> =
                message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            self.world.hand_over(&message.subject, &headers, message.payload.as_bytes());
        }
        self.crash();
    }

    fn crash(&mut self) {
        if !self.is_file {
            return;
        }
        self.note(format!("{} crash", self.world.now));
        self.world.crash();
        self.world.sent.clear();
        self.stream.adopt(&self.world.contents("S"));
        self.stream.restart(self.world.now);
        self.compare_messages();
        let consumers: Vec<(String, u64)> = self
            .stream
            .consumers
            .iter()
            .map(|(name, consumer)| (name.clone(), consumer.consumer_seq))
            .collect();
        for (name, consumer_seq) in consumers {
            let info = self.ask_json(&format!("$JS.API.CONSUMER.INFO.S.{name}"), "");
            let found = info["delivered"]["consumer_seq"].as_u64().expect("a sequence");
            assert!(found <= consumer_seq, "{name} is ahead of {consumer_seq}: {info} {:#?}", self.tail());
            self.drain(&name);
        }
        // Requests that still wait go with a restart.
        self.world.restart();
        self.world.sent.clear();
        for name in self.stream.consumers.keys().cloned().collect::<Vec<_>>() {
            self.set_back(&name);
        }
    }

    /// Takes what a consumer delivers after a crash: nothing of it was acknowledged and answered.
    fn drain(&mut self, name: &str) {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{name}");
        self.world.hand_over(&subject, &[], br#"{"batch":1000,"no_wait":true}"#).expect("heard");
        self.world.settle();
        for message in std::mem::take(&mut self.world.sent) {
            self.hash(&message);
            let line = line(&message);
            let seq = line.strip_prefix("$JS.ACK.").and_then(|rest| rest.split('.').nth(3)?.parse().ok());
            if let Some(seq) = seq {
                assert!(
                    !self.kept_acks.contains(&(name.to_owned(), seq)),
                    "{name} delivers {seq} again, which was acknowledged and answered: {:#?}",
                    self.tail()
                );
            }
        }
    }

    fn compare(&mut self) {
        let found = {
            let state = self.world.stream("S").state(self.world.store());
            (state.messages, state.first_seq, state.last_seq, state.bytes)
        };
        let stream = &self.stream;
        let expected = (stream.messages.len() as u64, stream.first, stream.last);
        assert_eq!((found.0, found.1, found.2), expected, "step {}: {:#?}", self.steps, self.tail());
        assert_eq!(found.3, stream.bytes().cast_unsigned(), "step {}: {:#?}", self.steps, self.tail());
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

    fn compare_messages(&mut self) {
        let found = self.world.contents("S");
        let messages = self.stream.messages.iter();
        let expected: Vec<_> =
            messages.map(|each| (each.seq, each.subject.clone(), each.payload.clone())).collect();
        assert_eq!(found, expected, "step {}: {:#?}", self.steps, self.tail());
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
        _ => line,
    }
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
