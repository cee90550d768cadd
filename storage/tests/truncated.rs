//! Journal files that were cut, or are gone: what was answered is there, or it is named.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use weir_storage::simulated::Simulated;
use weir_storage::{Cost, Disk, Layout, LogId, LogSpec, Medium, Options, Store};

const LOG: LogId = LogId(1);
/// Bytes of a group of two records in the journal.
const GROUP: u64 = 2048;

fn open(disk: &Simulated) -> Store {
    // The database follows only when the journal waits for it.
    let options = Options {
        journal_file_bytes: 64 << 10,
        cache_bytes: 1 << 20,
        is_threaded: false,
        mover_lag: u32::MAX,
        ..Options::default()
    };
    Store::open(Arc::new(disk.clone()), options).unwrap()
}

fn append(store: &mut Store, groups: u64) {
    for _ in 0..groups {
        for _ in 0..2 {
            let seq = store.state(LOG).unwrap().last_seq + 1;
            store.append(LOG, seq, 0, b"s", b"", &[u8::try_from(seq).unwrap(); 900]).unwrap();
        }
        store.seal(Box::new(|result| result.unwrap()));
        store.process();
    }
}

/// A store with as many groups of two records, all of them in the journal alone.
fn filled(disk: &Simulated, groups: u64) -> Store {
    let mut store = open(disk);
    let cost = Cost { per_record: 0, per_headers: 0 };
    let spec = LogSpec { medium: Medium::Disk, layout: Layout::Blocks, cost, first_seq: 1 };
    assert_eq!(store.create_log(spec).unwrap(), LOG);
    store.seal(Box::new(|result| result.unwrap()));
    store.process();
    append(&mut store, groups);
    store
}

fn present(store: &Store) -> Vec<u64> {
    let last = store.state(LOG).map_or(0, |state| state.last_seq);
    (1..=last).filter(|seq| matches!(store.get(LOG, *seq), Ok(Some(_)))).collect()
}

fn damage(store: &Store) -> Vec<String> {
    store.damage().into_iter().map(|damage| damage.what).collect()
}

fn copies(disk: &Simulated) -> usize {
    disk.list().unwrap().iter().filter(|name| name.starts_with("damaged-")).count()
}

fn truncate(disk: &Simulated, name: &str, length: u64) {
    disk.open(name, false).unwrap().set_len(length).unwrap();
}

#[test]
fn a_file_that_was_cut_is_named() {
    let disk = Simulated::new();
    drop(filled(&disk, 20));
    // Behind the file's header and the group that creates the log.
    let start = 1024;
    let cases = [
        // (length, records that are left, copies)
        (start + 20 * GROUP + 512, 40, 0),
        (start + 20 * GROUP, 40, 0),
        (start + 10 * GROUP, 20, 0),
        (start + 10 * GROUP + 40, 20, 0),
        (start + 10 * GROUP + 700, 20, 1),
        (start + 10 * GROUP + 1500, 21, 1),
        (start, 0, 0),
    ];
    for (length, left, copied) in cases {
        let copy = disk.copy();
        truncate(&copy, "journal-0001", length);
        let mut store = open(&copy);
        assert_eq!(present(&store), (1..=left).collect::<Vec<_>>(), "{length}");
        let expected = format!(
            "journal-0001 has {length} bytes and was made with 65536: what was in the rest of it is lost"
        );
        assert!(damage(&store).contains(&expected), "{length}: {:?}", damage(&store));
        assert_eq!(copies(&copy), copied, "{length}: {:?}", damage(&store));
        // It stays named, and the store goes on.
        append(&mut store, 3);
        drop(store);
        let store = open(&copy);
        assert!(damage(&store).contains(&expected), "{length}: {:?}", damage(&store));
        assert_eq!(present(&store).len() as u64, left + 6, "{length}");
    }
    let store = open(&disk);
    assert_eq!((present(&store).len(), damage(&store)), (40, Vec::new()), "a whole file has lost nothing");
}

#[test]
fn a_later_file_tells_what_a_cut_one_has_lost() {
    let disk = Simulated::new();
    drop(filled(&disk, 40));
    truncate(&disk, "journal-0001", 1024 + 10 * GROUP);
    let store = open(&disk);
    let (present, damage) = (present(&store), store.damage());
    assert_eq!(present[..20], (1..=20).collect::<Vec<_>>());
    assert!(present.last() == Some(&80) && present.len() < 80, "{present:?}");
    let lost = damage.iter().find(|damage| damage.log == LOG).unwrap();
    assert_eq!((lost.first, lost.last), (21, present[20] - 1), "{damage:?}");
    assert!(damage.iter().any(|damage| damage.what.starts_with("journal-0001 has ")), "{damage:?}");
}

#[test]
fn a_cut_behind_the_last_group_of_a_file_loses_nothing_when_a_later_file_goes_on() {
    let disk = Simulated::new();
    drop(filled(&disk, 40));
    truncate(&disk, "journal-0001", (64 << 10) - 100);
    let store = open(&disk);
    assert_eq!((present(&store).len(), damage(&store)), (80, Vec::new()));
}

#[test]
fn a_file_that_is_gone_is_named_when_the_database_was_in_the_middle_of_it() {
    let disk = Simulated::new();
    filled(&disk, 5).close().unwrap();
    for name in ["journal-0001", "journal-0002"] {
        disk.remove(name).unwrap();
    }
    let store = open(&disk);
    assert_eq!(present(&store).len(), 10);
    let damage = damage(&store);
    assert!(damage.len() == 1 && damage[0].contains("is gone"), "{damage:?}");
}

#[test]
fn a_file_of_another_size_is_not_cut() {
    let disk = Simulated::new();
    drop(filled(&disk, 5));
    let options = Options { journal_file_bytes: 128 << 10, is_threaded: false, ..Options::default() };
    let store = Store::open(Arc::new(disk.clone()), options).unwrap();
    assert_eq!((present(&store).len(), damage(&store)), (10, Vec::new()));
    drop(store);
    let store = open(&disk);
    assert_eq!((present(&store).len(), damage(&store)), (10, Vec::new()));
}
