//! The subjects of one log and their numbers.
//!
//! `messages` is exact. `first` and `last` are bounds that become exact when somebody asks: a removal at either end
//! only moves the bound, and the next question walks from there. When such walks have cost as much as one pass over the
//! log, one pass is made and the sequences of each subject are listed from then on, so that limits per subject cost the
//! same however many subjects lie between. No record is looked at here.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
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

    /// Both bounds, from all sequences.
    fn settle(&self, list: &VecDeque<u64>) {
        let exactly = |seq: &u64| Bound { seq: *seq, exact: true };
        if let (Some(first), Some(last)) = (list.front(), list.back()) {
            self.first.set(exactly(first));
            self.last.set(exactly(last));
        }
    }
}

/// Subjects with more records are not listed: the next one is never far.
const LISTED_MAX: u64 = 1024;
/// Records that may be walked over, besides as many as there are, before a pass is made.
const WALKED_MAX: u64 = 256;

/// Subject to its sequences, in order; subjects with one record are not in it.
type Lists = HashMap<Bytes, VecDeque<u64>, BuildHasherDefault<Mixer>>;

/// The first records of a log, by subject: how many, and the last sequence.
#[derive(Debug, Default)]
pub(crate) struct Tally(HashMap<Bytes, (u64, u64), BuildHasherDefault<Mixer>>);

impl Tally {
    /// One more, at a sequence above all others.
    pub(crate) fn add(&mut self, subject: &[u8], seq: u64) {
        match self.0.get_mut(subject) {
            Some((count, last)) => (*count, *last) = (*count + 1, seq),
            None => drop(self.0.insert(Bytes::copy_from_slice(subject), (1, seq))),
        }
    }
}

/// Subject to numbers.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    map: HashMap<Bytes, Numbers, BuildHasherDefault<Mixer>>,
    /// Once a pass has been made. What is in it is complete.
    lists: RefCell<Option<Lists>>,
    /// Records walked over since the last pass.
    walked: Cell<u64>,
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
        let Some(numbers) = self.map.get_mut(subject) else {
            self.map.insert(Bytes::copy_from_slice(subject), Numbers::new(1, here, here));
            return;
        };
        let before = numbers.last.replace(here);
        numbers.messages = numbers.messages.saturating_add(1);
        let Some(lists) = self.lists.get_mut() else { return };
        if let Some(list) = lists.get_mut(subject) {
            list.push_back(seq);
            if numbers.messages > LISTED_MAX {
                lists.remove(subject);
            }
        } else if numbers.messages == 2 {
            let only = [before, numbers.first.get()].into_iter().find(|bound| bound.exact);
            if let (Some(only), Some((key, _))) = (only, self.map.get_key_value(subject)) {
                lists.insert(key.clone(), VecDeque::from([only.seq, seq]));
            }
        }
    }

    /// One record less on `subject`.
    pub(crate) fn removed(&mut self, subject: &[u8], seq: u64) {
        let Some(numbers) = self.map.get_mut(subject) else { return };
        numbers.messages = numbers.messages.saturating_sub(1);
        let lists = self.lists.get_mut();
        if numbers.messages == 0 {
            if let Some(lists) = lists {
                lists.remove(subject);
            }
            self.map.remove(subject);
            return;
        }
        if let Some(lists) = lists
            && let Some(list) = lists.get_mut(subject)
            && let Ok(at) = list.binary_search(&seq)
        {
            list.remove(at);
            numbers.settle(list);
            if list.len() == 1 {
                lists.remove(subject);
            }
            return;
        }
        if numbers.first.get().seq == seq {
            numbers.first.set(Bound { seq: seq + 1, exact: false });
        }
        if numbers.last.get().seq == seq {
            numbers.last.set(Bound { seq: seq - 1, exact: false });
        }
    }

    /// The log's first records are gone.
    #[expect(clippy::disallowed_methods, reason = "each subject is changed by itself")]
    pub(crate) fn removed_first(&mut self, gone: &Tally) {
        for (subject, (count, last)) in gone.0.iter() {
            let Some(numbers) = self.map.get_mut(subject) else { continue };
            numbers.messages = numbers.messages.saturating_sub(*count);
            let list = self.lists.get_mut().as_mut().and_then(|lists| lists.remove(subject));
            if numbers.messages == 0 {
                self.map.remove(subject);
                continue;
            }
            if numbers.first.get().seq <= *last {
                numbers.first.set(Bound { seq: last + 1, exact: false });
            }
            if let Some(mut list) = list {
                list.drain(..list.partition_point(|seq| seq <= last));
                numbers.settle(&list);
                if let Some(lists) = self.lists.get_mut().as_mut().filter(|_| list.len() > 1) {
                    lists.insert(subject.clone(), list);
                }
            }
        }
    }

    /// Looking for a bound has cost so many records. `true` when a pass over all records ([`Self::list`]) is due.
    pub(crate) fn walked(&self, records: u64, present: u64) -> bool {
        self.walked.set(self.walked.get().saturating_add(records));
        self.walked.get() > present.saturating_add(WALKED_MAX)
    }

    /// Records walked over since the last pass.
    #[cfg(test)]
    pub(crate) fn walks(&self) -> u64 {
        self.walked.get()
    }

    /// Lists the sequences of each subject. `pass` visits every record in order, as far as they can be read.
    pub(crate) fn list(&self, pass: impl FnOnce(&mut dyn FnMut(&[u8], u64))) {
        let mut lists = Lists::default();
        pass(&mut |subject, seq| {
            if let Some(list) = lists.get_mut(subject) {
                list.push_back(seq);
            } else if let Some((key, numbers)) = self.map.get_key_value(subject)
                && numbers.messages <= LISTED_MAX
            {
                lists.insert(key.clone(), VecDeque::from([seq]));
            }
        });
        lists.retain(|subject, list| match self.map.get(subject) {
            Some(numbers) if numbers.messages == list.len() as u64 => {
                numbers.settle(list);
                list.len() > 1
            }
            // Some of them cannot be read.
            _ => false,
        });
        self.walked.set(0);
        self.lists.replace(Some(lists));
    }

    /// The lowest sequence above `seq` at which a record of a wanted subject may lie; `None` when there is none.
    pub(crate) fn next_above(&self, seq: u64, wanted: impl Fn(&[u8]) -> bool) -> Option<u64> {
        let lists = self.lists.borrow();
        let mut nearest = None;
        for (subject, numbers) in self.unordered().filter(|(subject, _)| wanted(subject)) {
            let (first, last) = (numbers.first.get().seq, numbers.last.get().seq);
            if last <= seq {
                continue;
            }
            let next = if first > seq {
                first
            } else if let Some(list) = lists.as_ref().and_then(|lists| lists.get(subject)) {
                list.get(list.partition_point(|at| *at <= seq)).copied().unwrap_or(last)
            } else {
                seq.saturating_add(1)
            };
            nearest = Some(nearest.map_or(next, |nearest: u64| nearest.min(next)));
        }
        nearest
    }

    /// As it was stored.
    pub(crate) fn load(&mut self, subject: Bytes, numbers: Numbers) {
        self.map.insert(subject, numbers);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
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
