//! How a message enters a stream: the checks in nats-server's order, the record, the limits, the acknowledgement.
//!
//! A refused message leaves no trace and uses no sequence; a rollup is staged with what it replaces, or not at all.

use bytes::{BufMut, Bytes};
use weir_protocol::header;
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json;
use weir_protocol::jetstream::publish::{self as names, PubAck};
use weir_protocol::jetstream::stream::{DiscardPolicy, StorageType};
use weir_storage::{Next, ReadError};

use super::{Removal, Stream};
use crate::jetstream::context::Context;
use crate::jetstream::output::Failure;

/// Largest record of a file stream in bytes.
const RECORD_MAX: usize = 32 * 1024 * 1024;
/// What a run of neighbouring sequences takes in the store's record of their removal.
const RUN_BYTES: usize = 16;
/// Largest header block in bytes.
const HEADERS_MAX: usize = u16::MAX as usize;

/// A message on its way into a stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::jetstream) struct Incoming<'a> {
    pub(in crate::jetstream) subject: &'a [u8],
    pub(in crate::jetstream) headers: &'a [u8],
    pub(in crate::jetstream) payload: &'a [u8],
    /// Whether it comes from a source: what steers a client's publish does not steer it.
    pub(in crate::jetstream) sourced: bool,
}

impl Incoming<'_> {
    /// What `max_msg_size` counts.
    fn size(&self) -> usize {
        self.headers.len() + self.payload.len()
    }
}

/// Why a message did not enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::jetstream) enum Refusal {
    /// Its id was seen: the sequence it has.
    Duplicate(u64),
    /// An error.
    Error(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

impl From<error::ErrorCode> for Refusal {
    fn from(code: error::ErrorCode) -> Self {
        Self::Error(code.error())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rollup {
    Subject,
    All,
}

/// What the headers ask for, once they were found to be in order.
#[derive(Debug, Default)]
struct Steering<'a> {
    id: Option<&'a [u8]>,
    rollup: Option<Rollup>,
    /// Whether there is a time to live that cannot be read: refused when everything else is in order.
    is_ttl_bad: bool,
}

impl Stream {
    /// Takes a client's message and answers it.
    pub(in crate::jetstream) fn handle_publish(
        &mut self,
        subject: &Bytes,
        reply: Bytes,
        headers: &Bytes,
        payload: &Bytes,
        context: &mut Context<'_>,
    ) {
        let (without_status, stripped);
        let mut headers = headers;
        if header::status(headers).is_some() {
            // Who reads it from the stream would take it for an answer of the server's.
            without_status = header::strip_status(headers);
            headers = &without_status;
        }
        if !headers.is_empty() && header::get(headers, names::REQUEST_INFO).is_some() {
            stripped = header::remove(headers, names::REQUEST_INFO);
            headers = &stripped;
        }
        let outcome = self.publish(Incoming { subject, headers, payload, sourced: false }, context);
        if reply.is_empty() || self.config.no_ack {
            return;
        }
        let text = match outcome {
            Ok(seq) => self.ack(seq, b"}", context),
            Err(Refusal::Duplicate(seq)) => self.ack(seq, b",\"duplicate\": true}", context),
            Err(Refusal::Error(error)) => {
                let stream = self.config.name.clone();
                json::encode(&PubAck { error: Some(error), stream, ..PubAck::default() }).into()
            }
        };
        context.outputs.held_or(reply, Bytes::new(), text, Failure::Publish(self.name.clone()));
    }

    fn ack(&self, seq: u64, end: &[u8], context: &mut Context<'_>) -> Bytes {
        context.outputs.bytes(|out| {
            out.reserve(self.ack_prefix.len() + 20 + end.len());
            out.put_slice(&self.ack_prefix);
            weir_protocol::encode::decimal(out, seq);
            out.put_slice(end);
        })
    }

    /// Stages a message and returns its sequence.
    pub(in crate::jetstream) fn publish(
        &mut self,
        message: Incoming<'_>,
        context: &mut Context<'_>,
    ) -> Result<u64, Refusal> {
        let size = message.size();
        let is_file = self.config.storage == StorageType::File;
        if is_file && 30 + message.subject.len() + size > RECORD_MAX {
            return Err(error::STREAM_STORE_FAILED.with("message too large").into());
        }
        if self.config.sealed {
            return Err(error::STREAM_SEALED.into());
        }
        let steering = self.check_headers(message, context)?;
        self.check_size(message)?;
        if message.headers.len() > HEADERS_MAX {
            return Err(error::STREAM_HEADER_EXCEEDS_MAXIMUM.into());
        }
        if steering.is_ttl_bad {
            return Err(error::MESSAGE_TTL_INVALID.into());
        }
        let seq = self.store(message, &steering, context)?;
        match steering.id {
            Some(id) => {
                self.last_msg_id = Bytes::copy_from_slice(id);
                if self.config.duplicate_window > 0 {
                    self.dedup.forget(self.config.duplicate_window, context.now);
                    self.dedup.remember(id, seq, context.now);
                }
            }
            None if self.last_msg_id.is_empty() => {}
            None => self.last_msg_id = Bytes::new(),
        }
        Ok(seq)
    }

    fn check_headers<'a>(
        &mut self,
        message: Incoming<'a>,
        context: &Context<'_>,
    ) -> Result<Steering<'a>, Refusal> {
        let headers = message.headers;
        if headers.is_empty() || memchr::memmem::find(headers, b"Nats-").is_none() {
            return Ok(Steering::default());
        }
        let get = |name: &str| header::get(headers, name).filter(|value| !value.is_empty());
        if !message.sourced {
            self.check_features(headers)?;
        }
        if get(names::EXPECTED_STREAM).is_some_and(|stream| stream != self.config.name.as_bytes()) {
            return Err(error::STREAM_NOT_MATCH.into());
        }
        let ttl = get(names::TTL).filter(|_| !message.sourced).map(names::ttl);
        if ttl.flatten().is_some_and(|seconds| seconds != 0) {
            return Err(error::MESSAGE_TTL_DISABLED.into());
        }
        self.check_expected_sequences(message, &get, context)?;
        if !message.sourced {
            if get(names::SCHEDULE).is_some() {
                return Err(error::MESSAGE_SCHEDULES_DISABLED.into());
            }
            if get(names::SCHEDULE_NEXT).is_some() || get(names::SCHEDULER).is_some() {
                return Err(error::MESSAGE_SCHEDULES_SCHEDULER_INVALID.into());
            }
        }
        let id = get(names::MSG_ID);
        if let Some(id) = id {
            self.read_ids(context).map_err(|error| super::unreadable(&error))?;
            if let Some(seq) = self.dedup.find(id, self.config.duplicate_window, context.now) {
                return Err(Refusal::Duplicate(seq));
            }
        }
        if get(names::EXPECTED_LAST_MSG_ID).is_some_and(|expected| expected != self.last_msg_id) {
            let last = String::from_utf8_lossy(&self.last_msg_id).into_owned();
            return Err(error::STREAM_WRONG_LAST_MSG_ID.with(last).into());
        }
        let rollup = match get(names::ROLLUP) {
            None => None,
            Some(_) if !message.sourced && (!self.config.allow_rollup_hdrs || self.config.deny_purge) => {
                return Err(error::STREAM_ROLLUP_FAILED.with("rollup not permitted").into());
            }
            Some(value) if value.eq_ignore_ascii_case(b"sub") => Some(Rollup::Subject),
            Some(value) if value.eq_ignore_ascii_case(b"all") => Some(Rollup::All),
            Some(value) => {
                let value = json::quote(&value.to_ascii_lowercase());
                return Err(error::STREAM_ROLLUP_FAILED
                    .with(format!("rollup value invalid: {value}"))
                    .into());
            }
        };
        Ok(Steering { id, rollup, is_ttl_bad: ttl == Some(None) })
    }

    /// Headers of features that no stream of this server can have switched on.
    fn check_features(&self, headers: &[u8]) -> Result<(), Refusal> {
        if let Some(increment) = header::get(headers, names::INCREMENT).filter(|value| !value.is_empty()) {
            let digits =
                increment.strip_prefix(b"+").or_else(|| increment.strip_prefix(b"-")).unwrap_or(increment);
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let code = if is_number { error::MESSAGE_INCR_DISABLED } else { error::MESSAGE_INCR_INVALID };
            return Err(code.into());
        }
        if header::get(headers, names::BATCH_ID).is_some_and(|value| !value.is_empty()) {
            return Err(error::ATOMIC_PUBLISH_DISABLED.into());
        }
        Ok(())
    }

    fn check_expected_sequences<'a>(
        &self,
        message: Incoming<'a>,
        get: &impl Fn(&str) -> Option<&'a [u8]>,
        context: &Context<'_>,
    ) -> Result<(), Refusal> {
        let of_subject = get(names::EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT);
        if let Some(expected) = get(names::EXPECTED_LAST_SUBJECT_SEQUENCE) {
            let last = self.last_seq_on(of_subject.unwrap_or(message.subject), context)?;
            if last != sequence(expected) {
                return Err(error::STREAM_WRONG_LAST_SEQUENCE.with(last).into());
            }
        } else if of_subject.is_some() {
            return Err(error::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID.into());
        }
        if let Some(expected) = get(names::EXPECTED_LAST_SEQUENCE) {
            let last = self.state(context.store).last_seq;
            if last != sequence(expected) {
                return Err(error::STREAM_WRONG_LAST_SEQUENCE.with(last).into());
            }
        }
        Ok(())
    }

    /// The last sequence on a subject, wildcards allowed; 0 when there is none.
    fn last_seq_on(&self, subject: &[u8], context: &Context<'_>) -> Result<u64, Refusal> {
        if weir_protocol::subject::is_literal(subject) {
            return Ok(context.store.subject(self.log, subject).map_or(0, |state| state.last_seq));
        }
        let matcher = |each: &[u8]| weir_protocol::subject::matches(each, subject);
        let found = context.store.subjects(self.log, Some(&matcher));
        Ok(found.iter().map(|(_, state)| state.last_seq).max().unwrap_or(0))
    }

    fn store(
        &mut self,
        message: Incoming<'_>,
        steering: &Steering<'_>,
        context: &mut Context<'_>,
    ) -> Result<u64, Refusal> {
        let state = self.state(context.store);
        self.check_room(message, steering.rollup.is_some(), &state, context)?;
        let seq = state.last_seq + 1;
        let time = context.now.max(state.last_time);
        let rollup = steering.rollup.filter(|_| self.config.allow_rollup_hdrs && !self.config.deny_purge);
        let replaced = self.plan_rollup(rollup, message, context)?;
        let appended =
            context.store.append(self.log, seq, time, message.subject, message.headers, message.payload);
        appended.map_err(store_failed)?;
        for consumer in self.consumers.values_mut() {
            consumer.handle_appended(seq, message.subject);
        }
        self.enforce_after(message.subject, context);
        let replaced = match rollup {
            Some(Rollup::Subject) if !replaced.is_empty() => {
                Some(Removal::Replaced { seqs: &replaced, subject: message.subject })
            }
            Some(Rollup::All) => Some(Removal::Purged(seq)),
            Some(Rollup::Subject) | None => None,
        };
        if let Some(replaced) = replaced {
            self.remove(replaced, context).map_err(store_failed)?;
        }
        Ok(seq)
    }

    /// The messages that a rollup of a subject replaces. The store has room for the message and for their removal then:
    /// both are staged, or neither.
    fn plan_rollup(
        &self,
        rollup: Option<Rollup>,
        message: Incoming<'_>,
        context: &Context<'_>,
    ) -> Result<Vec<u64>, Refusal> {
        let Some(rollup) = rollup else { return Ok(Vec::new()) };
        let replaced = match rollup {
            Rollup::Subject => self.seqs_on(message.subject, context).map_err(store_failed)?,
            Rollup::All => Vec::new(),
        };
        let runs = replaced.chunk_by(|one, next| one + 1 == *next).count();
        let size = message.subject.len() + message.headers.len() + message.payload.len();
        // The third is what a stream in memory reserves.
        context.store.admits(3, size + runs * RUN_BYTES).map_err(store_failed)?;
        Ok(replaced)
    }

    /// The messages on a subject.
    fn seqs_on(&self, subject: &[u8], context: &Context<'_>) -> Result<Vec<u64>, ReadError> {
        let Some(numbers) = context.store.subject(self.log, subject) else { return Ok(Vec::new()) };
        let matcher = |each: &[u8]| each == subject;
        let (mut seqs, mut next) = (Vec::new(), numbers.first_seq);
        loop {
            match context.store.next(self.log, next, numbers.last_seq, Some(&matcher), 65_536)? {
                Next::Record(record) => {
                    seqs.push(record.seq);
                    next = record.seq + 1;
                }
                Next::More(seq) => next = seq,
                Next::End => return Ok(seqs),
            }
        }
    }

    /// Whether a mirror takes what its origin has.
    pub(super) fn admits_copy(&self, message: Incoming<'_>, context: &Context<'_>) -> Result<(), ApiError> {
        self.check_size(message)?;
        self.check_room(message, false, &self.state(context.store), context)
    }

    fn check_size(&self, message: Incoming<'_>) -> Result<(), ApiError> {
        if usize::try_from(self.config.max_msg_size).is_ok_and(|max| message.size() > max) {
            return Err(error::STREAM_MESSAGE_EXCEEDS_MAXIMUM.error());
        }
        Ok(())
    }

    /// Whether discard policy new lets the message in: a stream that is full takes only what replaces its like.
    fn check_room(
        &self,
        message: Incoming<'_>,
        is_rollup: bool,
        state: &weir_storage::LogState,
        context: &Context<'_>,
    ) -> Result<(), ApiError> {
        if self.config.discard != DiscardPolicy::New {
            return Ok(());
        }
        let replaced = match u64::try_from(self.config.max_msgs_per_subject) {
            Ok(max) if max > 0 => {
                context.store.subject(self.log, message.subject).filter(|subject| subject.messages >= max)
            }
            _ => None,
        };
        if replaced.is_some() && self.config.discard_new_per_subject && !is_rollup {
            return Err(store_failed("maximum messages per subject exceeded"));
        }
        if u64::try_from(self.config.max_msgs).is_ok_and(|max| max > 0 && state.messages >= max)
            && replaced.is_none()
        {
            return Err(store_failed("maximum messages exceeded"));
        }
        let size = self.cost(message.subject, message.headers, message.payload);
        if u64::try_from(self.config.max_bytes)
            .is_ok_and(|max| max > 0 && state.bytes.saturating_add(size) > max)
        {
            let freed = match replaced {
                None => None,
                Some(subject) => context.store.get(self.log, subject.first_seq).map_err(store_failed)?,
            };
            let freed = freed.map_or(0, |old| self.cost(&old.subject, &old.headers, &old.payload));
            if freed < size {
                return Err(store_failed("maximum bytes exceeded"));
            }
        }
        Ok(())
    }

    /// What a record counts for.
    fn cost(&self, subject: &[u8], headers: &[u8], payload: &[u8]) -> u64 {
        let cost = super::log_spec(&self.config).cost;
        let headers_cost = if headers.is_empty() { 0 } else { cost.per_headers as usize + headers.len() };
        (cost.per_record as usize + subject.len() + headers_cost + payload.len()) as u64
    }
}

/// A sequence in a header; what is no number matches nothing.
fn sequence(digits: &[u8]) -> u64 {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u64::MAX)
}

pub(super) fn store_failed(error: impl std::fmt::Display) -> ApiError {
    error::STREAM_STORE_FAILED.with(error)
}
