//! Our own client against a server process: what the services and the commands stand on.
//!
//! `WEIR_TEST_SERVER=/path/to/nats-server cargo test --test client` runs the same tests against nats-server.

#![allow(clippy::disallowed_methods, reason = "tests of a running process live in real time")]
#![allow(clippy::unwrap_used, reason = "a helper that cannot go on ends the test")]

#[path = "../support/mod.rs"]
mod support;

mod core;
mod jetstream;
mod kv;
