//! How many messages are left to deliver, exactly.
//!
//! The count covers the staged records up to `upto`; later ones are added when somebody asks, or as they are staged
//! ([`Count::appended`]). Removals within it are subtracted one by one, or make it stale: then it is taken anew from
//! the store when it is needed. Exactness matters: clients end "the initial values" at a count of zero.

use weir_storage::{Next, ReadError};

use super::{Consumer, View};

/// Records looked at in one search.
const SEARCH: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Count {
    /// Messages left to deliver among those up to `upto`.
    value: u64,
    upto: u64,
    stale: bool,
}

impl Count {
    pub(super) fn value(&self) -> u64 {
        self.value
    }

    /// One of the counted messages is delivered for the first time, or is gone.
    pub(super) fn take_one(&mut self) {
        self.value = self.value.saturating_sub(1);
    }

    /// Whether `seq` is within what is counted.
    pub(super) fn covers(&self, seq: u64) -> bool {
        seq <= self.upto
    }

    pub(super) fn appended(&mut self, seq: u64, wanted: impl FnOnce() -> bool) {
        if seq == self.upto.saturating_add(1) {
            self.upto = seq;
            self.value = self.value.saturating_add(u64::from(wanted()));
        }
    }

    /// It has to be taken anew before it is used.
    pub(super) fn spoil(&mut self) {
        self.stale = true;
    }
}

impl Consumer {
    /// Counts anew from the store.
    pub(super) fn recount(&mut self, view: &View<'_>) -> Result<(), ReadError> {
        let upto = view.store.state(view.log).unwrap_or_default().last_seq;
        let mut value = 0u64;
        let mut from = self.next_seq;
        if let Some(skip) = &self.skip {
            for seq in &skip.seqs {
                let is_there = match view.store.get(view.log, *seq) {
                    Ok(found) => found.is_some(),
                    Err(ReadError::Damaged { .. }) => false,
                    Err(error) => return Err(error),
                };
                value = value.saturating_add(u64::from(is_there));
            }
            from = skip.resume.saturating_add(1);
        }
        self.count = Count { value: value.saturating_add(self.count_from(from, view)?), upto, stale: false };
        Ok(())
    }

    /// Brings the count up to the last staged record.
    pub(super) fn sync_count(&mut self, view: &View<'_>) -> Result<(), ReadError> {
        let last = view.store.state(view.log).unwrap_or_default().last_seq;
        // Records that were counted when they were staged are lost where a write failed.
        if self.count.stale || last < self.count.upto {
            return self.recount(view);
        }
        if last > self.count.upto {
            // What a reset jumped over, or a start beyond the end, is not counted.
            let from = self.count.upto.saturating_add(1).max(self.first_counted());
            if from <= last {
                self.count.value = self.count.value.saturating_add(self.count_from(from, view)?);
            }
            self.count.upto = last;
        }
        Ok(())
    }

    /// The first sequence behind the skip list that is still to be delivered.
    pub(super) fn first_counted(&self) -> u64 {
        self.skip.as_ref().map_or(self.next_seq, |skip| skip.resume.saturating_add(1))
    }

    /// How many wanted records there are from `from` on. Damaged ones do not count: whether they are wanted is not known,
    /// and delivery stands still where they begin.
    fn count_from(&self, from: u64, view: &View<'_>) -> Result<u64, ReadError> {
        match self.count_undamaged(from, view) {
            Err(ReadError::Damaged { .. }) => self.count_around_damage(from, view),
            counted => counted,
        }
    }

    fn count_around_damage(&self, mut from: u64, view: &View<'_>) -> Result<u64, ReadError> {
        let matcher = |subject: &[u8]| self.filter.matches(subject);
        let mut count = 0u64;
        loop {
            match view.store.next(view.log, from, u64::MAX, Some(&matcher), SEARCH) {
                Ok(Next::Record(record)) => {
                    count = count.saturating_add(1);
                    from = record.seq.saturating_add(1);
                }
                Ok(Next::More(seq)) => from = seq,
                Ok(Next::End) => return Ok(count),
                Err(ReadError::Damaged { last, .. }) => from = last.saturating_add(1),
                Err(error) => return Err(error),
            }
        }
    }

    fn count_undamaged(&self, from: u64, view: &View<'_>) -> Result<u64, ReadError> {
        let (store, log) = (view.store, view.log);
        if self.filter.is_all() {
            return store.count(log, from, None);
        }
        let matcher = |subject: &[u8]| self.filter.matches(subject);
        let first = store.state(log).unwrap_or_default().first_seq;
        if from > first {
            return store.count(log, from, Some(&matcher));
        }
        // From the beginning on, the numbers of the subjects say it.
        Ok(match self.filter.literal() {
            Some(subject) => store.subject(log, subject).map_or(0, |state| state.messages),
            None => {
                let subjects = store.subjects(log, Some(&matcher));
                subjects.iter().fold(0, |all: u64, (_, state)| all.saturating_add(state.messages))
            }
        })
    }
}
