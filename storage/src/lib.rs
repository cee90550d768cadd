//! Durable records: a journal in front of redb. Knows no NATS, no tokio, no clock.
//!
//! A [`Store`] holds numbered *logs*; a log is an ordered sequence of records, each with a subject, headers and a
//! payload, and a small map of attributes. One owner calls the store; two worker threads do what waits for the disk:
//! the journal writer (append and sync, one group at a time) and the mover (from the journal into redb).
//!
//! Modules use those below them: `store` > `index`, `worker`, `recover` > `home`, `journal` > `batch`, `tail` >
//! `reserve`, `totals`, `record`, `segments` > `log`, `error`, `disk`.

pub mod disk;
pub mod error;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod log;
pub mod simulated;
pub mod store;

mod batch;
mod field;
mod home;
mod index;
mod journal;
mod record;
mod recover;
mod reserve;
mod runs;
mod segments;
mod subjects;
mod tail;
mod totals;
mod worker;

pub use disk::Folder;
pub use disk::{Disk, DiskFile};
pub use error::{Damage, OpenError, ReadError, StageError};
pub use home::shelf::catches_panics;
pub use log::{Cost, Layout, LogId, LogSpec, LogState, Medium, Next, Record, SubjectState};
pub use store::{Events, Matcher, Options, Removal, Store};
pub use worker::Release;
