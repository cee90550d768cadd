//! Hostile bytes for what in Weir reads foreign bytes; README.md says which of it.
//!
//! A target is a plain function that takes bytes and panics when something does not hold. Its corpus lies in `corpus/<name>`,
//! small files, one thing each. `tests/corpus.rs` runs every file and many mutations of them on stable Rust with a seed; the
//! program of this crate searches for as long as it is let, guided by coverage. See `README.md`.

pub mod mutate;
pub mod targets;
pub mod watch;

use std::io;
use std::path::{Path, PathBuf};

/// Something that reads foreign bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Reads the bytes; panics when something does not hold.
    pub body: fn(&[u8]),
    /// Pieces that mean something there.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "decode", body: targets::decode::body, words: targets::decode::WORDS },
    Target { name: "session", body: targets::session::body, words: targets::decode::WORDS },
    Target { name: "api", body: targets::api::body, words: targets::api::WORDS },
    Target { name: "events", body: targets::events::body, words: targets::events::WORDS },
    Target { name: "records", body: weir_storage::fuzz::records, words: weir_storage::fuzz::WORDS },
    Target { name: "rows", body: targets::rows::body, words: &[] },
    Target { name: "journal", body: targets::journal::body, words: &[] },
];

impl Target {
    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.iter().find(|target| target.name == name).copied()
    }

    /// Where its corpus lies.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }

    /// The files of its corpus: name and bytes, in the order of their names.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn corpus(&self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.folder())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, std::fs::read(path)?));
        }
        files.sort();
        Ok(files)
    }
}

/// The hash by which an input is named: FNV-1a.
#[must_use]
pub fn name_of(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Keeps an input on which a target fails in a folder, which is made, under its name; where it is then.
///
/// # Errors
/// With the path, when it cannot be written.
pub fn keep_failing(bytes: &[u8], folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join(name_of(bytes));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, bytes))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
