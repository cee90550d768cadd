//! The services as a library, against a server process: with their own names, so that they do not meet the services of a
//! `weir serve`, and in pairs, so that one can be killed and the other goes on.
//!
//! `WEIR_TEST_SERVER=/path/to/nats-server cargo test --test standalone` runs the same tests against nats-server: that is how the
//! services work for whoever scales out on NATS itself.

#![allow(clippy::disallowed_methods, reason = "tests of a running process live in real time")]
#![allow(clippy::unwrap_used, reason = "a helper that cannot go on ends the test")]

#[path = "../support/mod.rs"]
mod support;

mod buffer;
mod controller;
mod crash;
mod fixture;
mod monitor;
mod recording;
