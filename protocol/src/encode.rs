//! Operations in, bytes out, in both directions: the canonical form, one space between arguments and CRLF at the end.
//!
//! Everything is appended to a buffer that the caller owns; nothing is validated, for what a server sends is what its state holds
//! and what a client sends its caller has checked. A delivery whose payload is appended elsewhere (large payloads are not
//! copied) uses [`message_head`] and [`CRLF`]; one of a canonical publish uses [`delivery`].

use bytes::BufMut;

use crate::op::{ClientOp, Message, Publish, ServerOp, Subscribe, Unsubscribe};

/// The end of a line and of a payload.
pub const CRLF: &[u8] = b"\r\n";
/// `PING`
pub const PING: &[u8] = b"PING\r\n";
/// `PONG`
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK`
pub const OK: &[u8] = b"+OK\r\n";

/// A number in decimal.
#[inline]
pub fn decimal(out: &mut impl BufMut, value: u64) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[inline]
fn size(out: &mut impl BufMut, length: usize) {
    decimal(out, length as u64);
}

/// `INFO {json} \r\n`, with a server's space before the line end.
pub fn info(out: &mut impl BufMut, json: &[u8]) {
    out.put_slice(b"INFO ");
    out.put_slice(json);
    out.put_slice(b" \r\n");
}

/// `-ERR 'text'`
pub fn err(out: &mut impl BufMut, text: &str) {
    out.put_slice(b"-ERR '");
    out.put_slice(text.as_bytes());
    out.put_slice(b"'\r\n");
}

/// The control line of a `MSG`, or of an `HMSG` when `headers` has a length, without what follows it.
#[inline]
pub fn message_head(
    out: &mut impl BufMut,
    subject: &[u8],
    sid: &[u8],
    reply: &[u8],
    headers: usize,
    payload: usize,
) {
    out.put_slice(if headers == 0 { b"MSG ".as_slice() } else { b"HMSG ".as_slice() });
    out.put_slice(subject);
    out.put_u8(b' ');
    out.put_slice(sid);
    out.put_u8(b' ');
    arguments_end(out, reply, headers, payload);
}

/// `[reply] [header size] <size>\r\n`, shared by the two directions.
#[inline]
fn arguments_end(out: &mut impl BufMut, reply: &[u8], headers: usize, payload: usize) {
    if !reply.is_empty() {
        out.put_slice(reply);
        out.put_u8(b' ');
    }
    if headers != 0 {
        size(out, headers);
        out.put_u8(b' ');
    }
    size(out, headers + payload);
    out.put_slice(CRLF);
}

/// A `MSG`, or an `HMSG` when there are headers.
#[inline]
pub fn message(out: &mut impl BufMut, message: &Message<'_>) {
    let Message { subject, sid, reply, headers, payload } = *message;
    message_head(out, subject, sid, reply, headers.len(), payload.len());
    out.put_slice(headers);
    out.put_slice(payload);
    out.put_slice(CRLF);
}

/// The delivery of a publish whose [`Publish::tail`] is not empty: two copies.
#[inline]
pub fn delivery(out: &mut impl BufMut, subject: &[u8], sid: &[u8], tail: &[u8], with_headers: bool) {
    out.put_slice(if with_headers { b"HMSG ".as_slice() } else { b"MSG ".as_slice() });
    out.put_slice(subject);
    out.put_u8(b' ');
    out.put_slice(sid);
    out.put_u8(b' ');
    out.put_slice(tail);
}

/// What a requester without responders is told: a 503 that names the subject it asked.
pub fn no_responders(out: &mut impl BufMut, reply: &[u8], sid: &[u8], subject: &[u8]) {
    const HEAD: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    const END: &[u8] = b"\r\n\r\n";
    message_head(out, reply, sid, b"", HEAD.len() + subject.len() + END.len(), 0);
    out.put_slice(HEAD);
    out.put_slice(subject);
    out.put_slice(END);
    out.put_slice(CRLF);
}

/// `CONNECT {json}`
pub fn connect(out: &mut impl BufMut, json: &[u8]) {
    out.put_slice(b"CONNECT ");
    out.put_slice(json);
    out.put_slice(CRLF);
}

/// The control line of a `PUB`, or of an `HPUB` when `headers` has a length, without what follows it.
pub fn publish_head(out: &mut impl BufMut, subject: &[u8], reply: &[u8], headers: usize, payload: usize) {
    out.put_slice(if headers == 0 { b"PUB ".as_slice() } else { b"HPUB ".as_slice() });
    out.put_slice(subject);
    out.put_u8(b' ');
    arguments_end(out, reply, headers, payload);
}

/// A `PUB`, or an `HPUB` when there are headers.
pub fn publish(out: &mut impl BufMut, subject: &[u8], reply: &[u8], headers: &[u8], payload: &[u8]) {
    publish_head(out, subject, reply, headers.len(), payload.len());
    out.put_slice(headers);
    out.put_slice(payload);
    out.put_slice(CRLF);
}

/// A `SUB`; no queue group when `queue` is empty.
pub fn subscribe(out: &mut impl BufMut, subject: &[u8], queue: &[u8], sid: &[u8]) {
    out.put_slice(b"SUB ");
    out.put_slice(subject);
    out.put_u8(b' ');
    if !queue.is_empty() {
        out.put_slice(queue);
        out.put_u8(b' ');
    }
    out.put_slice(sid);
    out.put_slice(CRLF);
}

/// An `UNSUB`, now or after `max` deliveries in total.
pub fn unsubscribe(out: &mut impl BufMut, sid: &[u8], max: Option<u64>) {
    out.put_slice(b"UNSUB ");
    out.put_slice(sid);
    if let Some(max) = max {
        out.put_u8(b' ');
        decimal(out, max);
    }
    out.put_slice(CRLF);
}

impl ClientOp<'_> {
    /// Appends the canonical form.
    pub fn encode(&self, out: &mut impl BufMut) {
        match *self {
            ClientOp::Connect(json) => connect(out, json),
            ClientOp::Pub(Publish { subject, reply, headers, payload, tail: _ }) => {
                publish(out, subject, reply, headers, payload);
            }
            ClientOp::Sub(Subscribe { subject, queue, sid }) => subscribe(out, subject, queue, sid),
            ClientOp::Unsub(Unsubscribe { sid, max }) => unsubscribe(out, sid, max),
            ClientOp::Ping => out.put_slice(PING),
            ClientOp::Pong => out.put_slice(PONG),
            ClientOp::Info(json) => info(out, json),
            ClientOp::Ok => out.put_slice(OK),
            ClientOp::Err(text) => {
                out.put_slice(b"-ERR ");
                out.put_slice(text);
                out.put_slice(CRLF);
            }
        }
    }
}

impl ServerOp<'_> {
    /// Appends the canonical form.
    pub fn encode(&self, out: &mut impl BufMut) {
        match *self {
            ServerOp::Info(json) => info(out, json),
            ServerOp::Msg(ref msg) => message(out, msg),
            ServerOp::Ping => out.put_slice(PING),
            ServerOp::Pong => out.put_slice(PONG),
            ServerOp::Ok => out.put_slice(OK),
            ServerOp::Err(text) => {
                out.put_slice(b"-ERR '");
                out.put_slice(text);
                out.put_slice(b"'\r\n");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_responders_counts_its_headers() {
        let mut out = Vec::new();
        no_responders(&mut out, b"_INBOX.1", b"7", b"foo");
        let expected = "HMSG _INBOX.1 7 35 35\r\nNATS/1.0 503\r\nNats-Subject: foo\r\n\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn numbers() {
        for value in [0, 1, 9, 10, 99, 100, 65_536, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn a_client_s_operations() {
        let written = |op: ClientOp<'_>| {
            let mut out = Vec::new();
            op.encode(&mut out);
            String::from_utf8(out).unwrap()
        };
        let publish = Publish { subject: b"a", reply: b"", headers: b"", payload: b"hello", tail: b"" };
        assert_eq!(written(ClientOp::Pub(publish)), "PUB a 5\r\nhello\r\n");
        assert_eq!(written(ClientOp::Pub(Publish { reply: b"r", ..publish })), "PUB a r 5\r\nhello\r\n");
        let headers = b"NATS/1.0\r\n\r\n";
        assert_eq!(
            written(ClientOp::Pub(Publish { reply: b"r", headers, ..publish })),
            "HPUB a r 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"
        );
        assert_eq!(
            written(ClientOp::Sub(Subscribe { subject: b"a.>", queue: b"", sid: b"1" })),
            "SUB a.> 1\r\n"
        );
        assert_eq!(
            written(ClientOp::Sub(Subscribe { subject: b"a", queue: b"q", sid: b"1" })),
            "SUB a q 1\r\n"
        );
        assert_eq!(written(ClientOp::Unsub(Unsubscribe { sid: b"1", max: None })), "UNSUB 1\r\n");
        assert_eq!(written(ClientOp::Unsub(Unsubscribe { sid: b"1", max: Some(5) })), "UNSUB 1 5\r\n");
        assert_eq!(written(ClientOp::Connect(b"{}")), "CONNECT {}\r\n");
        assert_eq!(written(ClientOp::Err(b"'x'")), "-ERR 'x'\r\n");
    }

    #[test]
    fn a_server_s_operations() {
        let written = |op: ServerOp<'_>| {
            let mut out = Vec::new();
            op.encode(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(ServerOp::Info(b"{}")), "INFO {} \r\n");
        assert_eq!(written(ServerOp::Err(b"Stale Connection")), "-ERR 'Stale Connection'\r\n");
        let message = Message { subject: b"a", sid: b"9", reply: b"", headers: b"", payload: b"hi" };
        assert_eq!(written(ServerOp::Msg(message)), "MSG a 9 2\r\nhi\r\n");
        assert_eq!(written(ServerOp::Msg(Message { reply: b"r", ..message })), "MSG a 9 r 2\r\nhi\r\n");
        assert_eq!(
            written(ServerOp::Msg(Message { headers: b"NATS/1.0\r\n\r\n", ..message })),
            "HMSG a 9 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
        );
    }
}
