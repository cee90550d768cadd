//! A log as a map, and the comparison of a store's log with it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_storage::{LogId, LogSpec, LogState, Medium, Next, Record, StageError, Store, SubjectState};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append { skip: u64, subject: u8, headers: bool, payload: usize },
    Burst { count: u64, subject: u8 },
    SkipTo(u64),
    Remove(Vec<u64>),
    Purge(u64),
    Evict(Vec<u64>),
    EvictBelow(u64),
    Seal,
    Process,
    Reopen,
}

/// Sequences in steps are thousandths of the log's range, so that they hit.
pub(crate) fn step() -> impl Strategy<Value = Step> {
    let place = || 0u64..1100;
    prop_oneof![
        8 => (prop_oneof![9 => Just(0u64), 1 => 1u64..20], 0u8..12, any::<bool>(), 0usize..300)
            .prop_map(|(skip, subject, headers, payload)| Step::Append { skip, subject, headers, payload }),
        4 => (1u64..400, 0u8..12).prop_map(|(count, subject)| Step::Burst { count, subject }),
        1 => (0u64..30).prop_map(Step::SkipTo),
        4 => proptest::collection::vec(place(), 1..8).prop_map(Step::Remove),
        1 => place().prop_map(Step::Purge),
        4 => proptest::collection::vec(place(), 1..8).prop_map(Step::Evict),
        2 => (0u64..300).prop_map(Step::EvictBelow),
        4 => Just(Step::Seal),
        4 => Just(Step::Process),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) spec: LogSpec,
    pub(crate) records: BTreeMap<u64, Record>,
    pub(crate) last_seq: u64,
    pub(crate) last_time: i64,
}

impl Model {
    pub(crate) fn new(spec: LogSpec) -> Self {
        Self { last_seq: spec.first_seq - 1, spec, records: BTreeMap::new(), last_time: 0 }
    }

    fn place(&self, thousandth: u64) -> u64 {
        let first = self.state().first_seq;
        first + (self.last_seq + 1 - first) * thousandth / 1000
    }

    pub(crate) fn state(&self) -> LogState {
        let cost = self.spec.cost;
        LogState {
            messages: self.records.len() as u64,
            bytes: self
                .records
                .values()
                .map(|r| {
                    let lengths = (r.subject.len() + r.headers.len() + r.payload.len()) as u64;
                    let headers = if r.headers.is_empty() { 0 } else { u64::from(cost.per_headers) };
                    lengths + u64::from(cost.per_record) + headers
                })
                .sum(),
            first_seq: self.records.keys().next().copied().unwrap_or(self.last_seq + 1),
            last_seq: self.last_seq,
            first_time: self.records.values().next().map_or(0, |r| r.time),
            last_time: self.last_time,
            subjects: self.subjects().len() as u64,
            durable_seq: 0,
        }
    }

    pub(crate) fn subjects(&self) -> BTreeMap<Vec<u8>, SubjectState> {
        let mut all = BTreeMap::new();
        for record in self.records.values() {
            let one = all.entry(record.subject.to_vec()).or_insert(SubjectState {
                messages: 0,
                first_seq: record.seq,
                last_seq: record.seq,
            });
            one.messages += 1;
            one.last_seq = record.seq;
        }
        all
    }

    /// A memory log comes back empty and goes on behind what was used.
    pub(crate) fn reopened(&mut self) {
        if self.spec.medium == Medium::Memory {
            self.records.clear();
            self.last_time = 0;
        }
    }

    fn append(&mut self, record: Record) {
        self.last_seq = record.seq;
        self.last_time = record.time;
        self.records.insert(record.seq, record);
    }
}

fn append(
    store: &mut Store,
    log: LogId,
    model: &mut Model,
    seq: u64,
    subject: u8,
    headers: bool,
    payload: usize,
) {
    let time = model.last_time + (seq % 3) as i64;
    let subject = format!("s.{subject}");
    let headers: &[u8] = if headers { b"NATS/1.0\r\na: b\r\n\r\n" } else { b"" };
    let payload = vec![(seq % 251) as u8; payload];
    // With threads the store may ask for time to write what it has.
    let mut rounds = 0;
    while let Err(error) = store.append(log, seq, time, subject.as_bytes(), headers, &payload) {
        rounds += 1;
        assert!(matches!(error, StageError::Busy { .. }) && rounds < 6000, "{error}");
        store.seal(Box::new(drop));
        store.process();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    model.append(Record {
        seq,
        time,
        subject: subject.into(),
        headers: headers.to_vec().into(),
        payload: payload.into(),
    });
}

pub(crate) fn apply(
    store: &mut Store,
    log: LogId,
    model: &mut Model,
    step: &Step,
) -> Result<(), TestCaseError> {
    match step {
        Step::Append { skip, subject, headers, payload } => {
            let seq = model.last_seq + 1 + skip;
            append(store, log, model, seq, *subject, *headers, *payload);
            prop_assert!(store.append(log, seq, 0, b"x", b"", b"").is_err());
        }
        Step::Burst { count, subject } => {
            for _ in 0..*count {
                let seq = model.last_seq + 1;
                append(store, log, model, seq, (*subject + (seq % 3) as u8) % 12, false, 40);
                if store.staged_bytes() > 16 << 10 {
                    store.seal(Box::new(|_| ()));
                    store.process();
                }
            }
        }
        Step::SkipTo(more) => {
            let last_seq = model.last_seq + more;
            store.skip_to(log, last_seq).unwrap();
            model.last_seq = last_seq;
        }
        Step::Remove(places) | Step::Evict(places) => {
            let seqs: Vec<u64> = places.iter().map(|place| model.place(*place)).collect();
            let removed = if matches!(step, Step::Remove(_)) {
                store.remove(log, &seqs).unwrap()
            } else {
                store.evict(log, &seqs)
            };
            let present = seqs.iter().filter(|seq| model.records.remove(seq).is_some()).count() as u64;
            prop_assert_eq!(removed, present, "{:?}", step);
        }
        Step::Purge(place) => {
            let first_seq = model.place(*place);
            let kept = model.records.split_off(&first_seq);
            prop_assert_eq!(store.purge(log, first_seq).unwrap(), model.records.len() as u64);
            model.records = kept;
            model.last_seq = model.last_seq.max(first_seq - 1);
        }
        Step::EvictBelow(place) => {
            let first_seq = model.place(*place);
            let kept = model.records.split_off(&first_seq);
            prop_assert_eq!(store.evict_below(log, first_seq), model.records.len() as u64);
            model.records = kept;
        }
        Step::Seal => store.seal(Box::new(|result| assert_eq!(result, Ok(())))),
        Step::Process => {
            assert_eq!(store.process().failed, None);
        }
        Step::Reopen => unreachable!("whoever owns the store opens it again"),
    }
    Ok(())
}

/// Every read of the store's API gives what the model gives.
pub(crate) fn compare(store: &Store, log: LogId, model: &Model) -> Result<(), TestCaseError> {
    let state = store.state(log).unwrap();
    prop_assert!(state.durable_seq <= state.last_seq);
    prop_assert_eq!(LogState { durable_seq: 0, ..state.clone() }, model.state());
    let all: Vec<&Record> = model.records.values().collect();

    let odd = |subject: &[u8]| subject.last().is_some_and(|last| last % 2 == 1);
    let one = |subject: &[u8]| subject == b"s.7";
    for matcher in [None, Some(&odd as &dyn Fn(&[u8]) -> bool), Some(&one)] {
        let wanted = |record: &&Record| matcher.is_none_or(|matcher| matcher(&record.subject));
        let expected: Vec<&Record> = all.iter().copied().filter(wanted).collect();

        let (mut from, mut found) = (0, Vec::new());
        loop {
            match store.next(log, from, u64::MAX, matcher, 50).unwrap() {
                Next::Record(record) => {
                    from = record.seq + 1;
                    found.push(record);
                }
                Next::More(seq) => {
                    prop_assert!(seq > from || from == 0);
                    from = seq;
                }
                Next::End => break,
            }
        }
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected.clone());

        for thousandth in [0, 1, 250, 500, 750, 999, 1000, 1100] {
            let at = model.place(thousandth);
            prop_assert_eq!(
                store.count(log, at, matcher).unwrap(),
                expected.iter().filter(|r| r.seq >= at).count() as u64
            );
            prop_assert_eq!(
                store.last(log, at, matcher).unwrap(),
                expected.iter().copied().rev().find(|r| r.seq <= at).cloned()
            );
            prop_assert_eq!(store.get(log, at).unwrap(), model.records.get(&at).cloned());
        }
        prop_assert_eq!(store.last(log, u64::MAX, matcher).unwrap(), expected.last().copied().cloned());
    }

    let subjects: BTreeMap<Vec<u8>, SubjectState> =
        store.subjects(log, None).into_iter().map(|(subject, state)| (subject.to_vec(), state)).collect();
    prop_assert_eq!(&subjects, &model.subjects());
    for (subject, state) in &subjects {
        prop_assert_eq!(store.subject(log, subject), Some(*state));
    }
    prop_assert_eq!(store.subject(log, b"nobody"), None);

    for time in [0, 1, model.last_time / 2, model.last_time, model.last_time + 1] {
        prop_assert_eq!(
            store.seek_time(log, time).unwrap(),
            all.iter().find(|r| r.time >= time).map(|r| r.seq),
            "time {}",
            time
        );
    }

    let first = model.state().first_seq;
    let gaps: Vec<u64> = (first..=model.last_seq).filter(|seq| !model.records.contains_key(seq)).collect();
    prop_assert_eq!(store.gaps(log, usize::MAX).unwrap(), gaps.clone());
    prop_assert_eq!(store.gaps(log, 3).unwrap(), gaps.into_iter().take(3).collect::<Vec<_>>());
    Ok(())
}
