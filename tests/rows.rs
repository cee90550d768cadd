//! Holds `docs/rows.md` against the tests: a row that is claimed there has a test that runs.
//!
//! A row's test carries the row's id in its name (`S0-053` is tested by `s0_053_...`), is not ignored, lies in the
//! file that the table names, and drives the built binary (its test program uses `tests/support` or
//! `CARGO_BIN_EXE_weir`) or, for embedding, the public crate. A test with a row's id that the table does not name is an
//! error as well: nothing is claimed by accident, nothing is tested in secret.

use std::collections::{BTreeMap, BTreeSet};

#[path = "support/sources.rs"]
mod sources;

use sources::{read, root, rust_files};

/// The one test program that counts without the binary: it is about the crate as a library.
const EMBEDDING: &str = "tests/embed.rs";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Test {
    name: String,
    ignored: bool,
}

/// The table's rows: id to the files named in its last column.
fn claimed(table: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut rows = BTreeMap::new();
    for line in table.lines().filter(|line| line.starts_with("| S")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [id, .., files] = cells.as_slice() else { panic!("no table row: {line}") };
        let files = files.split(',').map(|file| file.trim().trim_matches('`').to_owned()).collect();
        assert!(rows.insert((*id).to_owned(), files).is_none(), "docs/rows.md lists {id} twice");
    }
    rows
}

/// The test functions of a source file: a line `#[test]` or `#[tokio::test...]`, further attributes, `fn name`.
fn tests_in(source: &str) -> Vec<Test> {
    let mut found = Vec::new();
    let (mut is_test, mut ignored) = (false, false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            ignored |= line.starts_with("#[ignore");
        } else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
            if is_test {
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                found.push(Test { name: name.to_owned(), ignored });
            }
            (is_test, ignored) = (false, false);
        }
    }
    found
}

/// `s0_053_a_publisher` belongs to `S0-053`.
fn row_of(test: &str) -> Option<String> {
    let (seed, rest) = test.strip_prefix('s')?.split_once('_')?;
    let (number, _) = rest.split_once('_')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(seed) && number.len() == 3 && digits(number)).then(|| format!("S{seed}-{number}"))
}

/// True when the test program that `file` belongs to starts the built binary.
fn drives_the_binary(file: &str) -> bool {
    let program = match file.strip_prefix("tests/").and_then(|rest| rest.split_once('/')) {
        Some((folder, _)) => format!("tests/{folder}/main.rs"),
        None => file.to_owned(),
    };
    let source = std::fs::read_to_string(root().join(program)).unwrap_or_default();
    source.contains("support/mod.rs")
        || source.contains("mod support;")
        || source.contains("CARGO_BIN_EXE_weir")
}

#[test]
fn every_claimed_row_has_a_test_that_runs() {
    let claimed = claimed(&read("docs/rows.md"));
    assert!(!claimed.is_empty(), "docs/rows.md claims no row at all");

    let mut wrong = Vec::new();
    let mut tested: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in rust_files(&["tests", "src", "protocol", "storage"]) {
        for test in tests_in(&read(&file)) {
            let Some(row) = row_of(&test.name) else { continue };
            if test.ignored {
                wrong.push(format!("{row}: {} in {file} is ignored", test.name));
            } else if !file.starts_with("tests/") || !(file == EMBEDDING || drives_the_binary(&file)) {
                wrong.push(format!("{row}: {} in {file} does not drive the built binary", test.name));
            } else {
                tested.entry(row).or_default().insert(file.clone());
            }
        }
    }
    for (row, named) in &claimed {
        let Some(found) = tested.get(row) else {
            wrong.push(format!("{row}: claimed, but no test carries its id"));
            continue;
        };
        if found != named {
            wrong.push(format!("{row}: docs/rows.md names {named:?}, its tests are in {found:?}"));
        }
    }
    for (row, found) in tested.iter().filter(|(row, _)| !claimed.contains_key(*row)) {
        wrong.push(format!("{row}: tested in {found:?}, but not in docs/rows.md"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn tests_are_found_with_their_attributes() {
    let source = "#[test]\nfn s0_001_a() {}\nfn helper() {}\n#[tokio::test(flavor = \"multi_thread\")]\n\
                  #[ignore = \"slow\"]\nasync fn s0_002_b() {}\n// #[test]\nfn s0_003_c() {}\n";
    let test = |name: &str, ignored| Test { name: name.to_owned(), ignored };
    assert_eq!(tests_in(source), [test("s0_001_a", false), test("s0_002_b", true)]);
    assert_eq!(row_of("s0_053_a_publisher"), Some("S0-053".to_owned()));
    for no_row in ["s0_53_x", "s0_053", "stream_053_x", "s_053_x", "acks"] {
        assert_eq!(row_of(no_row), None, "{no_row}");
    }
    let table = "| row | what | test |\n|---|---|---|\n| S0-001 | a | `tests/a.rs`, `tests/b/c.rs` |\n";
    let rows = claimed(table);
    assert_eq!(rows["S0-001"], BTreeSet::from(["tests/a.rs".to_owned(), "tests/b/c.rs".to_owned()]));
}
