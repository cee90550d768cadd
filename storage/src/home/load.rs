//! Reads what the owner's index is made from: the block index and the numbers, no messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableError};

use crate::field::u32_at;
use crate::home::shelf::{ShelfError, guarded};
use crate::home::table::{
    ATTRIBUTES, BlockMeta, DAMAGE, INDEX, LOGS, LogRow, META, META_MOVED, META_NEXT, META_VERSION, SUBJECTS,
    SubjectRow, Tag, unsealed,
};
use crate::home::write::{Loss, read_meta};
use crate::journal::format::Position;
use crate::log::LogId;
use crate::runs::Runs;
use crate::subjects::{Bound, Numbers, Subjects};

/// A log as redb has it.
#[derive(Debug)]
pub(crate) struct LoadedLog {
    pub(crate) row: LogRow,
    pub(crate) attributes: BTreeMap<Bytes, Bytes>,
    /// By first sequence.
    pub(crate) blocks: BTreeMap<u64, BlockMeta>,
    pub(crate) subjects: Subjects,
    /// Sequences that are lost.
    pub(crate) lost: Runs,
}

/// All that redb knows.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) logs: BTreeMap<LogId, LoadedLog>,
    pub(crate) scope: BTreeMap<Bytes, Bytes>,
    pub(crate) next_log: u32,
    pub(crate) losses: Vec<Loss>,
    /// Logs whose index or subjects must be built anew from their records.
    pub(crate) to_mend: Vec<LogId>,
}

/// The version of the layout, and the position reached; `None` in a new database.
pub(crate) fn moved(database: &Database) -> Result<Option<(u32, Position)>, ShelfError> {
    guarded(|| {
        let transaction = database.begin_read()?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = || ShelfError::new("the table meta is damaged".to_owned());
        let Some(version) = read_meta(&meta, META_VERSION)? else { return Ok(None) };
        let version = u32_at(&version, 0).ok_or_else(damaged)?;
        let position =
            read_meta(&meta, META_MOVED)?.and_then(|body| Position::decode(&body)).ok_or_else(damaged)?;
        Ok(Some((version, position)))
    })
}

/// Everything but the records.
pub(crate) fn load(database: &Database) -> Result<Loaded, ShelfError> {
    guarded(|| {
        let transaction = database.begin_read()?;
        let mut loaded = Loaded::default();
        let damaged = |what: &str| ShelfError::new(format!("{what} is damaged"));
        let meta = transaction.open_table(META)?;
        loaded.next_log = read_meta(&meta, META_NEXT)?
            .and_then(|b| u32_at(&b, 0))
            .ok_or_else(|| damaged("the table meta"))?;
        for row in transaction.open_table(LOGS)?.iter()? {
            let (id, value) = row?;
            let id = id.value();
            let row = LogRow::decode(id, value.value())
                .ok_or_else(|| damaged(&format!("the entry of log {id}")))?;
            let log = LoadedLog {
                row,
                attributes: BTreeMap::new(),
                blocks: BTreeMap::new(),
                subjects: Subjects::default(),
                lost: Runs::default(),
            };
            loaded.logs.insert(LogId(id), log);
        }
        for row in transaction.open_table(ATTRIBUTES)?.iter()? {
            let (key, value) = row?;
            let (log, key) = key.value();
            let scope = match loaded.logs.get_mut(&LogId(log)) {
                Some(log) => &mut log.attributes,
                None if log == 0 => &mut loaded.scope,
                // Of a dropped log, on its way out.
                None => continue,
            };
            let what = || format!("the attribute \"{}\" of log {log}", String::from_utf8_lossy(key));
            match unsealed(Tag::Attribute, log, key, value.value()) {
                Some(value) => {
                    scope.insert(Bytes::copy_from_slice(key), Bytes::from(value));
                }
                None if log == 0 => return Err(damaged(&what())),
                // Its log is there without it; the row stays where it is.
                None => {
                    let what = format!("{} is damaged", what());
                    loaded.losses.push(Loss { log, first: 0, last: 0, what });
                }
            }
        }
        for row in transaction.open_table(INDEX)?.iter()? {
            let (key, value) = row?;
            let (log, first) = key.value();
            let Some(entry) = loaded.logs.get_mut(&LogId(log)) else { continue };
            match BlockMeta::decode(log, first, value.value()) {
                Some(meta) => drop(entry.blocks.insert(first, meta)),
                None => loaded.to_mend.push(LogId(log)),
            }
        }
        for row in transaction.open_table(SUBJECTS)?.iter()? {
            let (key, value) = row?;
            let (log, subject) = key.value();
            let Some(entry) = loaded.logs.get_mut(&LogId(log)) else { continue };
            match SubjectRow::decode(log, subject, value.value()) {
                Some(row) => {
                    let first = Bound { seq: row.first_seq, exact: row.first_exact };
                    let last = Bound { seq: row.last_seq, exact: row.last_exact };
                    entry
                        .subjects
                        .load(Bytes::copy_from_slice(subject), Numbers::new(row.messages, first, last));
                }
                None => loaded.to_mend.push(LogId(log)),
            }
        }
        for row in transaction.open_table(DAMAGE)?.iter()? {
            let (key, value) = row?;
            let (log, first, last) = key.value();
            let sealed_key = [first.to_le_bytes(), last.to_le_bytes()].concat();
            let what = unsealed(Tag::Damage, log, &sealed_key, value.value()).unwrap_or_default();
            let what = String::from_utf8_lossy(&what).into_owned();
            if let Some(entry) = loaded.logs.get_mut(&LogId(log))
                && first <= last
            {
                entry.lost.insert(first, last);
            }
            loaded.losses.push(Loss { log, first, last, what });
        }
        loaded.to_mend.dedup();
        Ok(loaded)
    })
}
