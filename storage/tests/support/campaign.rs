//! The crash campaign: power cuts at every sync boundary of random runs, and what must be true afterwards.
//!
//! A *point* is one power cut behind some operation of a run, the store opened on what is left, a second power cut
//! while that was going on, now and then a third while it recovers from the second, and the store opened again. At some
//! points the disk also fails while the store recovers. A seed names a point: `seed / POINTS` names the run, the rest
//! the cut. The first points of a run go through its syncs in order (of journal, database and folder alike), before and
//! behind each; the others lie anywhere. What was not synced is kept, lost or torn at random.
//!
//! The oracle knows from the marks on the disk what was handed over and what was answered at each operation. The store
//! opens; it names nothing as lost; it is in one of the states it was sealed in before the cut, not older than the last
//! one that was answered before it; further cuts do not change which; and then it takes writes and keeps them, under
//! sequences and ids that were not used.

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use weir_storage::simulated::{Cut, Operation, Simulated};
use weir_storage::{Cost, Layout, LogSpec, Medium, Options};

use crate::workload::{Driven, Found, Mark, Random, World, open_with, options};

/// Points of one run: more than it has syncs to go through.
pub(crate) const POINTS: u64 = 512;
/// Seals of one run.
const SEALS: u64 = 36;

/// A run that is over.
pub(crate) struct Run {
    pub(crate) disk: Simulated,
    pub(crate) states: Vec<World>,
    options: Options,
    /// For each number of operations, the states the store may be in: from the one that was answered last to the one
    /// that was sealed last.
    possible: Vec<RangeInclusive<usize>>,
    /// Numbers of operations right before and right behind each sync.
    boundaries: Vec<usize>,
    pub(crate) counts: Counts,
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) runs: u64,
    pub(crate) syncs: u64,
    pub(crate) failed_syncs: u64,
    /// Stretches of failing operations, and times that the disk was full.
    pub(crate) faults: u64,
    pub(crate) fills: u64,
    /// Removals while the store refuses, and how many of them were made.
    pub(crate) frees: u64,
    pub(crate) freed: u64,
    pub(crate) kills: u64,
    pub(crate) closes: u64,
    pub(crate) points: u64,
    pub(crate) at_boundaries: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.syncs += other.syncs;
        self.failed_syncs += other.failed_syncs;
        self.faults += other.faults;
        self.fills += other.fills;
        self.frees += other.frees;
        self.freed += other.freed;
        self.kills += other.kills;
        self.closes += other.closes;
        self.points += other.points;
        self.at_boundaries += other.at_boundaries;
    }
}

/// How a run is driven.
#[derive(Clone)]
pub(crate) struct Style {
    pub(crate) options: Options,
    /// Whether writes and syncs fail now and then.
    pub(crate) is_failing: bool,
}

impl Style {
    /// As the seed says: redb right behind the journal, or far; files that are full all the time, or never.
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random(seed);
        let mover_lag = [0, 1, 6, 30][random.index(4)];
        let journal_file_bytes = [8 << 10, 12 << 10, 64 << 10, 64 << 10, 512 << 10][random.index(5)];
        Self { options: Options { mover_lag, journal_file_bytes, ..options() }, is_failing: true }
    }
}

/// Goes through one run.
pub(crate) fn run(seed: u64, style: &Style) -> Result<Run, String> {
    let whole = || -> Result<Run, String> {
        let mut random = Random(seed ^ 0x77ee);
        let mut driven = Driven::new(style.options.clone())?;
        let mut counts = Counts { runs: 1, ..Counts::default() };
        for _ in 0..SEALS {
            if style.is_failing && random.one_in(25) {
                counts.faults += 1;
                fail(&driven.disk, &mut random);
            }
            if style.is_failing && random.one_in(30) {
                counts.fills += 1;
                driven.disk.fill(random.below(96 << 10));
            } else if random.one_in(8) {
                driven.disk.heal();
            }
            driven.change(12, &mut random)?;
            driven.seal();
            if !random.one_in(3) {
                driven.process()?;
            }
            if driven.refusing().is_some() && random.one_in(2) {
                counts.frees += 1;
                counts.freed += u64::from(driven.free(&mut random)?);
            }
            if random.one_in(40) {
                counts.kills += 1;
                driven.restart(false)?;
            } else if random.one_in(40) {
                counts.closes += 1;
                driven.change(6, &mut random)?;
                driven.restart(true)?;
            }
        }
        driven.process()?;
        // In any order with its last answers, as a kill would be.
        drop(driven.store.take());
        let operations = driven.disk.operations();
        let (mut answered, mut sealed) = (0, 0);
        let mut possible = vec![0..=0];
        let mut boundaries = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            match operation {
                Operation::Mark(mark) => match Mark::of(*mark) {
                    Mark::Sealed(number) => sealed = number,
                    Mark::Answered(number) => answered = answered.max(number),
                },
                Operation::Sync { .. } | Operation::SyncFolder => {
                    counts.syncs += 1;
                    boundaries.extend([at, at + 1]);
                }
                Operation::SyncFailed { .. } => counts.failed_syncs += 1,
                Operation::Make { .. }
                | Operation::Remove { .. }
                | Operation::Write { .. }
                | Operation::SetLen { .. } => {}
            }
            possible.push(answered..=sealed);
        }
        let Driven { disk, states, options, .. } = driven;
        Ok(Run { disk, states, options, possible, boundaries, counts })
    };
    catch_unwind(AssertUnwindSafe(whole)).unwrap_or_else(|panic| Err(message(&*panic)))
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    format!("panic: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message"))
}

/// Makes a few stretches of operations fail; what lies between them succeeds. A write may have done a part of its work.
fn fail(disk: &Simulated, random: &mut Random) {
    let mut from = disk.attempts();
    for _ in 0..1 + random.below(3) {
        from += random.below(8);
        let length = [1, 1, 5, 40][random.index(4)];
        match random.below(3) {
            0 => disk.fail(from..from + length, ErrorKind::Other),
            1 => disk.fail_in_part(from..from + length, ErrorKind::StorageFull),
            _ => disk.fail_syncs(from..from + 3 * length, ErrorKind::Other),
        }
        from += length;
    }
}

/// Cuts the power at one point of a run. `true` when it was right before or behind a sync.
pub(crate) fn point(run: &Run, number: u64, lie_one_in: u64, random: &mut Random) -> Result<bool, String> {
    let boundary = usize::try_from(number).ok().and_then(|at| run.boundaries.get(at)).copied();
    let count = boundary.unwrap_or_else(|| random.index(run.possible.len()));
    let cut = Cut {
        kept_percent: [0, 10, 50, 90, 100][random.index(5)],
        torn_percent: [0, 10, 100][random.index(3)],
        lie_one_in,
    };
    let possible = run.possible[count].clone();
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let mut disk = run.disk.cut(count, cut, &mut || random.next());
        if random.one_in(8) {
            // It may open or not; it must not get worse.
            fail(&disk, random);
            drop(open_with(&disk, run.options.clone()));
            disk.heal();
        }
        let first = found(&disk, &run.options)?.among(&run.states[possible.clone()])?;
        let state = &run.states[possible.start() + first];
        for cuts in 2..=if random.one_in(8) { 3 } else { 2 } {
            disk = disk.cut(random.index(disk.operations().len() + 1), cut, &mut || random.next());
            let again = found(&disk, &run.options).map_err(|reason| format!("cut {cuts}: {reason}"))?;
            if lie_one_in == 0 {
                // States that look alike are the same state.
                again.is(state).map_err(|reason| format!("cut {cuts}: {reason}"))?;
            }
        }
        if random.one_in(4) {
            goes_on(&disk, &run.options, state).map_err(|reason| format!("written to: {reason}"))?;
        }
        Ok(())
    }));
    let checked = checked.unwrap_or_else(|panic| Err(message(&*panic)));
    match checked {
        Ok(()) => Ok(boundary.is_some()),
        Err(reason) => Err(format!(
            "power cut behind operation {count}, {cut:?}, {} answered, {} sealed: {reason}",
            possible.start(),
            possible.end()
        )),
    }
}

fn found(disk: &Simulated, options: &Options) -> Result<Found, String> {
    let store = open_with(disk, options.clone()).map_err(|error| format!("it does not open: {error}"))?;
    let found = Found::of(&store)?;
    found.is_as_after_a_start()?;
    Ok(found)
}

/// A store that was cut takes writes, and keeps them.
fn goes_on(disk: &Simulated, options: &Options, state: &World) -> Result<(), String> {
    let mut store = open_with(disk, options.clone())?;
    let cost = Cost { per_record: 0, per_headers: 0 };
    let spec = LogSpec { medium: Medium::Disk, layout: Layout::Rows, cost, first_seq: 1 };
    let new = store.create_log(spec).map_err(|error| error.to_string())?;
    if new.0 <= state.highest {
        return Err(format!("a new log gets the id {}, which was used: {}", new.0, state.highest));
    }
    let mut expected = Vec::new();
    for log in store.logs() {
        let seq = store.state(log).ok_or("no state")?.last_seq + 1;
        store.append(log, seq, 0, b"more", b"", b"more").map_err(|error| error.to_string())?;
        expected.push((log, seq));
    }
    // The disk works: what dropped logs left goes, and nothing is in the way.
    for _ in 0..3 {
        store.process();
    }
    if let Some(cause) = store.stuck() {
        return Err(format!("the database cannot be written: {cause}"));
    }
    store.close()?;
    let store = open_with(disk, options.clone())?;
    for (log, seq) in expected {
        let state = store.state(log).ok_or("no state")?;
        let is_memory = store.spec(log).is_some_and(|spec| spec.medium == Medium::Memory);
        let is_there = store.get(log, seq).map_err(|error| error.to_string())?.is_some();
        if state.last_seq != seq || is_there == is_memory {
            return Err(format!("log {}: {state:?} after appending {seq}", log.0));
        }
    }
    Ok(())
}

/// Goes through the points `seeds`, which lie in one run. Gives what was gone through, or the first violation with
/// its seed.
pub(crate) fn campaign(seeds: std::ops::Range<u64>) -> Result<Counts, (u64, String)> {
    let number = seeds.start / POINTS;
    let run = run(number, &Style::of(number))
        .map_err(|reason| (number * POINTS, format!("in the run: {reason}")))?;
    let mut counts = run.counts;
    if run.boundaries.len() as u64 >= POINTS {
        let reason = format!("{} points right at a sync, and a run has {POINTS}", run.boundaries.len());
        return Err((number * POINTS, reason));
    }
    for seed in seeds {
        let at = point(&run, seed % POINTS, 0, &mut Random(seed)).map_err(|reason| (seed, reason))?;
        counts.points += 1;
        counts.at_boundaries += u64::from(at);
    }
    Ok(counts)
}
