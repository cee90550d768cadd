//! Every target over its corpus and over mutations of it, on stable Rust, the same inputs each time.
//!
//! `WEIR_FUZZ_RUNS` says how many mutations of each target are run, `WEIR_FUZZ_SEED` which.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use weir_fuzz::mutate::Mutator;
use weir_fuzz::{Target, name_of};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}: give a number"))
    })
}

/// Runs a target on one input; on a panic the input is kept and named.
fn run(target: Target, bytes: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.body)(bytes))) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(target.name);
        let path = folder.join(name_of(bytes));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, bytes))
            .expect("the input is kept");
        eprintln!(
            "{} fails on {what}, kept as {}: once it is mended, put it into {}\n{}",
            target.name,
            path.display(),
            target.folder().display(),
            bytes.escape_ascii()
        );
        std::panic::resume_unwind(panic);
    }
}

fn check(name: &str, runs: u64) {
    let target = Target::named(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let corpus = target.corpus().expect("the corpus is read");
    assert!(!corpus.is_empty(), "{} holds no input", target.folder().display());
    for (file, bytes) in &corpus {
        run(target, bytes, &format!("{name}/{file}"));
    }
    let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let seed = number("WEIR_FUZZ_SEED", 1);
    let mut mutator = Mutator::new(seed);
    for round in 0..number("WEIR_FUZZ_RUNS", runs) {
        let bytes = mutator.input(&corpus, target.words);
        run(target, &bytes, &format!("mutation {round} of seed {seed}"));
    }
}

#[test]
fn decode() {
    check("decode", 20_000);
}

#[test]
fn session() {
    check("session", 1000);
}

#[test]
fn api() {
    check("api", 500);
}

#[test]
fn events() {
    check("events", 20_000);
}

#[test]
fn records() {
    check("records", 20_000);
}

#[test]
fn rows() {
    check("rows", 500);
}

#[test]
fn journal() {
    check("journal", 500);
}
