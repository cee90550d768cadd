//! What all measurements share.

use std::time::Duration;

use tempfile::TempDir;

use crate::fault::Fault;
use crate::sample::Sample;
use crate::target::Target;

/// The conditions of a run.
pub(crate) struct Lab {
    /// Where everything that is written lies; it goes when this does.
    pub(crate) folder: TempDir,
    /// Length of a window.
    pub(crate) length: Duration,
    /// Files and sockets that this process may open.
    pub(crate) open_files: u64,
    /// Messages in the store of the row about starting.
    pub(crate) stored: u64,
}

/// Bytes on disk that are enough for a run, unless its row says more.
pub(crate) const ROOM: u64 = 1 << 30;

/// A row's work.
pub(crate) trait Measure {
    /// One run against `target`, which is the `place`-th on the command line.
    ///
    /// # Errors
    /// A fault says why this run has no figure.
    fn run(&mut self, place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault>;

    /// The same run against the relay, where there is one.
    fn relay(&mut self, _lab: &Lab) -> Option<Result<Sample, Fault>> {
        None
    }

    /// Bytes on disk that the row may need at a time, with a margin, when `servers` have their stores here.
    fn room(&self, _lab: &Lab, _servers: u64) -> u64 {
        ROOM
    }
}
