//! `weir-fuzz TARGET`: searches for inputs on which a target fails, guided by coverage.
//!
//! Built as `fuzz/guided` builds it, with the compiler's counters; see `README.md`. An input that reaches something new joins the ones
//! that are changed next. What was found is kept in a folder, so the next search goes on from there. A failing input is kept, named,
//! and ends the search with exit code 1.

#[cfg(guided)]
mod coverage;

#[cfg(not(guided))]
fn main() -> std::process::ExitCode {
    eprintln!("this build counts no coverage: build it with fuzz/guided");
    std::process::ExitCode::FAILURE
}

#[cfg(guided)]
fn main() -> std::process::ExitCode {
    match search::run() {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(guided)]
mod search {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use weir_fuzz::mutate::Mutator;
    use weir_fuzz::{TARGETS, Target, name_of};

    use super::coverage;

    const USAGE: &str = "usage: weir-fuzz TARGET [--seconds N] [--seed N] [--keep FOLDER]";
    /// How often the search says where it is.
    const TELL: Duration = Duration::from_secs(10);

    struct Arguments {
        target: Target,
        span: Duration,
        seed: u64,
        keep: PathBuf,
    }

    fn arguments() -> Result<Arguments, String> {
        let mut words = std::env::args().skip(1);
        let name = words.next().ok_or(USAGE)?;
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        let target = Target::named(&name)
            .ok_or_else(|| format!("there is no target {name:?}; the targets are {}", names.join(", ")))?;
        let keep = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(target.name);
        let mut arguments = Arguments { target, span: Duration::from_secs(60), seed: 1, keep };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag}: the value is missing\n{USAGE}"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("{flag} {value}: give a number"));
            match flag.as_str() {
                "--seconds" => arguments.span = Duration::from_secs(number()?),
                "--seed" => arguments.seed = number()?,
                "--keep" => arguments.keep = value.into(),
                _ => return Err(format!("{flag}: unknown\n{USAGE}")),
            }
        }
        Ok(arguments)
    }

    /// True when nothing failed.
    pub(super) fn run() -> Result<bool, String> {
        let Arguments { target, span, seed, keep } = arguments()?;
        let failed = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
        std::fs::create_dir_all(&keep).map_err(|error| failed(&keep, error))?;
        let mut inputs: Vec<Vec<u8>> = target
            .corpus()
            .map_err(|error| failed(&target.folder(), error))?
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        for entry in std::fs::read_dir(&keep).map_err(|error| failed(&keep, error))? {
            let path = entry.map_err(|error| failed(&keep, error))?.path();
            if path.is_file() {
                inputs.push(std::fs::read(&path).map_err(|error| failed(&path, error))?);
            }
        }
        let mut seen = coverage::Seen::new();
        let mut corpus: Vec<Vec<u8>> = Vec::new();
        for bytes in inputs {
            if !holds(target, &bytes, &keep, &seen)? {
                return Ok(false);
            }
            if seen.is_new() || corpus.is_empty() {
                corpus.push(bytes);
            }
        }
        let (began, mut told, mut runs) = (Instant::now(), Instant::now(), 0u64);
        let mut mutator = Mutator::new(seed);
        eprintln!("{}: {} inputs, {} edges, seed {seed}", target.name, corpus.len(), seen.edges());
        while began.elapsed() < span {
            // Half of the time what was found last, which is nearest to what is not known yet.
            let recent = corpus.len().saturating_sub(corpus.len() / 8 + 1);
            let from = if mutator.below(2) == 0 { recent } else { 0 };
            let bytes = mutator.input(&corpus[from..], target.words);
            runs += 1;
            if !holds(target, &bytes, &keep, &seen)? {
                return Ok(false);
            }
            if seen.is_new() {
                let path = keep.join(name_of(&bytes));
                std::fs::write(&path, &bytes).map_err(|error| failed(&path, error))?;
                corpus.push(bytes);
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                let speed = runs as f64 / began.elapsed().as_secs_f64();
                eprintln!("{runs} runs, {speed:.0}/s, {} inputs, {} edges", corpus.len(), seen.edges());
            }
        }
        let seconds = began.elapsed().as_secs();
        println!(
            "{}: {runs} runs in {seconds} s, {} inputs, {} of {} edges, nothing found",
            target.name,
            corpus.len(),
            seen.edges(),
            coverage::count()
        );
        Ok(true)
    }

    /// Whether the target holds on these bytes; if not, they are kept.
    fn holds(target: Target, bytes: &[u8], keep: &Path, seen: &coverage::Seen) -> Result<bool, String> {
        seen.clear();
        if catch_unwind(AssertUnwindSafe(|| (target.body)(bytes))).is_ok() {
            return Ok(true);
        }
        let folder = keep.join("failing");
        let path = folder.join(name_of(bytes));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&path, bytes))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("{} fails on {}\n{}", target.name, path.display(), bytes.escape_ascii());
        Ok(false)
    }
}
