//! What any NATS client sees of core NATS, JetStream and KV, row by row, through the independent client library.
//!
//! `WEIR_TEST_SERVER=/path/to/nats-server cargo test --test compat` runs the same tests against nats-server, which
//! keeps the expectations honest. The few tests about Weir alone say so in their first line.

#![allow(clippy::disallowed_methods, reason = "tests of a running process live in real time")]

#[path = "../support/mod.rs"]
mod support;

mod consumer;
mod kv;
mod publish;
mod read;
mod server;
mod source;
mod stream;
