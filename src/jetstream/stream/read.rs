//! Reading single messages: direct get, and the selection that `STREAM.MSG.GET` shares with it.
//!
//! What is read may be staged only; the answers are held until it is durable. While the store takes no changes, what it
//! shows is durable, and is answered at once.

use bytes::{BufMut, Bytes, BytesMut};
use weir_protocol::jetstream::direct::{self, MessageGetRequest};
use weir_protocol::jetstream::json::{self, Timestamp};
use weir_protocol::subject;
use weir_storage::{LogId, Next, ReadError, Record, Store};

use super::{Stream, is_in_doubt};
use crate::jetstream::context::Context;

/// Most subjects a `multi_last` may match.
const MULTI_LAST_MAX: usize = 1024;

/// Smaller payloads are copied out of what was read.
const COPIED_BYTES: usize = 8 << 10;

impl Stream {
    /// A direct get with its request in the body.
    pub(in crate::jetstream) fn handle_direct_get(
        &self,
        reply: &Bytes,
        headers: &[u8],
        body: &[u8],
        context: &mut Context<'_>,
    ) {
        let Some(request) = self.read_request(reply, headers, body, context) else { return };
        let wants_nothing = request.seq == 0
            && request.last_by_subj.is_empty()
            && request.next_by_subj.is_empty()
            && request.multi_last.is_empty()
            && request.start_time.is_none();
        if body.is_empty() || wants_nothing {
            return refuse(reply, "408 Empty Request", context);
        }
        let has_last = !request.last_by_subj.is_empty();
        let has_next = !request.next_by_subj.is_empty();
        let has_multi = !request.multi_last.is_empty();
        let conflicts = [
            request.seq > 0 && (has_last || request.start_time.is_some()),
            has_last && (request.start_time.is_some() || has_next || request.batch > 0 || has_multi),
            has_next && has_multi,
            request.up_to_seq > 0 && request.up_to_time.is_some(),
        ];
        if conflicts.contains(&true) {
            return refuse(reply, "408 Bad Request", context);
        }
        self.answer_direct_get(reply, &request, context);
    }

    /// A direct get of the last message on the subject that ends the request's subject.
    pub(in crate::jetstream) fn handle_direct_get_subject(
        &self,
        subject: &[u8],
        reply: &Bytes,
        headers: &[u8],
        body: &[u8],
        context: &mut Context<'_>,
    ) {
        let Some(mut request) = self.read_request(reply, headers, body, context) else { return };
        let of = subject
            .get(direct::PREFIX.len() + self.name.len() + 1..)
            .and_then(|of| std::str::from_utf8(of).ok());
        let plain = MessageGetRequest { no_hdr: request.no_hdr, ..MessageGetRequest::default() };
        match of.filter(|of| !of.is_empty() && request == plain) {
            Some(of) => {
                of.clone_into(&mut request.last_by_subj);
                self.answer_direct_get(reply, &request, context);
            }
            None => refuse(reply, "408 Bad Request", context),
        }
    }

    fn read_request(
        &self,
        reply: &Bytes,
        headers: &[u8],
        body: &[u8],
        context: &mut Context<'_>,
    ) -> Option<MessageGetRequest> {
        // What nobody waits for need not be read.
        if reply.is_empty() || !context.interest.has(reply) {
            return None;
        }
        if context.lacks_level(headers) {
            refuse(reply, "412 Required Api Level", context);
            return None;
        }
        if let Some(cause) = context.store.refusing().filter(|_| is_in_doubt(self.log, context.store)) {
            let status = format!("500 {cause}");
            refuse(reply, &status, context);
            return None;
        }
        if body.is_empty() {
            return Some(MessageGetRequest::default());
        }
        let request = json::decode_lenient(body);
        if request.is_err() {
            refuse(reply, "408 Malformed Request", context);
        }
        request.ok()
    }

    fn answer_direct_get(&self, reply: &Bytes, request: &MessageGetRequest, context: &mut Context<'_>) {
        let answered = if !request.multi_last.is_empty() {
            self.answer_multi_last(reply, request, context)
        } else if request.batch > 0 {
            self.answer_batch(reply, request, context)
        } else {
            self.find_message(request, context.store).map(|found| match found {
                Some(record) => self.send(reply, &record, request.no_hdr, None, context),
                None => refuse(reply, "404 Message Not Found", context),
            })
        };
        if let Err(error) = answered {
            tracing::warn!(stream = %self.config.name, %error, "direct get: the stream cannot be read");
            refuse(reply, &format!("500 {error}"), context);
        }
    }

    /// The one message that a request names.
    pub(in crate::jetstream) fn find_message(
        &self,
        request: &MessageGetRequest,
        store: &Store,
    ) -> Result<Option<Record>, ReadError> {
        let from = self.first_wanted(request, store)?;
        if !request.next_by_subj.is_empty() {
            self.next_message(from, &request.next_by_subj, store)
        } else if from > 0 {
            store.get(self.log, from)
        } else {
            self.last_message(&request.last_by_subj, u64::MAX, store)
        }
    }

    /// As [`seek_time`] in the stream's own log.
    pub(in crate::jetstream) fn seek_time(&self, time: i64, store: &Store) -> Result<Option<u64>, ReadError> {
        seek_time(self.log, time, store)
    }

    fn first_wanted(&self, request: &MessageGetRequest, store: &Store) -> Result<u64, ReadError> {
        match request.start_time {
            None => Ok(request.seq),
            Some(time) => {
                let found = self.seek_time(time.0, store)?;
                Ok(found.unwrap_or_else(|| self.state(store).last_seq + 1))
            }
        }
    }

    fn next_message(&self, from: u64, filter: &str, store: &Store) -> Result<Option<Record>, ReadError> {
        let filter = filter.as_bytes();
        let matcher = |each: &[u8]| subject::matches(each, filter);
        let mut from = from.max(1);
        loop {
            let wanted = (!filter.is_empty()).then_some(&matcher as &dyn Fn(&[u8]) -> bool);
            match store.next(self.log, from, u64::MAX, wanted, 65_536)? {
                Next::Record(record) => return Ok(Some(record)),
                Next::End => return Ok(None),
                Next::More(seq) => from = seq,
            }
        }
    }

    /// The last message up to `up_to` whose subject matches.
    fn last_message(&self, filter: &str, up_to: u64, store: &Store) -> Result<Option<Record>, ReadError> {
        let filter = filter.as_bytes();
        if subject::is_literal(filter) {
            match store.subject(self.log, filter) {
                None => return Ok(None),
                Some(state) if state.last_seq <= up_to => return store.get(self.log, state.last_seq),
                Some(_) => {}
            }
        }
        let matcher = |each: &[u8]| subject::matches(each, filter);
        store.last(self.log, up_to, Some(&matcher))
    }

    fn answer_batch(
        &self,
        reply: &Bytes,
        request: &MessageGetRequest,
        context: &mut Context<'_>,
    ) -> Result<(), ReadError> {
        let mut next = self.first_wanted(request, context.store)?;
        let filter = request.next_by_subj.as_bytes();
        let matcher = |each: &[u8]| subject::matches(each, filter);
        let wanted = (!filter.is_empty()).then_some(&matcher as &dyn Fn(&[u8]) -> bool);
        let mut pending = context.store.count(self.log, next, wanted)?;
        let budget = bytes_wanted(request, context);
        let (mut sent_bytes, mut last) = (0usize, 0u64);
        for index in 0..request.batch {
            let Some(record) = self.next_message(next, &request.next_by_subj, context.store)? else {
                if index == 0 {
                    refuse(reply, "404 Message Not Found", context);
                    return Ok(());
                }
                break;
            };
            next = record.seq + 1;
            pending = pending.saturating_sub(1);
            self.send(reply, &record, request.no_hdr, Some((pending, last)), context);
            last = record.seq;
            sent_bytes += record.subject.len() + record.headers.len() + record.payload.len();
            if sent_bytes >= budget {
                break;
            }
        }
        let end = format!(
            "NATS/1.0 204 EOB\r\n{}: {pending}\r\n{}: {last}\r\n\r\n",
            direct::NUM_PENDING,
            direct::LAST_SEQUENCE
        );
        context.answer_read(reply, end.into(), Bytes::new());
        Ok(())
    }

    fn answer_multi_last(
        &self,
        reply: &Bytes,
        request: &MessageGetRequest,
        context: &mut Context<'_>,
    ) -> Result<(), ReadError> {
        let state = self.state(context.store);
        let mut up_to = request.up_to_seq;
        if let Some(time) = request.up_to_time {
            let seq = self.seek_time(time.0, context.store)?.unwrap_or(state.last_seq + 1);
            if seq <= state.first_seq {
                refuse(reply, "404 No Results", context);
                return Ok(());
            }
            up_to = seq - 1;
        }
        if up_to == 0 {
            up_to = state.last_seq;
        }
        let matcher =
            |each: &[u8]| request.multi_last.iter().any(|filter| subject::matches(each, filter.as_bytes()));
        let mut seqs = Vec::new();
        for (subject, numbers) in context.store.subjects(self.log, Some(&matcher)) {
            let last = if numbers.last_seq <= up_to {
                Some(numbers.last_seq)
            } else if numbers.first_seq > up_to {
                None
            } else {
                let is_subject = |each: &[u8]| each == &subject[..];
                context.store.last(self.log, up_to, Some(&is_subject))?.map(|record| record.seq)
            };
            seqs.extend(last);
            if seqs.len() > MULTI_LAST_MAX {
                refuse(reply, "413 Too Many Results", context);
                return Ok(());
            }
        }
        if seqs.is_empty() {
            refuse(reply, "404 No Results", context);
            return Ok(());
        }
        seqs.sort_unstable();
        let budget = bytes_wanted(request, context);
        let (mut sent_bytes, mut sent, mut last) = (0usize, 0i64, 0u64);
        let mut pending = seqs.len() as u64;
        for seq in seqs {
            pending = pending.saturating_sub(1);
            if seq < request.seq {
                continue;
            }
            let Some(record) = context.store.get(self.log, seq)? else {
                refuse(reply, "404 Message Not Found", context);
                return Ok(());
            };
            self.send(reply, &record, false, Some((pending, last)), context);
            last = seq;
            sent_bytes += record.subject.len() + record.headers.len() + record.payload.len();
            sent += 1;
            if sent_bytes >= budget || request.batch > 0 && sent >= request.batch {
                break;
            }
        }
        let end = format!(
            "NATS/1.0 204 EOB\r\n{}: {pending}\r\n{}: {last}\r\nNats-UpTo-Sequence: {up_to}\r\n\r\n",
            direct::NUM_PENDING,
            direct::LAST_SEQUENCE
        );
        context.answer_read(reply, end.into(), Bytes::new());
        Ok(())
    }

    /// Sends a stored message; in a batch with how many follow and the sequence before.
    fn send(
        &self,
        reply: &Bytes,
        record: &Record,
        no_headers: bool,
        batch: Option<(u64, u64)>,
        context: &mut Context<'_>,
    ) {
        let headers = if no_headers {
            Bytes::new()
        } else {
            context.outputs.bytes(|out| {
                let stored = record.headers.strip_suffix(b"\r\n").unwrap_or(b"NATS/1.0\r\n");
                out.reserve(stored.len() + record.subject.len() + self.name.len() + 256);
                out.put_slice(stored);
                put(out, direct::STREAM, &self.name);
                put(out, direct::SUBJECT, &record.subject);
                put(out, direct::SEQUENCE, record.seq.to_string().as_bytes());
                put(out, direct::TIME_STAMP, Timestamp(record.time).to_string().as_bytes());
                if let Some((pending, last)) = batch {
                    put(out, direct::NUM_PENDING, pending.to_string().as_bytes());
                    put(out, direct::LAST_SEQUENCE, last.to_string().as_bytes());
                }
                out.put_slice(b"\r\n");
            })
        };
        // A small part of a block that was read must not keep the whole of it in memory.
        let payload = if record.payload.len() < COPIED_BYTES {
            context.outputs.copy(&record.payload)
        } else {
            record.payload.clone()
        };
        context.answer_read(reply, headers, payload);
    }
}

/// The sequence of the first message with a time of at least `time`. Damaged messages have none and are passed over.
pub(super) fn seek_time(log: LogId, time: i64, store: &Store) -> Result<Option<u64>, ReadError> {
    match store.seek_time(log, time) {
        Err(ReadError::Damaged { .. }) => {}
        found => return found,
    }
    let mut next = store.state(log).map_or(0, |state| state.first_seq);
    loop {
        match store.next(log, next, u64::MAX, None, 1) {
            Ok(Next::Record(record)) if record.time >= time => return Ok(Some(record.seq)),
            Ok(Next::Record(record)) => next = record.seq + 1,
            Ok(Next::More(seq)) => next = seq,
            Ok(Next::End) => return Ok(None),
            Err(ReadError::Damaged { last, .. }) => next = last + 1,
            Err(error) => return Err(error),
        }
    }
}

fn put(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn refuse(reply: &Bytes, status: &str, context: &mut Context<'_>) {
    let headers = format!("NATS/1.0 {status}\r\n\r\n");
    context.answer_read(reply, headers.into(), Bytes::new());
}

fn bytes_wanted(request: &MessageGetRequest, context: &Context<'_>) -> usize {
    let most = context.config.max_pending;
    usize::try_from(request.max_bytes).ok().filter(|bytes| *bytes > 0).map_or(most, |bytes| bytes.min(most))
}
