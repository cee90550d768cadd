//! Mirrors and sources: copying from one stream of this engine into another.
//!
//! A copy follows the origin's durable watermark. A mirror keeps sequences and times, and passes over what the origin
//! no longer has; a source gives its messages new sequences and notes in `Nats-Stream-Source` where they came from.
//! The position of a source is an attribute staged together with the messages it stands for, so that a restart neither
//! loses nor repeats one; the position of a mirror is its own last sequence.

use std::mem::{Discriminant, discriminant};

use bytes::Bytes;
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::publish::STREAM_SOURCE;
use weir_protocol::jetstream::stream::{StorageType, StreamSource, StreamSourceInfo};
use weir_protocol::{header, subject};
use weir_storage::{Next, Record, StageError, Store};

use super::publish::{Incoming, Refusal, store_failed};
use super::{Removal, Stream, unreadable};
use crate::jetstream::context::Context;

/// A copy in one go ends after this many bytes.
const COPY_BYTES: usize = 512 * 1024;
/// A copy in one go looks at no more records of the origin than this.
const COPY_RECORDS: usize = 16_384;
/// What the header of a copy and the kept position take besides names and subjects, at most.
const COPY_OVERHEAD: usize = 256;
/// How long a copy that failed waits, in nanoseconds.
const RETRY: i64 = 1_000_000_000;
/// How often an origin is heard of at least, in nanoseconds.
const HEARTBEAT: i64 = 1_000_000_000;

/// Attribute of a mirror's log: the mirror has started; its value is the origin's log.
const MIRROR_KEY: &[u8] = b"mirror";
/// Attribute of a mirror's log: the last sequence of its origin in memory that was there when the mirror was behind.
const BEHIND_KEY: &[u8] = b"mirror/behind";
/// Attribute of a stream's log: the position of a source, its index name following.
const SOURCE_KEY: &[u8] = b"source/";

/// What is known of a mirror's origin.
#[derive(Debug, Default)]
pub(in crate::jetstream) struct Mirror {
    contact: Contact,
    /// Why it cannot be kept how far the origin is; said already.
    unkept: Option<Discriminant<StageError>>,
}

impl Mirror {
    /// Whether this outcome is a failure of another kind than the one before. A store that takes no more is asked again
    /// with each message.
    fn fails_anew<T>(&mut self, outcome: &Result<T, StageError>) -> bool {
        let kind = outcome.as_ref().err().map(discriminant);
        let before = std::mem::replace(&mut self.unkept, kind);
        kind.is_some() && kind != before
    }
}

/// A source and its position.
#[derive(Debug)]
pub(in crate::jetstream) struct Source {
    pub(in crate::jetstream) config: StreamSource,
    pub(super) index_name: String,
    /// The origin's log and the next sequence to take, once known.
    position: Option<(u32, u64)>,
    /// The position that is staged.
    kept: Option<(u32, u64)>,
    contact: Contact,
}

#[derive(Debug, Default)]
struct Contact {
    /// When the origin was last heard of.
    last: Option<i64>,
    /// When to try again, and why it failed.
    stopped: Option<(i64, ApiError)>,
}

impl Contact {
    fn heard(&mut self, now: i64) {
        self.last = Some(now);
        self.stopped = None;
    }

    /// Whether it did not fail in this way before.
    fn fails_anew(&self, error: &ApiError) -> bool {
        self.stopped.as_ref().is_none_or(|(_, before)| before != error)
    }

    fn failed(&mut self, now: i64, error: ApiError) {
        self.stopped = Some((now.saturating_add(RETRY), error));
    }

    fn waits(&self, now: i64) -> bool {
        self.stopped.as_ref().is_some_and(|(until, _)| now < *until)
    }

    fn info(&self, config: &StreamSource, lag: u64, origin_is_there: bool, now: i64) -> StreamSourceInfo {
        let active = match self.last {
            None => -1,
            Some(last) if origin_is_there => now.saturating_sub(last) % HEARTBEAT,
            Some(last) => now.saturating_sub(last),
        };
        StreamSourceInfo {
            name: config.name.clone(),
            external: config.external.clone(),
            lag: if self.last.is_some() { lag } else { 0 },
            active,
            error: match &self.stopped {
                Some((_, error)) => Some(error.clone()),
                None if origin_is_there => None,
                None => Some(error::STREAM_NOT_FOUND.error()),
            },
            filter_subject: config.filter_subject.clone(),
            subject_transforms: config.subject_transforms.clone(),
        }
    }
}

impl Source {
    pub(super) fn new(config: StreamSource) -> Self {
        Self {
            index_name: config.index_name(),
            config,
            position: None,
            kept: None,
            contact: Contact::default(),
        }
    }

    fn key(&self) -> Vec<u8> {
        [SOURCE_KEY, self.index_name.as_bytes()].concat()
    }
}

/// Whether there is more to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jetstream) enum Progress {
    /// All that the origin has durable is copied.
    Done,
    /// Another call goes on.
    More,
}

fn wants(filter: &str, each: &[u8]) -> bool {
    filter.is_empty() || subject::matches(each, filter.as_bytes())
}

/// The sequence a copy starts with.
fn start_seq(config: &StreamSource, origin: &Stream, context: &Context<'_>) -> Result<u64, ApiError> {
    let after_all = origin.state(context.store).last_seq + 1;
    match config.opt_start_time.and_then(|time| time.nanos()) {
        Some(time) if config.opt_start_seq == 0 => {
            let found = origin.seek_time(time, context.store).map_err(|error| unreadable(&error))?;
            Ok(found.unwrap_or(after_all))
        }
        _ => Ok(config.opt_start_seq.clamp(1, after_all)),
    }
}

/// Whether a copy of `record` can be staged, with `more` bytes; false when it goes into the next chunk.
fn has_room(record: &Record, more: usize, store: &Store) -> Result<bool, ApiError> {
    let size = record.subject.len() * 2 + record.headers.len() + record.payload.len() + more + COPY_OVERHEAD;
    match store.admits(3, size) {
        Ok(()) => Ok(true),
        Err(StageError::TooLong { .. }) if store.staged_bytes() > 0 => Ok(false),
        Err(error) => Err(store_failed(error)),
    }
}

impl Stream {
    /// Copies what `origin` has durable into this mirror.
    pub(in crate::jetstream) fn feed_mirror(
        &mut self,
        origin: &Stream,
        context: &mut Context<'_>,
    ) -> Progress {
        let Some(config) = self.config.mirror.clone() else { return Progress::Done };
        let Some(mut mirror) = self.mirror.take() else { return Progress::Done };
        let progress = if mirror.contact.waits(context.now) {
            Progress::Done
        } else {
            match self.copy_into_mirror(&config, origin, context) {
                Ok(progress) => {
                    mirror.contact.heard(context.now);
                    progress
                }
                Err(error) => {
                    if mirror.contact.fails_anew(&error) {
                        tracing::warn!(mirror = %self.config.name, origin = %config.name, %error, "mirror waits");
                    }
                    mirror.contact.failed(context.now, error);
                    Progress::Done
                }
            }
        };
        self.mirror = Some(mirror);
        progress
    }

    fn copy_into_mirror(
        &mut self,
        config: &StreamSource,
        origin: &Stream,
        context: &mut Context<'_>,
    ) -> Result<Progress, ApiError> {
        if context.store.attribute(self.log, MIRROR_KEY).is_none() {
            let start = start_seq(config, origin, context)?;
            if start > self.state(context.store).last_seq + 1 {
                self.remove(Removal::Purged(start), context).map_err(store_failed)?;
            }
            let id = origin.log.0.to_le_bytes();
            context.store.set_attribute(self.log, MIRROR_KEY, &id).map_err(store_failed)?;
        }
        let durable = origin.copyable_seq(context.store);
        let filter = config.filter_subject.as_str();
        let matcher = |each: &[u8]| wants(filter, each);
        let mut next = self.state(context.store).last_seq + 1;
        let (mut bytes, mut records) = (0usize, 0usize);
        while next <= durable {
            if bytes >= COPY_BYTES || records >= COPY_RECORDS {
                return Ok(Progress::More);
            }
            let found = context.store.next(origin.log, next, durable, Some(&matcher), COPY_RECORDS);
            match found.map_err(|error| unreadable(&error))? {
                Next::Record(record) => {
                    bytes += record.subject.len() + record.headers.len() + record.payload.len();
                    records += 1;
                    next = record.seq + 1;
                    if !has_room(&record, 0, context.store)? {
                        return Ok(Progress::More);
                    }
                    self.mirror_record(&record, context)?;
                }
                Next::More(seq) => {
                    records += COPY_RECORDS;
                    next = seq;
                    context.store.skip_to(self.log, seq - 1).map_err(store_failed)?;
                }
                Next::End => {
                    context.store.skip_to(self.log, durable).map_err(store_failed)?;
                    next = durable + 1;
                }
            }
        }
        Ok(Progress::Done)
    }

    /// The last sequence that mirrors may copy. What is in memory need not wait: a copy that survives a crash lies in the
    /// journal behind the reservation of its sequence.
    pub(in crate::jetstream) fn copyable_seq(&self, store: &Store) -> u64 {
        let state = self.state(store);
        match self.config.storage {
            StorageType::File => state.durable_seq,
            StorageType::Memory => state.last_seq,
        }
    }

    /// Keeps how far the origin in memory is when this mirror has not copied all of it. Staged before anything of it is
    /// acknowledged: after a crash, each acknowledged message is in the mirror or known to be missing.
    pub(in crate::jetstream) fn note_behind(&mut self, origin: &Stream, context: &mut Context<'_>) {
        let last = origin.state(context.store).last_seq;
        if origin.config.storage != StorageType::Memory
            || last <= self.state(context.store).last_seq
            || last <= self.behind(context.store)
        {
            return;
        }
        let kept = context.store.set_attribute(self.log, BEHIND_KEY, &last.to_le_bytes());
        let is_news = self.mirror.as_mut().is_none_or(|mirror| mirror.fails_anew(&kept));
        if let Err(error) = kept
            && is_news
        {
            tracing::warn!(mirror = %self.config.name, %error, "a crash now could lose messages without naming them");
        }
    }

    /// What [`note_behind`](Self::note_behind) kept; 0 when it never had to.
    pub(in crate::jetstream) fn behind(&self, store: &Store) -> u64 {
        let kept = store.attribute(self.log, BEHIND_KEY);
        kept.and_then(|bytes| bytes[..].try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    fn mirror_record(&mut self, record: &Record, context: &mut Context<'_>) -> Result<(), ApiError> {
        let headers = without_steering(&record.headers);
        let Record { seq, time, subject, payload, .. } = record;
        self.admits_copy(Incoming { subject, headers: &headers, payload, sourced: true }, context)?;
        let appended = context.store.append(self.log, *seq, *time, subject, &headers, payload);
        appended.map_err(store_failed)?;
        for consumer in self.consumers.values_mut() {
            consumer.handle_appended(*seq, subject);
        }
        self.enforce_after(subject, context);
        Ok(())
    }

    /// Copies what the origin of source number `index` has durable into this stream.
    pub(in crate::jetstream) fn feed_source(
        &mut self,
        index: usize,
        origin: &Stream,
        context: &mut Context<'_>,
    ) -> Progress {
        let Some(source) = self.sources.get_mut(index) else { return Progress::Done };
        if source.contact.waits(context.now) {
            return Progress::Done;
        }
        let mut source = std::mem::replace(source, Source::new(StreamSource::default()));
        let outcome = self.copy_from_source(&mut source, origin, context);
        let kept = match source.position {
            Some(position) if source.kept != Some(position) => {
                let kept = self.keep_position(&source, position, context);
                source.kept = if kept.is_ok() { Some(position) } else { source.kept };
                kept
            }
            _ => Ok(()),
        };
        let progress = match outcome.and_then(|progress| kept.map(|()| progress)) {
            Ok(progress) => {
                source.contact.heard(context.now);
                progress
            }
            Err(error) => {
                tracing::warn!(stream = %self.config.name, origin = %source.config.name, %error, "source waits");
                source.contact.failed(context.now, error);
                Progress::Done
            }
        };
        if let Some(place) = self.sources.get_mut(index) {
            *place = source;
        }
        progress
    }

    fn keep_position(
        &self,
        source: &Source,
        (origin, next): (u32, u64),
        context: &mut Context<'_>,
    ) -> Result<(), ApiError> {
        let mut value = Vec::with_capacity(12);
        value.extend_from_slice(&origin.to_le_bytes());
        value.extend_from_slice(&next.to_le_bytes());
        context.store.set_attribute(self.log, &source.key(), &value).map_err(store_failed)
    }

    /// The position that is kept for a source.
    fn read_position(&self, source: &Source, context: &Context<'_>) -> Result<Option<(u32, u64)>, ApiError> {
        let Some(value) = context.store.attribute(self.log, &source.key()) else { return Ok(None) };
        let parts = value.split_at_checked(4).and_then(|(origin, next)| {
            Some((u32::from_le_bytes(origin.try_into().ok()?), u64::from_le_bytes(next.try_into().ok()?)))
        });
        let damaged = || error::STREAM_GENERAL_ERROR.with("the kept position of the source cannot be read");
        parts.map(Some).ok_or_else(damaged)
    }

    fn copy_from_source(
        &mut self,
        source: &mut Source,
        origin: &Stream,
        context: &mut Context<'_>,
    ) -> Result<Progress, ApiError> {
        if source.position.is_none() {
            source.kept = self.read_position(source, context)?;
            source.position = source.kept;
        }
        let mut next = match source.position {
            Some((log, next)) if log == origin.log.0 => next,
            _ => start_seq(&source.config, origin, context)?,
        };
        let durable = origin.state(context.store).durable_seq;
        let filter = source.config.filter_subject.clone();
        let matcher = |each: &[u8]| wants(&filter, each);
        let (mut bytes, mut records) = (0usize, 0usize);
        source.position = Some((origin.log.0, next));
        while next <= durable {
            if bytes >= COPY_BYTES || records >= COPY_RECORDS {
                return Ok(Progress::More);
            }
            let found = context.store.next(origin.log, next, durable, Some(&matcher), COPY_RECORDS);
            next = match found.map_err(|error| unreadable(&error))? {
                Next::Record(record) => {
                    bytes += record.subject.len() + record.headers.len() + record.payload.len();
                    records += 1;
                    // A copy goes with the position behind it: with only one of them a restart copies twice.
                    if !has_room(&record, source.index_name.len() * 2, context.store)? {
                        return Ok(Progress::More);
                    }
                    self.source_record(source, &record, context)?;
                    record.seq + 1
                }
                Next::More(seq) => {
                    records += COPY_RECORDS;
                    seq
                }
                Next::End => durable + 1,
            };
            source.position = Some((origin.log.0, next));
        }
        Ok(Progress::Done)
    }

    fn source_record(
        &mut self,
        source: &Source,
        record: &Record,
        context: &mut Context<'_>,
    ) -> Result<(), ApiError> {
        let mut parts = source.index_name.splitn(3, ' ');
        let (name, filter, dest) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or(">"), parts.next().unwrap_or(">"));
        let subject = String::from_utf8_lossy(&record.subject);
        let origin = format!("{name} {} {filter} {dest} {subject}", record.seq);
        let headers = header::remove(&without_steering(&record.headers), STREAM_SOURCE);
        let headers = header::Builder::extend(&headers).add(STREAM_SOURCE, origin).finish();
        let message =
            Incoming { subject: &record.subject, headers: &headers, payload: &record.payload, sourced: true };
        match self.publish(message, context) {
            Ok(_) | Err(Refusal::Duplicate(_)) => Ok(()),
            Err(Refusal::Error(error)) => Err(error),
        }
    }

    /// The origins that `is_there` does not know are gone: there is nothing to try again until they come back.
    pub(in crate::jetstream) fn forget_failures(&mut self, is_there: impl Fn(&str) -> bool) {
        if let (Some(config), Some(mirror)) = (&self.config.mirror, &mut self.mirror)
            && !is_there(&config.name)
        {
            mirror.contact.stopped = None;
        }
        for source in self.sources.iter_mut().filter(|source| !is_there(&source.config.name)) {
            source.contact.stopped = None;
        }
    }

    /// When a copy that failed is tried again.
    pub(in crate::jetstream) fn origin_timeout(&self) -> Option<i64> {
        let mirror = self.mirror.iter().map(|mirror| &mirror.contact);
        let contacts = mirror.chain(self.sources.iter().map(|source| &source.contact));
        contacts.filter_map(|contact| contact.stopped.as_ref().map(|(at, _)| *at)).min()
    }

    /// How the mirror does.
    pub(in crate::jetstream) fn mirror_info(
        &self,
        origin: Option<&Stream>,
        context: &Context<'_>,
    ) -> Option<StreamSourceInfo> {
        let (config, mirror) = (self.config.mirror.as_ref()?, self.mirror.as_ref()?);
        let next = self.state(context.store).last_seq + 1;
        let lag = origin.map_or(0, |origin| lag(origin, next, &config.filter_subject, context));
        Some(mirror.contact.info(config, lag, origin.is_some(), context.now))
    }

    /// How source number `index` does.
    pub(in crate::jetstream) fn source_info(
        &self,
        index: usize,
        origin: Option<&Stream>,
        context: &Context<'_>,
    ) -> Option<StreamSourceInfo> {
        let source = self.sources.get(index)?;
        let lag = match (origin, source.position) {
            (Some(origin), Some((log, next))) if log == origin.log.0 => {
                lag(origin, next, &source.config.filter_subject, context)
            }
            (Some(origin), _) => {
                lag(origin, source.config.opt_start_seq, &source.config.filter_subject, context)
            }
            (None, _) => 0,
        };
        Some(source.contact.info(&source.config, lag, origin.is_some(), context.now))
    }
}

fn lag(origin: &Stream, next: u64, filter: &str, context: &Context<'_>) -> u64 {
    let state = origin.state(context.store);
    if next > state.last_seq {
        return 0;
    }
    let matcher = |each: &[u8]| wants(filter, each);
    let wanted = (!filter.is_empty()).then_some(&matcher as &dyn Fn(&[u8]) -> bool);
    context.store.count(origin.log, next, wanted).unwrap_or(state.last_seq + 1 - next)
}

/// Headers without those that steered the publish into the origin.
fn without_steering(headers: &Bytes) -> Bytes {
    if memchr::memmem::find(headers, b"Nats-Expected-").is_none()
        && memchr::memmem::find(headers, b"Nats-Batch-").is_none()
    {
        return headers.clone();
    }
    header::remove_prefix(&header::remove_prefix(headers, "Nats-Expected-"), "Nats-Batch-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_again_when_it_is_another() {
        let failed = |cause: &str| Err::<(), _>(StageError::Failed { cause: cause.to_owned() });
        let busy = |bytes| Err(StageError::Busy { bytes, limit: 10, cause: String::new() });
        let cases = [
            (Ok(()), false),
            (busy(8), true),
            (busy(9), false),
            (failed("full"), true),
            (failed("full; then: full"), false),
            (busy(9), true),
            (Ok(()), false),
            (busy(9), true),
        ];
        let mut mirror = Mirror::default();
        for (at, (outcome, is_told)) in cases.iter().enumerate() {
            assert_eq!(mirror.fails_anew(outcome), *is_told, "outcome {at}: {outcome:?}");
        }
    }
}
