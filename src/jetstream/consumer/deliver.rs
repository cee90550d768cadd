//! Delivery: which message comes next, whether it may go, and who gets it.
//!
//! What is to be delivered again comes first, then the skip list, then the stream up to its durable sequence. Messages
//! for one receiver leave in a run. A message is taken only once it has somewhere to go, so nothing is ever put back.

use bytes::{BufMut, Bytes};
use weir_protocol::jetstream::ack::write_numbers;
use weir_protocol::jetstream::consumer::AckPolicy;
use weir_protocol::jetstream::pull::{status_with_pending, write_headers_only};
use weir_protocol::jetstream::stream::RetentionPolicy;
use weir_storage::{Matcher, Next, Record};

use super::{Consumer, Mode, View};

/// Messages and bytes of one call: others want their turn.
const MESSAGES: usize = 1_024;
const BYTES: usize = 1024 * 1024;
/// Records looked at in one search.
const SEARCH: usize = 8_192;

/// Where a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Among those to be delivered again.
    Again,
    /// On the list of last messages.
    List,
    /// In the stream.
    Stream,
}

/// What the search for the next message found.
enum Found {
    Message(Record, Origin),
    /// Nothing more that may be seen.
    End,
    /// Too many messages are unacknowledged.
    Stalled,
    /// Not now: the search was long, or reading failed.
    Later,
}

/// Why a run of deliveries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// There is nothing (that may go) now.
    Exhausted,
    /// Too many messages are unacknowledged.
    Stalled,
    /// There is more.
    Later,
}

impl Consumer {
    /// Delivers what may be delivered now, at most about a thousand messages or 1 MiB: what is left asks for another
    /// call through [`Self::poll_timeout`].
    pub fn drive(&mut self, view: &mut View<'_>) {
        self.wants_drive = false;
        self.unreadable = self.unreadable.take().filter(|(at, _)| view.now < *at);
        let stop = match self.sync_count(view) {
            _ if self.unreadable.is_some() => Stop::Later,
            Ok(()) => self.deliver_run(view),
            Err(error) => {
                self.stand_still(error.to_string(), view);
                Stop::Later
            }
        };
        let position = self.position();
        if let Mode::Pull(pulls) = &mut self.mode {
            // A request that does not wait is not ended by others' missing acks.
            let exhausted = stop == Stop::Exhausted;
            if pulls.wants_tidying(exhausted, view.now) {
                pulls.tidy(exhausted, position, view.now, view.interest, view.outputs);
            }
        }
    }

    fn deliver_run(&mut self, view: &mut View<'_>) -> Stop {
        let durable = view.store.state(view.log).unwrap_or_default().durable_seq;
        if let Mode::Pull(pulls) = &mut self.mode {
            pulls.begin_pass();
        }
        if self.is_paused(view.now) {
            return Stop::Exhausted;
        }
        let (mut messages, mut bytes) = (0usize, 0usize);
        loop {
            let open = match &self.mode {
                Mode::Pull(pulls) => !pulls.is_empty(),
                Mode::Push(push) => push.is_open(),
            };
            if !open {
                return Stop::Exhausted;
            }
            if messages >= MESSAGES || bytes >= BYTES {
                self.wants_drive = true;
                return Stop::Later;
            }
            let (record, origin) = match self.find(durable, view) {
                Found::Message(record, origin) => (record, origin),
                Found::End => return Stop::Exhausted,
                Found::Stalled => return Stop::Stalled,
                Found::Later => return Stop::Later,
            };
            match self.deliver(record, origin, view) {
                Some(size) => {
                    messages = messages.saturating_add(1);
                    bytes = bytes.saturating_add(size);
                }
                None if self.pace.resume_at.is_some() => return Stop::Later,
                None => return Stop::Exhausted,
            }
        }
    }

    /// The next message that may be delivered.
    fn find(&mut self, durable: u64, view: &mut View<'_>) -> Found {
        while let Some(seq) = self.unacked.next_queued() {
            // The limit may have been lowered since it was queued.
            if self.is_worn_out(seq) {
                self.give_up(seq, view);
                continue;
            }
            match view.store.get(view.log, seq) {
                Ok(Some(record)) => return Found::Message(record, Origin::Again),
                Ok(None) => self.terminate(seq, super::advisory::DELETED, view),
                Err(error) => return self.unread(&error, view),
            }
        }
        if usize::try_from(self.config.max_ack_pending).is_ok_and(|max| max > 0 && self.unacked.len() >= max)
        {
            return Found::Stalled;
        }
        while let Some(seq) = self.skip.as_ref().and_then(|skip| skip.seqs.front().copied()) {
            if seq > durable {
                return Found::End;
            }
            match view.store.get(view.log, seq) {
                Ok(Some(record)) => return Found::Message(record, Origin::List),
                Ok(None) => self.pass_list_entry(seq),
                Err(error) => return self.unread(&error, view),
            }
        }
        if self.next_seq > durable {
            return Found::End;
        }
        let matcher = |subject: &[u8]| self.filter.matches(subject);
        let matcher: Option<Matcher<'_>> = if self.filter.is_all() { None } else { Some(&matcher) };
        match view.store.next(view.log, self.next_seq, durable, matcher, SEARCH) {
            Ok(Next::Record(record)) => {
                self.next_seq = record.seq;
                Found::Message(record, Origin::Stream)
            }
            Ok(Next::End) => {
                self.next_seq = durable.saturating_add(1);
                Found::End
            }
            Ok(Next::More(seq)) => {
                self.next_seq = seq;
                self.wants_drive = true;
                Found::Later
            }
            Err(error) => self.unread(&error, view),
        }
    }

    fn unread(&mut self, error: &weir_storage::ReadError, view: &View<'_>) -> Found {
        self.stand_still(error.to_string(), view);
        Found::Later
    }

    /// The entry at the head of the skip list is done with.
    fn pass_list_entry(&mut self, seq: u64) {
        let Some(skip) = &mut self.skip else { return };
        skip.seqs.pop_front();
        self.next_seq = seq.saturating_add(1);
        if skip.seqs.is_empty() {
            self.leave_skip_list();
        }
    }

    /// The skip list is worked off: on to what came after it was made.
    pub(super) fn leave_skip_list(&mut self) {
        if let Some(skip) = self.skip.take() {
            self.next_seq = skip.resume.saturating_add(1);
        }
    }

    /// Delivers a message if it may go and somebody takes it; returns its size.
    fn deliver(&mut self, record: Record, origin: Origin, view: &mut View<'_>) -> Option<usize> {
        let Record { seq, time, subject, headers, payload } = record;
        let consumer_seq = self.delivered.consumer.saturating_add(1);
        let (deliveries, pending) = match origin {
            Origin::Again => (self.unacked.deliveries(seq).saturating_add(1), self.count.value()),
            Origin::List | Origin::Stream => (1, self.count.value().saturating_sub(1)),
        };
        let prefix = &self.ack_prefix;
        let reply = view.outputs.bytes(|out| {
            out.put_slice(prefix);
            write_numbers(out, deliveries, seq, consumer_seq, time, pending);
        });
        let (headers, payload) = if self.config.headers_only {
            let headers = view.outputs.bytes(|out| write_headers_only(&headers, payload.len(), out));
            (headers, Bytes::new())
        } else {
            (headers, payload)
        };
        let carried = reply.len().saturating_add(headers.len()).saturating_add(payload.len());
        let size = carried.saturating_add(subject.len());
        if !self.pace.admits(seq, time, size, view.now) {
            return None;
        }
        let (to, bytes_left) = match &mut self.mode {
            Mode::Push(push) => (push.to.clone(), None),
            Mode::Pull(pulls) => {
                let taker = pulls.take(size, view.now, view.interest, view.outputs)?;
                (taker.to, taker.bytes_left)
            }
        };
        match origin {
            Origin::Again => {
                self.unacked.count_delivery(seq);
            }
            Origin::List => {
                self.count.take_one();
                self.pass_list_entry(seq);
            }
            Origin::Stream => {
                self.count.take_one();
                self.next_seq = seq.saturating_add(1);
            }
        }
        self.delivered.consumer = consumer_seq;
        self.delivered.stream = self.delivered.stream.max(seq);
        self.delivered_at = Some(view.now);
        if self.config.ack_policy == AckPolicy::None {
            self.floor = self.delivered;
            if view.config.retention != RetentionPolicy::Limits {
                self.acked.push(seq);
            }
        } else {
            let due = self.due(seq, view.now);
            self.unacked.delivered(seq, consumer_seq, view.now, due);
        }
        self.keeping.delivered(view.now);
        self.pace.passed(time, size, view.now);
        let full = self.config.ack_policy == AckPolicy::FlowControl
            && usize::try_from(self.config.max_ack_pending).is_ok_and(|max| self.unacked.len() >= max);
        let pushed = carried.saturating_add(to.len());
        if let Some(bytes) = bytes_left {
            let completed = to.clone();
            view.outputs.now(to, subject, reply, headers, payload);
            view.outputs.status(completed, status_with_pending(409, "Batch Completed", 0, bytes));
        } else {
            view.outputs.now(to, subject, reply, headers, payload);
        }
        if let Mode::Push(push) = &mut self.mode
            && push.pushed(u64::try_from(pushed).unwrap_or(u64::MAX), full, view.now)
        {
            self.send_flow_request(view);
        }
        Some(size)
    }
}
