//! The store's reads. All of them see what is staged.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Store;
use crate::error::ReadError;
use crate::home::read::Way;
use crate::index::Log;
use crate::index::scan::View;
use crate::log::{LogId, LogState, Next, Record, SubjectState};

use crate::subjects::{Bound, Numbers};

/// Records examined without a match before the subjects are asked where the next one may be.
const PATIENCE: usize = 64;

/// What a search for a match has come to.
enum Step {
    Found(Next),
    /// There is none before this sequence.
    To(u64),
}

/// Decides whether a subject is wanted.
pub type Matcher<'a> = &'a dyn Fn(&[u8]) -> bool;

impl Store {
    /// The value of an attribute. Log 0 is the store's own scope.
    #[must_use]
    pub fn attribute(&self, log: LogId, key: &[u8]) -> Option<Bytes> {
        let scope = if log.0 == 0 { &self.scope } else { &self.logs.get(&log)?.attributes };
        scope.get(key).cloned()
    }

    /// All attributes of a log whose key starts with `prefix`, in key order.
    #[must_use]
    pub fn attributes(&self, log: LogId, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let scope =
            if log.0 == 0 { Some(&self.scope) } else { self.logs.get(&log).map(|log| &log.attributes) };
        let from = Bytes::copy_from_slice(prefix);
        scope
            .into_iter()
            .flat_map(|scope| scope.range(from.clone()..))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// The numbers of a log.
    #[must_use]
    pub fn state(&self, log: LogId) -> Option<LogState> {
        self.logs.get(&log).map(Log::state)
    }

    /// One record; `None` when it is not there.
    ///
    /// # Errors
    /// When there is no such log, or the record is damaged.
    pub fn get(&self, log: LogId, seq: u64) -> Result<Option<Record>, ReadError> {
        self.log(log)?.view(self.source(), seq, |view| view.record())
    }

    /// The first record in `from..=up_to` whose subject matches; examines at most `budget` records.
    /// `matcher: None` matches everything.
    ///
    /// # Errors
    /// When there is no such log, or damage lies before the next match.
    pub fn next(
        &self,
        log: LogId,
        from: u64,
        up_to: u64,
        matcher: Option<Matcher<'_>>,
        budget: usize,
    ) -> Result<Next, ReadError> {
        let log = self.log(log)?;
        let up_to = up_to.min(log.totals.last_seq);
        let subjects = usize::try_from(log.subjects.len()).unwrap_or(usize::MAX);
        let patience = PATIENCE.max(subjects / 16);
        let (mut from, mut examined) = (from, 0);
        loop {
            let mut misses = 0;
            let found = log.scan(self.source(), from, up_to, Way::Up, &mut |view| {
                let seq = view.frame.seq;
                if examined >= budget {
                    return ControlFlow::Break(Step::Found(Next::More(seq)));
                }
                let Some(wanted) = matcher.filter(|wanted| !wanted(view.frame.subject)) else {
                    return ControlFlow::Break(Step::Found(Next::Record(view.record())));
                };
                examined += 1;
                misses += 1;
                if misses < patience || subjects > budget {
                    return ControlFlow::Continue(());
                }
                misses = 0;
                match log.subjects.next_above(seq, wanted) {
                    None => ControlFlow::Break(Step::Found(Next::End)),
                    Some(next) if next > seq + 1 => ControlFlow::Break(Step::To(next)),
                    Some(_) => ControlFlow::Continue(()),
                }
            })?;
            match found {
                Some(Step::To(next)) => from = next,
                Some(Step::Found(next)) => return Ok(next),
                None => return Ok(Next::End),
            }
        }
    }

    /// Shows `visit` the sequence, time and headers of every record in `from..=up_to`, in order: what is wanted of many
    /// records costs less this way than record by record.
    ///
    /// # Errors
    /// When there is no such log, or at damage: what lies before it was visited, the visit can go on behind it.
    pub fn visit_headers(
        &self,
        log: LogId,
        from: u64,
        up_to: u64,
        visit: &mut dyn FnMut(u64, i64, &[u8]),
    ) -> Result<(), ReadError> {
        self.log(log)?.scan(self.source(), from, up_to, Way::Up, &mut |view| {
            visit(view.frame.seq, view.frame.time, view.frame.headers);
            ControlFlow::<()>::Continue(())
        })?;
        Ok(())
    }

    /// The last record at or below `up_to` whose subject matches.
    ///
    /// # Errors
    /// When there is no such log, or damage lies before it.
    pub fn last(
        &self,
        log: LogId,
        up_to: u64,
        matcher: Option<Matcher<'_>>,
    ) -> Result<Option<Record>, ReadError> {
        let log = self.log(log)?;
        let Some(wanted) = matcher else {
            return log
                .scan(self.source(), 0, up_to, Way::Down, &mut |view| ControlFlow::Break(view.record()));
        };
        // The subjects bound the search on both sides: no match lies above `top`, and one lies at `bottom`.
        let (mut top, mut bottom) = (0, 0);
        for (_, numbers) in log.subjects.unordered().filter(|(subject, _)| wanted(subject)) {
            let last = numbers.last.get();
            top = top.max(last.seq);
            if last.exact && last.seq <= up_to {
                bottom = bottom.max(last.seq);
            }
        }
        if top == 0 {
            return Ok(None);
        }
        log.scan(self.source(), bottom, up_to.min(top), Way::Down, &mut |view| {
            if wanted(view.frame.subject) {
                ControlFlow::Break(view.record())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    /// The sequence of the first record with a time of at least `time`.
    ///
    /// # Errors
    /// When there is no such log, or damage lies in the way.
    pub fn seek_time(&self, log: LogId, time: i64) -> Result<Option<u64>, ReadError> {
        self.log(log)?.seek_time(self.source(), time)
    }

    /// How many records at or above `from` match.
    ///
    /// # Errors
    /// When there is no such log, or damage lies in the way.
    pub fn count(&self, log: LogId, from: u64, matcher: Option<Matcher<'_>>) -> Result<u64, ReadError> {
        let log = self.log(log)?;
        if from <= log.totals.first_seq {
            return Ok(match matcher {
                None => log.totals.messages,
                Some(wanted) => log
                    .subjects
                    .unordered()
                    .filter(|(subject, _)| wanted(subject))
                    .fold(0, |all: u64, (_, numbers)| all.saturating_add(numbers.messages)),
            });
        }
        let Some(wanted) = matcher else { return log.count_from(self.source(), from) };
        let mut count = 0;
        log.scan(self.source(), from, log.totals.last_seq, Way::Up, &mut |view| {
            count += u64::from(wanted(view.frame.subject));
            ControlFlow::<()>::Continue(())
        })?;
        Ok(count)
    }

    /// The numbers of one subject; `None` when no record has it.
    #[must_use]
    pub fn subject(&self, log: LogId, subject: &[u8]) -> Option<SubjectState> {
        let log = self.logs.get(&log)?;
        Some(self.exact(log, subject, log.subjects.get(subject)?))
    }

    /// The numbers of every subject that matches, in byte order.
    #[must_use]
    pub fn subjects(&self, log: LogId, matcher: Option<Matcher<'_>>) -> Vec<(Bytes, SubjectState)> {
        let Some(log) = self.logs.get(&log) else { return Vec::new() };
        let mut all: Vec<_> = log
            .subjects
            .unordered()
            .filter(|(subject, _)| matcher.is_none_or(|wanted| wanted(subject)))
            .map(|(subject, numbers)| (subject.clone(), self.exact(log, subject, numbers)))
            .collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// The sequences absent between `first_seq` and `last_seq`, at most `max` of them.
    ///
    /// # Errors
    /// When there is no such log, or damage lies in the way.
    pub fn gaps(&self, log: LogId, max: usize) -> Result<Vec<u64>, ReadError> {
        let log = self.log(log)?;
        let mut gaps = Vec::new();
        let mut expected = log.totals.first_seq;
        log.scan(self.source(), log.totals.first_seq, log.totals.last_seq, Way::Up, &mut |view| {
            gaps.extend((expected..view.frame.seq).take(max - gaps.len()));
            expected = view.frame.seq + 1;
            if gaps.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        gaps.extend((expected..=log.totals.last_seq).take(max - gaps.len()));
        Ok(gaps)
    }

    fn log(&self, log: LogId) -> Result<&Log, ReadError> {
        self.logs.get(&log).ok_or(ReadError::NoSuchLog(log))
    }

    /// A subject's numbers with both bounds walked to where the records are. A damaged record on the way leaves the
    /// bound where it is.
    fn exact(&self, log: &Log, subject: &[u8], numbers: &Numbers) -> SubjectState {
        let (mut first, mut last) = (numbers.first.get(), numbers.last.get());
        if numbers.messages == 1 && first.exact != last.exact {
            first = if first.exact { first } else { last };
            last = first;
        }
        let mut walked = 0;
        let mut at = |view: &View<'_>| {
            walked += 1;
            if view.frame.subject == subject {
                ControlFlow::Break(view.frame.seq)
            } else {
                ControlFlow::Continue(())
            }
        };
        if !first.exact
            && let Ok(Some(seq)) = log.scan(self.source(), first.seq, last.seq, Way::Up, &mut at)
        {
            first = Bound { seq, exact: true };
        }
        if !last.exact
            && let Ok(Some(seq)) = log.scan(self.source(), first.seq, last.seq, Way::Down, &mut at)
        {
            last = Bound { seq, exact: true };
        }
        numbers.first.set(first);
        numbers.last.set(last);
        if log.subjects.walked(walked, log.totals.messages) {
            self.list_subjects(log);
        }
        SubjectState { messages: numbers.messages, first_seq: first.seq, last_seq: last.seq }
    }
    /// One pass over all records; damaged ones are passed over.
    fn list_subjects(&self, log: &Log) {
        log.subjects.list(|visit| {
            let mut from = log.totals.first_seq;
            loop {
                let scanned = log.scan(self.source(), from, log.totals.last_seq, Way::Up, &mut |view| {
                    visit(view.frame.subject, view.frame.seq);
                    ControlFlow::<()>::Continue(())
                });
                match scanned {
                    Err(ReadError::Damaged { last, .. }) => from = last.saturating_add(1),
                    Ok(_) | Err(_) => return,
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::log::{Cost, Layout, LogSpec, Medium};
    use crate::simulated::Simulated;
    use crate::store::Options;

    /// Three records on each of many subjects, in an order that is as good as random.
    fn churn(store: &mut Store, log: LogId, subjects: u64, records: std::ops::Range<u64>) {
        for seq in records {
            let subject = format!("s.{}", seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & (subjects - 1));
            store.append(log, seq, 0, subject.as_bytes(), b"", b"payload").expect("staged");
            while let Some(state) = store.subject(log, subject.as_bytes())
                && state.messages > 3
            {
                assert_eq!(store.evict(log, &[state.first_seq]), 1);
            }
            if seq % 100 == 0 {
                store.seal(Box::new(|sealed| sealed.expect("durable")));
                store.process();
            }
        }
    }

    #[test]
    fn a_limit_per_subject_costs_the_same_however_many_subjects_there_are() {
        for medium in [Medium::Disk, Medium::Memory] {
            let disk = Arc::new(Simulated::new());
            let options = Options { is_threaded: false, ..Options::default() };
            let mut store = Store::open(disk.clone(), options.clone()).expect("opened");
            let cost = Cost { per_record: 0, per_headers: 0 };
            let spec = LogSpec { medium, layout: Layout::Rows, cost, first_seq: 1 };
            let log = store.create_log(spec).expect("staged");
            churn(&mut store, log, 4096, 1..30_000);
            // Each walk would pass over thousands of records; few are enough to make the one pass.
            let listed = store.logs[&log].subjects.walks();
            churn(&mut store, log, 4096, 30_000..60_000);
            assert_eq!(store.logs[&log].subjects.walks(), listed, "no walk after the pass");
            if medium == Medium::Disk {
                store.close().expect("closed");
                store = Store::open(disk, options).expect("opened again");
                churn(&mut store, log, 4096, 60_000..61_000);
                let listed = store.logs[&log].subjects.walks();
                churn(&mut store, log, 4096, 61_000..62_000);
                assert_eq!(store.logs[&log].subjects.walks(), listed, "nor after a restart");
            }
        }
    }

    #[test]
    fn a_rare_subject_is_found_without_looking_at_all_records() {
        let options = Options { is_threaded: false, ..Options::default() };
        let mut store = Store::open(Arc::new(Simulated::new()), options).expect("opened");
        let cost = Cost { per_record: 0, per_headers: 0 };
        let spec = LogSpec { medium: Medium::Disk, layout: Layout::Blocks, cost, first_seq: 1 };
        let log = store.create_log(spec).expect("staged");
        for seq in 1..=20_000 {
            let subject: &[u8] = if seq == 19_000 { b"rare" } else { b"common" };
            store.append(log, seq, 0, subject, b"", b"").expect("staged");
        }
        let next = |from| store.next(log, from, u64::MAX, Some(&|subject| subject == b"rare"), 200);
        assert!(matches!(next(1), Ok(Next::Record(record)) if record.seq == 19_000));
        assert_eq!(next(19_001).expect("read"), Next::End);
    }
}
