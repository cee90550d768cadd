//! What was sent and accepted, and whether a recording has exactly what it should.
//!
//! The ledger knows nothing of streams: it holds what HTTP answered 2xx for and compares it with what was found. Times
//! are those of one clock. A message that was under way while a boundary was drawn may be on either side of it.

use std::collections::BTreeMap;

/// One event that the monitor accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// When its request was sent, nanoseconds since 1970.
    pub(crate) sent: i64,
    /// When its request was answered.
    pub(crate) answered: i64,
}

/// The events of one device that were accepted, by their number.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accepted: BTreeMap<u64, Accepted>,
}

/// When a recording was started and stopped: each request's sending and answer, nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The start request, as sent and as answered.
    pub(crate) start: (i64, i64),
    /// The stop request, as sent and as answered.
    pub(crate) stop: (i64, i64),
    /// How far before its start the recording reaches, in nanoseconds.
    pub(crate) pre_roll: i64,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Judgement {
    /// Events that the recording should have.
    pub(crate) expected: u64,
    /// Those of them that it has.
    pub(crate) found: u64,
    /// Expected, and not there.
    pub(crate) missing: u64,
    /// There, and outside the span or never accepted.
    pub(crate) unexpected: u64,
    /// There more than once.
    pub(crate) duplicates: u64,
    /// There, behind a later one.
    pub(crate) out_of_order: u64,
}

impl Judgement {
    /// Whether the recording has what it should, once, in order, and nothing else.
    pub(crate) fn is_exact(&self) -> bool {
        self.missing == 0 && self.unexpected == 0 && self.duplicates == 0 && self.out_of_order == 0
    }
}

impl Ledger {
    /// Notes an accepted event.
    pub(crate) fn note(&mut self, number: u64, accepted: Accepted) {
        self.accepted.insert(number, accepted);
    }

    /// Compares the numbers found in a recording, in its order, with what the span should hold.
    pub(crate) fn judge(&self, recorded: &[u64], span: Span) -> Judgement {
        let mut judgement = Judgement::default();
        let mut seen = std::collections::BTreeSet::new();
        let mut highest = 0;
        for &number in recorded {
            if !seen.insert(number) {
                judgement.duplicates += 1;
                continue;
            }
            judgement.out_of_order += u64::from(number < highest);
            highest = highest.max(number);
            match self.accepted.get(&number) {
                Some(accepted) if side(accepted, span) != Side::Outside => {
                    judgement.expected += 1;
                    judgement.found += 1;
                }
                _ => judgement.unexpected += 1,
            }
        }
        let missed = |(number, accepted): &(&u64, &Accepted)| {
            side(accepted, span) == Side::Inside && !seen.contains(*number)
        };
        judgement.missing = self.accepted.iter().filter(missed).count() as u64;
        judgement.expected += judgement.missing;
        judgement
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Side {
    Inside,
    Outside,
    /// Under way while a boundary was drawn.
    Either,
}

/// Where an event lies. It arrived between its sending and its answer; a boundary was drawn between a request and its answer.
fn side(accepted: &Accepted, span: Span) -> Side {
    let begin = (span.start.0.saturating_sub(span.pre_roll), span.start.1.saturating_sub(span.pre_roll));
    if accepted.answered < begin.0 || accepted.sent > span.stop.1 {
        Side::Outside
    } else if accepted.sent > begin.1 && accepted.answered < span.stop.0 {
        Side::Inside
    } else {
        Side::Either
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events 1 to 100, number n sent at 10 n and answered at 10 n + 4.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for number in 1..=100u64 {
            let sent = i64::try_from(number).unwrap() * 10;
            ledger.note(number, Accepted { sent, answered: sent + 4 });
        }
        ledger
    }

    /// Recorded from 300 - 100 on until 600.
    const SPAN: Span = Span { start: (298, 303), stop: (597, 603), pre_roll: 100 };

    #[test]
    fn events_on_a_boundary_may_be_on_either_side() {
        // 20 (200..204) was under way at the beginning, 60 (600..604) at the end.
        for recorded in [21..=59, 20..=59, 21..=60, 20..=60] {
            let numbers: Vec<u64> = recorded.clone().collect();
            let judgement = ledger().judge(&numbers, SPAN);
            assert!(judgement.is_exact(), "{recorded:?}: {judgement:?}");
            assert_eq!((judgement.expected, judgement.found), (numbers.len() as u64, numbers.len() as u64));
        }
    }

    #[test]
    fn every_fault_is_counted() {
        let check = |recorded: &[u64]| ledger().judge(recorded, SPAN);
        let whole: Vec<u64> = (21..=59).collect();

        let gap: Vec<u64> = whole.iter().copied().filter(|number| *number != 40 && *number != 41).collect();
        assert_eq!(check(&gap), Judgement { expected: 39, found: 37, missing: 2, ..Judgement::default() });

        let mut twice = whole.clone();
        twice.insert(5, 24);
        assert_eq!(
            check(&twice),
            Judgement { expected: 39, found: 39, duplicates: 1, ..Judgement::default() }
        );

        let mut swapped = whole.clone();
        swapped.swap(3, 4);
        assert_eq!(
            check(&swapped),
            Judgement { expected: 39, found: 39, out_of_order: 1, ..Judgement::default() }
        );

        let wide: Vec<u64> = (19..=61).collect();
        assert_eq!(
            check(&wide),
            Judgement { expected: 41, found: 41, unexpected: 2, ..Judgement::default() }
        );

        let mut invented = whole.clone();
        invented.push(500);
        assert_eq!(
            check(&invented),
            Judgement { expected: 39, found: 39, unexpected: 1, ..Judgement::default() }
        );

        assert_eq!(check(&[]), Judgement { expected: 39, missing: 39, ..Judgement::default() });
        assert!(!check(&[]).is_exact());
    }
}
