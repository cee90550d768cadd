//! Space that is kept for the moment when there is none: a file of zeros, which is given up so that redb can write a removal
//! on a full disk, or recover there, and made again once it has written. Nothing is ever read from it. Where it cannot be made, a removal
//! has to do with the pages that redb has.

use std::io;
use std::sync::Arc;

use crate::disk::Disk;

/// The name of its file.
const FILE: &str = "reserve";
/// The most it takes, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// The reserve of a store.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    bytes: u64,
    is_there: bool,
}

impl Reserve {
    /// As large as a journal file, 1 MiB at the most.
    pub(crate) fn make(disk: Arc<dyn Disk>, journal_file_bytes: u64) -> Self {
        let mut reserve = Self { disk, bytes: journal_file_bytes.min(BYTES_MAX), is_there: false };
        reserve.keep();
        reserve
    }

    /// Makes it if it is not there and there is room.
    pub(crate) fn keep(&mut self) {
        if !self.is_there {
            self.is_there = self.fill().is_ok();
            if !self.is_there {
                self.give_up();
            }
        }
    }

    fn fill(&self) -> io::Result<()> {
        let file = self.disk.open(FILE, true)?;
        if file.len()? == self.bytes {
            return Ok(());
        }
        let zeros = vec![0; 1 << 16];
        let mut offset = 0;
        while offset < self.bytes {
            let step = (self.bytes - offset).min(zeros.len() as u64);
            file.write_at(offset, zeros.get(..usize::try_from(step).unwrap_or(0)).unwrap_or_default())?;
            offset += step;
        }
        file.set_len(self.bytes)?;
        file.sync()
    }

    /// Gives up what an earlier run kept. Whether there was any.
    pub(crate) fn was_given_up(disk: &Arc<dyn Disk>) -> bool {
        disk.remove(FILE).is_ok()
    }

    /// Gives its space to whoever writes next.
    pub(crate) fn give_up(&mut self) {
        self.is_there = false;
        // There may be none, and what cannot be removed gives nothing: the write that follows tells.
        let _ = self.disk.remove(FILE);
    }
}
