//! What a recording lacks: messages that were in the buffer and are not in the session.
//!
//! A hole in the sequences is a gap unless nothing was ever there: a buffer in memory comes back from a restart behind the
//! sequences that were set aside for it, and the server notes in the mirror's metadata which of them held no message. With a
//! retention, what is missing at the front has run out; that is no gap either.

use crate::client::jetstream::StreamInfo;
use crate::service::session::{Gap, Session};

/// Gaps named one by one; what is left is summed up.
const GAPS_MAX: usize = 100;
/// Metadata of a mirror: sequences that never held a message, as `7-65540,65543-131078`.
const UNUSED: &str = "weir.unused";
const REASON: &str = "these messages were no longer in the buffer when it was copied, or were deleted";

/// First and last sequence.
type Range = (u64, u64);

/// Whether there are holes up to the last message that the server's notes do not explain, so that their list is needed.
pub(super) fn has_unknown_holes(info: &StreamInfo, end: u64) -> bool {
    let first = info.state.first_seq;
    let holes = length((first, end)).saturating_sub(u128::from(info.state.messages));
    let explained = unused(info).into_iter().map(|(from, to)| length((from.max(first), to.min(end))));
    holes > explained.sum()
}

/// How many sequences there are from the first to the last; more than a sequence can say if they are all there are.
fn length((first, last): Range) -> u128 {
    (u128::from(last) + 1).saturating_sub(u128::from(first))
}

/// What is missing from the first to the last sequence that belong to a session; `end` is its last message. `info` lists the
/// deleted sequences if [`has_unknown_holes`] asked for them.
pub(super) fn gaps(session: &Session, info: &StreamInfo, end: Option<u64>, last: u64) -> Vec<Gap> {
    if last < session.start_sequence || last == u64::MAX {
        return Vec::new();
    }
    let mut holes: Vec<Range> = Vec::new();
    let front = info.state.first_seq.min(last.saturating_add(1));
    if session.retention.is_none() && info.state.messages > 0 && front > session.start_sequence {
        holes.push((session.start_sequence, front - 1));
    }
    if session.retention.is_none() && info.state.messages == 0 {
        holes.push((session.start_sequence, last));
    }
    if let Some(end) = end {
        for &missing in info.state.deleted.iter().flatten() {
            if missing < session.start_sequence || missing >= end {
                continue;
            }
            match holes.last_mut() {
                Some(hole) if hole.1 + 1 == missing => hole.1 = missing,
                _ => holes.push((missing, missing)),
            }
        }
        if end < last {
            holes.push((end + 1, last));
        }
    }
    let mut gaps = named(&without(holes, &unused(info)));
    gaps.extend(end.and_then(|end| unlisted(info, end)));
    gaps
}

/// Where more sequences are missing than the server lists, what lies behind the last one it lists.
fn unlisted(info: &StreamInfo, end: u64) -> Option<Gap> {
    let listed = info.state.deleted.as_ref()?;
    let more = info.state.num_deleted.saturating_sub(listed.len() as u64);
    let first_sequence = listed.last()?.saturating_add(1);
    (more > 0 && first_sequence < end).then(|| Gap {
        first_sequence,
        last_sequence: end - 1,
        reason: format!("{more} sequences of this range have no message; the server does not list which"),
    })
}

/// The ranges that never held a message, as far as they can be read.
fn unused(info: &StreamInfo) -> Vec<Range> {
    let note = info.config.metadata.get(UNUSED).map(String::as_str).unwrap_or_default();
    let range = |text: &str| {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (0 < first && first <= last).then_some((first, last))
    };
    note.split(',').filter_map(range).collect()
}

fn without(mut holes: Vec<Range>, unused: &[Range]) -> Vec<Range> {
    for &(from, to) in unused {
        holes = holes
            .into_iter()
            .flat_map(|(first, last)| [(first, last.min(from - 1)), (first.max(to.saturating_add(1)), last)])
            .filter(|(first, last)| first <= last)
            .collect();
    }
    holes
}

fn named(ranges: &[Range]) -> Vec<Gap> {
    let more = ranges.len().saturating_sub(GAPS_MAX);
    let mut gaps: Vec<Gap> = ranges
        .iter()
        .take(GAPS_MAX)
        .map(|&(first_sequence, last_sequence)| Gap {
            first_sequence,
            last_sequence,
            reason: REASON.to_owned(),
        })
        .collect();
    if let (true, Some(&(first_sequence, _)), Some(&(_, last_sequence))) =
        (more > 0, ranges.get(GAPS_MAX), ranges.last())
    {
        gaps.push(Gap { first_sequence, last_sequence, reason: format!("{more} more gaps in this range") });
    }
    gaps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn session(start_sequence: u64, retention: bool) -> Session {
        let retention = if retention { json!("1h") } else { json!(null) };
        serde_json::from_value(json!({
            "session_id": "s", "start": "2026-01-01T00:00:00Z", "pre_roll": "0s", "post_roll": "0s",
            "start_sequence": start_sequence, "retention": retention,
        }))
        .unwrap()
    }

    fn info(first: u64, last: u64, deleted: &[u64]) -> StreamInfo {
        let messages = (last + 1).saturating_sub(first) - deleted.len() as u64;
        serde_json::from_value(json!({
            "config": {"name": "x"},
            "state": {"messages": messages, "bytes": 0, "first_seq": first, "last_seq": last, "deleted": deleted},
        }))
        .unwrap()
    }

    fn noted(mut info: StreamInfo, note: &str) -> StreamInfo {
        info.config.metadata.insert(UNUSED.to_owned(), note.to_owned());
        info
    }

    fn ranges(session: &Session, info: &StreamInfo, end: Option<u64>, last: u64) -> Vec<Range> {
        gaps(session, info, end, last).iter().map(|gap| (gap.first_sequence, gap.last_sequence)).collect()
    }

    #[test]
    fn every_missing_sequence_is_named_once() {
        let plain = session(5, false);
        assert_eq!(ranges(&plain, &info(5, 9, &[]), Some(9), 9), []);
        assert_eq!(ranges(&plain, &info(5, 12, &[10, 11, 12]), Some(9), 9), []);
        assert_eq!(ranges(&plain, &info(7, 12, &[9, 10]), Some(12), 12), [(5, 6), (9, 10)]);
        assert_eq!(ranges(&plain, &info(5, 9, &[]), Some(9), 14), [(10, 14)]);
        assert_eq!(ranges(&plain, &info(5, 4, &[]), None, 8), [(5, 8)]);
        assert_eq!(ranges(&plain, &info(5, 4, &[]), None, 4), []);
        assert_eq!(ranges(&session(5, true), &info(8, 12, &[10]), Some(12), 12), [(10, 10)]);
    }

    #[test]
    fn what_never_held_a_message_is_no_gap() {
        let plain = session(5, false);
        let restarted = info(5, 24, &[9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        assert_eq!(ranges(&plain, &noted(restarted.clone(), "9-19"), Some(24), 24), []);
        assert_eq!(ranges(&plain, &noted(restarted.clone(), "11-19"), Some(24), 24), [(9, 10)]);
        assert_eq!(
            ranges(&plain, &noted(restarted, "1-3,10-11,14-17,30-40"), Some(24), 24),
            [(9, 9), (12, 13), (18, 19)]
        );
        // At either end of the session, or all of it.
        assert_eq!(ranges(&plain, &noted(info(20, 24, &[]), "5-19"), Some(24), 24), []);
        assert_eq!(ranges(&plain, &noted(info(5, 9, &[]), "10-65545"), Some(9), 65_545), []);
        assert_eq!(ranges(&plain, &noted(info(5, 9, &[]), "12-65545"), Some(9), 65_545), [(10, 11)]);
        assert_eq!(ranges(&plain, &noted(info(70_001, 70_000, &[]), "5-70000"), None, 70_000), []);
    }

    #[test]
    fn the_list_of_holes_is_asked_for_only_when_something_is_missing() {
        let whole = |info: &StreamInfo, end| !has_unknown_holes(info, end);
        assert!(whole(&info(5, 9, &[]), 9));
        assert!(whole(&info(5, 12, &[10, 11, 12]), 9));
        let restarted = info(5, 12, &[8, 9, 10]);
        assert!(whole(&noted(restarted.clone(), "8-10"), 12));
        assert!(!whole(&noted(restarted.clone(), "9-10"), 12));
        assert!(!whole(&noted(restarted, "9-10,20-30"), 12));
    }

    #[test]
    fn sequences_of_a_foreign_server_may_be_the_highest_there_are() {
        let empty = info(1, 0, &[]);
        assert!(has_unknown_holes(&empty, u64::MAX));
        let all = format!("1-{}", u64::MAX);
        assert!(!has_unknown_holes(&noted(empty.clone(), &all), u64::MAX));
        assert!(!has_unknown_holes(&noted(empty.clone(), &format!("{all},{all},{all}")), u64::MAX));
        assert!(has_unknown_holes(&noted(empty.clone(), &format!("2-{}", u64::MAX)), u64::MAX));
        let zero = session(0, false);
        assert_eq!(ranges(&zero, &noted(empty, &all), Some(u64::MAX), u64::MAX - 1), [(0, 0)]);
        let mut high = info(u64::MAX, 0, &[]);
        high.state.messages = 1;
        high.state.deleted = Some(vec![u64::MAX, 0]);
        assert_eq!(ranges(&session(5, false), &high, Some(u64::MAX - 1), u64::MAX - 1), [(5, u64::MAX - 1)]);
    }

    #[test]
    fn what_the_server_does_not_list_is_named_as_a_range() {
        let mut cut = info(5, 3_000, &[7, 8, 9]);
        cut.state.num_deleted = 1_000;
        let found = gaps(&session(5, false), &cut, Some(3_000), 3_000);
        assert_eq!((found[0].first_sequence, found[0].last_sequence), (7, 9));
        assert_eq!((found[1].first_sequence, found[1].last_sequence, found.len()), (10, 2_999, 2));
        assert!(found[1].reason.starts_with("997 sequences"), "{}", found[1].reason);
        cut.state.num_deleted = 3;
        assert_eq!(gaps(&session(5, false), &cut, Some(3_000), 3_000).len(), 1);
    }

    #[test]
    fn countless_holes_are_summed_up() {
        let deleted: Vec<u64> = (0..500).map(|n| 6 + 2 * n).collect();
        let gaps = gaps(&session(5, false), &info(5, 2_000, &deleted), Some(2_000), 2_000);
        assert_eq!(gaps.len(), GAPS_MAX + 1);
        assert_eq!(gaps[GAPS_MAX].reason, "400 more gaps in this range");
    }

    proptest! {
        #[test]
        fn holes_without_what_is_unused_are_as_in_a_set(
            holes in prop::collection::vec((1u64..60, 0u64..9), 0..6),
            unused in prop::collection::vec((1u64..60, 0u64..9), 0..6),
        ) {
            let all = |ranges: &[Range]| ranges.iter().flat_map(|&(a, b)| a..=b).collect::<std::collections::BTreeSet<_>>();
            let ends = |each: Vec<Range>| each.into_iter().map(|(a, n)| (a, a + n)).collect::<Vec<_>>();
            // Holes do not overlap.
            let mut next = 1;
            let holes: Vec<Range> = holes.into_iter().map(|(a, n)| { let first = next + a; next = first + n + 1; (first, first + n) }).collect();
            let unused = ends(unused);
            let left = without(holes.clone(), &unused);
            let expected: std::collections::BTreeSet<u64> = all(&holes).difference(&all(&unused)).copied().collect();
            prop_assert_eq!(left.iter().map(|&(a, b)| b - a + 1).sum::<u64>(), expected.len() as u64, "none twice");
            prop_assert_eq!(all(&left), expected);
        }
    }
}
