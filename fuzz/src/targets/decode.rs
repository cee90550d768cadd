//! The decoders of the client protocol: however the bytes are cut, the same comes out, and never more is kept than the limits allow.
//!
//! The first byte says where the cuts are, the rest is what a client, or a server, sends.

use bytes::Bytes;
use weir_protocol::connect::ConnectOptions;
use weir_protocol::decode::{ClientDecoder, ServerDecoder};
use weir_protocol::error::ProtocolError;
use weir_protocol::header::{self, Headers};
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

/// What bytes come to: the operations, and how many bytes wait or what was wrong.
type Outcome = (Vec<String>, Result<usize, String>);

/// Shows the bytes to a decoder, `step` more each time. `decode` finds the first operation, as text, and how long it is.
fn run(
    bytes: &[u8],
    step: usize,
    mut decode: impl FnMut(&[u8]) -> Result<Option<(String, usize)>, ProtocolError>,
) -> Outcome {
    let (mut ops, mut at, mut shown) = (Vec::new(), 0, 0);
    while shown < bytes.len() {
        shown = bytes.len().min(shown + step);
        loop {
            match decode(&bytes[at..shown]) {
                Ok(Some((op, taken))) => {
                    assert!(taken > 0 && at + taken <= shown, "{taken} of {} bytes were taken", shown - at);
                    ops.push(op);
                    at += taken;
                }
                Ok(None) => break,
                Err(error) => return (ops, Err(end(&error))),
            }
        }
    }
    (ops, Ok(bytes.len() - at))
}

/// What the other side is told, and what the log says of the end; how much of a bad line the log quotes depends on what had come.
fn end(error: &ProtocolError) -> String {
    assert!(error.to_string().len() < 1024, "the log line is short");
    format!("{:?} {:?}", error.wire_text(), error.closes())
}

fn client(bytes: &[u8], step: usize) -> Outcome {
    let mut decoder = ClientDecoder::new(CONTROL_LINE, Some(PAYLOAD));
    decoder.set_headers(true);
    run(bytes, step, |shown| {
        let Some((op, taken)) = decoder.decode(shown)? else {
            match decoder.needed() {
                Some(needed) => {
                    assert!(needed <= PAYLOAD + 2 * CONTROL_LINE + AROUND, "{needed} bytes are asked for");
                }
                // A line may be read to its limit before it is judged.
                None => {
                    assert!(shown.len() <= 2 * CONTROL_LINE + AROUND + step, "{} bytes are kept", shown.len())
                }
            }
            return Ok(None);
        };
        read(&op);
        Ok(Some((format!("{op:?}"), taken)))
    })
}

/// What a server reads of an operation beyond its frame.
fn read(op: &ClientOp<'_>) {
    match op {
        ClientOp::Pub(publish) => {
            assert!(publish.headers.len() + publish.payload.len() <= PAYLOAD, "the limit of the payload");
            let _ = subject::is_valid_subject(publish.subject);
            let _ = subject::matches(publish.subject, b"a.*.>");
            headers(publish.headers);
        }
        ClientOp::Sub(subscribe) => {
            let filter = subscribe.subject;
            if subject::is_valid_filter(filter) {
                assert!(subject::is_subset(filter, filter) && subject::collide(filter, filter));
                assert!(subject::is_subset(filter, b">"), "everything is below >");
            }
        }
        ClientOp::Connect(json) => {
            let _ = ConnectOptions::default().merge_json(json);
        }
        ClientOp::Unsub(_)
        | ClientOp::Ping
        | ClientOp::Pong
        | ClientOp::Info(_)
        | ClientOp::Ok
        | ClientOp::Err(_) => {}
    }
}

/// A block of headers: what is read of it by name and as a whole, and what is cut out of it.
fn headers(block: &[u8]) {
    let _ = (header::status(block), header::is_valid(block));
    for (name, _) in header::iter(block) {
        assert_eq!(
            header::get(&header::remove(block, name), name),
            None,
            "{:?} is removed",
            name.escape_ascii()
        );
    }
    if block.is_empty() || header::is_valid(block) {
        let set = header::set(block, "Nats-Set", "value");
        assert_eq!(header::get_str(&set, "Nats-Set"), Some("value"));
    }
    if let Ok(headers) = Headers::parse(&block.to_vec().into()) {
        // A bare CR or LF in a value is written as a blank, which at the ends of the value is not read again. After that
        // the block stays as it is.
        let read = |block: &Bytes| Headers::parse(block).expect("what was written is read");
        let once = read(&headers.to_block());
        let twice = read(&once.to_block());
        assert_eq!((twice.to_block(), twice.len()), (once.to_block(), headers.len()));
    }
}

/// The same for a server's bytes; Weir's client trusts a server with the size of its messages.
fn server(bytes: &[u8], step: usize) -> Outcome {
    let mut decoder = ServerDecoder::new();
    run(bytes, step, |shown| {
        let Some((op, taken)) = decoder.decode(shown)? else { return Ok(None) };
        if let ServerOp::Info(json) = &op {
            let _ = ServerInfo::from_json(json);
        }
        Ok(Some((format!("{op:?}"), taken)))
    })
}
