//! Weir: a NATS broker for edge devices with monitor, buffer, recordings and replay built in.
//!
//! `ARCHITECTURE.md` says what each part may import, and follows messages through them.

pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod jetstream;
pub mod server;
pub mod service;
pub mod sys;
