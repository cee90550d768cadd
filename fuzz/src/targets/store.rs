//! What the targets of the store share: a store on a simulated disk, and all that can be read from one.

use std::sync::{Arc, OnceLock};

use weir_storage::log::{Cost, Layout};
use weir_storage::simulated::Simulated;
use weir_storage::{LogId, LogSpec, Medium, Next, Options, Store};

/// Whether the store on this disk opens; if so, all it gives can be read, and another start gives the same.
pub(super) fn opens_the_same_twice(disk: &Simulated) {
    let Ok(store) = open(disk) else { return };
    let before = contents(&store);
    if store.close().is_err() {
        return;
    }
    let store = open(disk).expect("what was opened and closed opens");
    assert_eq!(before, contents(&store), "what a store holds after another start");
}

/// A disk with a store of two records that was not closed: they are in the journal.
pub(super) fn in_the_journal() -> Simulated {
    static DISK: OnceLock<Simulated> = OnceLock::new();
    let disk = DISK.get_or_init(|| {
        let (disk, mut store) = new();
        fill(&mut store, Layout::Blocks, 2);
        seal(&mut store);
        disk.copy()
    });
    disk.copy()
}

/// A disk with a store that was closed: two logs, of one layout each, and an attribute of each are in the database.
pub(super) fn in_the_database() -> Simulated {
    static DISK: OnceLock<Simulated> = OnceLock::new();
    let disk = DISK.get_or_init(|| {
        let (disk, mut store) = new();
        for layout in [Layout::Blocks, Layout::Rows] {
            let log = fill(&mut store, layout, 3);
            store.set_attribute(log, b"k", b"v").expect("it fits");
        }
        seal(&mut store);
        store.close().expect("the store closes");
        disk.copy()
    });
    disk.copy()
}

fn new() -> (Simulated, Store) {
    let disk = Simulated::new();
    let store = open(&disk).expect("the store opens");
    (disk, store)
}

fn fill(store: &mut Store, layout: Layout, records: u64) -> LogId {
    let cost = Cost { per_record: 22, per_headers: 4 };
    let log =
        store.create_log(LogSpec { medium: Medium::Disk, layout, cost, first_seq: 1 }).expect("it fits");
    for seq in 1..=records {
        store.append(log, seq, 1, b"a.b", b"", b"hello").expect("it fits");
    }
    log
}

fn seal(store: &mut Store) {
    store.seal(Box::new(|sealed| sealed.expect("the disk works")));
    let _ = store.process();
}

fn open(disk: &Simulated) -> Result<Store, weir_storage::OpenError> {
    let options = Options { journal_file_bytes: 64 << 10, is_threaded: false, ..Options::default() };
    Store::open(Arc::new(disk.clone()), options)
}

/// Everything that can be read.
fn contents(store: &Store) -> Vec<String> {
    let mut told = Vec::new();
    for log in store.logs() {
        let state = store.state(log).expect("it is listed");
        told.push(format!("{log:?} {state:?} {:?}", store.attributes(log, b"")));
        let mut from = 0;
        for _ in 0..100 {
            match store.next(log, from, u64::MAX, None, 1000) {
                Ok(Next::Record(record)) => {
                    assert!(record.seq >= from, "{record:?} from {from}");
                    match store.get(log, record.seq) {
                        Ok(found) => assert_eq!(found, Some(record.clone())),
                        // A range that is said to be lost may hold a record.
                        Err(error) => {
                            let named = store.damage().iter().any(|loss| {
                                loss.log == log && (loss.first..=loss.last).contains(&record.seq)
                            });
                            assert!(named, "{error}");
                        }
                    }
                    from = record.seq.saturating_add(1);
                    told.push(format!("{record:?}"));
                }
                Ok(Next::More(next)) => from = next,
                Ok(Next::End) => break,
                Err(error) => {
                    told.push(error.to_string());
                    break;
                }
            }
        }
        for (subject, numbers) in store.subjects(log, None) {
            told.push(format!("{subject:?} {numbers:?}"));
        }
    }
    told
}
