//! The redb database, open or not. After any failure it is closed and opened again; a panic inside redb is an error.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, DatabaseError, StorageBackend};

use crate::disk::{Disk, DiskFile};

/// The name of the database's file.
pub(crate) const FILE: &str = "main.redb";

/// Why redb did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct ShelfError {
    pub(crate) text: String,
    /// The index of this log cannot be read, and can be built anew.
    pub(crate) to_mend: Option<u32>,
}

impl ShelfError {
    pub(crate) fn new(text: String) -> Self {
        Self { text, to_mend: None }
    }
}

impl<E: Into<redb::Error>> From<E> for ShelfError {
    fn from(error: E) -> Self {
        Self::new(error.into().to_string())
    }
}

/// Runs `work`; a panic in it, which redb may raise over damaged pages, is an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, ShelfError>) -> Result<T, ShelfError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(ShelfError::new(format!("redb stopped over a damaged page: {text}")))
    })
}

/// The database and how to open it.
#[derive(Debug)]
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    database: RwLock<Result<Arc<Database>, ShelfError>>,
}

impl Shelf {
    /// Opens the database, making it when there is none.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Self, ShelfError> {
        let is_new = !disk.list().map_err(text)?.iter().any(|name| name == FILE);
        let database = open_database(&disk, cache_bytes)?;
        if is_new {
            disk.sync_folder().map_err(text)?;
        }
        Ok(Self { disk, cache_bytes, database: RwLock::new(Ok(Arc::new(database))) })
    }

    /// The database, if it is open.
    pub(crate) fn database(&self) -> Result<Arc<Database>, ShelfError> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the database and opens it again. Until that works, [`Self::database`] says why not.
    pub(crate) fn reopen(&self) -> Result<(), ShelfError> {
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let closed = Err(ShelfError::new("the database is being opened again".to_owned()));
        if let Ok(old) = std::mem::replace(&mut *slot, closed) {
            // A read that began before ends soon; two databases over one file must not be.
            while Arc::strong_count(&old) > 1 {
                std::thread::yield_now();
            }
        }
        *slot = open_database(&self.disk, self.cache_bytes).map(Arc::new);
        slot.as_ref().map(|_| ()).map_err(Clone::clone)
    }
}

fn text(error: io::Error) -> ShelfError {
    ShelfError::new(error.to_string())
}

fn open_database(disk: &Arc<dyn Disk>, cache_bytes: usize) -> Result<Database, ShelfError> {
    guarded(|| {
        let file = Backend(disk.open(FILE, true).map_err(text)?);
        Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(file)
            .map_err(|error: DatabaseError| ShelfError::new(error.to_string()))
    })
}

/// A file of the store's disk as redb wants it. The folder's lock keeps other processes away.
#[derive(Debug)]
struct Backend(Box<dyn DiskFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
