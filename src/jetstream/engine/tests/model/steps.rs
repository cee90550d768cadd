//! What happens to streams: publishes, removals, reads, other limits, time, restarts and crashes.

use super::reference::Outcome;
use super::*;

impl Run {
    fn some_message(&mut self) -> message::Message {
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
        message::Message { seq: 0, time: 0, subject, headers, payload }
    }

    pub(super) fn publish(&mut self) {
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

    /// S or one of its copies: none of them for S.
    fn some_stream(&self) -> Option<usize> {
        let copies = self.copies.len() as u64;
        if copies == 0 || self.below(2) == 0 {
            return None;
        }
        usize::try_from(self.below(copies)).ok()
    }

    fn named(&mut self, copy: Option<usize>) -> (&'static str, &mut reference::Stream) {
        match copy {
            None => ("S", &mut self.stream),
            Some(copy) => (self.copies[copy].name, &mut self.copies[copy].stream),
        }
    }

    pub(super) fn delete(&mut self) {
        let copy = self.some_stream();
        let back = self.below(12);
        let (name, stream) = self.named(copy);
        let seq = stream.last.saturating_sub(back);
        let expected = stream.delete(seq);
        self.note(format!("delete {name} {seq}"));
        let answer =
            self.ask_json(&format!("$JS.API.STREAM.MSG.DELETE.{name}"), &format!(r#"{{"seq":{seq}}}"#));
        assert_eq!(answer["success"].as_bool() == Some(true), expected, "{answer}: {:#?}", self.tail());
        self.expect_drive();
    }

    pub(super) fn purge(&mut self) {
        let copy = self.some_stream();
        let filter = if self.below(4) == 0 { "" } else { self.pick(&FILTERS).expect("some") };
        let last = self.named(copy).1.last;
        let (seq, keep) = match self.below(4) {
            0 => (0, 0),
            1 => (0, self.below(6)),
            _ => ((last + 3).saturating_sub(self.below(20)), 0),
        };
        let (name, stream) = self.named(copy);
        let expected = stream.purge(filter, seq, keep);
        let body = format!(r#"{{"filter":"{filter}","seq":{seq},"keep":{keep}}}"#);
        self.note(format!("purge {name} {body}"));
        let answer = self.ask_json(&format!("$JS.API.STREAM.PURGE.{name}"), &body);
        assert_eq!(answer["purged"].as_u64(), Some(expected), "{answer}: {:#?}", self.tail());
        self.expect_drive();
    }

    /// A mirror and a source of S, with limits of their own but for age and refusals.
    pub(super) fn create_copies(&mut self) {
        let filter = |run: &Self| *run.pick(&FILTERS).expect("some");
        for (name, is_mirror) in [("M", true), ("A", false)] {
            let filter = filter(self);
            let is_file = !is_mirror || self.below(3) > 0;
            let limits = Limits {
                max_age: 0,
                discard_new: false,
                new_per_subject: false,
                ..some_limits(&self.choices)
            };
            let origin = format!(r#"{{"name":"S","filter_subject":"{filter}"}}"#);
            let (what, window) = if is_mirror {
                (format!(r#""mirror":{origin}"#), 0)
            } else {
                (format!(r#""sources":[{origin}]"#), self.stream.window)
            };
            let config = stream_config(name, &what, is_file, &limits, window);
            self.note(format!("{} create {config}", self.world.now));
            self.world.create(&config);
            let mut stream = reference::Stream::new(limits, window, is_file);
            stream.allows_rollup = false;
            self.copies.push(Copy { name, is_mirror, is_file, filter, next: 1, stream });
        }
        self.copy();
    }

    /// Lets time pass, tick by tick.
    pub(super) fn pass_time(&mut self) {
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

    pub(super) fn read(&mut self) {
        let by_subject = self.below(2) == 0;
        let (subject, body, expected) = if by_subject {
            let subject = *self.pick(&SUBJECTS).expect("some");
            let found = self.stream.messages.iter().rev().find(|each| each.subject == subject);
            (format!("$JS.API.DIRECT.GET.S.{subject}"), String::new(), found.cloned())
        } else {
            let seq = (self.stream.last + 1).saturating_sub(self.below(100)).max(1);
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

    pub(super) fn update(&mut self) {
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

    pub(super) fn restart(&mut self) {
        self.note(format!("{} restart", self.world.now));
        self.hang_up();
        self.world.restart();
        self.come_back();
        self.expect_drive();
        self.compare_messages();
    }

    /// Every client is gone.
    fn hang_up(&mut self) {
        self.listeners.clear();
        for consumer in self.stream.consumers.values_mut() {
            consumer.hang_up(self.world.now);
        }
        self.world.interest.0.borrow_mut().retain(|each| !each.starts_with(b"d."));
    }

    /// The server is back: what was in memory is gone, and a mirror in memory takes all that its origin has again.
    fn come_back(&mut self) {
        let now = self.world.now;
        if self.is_file {
            self.stream.restart(now);
        } else {
            self.stream.restart_empty(self.world.numbers("S").2, now);
            self.inflight.clear();
        }
        for copy in &mut self.copies {
            if copy.is_file {
                copy.stream.restart(now);
            } else {
                copy.stream = reference::Stream::new(copy.stream.limits.clone(), 0, false);
            }
        }
        self.copy();
    }

    /// Publishes whose answers never went out, and a crash.
    pub(super) fn publish_and_crash(&mut self) {
        for _ in 0..1 + self.below(3) {
            let message = self.some_message();
            self.note(format!("{} publish without an answer {message:?}", self.world.now));
            let headers: Vec<(&str, &str)> =
                message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            self.world.hand_over(&message.subject, &headers, message.payload.as_bytes());
        }
        self.crash();
    }

    pub(super) fn crash(&mut self) {
        self.note(format!("{} crash", self.world.now));
        self.hang_up();
        self.world.crash();
        self.world.sent.clear();
        if self.is_file {
            self.stream.adopt(&self.world.contents("S"));
        }
        for copy in self.copies.iter_mut().filter(|copy| copy.is_file) {
            copy.stream.adopt(&self.world.contents(copy.name));
        }
        self.come_back();
        self.compare_messages();
        if !self.is_file {
            // Nothing is kept of consumers but that they are there.
            return self.expect_drive();
        }
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
        self.hang_up();
        self.world.restart();
        self.world.sent.clear();
        for name in self.stream.consumers.keys().cloned().collect::<Vec<_>>() {
            self.set_back(&name);
        }
    }
}
