//! The seam to the disk: a folder of files. Production uses the file system; tests use a disk that remembers which
//! bytes a power cut may still take.

use std::fmt::Debug;
use std::io;

/// A folder of files.
pub trait Disk: Send + Sync + Debug {
    /// Opens a file for reading and writing, creating it empty when `create` is set and it is not there.
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>>;
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations and removals durable.
    fn sync_folder(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `out` from `offset`.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Sets the length; a longer file reads as zeros there.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns once every byte written before is on stable storage (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
}
