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

/// Records examined without a match before the subjects are asked whether there can be one.
const PATIENCE: usize = 64;

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
        let up_to = up_to.min(log.last_seq);
        let mut examined = 0;
        let mut asked = false;
        let found = log.scan(self.source(), from, up_to, Way::Up, &mut |view| {
            let seq = view.frame.seq;
            if examined >= budget {
                return ControlFlow::Break(Next::More(seq));
            }
            if matcher.is_none_or(|wanted| wanted(view.frame.subject)) {
                return ControlFlow::Break(Next::Record(view.record()));
            }
            examined += 1;
            if !asked && examined >= PATIENCE && log.subjects.len() <= budget as u64 {
                asked = true;
                let possible = log.subjects.unordered().any(|(subject, numbers)| {
                    numbers.last.get().seq > seq && matcher.is_none_or(|wanted| wanted(subject))
                });
                if !possible {
                    return ControlFlow::Break(Next::End);
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(found.unwrap_or(Next::End))
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
        if from <= log.first_seq {
            return Ok(match matcher {
                None => log.messages,
                Some(wanted) => log
                    .subjects
                    .unordered()
                    .filter(|(subject, _)| wanted(subject))
                    .map(|(_, numbers)| numbers.messages)
                    .sum(),
            });
        }
        let Some(wanted) = matcher else { return log.count_from(self.source(), from) };
        let mut count = 0;
        log.scan(self.source(), from, log.last_seq, Way::Up, &mut |view| {
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
        let mut expected = log.first_seq;
        log.scan(self.source(), log.first_seq, log.last_seq, Way::Up, &mut |view| {
            gaps.extend((expected..view.frame.seq).take(max - gaps.len()));
            expected = view.frame.seq + 1;
            if gaps.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        gaps.extend((expected..=log.last_seq).take(max - gaps.len()));
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
        let mut at = |view: &View<'_>| {
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
        SubjectState { messages: numbers.messages, first_seq: first.seq, last_seq: last.seq }
    }
}
