//! Monitor, buffer, recordings and replay: clients of the NATS protocol.
//!
//! Everything here talks to a server through [`crate::client`] alone, so it works the same over the in-process pipe and
//! against any NATS server with JetStream (2.12 or newer).

pub mod command;
pub mod device;
pub mod id;
pub mod names;
pub mod replay;
pub mod session;
pub mod span;
pub mod table;
