//! What happens to consumers: they come and go, clients pull, listen, acknowledge and set them back.

use super::consumer::{Consumer, Pull, Push, Start};
use super::*;

impl Run {
    pub(super) fn create_consumer(&mut self) {
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
        if self.below(3) == 0 {
            consumer.push = Some(self.some_push(&name, &mut body));
        } else {
            consumer.max_waiting = usize::try_from(2 + self.below(5)).expect("small");
            body.push_str(&format!(r#","max_waiting":{}"#, consumer.max_waiting));
        }
        let stream = &self.stream;
        let (policy, start) = match self.below(6) {
            0 => (r#""new""#.to_owned(), Start::New),
            1 => (r#""last""#.to_owned(), Start::Last),
            2 => {
                let seq = 1 + self.below(stream.last + 4);
                (format!(r#""by_start_sequence","opt_start_seq":{seq}"#), Start::At(seq))
            }
            3 if !filter.is_empty() => (r#""last_per_subject""#.to_owned(), Start::LastPerSubject),
            _ => (r#""all""#.to_owned(), Start::All),
        };
        body.push_str(&format!(r#","deliver_policy":{policy}"#));
        consumer.start = start;
        consumer.begin(&stream.messages, stream.first, stream.last);
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

    /// A push consumer delivers to a subject of its name, and some to a queue group there.
    fn some_push(&self, name: &str, body: &mut String) -> Push {
        let to = format!("d.{name}");
        let to_group = self.below(3) == 0;
        body.push_str(&format!(r#","deliver_subject":"{to}""#));
        let mut heartbeat = 0;
        if to_group {
            body.push_str(r#","deliver_group":"g""#);
        } else if self.below(2) == 0 {
            heartbeat = (5 + i64::try_from(self.below(20)).expect("small")) * TICK;
            body.push_str(&format!(r#","idle_heartbeat":{heartbeat}"#));
        }
        let is_active = self.listeners.contains(&(to.clone(), to_group));
        Push { to, to_group, is_active, heartbeat, beat_at: self.world.now + heartbeat }
    }

    /// Somebody subscribes to a deliver subject, in the queue group or alone, or does no longer.
    pub(super) fn listen(&mut self) {
        let name = format!("C{}", self.below(3));
        let push = self.stream.consumers.get(&name).and_then(|consumer| consumer.push.as_ref());
        let to_group = push.is_some_and(|push| push.to_group) != (self.below(5) == 0);
        let listens = self.below(3) > 0;
        self.set_listening(&name, to_group, listens);
        self.expect_drive();
    }

    fn set_listening(&mut self, name: &str, to_group: bool, listens: bool) {
        let to = format!("d.{name}");
        self.note(format!("{} {to} group: {to_group} listens: {listens}", self.world.now));
        if listens {
            self.listeners.insert((to.clone(), to_group));
        } else {
            self.listeners.remove(&(to.clone(), to_group));
        }
        self.world.set_listening(&to, to_group.then_some("g"), listens);
        self.world.settle();
        let push = self.stream.consumers.get_mut(name).and_then(|consumer| consumer.push.as_mut());
        if let Some(push) = push {
            push.is_active = self.listeners.contains(&(to, push.to_group));
        }
    }

    fn some_consumer(&self) -> Option<String> {
        let names: Vec<String> = self.stream.consumers.keys().cloned().collect();
        self.pick(&names).cloned()
    }

    pub(super) fn delete_consumer(&mut self) {
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

    pub(super) fn pull(&mut self) {
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

    pub(super) fn acknowledge(&mut self) {
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

    pub(super) fn reset_consumer(&mut self) {
        let Some(name) = self.some_consumer() else { return };
        self.note(format!("reset {name}"));
        self.set_back(&name);
    }

    /// Back to the ack floor: from here on the reference knows where the consumer is.
    pub(super) fn set_back(&mut self, name: &str) {
        let answer = self.ask_json(&format!("$JS.API.CONSUMER.RESET.S.{name}"), "");
        let seq = answer["reset_seq"].as_u64().unwrap_or_else(|| panic!("{answer}: {:#?}", self.tail()));
        self.stream.consumers.get_mut(name).expect("it is there").reset(seq);
        self.forget(name);
        self.expect_drive();
    }

    /// Takes what a consumer delivers after a crash: nothing of it was acknowledged and answered.
    pub(super) fn drain(&mut self, name: &str) {
        match self.stream.consumers[name].push.as_ref().map(|push| push.to_group) {
            Some(to_group) => self.set_listening(name, to_group, true),
            None => {
                let subject = format!("$JS.API.CONSUMER.MSG.NEXT.S.{name}");
                self.world.hand_over(&subject, &[], br#"{"batch":1000,"no_wait":true}"#).expect("heard");
                self.world.settle();
            }
        }
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
}
