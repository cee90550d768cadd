//! Answers come in the order of the seals, whether something is written or not.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use weir_storage::simulated::Simulated;
use weir_storage::{Cost, Folder, Layout, LogSpec, Medium, Options, Store};

#[test]
fn a_seal_with_nothing_to_write_does_not_overtake_one_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Folder::open(folder.path()).unwrap();
    let mut store = Store::open(Arc::new(disk), Options::default()).unwrap();
    let cost = Cost { per_record: 0, per_headers: 0 };
    let spec = LogSpec { medium: Medium::Disk, layout: Layout::Blocks, cost, first_seq: 1 };
    let log = store.create_log(spec).unwrap();
    let (answer, answers) = channel();
    let mut sealed = 0u64;
    for round in 1..=50 {
        store.append(log, round, 0, b"s", b"", b"x").unwrap();
        for turn in 0..20 {
            let (number, answer) = (sealed, answer.clone());
            sealed += 1;
            store.seal(Box::new(move |result| {
                if turn == 0 {
                    // The store hears that it is durable long before it is answered.
                    std::thread::sleep(Duration::from_millis(2));
                }
                answer.send((number, result.is_ok())).unwrap();
            }));
            std::thread::sleep(Duration::from_micros(200));
            store.process();
        }
    }
    for number in 0..sealed {
        assert_eq!(answers.recv().unwrap(), (number, true));
    }
}

/// Every sequence has one behind it, so that "none is left" can be told.
#[test]
fn the_highest_number_is_no_sequence() {
    let options = Options { is_threaded: false, ..Options::default() };
    for is_killed in [false, true] {
        let disk = Arc::new(Simulated::new());
        let mut store = Store::open(disk.clone(), options.clone()).unwrap();
        for (medium, layout) in
            [(Medium::Disk, Layout::Blocks), (Medium::Disk, Layout::Rows), (Medium::Memory, Layout::Rows)]
        {
            let cost = Cost { per_record: 0, per_headers: 0 };
            let log = store.create_log(LogSpec { medium, layout, cost, first_seq: u64::MAX - 1 }).unwrap();
            let error = store.append(log, u64::MAX, 0, b"a", b"", b"").unwrap_err();
            assert_eq!(error.to_string(), "the highest sequence of a record is 2^64 - 2");
            store.append(log, u64::MAX - 1, 0, b"a", b"", b"").unwrap();
            assert_eq!(store.evict(log, &[u64::MAX - 1]), 1);
            assert_eq!(store.state(log).unwrap().first_seq, u64::MAX);
        }
        store.seal(Box::new(|sealed| sealed.unwrap()));
        store.process();
        if is_killed {
            drop(store);
        } else {
            store.close().unwrap();
        }
        let store = Store::open(disk, options.clone()).unwrap();
        for log in store.logs() {
            assert_eq!(store.state(log).unwrap().last_seq, u64::MAX - 1, "killed: {is_killed}, {log:?}");
        }
    }
}
