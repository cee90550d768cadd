//! The beginning and the end of a store.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::channel;

use super::Store;
use super::riding::Riding;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::home::load::Loaded;
use crate::home::read::Library;
use crate::index::Log;
use crate::journal::format::SECTOR;
use crate::journal::writer::{FILE_BYTES, FILES_MAX, Journal};
use crate::log::LogId;
use crate::record::{Frame, Kind};
use crate::recover::recover;
use crate::reserve::Reserve;
use crate::segments::Segments;
use crate::worker::mover::Mover;
use crate::worker::writer::Writer;
use crate::worker::{Reports, Workers};

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Size of a journal file in bytes (default 16 MiB, minimum 8 KiB; a chunk never spans two).
    pub journal_file_bytes: u64,
    /// redb's cache in bytes (default 64 MiB).
    pub cache_bytes: usize,
    /// Called from a worker thread whenever [`Store::process`] has something to do.
    pub wake: Arc<dyn Fn() + Send + Sync>,
    /// Without threads the journal is written and redb is filled inside [`Store::process`], on the owner's thread, in
    /// an order that depends on the calls alone: for simulations (default: with threads).
    pub is_threaded: bool,
    /// Without threads: how many calls of [`Store::process`] redb lets pass before it takes what is durable, unless the
    /// journal waits for it. With threads the disk decides (default 0).
    pub mover_lag: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            journal_file_bytes: 16 << 20,
            cache_bytes: 64 << 20,
            wake: Arc::new(|| ()),
            is_threaded: true,
            mover_lag: 0,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("journal_file_bytes", &self.journal_file_bytes)
            .field("cache_bytes", &self.cache_bytes)
            .field("is_threaded", &self.is_threaded)
            .field("mover_lag", &self.mover_lag)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in `disk`, recovers it, and starts its two workers. Where the disk is too full for that, the reserve is
    /// given up, and it is tried once more.
    ///
    /// # Errors
    /// When the disk cannot be read or written, or holds something that is not this store's.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<Self, OpenError> {
        let bytes = options.journal_file_bytes;
        let (least, most) = FILE_BYTES.into_inner();
        if !FILE_BYTES.contains(&bytes) || !bytes.is_multiple_of(SECTOR as u64) {
            return Err(OpenError::JournalFileBytes { bytes, least, most });
        }
        let io = |error| OpenError::Io { file: "the journal".to_owned(), error };
        let recovered = recover(&disk, options.cache_bytes);
        let (shelf, loaded, position) = match recovered {
            // On a full disk the reserve's room may be what is missing.
            Err(error) if error.is_full() && Reserve::was_given_up(&disk) => {
                recover(&disk, options.cache_bytes)?
            }
            recovered => recovered?,
        };
        let journal = Journal::open(Arc::clone(&disk), bytes, position).map_err(io)?;
        let (sender, events) = channel();
        let reports = Reports { events: sender, wake: options.wake };
        let writer = Writer::new(journal, reports.clone());
        let mover = Mover::new(Arc::clone(&shelf), position, Reserve::make(disk, bytes), reports.clone());
        let workers = if options.is_threaded {
            Workers::threads(writer, mover, &reports).map_err(io)?
        } else {
            Workers::inline(writer, mover, options.mover_lag)
        };
        let Loaded { logs, scope, next_log, losses, to_mend: _ } = loaded;
        let logs = logs.into_iter().map(|(id, log)| (id, Log::load(id, log))).collect();
        Ok(Self {
            logs,
            scope,
            chunks: Segments::starting_at(1),
            library: Library::new(Arc::clone(&shelf)),
            shelf,
            workers,
            events,
            touched: Vec::new(),
            under_way: VecDeque::new(),
            unanswered: Arc::default(),
            unmoved: VecDeque::new(),
            unmoved_bytes: 0,
            // One file is being filled, one may be left with room that no chunk fits.
            unmoved_limit: bytes * (FILES_MAX as u64 - 2),
            epoch: 1,
            staged: VecDeque::new(),
            refusal: None,
            stuck: None,
            is_reopening: false,
            losses,
            next_log,
            chunk_limit: usize::try_from(bytes).unwrap_or(usize::MAX) - 2 * SECTOR,
            evictions: Vec::new(),
            riding: Riding::default(),
        })
    }

    /// Seals, waits until everything is durable and moved to redb, stops the workers.
    ///
    /// # Errors
    /// When the last of it could not be written.
    pub fn close(mut self) -> Result<(), String> {
        // Memory logs go on right behind what was used.
        let used: Vec<(LogId, u64)> = self
            .logs
            .values()
            .filter(|log| log.is_memory())
            .map(|log| (log.id, log.totals.last_seq))
            .collect();
        if self.refusal.is_none() {
            for (log, last_seq) in used {
                self.stage(&Frame::bare(Kind::Reserve, log.0, last_seq))
                    .map_err(|error| error.to_string())?;
            }
        }
        if cfg!(feature = "bug-lose-last-group") {
            self.chunks.current.clear();
        }
        let (sender, result) = channel();
        self.seal(Box::new(move |sealed| {
            let _ = sender.send(sealed);
        }));
        self.workers.stop(self.stuck.is_none())?;
        result
            .try_recv()
            .unwrap_or_else(|_| Err("the store was closed before its last group was written".to_owned()))
    }
}

impl Drop for Store {
    /// As a crash: what was sealed is written, nothing more is moved.
    fn drop(&mut self) {
        let _ = self.workers.stop(false);
    }
}
