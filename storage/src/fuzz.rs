//! What hostile bytes are thrown at that only this crate can see: the codecs of records, groups and rows. Compiled for fuzzing alone.
//!
//! Each body takes bytes and panics when something does not hold.

use std::sync::Arc;

use redb::ReadableTable;

use crate::disk::Disk;
use crate::field::{u32_at, u64_at};
use crate::home::shelf::{Shelf, ShelfError};
use crate::home::table::{self, BlockMeta, LogRow, SubjectRow, Tag};
use crate::journal::format::{FileHeader, GROUP_HEADER, Group, Position, START, body_crc, read_file_header};
use crate::journal::writer::file_name;
use crate::log::LogSpec;
use crate::record::{Frame, Kind, Piece, Walk, decode_runs, encode_runs};
use crate::simulated::Simulated;

/// Pieces that mean something in the head of a file or of a group.
pub const WORDS: &[&str] = &["WEIRJNL1", "WEIRGRP1", "\u{1}\0\0\0", "\0\0\0\0\0\0\0\0"];

/// Bytes as records, as a group and as the head of a file, as they are and with checksums that are right: every byte is accounted
/// for, and what is understood is written the same.
pub fn records(bytes: &[u8]) {
    read(bytes);
    read(&with_right_records(bytes));
    for head in [24, 60] {
        read(&with_right_head(bytes, head));
    }
}

/// The bytes with the checksum that each record in them should have.
fn with_right_records(bytes: &[u8]) -> Vec<u8> {
    let mut right = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = match Frame::peek(rest) {
            Some(frame) => {
                frame.encode(&mut right);
                frame.len()
            }
            None => {
                right.extend(rest.first());
                1
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    right
}

/// The bytes with the checksum behind `head` bytes that the head of a file or a group should have, and a group's body the one that
/// its head should name.
fn with_right_head(bytes: &[u8], head: usize) -> Vec<u8> {
    let mut right = bytes.to_vec();
    let mut put = |at: usize, crc: Option<u32>| {
        if let (Some(crc), Some(field)) = (crc, right.get_mut(at..at.saturating_add(4))) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        right.get(..head).map(crc32fast::hash)
    };
    let length = u64_at(bytes, 24).and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let body = GROUP_HEADER.checked_add(length).and_then(|end| bytes.get(GROUP_HEADER..end));
    let former = u32_at(bytes, 32).unwrap_or_default();
    let crc = put(36, body.filter(|_| head == 60).map(|body| body_crc(former, &[body])));
    put(head, crc);
    right
}

fn read(bytes: &[u8]) {
    let mut covered = 0;
    for piece in Walk::over(bytes) {
        let at = match piece {
            Piece::Whole(frame, at) => {
                let mut again = Vec::new();
                frame.encode(&mut again);
                assert_eq!(
                    Some(again.as_slice()),
                    bytes.get(at.clone()),
                    "a record is written as it was read"
                );
                let runs: Vec<_> = decode_runs(frame.payload).collect();
                assert!(runs.iter().all(|(first, last)| first <= last));
                assert_eq!(decode_runs(&encode_runs(&runs)).collect::<Vec<_>>(), runs);
                at
            }
            Piece::Broken(at) => at,
        };
        assert_eq!(at.start, covered, "pieces lie one behind the other");
        covered = at.end;
    }
    assert_eq!(covered, bytes.len(), "every byte is in a piece");
    for piece in Walk::of_log(bytes, 1) {
        if let Piece::Whole(frame, _) = piece {
            assert_eq!((frame.log, frame.kind), (1, Kind::Message));
        }
    }
    if let Some(group) = Group::decode(bytes) {
        let head = bytes.get(..GROUP_HEADER).filter(|head| zeros(head));
        assert!(head.is_none_or(|head| head == group.encode()));
        assert!(group.body(bytes).is_none_or(|body| body.len() as u64 == group.length));
        assert!(group.end(START) > START);
    }
    if let Some(position) = Position::decode(bytes) {
        assert_eq!(Some(position.encode().as_slice()), bytes.get(..28));
    }
    let _ = matches!(read_file_header(bytes), FileHeader::Of { .. });
}

/// Whether the part of a group's header that has no meaning is zero.
fn zeros(head: &[u8]) -> bool {
    head.get(40..60).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

/// Bytes as rows of the database, with a checksum that is right: what is understood is written the same.
pub fn rows(bytes: &[u8]) {
    let _ = (LogRow::decode(1, bytes), BlockMeta::decode(1, 1, bytes), SubjectRow::decode(1, b"a", bytes));
    let _ = LogSpec::decode(bytes);
    let log = table::sealed(Tag::Log, 1, &[], bytes);
    if let Some(row) = LogRow::decode(1, &log) {
        assert_eq!(LogRow::decode(1, &row.encode(1)), Some(row));
    }
    assert_eq!(LogRow::decode(2, &log), None, "a row of another log");
    let block = table::sealed(Tag::Index, 1, &7u64.to_le_bytes(), bytes);
    if let Some(row) = BlockMeta::decode(1, 7, &block) {
        assert_eq!(BlockMeta::decode(1, 7, &row.encode(1, 7)), Some(row));
    }
    assert_eq!(BlockMeta::decode(1, 8, &block), None, "a row of another block");
    let subject = table::sealed(Tag::Subject, 1, b"a.b", bytes);
    if let Some(row) = SubjectRow::decode(1, b"a.b", &subject) {
        assert_eq!(SubjectRow::decode(1, b"a.b", &row.encode(1, b"a.b")), Some(row));
    }
    assert_eq!(SubjectRow::decode(1, b"a.c", &subject), None, "a row of another subject");
}

/// Puts rows into the database on this disk, as the bytes say: table, log and two lengths choose a row, until they end. A row that
/// is there is changed from one place on, so that most of it stays what it was. The checksums are right.
///
/// # Panics
/// When the disk holds no database.
pub fn put_rows(disk: &Simulated, bytes: &[u8]) {
    let shelf = Shelf::open(Arc::new(disk.clone()), 1 << 20).expect("a database");
    try_to_put(&shelf, bytes).expect("the disk works");
}

fn try_to_put(shelf: &Shelf, bytes: &[u8]) -> Result<(), ShelfError> {
    let transaction = shelf.database().begin_write()?;
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_at_checked(5) {
        let [table, log, key, at, length] = *head else { break };
        let (new, tail) = tail.split_at_checked(usize::from(length & 0x3f)).unwrap_or((tail, &[]));
        rest = tail;
        let (log, at) = (u32::from(log & 3), usize::from(at & 0x7f));
        let seq = u64::from(key);
        // `sum` covers what the row is sealed with, when it has a checksum of its own.
        let change = |old: &[u8], sum: usize| {
            let mut body = old.get(..old.len().saturating_sub(sum)).unwrap_or_default().to_vec();
            body.resize(body.len().max(at), 0);
            let end = body.len().min(at.saturating_add(new.len()));
            body.splice(at..end, new.iter().copied());
            body
        };
        macro_rules! put {
            ($table:ident, $key:expr, $sealed:expr) => {{
                let mut rows = transaction.open_table(table::$table)?;
                let old = rows.get($key)?.map(|row| row.value().to_vec()).unwrap_or_default();
                let row: Vec<u8> = $sealed(&old);
                rows.insert($key, row.as_slice())?;
            }};
        }
        let subject: &[u8] = if key & 1 == 0 { b"a.b" } else { b"a.c" };
        match table % 7 {
            0 => put!(LOGS, log, |old: &[u8]| table::sealed(Tag::Log, log, &[], &change(old, 4))),
            1 => put!(INDEX, (log, seq), |old: &[u8]| table::sealed(
                Tag::Index,
                log,
                &seq.to_le_bytes(),
                &change(old, 4)
            )),
            2 => put!(SUBJECTS, (log, subject), |old: &[u8]| table::sealed(
                Tag::Subject,
                log,
                subject,
                &change(old, 4)
            )),
            3 => put!(ATTRIBUTES, (log, subject), |old: &[u8]| table::sealed(
                Tag::Attribute,
                log,
                subject,
                &change(old, 4)
            )),
            4 => put!(BLOCKS, (log, seq, 0), |old: &[u8]| with_right_records(&change(old, 0))),
            5 => put!(ROWS, (log, seq, 0), |old: &[u8]| with_right_records(&change(old, 0))),
            _ => {
                let to = seq.saturating_add(at as u64);
                let sealed_key = [seq.to_le_bytes(), to.to_le_bytes()].concat();
                put!(DAMAGE, (log, seq, to), |_: &[u8]| table::sealed(Tag::Damage, log, &sealed_key, new));
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Bytes as the body of a group: kind, log, sequence and two lengths choose a record, until they end. The checksums are right.
#[must_use]
pub fn body_of(bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_at_checked(12) {
        let [kind, log, subject, payload, ..] = *head else { break };
        let seq = u64_at(head, 4).unwrap_or_default();
        // Small sequences often, any now and then.
        let seq = if kind & 0x80 == 0 { seq & 0xff } else { seq };
        let (subject, tail) = tail.split_at_checked(usize::from(subject & 0x0f)).unwrap_or((tail, &[]));
        let (payload, tail) = tail.split_at_checked(usize::from(payload & 0x3f)).unwrap_or((tail, &[]));
        let kinds = [
            Kind::Message,
            Kind::Skip,
            Kind::Remove,
            Kind::Purge,
            Kind::Create,
            Kind::Drop,
            Kind::Set,
            Kind::Unset,
            Kind::Reserve,
        ];
        let kind = kinds.get(usize::from(kind & 0x7f) % kinds.len()).copied().unwrap_or(Kind::Message);
        let frame = Frame { subject, payload, time: 1, ..Frame::bare(kind, u32::from(log & 3), seq) };
        frame.encode(&mut body);
        rest = tail;
    }
    // What is no record at all.
    body.extend_from_slice(rest);
    body
}

/// The name of the journal's first file.
#[must_use]
pub fn journal_name() -> String {
    file_name(1)
}

/// Puts a group with this body behind the last one of the journal's first file. Returns where its body lies.
///
/// # Panics
/// When the disk holds no journal with room for it.
pub fn append_group(disk: &Simulated, body: &[u8]) -> usize {
    let file = disk.open(&file_name(1), false).expect("a journal");
    let length = usize::try_from(file.len().expect("a length")).expect("it fits");
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes).expect("it is read");
    let FileHeader::Of { generation, .. } = read_file_header(&bytes) else { panic!("no journal file") };
    let (mut at, mut number, mut crc) = (START, 0, 0);
    while let Some(group) = bytes.get(usize::try_from(at).expect("it fits")..).and_then(Group::decode) {
        at = group.end(at);
        number = group.number;
        crc = group.crc;
    }
    assert!(number > 0, "a journal with a group");
    let group = Group {
        generation,
        number: number + 1,
        length: body.len() as u64,
        former_crc: crc,
        crc: body_crc(crc, &[body]),
    };
    assert!(group.end(at) <= length as u64, "room for the group");
    file.write_at(at, &group.encode()).expect("it is written");
    let behind = at + group.encode().len() as u64;
    file.write_at(behind, body).expect("it is written");
    usize::try_from(behind).expect("it fits")
}
