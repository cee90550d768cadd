//! Which edges of the program were taken: the counters that LLVM's SanitizerCoverage puts into it.
//!
//! The one place in this repository with `unsafe`: the counters are memory that the compiler lays out and other code writes. It is
//! compiled for the guided search alone and is no part of `weir`. libFuzzer would do the same in C++; this keeps the search to what
//! Rust brings along.
#![allow(unsafe_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

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

/// The counters eight at a time, as far as they lie so: most are zero, and there are a hundred thousand.
fn words(part: &'static [AtomicU8]) -> (&'static [AtomicU8], &'static [AtomicU64], &'static [AtomicU8]) {
    // SAFETY: any eight bytes are an `AtomicU64`, and `align_to` keeps to its alignment. A count that another thread adds to one
    // of the bytes at the same moment may be lost, which is no more than a search that runs in one thread can bear.
    unsafe { part.align_to() }
}

/// How many edges the program has.
pub(crate) fn count() -> usize {
    parts().iter().map(|part| part.len()).sum()
}

/// What was seen so far: for each edge, roughly how often it was taken.
pub(crate) struct Seen {
    parts: Vec<&'static [AtomicU8]>,
    edges: Vec<u8>,
}

impl Seen {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Self { parts: parts(), edges: vec![0; count()] }
    }

    /// Sets every counter to zero.
    pub(crate) fn clear(&self) {
        for part in &self.parts {
            let (head, words, tail) = words(part);
            head.iter().chain(tail).for_each(|counter| counter.store(0, Ordering::Relaxed));
            for word in words {
                if word.load(Ordering::Relaxed) != 0 {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// Whether what ran since the last clearing took an edge that was never taken, or another number of times; remembers it.
    pub(crate) fn is_new(&mut self) -> bool {
        let mut new = false;
        let mut at = 0;
        for part in &self.parts {
            let (head, words, tail) = words(part);
            let edges = &mut self.edges[at..at + part.len()];
            at += part.len();
            let (before, rest) = edges.split_at_mut(head.len());
            let (middle, behind) = rest.split_at_mut(words.len() * 8);
            for (seen, counter) in before.iter_mut().zip(head).chain(behind.iter_mut().zip(tail)) {
                new |= note(seen, counter.load(Ordering::Relaxed));
            }
            for (seen, word) in middle.chunks_exact_mut(8).zip(words) {
                let word = word.load(Ordering::Relaxed);
                if word != 0 {
                    for (seen, count) in seen.iter_mut().zip(word.to_ne_bytes()) {
                        new |= note(seen, count);
                    }
                }
            }
        }
        new
    }

    /// How many edges were ever taken.
    pub(crate) fn edges(&self) -> usize {
        self.edges.iter().filter(|seen| **seen != 0).count()
    }
}

/// Adds how often an edge was taken to what was seen of it; says whether that is new.
fn note(seen: &mut u8, count: u8) -> bool {
    let bit = match count {
        0 => return false,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128.. => 128,
    };
    let new = *seen & bit == 0;
    *seen |= bit;
    new
}
