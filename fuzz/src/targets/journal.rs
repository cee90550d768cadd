//! A journal whose checksums are right and whose contents are not: the store opens or says why not, what it gives can be read, and
//! after another start it gives the same.
//!
//! The input is read as records (`weir_storage::fuzz::body_of`), which are put behind a store's own.

use super::store;

/// See the module.
pub fn body(bytes: &[u8]) {
    let group = weir_storage::fuzz::body_of(bytes);
    let disk = store::in_the_journal();
    weir_storage::fuzz::append_group(&disk, &group);
    store::opens_the_same_twice(&disk);
    // Once more with damage in it, which a group behind it proves.
    if !group.is_empty() {
        let disk = store::in_the_journal();
        let offset = weir_storage::fuzz::append_group(&disk, &group);
        weir_storage::fuzz::append_group(&disk, &group);
        let at = offset + bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() % group.len();
        assert!(disk.damage(&weir_storage::fuzz::journal_name(), at, 1), "it lies in the file");
        store::opens_the_same_twice(&disk);
    }
}
