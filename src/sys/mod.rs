//! What is not deterministic, each in its one home: time, randomness, tasks, panics, names, ports and how HTTP is served on them.
//! Disk and connections have seams of their own (`weir_storage::Disk`, and any `AsyncRead + AsyncWrite`).

pub mod clock;
pub mod http;
pub mod net;
pub mod panic;
pub mod process;
pub mod random;
pub mod resolve;
pub mod task;
