//! What a stream and its pull consumers must do, written down from the reference of the API without regard to cost: plain
//! vectors, searched from one end to the other. Nothing of the code under test is used.

use std::collections::{BTreeMap, VecDeque};

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) seq: u64,
    pub(super) time: i64,
    pub(super) subject: String,
    /// Header lines, in order.
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: String,
}

impl Message {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// Bytes of the header block.
    fn header_bytes(&self) -> usize {
        if self.headers.is_empty() {
            return 0;
        }
        let lines: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        "NATS/1.0\r\n".len() + lines + 2
    }

    /// What it counts for.
    fn cost(&self, is_file: bool) -> i64 {
        let headers = self.header_bytes();
        let frame = match (is_file, headers > 0) {
            (true, true) => 34,
            (true, false) => 30,
            (false, _) => 16,
        };
        i64::try_from(frame + self.subject.len() + headers + self.payload.len()).expect("small")
    }
}

/// Whether a subject matches a filter; an empty filter matches all.
pub(super) fn matches(subject: &str, filter: &str) -> bool {
    if filter.is_empty() {
        return true;
    }
    let (subject, filter): (Vec<&str>, Vec<&str>) =
        (subject.split('.').collect(), filter.split('.').collect());
    for (at, token) in filter.iter().enumerate() {
        match *token {
            ">" => return subject.len() > at,
            "*" if at < subject.len() => {}
            token if subject.get(at) == Some(&token) => {}
            _ => return false,
        }
    }
    subject.len() == filter.len()
}

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
        let rollup = message.header("Nats-Rollup").map(ToOwned::to_owned);
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
            consumer.pulls.clear();
            consumer.queue.sort_unstable();
            consumer.list_again(&messages);
        }
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

/// What was said to whom, in order for each.
pub(super) type Said = BTreeMap<String, Vec<String>>;

fn say(said: &mut Said, to: &str, what: String) {
    said.entry(to.to_owned()).or_default().push(what);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckPolicy {
    Explicit,
    All,
    None,
}

#[derive(Clone, Debug)]
struct Pending {
    first_consumer_seq: u64,
    /// When it falls due; none while it is queued.
    due: Option<i64>,
}

/// A waiting pull request.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub(super) to: String,
    pub(super) left: i64,
    /// Bytes still allowed; 0 without a limit.
    pub(super) bytes: i64,
    pub(super) expires: Option<i64>,
    pub(super) no_wait: bool,
    pub(super) has_got: bool,
}

/// A pull consumer.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) name: String,
    pub(super) filter: String,
    pub(super) policy: AckPolicy,
    pub(super) ack_wait: i64,
    pub(super) backoff: Vec<i64>,
    pub(super) max_deliver: u64,
    pub(super) max_ack_pending: usize,
    pub(super) max_waiting: usize,
    /// The next sequence to look at.
    pub(super) next: u64,
    /// The last messages that come first, and the last sequence when they were listed.
    pub(super) list: Option<(VecDeque<u64>, u64)>,
    pub(super) consumer_seq: u64,
    pending: BTreeMap<u64, Pending>,
    queue: Vec<u64>,
    /// How often each was delivered, where that is more than once or it was given up.
    deliveries: BTreeMap<u64, u64>,
    pub(super) pulls: VecDeque<Pull>,
    /// The stream was purged: floors moved.
    pub(super) is_purged: bool,
}

impl Consumer {
    pub(super) fn new(name: &str, filter: &str, policy: AckPolicy) -> Self {
        Self {
            name: name.to_owned(),
            filter: filter.to_owned(),
            policy,
            ack_wait: 0,
            backoff: Vec::new(),
            max_deliver: u64::MAX,
            max_ack_pending: usize::MAX,
            max_waiting: 512,
            next: 1,
            list: None,
            consumer_seq: 0,
            pending: BTreeMap::new(),
            queue: Vec::new(),
            deliveries: BTreeMap::new(),
            pulls: VecDeque::new(),
            is_purged: false,
        }
    }

    /// Starts with the last message of each subject.
    pub(super) fn list_lasts(&mut self, stream: &Stream) {
        let mut lasts: BTreeMap<&str, u64> = BTreeMap::new();
        for message in stream.messages.iter().filter(|each| matches(&each.subject, &self.filter)) {
            lasts.insert(&message.subject, message.seq);
        }
        let mut seqs: Vec<u64> = lasts.into_values().collect();
        seqs.sort_unstable();
        self.next = seqs.first().copied().unwrap_or(stream.last + 1);
        self.list = (!seqs.is_empty()).then(|| (seqs.into(), stream.last));
    }

    /// A list that is not worked off is made anew after a restart, as of the same sequence.
    fn list_again(&mut self, messages: &[Message]) {
        let Some((_, resume)) = self.list.take() else { return };
        let mut lasts: BTreeMap<&str, u64> = BTreeMap::new();
        for message in messages.iter().filter(|each| matches(&each.subject, &self.filter)) {
            if message.seq <= resume {
                lasts.insert(&message.subject, message.seq);
            }
        }
        let mut seqs: Vec<u64> = lasts.into_values().filter(|seq| *seq >= self.next).collect();
        seqs.sort_unstable();
        if seqs.is_empty() {
            self.next = resume + 1;
        } else {
            self.list = Some((seqs.into(), resume));
        }
    }

    /// Messages left to be delivered for the first time.
    pub(super) fn left(&self, messages: &[Message]) -> u64 {
        let wanted = messages.iter().filter(|each| matches(&each.subject, &self.filter));
        let left = wanted.filter(|each| match &self.list {
            Some((seqs, resume)) => each.seq > *resume || seqs.contains(&each.seq),
            None => each.seq >= self.next,
        });
        left.count() as u64
    }

    pub(super) fn pending(&self) -> Vec<u64> {
        self.pending.keys().copied().collect()
    }

    pub(super) fn redelivered(&self) -> usize {
        if self.max_deliver == 1 { 0 } else { self.deliveries.len() }
    }

    /// The consumer sequence below which everything is acknowledged.
    pub(super) fn floor(&self) -> u64 {
        self.pending.first_key_value().map_or(self.consumer_seq, |(_, first)| first.first_consumer_seq - 1)
    }

    /// A message left the stream.
    fn forget(&mut self, seq: u64) {
        self.pending.remove(&seq);
        self.queue.retain(|each| *each != seq);
        self.deliveries.remove(&seq);
    }

    fn due(&self, seq: u64, now: i64) -> i64 {
        let delivered = usize::try_from(self.deliveries.get(&seq).copied().unwrap_or(1)).expect("small");
        let wait = self.backoff.get(delivered - 1).or(self.backoff.last()).copied().unwrap_or(self.ack_wait);
        now + wait
    }

    fn enqueue(&mut self, seq: u64) {
        if self.queue.contains(&seq) {
            return;
        }
        let delivered = self.deliveries.get(&seq).copied().unwrap_or(1);
        if delivered >= self.max_deliver {
            self.pending.remove(&seq);
            self.deliveries.insert(seq, delivered);
        } else if let Some(pending) = self.pending.get_mut(&seq) {
            pending.due = None;
            self.queue.push(seq);
        }
    }

    /// What was not acknowledged in time is to be delivered again.
    pub(super) fn fall_due(&mut self, now: i64) {
        let due = self.pending.iter().filter(|(_, pending)| pending.due.is_some_and(|due| due <= now));
        for seq in due.map(|(seq, _)| *seq).collect::<Vec<_>>() {
            self.enqueue(seq);
        }
    }

    fn time_out(&mut self, now: i64, said: &mut Said) {
        let (over, waiting): (Vec<_>, Vec<_>) =
            self.pulls.drain(..).partition(|pull| pull.expires.is_some_and(|at| at <= now));
        self.pulls = waiting.into();
        for pull in over {
            say(said, &pull.to, pull.ended(408, "Request Timeout"));
        }
    }

    pub(super) fn ack(&mut self, seq: u64) {
        match self.policy {
            AckPolicy::None => {}
            AckPolicy::Explicit => self.forget(seq),
            AckPolicy::All => {
                for seq in self.pending.range(..=seq).map(|(seq, _)| *seq).collect::<Vec<_>>() {
                    self.forget(seq);
                }
            }
        }
    }

    pub(super) fn nak(&mut self, seq: u64, delay: Option<i64>, now: i64) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        match delay {
            Some(delay) => {
                pending.due = Some(now + delay);
                self.queue.retain(|each| *each != seq);
            }
            None => self.enqueue(seq),
        }
    }

    pub(super) fn in_progress(&mut self, seq: u64, now: i64) {
        let due = self.due(seq, now);
        if let Some(pending) = self.pending.get_mut(&seq) {
            pending.due = Some(due);
            self.queue.retain(|each| *each != seq);
        }
    }

    /// Back to `seq`, with nothing pending.
    pub(super) fn reset(&mut self, seq: u64) {
        self.pending.clear();
        self.queue.clear();
        self.deliveries.clear();
        self.list = None;
        self.next = seq;
        self.consumer_seq = 0;
        self.is_purged = false;
    }

    /// A request comes in: it waits, or is refused.
    pub(super) fn pull(&mut self, pull: Pull, messages: &[Message], said: &mut Said) {
        if pull.no_wait {
            let available = self.left(messages) + self.queue.len() as u64;
            if available == 0 && pull.expires.is_none() {
                return say(said, &pull.to, "404 No Messages".to_owned());
            }
            let promised: i64 = self.pulls.iter().map(|pull| pull.left).sum();
            if available > 0 && available < u64::try_from(promised).expect("positive") {
                return say(said, &pull.to, "408 Requests Pending".to_owned());
            }
        }
        if self.pulls.len() >= self.max_waiting {
            return say(said, &pull.to, "409 Exceeded MaxWaiting".to_owned());
        }
        self.pulls.push_back(pull);
    }

    fn drive(&mut self, messages: &[Message], last: u64, now: i64, said: &mut Said) {
        let mut is_stalled = false;
        while !self.pulls.is_empty() {
            let queued = self.queue.first().copied();
            let found = match queued {
                Some(seq) => messages.iter().find(|each| each.seq == seq),
                None if self.policy != AckPolicy::None && self.pending.len() >= self.max_ack_pending => {
                    is_stalled = true;
                    break;
                }
                None => self.find_new(messages, last),
            };
            let Some(message) = found else { break };
            if !self.deliver(message, queued.is_some(), messages, now, said) {
                break;
            }
        }
        if !is_stalled {
            let (over, waiting): (Vec<_>, Vec<_>) = self
                .pulls
                .drain(..)
                .partition(|pull| pull.no_wait && (pull.expires.is_none() || pull.has_got));
            self.pulls = waiting.into();
            for pull in over {
                say(said, &pull.to, "404 No Messages".to_owned());
            }
        }
    }

    /// The next message that was never delivered.
    fn find_new<'a>(&mut self, messages: &'a [Message], last: u64) -> Option<&'a Message> {
        while let Some((seqs, resume)) = &mut self.list {
            let Some(seq) = seqs.front().copied() else {
                self.next = *resume + 1;
                self.list = None;
                break;
            };
            if let Some(message) = messages.iter().find(|each| each.seq == seq) {
                return Some(message);
            }
            seqs.pop_front();
            self.next = seq + 1;
        }
        let found =
            messages.iter().find(|each| each.seq >= self.next && matches(&each.subject, &self.filter));
        if found.is_none() {
            self.next = self.next.max(last + 1);
        }
        found
    }

    fn deliver(
        &mut self,
        message: &Message,
        again: bool,
        messages: &[Message],
        now: i64,
        said: &mut Said,
    ) -> bool {
        let Message { seq, time, subject, payload, .. } = message;
        let (seq, time) = (*seq, *time);
        let left = self.left(messages) - u64::from(!again);
        let delivered = if again { self.deliveries.get(&seq).copied().unwrap_or(1) + 1 } else { 1 };
        let consumer_seq = self.consumer_seq + 1;
        let reply = format!("$JS.ACK.S.{}.{delivered}.{seq}.{consumer_seq}.{time}.{left}", self.name);
        let size = reply.len() + subject.len() + message.header_bytes() + payload.len();
        let size = i64::try_from(size).expect("small");
        let mut pull = loop {
            let Some(pull) = self.pulls.pop_front() else { return false };
            if pull.bytes > 0 && size > pull.bytes {
                say(said, &pull.to, pull.ended(409, "Message Size Exceeds MaxBytes"));
                continue;
            }
            break pull;
        };
        self.consumer_seq = consumer_seq;
        if again {
            self.queue.remove(0);
            self.deliveries.insert(seq, delivered);
        } else {
            self.next = seq + 1;
            if let Some((seqs, resume)) = &mut self.list {
                seqs.pop_front();
                if seqs.is_empty() {
                    self.next = *resume + 1;
                    self.list = None;
                }
            }
        }
        if self.policy != AckPolicy::None {
            let due = Some(self.due(seq, now));
            self.pending.entry(seq).or_insert(Pending { first_consumer_seq: consumer_seq, due: None }).due =
                due;
        }
        say(said, &pull.to, format!("{reply} {subject} {payload}"));
        pull.has_got = true;
        pull.left -= 1;
        let had_limit = pull.bytes > 0;
        if had_limit {
            pull.bytes -= size;
        }
        if pull.left == 0 || had_limit && pull.bytes == 0 {
            if pull.bytes > 0 {
                pull.left = 0;
                say(said, &pull.to, pull.ended(409, "Batch Completed"));
            }
        } else {
            self.pulls.push_back(pull);
        }
        true
    }
}

impl Pull {
    fn ended(&self, code: u16, text: &str) -> String {
        format!("{code} {text} {}/{}", self.left, self.bytes)
    }
}
