//! Weir: a NATS broker for edge devices with monitor, buffer, recordings and replay built in.
//!
//! Arrows run one way: `cli -> service -> client -> protocol` and `cli -> server -> jetstream, broker -> protocol,
//! storage`. A service never imports the server: it is handed a connection and cannot tell a pipe from TCP.

pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod jetstream;
pub mod server;
pub mod service;
pub mod sys;
