//! Which edges of the program were taken: the counters that LLVM's SanitizerCoverage puts into it.
//!
//! The one place in this repository with `unsafe`: the counters are memory that the compiler lays out and other code writes. It is
//! compiled for the guided search alone and is no part of `weir`. libFuzzer would do the same in C++; this keeps the search to what
//! Rust brings along.
#![allow(unsafe_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

/// The counters of every part of the program.
static PARTS: Mutex<Vec<&'static [AtomicU8]>> = Mutex::new(Vec::new());

/// Called by the program's own start for each part, with the place of its counters.
///
/// # Safety
/// The compiler gives the bounds of memory that lives as long as the program and that nothing reads but this module; the counting
/// code writes single bytes, which is why they are read as atomics.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *const AtomicU8, stop: *const AtomicU8) {
    let length = (stop as usize).saturating_sub(start as usize);
    if length > 0 {
        // SAFETY: see above; `AtomicU8` has the layout of a byte.
        let counters = unsafe { std::slice::from_raw_parts(start, length) };
        let mut parts = PARTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !parts.iter().any(|part| part.as_ptr() == counters.as_ptr()) {
            parts.push(counters);
        }
    }
}

fn parts() -> Vec<&'static [AtomicU8]> {
    PARTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

/// How many edges the program has.
pub(crate) fn count() -> usize {
    parts().iter().map(|part| part.len()).sum()
}

/// Sets every counter to zero.
pub(crate) fn clear() {
    for counter in parts().into_iter().flatten() {
        counter.store(0, Ordering::Relaxed);
    }
}

/// What was seen so far: for each edge, roughly how often it was taken.
pub(crate) struct Seen {
    edges: Vec<u8>,
}

impl Seen {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self { edges: vec![0; count()] }
    }

    /// Whether what ran since the last clearing took an edge that was never taken, or another number of times; remembers it.
    pub(crate) fn is_new(&mut self) -> bool {
        let mut new = false;
        for (seen, counter) in self.edges.iter_mut().zip(parts().into_iter().flatten()) {
            let bit = match counter.load(Ordering::Relaxed) {
                0 => continue,
                1 => 1,
                2 => 2,
                3 => 4,
                4..=7 => 8,
                8..=15 => 16,
                16..=31 => 32,
                32..=127 => 64,
                128.. => 128,
            };
            if *seen & bit == 0 {
                *seen |= bit;
                new = true;
            }
        }
        new
    }

    /// How many edges were ever taken.
    pub(crate) fn edges(&self) -> usize {
        self.edges.iter().filter(|seen| **seen != 0).count()
    }
}
