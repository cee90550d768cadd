//! Every target over its corpus and over mutations of it, on stable Rust, the same inputs each time.
//!
//! `WEIR_FUZZ_RUNS` says how many mutations of each target are run, `WEIR_FUZZ_SEED` which.

use std::env::VarError;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use weir_fuzz::mutate::Mutator;
use weir_fuzz::watch::{LONGEST, Watch};
use weir_fuzz::{Target, keep_failing};

fn number(variable: &str, value: Result<String, VarError>, default: u64) -> Result<u64, String> {
    let wrong = |value: &dyn std::fmt::Debug| {
        format!("{variable} must be a whole number from 0 to {}, not {value:?}", u64::MAX)
    };
    match value {
        Ok(text) => text.parse().map_err(|_| wrong(&text)),
        Err(VarError::NotPresent) => Ok(default),
        Err(VarError::NotUnicode(value)) => Err(wrong(&value)),
    }
}

fn asked(variable: &str, default: u64) -> u64 {
    number(variable, std::env::var(variable), default).unwrap_or_else(|why| panic!("{why}"))
}

/// Keeps an input and says where.
fn keep(target: Target, bytes: &[u8], why: &str) {
    let path = keep_failing(bytes, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz").join(target.name));
    let path = path.expect("the input is kept");
    // Past the test's captured output: a process that hangs never shows that.
    writeln!(
        std::io::stderr(),
        "{} {why}, kept as {}: once it is mended, put it into {}\n{}",
        target.name,
        path.display(),
        target.folder().display(),
        bytes.escape_ascii()
    )
    .expect("somebody listens");
}

/// Runs a target on one input; on a panic the input is kept and named.
fn run(target: Target, watch: &Watch, bytes: &[u8], what: &str) {
    watch.begin(bytes);
    let ended = catch_unwind(AssertUnwindSafe(|| (target.body)(bytes)));
    watch.end();
    if let Err(panic) = ended {
        keep(target, bytes, &format!("fails on {what}"));
        std::panic::resume_unwind(panic);
    }
}

fn check(name: &str, runs: u64) {
    let target = Target::named(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let corpus = target.corpus().expect("the corpus is read");
    assert!(!corpus.is_empty(), "{} holds no input", target.folder().display());
    let watch = Watch::new(LONGEST, move |bytes| {
        keep(target, bytes, &format!("has not ended within {LONGEST:?}"));
        std::process::exit(1);
    })
    .expect("a thread starts");
    for (file, bytes) in &corpus {
        run(target, &watch, bytes, &format!("{name}/{file}"));
    }
    let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let seed = asked("WEIR_FUZZ_SEED", 1);
    let mut mutator = Mutator::new(seed);
    for round in 0..asked("WEIR_FUZZ_RUNS", runs) {
        let bytes = mutator.input(&corpus, target.words);
        run(target, &watch, &bytes, &format!("mutation {round} of seed {seed}"));
    }
}

#[test]
fn a_wrong_number_is_refused_by_name() {
    use std::os::unix::ffi::OsStringExt as _;
    assert_eq!(number("N", Err(VarError::NotPresent), 7), Ok(7));
    assert_eq!(number("N", Ok("9".to_owned()), 7), Ok(9));
    for bad in ["", "-1", "many", "18446744073709551616"] {
        let why = number("N", Ok(bad.to_owned()), 7).unwrap_err();
        assert_eq!(why, format!("N must be a whole number from 0 to 18446744073709551615, not {bad:?}"));
    }
    let no_text = std::ffi::OsString::from_vec(vec![b'9', 0xff]);
    let why = number("N", Err(VarError::NotUnicode(no_text)), 7).unwrap_err();
    assert!(why.starts_with("N must be ") && why.ends_with(r#"not "9\xFF""#), "{why}");
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
