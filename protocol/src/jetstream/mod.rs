//! What the JetStream API says: configurations, requests, responses, and the errors it can answer with.
//!
//! Types only; what the server does with them is decided elsewhere.

pub mod error;
pub mod json;

pub use error::{ApiError, ErrorCode};
pub use json::Timestamp;
