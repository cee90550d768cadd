//! A database that cannot be read for a while: what must be read for a removal is read before anything changes, so that a
//! removal is staged and shown as a whole, or not at all.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use weir_storage::simulated::Simulated;
use weir_storage::{
    Cost, Layout, LogId, LogSpec, LogState, Medium, Options, ReadError, StageError, Store, SubjectState,
};

const LOG: LogId = LogId(1);
const RECORDS: u64 = 200;
/// Removals go up to here.
const FIRST: u64 = 160;

fn open(disk: &Simulated) -> Store {
    let options = Options {
        journal_file_bytes: 512 << 10,
        cache_bytes: 64 << 10,
        is_threaded: false,
        ..Options::default()
    };
    Store::open(Arc::new(disk.clone()), options).unwrap()
}

/// A disk with a log of many records, all of them in the database.
fn filled(layout: Layout) -> Simulated {
    let disk = Simulated::new();
    let mut store = open(&disk);
    let cost = Cost { per_record: 0, per_headers: 0 };
    store.create_log(LogSpec { medium: Medium::Disk, layout, cost, first_seq: 1 }).unwrap();
    for seq in 1..=RECORDS {
        let subject = format!("s.{}", seq % 7);
        store.append(LOG, seq, seq.cast_signed(), subject.as_bytes(), b"", &[7; 2000]).unwrap();
    }
    store.close().unwrap();
    disk
}

/// All that is known without reading.
fn numbers(store: &Store) -> (LogState, u64, usize) {
    let by_subject = (0..7).map(|subject| {
        let subject = format!("s.{subject}");
        store.count(LOG, 0, Some(&|other| other == subject.as_bytes())).unwrap()
    });
    (store.state(LOG).unwrap(), by_subject.sum(), store.staged_bytes())
}

/// All that is to be known, with the sequences present.
fn everything(store: &Store) -> (LogState, Vec<(bytes::Bytes, SubjectState)>, Vec<u64>) {
    (store.state(LOG).unwrap(), store.subjects(LOG, None), present(store).unwrap())
}

/// The sequences that can be read.
fn present(store: &Store) -> Result<Vec<u64>, ReadError> {
    let there = |seq| store.get(LOG, seq).map(|record| record.map(|_| seq));
    (1..=RECORDS).filter_map(|seq| there(seq).transpose()).collect()
}

/// Removes what is below [`FIRST`] with every read failing from some point on. Returns how often it was refused.
fn refusals(disk: &Simulated, remove: fn(&mut Store) -> Result<u64, StageError>) -> u64 {
    // One of those that stay was removed before.
    let left = RECORDS - FIRST;
    for reads in 0.. {
        let disk = disk.copy();
        let mut store = open(&disk);
        store.remove(LOG, &[20, FIRST + 1]).unwrap();
        let before = numbers(&store);
        disk.fail_reads_after(reads);
        let removed = remove(&mut store);
        let after = numbers(&store);
        disk.heal();
        store.seal(Box::new(|sealed| sealed.unwrap()));
        store.close().unwrap();
        let kept = everything(&open(&disk));
        match removed {
            Ok(removed) => {
                assert_eq!((removed, after.0.messages, after.1), (FIRST - 2, left, left));
                assert_eq!(
                    (after.0.first_seq, after.0.first_time),
                    (FIRST, FIRST.cast_signed()),
                    "after {reads} reads"
                );
                assert_eq!((kept.0, kept.2.len() as u64), (after.0, left), "after {reads} reads");
                return reads;
            }
            Err(error) => {
                let is_named = matches!(error, StageError::Unreadable(ReadError::Unavailable(_)));
                assert!(is_named, "after {reads} reads: {error}");
                assert_eq!(after, before, "after {reads} reads");
                assert_eq!((kept.0.messages, kept.0.first_seq), (RECORDS - 2, 1), "after {reads} reads");
                assert_eq!(kept.2.len() as u64, RECORDS - 2, "after {reads} reads");
            }
        }
    }
    0
}

#[test]
fn a_purge_is_staged_as_a_whole_or_refused() {
    for layout in [Layout::Blocks, Layout::Rows] {
        let refused = refusals(&filled(layout), |store| store.purge(LOG, FIRST));
        assert!(refused > 1, "{layout:?}: only {refused} reads can fail");
    }
}

#[test]
fn limits_remove_as_a_whole_or_not() {
    for layout in [Layout::Blocks, Layout::Rows] {
        let refused = refusals(&filled(layout), |store| match store.evict_below(LOG, FIRST) {
            0 => Err(ReadError::Unavailable("nothing was removed".to_owned()).into()),
            removed => Ok(removed),
        });
        assert!(refused > 1, "{layout:?}: only {refused} reads can fail");
    }
}

#[test]
fn a_read_that_failed_once_succeeds_again() {
    for layout in [Layout::Blocks, Layout::Rows] {
        let disk = filled(layout);
        let mut store = open(&disk);
        disk.fail_reads_after(0);
        let refused = (1..=RECORDS).find_map(|seq| store.get(LOG, seq).err());
        assert!(matches!(refused, Some(ReadError::Unavailable(_))), "{refused:?}");
        store.process();
        assert!(store.stuck().is_some(), "the disk gives nothing yet, and that can be asked");
        disk.heal();
        store.process();
        assert_eq!(store.stuck(), None);
        assert_eq!(everything(&store).2.len() as u64, RECORDS);
    }
}

#[test]
fn reads_that_failed_succeed_again_with_threads() {
    let disk = filled(Layout::Rows);
    let (wake, woken) = channel();
    let wake = Arc::new(move || wake.send(()).unwrap_or_default());
    let options = Options { wake, cache_bytes: 64 << 10, ..Options::default() };
    let mut store = Store::open(Arc::new(disk.clone()), options).unwrap();
    // Rows are read one by one, and not kept.
    for time in 1..=3 {
        disk.fail_reads_after(0);
        let refused = (1..=RECORDS).find_map(|seq| store.get(LOG, seq).err());
        assert!(matches!(refused, Some(ReadError::Unavailable(_))), "{refused:?}");
        disk.heal();
        // The mover, looking for what dropped logs have left, may have met the failure too: so a wake may be about either, and
        // an owner looks without one from time to time. A minute at most.
        let present = (0..600).find_map(|_| {
            store.process();
            let _ = woken.recv_timeout(Duration::from_millis(100));
            store.process();
            present(&store).ok()
        });
        assert_eq!(present.map(|present| present.len() as u64), Some(RECORDS), "time {time}");
    }
}

#[test]
fn a_write_that_failed_leaves_the_database_readable() {
    for layout in [Layout::Blocks, Layout::Rows] {
        let filled = filled(layout);
        for at in 0.. {
            let disk = filled.copy();
            let mut store = open(&disk);
            // The end of a log is moved at once.
            let other = store.create_log(store.spec(LOG).unwrap().clone()).unwrap();
            store.drop_log(other).unwrap();
            store.seal(Box::new(drop));
            let attempt = disk.attempts() + at;
            disk.fail(attempt..attempt + 1, ErrorKind::Other);
            store.process();
            assert_eq!(everything(&store).2.len() as u64, RECORDS, "{layout:?}, attempt {at} fails");
            if disk.attempts() <= attempt {
                assert!(at > 10, "only {at} attempts");
                break;
            }
        }
    }
}
