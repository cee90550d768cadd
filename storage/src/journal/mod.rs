//! The journal: files that are written once from front to back, one group at a time, and then used again.

pub(crate) mod format;
pub(crate) mod replay;
pub(crate) mod writer;
