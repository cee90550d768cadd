//! JetStream as deterministic state machines, and the driver that owns them.

mod api;
pub mod consumer;
mod context;
pub mod driver;
pub mod engine;
pub mod input;
pub mod interest;
pub mod output;
pub mod stream;

pub use context::EngineConfig;
pub use engine::Engine;
pub use input::{Input, Tag};
pub use output::{Failure, Held, Message, Outputs, SubscriptionChange};

/// The JetStream API level that is announced: everything that this level and those below ask for works.
pub const API_LEVEL: u32 = 0;
