//! Bytes in, operations out, in both directions.
//!
//! [`ClientDecoder`] reads what a client sends, [`ServerDecoder`] what a server sends. A decoder owns no buffer: it is shown
//! the bytes that have not been consumed yet, answers with one operation that borrows from them and the number of bytes it
//! took, or with `None` when the operation is not whole. Then it is shown the same bytes again with more behind them. It remembers
//! how far a control line has been searched and how long an operation will be, so nothing is searched twice. How the bytes are cut into
//! chunks makes no difference.
//!
//! ```
//! use bytes::{Buf, Bytes, BytesMut};
//! use weir_protocol::decode::ClientDecoder;
//! use weir_protocol::op::ClientOp;
//!
//! let mut decoder = ClientDecoder::default();
//! let mut unread = BytesMut::from(&b"PING\r\nPUB foo 5\r\nhello\r\nPI"[..]); // what the socket gave
//! let chunk: Bytes = unread.split().freeze();
//! let mut at = 0;
//! while let Some((op, taken)) = decoder.decode(&chunk[at..])? {
//!     if let ClientOp::Pub(publish) = op {
//!         let payload: Bytes = chunk.slice_ref(publish.payload); // to keep it; copies nothing
//!         assert_eq!(payload, "hello");
//!     }
//!     at += taken;
//! }
//! unread.extend_from_slice(&chunk[at..]); // the unfinished operation stands in front of what is read next
//! assert_eq!(unread, "PI");
//! # Ok::<(), weir_protocol::error::ProtocolError>(())
//! ```
//!
//! The line is found by memchr, told apart by its first bytes, and its arguments are read by nom; payloads and headers are cut
//! out by length and looked at by nobody. Limits are checked before memory is needed: the control line's while it is incomplete, the
//! payload's as soon as its size is known.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use memchr::{memchr, memchr2};
use nom::bytes::complete::{take_while, take_while1};
use nom::combinator::{all_consuming, opt};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use crate::error::ProtocolError;
use crate::op::{ClientOp, Message, Publish, ServerOp, Subscribe, Unsubscribe};

/// The longest control line a server takes by default, in bytes of its arguments.
pub const MAX_CONTROL_LINE: usize = 4096;
/// The largest message a server takes by default, headers included: 1 MiB.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
/// The longest line a client takes from a server: an INFO with the addresses of a large cluster is long.
const MAX_SERVER_LINE: usize = 1024 * 1024;
/// The digits of a size.
const MAX_SIZE_DIGITS: usize = 9;
/// How much of a bad line an error quotes.
const SNIPPET: usize = 64;

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
        let Some(line) = self.framing.line(bytes, CLIENT_VERBS)? else { return Ok(None) };
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
        let header_size = size(header_digits).ok_or_else(|| fail("bad header size"))?;
        let total = size(total_digits).ok_or_else(|| fail(BAD_SIZE))?;
        if header_size > total {
            return Err(fail("header size beyond the total"));
        }
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

/// Decodes what a server sends to a client.
#[derive(Debug, Clone)]
pub struct ServerDecoder {
    framing: Framing,
}

impl Default for ServerDecoder {
    fn default() -> Self {
        ServerDecoder { framing: Framing::new(MAX_SERVER_LINE) }
    }
}

impl ServerDecoder {
    /// A decoder; a server is trusted with any payload that a size of nine digits can announce.
    pub fn new() -> ServerDecoder {
        ServerDecoder::default()
    }

    /// The length in bytes of the operation that is under way, once its size is known: room to read it into.
    pub fn needed(&self) -> Option<usize> {
        self.framing.needed()
    }

    /// The first operation in `bytes` and the number of bytes it took; `None` when it is not whole yet.
    ///
    /// After an error the connection is to be closed: nothing sensible can follow.
    #[inline]
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(ServerOp<'a>, usize)>, ProtocolError> {
        let Some(line) = self.framing.line(bytes, SERVER_VERBS)? else { return Ok(None) };
        self.framing.check(line.text)?;
        let op = match line.text {
            [b'M' | b'm', b'S' | b's', b'G' | b'g', b' ' | b'\t', arguments @ ..] => {
                return self.message(bytes, line, arguments, false);
            }
            [b'H' | b'h', b'M' | b'm', b'S' | b's', b'G' | b'g', b' ' | b'\t', arguments @ ..] => {
                return self.message(bytes, line, arguments, true);
            }
            [b'P' | b'p', b'I' | b'i', b'N' | b'n', b'G' | b'g', ..] => ServerOp::Ping,
            [b'P' | b'p', b'O' | b'o', b'N' | b'n', b'G' | b'g', ..] => ServerOp::Pong,
            [b'I' | b'i', b'N' | b'n', b'F' | b'f', b'O' | b'o', arguments @ ..] => {
                ServerOp::Info(arguments.trim_ascii())
            }
            [b'+', b'O' | b'o', b'K' | b'k', ..] => ServerOp::Ok,
            [b'-', b'E' | b'e', b'R' | b'r', b'R' | b'r', b' ' | b'\t', arguments @ ..] => {
                let text = arguments.trim_ascii();
                let bare = text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'"));
                ServerOp::Err(bare.unwrap_or(text))
            }
            other => return Err(unknown(other)),
        };
        self.framing.done();
        Ok(Some((op, line.end)))
    }

    #[inline]
    fn message<'a>(
        &mut self,
        bytes: &'a [u8],
        line: Line<'a>,
        arguments: &'a [u8],
        with_headers: bool,
    ) -> Result<Option<(ServerOp<'a>, usize)>, ProtocolError> {
        let verb = if with_headers { "HMSG" } else { "MSG" };
        let fail = |problem| malformed(verb, problem, line.text);
        let count = || fail(ARGUMENT_COUNT);
        let (subject, sid, reply, header_digits, total_digits) = if with_headers {
            let (subject, sid, third, fourth, fifth) = message_arguments(arguments).ok_or_else(count)?;
            match (fourth, fifth) {
                (Some(fourth), Some(fifth)) => (subject, sid, third, fourth, fifth),
                (Some(fourth), None) => (subject, sid, &[][..], third, fourth),
                (None, _) => return Err(count()),
            }
        } else {
            let (subject, sid, third, fourth) = header_arguments(arguments).ok_or_else(count)?;
            match fourth {
                Some(fourth) => (subject, sid, third, &b"0"[..], fourth),
                None => (subject, sid, &[][..], &b"0"[..], third),
            }
        };
        let header_size = size(header_digits).ok_or_else(|| fail("bad header size"))?;
        let total = size(total_digits).ok_or_else(|| fail(BAD_SIZE))?;
        if header_size > total {
            return Err(fail("header size beyond the total"));
        }
        let Some(frame) = self.framing.payload(bytes, line, total)? else { return Ok(None) };
        let (headers, payload) = frame.payload.split_at_checked(header_size).ok_or_else(|| fail(BAD_SIZE))?;
        Ok(Some((ServerOp::Msg(Message { subject, sid, reply, headers, payload }), frame.end)))
    }
}

/// Finds the ends of control lines and payloads.
#[derive(Debug, Clone)]
struct Framing {
    state: State,
    max_control_line: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The line end is not among the first `scanned` bytes.
    Line { scanned: usize },
    /// The whole operation has `frame` bytes; its line has been found good.
    Payload { frame: usize },
}

/// A control line.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    /// Without the line end.
    text: &'a [u8],
    /// Where the next thing begins.
    end: usize,
}

/// A payload behind its control line, headers included.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    payload: &'a [u8],
    end: usize,
}

impl Framing {
    fn new(max_control_line: usize) -> Framing {
        Framing { state: State::Line { scanned: 0 }, max_control_line }
    }

    fn needed(&self) -> Option<usize> {
        match self.state {
            State::Line { .. } => None,
            State::Payload { frame } => Some(frame),
        }
    }

    fn done(&mut self) {
        self.state = State::Line { scanned: 0 };
    }

    /// The control line at the start of `bytes`, when it is worth reading: whole, and its payload not known to be unfinished.
    #[inline]
    fn line<'a>(&mut self, bytes: &'a [u8], verbs: &[Verb]) -> Result<Option<Line<'a>>, ProtocolError> {
        let scanned = match self.state {
            State::Line { scanned } => scanned,
            State::Payload { frame } if bytes.len() < frame => {
                check_terminator_begun(bytes, frame)?;
                return Ok(None);
            }
            State::Payload { .. } => 0,
        };
        let unseen = bytes.get(scanned..).unwrap_or_default();
        let Some(at) = memchr(b'\n', unseen) else {
            self.incomplete(bytes, verbs)?;
            self.state = State::Line { scanned: bytes.len() };
            return Ok(None);
        };
        let at = scanned.saturating_add(at);
        let text = bytes.get(..at).unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok(Some(Line { text, end: at.saturating_add(1) }))
    }

    /// Judges a line whose end has not come: a byte that no verb has, and a line that is too long already, are errors now.
    #[cold]
    fn incomplete(&self, bytes: &[u8], verbs: &[Verb]) -> Result<(), ProtocolError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(verb) = verbs.iter().find(|verb| verb.fits(bytes)) else { return Err(unknown(bytes)) };
        // The CR may be the first half of the line end.
        let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        self.check(line.get(verb.text.len()..).unwrap_or_default())
    }

    /// Checks the arguments' length against the limit. Blanks in front do not count, but as the caller has to keep them until
    /// the line is whole, there may be no more of them than the limit.
    #[inline]
    fn check(&self, arguments: &[u8]) -> Result<(), ProtocolError> {
        let limit = self.max_control_line;
        if arguments.len() <= limit {
            return Ok(());
        }
        let trimmed = trim_start(arguments).len();
        if trimmed > limit || arguments.len().saturating_sub(trimmed) > limit {
            return Err(ProtocolError::ControlLineTooLong { limit });
        }
        Ok(())
    }

    /// The `size` bytes behind `line`, and the end of the operation; `None` when they have not all come.
    #[inline]
    fn payload<'a>(
        &mut self,
        bytes: &'a [u8],
        line: Line<'_>,
        size: usize,
    ) -> Result<Option<Frame<'a>>, ProtocolError> {
        let end = line.end.saturating_add(size).saturating_add(2);
        let Some((payload, terminator)) =
            bytes.get(line.end..end).and_then(|bytes| bytes.split_at_checked(size))
        else {
            self.state = State::Payload { frame: end };
            check_terminator_begun(bytes, end)?;
            return Ok(None);
        };
        if terminator != b"\r\n" {
            return Err(unknown(terminator));
        }
        self.done();
        Ok(Some(Frame { payload, end }))
    }
}

/// Of an operation of `frame` bytes all but the last has come at most: if that is the CR, it has to be one.
fn check_terminator_begun(bytes: &[u8], frame: usize) -> Result<(), ProtocolError> {
    match bytes.split_last() {
        Some((last, before)) if before.len().saturating_add(2) == frame && *last != b'\r' => {
            Err(unknown(&[*last]))
        }
        Some(_) | None => Ok(()),
    }
}

/// A verb as the head of an unfinished line.
struct Verb {
    text: &'static [u8],
    /// Whether a blank has to follow.
    blank: bool,
}

impl Verb {
    const fn bare(text: &'static [u8]) -> Verb {
        Verb { text, blank: false }
    }

    const fn with_blank(text: &'static [u8]) -> Verb {
        Verb { text, blank: true }
    }

    fn fits(&self, line: &[u8]) -> bool {
        match line.split_at_checked(self.text.len()) {
            None => self.text.get(..line.len()).is_some_and(|head| head.eq_ignore_ascii_case(line)),
            Some((head, rest)) => {
                head.eq_ignore_ascii_case(self.text)
                    && (!self.blank || matches!(rest.first(), None | Some(b' ' | b'\t')))
            }
        }
    }
}

const CLIENT_VERBS: &[Verb] = &[
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

const SERVER_VERBS: &[Verb] = &[
    Verb::with_blank(b"MSG"),
    Verb::with_blank(b"HMSG"),
    Verb::bare(b"PING"),
    Verb::bare(b"PONG"),
    Verb::bare(b"INFO"),
    Verb::bare(b"+OK"),
    Verb::with_blank(b"-ERR"),
];

const ARGUMENT_COUNT: &str = "wrong number of arguments";
const BAD_SIZE: &str = "bad size";

#[inline]
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// An argument and the blanks in front of it.
#[inline]
fn argument(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    preceded(take_while(is_blank), take_while1(|byte| !is_blank(byte))).parse(input)
}

/// A CR separates too, as it does for nats-server in SUB and UNSUB.
fn is_loose_blank(byte: u8) -> bool {
    is_blank(byte) || byte == b'\r'
}

fn loose_argument(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    preceded(take_while(is_loose_blank), take_while1(|byte| !is_loose_blank(byte))).parse(input)
}

/// Exactly these arguments, then blanks at most.
#[inline]
fn whole<'a, T>(
    arguments: impl Parser<&'a [u8], Output = T, Error = ()>,
    blank: fn(u8) -> bool,
    input: &'a [u8],
) -> Option<T> {
    all_consuming(terminated(arguments, take_while(blank))).parse(input).ok().map(|(_, arguments)| arguments)
}

type Bytes2or3<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);
type Bytes3or4<'a> = (&'a [u8], &'a [u8], &'a [u8], Option<&'a [u8]>);
type Bytes3to5<'a> = (&'a [u8], &'a [u8], &'a [u8], Option<&'a [u8]>, Option<&'a [u8]>);

/// `<subject> [reply] <size>` with one space between the arguments and none around them, which has to be told from every
/// other spelling here, not judged: what is not of this form gets `None` and goes the general way.
#[inline]
fn canonical_publish(input: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let digits = input.iter().rev().take(MAX_SIZE_DIGITS).take_while(|byte| byte.is_ascii_digit()).count();
    let (rest, last) = input.split_at_checked(input.len().checked_sub(digits)?)?;
    let rest = rest.strip_suffix(b" ")?;
    let size = size(last)?;
    match memchr2(b' ', b'\t', rest) {
        None if rest.is_empty() => None,
        None => Some((rest, &[], size)),
        Some(at) => {
            let (subject, reply) = rest.split_at_checked(at)?;
            let reply = reply.strip_prefix(b" ")?;
            let is_one_token = !reply.is_empty() && memchr2(b' ', b'\t', reply).is_none();
            (is_one_token && !subject.is_empty()).then_some((subject, reply, size))
        }
    }
}

/// `<subject> [reply] <size>`
#[inline]
fn publish_arguments(input: &[u8]) -> Option<Bytes2or3<'_>> {
    whole((argument, argument, opt(argument)), is_blank, input)
}

/// `<subject> [reply] <header size> <size>`, and `<subject> <sid> [reply] <size>`
fn header_arguments(input: &[u8]) -> Option<Bytes3or4<'_>> {
    whole((argument, argument, argument, opt(argument)), is_blank, input)
}

/// `<subject> <sid> [reply] <header size> <size>`
fn message_arguments(input: &[u8]) -> Option<Bytes3to5<'_>> {
    whole((argument, argument, argument, opt(argument), opt(argument)), is_blank, input)
}

/// `<subject> [queue] <sid>`
fn subscribe(input: &[u8]) -> Option<Subscribe<'_>> {
    let (subject, second, third) =
        whole((loose_argument, loose_argument, opt(loose_argument)), is_loose_blank, input)?;
    Some(match third {
        Some(sid) => Subscribe { subject, queue: second, sid },
        None => Subscribe { subject, queue: &[], sid: second },
    })
}

/// `<sid> [max]`
fn unsubscribe(input: &[u8]) -> Option<Unsubscribe<'_>> {
    let (sid, max) = whole((loose_argument, opt(loose_argument)), is_loose_blank, input)?;
    let max = max.and_then(size).filter(|max| *max > 0);
    Some(Unsubscribe { sid, max: max.map(|max| max as u64) })
}

/// One to nine decimal digits.
#[inline]
fn size(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > MAX_SIZE_DIGITS {
        return None;
    }
    // Nine digits fit into an u32.
    let mut value: u32 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u32::from(digit));
    }
    usize::try_from(value).ok()
}

#[cold]
fn unknown(bytes: &[u8]) -> ProtocolError {
    ProtocolError::UnknownOperation { snippet: snippet(bytes) }
}

#[cold]
fn malformed(verb: &'static str, problem: &'static str, line: &[u8]) -> ProtocolError {
    ProtocolError::Malformed { verb, problem, line: snippet(line) }
}

fn snippet(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..SNIPPET).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The short way and the general way read the same, and the short way reads every canonical line.
        #[test]
        fn the_short_way_agrees_with_the_general_one(input in proptest::collection::vec(
            prop_oneof![3 => Just(b'1'), 2 => Just(b' '), 1 => Just(b'\t'), 2 => Just(b'a'), 1 => any::<u8>()], 0..16)) {
            let general = publish_arguments(&input).and_then(|(subject, second, third)| {
                let (reply, last) = third.map_or((&[][..], second), |third| (second, third));
                Some((subject, reply, size(last)?))
            });
            let canonical = general.is_some_and(|_| {
                input.split(|&b| b == b' ').all(|part| !part.is_empty()) && !input.contains(&b'\t')
            });
            prop_assert_eq!(canonical_publish(&input), general.filter(|_| canonical));
        }
    }
}
