//! Power cuts behind every kind of operation of a random workload: what was answered is there, what was not is there
//! as a whole or not at all, in the order of the seals; and opening twice gives the same.
//!
//! `WEIR_CRASH_POINTS` sets how many cuts each test makes, `WEIR_CRASH_SEED` where it starts.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, dead_code)]

#[path = "support/workload.rs"]
mod workload;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use weir_storage::simulated::{Cut, Operation, Simulated};
use workload::{Random, Run, World, all_records, matches, open, run};

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The highest answer that went out before a cut.
fn answered(operations: &[Operation], count: usize) -> usize {
    let mark = |operation: &Operation| {
        if let Operation::Mark(mark) = operation { usize::try_from(*mark).ok() } else { None }
    };
    let marks = operations[..count].iter().filter_map(mark);
    marks.max().unwrap_or(0)
}

/// The state a store is in, if it is one that may be found after a cut.
fn found(disk: &Simulated, states: &[World], answered: usize) -> Result<usize, String> {
    let store = open(disk)?;
    let mut reasons = Vec::new();
    for (number, state) in states.iter().enumerate().skip(answered) {
        match matches(&store, state) {
            Ok(()) => return Ok(number),
            Err(reason) if reasons.len() < 3 => reasons.push(format!("not state {number}: {reason}")),
            Err(_) => {}
        }
    }
    Err(reasons.join("; "))
}

/// Cuts at random points; returns what went wrong.
fn cuts(run: &Run, points: u64, lie_one_in: u64, random: &mut Random, report: &mut dyn FnMut(String)) {
    let operations = run.disk.operations();
    for _ in 0..points {
        let count = random.below(operations.len() as u64 + 1) as usize;
        let cut = Cut {
            kept_percent: [0, 10, 50, 90, 100][random.below(5) as usize],
            torn_percent: [0, 10, 100][random.below(3) as usize],
            lie_one_in,
        };
        let answered = answered(&operations, count);
        let disk = run.disk.cut(count, cut, &mut || random.next());
        let outcome = catch_unwind(AssertUnwindSafe(|| found(&disk, &run.states, answered)));
        let first = match outcome {
            Ok(Ok(state)) => state,
            Ok(Err(reason)) => {
                report(format!("cut {count} {cut:?} answered {answered}: {reason}"));
                continue;
            }
            Err(_) => {
                report(format!("cut {count} {cut:?}: panic"));
                continue;
            }
        };
        // A second cut, while the first was being recovered.
        let recovery = disk.operations().len();
        let second = disk.cut(random.below(recovery as u64 + 1) as usize, cut, &mut || random.next());
        match found(&second, &run.states, answered) {
            Ok(state) if state == first || lie_one_in > 0 => {}
            // States that look alike (a seal of nothing) are the same state.
            Ok(_) if matches(&open(&second).unwrap(), &run.states[first]).is_ok() => {}
            Ok(state) => report(format!("cut {count} {cut:?}: state {first}, after a second cut {state}")),
            Err(reason) => report(format!("cut {count} {cut:?}, second cut, answered {answered}: {reason}")),
        }
        // Opened once more, without a cut, and written to.
        if random.below(4) == 0
            && let Err(reason) = goes_on(&second)
        {
            report(format!("cut {count} {cut:?}, then writing: {reason}"));
        }
    }
}

/// A store that was cut takes writes, and keeps them.
fn goes_on(disk: &Simulated) -> Result<(), String> {
    let mut store = open(disk)?;
    let logs = store.logs();
    let mut expected = Vec::new();
    for log in &logs {
        let seq = store.state(*log).ok_or("no state")?.last_seq + 1;
        store.append(*log, seq, 0, b"more", b"", b"more").map_err(|error| error.to_string())?;
        expected.push((*log, seq));
    }
    store.close()?;
    let store = open(disk)?;
    for (log, seq) in expected {
        let state = store.state(log).ok_or("no state")?;
        let is_memory = store.spec(log).is_some_and(|spec| spec.medium == weir_storage::Medium::Memory);
        if state.last_seq != seq
            || (!is_memory && !all_records(&store, log).map_err(|e| e.to_string())?.contains_key(&seq))
        {
            return Err(format!("log {}: {state:?} after appending {seq}", log.0));
        }
    }
    Ok(())
}

#[test]
fn a_power_cut_takes_nothing_that_was_answered() {
    let points = setting("WEIR_CRASH_POINTS", 240);
    let seed = setting("WEIR_CRASH_SEED", 1);
    let rounds = points.div_ceil(60).max(1);
    for round in 0..rounds {
        let seed = seed + round;
        let run = run(seed, 60);
        let mut failures = Vec::new();
        cuts(&run, points.div_ceil(rounds), 0, &mut Random(seed ^ 0xabcd), &mut |failure| {
            failures.push(failure)
        });
        assert!(failures.is_empty(), "seed {seed}: {} failures, the first: {}", failures.len(), failures[0]);
    }
}

#[test]
fn a_disk_that_lies_is_found_out() {
    let seed = setting("WEIR_CRASH_SEED", 1);
    let mut failures = 0;
    for round in 0..4 {
        let run = run(seed + round, 60);
        cuts(&run, 40, 10, &mut Random(seed + round), &mut |_| failures += 1);
    }
    assert!(failures > 0, "seed {seed}: a harness that never fails proves nothing");
}
