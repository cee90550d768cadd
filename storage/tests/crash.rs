//! Power cuts in random runs: the campaign of `support/campaign.rs`, a few points of it.
//!
//! `cargo run --release -p weir-storage --example crash_campaign` goes through as many as one likes.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "support/campaign.rs"]
mod campaign;
#[path = "support/workload.rs"]
mod workload;

use campaign::{POINTS, Style, campaign, point, run};
use std::io::ErrorKind;
use std::sync::Arc;

use weir_storage::simulated::{Cut, Simulated};
use weir_storage::{Cost, Layout, LogSpec, Medium, Options, Store};
use workload::{Random, options};

#[test]
fn a_power_cut_takes_nothing_that_was_answered() {
    for number in 0..4 {
        let counts = campaign(number * POINTS..(number + 1) * POINTS);
        let counts = counts.unwrap_or_else(|(seed, reason)| panic!("seed {seed}: {reason}"));
        assert_eq!(counts.points, POINTS);
        assert_eq!(counts.at_boundaries, 2 * counts.syncs, "every one of them: {counts:?}");
    }
}

#[test]
fn nor_when_threads_write() {
    let style = Style { options: Options { is_threaded: true, ..options() }, is_failing: false };
    for seed in 0..6 {
        let run = run(seed, &style).unwrap_or_else(|reason| panic!("seed {seed}: {reason}"));
        let mut random = Random(seed);
        for number in 0..120 {
            let at = point(&run, number, 0, &mut random);
            at.unwrap_or_else(|reason| panic!("seed {seed}, point {number}: {reason}"));
        }
    }
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let mut failures = 0;
    for seed in 0..4 {
        let run = run(seed, &Style::of(seed)).unwrap();
        let mut random = Random(seed);
        failures += (0..60).filter(|number| point(&run, *number, 10, &mut random).is_err()).count();
    }
    assert!(failures > 0, "a harness that never fails proves nothing");
}

#[test]
fn files_of_one_group_each_are_no_damage() {
    let disk = Simulated::new();
    let options = Options { mover_lag: 1000, ..options() };
    let mut store = Store::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let cost = Cost { per_record: 0, per_headers: 0 };
    let spec = LogSpec { medium: Medium::Disk, layout: Layout::Blocks, cost, first_seq: 1 };
    let log = store.create_log(spec).unwrap();
    for seq in 1..=4 {
        store.append(log, seq, 0, b"s", b"", &vec![7; 60_000]).unwrap();
        store.seal(Box::new(|result| result.unwrap()));
        store.process();
    }
    drop(store);
    let store = Store::open(Arc::new(disk), options).unwrap();
    assert_eq!((store.damage(), store.state(log).unwrap().messages), (vec![], 4));
}

/// A start that is killed leaves files that the folder may yet lose; the next one uses them.
#[test]
fn files_that_a_killed_start_made_do_not_go_with_a_power_cut() {
    let options = Options { mover_lag: 1000, ..options() };
    let cost = Cost { per_record: 0, per_headers: 0 };
    let spec = LogSpec { medium: Medium::Disk, layout: Layout::Blocks, cost, first_seq: 1 };
    for at in 0.. {
        let disk = Simulated::new();
        // A killed process does nothing more either.
        disk.fail(at..u64::MAX, ErrorKind::Other);
        let killed = Store::open(Arc::new(disk.clone()), options.clone());
        if killed.is_ok() {
            break;
        }
        disk.heal();
        let mut store = Store::open(Arc::new(disk.clone()), options.clone()).unwrap();
        let log = store.create_log(spec.clone()).unwrap();
        for seq in 1..=2 {
            // Each fills a file.
            store.append(log, seq, 0, b"s", b"", &vec![7; 60_000]).unwrap();
            store.seal(Box::new(|result| result.unwrap()));
            store.process();
        }
        let cut = Cut { kept_percent: 0, torn_percent: 0, lie_one_in: 0 };
        let left = disk.cut(disk.operations().len(), cut, &mut || 0);
        let store = Store::open(Arc::new(left), options.clone()).unwrap();
        let messages = store.state(log).map(|state| state.messages);
        assert_eq!(messages, Some(2), "killed before attempt {at}, answered and gone");
    }
}
