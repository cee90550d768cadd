//! Randomness: identifiers and choices. A seeded source makes a run repeatable.

use std::sync::{Arc, Mutex, PoisonError};

/// A shared source of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: Arc<Mutex<[u64; 4]>>,
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
        let mut seed = [0u8; 8];
        if let Err(error) = getrandom::fill(&mut seed) {
            panic!("the operating system gives no randomness: {error}");
        }
        Self::from_seed(u64::from_le_bytes(seed))
    }

    /// A source whose numbers follow from `seed` alone.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut mix = seed;
        let state = std::array::from_fn(|_| split_mix(&mut mix));
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The next number (xoshiro256++).
    #[must_use]
    pub fn next(&self) -> u64 {
        let mut s = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
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

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
