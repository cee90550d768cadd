//! The crash campaign: power cuts in random runs of the store, on a disk in memory.
//!
//! ```text
//! cargo run --release -p weir-storage --example crash_campaign -- --seeds 0..20000
//! ```
//!
//! Each seed is a point: a power cut, the recovery, a second power cut during that, and another recovery
//! (`tests/support/campaign.rs` says what must be true then). The same seed is the same point. It writes no files.
//! Exit code 0: all points hold; 1: one does not, it is named with its seed; 2: the campaign could not be run.

#![allow(dead_code)]

#[path = "../tests/support/campaign.rs"]
mod campaign;
#[path = "../tests/support/workload.rs"]
mod workload;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::num::NonZero;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use campaign::{Counts, POINTS, campaign};

const USAGE: &str = "usage: crash_campaign --seeds FIRST..END [--jobs N]";

struct Settings {
    seeds: Range<u64>,
    jobs: usize,
}

/// What the arguments ask for; nothing when it is the usage.
fn settings(arguments: impl Iterator<Item = OsString>) -> Result<Option<Settings>, String> {
    let mut arguments = arguments.map(|argument| {
        argument.into_string().map_err(|argument| format!("the argument {argument:?} is no UTF-8\n{USAGE}"))
    });
    let mut seeds = None;
    let mut jobs = thread::available_parallelism().map_or(1, NonZero::get);
    while let Some(flag) = arguments.next().transpose()? {
        let mut value = || arguments.next().unwrap_or_else(|| Err(format!("{flag} needs a value\n{USAGE}")));
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--seeds" => {
                let text = value()?;
                let parsed = text.split_once("..").and_then(|(first, end)| {
                    let range = first.parse::<u64>().ok()?..end.parse::<u64>().ok()?;
                    (!range.is_empty()).then_some(range)
                });
                seeds = Some(parsed.ok_or_else(|| {
                    format!("--seeds {text}: it is FIRST..END, two numbers below 2^64, FIRST below END")
                })?);
            }
            "--jobs" => {
                let text = value()?;
                let parsed = text.parse().ok().filter(|jobs| (1..=1024).contains(jobs));
                jobs = parsed.ok_or_else(|| format!("--jobs {text}: it is a number from 1 to 1024"))?;
            }
            _ => return Err(format!("there is no option {flag}\n{USAGE}")),
        }
    }
    let seeds = seeds.ok_or_else(|| format!("--seeds is missing\n{USAGE}"))?;
    Ok(Some(Settings { seeds, jobs }))
}

/// What a campaign came to: what was gone through, and the violation with the lowest seed that was met.
#[derive(Default)]
struct Outcome {
    counts: Counts,
    violation: Option<(u64, String)>,
}

/// Goes through all points; each job takes the next run.
fn go_through(settings: &Settings) -> io::Result<Outcome> {
    let seeds = &settings.seeds;
    let next = AtomicU64::new(seeds.start / POINTS);
    let (is_over, outcome) = (AtomicBool::new(false), Mutex::new(Outcome::default()));
    let shows_progress = io::stderr().is_terminal();
    let work = || {
        while !is_over.load(Relaxed) {
            let run = next.fetch_add(1, Relaxed);
            let first = run.saturating_mul(POINTS).max(seeds.start);
            if first >= seeds.end {
                return;
            }
            let end = run.saturating_add(1).saturating_mul(POINTS).min(seeds.end);
            let result = campaign(first..end);
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(counts) => outcome.counts.add(&counts),
                Err(violation) => {
                    is_over.store(true, Relaxed);
                    if outcome.violation.as_ref().is_none_or(|known| violation.0 < known.0) {
                        outcome.violation = Some(violation);
                    }
                }
            }
            if shows_progress {
                // Progress is for whoever looks; without it the campaign goes on.
                let _ = write!(io::stderr(), "\r{} points", outcome.counts.points);
            }
        }
    };
    thread::scope(|scope| {
        let jobs: io::Result<Vec<_>> =
            (0..settings.jobs).map(|_| thread::Builder::new().spawn_scoped(scope, work)).collect();
        if jobs.is_err() {
            is_over.store(true, Relaxed);
        }
        jobs.map(drop)
    })?;
    if shows_progress {
        let _ = writeln!(io::stderr());
    }
    Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn report(out: &mut dyn Write, seeds: &Range<u64>, outcome: &Outcome, seconds: f64) -> io::Result<()> {
    let Counts {
        runs,
        syncs,
        failed_syncs,
        faults,
        fills,
        frees,
        freed,
        kills,
        closes,
        points,
        at_boundaries,
    } = outcome.counts;
    writeln!(
        out,
        "seeds {}..{}: {points} power cuts, each with a second one during recovery",
        seeds.start, seeds.end
    )?;
    writeln!(out, "{at_boundaries} of them right before or behind a sync, the others anywhere")?;
    writeln!(
        out,
        "{runs} runs with {syncs} syncs, {failed_syncs} failed syncs, {faults} stretches of faults, {fills} full disks, \
         {freed} of {frees} times space was freed while changes were refused, \
         {kills} kills, {closes} orderly restarts"
    )?;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = points as f64 / seconds;
    writeln!(out, "{seconds:.1} s, {rate:.0} points a second")?;
    match &outcome.violation {
        None => writeln!(out, "0 violations"),
        Some((seed, reason)) => writeln!(out, "violation at seed {seed}: {reason}"),
    }
}

fn main() -> ExitCode {
    // A panic is a violation: it is caught and named.
    std::panic::set_hook(Box::new(|_| ()));
    let failed = |error: &dyn std::fmt::Display| {
        let _ = writeln!(io::stderr(), "crash_campaign: {error}");
        ExitCode::from(2)
    };
    let settings = match settings(std::env::args_os().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            return match writeln!(io::stdout(), "{USAGE}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&format!("cannot write the usage: {error}")),
            };
        }
        Err(error) => return failed(&error),
    };
    #[expect(clippy::disallowed_methods, reason = "only the rate depends on it")]
    let started = Instant::now();
    let outcome = match go_through(&settings) {
        Ok(outcome) => outcome,
        Err(error) => return failed(&format!("cannot start a thread: {error}")),
    };
    let seconds = started.elapsed().as_secs_f64();
    let mut out = io::stdout().lock();
    match report(&mut out, &settings.seeds, &outcome, seconds).and_then(|()| out.flush()) {
        Ok(()) if outcome.violation.is_none() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
        Err(error) => failed(&format!("cannot write the report: {error}")),
    }
}
