//! The NATS protocol without IO: what travels between a client and a server, in both directions.
//!
//! Nothing here reads a clock, opens a socket or knows tokio; bytes go in, values come out, and back.

pub mod connect;
pub mod decode;
pub mod duration;
pub mod encode;
pub mod error;
pub mod header;
pub mod info;
pub mod jetstream;
pub mod op;
pub mod subject;
pub mod time;
pub mod transform;
