//! Rows of the database whose checksums are right and whose contents are not: the codecs write what they understood as it was, and a
//! store with such rows opens or says why not, what it gives can be read, and after another start it gives the same.

use super::store;

/// See the module.
pub fn body(bytes: &[u8]) {
    weir_storage::fuzz::rows(bytes);
    let disk = store::in_the_database();
    weir_storage::fuzz::put_rows(&disk, bytes);
    store::opens_the_same_twice(&disk);
}
