//! The seam to the disk: a folder of files. Production uses the file system; tests use a disk that remembers which
//! bytes a power cut may still take.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

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
#[expect(clippy::len_without_is_empty, reason = "nobody asks whether a file is empty")]
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

/// The file the lock of a folder is held on.
const LOCK: &str = "lock";

/// A folder of the file system, held by this process alone. Files get mode 0600, the folder 0700.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held as long as the folder is open.
    _lock: File,
}

/// Why a folder cannot be a store's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The path is a file, or something else.
    #[error("{path} is not a folder")]
    NotAFolder {
        /// Where.
        path: PathBuf,
    },
    /// Another process has it.
    #[error("the store in {path} is in use by another process")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// It holds the streams of a nats-server.
    #[error(
        "{path} is the store of a nats-server (it holds a folder named jetstream); \
         run both and let a stream here mirror or source each of its streams, or copy them with a client"
    )]
    NatsServer {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be created, read or written.
    #[error("cannot use the folder {path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

impl Folder {
    /// Opens the folder, creating it when it is not there, and locks it against other processes.
    ///
    /// # Errors
    /// When it is no folder, cannot be written, is in use, or belongs to a nats-server.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let path = path.into();
        let failed = |error| FolderError::Io { path: path.clone(), error };
        match std::fs::metadata(&path) {
            Ok(found) if !found.is_dir() => return Err(FolderError::NotAFolder { path }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create_folder(&path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(FolderError::NotAFolder { path });
            }
            Err(error) => return Err(failed(error)),
        }
        if is_of_nats_server(&path) {
            return Err(FolderError::NatsServer { path });
        }
        let lock = file_options().create(true).truncate(false).open(path.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse { path }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a nats-server keeps its streams here: in `jetstream` below, or it is that folder itself, with `$G` or another
/// account that has `streams`.
fn is_of_nats_server(path: &Path) -> bool {
    let has_streams = |account: &Path| account.join("streams").is_dir();
    path.join("jetstream").is_dir()
        || has_streams(&path.join("$G"))
        || std::fs::read_dir(path)
            .is_ok_and(|entries| entries.flatten().any(|entry| has_streams(&entry.path())))
}

fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    // The folder itself must survive, not only what is in it.
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

fn file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Disk for Folder {
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(file_options().create(create).truncate(false).open(self.path.join(name))?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        FileExt::read_exact_at(self, out, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
