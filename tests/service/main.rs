//! The services as a user meets them: monitor, buffers, devices and recordings of the built binary, over HTTP and NATS.
//!
//! async-nats is the independent judge. What is said about fields and texts here is the contract of `docs/http-api.md`
//! and of the controller.

#![allow(clippy::disallowed_methods, reason = "tests of a running process live in real time")]

#[path = "../support/mod.rs"]
mod support;

mod buffer;
mod device;
mod fixture;
mod monitor;
mod recording;
