//! Crashes of the real process: SIGKILL, then a start on what it left.
//!
//! `states.rs` kills a server in each state of a recording. Two campaigns kill it at random instants, some rounds in every
//! run of the tests and as many as wanted by command (`campaign.rs`): `kill.rs` everything that is answered, under load of many
//! kinds; `sessions.rs` recordings against what their publishers know.

#![allow(clippy::disallowed_methods, reason = "tests of a running process live in real time")]

mod campaign;
mod kill;
mod raw;
mod sessions;
mod states;
#[path = "../support/mod.rs"]
mod support;
