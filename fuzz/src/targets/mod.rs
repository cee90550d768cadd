//! What is given hostile bytes, one file each. The codecs of the store are private to it: their bodies are `weir_storage::fuzz`.

pub mod api;
pub mod decode;
pub mod events;
pub mod journal;
pub mod rows;
pub mod session;
mod store;
