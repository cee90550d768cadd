//! The commands of `weir` as typed in a shell: data, recordings, replay, and the life of the server around them.

#![allow(clippy::disallowed_methods, reason = "tests of a running process live in real time")]

#[path = "../support/mod.rs"]
mod support;

mod data;
mod device;
mod names;
mod record;
mod refusals;
mod replay;
mod serve;
