//! The decoders of the client protocol: however the bytes are cut, the same comes out, and never more is kept than the limits allow.
//!
//! The first byte says where the cuts are, the rest is what a client, or a server, sends.

use weir_protocol::connect::ConnectOptions;
use weir_protocol::decode::{ClientDecoder, ServerDecoder};
use weir_protocol::error::ProtocolError;
use weir_protocol::header::Headers;
use weir_protocol::info::ServerInfo;
use weir_protocol::op::{ClientOp, ServerOp};
use weir_protocol::subject;

const CONTROL_LINE: usize = 256;
const PAYLOAD: usize = 1024;
/// Verb, blanks and line end around the arguments.
const AROUND: usize = 16;

/// What means something in the protocol.
pub const WORDS: &[&str] = &[
    "PUB ",
    "HPUB ",
    "SUB ",
    "UNSUB ",
    "CONNECT {",
    "PING\r\n",
    "PONG\r\n",
    "INFO {}",
    "+OK\r\n",
    "-ERR ",
    "MSG ",
    "HMSG ",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    "NATS/1.0\r\n",
    "a.b",
    "a.*",
    ">",
    "*",
    "_INBOX.x",
    "$JS.API.INFO",
    "\"verbose\":true",
    "\"pedantic\":true",
    "\"headers\":true",
    "\"no_responders\":true",
    "\"echo\":false",
    "\"protocol\":1",
    "{}",
    "1024",
    "0",
    "q",
];

/// See the module.
pub fn body(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let step = 1 + usize::from(*cut);
    assert_eq!(client(bytes, bytes.len().max(1)), client(bytes, step), "a client's bytes, cut every {step}");
    assert_eq!(server(bytes, bytes.len().max(1)), server(bytes, step), "a server's bytes, cut every {step}");
}

/// What a client's bytes come to: the operations, and the bytes that wait or what was wrong.
fn client(bytes: &[u8], step: usize) -> (Vec<String>, Result<usize, String>) {
    let mut decoder = ClientDecoder::new(CONTROL_LINE, Some(PAYLOAD));
    decoder.set_headers(true);
    let (mut ops, mut at, mut shown) = (Vec::new(), 0, 0);
    while shown < bytes.len() {
        shown = bytes.len().min(shown + step);
        loop {
            let (op, taken) = match decoder.decode(&bytes[at..shown]) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => return (ops, Err(end(&error))),
            };
            assert!(taken > 0 && at + taken <= shown, "{taken} of {} bytes were taken", shown - at);
            if let ClientOp::Pub(publish) = &op {
                assert!(publish.headers.len() + publish.payload.len() <= PAYLOAD, "the limit of the payload");
                let _ = subject::is_valid_subject(publish.subject);
                let _ = subject::matches(publish.subject, b"a.*.>");
                let _ = Headers::parse(&publish.headers.to_vec().into());
            }
            if let ClientOp::Sub(subscribe) = &op {
                let _ = subject::is_valid_filter(subscribe.subject);
            }
            if let ClientOp::Connect(json) = &op {
                let _ = ConnectOptions::default().merge_json(json);
            }
            ops.push(format!("{op:?}"));
            at += taken;
        }
        match decoder.needed() {
            Some(needed) => {
                assert!(needed <= PAYLOAD + 2 * CONTROL_LINE + AROUND, "{needed} bytes are asked for")
            }
            // A line may be read to its limit before it is judged.
            None => assert!(shown - at <= 2 * CONTROL_LINE + AROUND + step, "{} bytes are kept", shown - at),
        }
    }
    (ops, Ok(bytes.len() - at))
}

/// What the other side is told, and what the log says of the end; how much of a bad line the log quotes depends on what had come.
fn end(error: &ProtocolError) -> String {
    assert!(error.to_string().len() < 1024, "the log line is short");
    format!("{:?} {:?}", error.wire_text(), error.closes())
}

/// The same for a server's bytes; Weir's client trusts a server with the size of its messages.
fn server(bytes: &[u8], step: usize) -> (Vec<String>, Result<usize, String>) {
    let mut decoder = ServerDecoder::new();
    let (mut ops, mut at, mut shown) = (Vec::new(), 0, 0);
    while shown < bytes.len() {
        shown = bytes.len().min(shown + step);
        loop {
            let (op, taken) = match decoder.decode(&bytes[at..shown]) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(error) => return (ops, Err(end(&error))),
            };
            assert!(taken > 0 && at + taken <= shown, "{taken} of {} bytes were taken", shown - at);
            if let ServerOp::Info(json) = &op {
                let _ = ServerInfo::from_json(json);
            }
            ops.push(format!("{op:?}"));
            at += taken;
        }
    }
    (ops, Ok(bytes.len() - at))
}
