//! `weir-fuzz TARGET`: searches for inputs on which a target fails, guided by coverage.
//!
//! Built as `fuzz/guided` builds it, with the compiler's counters; see `README.md`. An input that reaches something new joins the ones
//! that are changed next. What was found is kept in a folder, so the next search goes on from there. A failing input, or one
//! on which the target does not end within a minute, is kept, named, and ends the search with exit code 1.

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
    use std::ffi::OsString;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    use weir_fuzz::mutate::Mutator;
    use weir_fuzz::watch::{LONGEST, Watch};
    use weir_fuzz::{TARGETS, Target, keep_failing, name_of};

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

    /// What the arguments ask for; nothing when it is the usage.
    fn arguments() -> Result<Option<Arguments>, String> {
        let mut words = std::env::args_os().skip(1);
        let name = words.next().ok_or(USAGE)?;
        let name = text("the target", name)?;
        if ["--help", "-h"].contains(&name.as_str()) {
            return Ok(None);
        }
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        let target = Target::named(&name)
            .ok_or_else(|| format!("there is no target {name:?}; the targets are {}", names.join(", ")))?;
        let keep = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fuzz").join(target.name);
        let mut arguments = Arguments { target, span: Duration::from_secs(60), seed: 1, keep };
        while let Some(flag) = words.next() {
            let flag = text("the option", flag)?;
            let mut value = || words.next().ok_or_else(|| format!("{flag}: the value is missing\n{USAGE}"));
            match flag.as_str() {
                "--help" | "-h" => return Ok(None),
                "--seconds" => arguments.span = Duration::from_secs(number(&flag, value()?)?),
                "--seed" => arguments.seed = number(&flag, value()?)?,
                "--keep" => arguments.keep = value()?.into(),
                _ => return Err(format!("there is no option {flag:?}\n{USAGE}")),
            }
        }
        Ok(Some(arguments))
    }

    fn text(what: &str, word: OsString) -> Result<String, String> {
        word.into_string().map_err(|word| format!("{what} {word:?} is no UTF-8\n{USAGE}"))
    }

    fn number(flag: &str, value: OsString) -> Result<u64, String> {
        let parsed = value.to_str().and_then(|value| value.parse().ok());
        parsed.ok_or_else(|| format!("{flag} must be a whole number from 0 to {}, not {value:?}", u64::MAX))
    }

    /// True when nothing failed.
    pub(super) fn run() -> Result<bool, String> {
        let Some(Arguments { target, span, seed, keep }) = arguments()? else {
            println!("{USAGE}");
            return Ok(true);
        };
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
        let runner = Runner::new(target, &keep)?;
        let mut seen = coverage::Seen::new();
        let mut corpus: Vec<Vec<u8>> = Vec::new();
        for bytes in inputs {
            if !runner.holds(&bytes, &seen)? {
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
            if !runner.holds(&bytes, &seen)? {
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

    /// Runs a target and keeps what it does not hold on.
    struct Runner {
        target: Target,
        failing: PathBuf,
        watch: Watch,
    }

    impl Runner {
        fn new(target: Target, keep: &Path) -> Result<Self, String> {
            let failing = keep.join("failing");
            let folder = failing.clone();
            let watch = Watch::new(LONGEST, move |bytes| {
                let why = format!("has not ended within {} s", LONGEST.as_secs());
                if let Err(error) = name_failing(target, bytes, &folder, &why) {
                    eprintln!("error: {error}");
                }
                std::process::exit(1);
            });
            let watch = watch.map_err(|error| format!("cannot start a thread: {error}"))?;
            Ok(Self { target, failing, watch })
        }

        /// Whether the target holds on these bytes; if not, they are kept.
        fn holds(&self, bytes: &[u8], seen: &coverage::Seen) -> Result<bool, String> {
            self.watch.begin(bytes);
            seen.clear();
            let holds = catch_unwind(AssertUnwindSafe(|| (self.target.body)(bytes))).is_ok();
            self.watch.end();
            if !holds {
                name_failing(self.target, bytes, &self.failing, "fails")?;
            }
            Ok(holds)
        }
    }

    fn name_failing(target: Target, bytes: &[u8], folder: &Path, why: &str) -> Result<(), String> {
        let path = keep_failing(bytes, folder).inspect_err(|_| {
            eprintln!("{} {why} on an input that cannot be kept\n{}", target.name, bytes.escape_ascii());
        })?;
        eprintln!("{} {why} on {}\n{}", target.name, path.display(), bytes.escape_ascii());
        Ok(())
    }
}
