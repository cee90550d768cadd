//! Answers come in the order of the seals, whether something is written or not.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

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
