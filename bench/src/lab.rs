//! What all measurements share.

use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Fault;
use crate::sample::Sample;
use crate::target::Target;

/// The conditions of a run.
pub(crate) struct Lab {
    /// Where stores are kept while a server runs.
    pub(crate) folder: PathBuf,
    /// Length of a window.
    pub(crate) length: Duration,
    /// Files and sockets that this process may open.
    pub(crate) open_files: u64,
    /// Messages in the store of the row about starting.
    pub(crate) stored: u64,
}

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
}
