//! The subjects of one log and their numbers.
//!
//! `messages` is exact. `first` and `last` are bounds that become exact when somebody asks: a removal at either end
//! only moves the bound, and the next question walks from there. No record is looked at here.

use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use bytes::Bytes;

/// A bound that may be known exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) seq: u64,
    pub(crate) exact: bool,
}

/// The numbers of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    pub(crate) messages: u64,
    pub(crate) first: Cell<Bound>,
    pub(crate) last: Cell<Bound>,
}

impl Numbers {
    pub(crate) fn new(messages: u64, first: Bound, last: Bound) -> Self {
        Self { messages, first: Cell::new(first), last: Cell::new(last) }
    }
}

/// Subject to numbers.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    map: HashMap<Bytes, Numbers, BuildHasherDefault<Mixer>>,
}

impl Subjects {
    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub(crate) fn get(&self, subject: &[u8]) -> Option<&Numbers> {
        self.map.get(subject)
    }

    /// One more record on `subject`, at a sequence above all others.
    pub(crate) fn added(&mut self, subject: &[u8], seq: u64) {
        let here = Bound { seq, exact: true };
        if let Some(numbers) = self.map.get_mut(subject) {
            numbers.messages += 1;
            numbers.last.set(here);
        } else {
            self.map.insert(Bytes::copy_from_slice(subject), Numbers::new(1, here, here));
        }
    }

    /// One record less on `subject`.
    pub(crate) fn removed(&mut self, subject: &[u8], seq: u64) {
        let Some(numbers) = self.map.get_mut(subject) else { return };
        numbers.messages = numbers.messages.saturating_sub(1);
        if numbers.messages == 0 {
            self.map.remove(subject);
            return;
        }
        if numbers.first.get().seq == seq {
            numbers.first.set(Bound { seq: seq + 1, exact: false });
        }
        if numbers.last.get().seq == seq {
            numbers.last.set(Bound { seq: seq - 1, exact: false });
        }
    }

    /// As it was stored.
    pub(crate) fn load(&mut self, subject: Bytes, numbers: Numbers) {
        self.map.insert(subject, numbers);
    }

    pub(crate) fn clear(&mut self) {
        self.map = HashMap::default();
    }

    /// Every subject, in no order.
    #[expect(clippy::disallowed_methods, reason = "callers sort, or take a sum or a maximum")]
    pub(crate) fn unordered(&self) -> impl Iterator<Item = (&Bytes, &Numbers)> {
        self.map.iter()
    }
}

/// A fixed, fast hash: eight bytes at a time, folded multiplication. Not made against an attacker; a subject costs its
/// sender a stored message.
#[derive(Clone, Copy)]
pub(crate) struct Mixer(u64);

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const FACTOR: u64 = 0xa076_1d64_78bd_642f;

impl Default for Mixer {
    fn default() -> Self {
        Self(SEED)
    }
}

impl Mixer {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are folded")]
        {
            self.0 = (product as u64) ^ ((product >> 64) as u64);
        }
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.mix(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0u8; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(last));
        }
    }

    fn write_usize(&mut self, length: usize) {
        self.mix(length as u64 ^ SEED);
    }
}
