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

mod arguments;
mod client;
mod framing;
mod server;
mod template;

pub use client::{ClientDecoder, MAX_CONTROL_LINE, MAX_PAYLOAD};
pub use server::ServerDecoder;
pub use template::Template;

use crate::error::ProtocolError;

/// How much of a bad line an error quotes.
const SNIPPET: usize = 64;

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
