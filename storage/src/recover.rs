//! Opening: what the journal holds behind redb's position goes into redb, and everything starts from there.
//!
//! Afterwards the position is the start of a generation that was never used, so that nothing in the files counts any
//! more. A crash on the way changes nothing: the same files are read from the same position again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, TableError};

use crate::batch::Batch;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::home::load::{self, Loaded};
use crate::home::shelf::{FILE, Shelf, ShelfError, guarded};
use crate::home::table::{LOGS, LogRow, VERSION};
use crate::home::upkeep;
use crate::home::write::{self, Loss};
use crate::journal::format::Position;
use crate::journal::replay::{ReplayError, Stretch, replay};
use crate::journal::writer::file_number;
use crate::record::{Frame, Kind, Piece, Walk};

/// Brings redb up to date. Returns it, what it knows, and where the journal goes on.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    cache_bytes: usize,
) -> Result<(Arc<Shelf>, Loaded, Position), OpenError> {
    let shelf = Arc::new(open_shelf(disk, cache_bytes)?);
    let database = shelf.database();
    let from = match load::moved(&database).map_err(broken)? {
        Some((version, _)) if version > VERSION => {
            return Err(OpenError::Newer { file: FILE.to_owned(), version, known: VERSION });
        }
        Some((_, position)) => position,
        None => Position { generation: 0, offset: 0, group: 1, crc: 0 },
    };
    let replayed = replay(disk, from).map_err(|error| match error {
        ReplayError::Io(file, error) => OpenError::Io { file, error },
        ReplayError::Newer(file, version) => {
            OpenError::Newer { file, version, known: crate::journal::format::VERSION }
        }
    })?;
    let (batch, losses) = apply(disk, &database, &replayed.stretches)?;
    let written = guarded(|| match write::commit(&database, &batch, replayed.position, &losses) {
        Err(ShelfError { to_mend: Some(log), .. }) => {
            upkeep::mend(&database, log)?;
            write::commit(&database, &batch, replayed.position, &losses)
        }
        result => result,
    });
    written.map_err(broken)?;
    let mut loaded = load::load(&database).map_err(broken)?;
    if !loaded.to_mend.is_empty() {
        for log in &loaded.to_mend {
            guarded(|| upkeep::mend(&database, log.0)).map_err(broken)?;
        }
        loaded = load::load(&database).map_err(broken)?;
    }
    Ok((shelf, loaded, replayed.position))
}

fn open_shelf(disk: &Arc<dyn Disk>, cache_bytes: usize) -> Result<Shelf, OpenError> {
    let io = |error| OpenError::Io { file: FILE.to_owned(), error };
    Shelf::open(Arc::clone(disk), cache_bytes).or_else(|error| {
        // The journal is made after the database. Without a journal file the database was never finished: a crash
        // came while the store was made, and nothing was ever answered.
        let names = disk.list().map_err(io)?;
        if names.iter().any(|name| file_number(name).is_some()) || !names.iter().any(|name| name == FILE) {
            return Err(broken(error));
        }
        disk.remove(FILE).map_err(io)?;
        Shelf::open(Arc::clone(disk), cache_bytes).map_err(broken)
    })
}

/// The database cannot be used. A disk that takes nothing is not damage: nothing is to be repaired.
fn broken(error: ShelfError) -> OpenError {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind {
        Some(kind @ (StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied)) => {
            OpenError::Io { file: FILE.to_owned(), error: io::Error::new(kind, error.text) }
        }
        _ => OpenError::Database { file: FILE, error: error.text },
    }
}

/// The net effect of what was replayed. Damaged stretches give what can be read of them, and are named.
fn apply(
    disk: &Arc<dyn Disk>,
    database: &Database,
    stretches: &[Stretch],
) -> Result<(Batch, Vec<Loss>), OpenError> {
    let mut batch = Batch::default();
    let Some(broken_at) = stretches.iter().position(|stretch| !matches!(stretch, Stretch::Whole(_))) else {
        for stretch in stretches {
            if let Stretch::Whole(bytes) = stretch {
                batch.apply(bytes);
            }
        }
        return Ok((batch, Vec::new()));
    };
    // From the first damage on, each log's next record tells what may be missing before it.
    let mut last_seqs = last_seqs(database).map_err(broken)?;
    let mut losses = Vec::new();
    let mut in_doubt: BTreeMap<u32, bool> = BTreeMap::new();
    for (number, stretch) in stretches.iter().enumerate() {
        match stretch {
            Stretch::Whole(bytes) => {
                let mut offset = 0;
                while let Some(frame) = bytes.get(offset..).and_then(Frame::peek) {
                    let doubted = number > broken_at && in_doubt.insert(frame.log, false) != Some(false);
                    note(&frame, doubted, &mut last_seqs, &mut losses);
                    offset += frame.len();
                }
                batch.apply(bytes);
            }
            Stretch::Broken { file, offset, bytes } => {
                let copy = keep_copy(disk, file, *offset, bytes)?;
                let mut salvaged = 0;
                for piece in Walk::over(bytes) {
                    let Piece::Whole(frame, at) = piece else { continue };
                    // A record of an earlier use of the file has a sequence that is known already.
                    let is_news = last_seqs.get(&frame.log).is_none_or(|last| frame.seq > *last);
                    if frame.kind != Kind::Message || is_news {
                        note(&frame, true, &mut last_seqs, &mut losses);
                        batch.apply(&Bytes::copy_from_slice(&bytes[at]));
                        salvaged += 1;
                    }
                }
                in_doubt.clear();
                losses.push(Loss {
                    log: 0,
                    first: *offset,
                    last: offset + bytes.len() as u64,
                    what: format!(
                        "damaged bytes {offset} to {} of {file}: {salvaged} records saved, a copy is in {copy}",
                        offset + bytes.len() as u64
                    ),
                });
            }
            Stretch::Missing { first, last, what } => {
                in_doubt.clear();
                losses.push(Loss { log: 0, first: *first, last: *last, what: what.clone() });
            }
        }
    }
    Ok((batch, losses))
}

/// Takes a record into account; a gap before it may be a loss.
fn note(frame: &Frame<'_>, is_doubted: bool, last_seqs: &mut BTreeMap<u32, u64>, losses: &mut Vec<Loss>) {
    let before = frame.seq.saturating_sub(1);
    match frame.kind {
        Kind::Message | Kind::Skip => {
            let last = last_seqs.entry(frame.log).or_insert(before);
            if is_doubted && frame.kind == Kind::Message && before > *last {
                losses.push(Loss {
                    log: frame.log,
                    first: *last + 1,
                    last: before,
                    what: format!("lost in the journal before sequence {}", frame.seq),
                });
            }
            *last = frame.seq.max(*last);
        }
        Kind::Create => {
            last_seqs.insert(frame.log, before);
        }
        Kind::Purge => {
            let last = last_seqs.entry(frame.log).or_default();
            *last = (*last).max(before);
        }
        Kind::Remove | Kind::Drop | Kind::Set | Kind::Unset | Kind::Reserve => {}
    }
}

fn last_seqs(database: &Database) -> Result<BTreeMap<u32, u64>, ShelfError> {
    guarded(|| {
        let transaction = database.begin_read()?;
        let table = match transaction.open_table(LOGS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error.into()),
        };
        let mut last_seqs = BTreeMap::new();
        for row in redb::ReadableTable::iter(&table)? {
            let (log, value) = row?;
            if let Some(row) = LogRow::decode(log.value(), value.value()) {
                last_seqs.insert(log.value(), row.totals.last_seq);
            }
        }
        Ok(last_seqs)
    })
}

/// Damaged bytes are kept: somebody may read more out of them than we can.
fn keep_copy(disk: &Arc<dyn Disk>, file: &str, offset: u64, bytes: &[u8]) -> Result<String, OpenError> {
    let name = format!("damaged-{file}-{offset}-{:08x}", crc32fast::hash(bytes));
    let io = |error| OpenError::Io { file: name.clone(), error };
    let copy = disk.open(&name, true).map_err(io)?;
    copy.write_at(0, bytes).map_err(io)?;
    copy.sync().map_err(io)?;
    disk.sync_folder().map_err(io)?;
    Ok(name)
}
