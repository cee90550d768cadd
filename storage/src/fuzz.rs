//! What hostile bytes are thrown at that only this crate can see: the codecs of records, groups and rows. Compiled for fuzzing alone.
//!
//! Each body takes bytes and panics when something does not hold.

use crate::disk::Disk;
use crate::field::u64_at;
use crate::home::table::{self, BlockMeta, LogRow, SubjectRow, Tag};
use crate::journal::format::{FileHeader, Group, Position, START, body_crc, read_file_header};
use crate::journal::writer::file_name;
use crate::log::LogSpec;
use crate::record::{Frame, Kind, Piece, Walk, decode_runs, encode_runs};
use crate::simulated::Simulated;

/// Bytes as records, as a group and as the head of a file: every byte is accounted for, and what is understood is written the same.
pub fn records(bytes: &[u8]) {
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
        assert_eq!(
            Some(group.encode().as_slice()),
            bytes.get(..group.encode().len()).filter(|head| zeros(head))
        );
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

/// Puts a group with this body behind the last one of the journal's first file.
///
/// # Panics
/// When the disk holds no journal with room for it.
pub fn append_group(disk: &Simulated, body: &[u8]) {
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
    file.write_at(at + group.encode().len() as u64, body).expect("it is written");
}
