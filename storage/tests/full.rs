//! A full disk: what was answered can be read, nothing else shows, and space can be freed.

#![allow(clippy::unwrap_used, dead_code)]

#[path = "support/workload.rs"]
mod workload;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::time::Duration;

use weir_storage::simulated::Simulated;
use weir_storage::{
    Cost, Disk as _, Layout, LogId, LogSpec, Medium, Next, Options, Removal, StageError, Store,
};
use workload::options;

fn spec(layout: Layout) -> LogSpec {
    LogSpec { medium: Medium::Disk, layout, cost: Cost { per_record: 0, per_headers: 0 }, first_seq: 1 }
}

/// A store with two logs; each record of the first is sealed by itself.
struct Field {
    disk: Simulated,
    options: Options,
    store: Store,
    log: LogId,
    other: LogId,
    /// The last sequence that was answered.
    answered: Arc<AtomicU64>,
    woken: std::sync::mpsc::Receiver<()>,
}

impl Field {
    fn new(layout: Layout, is_threaded: bool) -> Self {
        let disk = Simulated::new();
        let (wake, woken) = channel();
        let wake = Arc::new(move || wake.send(()).unwrap_or_default());
        let options = Options { is_threaded, wake, ..options() };
        let mut store = Store::open(Arc::new(disk.clone()), options.clone()).unwrap();
        let (log, other) = (store.create_log(spec(layout)).unwrap(), store.create_log(spec(layout)).unwrap());
        store.append(other, 1, 0, b"s", b"", b"other").unwrap();
        Self { disk, options, store, log, other, answered: Arc::default(), woken }
    }

    /// Appends a record; what says no to it.
    fn send(&mut self) -> Option<String> {
        let seq = self.store.state(self.log).unwrap().last_seq + 1;
        if let Err(error) = self.store.append(self.log, seq, 0, b"s", b"", &[7; 900]) {
            return Some(error.to_string());
        }
        let (done, result) = channel();
        let answered = Arc::clone(&self.answered);
        self.store.seal(Box::new(move |sealed| {
            if sealed.is_ok() {
                answered.store(seq, SeqCst);
            }
            done.send(sealed).unwrap();
        }));
        loop {
            self.store.process();
            // Without threads it is there; with them it comes, and the store may need to be looked after meanwhile.
            if let Ok(sealed) = result.recv_timeout(Duration::from_millis(5)) {
                return sealed.err();
            }
        }
    }

    /// Sends until the disk is full and changes are refused.
    fn send_until_refused(&mut self) {
        for _ in 0..2000 {
            if self.send().is_some() {
                // The journal's thread is ahead of what was taken note of.
                while self.store.refusing().is_none_or(|cause| !cause.contains("then: ")) {
                    self.store.process();
                    let _ = self.woken.recv_timeout(Duration::from_millis(10));
                }
                return;
            }
        }
        panic!("the disk is full, and everything is taken");
    }

    fn sequences(&self) -> Vec<u64> {
        let (mut seqs, mut from) = (Vec::new(), 0);
        while let Next::Record(record) = self.store.next(self.log, from, u64::MAX, None, 1).unwrap() {
            from = record.seq + 1;
            seqs.push(record.seq);
        }
        seqs
    }

    fn open_again(self) -> Self {
        drop(self.store);
        let store = Store::open(Arc::new(self.disk.clone()), self.options.clone()).unwrap();
        Self { store, ..self }
    }
}

#[test]
fn what_was_answered_shows_and_nothing_else() {
    for is_threaded in [false, true] {
        let mut field = Field::new(Layout::Blocks, is_threaded);
        for _ in 0..40 {
            assert_eq!(field.send(), None);
        }
        field.disk.fill(0);
        field.send_until_refused();
        let answered = field.answered.load(SeqCst);
        let state = field.store.state(field.log).unwrap();
        assert_eq!((state.last_seq, state.durable_seq, state.messages), (answered, answered, answered));
        assert_eq!(field.sequences(), (1..=answered).collect::<Vec<_>>());
        assert!(field.store.get(field.log, answered + 1).unwrap().is_none());
        assert_eq!(field.store.subject(field.log, b"s").unwrap().last_seq, answered);
        assert_eq!(field.store.lost_changes().count(), 0);
    }
}

#[test]
fn other_changes_that_are_lost_are_known() {
    let mut field = Field::new(Layout::Rows, false);
    assert_eq!(field.send(), None);
    field.store.set_attribute(field.other, b"kept", b"").unwrap();
    assert_eq!(field.send(), None);
    field.disk.fail(field.disk.attempts()..u64::MAX, ErrorKind::Other);
    field.store.set_attribute(field.other, b"lost", b"").unwrap();
    field.store.remove(field.log, &[1]).unwrap();
    assert!(field.send().is_some());
    let lost: Vec<_> = field.store.lost_changes().collect();
    assert_eq!(lost, [(field.other, Some(&b"lost"[..])), (field.log, None)]);
    field.disk.heal();
    while field.store.refusing().is_some() {
        field.store.process();
    }
    assert_eq!(field.store.lost_changes().count(), 0);
    assert_eq!(field.sequences(), [1, 2]);
}

#[test]
fn space_is_freed_on_a_full_disk() {
    for layout in [Layout::Blocks, Layout::Rows] {
        for is_threaded in [false, true] {
            for (what, kept) in [("log", 0), ("all", 0), ("below", 1), ("these", 1)] {
                let context = format!("{layout:?}, threads: {is_threaded}, {what}");
                let mut field = Field::new(layout, is_threaded);
                // Much is in the database already, and not one page is left.
                for _ in 0..300 {
                    assert_eq!(field.send(), None);
                }
                field.disk.fill(0);
                field.send_until_refused();
                let answered = field.answered.load(SeqCst);
                let all: Vec<u64> = (2..=answered).collect();
                let removal = match what {
                    "log" => Removal::Log,
                    "all" => Removal::Below(answered + 1),
                    "below" => Removal::Below(answered),
                    _ => Removal::These(&all),
                };
                field.store.free(field.log, removal).unwrap_or_else(|error| panic!("{context}: {error}"));
                while field.store.refusing().is_some() {
                    field.store.process();
                }
                if what == "log" {
                    assert!(field.store.state(field.log).is_none(), "{context}");
                    field.log = field.other;
                    let seq = field.store.state(field.log).unwrap().last_seq;
                    assert_eq!(seq, 1, "{context}");
                    field.answered.store(1, SeqCst);
                } else {
                    let state = field.store.state(field.log).unwrap();
                    assert_eq!((state.messages, state.last_seq), (kept, answered), "{context}");
                }
                // What was freed can be used, and the disk is as full as before.
                for _ in 0..100 {
                    assert_eq!(field.send(), None, "{context}");
                }
                let (last, seqs) = (field.answered.load(SeqCst), field.sequences());
                assert_eq!(seqs.last(), Some(&last), "{context}");
                field.disk.heal();
                let field = field.open_again();
                assert_eq!(field.sequences(), seqs, "{context}: opened again");
            }
        }
    }
}

#[test]
fn what_cannot_be_freed_stays_as_it_is() {
    let mut field = Field::new(Layout::Blocks, false);
    let early = field.store.free(field.log, Removal::Log).unwrap_err();
    assert!(matches!(early, StageError::Invalid(_)), "{early}");
    for _ in 0..100 {
        assert_eq!(field.send(), None);
    }
    field.disk.fail(field.disk.attempts()..u64::MAX, ErrorKind::StorageFull);
    field.send_until_refused();
    let before = field.sequences();
    let error = field.store.free(field.log, Removal::Below(50)).unwrap_err();
    assert!(matches!(&error, StageError::Failed { cause } if cause.contains("simulated")), "{error}");
    assert_eq!(field.sequences(), before);
    let unknown = field.store.free(LogId(99), Removal::Log).unwrap_err();
    assert!(matches!(unknown, StageError::NoSuchLog(LogId(99))), "{unknown}");
    field.disk.heal();
    while field.store.refusing().is_some() {
        field.store.process();
    }
    assert_eq!(field.sequences(), before, "nothing of the removal is left behind");
    assert_eq!(field.open_again().sequences(), before);
}

/// The log is gone from the database before the owner's index can be made anew.
#[test]
fn a_log_that_is_freed_can_be_asked_for_until_the_store_has_recovered() {
    for layout in [Layout::Blocks, Layout::Rows] {
        let mut between = 0;
        for reads in 0.. {
            let mut field = Field::new(layout, false);
            assert_eq!(field.send(), None);
            // What is written is read from the disk again.
            field.options.cache_bytes = 0;
            let mut field = field.open_again();
            for _ in 0..20 {
                assert_eq!(field.send(), None);
            }
            field.disk.fail(field.disk.attempts()..u64::MAX, ErrorKind::Other);
            field.send_until_refused();
            field.disk.heal();
            field.disk.fail_reads_after(reads);
            let freed = field.store.free(field.log, Removal::Log);
            let is_refusing = field.store.refusing().is_some();
            // It may also be gone without having been told so.
            between += u64::from(freed.is_ok() && is_refusing);
            if let Ok(Some(record)) = field.store.get(field.log, 20) {
                assert_eq!((record.seq, freed.is_ok()), (20, false), "after {reads} reads");
            }
            field.disk.heal();
            while field.store.refusing().is_some() {
                field.store.process();
            }
            assert!(freed.is_err() || field.store.state(field.log).is_none(), "after {reads} reads");
            if !is_refusing {
                break;
            }
        }
        assert!(between > 0, "{layout:?}: the index is made anew at once");
    }
}

/// `mount -t tmpfs -o size=60m none DIR && WEIR_SMALL_DISK=DIR cargo test -p weir-storage --test full -- --ignored`
#[test]
#[ignore = "fills the file system that WEIR_SMALL_DISK names"]
fn space_is_freed_on_a_real_disk() {
    let folder =
        std::path::PathBuf::from(std::env::var_os("WEIR_SMALL_DISK").expect("WEIR_SMALL_DISK is set"));
    for what in ["log", "all"] {
        let path = folder.join(what);
        let open = || {
            let disk = Arc::new(weir_storage::Folder::open(&path).unwrap());
            Store::open(disk, Options::default()).unwrap()
        };
        let mut store = open();
        let log = store.create_log(spec(Layout::Blocks)).unwrap();
        let answered = Arc::new(AtomicU64::new(0));
        let fill = |store: &mut Store| {
            for seq in store.state(log).unwrap().last_seq + 1.. {
                if store.append(log, seq, 0, b"s", b"", &[7; 16 << 10]).is_err() {
                    break;
                }
                let (done, result) = channel();
                let answered = Arc::clone(&answered);
                store.seal(Box::new(move |sealed| {
                    if sealed.is_ok() {
                        answered.store(seq, SeqCst);
                    }
                    done.send(()).unwrap();
                }));
                result.recv().unwrap();
                store.process();
            }
            while store.refusing().is_none() {
                store.process();
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        fill(&mut store);
        let last = answered.load(SeqCst);
        let state = store.state(log).unwrap();
        assert_eq!((state.last_seq, state.messages), (last, last), "{what}: what was answered shows");
        assert!(store.get(log, last).unwrap().is_some());
        let removal = if what == "log" { Removal::Log } else { Removal::Below(last + 1) };
        store.free(log, removal).unwrap();
        assert_eq!(store.refusing(), None, "{what}");
        if what == "all" {
            fill(&mut store);
            assert!(answered.load(SeqCst) > last + 1000, "{what}: what was freed is used");
            store.free(log, Removal::Below(store.state(log).unwrap().last_seq + 1)).unwrap();
            assert_eq!(store.state(log).unwrap().messages, 0);
        }
        store.close().unwrap();
        assert_eq!(open().state(log).map(|state| state.messages), (what == "all").then_some(0));
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_lost_record_does_not_show_although_it_was_to_drive_others_out() {
    for layout in [Layout::Blocks, Layout::Rows] {
        let mut field = Field::new(layout, false);
        for _ in 0..3 {
            assert_eq!(field.send(), None);
        }
        field.disk.fail(field.disk.attempts()..u64::MAX, ErrorKind::Other);
        // One record is all that a limit leaves, and it is not the last one that was answered.
        for seq in 4..=6 {
            field.store.append(field.log, seq, 0, b"s", b"", b"lost").unwrap();
            field.store.evict_below(field.log, seq);
        }
        let (done, result) = channel();
        field.store.seal(Box::new(move |sealed| done.send(sealed).unwrap()));
        field.store.process();
        result.recv().unwrap().unwrap_err();
        let state = field.store.state(field.log).unwrap();
        assert_eq!((state.last_seq, state.messages, state.bytes), (3, 0, 0), "{layout:?}");
        assert_eq!(field.sequences(), [] as [u64; 0], "{layout:?}");
        // Records that are kept do not show: whoever asks is told.
        let lost: Vec<_> = field.store.lost_changes().collect();
        assert_eq!(lost, [(field.log, None)], "{layout:?}");
        field.disk.heal();
        while field.store.refusing().is_some() {
            field.store.process();
        }
        assert_eq!(field.store.lost_changes().count(), 0, "{layout:?}");
        assert_eq!(field.sequences(), [1, 2, 3], "{layout:?}: what drove them out is lost");
    }
}

#[test]
fn what_a_lost_record_drove_out_is_known_and_what_a_kept_one_did_is_not_in_doubt() {
    let mut field = Field::new(Layout::Blocks, false);
    for seq in 1..=3 {
        if seq == 3 {
            assert_eq!(field.store.evict(field.log, &[1]), 1);
        }
        assert_eq!(field.send(), None);
    }
    field.disk.fail(field.disk.attempts()..u64::MAX, ErrorKind::Other);
    field.store.append(field.other, 2, 0, b"s", b"", b"lost").unwrap();
    assert_eq!(field.store.evict(field.other, &[1]), 1);
    assert!(field.send().is_some());
    assert!(field.store.get(field.other, 1).unwrap().is_none());
    assert_eq!(field.store.lost_changes().collect::<Vec<_>>(), [(field.other, None)]);
    assert_eq!(field.sequences(), [2, 3]);
    field.disk.heal();
    while field.store.refusing().is_some() {
        field.store.process();
    }
    assert_eq!(field.store.get(field.other, 1).unwrap().map(|record| record.payload), Some("other".into()));
}

#[test]
fn a_start_on_a_full_disk_takes_the_room_of_the_reserve() {
    let room = || {
        // What was answered is in the journal alone.
        let mut field = Field::new(Layout::Blocks, false);
        assert_eq!(field.send(), None);
        field.options.journal_file_bytes = 256 << 10;
        let mut field = field.open_again();
        for _ in 0..60 {
            assert_eq!(field.send(), None);
        }
        field.disk.fill(0);
        field
    };
    let field = room();
    let answered: Vec<u64> = (1..=field.answered.load(SeqCst)).collect();
    assert_eq!(field.sequences(), answered);
    let field = field.open_again();
    assert_eq!(field.sequences(), answered);
    // Without it there is no room.
    let Field { disk, options, store, .. } = room();
    drop(store);
    disk.remove("reserve").unwrap();
    disk.fill(0);
    let error = Store::open(Arc::new(disk.clone()), options.clone()).unwrap_err().to_string();
    assert!(error.contains("main.redb") && error.contains("simulated"), "{error}");
    disk.heal();
    let store = Store::open(Arc::new(disk), options).unwrap();
    assert_eq!(store.state(LogId(1)).unwrap().messages, 61, "nothing is lost by that");
}
