//! Configuration: what was typed, and what is resolved from it. Only the resolved form enters the program.
//!
//! `words` turns the single-dash words of nats-server into the flags that clap knows, before clap sees them. A
//! configuration file is deliberately absent: half of NATS's syntax would be accepted and ignored.

pub mod resolve;
pub mod typed;
pub mod words;

pub use resolve::{Broker, ConfigError, Place, Serve};
pub use typed::ServeArgs;
