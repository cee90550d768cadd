//! What is not deterministic, each in its one home: time, randomness, tasks, names and ports. Disk and connections have seams of
//! their own (`weir_storage::Disk`, and any `AsyncRead + AsyncWrite`).

pub mod clock;
pub mod net;
pub mod process;
pub mod random;
pub mod resolve;
pub mod task;
