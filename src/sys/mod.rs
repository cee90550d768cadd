//! What is not deterministic, each in its one home: time, randomness, tasks. Disk and network have their own seams
//! (`weir_storage::Disk`, and any `AsyncRead + AsyncWrite`).

pub mod clock;
pub mod process;
pub mod random;
pub mod task;
