//! What a client sends: its verbs, and the limits of the server that reads them.
//!
//! The control line's limit is on its arguments, as with nats-server; the payload's is checked as soon as its size is read.

use memchr::memchr;

use super::arguments::{
    ARGUMENT_COUNT, BAD_SIZE, canonical_publish, header_arguments, publish_arguments, size, sizes, subscribe,
    trim_start, unsubscribe,
};
use super::framing::{Frame, Framing, Line, Verb};
use super::{malformed, unknown};
use crate::error::ProtocolError;
use crate::op::{ClientOp, Publish};

/// The longest control line a server takes by default, in bytes of its arguments.
pub const MAX_CONTROL_LINE: usize = 4096;
/// The largest message a server takes by default, headers included: 1 MiB.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

const VERBS: &[Verb] = &[
    Verb::with_blank(b"PUB"),
    Verb::with_blank(b"HPUB"),
    Verb::with_blank(b"SUB"),
    Verb::with_blank(b"UNSUB"),
    Verb::bare(b"CONNECT"),
    Verb::bare(b"PING"),
    Verb::bare(b"PONG"),
    Verb::bare(b"INFO"),
    Verb::bare(b"+OK"),
    Verb::with_blank(b"-ERR"),
];

/// Decodes what a client sends to a server.
#[derive(Debug, Clone)]
pub struct ClientDecoder {
    framing: Framing,
    max_payload: Option<usize>,
    headers: bool,
}

impl Default for ClientDecoder {
    fn default() -> Self {
        ClientDecoder::new(MAX_CONTROL_LINE, Some(MAX_PAYLOAD))
    }
}

impl ClientDecoder {
    /// A decoder with these limits in bytes; `None` is unlimited. Headers are refused until [`Self::set_headers`].
    pub fn new(max_control_line: usize, max_payload: Option<usize>) -> ClientDecoder {
        ClientDecoder { framing: Framing::new(max_control_line), max_payload, headers: false }
    }

    /// Whether HPUB is allowed: server and client both support headers.
    pub fn set_headers(&mut self, headers: bool) {
        self.headers = headers;
    }

    /// Changes the largest message, for the operations that follow.
    pub fn set_max_payload(&mut self, max_payload: Option<usize>) {
        self.max_payload = max_payload;
    }

    /// The length in bytes of the operation that is under way, once its size is known: room to read it into.
    pub fn needed(&self) -> Option<usize> {
        self.framing.needed()
    }

    /// The first operation in `bytes` and the number of bytes it took; `None` when it is not whole yet.
    ///
    /// After an error the connection is to be closed: nothing sensible can follow.
    #[inline]
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(ClientOp<'a>, usize)>, ProtocolError> {
        let Some(line) = self.framing.line(bytes, VERBS)? else { return Ok(None) };
        let op = match line.text {
            [b'P' | b'p', b'U' | b'u', b'B' | b'b', b' ' | b'\t', arguments @ ..] => {
                self.framing.check(arguments)?;
                return self.publish(bytes, line, arguments);
            }
            [b'H' | b'h', b'P' | b'p', b'U' | b'u', b'B' | b'b', b' ' | b'\t', arguments @ ..] => {
                self.framing.check(arguments)?;
                return self.publish_with_headers(bytes, line, arguments);
            }
            [b'S' | b's', b'U' | b'u', b'B' | b'b', b' ' | b'\t', arguments @ ..] => {
                self.framing.check(arguments)?;
                let subscribe = subscribe(arguments);
                ClientOp::Sub(subscribe.ok_or_else(|| malformed("SUB", ARGUMENT_COUNT, line.text))?)
            }
            [
                b'U' | b'u',
                b'N' | b'n',
                b'S' | b's',
                b'U' | b'u',
                b'B' | b'b',
                b' ' | b'\t',
                arguments @ ..,
            ] => {
                self.framing.check(arguments)?;
                let unsubscribe = unsubscribe(arguments);
                ClientOp::Unsub(unsubscribe.ok_or_else(|| malformed("UNSUB", ARGUMENT_COUNT, line.text))?)
            }
            [
                b'C' | b'c',
                b'O' | b'o',
                b'N' | b'n',
                b'N' | b'n',
                b'E' | b'e',
                b'C' | b'c',
                b'T' | b't',
                arguments @ ..,
            ] => {
                self.framing.check(arguments)?;
                ClientOp::Connect(trim_start(arguments))
            }
            [b'P' | b'p', b'I' | b'i', b'N' | b'n', b'G' | b'g', arguments @ ..] => {
                self.framing.check(arguments)?;
                ClientOp::Ping
            }
            [b'P' | b'p', b'O' | b'o', b'N' | b'n', b'G' | b'g', arguments @ ..] => {
                self.framing.check(arguments)?;
                ClientOp::Pong
            }
            [b'I' | b'i', b'N' | b'n', b'F' | b'f', b'O' | b'o', arguments @ ..] => {
                self.framing.check(arguments)?;
                let json = trim_start(arguments);
                if serde_json::from_slice::<serde::de::IgnoredAny>(json).is_err() {
                    return Err(malformed("INFO", "no JSON", line.text));
                }
                ClientOp::Info(json)
            }
            [b'+', b'O' | b'o', b'K' | b'k', arguments @ ..] => {
                self.framing.check(arguments)?;
                ClientOp::Ok
            }
            [b'-', b'E' | b'e', b'R' | b'r', b'R' | b'r', b' ' | b'\t', arguments @ ..] => {
                self.framing.check(arguments)?;
                ClientOp::Err(trim_start(arguments))
            }
            other => return Err(unknown(other)),
        };
        self.framing.done();
        Ok(Some((op, line.end)))
    }

    #[inline]
    fn publish<'a>(
        &mut self,
        bytes: &'a [u8],
        line: Line<'a>,
        arguments: &'a [u8],
    ) -> Result<Option<(ClientOp<'a>, usize)>, ProtocolError> {
        // Nearly every PUB is spaced as clients space it; reading that form backwards takes half the time.
        if let Some((subject, reply, size)) = canonical_publish(arguments) {
            self.check_payload(size)?;
            let Some(frame) = self.framing.payload(bytes, line, size)? else { return Ok(None) };
            let before = "PUB ".len().saturating_add(subject.len()).saturating_add(1);
            let ends_in_crlf = line.end == line.text.len().saturating_add(2);
            let tail = if ends_in_crlf { bytes.get(before..frame.end).unwrap_or_default() } else { &[] };
            let publish = Publish { subject, reply, headers: &[], payload: frame.payload, tail };
            return Ok(Some((ClientOp::Pub(publish), frame.end)));
        }
        let fail = |problem| malformed("PUB", problem, line.text);
        let (subject, second, third) = publish_arguments(arguments).ok_or_else(|| fail(ARGUMENT_COUNT))?;
        let (reply, last) = match third {
            Some(third) => (second, third),
            None => (&[][..], second),
        };
        let size = size(last).ok_or_else(|| fail(BAD_SIZE))?;
        self.check_payload(size)?;
        let Some(frame) = self.framing.payload(bytes, line, size)? else { return Ok(None) };
        let publish = Publish { subject, reply, headers: &[], payload: frame.payload, tail: &[] };
        Ok(Some((ClientOp::Pub(publish), frame.end)))
    }

    fn publish_with_headers<'a>(
        &mut self,
        bytes: &'a [u8],
        line: Line<'a>,
        arguments: &'a [u8],
    ) -> Result<Option<(ClientOp<'a>, usize)>, ProtocolError> {
        if !self.headers {
            return Err(ProtocolError::HeadersNotNegotiated);
        }
        let fail = |problem| malformed("HPUB", problem, line.text);
        let (subject, second, third, fourth) =
            header_arguments(arguments).ok_or_else(|| fail(ARGUMENT_COUNT))?;
        let (reply, header_digits, total_digits) = match fourth {
            Some(fourth) => (second, third, fourth),
            None => (&[][..], second, third),
        };
        let (header_size, total) = sizes(header_digits, total_digits).map_err(fail)?;
        self.check_payload(total)?;
        let Some(frame) = self.framing.payload(bytes, line, total)? else { return Ok(None) };
        let (headers, payload) = frame.payload.split_at_checked(header_size).ok_or_else(|| fail(BAD_SIZE))?;
        // Without headers the delivery is a MSG, which has one size only.
        let tail = if headers.is_empty() {
            &[]
        } else {
            header_tail(bytes, line, frame, subject, [reply, header_digits, total_digits])
        };
        Ok(Some((ClientOp::Pub(Publish { subject, reply, headers, payload, tail }), frame.end)))
    }

    fn check_payload(&self, size: usize) -> Result<(), ProtocolError> {
        match self.max_payload {
            Some(limit) if size > limit => Err(ProtocolError::PayloadTooLarge { size, limit }),
            Some(_) | None => Ok(()),
        }
    }
}

/// What follows `HMSG <subject> <sid> ` in a delivery, if this line is spaced as a server's own would be.
///
/// It is when the line is exactly as long as verb, arguments, one blank between each, CR and LF are, and the blanks are no tabs.
fn header_tail<'a>(
    bytes: &'a [u8],
    line: Line<'_>,
    frame: Frame<'_>,
    subject: &[u8],
    rest: [&[u8]; 3],
) -> &'a [u8] {
    let [reply, header_size, size] = rest;
    let before = "HPUB ".len().saturating_add(subject.len()).saturating_add(1);
    let reply = if reply.is_empty() { 0 } else { reply.len().saturating_add(1) };
    let sizes = header_size.len().saturating_add(1).saturating_add(size.len());
    let canonical = before.saturating_add(reply).saturating_add(sizes);
    if line.text.len() != canonical
        || line.end != canonical.saturating_add(2)
        || memchr(b'\t', line.text).is_some()
    {
        return &[];
    }
    bytes.get(before..frame.end).unwrap_or_default()
}
