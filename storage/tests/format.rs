//! Files of earlier versions are opened. Each fixture holds the non-zero pages of one file: number (u32), 4096 bytes.
//!
//! `WEIR_WRITE_FIXTURES=1` writes those of the current version, once, before a release.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use weir_storage::simulated::Simulated;
use weir_storage::{Cost, Disk, Layout, LogId, LogSpec, Medium, Options, Store};

const PAGE: usize = 4096;
const FILES: [&str; 3] = ["journal-0001", "journal-0002", "main.redb"];

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

fn open(disk: &Simulated) -> Store {
    let options = Options { journal_file_bytes: 64 << 10, is_threaded: false, ..Options::default() };
    Store::open(Arc::new(disk.clone()), options).unwrap()
}

/// One of everything: half of it in redb, half in the journal.
fn fill(disk: &Simulated) {
    let spec = |medium, layout| LogSpec {
        medium,
        layout,
        cost: Cost { per_record: 22, per_headers: 4 },
        first_seq: 1,
    };
    let mut store = open(disk);
    let blocks = store.create_log(spec(Medium::Disk, Layout::Blocks)).unwrap();
    let rows = store.create_log(spec(Medium::Disk, Layout::Rows)).unwrap();
    let memory = store.create_log(spec(Medium::Memory, Layout::Blocks)).unwrap();
    store.set_attribute(LogId(0), b"a", b"of the store").unwrap();
    store.set_attribute(rows, b"b", b"of a log").unwrap();
    for seq in 1..=20u64 {
        let subject = format!("s.{}", seq % 3);
        let time = 1_000_000_000 * seq as i64;
        for log in [blocks, rows, memory] {
            store
                .append(log, seq, time, subject.as_bytes(), b"NATS/1.0\r\na: b\r\n\r\n", &[seq as u8; 50])
                .unwrap();
        }
        store.seal(Box::new(|result| result.unwrap()));
        store.process();
        if seq == 10 {
            store.close().unwrap();
            store = open(disk);
            store.skip_to(memory, seq).unwrap();
        }
    }
    store.remove(rows, &[3, 15]).unwrap();
    store.purge(blocks, 5).unwrap();
    store.skip_to(blocks, 30).unwrap();
    store.remove_attribute(rows, b"b").unwrap();
    store.seal(Box::new(|result| result.unwrap()));
    store.process();
}

fn check(store: &Store) {
    let [blocks, rows, memory] = [LogId(1), LogId(2), LogId(3)];
    assert_eq!(store.logs(), [blocks, rows, memory]);
    assert_eq!(store.damage(), []);
    assert_eq!(store.attribute(LogId(0), b"a").as_deref(), Some(&b"of the store"[..]));
    assert_eq!(store.attributes(rows, b""), []);
    let state = store.state(blocks).unwrap();
    assert_eq!((state.messages, state.first_seq, state.last_seq, state.subjects), (16, 5, 30, 3));
    let state = store.state(rows).unwrap();
    assert_eq!((state.messages, state.first_seq, state.last_seq, state.subjects), (18, 1, 20, 3));
    let state = store.state(memory).unwrap();
    assert!(state.messages == 0 && state.last_seq >= 20, "{state:?}");
    for (log, seq) in [(blocks, 5), (blocks, 20), (rows, 1), (rows, 14), (rows, 20)] {
        let record = store.get(log, seq).unwrap().unwrap();
        assert_eq!(record.time, 1_000_000_000 * seq as i64);
        assert_eq!(record.subject, format!("s.{}", seq % 3));
        assert_eq!(&record.headers[..], b"NATS/1.0\r\na: b\r\n\r\n");
        assert_eq!(&record.payload[..], [seq as u8; 50]);
    }
    for (log, seq) in [(blocks, 4), (rows, 3), (rows, 15)] {
        assert_eq!(store.get(log, seq).unwrap(), None);
    }
}

#[test]
fn files_of_version_1_open() {
    if std::env::var("WEIR_WRITE_FIXTURES").is_ok() {
        let disk = Simulated::new();
        fill(&disk);
        fs::create_dir_all(folder(1)).unwrap();
        for name in FILES {
            let file = disk.open(name, false).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(0, &mut bytes).unwrap();
            let mut pages = (bytes.len() as u64).to_le_bytes().to_vec();
            for (number, page) in
                bytes.chunks(PAGE).enumerate().filter(|(_, page)| page.iter().any(|b| *b != 0))
            {
                pages.extend_from_slice(&(number as u32).to_le_bytes());
                pages.extend_from_slice(page);
            }
            fs::write(folder(1).join(name), pages).unwrap();
        }
    }
    let disk = Simulated::new();
    for name in FILES {
        let pages = fs::read(folder(1).join(name)).unwrap();
        let (length, pages) = pages.split_at(8);
        let file = disk.open(name, true).unwrap();
        file.set_len(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
        for page in pages.chunks(4 + PAGE) {
            let number = u32::from_le_bytes(page[..4].try_into().unwrap());
            file.write_at(u64::from(number) * PAGE as u64, &page[4..]).unwrap();
        }
    }
    check(&open(&disk));
}

#[test]
fn what_is_written_now_opens_too() {
    let disk = Simulated::new();
    fill(&disk);
    check(&open(&disk));
}
