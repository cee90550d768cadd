//! Monitor, buffer, recordings and replay: clients of the NATS protocol.
pub mod replay;
