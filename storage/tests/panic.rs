//! A worker that panics is a mistake of ours: the store says so, and nobody waits for it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use weir_storage::simulated::Simulated;
use weir_storage::{Cost, Layout, LogId, LogSpec, Medium, Options, StageError, Store};

const FILE_BYTES: u64 = 64 << 10;

fn open(disk: &Simulated, wake: Arc<dyn Fn() + Send + Sync>) -> (Store, LogId) {
    let options = Options { journal_file_bytes: FILE_BYTES, wake, ..Options::default() };
    let mut store = Store::open(Arc::new(disk.clone()), options).unwrap();
    let cost = Cost { per_record: 0, per_headers: 0 };
    let spec = LogSpec { medium: Medium::Disk, layout: Layout::Blocks, cost, first_seq: 1 };
    let log = store.create_log(spec).unwrap();
    (store, log)
}

/// Appends and seals until the store says no, far beyond what its journal holds; what it says.
fn append_until_refused(store: &mut Store, log: LogId) -> StageError {
    for seq in 1..=100_000 {
        if let Err(error) = store.append(log, seq, 0, b"s", b"", &[7; 1000]) {
            return error;
        }
        store.seal(Box::new(drop));
        store.process();
    }
    panic!("everything is taken");
}

/// Takes reports until `is_there`, a minute at most.
fn until(store: &mut Store, is_there: impl Fn(&Store) -> bool) {
    for _ in 0..6000 {
        store.process();
        if is_there(store) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not come");
}

#[test]
fn a_journal_that_has_panicked_refuses_what_comes_and_keeps_what_was_answered() {
    let disk = Simulated::new();
    let (mut store, log) = open(&disk, Arc::new(|| ()));
    store.append(log, 1, 0, b"s", b"", b"kept").unwrap();
    let (done, answered) = std::sync::mpsc::channel();
    store.seal(Box::new(move |result| done.send(result).unwrap()));
    assert_eq!(answered.recv_timeout(Duration::from_secs(60)).unwrap(), Ok(()));
    // Answers are given on the journal's thread.
    store.append(log, 2, 0, b"s", b"", b"").unwrap();
    store.seal(Box::new(|_| panic!("a mistake in an answer")));
    until(&mut store, |store| store.refusing().is_some());
    assert_eq!(store.refusing(), Some("the journal's thread has panicked"));
    let error = store.append(log, 3, 0, b"s", b"", b"").unwrap_err();
    assert!(matches!(error, StageError::Failed { .. }), "{error}");
    store.close().unwrap_err();
    let (store, _) = open(&disk, Arc::new(|| ()));
    assert_eq!(&store.get(log, 1).unwrap().unwrap().payload[..], b"kept");
}

#[test]
fn a_mover_that_has_panicked_is_named_and_holds_nobody_up() {
    let disk = Simulated::new();
    let is_armed = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&is_armed);
    // The owner is woken on the thread that has news for it.
    let wake = move || {
        let is_mover = std::thread::current().name() == Some("weir-mover");
        assert!(!(is_mover && armed.swap(false, SeqCst)), "a mistake in a report");
    };
    let (mut store, log) = open(&disk, Arc::new(wake));
    is_armed.store(true, SeqCst);
    append_until_refused(&mut store, log);
    until(&mut store, |store| store.stuck().is_some());
    assert_eq!(store.stuck(), Some("the thread that moves what is written has panicked"));
    // The journal's files are full in the end, and nobody waits for one.
    store.close().unwrap_err();
    let (store, _) = open(&disk, Arc::new(|| ()));
    assert_eq!(&store.get(log, 1).unwrap().unwrap().payload[..], &[7; 1000]);
}
