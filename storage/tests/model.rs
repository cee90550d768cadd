//! Random operations against a naive model: for both media and both layouts every read gives what the model gives.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/model.rs"]
mod model;

use std::sync::Arc;

use model::{Model, Step, step};
use proptest::prelude::*;
use weir_storage::simulated::Simulated;
use weir_storage::{Cost, Disk, Folder, Layout, LogSpec, Medium, Options, Store};

fn spec(medium: Medium, layout: Layout) -> LogSpec {
    LogSpec { medium, layout, cost: Cost { per_record: 22, per_headers: 4 }, first_seq: 1 }
}

fn check(medium: Medium, layout: Layout, is_threaded: bool, steps: &[Step]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let simulated = Simulated::new();
    let options = Options { journal_file_bytes: 64 << 10, is_threaded, ..Options::default() };
    let open = || {
        // Threads on real files; without them, files in memory.
        let disk: Arc<dyn Disk> = if is_threaded {
            Arc::new(Folder::open(folder.path()).unwrap())
        } else {
            Arc::new(simulated.clone())
        };
        Store::open(disk, options.clone()).unwrap()
    };
    let mut store = open();
    let log = store.create_log(spec(medium, layout)).unwrap();
    let mut model = Model::new(spec(medium, layout));
    for (number, step) in steps.iter().enumerate() {
        if matches!(step, Step::Reopen) {
            store.close().unwrap();
            store = open();
            model.reopened();
            model::compare(&store, log, &model)?;
        } else {
            model::apply(&mut store, log, &mut model, step)?;
        }
        if number % 8 == 7 {
            model::compare(&store, log, &model)?;
        }
    }
    model::compare(&store, log, &model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_logs(steps in proptest::collection::vec(step(), 0..120)) {
        check(Medium::Memory, Layout::Blocks, false, &steps)?;
    }

    #[test]
    fn disk_logs_in_blocks(steps in proptest::collection::vec(step(), 0..120)) {
        check(Medium::Disk, Layout::Blocks, false, &steps)?;
    }

    #[test]
    fn disk_logs_in_rows(steps in proptest::collection::vec(step(), 0..120)) {
        check(Medium::Disk, Layout::Rows, false, &steps)?;
    }
}

proptest! {
    // Each step may wait for real syncs.
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn disk_logs_with_threads(steps in proptest::collection::vec(step(), 0..120)) {
        check(Medium::Disk, Layout::Blocks, true, &steps)?;
    }
}
