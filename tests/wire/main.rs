//! The NATS client protocol, as transcripts: what is sent and what comes back, byte for byte.
//!
//! Each runs over TCP and over the in-process pipe. With `WEIR_NATS_SERVER=/path/to/nats-server` each runs against that
//! too: where it says what Weir says, the transcript is right.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on ends the test")]

mod errors;
mod headers;
mod lame_duck;
mod limits;
mod monitor;
mod peer;
mod publish;
mod queue;
mod session;
mod slow;
mod time;
