//! What a consumer must do, written down from the reference of the API without regard to cost: every question is answered by
//! a search through all messages. Nothing of the code under test is used.

use std::collections::{BTreeMap, VecDeque};

use super::message::{Message, matches};

/// What was said to whom, in order for each.
pub(super) type Said = BTreeMap<String, Vec<String>>;

pub(super) fn say(said: &mut Said, to: &str, what: String) {
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

/// Where a consumer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    All,
    New,
    Last,
    At(u64),
    LastPerSubject,
}

/// What only a push consumer has.
#[derive(Clone, Debug)]
pub(super) struct Push {
    /// The deliver subject.
    pub(super) to: String,
    /// Whether it delivers to a queue group.
    pub(super) to_group: bool,
    /// Whether somebody listens.
    pub(super) is_active: bool,
    /// Silence after which it says that it lives; 0 for never.
    pub(super) heartbeat: i64,
    pub(super) beat_at: i64,
}

/// A consumer: a pull consumer, or with `push` one that pushes.
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
    pub(super) start: Start,
    pub(super) push: Option<Push>,
    /// The next sequence to look at.
    next: u64,
    /// The last messages that come first, and the last sequence when they were listed.
    list: Option<(VecDeque<u64>, u64)>,
    pub(super) consumer_seq: u64,
    pending: BTreeMap<u64, Pending>,
    pub(super) queue: Vec<u64>,
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
            start: Start::All,
            push: None,
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

    /// Chooses where it starts in a stream with these messages and this first and last sequence.
    pub(super) fn begin(&mut self, messages: &[Message], first: u64, last: u64) {
        let mut wanted = messages.iter().filter(|each| matches(&each.subject, &self.filter));
        self.list = None;
        self.next = match self.start {
            Start::All => first,
            Start::New => last + 1,
            Start::At(seq) => seq.max(first),
            // Without a filter the last sequence, whether its message is there or not.
            Start::Last if self.filter.is_empty() => last.max(first),
            Start::Last => wanted.next_back().map_or(first, |each| each.seq),
            Start::LastPerSubject => {
                let lasts: BTreeMap<&str, u64> = wanted.map(|each| (&*each.subject, each.seq)).collect();
                let mut seqs: Vec<u64> = lasts.into_values().collect();
                seqs.sort_unstable();
                let first = seqs.first().copied();
                self.list = first.map(|_| (seqs.into(), last));
                first.unwrap_or(last + 1)
            }
        };
    }

    /// The server is back and knows nothing but the configuration.
    pub(super) fn begin_anew(&mut self, messages: &[Message], first: u64, last: u64, now: i64) {
        self.reset(0);
        self.hang_up(now);
        self.begin(messages, first, last);
    }

    /// The clients are gone.
    pub(super) fn hang_up(&mut self, now: i64) {
        self.pulls.clear();
        if let Some(push) = &mut self.push {
            push.is_active = false;
            push.beat_at = now + push.heartbeat;
        }
    }

    /// A list that is not worked off is made anew after a restart, as of the same sequence.
    pub(super) fn list_again(&mut self, messages: &[Message]) {
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
    pub(super) fn forget(&mut self, seq: u64) {
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

    pub(super) fn time_out(&mut self, now: i64, said: &mut Said) {
        let (over, waiting): (Vec<_>, Vec<_>) =
            self.pulls.drain(..).partition(|pull| pull.expires.is_some_and(|at| at <= now));
        self.pulls = waiting.into();
        for pull in over {
            say(said, &pull.to, pull.ended(408, "Request Timeout"));
        }
        if let Some(push) = &mut self.push
            && push.heartbeat > 0
            && push.beat_at <= now
        {
            push.beat_at = now + push.heartbeat;
            if push.is_active {
                say(said, &push.to, format!("100 Idle Heartbeat {}", self.consumer_seq));
            }
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
        if self.push.is_some() {
            return say(said, &pull.to, "409 Consumer is push based".to_owned());
        }
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

    pub(super) fn drive(&mut self, messages: &[Message], last: u64, now: i64, said: &mut Said) {
        let mut is_stalled = false;
        while self.is_open() {
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

    /// Whether somebody takes a message.
    fn is_open(&self) -> bool {
        self.push.as_ref().map_or(!self.pulls.is_empty(), |push| push.is_active)
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
        let pull = match &self.push {
            Some(_) => None,
            None => match self.taker(size, said) {
                Some(pull) => Some(pull),
                None => return false,
            },
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
        let line = format!("{reply} {subject} {payload}");
        if let Some(push) = &mut self.push {
            push.beat_at = now + push.heartbeat;
            say(said, &push.to, line);
        } else if let Some(pull) = pull {
            say(said, &pull.to, line);
            self.go_on(pull, size, said);
        }
        true
    }

    /// The request that takes a message of this size; those that cannot end.
    fn taker(&mut self, size: i64, said: &mut Said) -> Option<Pull> {
        while let Some(pull) = self.pulls.pop_front() {
            if pull.bytes == 0 || size <= pull.bytes {
                return Some(pull);
            }
            say(said, &pull.to, pull.ended(409, "Message Size Exceeds MaxBytes"));
        }
        None
    }

    /// A request that took a message ends or waits on.
    fn go_on(&mut self, mut pull: Pull, size: i64, said: &mut Said) {
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
    }
}

impl Pull {
    fn ended(&self, code: u16, text: &str) -> String {
        format!("{code} {text} {}/{}", self.left, self.bytes)
    }
}
