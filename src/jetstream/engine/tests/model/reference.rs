//! What a stream must do, written down from the reference of the API without regard to cost: plain vectors, searched from one
//! end to the other. Nothing of the code under test is used.

use std::collections::BTreeMap;

use super::consumer::{Consumer, Said};
use super::message::{Message, matches};

/// The limits of a stream; below 1 is none.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) max_msgs: i64,
    pub(super) max_bytes: i64,
    pub(super) max_age: i64,
    pub(super) per_subject: i64,
    pub(super) discard_new: bool,
    pub(super) new_per_subject: bool,
}

/// A stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) limits: Limits,
    is_file: bool,
    pub(super) allows_rollup: bool,
    pub(super) window: i64,
    pub(super) messages: Vec<Message>,
    pub(super) first: u64,
    pub(super) last: u64,
    last_time: i64,
    last_id: String,
    ids: Vec<(String, u64, i64)>,
    /// What limits removed and nobody deleted or purged: after a crash it may be back, if it is within the limits.
    evicted: Vec<Message>,
    pub(super) consumers: BTreeMap<String, Consumer>,
}

/// The outcome of a publish: a sequence and whether it is a duplicate's, or an error's number.
pub(super) type Outcome = Result<(u64, bool), u64>;

impl Stream {
    pub(super) fn new(limits: Limits, window: i64, is_file: bool) -> Self {
        Self {
            limits,
            is_file,
            allows_rollup: true,
            window,
            messages: Vec::new(),
            first: 1,
            last: 0,
            last_time: 0,
            last_id: String::new(),
            ids: Vec::new(),
            evicted: Vec::new(),
            consumers: BTreeMap::new(),
        }
    }

    fn on<'a>(&'a self, subject: &'a str) -> impl DoubleEndedIterator<Item = &'a Message> {
        self.messages.iter().filter(move |message| message.subject == subject)
    }

    pub(super) fn bytes(&self) -> i64 {
        self.messages.iter().map(|each| self.cost(each)).sum()
    }

    fn cost(&self, message: &Message) -> i64 {
        message.cost(self.is_file)
    }

    pub(super) fn publish(&mut self, now: i64, mut message: Message) -> Outcome {
        let expected = |name: &str| message.header(name).and_then(|text| text.parse::<u64>().ok());
        if let Some(last) = expected("Nats-Expected-Last-Subject-Sequence")
            && last != self.on(&message.subject).next_back().map_or(0, |last| last.seq)
        {
            return Err(10071);
        }
        if expected("Nats-Expected-Last-Sequence").is_some_and(|last| last != self.last) {
            return Err(10071);
        }
        let id = message.header("Nats-Msg-Id").map(ToOwned::to_owned);
        if let Some(id) = &id
            && let Some((_, seq, _)) =
                self.ids.iter().rev().find(|(known, _, time)| known == id && now - time < self.window)
        {
            return Ok((*seq, true));
        }
        if message.header("Nats-Expected-Last-Msg-Id").is_some_and(|last| last != self.last_id) {
            return Err(10070);
        }
        let rollup = message.header("Nats-Rollup").filter(|_| self.allows_rollup).map(ToOwned::to_owned);
        self.check_room(&message, rollup.is_some())?;
        message.seq = self.last + 1;
        message.time = now.max(self.last_time);
        self.last = message.seq;
        self.last_time = message.time;
        self.last_id = id.clone().unwrap_or_default();
        if let Some(id) = id {
            self.ids.push((id, message.seq, now));
        }
        let (seq, subject) = (message.seq, message.subject.clone());
        self.messages.push(message);
        self.enforce(&subject);
        match rollup.as_deref() {
            Some("sub") => self.erase(|each| each.subject == subject && each.seq < seq),
            Some(_) => self.erase(|each| each.seq < seq),
            None => 0,
        };
        Ok((seq, false))
    }

    fn check_room(&self, message: &Message, is_rollup: bool) -> Result<(), u64> {
        let limits = &self.limits;
        if !limits.discard_new {
            return Ok(());
        }
        let like = self.on(&message.subject).count();
        let is_full = limits.per_subject > 0 && like >= usize::try_from(limits.per_subject).expect("small");
        let replaced = self.on(&message.subject).next().filter(|_| is_full);
        if replaced.is_some() && limits.new_per_subject && !is_rollup {
            return Err(10077);
        }
        let count = i64::try_from(self.messages.len()).expect("small");
        if limits.max_msgs > 0 && count >= limits.max_msgs && replaced.is_none() {
            return Err(10077);
        }
        let over = limits.max_bytes > 0 && self.bytes() + self.cost(message) > limits.max_bytes;
        if over && replaced.is_none_or(|replaced| self.cost(replaced) < self.cost(message)) {
            return Err(10077);
        }
        Ok(())
    }

    /// The limits after a message on `subject`.
    fn enforce(&mut self, subject: &str) {
        let per_subject = usize::try_from(self.limits.per_subject).unwrap_or(0);
        while per_subject > 0 && self.on(subject).count() > per_subject {
            let oldest = self.on(subject).next().expect("there are some").seq;
            self.evict(|each| each.seq == oldest);
        }
        self.enforce_totals();
    }

    fn enforce_totals(&mut self) {
        if self.limits.discard_new {
            return;
        }
        let max_msgs = usize::try_from(self.limits.max_msgs).unwrap_or(0);
        while max_msgs > 0 && self.messages.len() > max_msgs {
            let oldest = self.messages[0].seq;
            self.evict(|each| each.seq == oldest);
        }
        while self.limits.max_bytes > 0 && self.bytes() > self.limits.max_bytes {
            let oldest = self.messages[0].seq;
            self.evict(|each| each.seq == oldest);
        }
    }

    /// Takes other limits.
    pub(super) fn update(&mut self, limits: Limits, now: i64) {
        self.limits = limits;
        let mut subjects: Vec<String> = self.messages.iter().map(|each| each.subject.clone()).collect();
        subjects.sort_unstable();
        subjects.dedup();
        for subject in subjects {
            let per_subject = usize::try_from(self.limits.per_subject).unwrap_or(0);
            while per_subject > 0 && self.on(&subject).count() > per_subject {
                let oldest = self.on(&subject).next().expect("there are some").seq;
                self.evict(|each| each.seq == oldest);
            }
        }
        self.enforce_totals();
        self.expire(now);
    }

    pub(super) fn expire(&mut self, now: i64) {
        let age = self.limits.max_age;
        if age > 0 {
            self.evict(|each| each.time + age <= now);
        }
    }

    /// Removes what is named by a limit.
    fn evict(&mut self, is_named: impl Fn(&Message) -> bool) {
        self.evicted.extend(self.messages.iter().filter(|each| is_named(each)).cloned());
        self.remove(is_named);
    }

    /// Removes what is named because somebody asks for it: neither that nor what a limit removed before comes back.
    fn erase(&mut self, is_named: impl Fn(&Message) -> bool) -> u64 {
        self.evicted.retain(|each| !is_named(each));
        self.remove(is_named)
    }

    /// After a crash these messages are there.
    ///
    /// # Panics
    /// When one is missing, or one is there that was never stored, or was deleted or purged.
    pub(super) fn adopt(&mut self, found: &[(u64, String, String)]) {
        for message in &self.messages {
            assert!(
                found.iter().any(|(seq, ..)| *seq == message.seq),
                "{message:?} is lost; left is {found:?}"
            );
        }
        for (seq, subject, _) in found {
            if self.messages.iter().any(|each| each.seq == *seq) {
                continue;
            }
            let back = self.evicted.iter().find(|each| each.seq == *seq);
            let back = back
                .unwrap_or_else(|| panic!("{seq} on {subject} was deleted or purged and is back"))
                .clone();
            self.messages.push(back);
        }
        self.messages.sort_by_key(|each| each.seq);
        self.evicted.clear();
        self.first = self.messages.first().map_or(self.last + 1, |first| first.seq);
        let mut limited = self.clone();
        for subject in self.messages.iter().map(|each| each.subject.clone()) {
            limited.enforce(&subject);
        }
        assert_eq!(limited.messages, self.messages, "the limits hold after a crash");
    }

    /// Removes what is named; returns how many.
    fn remove(&mut self, is_named: impl Fn(&Message) -> bool) -> u64 {
        let gone: Vec<u64> =
            self.messages.iter().filter(|each| is_named(each)).map(|each| each.seq).collect();
        self.messages.retain(|each| !is_named(each));
        self.first = self.messages.first().map_or(self.last + 1, |first| first.seq);
        for consumer in self.consumers.values_mut() {
            for seq in &gone {
                consumer.forget(*seq);
            }
        }
        gone.len() as u64
    }

    pub(super) fn delete(&mut self, seq: u64) -> bool {
        self.erase(|each| each.seq == seq) > 0
    }

    pub(super) fn purge(&mut self, filter: &str, seq: u64, keep: u64) -> u64 {
        if seq == 1 {
            return 0;
        }
        let matching: Vec<u64> =
            self.messages.iter().filter(|each| matches(&each.subject, filter)).map(|each| each.seq).collect();
        let most = matching.len().saturating_sub(usize::try_from(keep).expect("small"));
        let wanted: Vec<u64> =
            matching.into_iter().take(most).filter(|each| seq == 0 || *each < seq).collect();
        let purged = self.remove(|each| wanted.contains(&each.seq));
        // What a limit removed before it would have been purged as well: it is older than all that is kept.
        if purged > 0 || keep == 0 {
            self.evicted.retain(|each| !(matches(&each.subject, filter) && (seq == 0 || each.seq < seq)));
        }
        if filter.is_empty() && seq > self.last + 1 {
            self.last = seq - 1;
            self.first = seq;
        }
        for consumer in self.consumers.values_mut() {
            consumer.is_purged = true;
        }
        purged
    }

    /// The server stopped and started: what was waiting is gone, and ids are known again from the messages that are left.
    pub(super) fn restart(&mut self, now: i64) {
        let last = self.messages.last().filter(|last| last.seq == self.last);
        self.last_id = last.and_then(|last| last.header("Nats-Msg-Id")).unwrap_or_default().to_owned();
        self.ids = self
            .messages
            .iter()
            .filter(|each| now - each.time < self.window)
            .filter_map(|each| Some((each.header("Nats-Msg-Id")?.to_owned(), each.seq, each.time)))
            .collect();
        let messages = self.messages.clone();
        for consumer in self.consumers.values_mut() {
            consumer.queue.sort_unstable();
            consumer.list_again(&messages);
        }
    }

    /// A stream in memory is back: it goes on empty behind `last`, and its consumers start again.
    ///
    /// # Panics
    /// When a sequence could be used twice.
    pub(super) fn restart_empty(&mut self, last: u64, now: i64) {
        assert!(last >= self.last, "{last} is below {}, which was used", self.last);
        let mut consumers = std::mem::take(&mut self.consumers);
        let (limits, window) = (self.limits.clone(), self.window);
        *self = Self { last, first: last + 1, ..Self::new(limits, window, false) };
        for consumer in consumers.values_mut() {
            consumer.begin_anew(&self.messages, self.first, self.last, now);
        }
        self.consumers = consumers;
    }

    /// As a mirror takes what is in `origin`: with its sequences and times, passing over what is gone.
    pub(super) fn mirror(&mut self, origin: &Self, filter: &str) {
        let last = self.last;
        for message in origin.messages.iter().filter(|each| each.seq > last) {
            if matches(&message.subject, filter) {
                self.last = message.seq;
                self.messages.push(message.copied());
                self.enforce(&message.subject);
            }
        }
        self.last = self.last.max(origin.last);
        self.first = self.messages.first().map_or(self.last + 1, |first| first.seq);
    }

    /// As a source takes what is in `origin` from a sequence on: as new messages that say where they are from. Returns where
    /// it goes on.
    pub(super) fn source(&mut self, origin: &Self, filter: &str, from: u64, now: i64) -> u64 {
        for message in origin.messages.iter().filter(|each| each.seq >= from) {
            if matches(&message.subject, filter) {
                let mut copy = message.copied();
                let taken = if filter.is_empty() { ">" } else { filter };
                let place = format!("S {} {taken} > {}", message.seq, message.subject);
                copy.headers.push(("Nats-Stream-Source".to_owned(), place));
                self.publish(now, copy).expect("a source is taken or known");
            }
        }
        from.max(origin.last + 1)
    }

    /// Time passed, to a moment at which something may be due.
    pub(super) fn pass(&mut self, now: i64) -> Said {
        self.expire(now);
        let mut said = Said::default();
        let names: Vec<String> = self.consumers.keys().cloned().collect();
        for name in &names {
            let consumer = self.consumers.get_mut(name).expect("it is there");
            consumer.fall_due(now);
            consumer.time_out(now, &mut said);
        }
        for name in &names {
            self.drive(name, now, &mut said);
        }
        said
    }

    /// Delivers to every consumer what may be delivered.
    pub(super) fn drive_all(&mut self, now: i64, said: &mut Said) {
        for name in self.consumers.keys().cloned().collect::<Vec<_>>() {
            self.drive(&name, now, said);
        }
    }

    pub(super) fn drive(&mut self, name: &str, now: i64, said: &mut Said) {
        let (messages, last) = (&self.messages, self.last);
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.drive(messages, last, now, said);
        }
    }
}
