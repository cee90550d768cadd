//! A journal whose checksums are right and whose contents are not: the store opens or says why not, what it gives can be read, and
//! after another start it gives the same.
//!
//! The input is read as records (`weir_storage::fuzz::body_of`), which are put behind a store's own.

use std::sync::{Arc, OnceLock};

use weir_storage::log::{Cost, Layout};
use weir_storage::simulated::Simulated;
use weir_storage::{LogSpec, Medium, Next, Options, Store};

/// See the module.
pub fn body(bytes: &[u8]) {
    let disk = base().copy();
    weir_storage::fuzz::append_group(&disk, &weir_storage::fuzz::body_of(bytes));
    let Ok(store) = open(&disk) else { return };
    let before = contents(&store);
    if store.close().is_err() {
        return;
    }
    let store = open(&disk).expect("what was opened and closed opens");
    assert_eq!(before, contents(&store), "what a store holds after another start");
}

/// A store that holds two records and was not closed.
fn base() -> &'static Simulated {
    static BASE: OnceLock<Simulated> = OnceLock::new();
    BASE.get_or_init(|| {
        let disk = Simulated::new();
        let mut store = open(&disk).expect("the store opens");
        let spec = LogSpec {
            medium: Medium::Disk,
            layout: Layout::Blocks,
            cost: Cost { per_record: 22, per_headers: 4 },
            first_seq: 1,
        };
        let log = store.create_log(spec).expect("it fits");
        for seq in 1..=2 {
            store.append(log, seq, 1, b"a.b", b"", b"hello").expect("it fits");
        }
        store.seal(Box::new(|sealed| sealed.expect("the disk works")));
        let _ = store.process();
        disk.copy()
    })
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
                    assert_eq!(store.get(log, record.seq).expect("it was read"), Some(record.clone()));
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
