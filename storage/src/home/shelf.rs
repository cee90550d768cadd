//! The redb database. After a failed commit it writes no more and is opened again; a panic inside redb is an error
//! ([`guarded`]).

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, DatabaseError, StorageBackend};

use crate::disk::{Disk, DiskFile};
use crate::error::ReadError;

/// The name of the database's file.
pub(crate) const FILE: &str = "main.redb";

/// Why redb did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct ShelfError {
    pub(crate) text: String,
    /// The index of this log cannot be read, and can be built anew.
    pub(crate) to_mend: Option<u32>,
    /// What the system says, when it is the system that refuses.
    pub(crate) kind: Option<io::ErrorKind>,
}

impl ShelfError {
    pub(crate) fn new(text: String) -> Self {
        Self { text, to_mend: None, kind: None }
    }
}

impl<E: Into<redb::Error>> From<E> for ShelfError {
    fn from(error: E) -> Self {
        let error = error.into();
        let kind = if let redb::Error::Io(error) = &error {
            Some(error.kind())
        } else {
            matches!(error, redb::Error::PreviousIo).then_some(io::ErrorKind::Other)
        };
        Self { kind, ..Self::new(error.to_string()) }
    }
}

thread_local! {
    static IS_GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread would be caught by the store now, and be an error: redb raises one over a damaged page. A
/// panic hook that ends the process asks this first.
#[must_use]
pub fn catches_panics() -> bool {
    IS_GUARDED.get()
}

/// Runs `work`; a panic in it, which redb may raise over damaged pages, is an error.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, ShelfError>) -> Result<T, ShelfError> {
    let was_guarded = IS_GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IS_GUARDED.set(was_guarded);
    result.unwrap_or_else(|panic| {
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
    open: RwLock<Open>,
}

#[derive(Debug)]
struct Open {
    /// There until this is dropped.
    database: Option<Arc<Database>>,
    /// Set when the database must write no more; it can still be read.
    is_retired: Arc<AtomicBool>,
}

impl Open {
    /// Those who read it.
    fn readers(&self) -> usize {
        self.database.as_ref().map_or(0, |database| Arc::strong_count(database) - 1)
    }
}

/// redb writes once more at its end, and may stop over a damaged page then, too: nothing is lost by that.
impl Drop for Open {
    fn drop(&mut self) {
        let database = self.database.take();
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}

impl Shelf {
    /// Opens the database, making it when there is none.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Self, ShelfError> {
        let is_new = !disk.list().map_err(text)?.iter().any(|name| name == FILE);
        let open = open_database(&disk, cache_bytes)?;
        if is_new {
            disk.sync_folder().map_err(text)?;
        }
        Ok(Self { disk, cache_bytes, open: RwLock::new(open) })
    }

    /// The database.
    pub(crate) fn database(&self) -> Arc<Database> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(open.database.as_ref().expect("it is there until its end"))
    }

    /// Opens the database again, after a failure. The old one writes no more, and is read until the new one is open.
    pub(crate) fn reopen(&self) -> Result<(), ShelfError> {
        {
            let old = self.open.read().unwrap_or_else(PoisonError::into_inner);
            old.is_retired.store(true, Ordering::SeqCst);
        }
        let new = open_database(&self.disk, self.cache_bytes)?;
        let old = {
            let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, new)
        };
        // A read that began before ends soon; the pages it sees must not be written over meanwhile.
        while old.readers() > 0 {
            std::thread::yield_now();
        }
        Ok(())
    }
}

fn text(error: io::Error) -> ShelfError {
    ShelfError { kind: Some(error.kind()), ..ShelfError::new(error.to_string()) }
}

fn open_database(disk: &Arc<dyn Disk>, cache_bytes: usize) -> Result<Open, ShelfError> {
    guarded(|| {
        let is_retired = Arc::new(AtomicBool::new(false));
        let file =
            Backend { file: disk.open(FILE, true).map_err(text)?, is_retired: Arc::clone(&is_retired) };
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(file)
            .map_err(|error: DatabaseError| ShelfError::from(error))?;
        Ok(Open { database: Some(Arc::new(database)), is_retired })
    })
}

/// A file of the store's disk as redb wants it. The folder's lock keeps other processes away.
#[derive(Debug)]
struct Backend {
    file: Box<dyn DiskFile>,
    is_retired: Arc<AtomicBool>,
}

impl Backend {
    fn for_writing(&self) -> io::Result<&dyn DiskFile> {
        if self.is_retired.load(Ordering::SeqCst) {
            return Err(io::Error::other("this database was opened again"));
        }
        Ok(self.file.as_ref())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.for_writing()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.for_writing()?.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.for_writing()?.write_at(offset, data)
    }
}

impl From<ShelfError> for ReadError {
    fn from(error: ShelfError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
