//! Durable records: a journal in front of redb. Knows no NATS, no tokio, no clock.
//!
//! A [`Store`] holds numbered *logs*; a log is an ordered sequence of records, each with a subject, headers and a
//! payload, and a small map of attributes. One owner calls the store; two worker threads do what waits for the disk:
//! the journal writer (append and sync, one group at a time) and the mover (from the journal into redb).

pub mod disk;
pub mod log;
pub mod simulated;
pub mod store;

mod batch;
mod failure;
mod home;
mod index;
mod journal;
mod read;
mod record;
mod recover;
mod runs;
mod segments;
mod subjects;
mod tail;
mod worker;

pub use disk::Folder;
pub use disk::{Disk, DiskFile};
pub use log::{Cost, Layout, LogId, LogSpec, LogState, Medium, Next, Record, SubjectState};
pub use store::{Damage, Events, Matcher, OpenError, Options, ReadError, Release, StageError, Store};
