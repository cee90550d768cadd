//! What the campaigns share: how many rounds, from which seed, with which binary, on a disk with room.
//!
//! | variable | |
//! |---|---|
//! | `WEIR_KILL_ROUNDS` | kills of the kill campaign: 1 to 100,000, 10 when absent |
//! | `WEIR_SESSION_RUNS` | runs of sessions under fire: 1 to 1,000,000, 100 when absent |
//! | `WEIR_CAMPAIGN_SEED` | where the random choices begin; when absent, the clock says |
//! | `WEIR_CAMPAIGN_BINARY` | the `weir` to kill; when absent, the one that was built with the tests |
//!
//! Kills come at random instants of real time, so a seed repeats the choices of a run and not every race in it.

use std::env;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::support::{http, variable};

/// Free bytes that a campaign wants to see before it begins.
const ROOM: u64 = 2 << 30;

/// How a campaign is to run.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    pub(crate) binary: Option<PathBuf>,
}

impl Campaign {
    /// As the variables say; panics with the reason when they cannot be obeyed. Nothing is made before.
    pub(crate) fn read(name: &str, rounds: &str, most: u64, default: u64) -> Self {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let campaign = Self {
            rounds: number(rounds, variable(rounds), 1..=most, default).unwrap_or_else(|why| panic!("{why}")),
            seed: number(
                "WEIR_CAMPAIGN_SEED",
                variable("WEIR_CAMPAIGN_SEED"),
                0..=u64::MAX,
                u64::from(clock.subsec_nanos()),
            )
            .unwrap_or_else(|why| panic!("{why}")),
            binary: env::var_os("WEIR_CAMPAIGN_BINARY").map(PathBuf::from),
        };
        if let Some(binary) = &campaign.binary {
            is_weir(binary).unwrap_or_else(|why| panic!("WEIR_CAMPAIGN_BINARY: {why}"));
        }
        let folder = env::temp_dir();
        if let Err(why) = has_room(&folder, free(&folder), ROOM) {
            panic!("{why}");
        }
        tell(&format!("{name}: {} rounds, WEIR_CAMPAIGN_SEED={}", campaign.rounds, campaign.seed));
        campaign
    }

    /// The random choices of one round.
    pub(crate) fn random(&self, round: u64) -> Random {
        Random(StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(round)))
    }
}

/// Progress, which cargo shows with `--nocapture`.
#[expect(clippy::print_stdout, reason = "a campaign says what it does")]
pub(crate) fn tell(text: &str) {
    println!("{text}");
}

/// False for an answer whose body a kill cut off.
pub(crate) fn is_whole(answer: &http::Response) -> bool {
    let announced = answer.header("content-length").and_then(|length| length.parse().ok());
    let announced: usize = announced.unwrap_or_else(|| panic!("an answer without its length: {answer:?}"));
    answer.body.len() >= announced
}

/// What a device's post was answered with: the body of a 200, null when a kill cut it off (the status was sent when all was
/// done), or nothing when a recording lags (503), which a slow server may say and which is shown. Anything else ends the campaign.
pub(crate) fn carried_out(answer: &http::Response) -> Option<Value> {
    match answer.status {
        200 if is_whole(answer) => Some(answer.json()),
        200 => Some(Value::Null),
        503 if !is_whole(answer) || answer.text().contains("but not yet stored within") => {
            tell(&format!("503: {}", answer.text()));
            None
        }
        status => panic!("a post was answered with {status}: {}", answer.text()),
    }
}

/// Random choices.
pub(crate) struct Random(StdRng);

impl Random {
    /// A number in a range, its ends included.
    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.within(1..=n) == 1
    }

    /// Choices of their own for something that runs beside.
    pub(crate) fn split(&mut self) -> Self {
        Self(StdRng::seed_from_u64(self.0.random()))
    }
}

fn number(
    name: &str,
    value: Option<String>,
    range: RangeInclusive<u64>,
    default: u64,
) -> Result<u64, String> {
    let Some(value) = value else { return Ok(default) };
    value.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        format!("{name} must be a whole number from {} to {}, not {value:?}", range.start(), range.end())
    })
}

/// Asks a program for its version.
fn is_weir(binary: &Path) -> Result<(), String> {
    if !binary.is_file() {
        return Err(format!("there is no file {binary:?}"));
    }
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{binary:?} cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && said.starts_with("weir ") {
        return Ok(());
    }
    let first = said.lines().next().unwrap_or_default();
    Err(format!("{binary:?} is no weir: --version ends with {} and says {first:?}", output.status))
}

fn has_room(folder: &Path, free: u64, wanted: u64) -> Result<(), String> {
    if free >= wanted {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(format!(
        "{} has {} MiB free, the campaign needs {} MiB; TMPDIR chooses another folder",
        folder.display(),
        mib(free),
        mib(wanted)
    ))
}

/// Free bytes of the file system under a folder, as `df` tells.
fn free(folder: &Path) -> u64 {
    let output = Command::new("df").arg("-Pk").arg(folder).output();
    let output = output.unwrap_or_else(|error| panic!("df {}: {error}", folder.display()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let available = text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    available.unwrap_or_else(|| panic!("df {}: {text:?}", folder.display())) * 1024
}

#[test]
fn a_binary_that_is_no_weir_is_refused_by_name() {
    assert_eq!(is_weir(Path::new(env!("CARGO_BIN_EXE_weir"))), Ok(()));
    assert_eq!(is_weir(Path::new("")), Err("there is no file \"\"".to_owned()));
    assert_eq!(is_weir(Path::new("/nowhere")), Err("there is no file \"/nowhere\"".to_owned()));
    let why = is_weir(Path::new("/bin/false")).unwrap_err();
    assert!(why.starts_with("\"/bin/false\" is no weir: --version ends with exit status: "), "{why}");
    let why = is_weir(Path::new("/etc/passwd")).unwrap_err();
    assert!(why.starts_with("\"/etc/passwd\" cannot be started: "), "{why}");
}

#[test]
fn wrong_counts_and_a_full_disk_are_refused_by_name() {
    let read = |value: &str| number("WEIR_KILL_ROUNDS", Some(value.to_owned()), 1..=100_000, 10);
    assert_eq!(read("200"), Ok(200));
    assert_eq!(number("WEIR_KILL_ROUNDS", None, 1..=100_000, 10), Ok(10));
    for bad in ["0", "100001", "-1", "many", "", "1e3"] {
        let why = read(bad).unwrap_err();
        assert_eq!(why, format!("WEIR_KILL_ROUNDS must be a whole number from 1 to 100000, not {bad:?}"));
    }
    let folder = Path::new("/tmp");
    assert_eq!(has_room(folder, 2 << 20, 2 << 20), Ok(()));
    let why = has_room(folder, 1 << 20, 2 << 20).unwrap_err();
    assert!(why.starts_with("/tmp has 1 MiB free, the campaign needs 2 MiB"), "{why}");
    assert!(free(folder) > 0);
}
