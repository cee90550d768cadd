//! JetStream as deterministic state machines, and the driver that owns them.

pub mod consumer;
pub mod input;
pub mod output;

pub use input::{Input, Tag};
pub use output::{Hearing, Message, Outputs};
