//! Randomness: identifiers and choices. A seeded source makes a run repeatable.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// A shared source of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    generator: Arc<Mutex<StdRng>>,
}

impl Random {
    /// A source seeded by the operating system.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing that needs an unguessable id could go on.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the system for randomness"
    )]
    pub fn from_system() -> Self {
        let mut seed = [0u8; 32];
        if let Err(error) = getrandom::fill(&mut seed) {
            panic!("the operating system gives no randomness: {error}");
        }
        Self { generator: Arc::new(Mutex::new(StdRng::from_seed(seed))) }
    }

    /// A source whose numbers follow from `seed` alone.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self { generator: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    /// The next number.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.generator.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// A number below `bound`; 0 when `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// `length` random characters of `0-9A-Za-z`, as NATS ids have them.
    #[must_use]
    pub fn id(&self, length: usize) -> String {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..length).map(|_| char::from(DIGITS[usize::try_from(self.below(62)).unwrap_or(0)])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_every_number() {
        let (a, b, other) = (Random::from_seed(7), Random::from_seed(7), Random::from_seed(8));
        let ids = [a.id(22), b.id(22), other.id(22)];
        assert_eq!(ids[0], ids[1]);
        assert_ne!(ids[0], ids[2]);
        assert!(ids[0].len() == 22 && ids[0].bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn below_stays_below() {
        let random = Random::from_seed(1);
        assert_eq!(random.below(0), 0);
        assert!((0..1000).all(|_| random.below(3) < 3));
    }
}
