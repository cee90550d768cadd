//! A set of sequences kept as runs. Neighbouring runs are one run, so that a million removed neighbours cost one entry.

use std::collections::BTreeMap;

/// A set of numbers, stored as closed ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    /// First of a run to its last.
    runs: BTreeMap<u64, u64>,
}

impl Runs {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many runs there are.
    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        !self.runs.is_empty() && self.runs.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }

    /// Adds `first..=last`.
    pub(crate) fn insert(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        // The run before may reach up to us; runs behind may begin inside us or right behind.
        if let Some((&start, &end)) = self.runs.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            first = start;
            last = last.max(end);
            self.runs.remove(&start);
        }
        while let Some((&start, &end)) = self.runs.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.runs.remove(&start);
        }
        self.runs.insert(first, last);
    }

    /// Takes `first..=last` out.
    pub(crate) fn remove(&mut self, first: u64, last: u64) {
        if let Some((&start, &end)) = self.runs.range(..first).next_back()
            && end >= first
        {
            self.runs.insert(start, first - 1);
            if end > last {
                self.runs.insert(last + 1, end);
                return;
            }
        }
        while let Some((&start, &end)) = self.runs.range(first..=last).next() {
            self.runs.remove(&start);
            if end > last {
                self.runs.insert(last + 1, end);
            }
        }
    }

    /// How many numbers of `first..=last` are in the set.
    pub(crate) fn count_in(&self, first: u64, last: u64) -> u64 {
        self.within(first, last).map(|(start, end)| end - start + 1).sum()
    }

    /// The runs, cut to `first..=last`.
    pub(crate) fn within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.runs.range(..first).next_back().filter(move |(_, end)| **end >= first);
        before
            .into_iter()
            .chain((first <= last).then(|| self.runs.range(first..=last)).into_iter().flatten())
            .map(move |(&start, &end)| (start.max(first), end.min(last)))
            .filter(|(start, end)| start <= end)
    }

    /// All runs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(&first, &last)| (first, last))
    }
}

/// Joins sequences in ascending order into runs.
pub(crate) fn join(seqs: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &seq in seqs {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(seq) => *last = seq,
            _ => runs.push((seq, seq)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_are_a_set(steps in proptest::collection::vec((any::<bool>(), 1u64..60, 0u64..12), 0..60)) {
            let (mut runs, mut naive) = (Runs::default(), BTreeSet::new());
            for (insert, first, more) in steps {
                let last = first + more;
                if insert {
                    runs.insert(first, last);
                    naive.extend(first..=last);
                } else {
                    runs.remove(first, last);
                    naive.retain(|n| *n < first || *n > last);
                }
                let ordered: Vec<u64> = naive.iter().copied().collect();
                prop_assert_eq!(runs.iter().collect::<Vec<_>>(), join(&ordered));
                prop_assert_eq!(runs.count_in(10, 30), naive.range(10..=30).count() as u64);
                for n in 0..80 {
                    prop_assert_eq!(runs.contains(n), naive.contains(&n));
                }
            }
        }
    }
}
