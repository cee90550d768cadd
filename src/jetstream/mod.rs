//! JetStream as deterministic state machines, and the driver that owns them.

pub mod output;

pub use output::{Message, Outputs};
