//! JetStream as deterministic state machines, and the driver that owns them.

mod api;
pub mod consumer;
pub mod engine;
mod hosting;
pub mod input;
mod origin;
pub mod output;
pub mod stream;

pub use engine::{Engine, EngineConfig};
pub use input::{Input, Tag};
pub use output::{Failure, Hearing, Held, Message, Outputs};
