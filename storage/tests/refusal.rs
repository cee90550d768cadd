//! What a store refuses to open: folders that are not its own, files of a later format. Nothing in them is changed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use weir_storage::disk::FolderError;
use weir_storage::{Cost, Folder, Layout, LogSpec, Medium, OpenError, Options, Store};

/// Every file and folder below, with the files' bytes.
fn contents(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = if path.is_dir() {
                folders.push(path.clone());
                None
            } else {
                Some(fs::read(&path).unwrap())
            };
            all.insert(path, bytes);
        }
    }
    all
}

fn refusal(path: &Path) -> FolderError {
    Folder::open(path).map(|_| ()).unwrap_err()
}

#[test]
fn a_folder_belongs_to_one_process() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/store");
    let folder = Folder::open(&path).unwrap();
    let error = refusal(&path);
    assert!(matches!(&error, FolderError::InUse { path: named } if *named == path), "{error}");
    assert_eq!(error.to_string(), format!("the store in {} is in use by another process", path.display()));
    drop(folder);
    Folder::open(&path).unwrap();
}

#[test]
fn a_store_is_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("store");
    let options = Options { journal_file_bytes: 64 << 10, ..Options::default() };
    let store = Store::open(Arc::new(Folder::open(&path).unwrap()), options).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for (file, _) in contents(&path) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    store.close().unwrap();
}

#[test]
fn what_is_no_folder_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "precious").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = refusal(&path);
        assert!(matches!(&error, FolderError::NotAFolder { path: named } if *named == path), "{error}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

/// Nobody, not even root, makes files there.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    for path in ["/proc/self", "/proc/self/weir"] {
        let error = refusal(Path::new(path));
        assert!(matches!(&error, FolderError::Io { path: named, .. } if named == Path::new(path)), "{error}");
        assert!(error.to_string().starts_with(&format!("cannot use the folder {path}: ")), "{error}");
    }
}

#[test]
fn a_nats_servers_folder_is_refused_and_left_as_it_is() {
    for below in ["jetstream", "jetstream/$G/streams/ORDERS", "$G/streams/ORDERS", "ACCOUNT/streams"] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(below)).unwrap();
        let before = contents(folder.path());
        let error = refusal(folder.path());
        assert!(matches!(error, FolderError::NatsServer { .. }), "{below}: {error}");
        assert!(error.to_string().contains("mirror or source"), "{below}: {error}");
        assert!(contents(folder.path()) == before, "{below}: the folder was changed");
    }
}

/// A store that was closed in order.
fn store() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).unwrap().close().unwrap();
    folder
}

fn open(path: &Path) -> Result<Store, OpenError> {
    let options = Options { journal_file_bytes: 64 << 10, ..Options::default() };
    Store::open(Arc::new(Folder::open(path).unwrap()), options)
}

#[test]
fn a_journal_of_a_later_version_is_refused_and_left_as_it_is() {
    let folder = store();
    let path = folder.path().join("journal-0002");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..8].copy_from_slice(b"WEIRJNL1");
    bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { version: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().starts_with("journal-0002 has format version 2, "), "{error}");
    assert!(fs::read(&path).unwrap() == bytes, "the file was changed");
}

#[test]
fn a_database_of_a_later_version_is_refused_and_keeps_what_it_has() {
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let meta = |path: &Path| -> BTreeMap<String, Vec<u8>> {
        let database = Database::open(path.join("main.redb")).unwrap();
        let table = database.begin_read().unwrap().open_table(META).unwrap();
        let rows = table.iter().unwrap().map(Result::unwrap);
        rows.map(|(key, value)| (key.value().to_owned(), value.value().to_vec())).collect()
    };
    // redb itself notes in its file that it was opened.
    let journal = |path: &Path| {
        let mut all = contents(path);
        all.remove(&path.join("main.redb"));
        all
    };
    let folder = store();
    {
        let database = Database::open(folder.path().join("main.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let version = 2u32.to_le_bytes();
        // Tag, log, length of the key, key, value: what the crc of every value covers.
        let covered = [&[1][..], &[0; 4], &7u64.to_le_bytes(), b"version", &version].concat();
        let value = [version, crc32fast::hash(&covered).to_le_bytes()].concat();
        transaction.open_table(META).unwrap().insert("version", value.as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    let before = (meta(folder.path()), journal(folder.path()));
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { version: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().starts_with("main.redb has format version 2, "), "{error}");
    assert!((meta(folder.path()), journal(folder.path())) == before, "the store was changed");
}

#[test]
fn journal_files_that_cannot_be_this_store_s_are_refused_by_name() {
    for (name, length, expected) in [
        ("journal-9999", (1 << 30) + 1, "it has 1073741825 bytes; a journal file has at most 1073741824"),
        ("journal-4294967295", 512, "journal-4294967295 has the highest number a file can have"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::File::create(folder.path().join(name)).unwrap().set_len(length).unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(name) || error.contains("the journal"), "{error}");
    }
}

/// A range of lost sequences whose ends were mixed up by a flipped bit.
#[test]
fn a_loss_that_ends_before_it_begins_keeps_no_store_from_opening() {
    const DAMAGE: TableDefinition<'_, (u32, u64, u64), &[u8]> = TableDefinition::new("damage");
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path()).unwrap();
    let cost = Cost { per_record: 0, per_headers: 0 };
    let spec = LogSpec { medium: Medium::Disk, layout: Layout::Blocks, cost, first_seq: 1 };
    let log = store.create_log(spec).unwrap();
    store.append(log, 1, 0, b"s", b"", b"").unwrap();
    store.close().unwrap();
    {
        let database = Database::open(folder.path().join("main.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(DAMAGE).unwrap().insert((log.0, 9, 2), &b"no checksum"[..]).unwrap();
        transaction.commit().unwrap();
    }
    let store = open(folder.path()).unwrap();
    assert_eq!(store.damage().len(), 1, "it is named");
    assert!(store.get(log, 1).unwrap().is_some());
}

#[test]
fn a_journal_file_size_out_of_range_is_refused() {
    for bytes in [0, 4096, (64 << 10) + 1, 2 << 30] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(Folder::open(folder.path()).unwrap());
        let options = Options { journal_file_bytes: bytes, ..Options::default() };
        let error = Store::open(disk, options).unwrap_err();
        assert!(
            matches!(error, OpenError::JournalFileBytes { bytes: named, .. } if named == bytes),
            "{error}"
        );
        assert_eq!(contents(folder.path()).len(), 1, "nothing but the lock was made");
    }
}
