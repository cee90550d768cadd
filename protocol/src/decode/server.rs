//! What a server sends. A server is trusted with the size of its messages, not with the length of its lines.

use super::arguments::{ARGUMENT_COUNT, BAD_SIZE, header_arguments, message_arguments, sizes};
use super::framing::{Framing, Line, Verb};
use super::{malformed, unknown};
use crate::error::ProtocolError;
use crate::op::{Message, ServerOp};

/// The longest line a client takes from a server: an INFO with the addresses of a large cluster is long.
const MAX_SERVER_LINE: usize = 1024 * 1024;
const VERBS: &[Verb] = &[
    Verb::with_blank(b"MSG"),
    Verb::with_blank(b"HMSG"),
    Verb::bare(b"PING"),
    Verb::bare(b"PONG"),
    Verb::bare(b"INFO"),
    Verb::bare(b"+OK"),
    Verb::with_blank(b"-ERR"),
];

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
        let Some(line) = self.framing.line(bytes, VERBS)? else { return Ok(None) };
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
        let (header_size, total) = sizes(header_digits, total_digits).map_err(fail)?;
        let Some(frame) = self.framing.payload(bytes, line, total)? else { return Ok(None) };
        let (headers, payload) = frame.payload.split_at_checked(header_size).ok_or_else(|| fail(BAD_SIZE))?;
        Ok(Some((ServerOp::Msg(Message { subject, sid, reply, headers, payload }), frame.end)))
    }
}
