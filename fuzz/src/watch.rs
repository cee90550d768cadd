//! Names an input on which a target does not end.
//!
//! Before each run its input is copied, some hundred bytes in memory; a thread looks now and then whether the run goes on. It can
//! name the input and keep it, but only the end of the process ends the run. Looks are counted, not time: a process that was
//! stopped for a while has not hung.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The longest that a target may take for one input, on a slow and busy machine.
pub const LONGEST: Duration = Duration::from_secs(60);

/// How often a run is looked at in the longest span.
const LOOKS: u32 = 4;

/// The run that is under way.
#[derive(Default)]
struct Run {
    /// How often it was looked at; `None` without a run.
    looks: Option<u32>,
    bytes: Vec<u8>,
}

/// Looks after runs, one at a time, until it is dropped.
pub struct Watch {
    run: Arc<Mutex<Run>>,
}

impl Watch {
    /// Calls `tell` once with the input of each run that takes longer than `longest`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(longest: Duration, tell: impl Fn(&[u8]) + Send + 'static) -> io::Result<Self> {
        let run = Arc::default();
        let watched = Arc::downgrade(&run);
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || look(&watched, longest, tell))?;
        Ok(Self { run })
    }

    /// A run on these bytes begins.
    pub fn begin(&self, bytes: &[u8]) {
        let mut run = lock(&self.run);
        run.bytes.clear();
        run.bytes.extend_from_slice(bytes);
        run.looks = Some(0);
    }

    /// It has ended.
    pub fn end(&self) {
        lock(&self.run).looks = None;
    }
}

/// Looks until nobody is left to be watched.
fn look(watched: &Weak<Mutex<Run>>, longest: Duration, tell: impl Fn(&[u8])) {
    while let Some(run) = watched.upgrade() {
        let mut run = lock(&run);
        run.looks = run.looks.map(|looks| looks + 1);
        let is_late = run.looks.is_some_and(|looks| looks > LOOKS);
        if is_late {
            run.looks = None;
        }
        let late = is_late.then(|| run.bytes.clone());
        drop(run);
        if let Some(bytes) = late {
            tell(&bytes);
        }
        std::thread::sleep(longest / LOOKS);
    }
}

fn lock(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "whether a run was quick only real time tells")]
#[test]
fn only_a_run_that_takes_too_long_is_told_and_once() {
    let longest = Duration::from_millis(40);
    let (watch, told) = loop {
        let (sender, told) = std::sync::mpsc::channel();
        let watch = Watch::new(longest, move |bytes| {
            // Nobody listens any more once the test has ended.
            drop(sender.send(bytes.to_vec()));
        })
        .unwrap();
        let begun = std::time::Instant::now();
        watch.begin(b"quick");
        watch.end();
        // Unless the machine stood still in between.
        if begun.elapsed() < longest {
            break (watch, told);
        }
    };
    let patience = Duration::from_secs(20);
    for late in [b"late".as_slice(), b""] {
        watch.begin(late);
        assert_eq!(told.recv_timeout(patience).unwrap(), late);
    }
    watch.end();
    drop(watch);
    // The thread ends, and has told nothing more.
    assert_eq!(told.recv_timeout(patience), Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
}
