//! What is done to redb besides batches: a log's numbers are built anew from its records, and what dropped logs left is removed.
//!
//! Both are transactions of their own that can be cut short at any point and done again.

use std::collections::BTreeSet;

use redb::{Database, ReadableTable};

use super::shelf::ShelfError;
use super::table::{BlockMeta, LogRow};
use super::write::{Changed, Tables, Work, begin};
use crate::batch::Change;
use crate::record::{Piece, Walk};
use crate::subjects::Subjects;
use crate::totals::Totals;

/// Builds a log's block index, subjects and numbers anew from its records.
pub(crate) fn mend(database: &Database, log: u32) -> Result<(), ShelfError> {
    let transaction = begin(database)?;
    {
        let mut tables = Tables::open(&transaction)?;
        let Some(row) = tables.logs.get(log)?.and_then(|value| LogRow::decode(log, value.value())) else {
            return Err(ShelfError::new(format!("the entry of log {log} is damaged")));
        };
        let change = Change::default();
        let changed = Changed::default();
        let mut work = Work {
            log,
            row,
            changed,
            change: &change,
            subjects: Subjects::default(),
            touched: BTreeSet::new(),
        };
        tables.subjects.retain_in((log, &[][..])..(log.saturating_add(1), &[][..]), |_, _| false)?;
        tables.index.retain_in((log, 0)..=(log, u64::MAX), |_, _| false)?;
        let before = work.row.totals;
        work.row.totals.clear();
        // Blocks and rows lie alike: part after part, in order of sequence.
        for is_block in [true, false] {
            let mut at = 0;
            loop {
                let table = if is_block { &tables.blocks } else { &tables.rows };
                let next = table.range((log, at, 0)..=(log, u64::MAX, u32::MAX))?.next().transpose()?;
                let Some(first) = next.map(|(key, _)| key.value().1) else { break };
                let (mut bytes, mut parts) = (Vec::new(), 0);
                for part in table.range((log, first, 0)..=(log, first, u32::MAX))? {
                    bytes.extend_from_slice(part?.1.value());
                    parts += 1;
                }
                let stored = bytes.len() as u64;
                let mut meta =
                    BlockMeta { last_seq: first, messages: 0, parts, stored, first_time: 0, last_time: 0 };
                for piece in Walk::of_log(&bytes, log) {
                    let Piece::Whole(frame, _) = piece else { continue };
                    if meta.messages == 0 {
                        meta.first_time = frame.time;
                    }
                    meta.messages += 1;
                    meta.last_seq = meta.last_seq.max(frame.seq);
                    meta.last_time = frame.time;
                    if frame.seq >= before.first_seq {
                        tables.remember(&mut work, &frame)?;
                    }
                }
                if is_block {
                    tables.index.insert((log, first), meta.encode(log, first).as_slice())?;
                }
                let Some(next) = first.checked_add(1) else { break };
                at = next;
            }
        }
        work.row.totals =
            Totals { last_seq: before.last_seq, last_time: before.last_time, ..work.row.totals };
        tables.write_subjects(&work)?;
        tables.logs.insert(log, work.row.encode(log).as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

/// Removes a step's worth of what dropped logs left. `true` when there is more.
pub(crate) fn sweep(database: &Database) -> Result<bool, ShelfError> {
    const STEP: usize = 512;
    let transaction = begin(database)?;
    let more;
    {
        let mut tables = Tables::open(&transaction)?;
        let first = tables.dropped.first()?.map(|(log, _)| log.value());
        let Some(log) = first else { return Ok(false) };
        let mut left = STEP;
        for table in [&mut tables.blocks, &mut tables.rows] {
            for gone in
                table.extract_from_if((log, 0, 0)..=(log, u64::MAX, u32::MAX), |_, _| true)?.take(left)
            {
                gone?;
                left -= 1;
            }
        }
        for gone in tables.index.extract_from_if((log, 0)..=(log, u64::MAX), |_, _| true)?.take(left) {
            gone?;
            left -= 1;
        }
        for table in [&mut tables.subjects, &mut tables.attributes] {
            let mut keys = Vec::new();
            for row in table.range((log, &[][..])..)?.take(left) {
                let (key, _) = row?;
                let (owner, key) = key.value();
                if owner != log {
                    break;
                }
                keys.push(key.to_vec());
            }
            left -= keys.len();
            for key in keys {
                table.remove((log, key.as_slice()))?;
            }
        }
        for gone in
            tables.damage.extract_from_if((log, 0, 0)..=(log, u64::MAX, u64::MAX), |_, _| true)?.take(left)
        {
            gone?;
            left -= 1;
        }
        if left > 0 {
            tables.dropped.remove(log)?;
            more = tables.dropped.first()?.is_some();
        } else {
            more = true;
        }
    }
    transaction.commit()?;
    Ok(more)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use redb::{ReadableDatabase, ReadableTableMetadata};

    use super::*;
    use crate::batch::Batch;
    use crate::home::shelf::Shelf;
    use crate::home::table::{ATTRIBUTES, BLOCKS, DROPPED, INDEX, LOGS, ROWS, SUBJECTS};
    use crate::home::write;
    use crate::journal::format::Position;
    use crate::log::{Cost, Layout, LogSpec, Medium};
    use crate::record::{Frame, Kind};
    use crate::simulated::Simulated;

    /// Rows of all tables.
    fn rows(database: &Database) -> u64 {
        let read = database.begin_read().expect("read");
        let counts = [
            read.open_table(LOGS).and_then(|table| Ok(table.len()?)),
            read.open_table(ATTRIBUTES).and_then(|table| Ok(table.len()?)),
            read.open_table(BLOCKS).and_then(|table| Ok(table.len()?)),
            read.open_table(INDEX).and_then(|table| Ok(table.len()?)),
            read.open_table(ROWS).and_then(|table| Ok(table.len()?)),
            read.open_table(SUBJECTS).and_then(|table| Ok(table.len()?)),
            read.open_table(DROPPED).and_then(|table| Ok(table.len()?)),
        ];
        counts.into_iter().map(|count| count.expect("counted")).sum()
    }

    #[test]
    fn dropped_logs_leave_nothing() {
        let shelf = Shelf::open(Arc::new(Simulated::new()), 1 << 20).expect("opened");
        let database = shelf.database();
        let write = |bytes: Vec<u8>| {
            let mut batch = Batch::default();
            batch.apply(&Bytes::from(bytes));
            let position = Position { generation: 1, offset: 512, group: 1, crc: 0 };
            write::commit(&database, &batch, position, &[]).expect("written");
        };
        write(Vec::new());
        assert!(!sweep(&database).expect("nothing was dropped"));
        let mut bytes = Vec::new();
        for (log, layout) in [(1, Layout::Blocks), (2, Layout::Rows)] {
            let cost = Cost { per_record: 0, per_headers: 0 };
            let spec = LogSpec { medium: Medium::Disk, layout, cost, first_seq: 1 };
            Frame { payload: &spec.encode(), ..Frame::bare(Kind::Create, log, 1) }.encode(&mut bytes);
            for seq in 1..=1200 {
                let subject = format!("s.{}", seq % 700);
                Frame {
                    subject: subject.as_bytes(),
                    payload: &[7; 100],
                    ..Frame::bare(Kind::Message, log, seq)
                }
                .encode(&mut bytes);
            }
            Frame { subject: b"key", payload: b"value", ..Frame::bare(Kind::Set, log, 0) }.encode(&mut bytes);
        }
        write(bytes);
        assert!(rows(&database) > 2600, "{}", rows(&database));
        let mut bytes = Vec::new();
        Frame::bare(Kind::Drop, 1, 0).encode(&mut bytes);
        Frame::bare(Kind::Drop, 2, 0).encode(&mut bytes);
        write(bytes);
        let mut steps = 1;
        while sweep(&database).expect("swept") {
            steps += 1;
        }
        assert_eq!((rows(&database), steps > 4), (0, true), "{steps} steps");
    }
}
