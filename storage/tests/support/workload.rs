//! A store under random changes from a seed, the state it was in at each seal, and the comparison with a store that is
//! opened again.
//!
//! [`Driven`] is one run: it stages, seals, fails, is killed, closed and opened again. `states` are the worlds it was
//! sealed in; `answered` is the last of them that the store holds for certain. A later one may be there too, whole. Both
//! are marked on the disk ([`Mark`]), in order with its operations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::sleep;
use std::time::Duration;

use weir_storage::simulated::Simulated;
use weir_storage::{
    Cost, Events, Layout, LogId, LogSpec, LogState, Medium, Next, Options, ReadError, Removal, StageError,
    Store,
};

/// A small, fixed generator; a failure prints its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A place in a slice of this length, which is not zero.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

pub(crate) fn options() -> Options {
    Options { journal_file_bytes: 64 << 10, is_threaded: false, cache_bytes: 1 << 20, ..Options::default() }
}

pub(crate) fn open(disk: &Simulated) -> Result<Store, String> {
    open_with(disk, options())
}

pub(crate) fn open_with(disk: &Simulated, options: Options) -> Result<Store, String> {
    Store::open(Arc::new(disk.clone()), options).map_err(|error| error.to_string())
}

/// What a run leaves among the operations of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The state with this number was handed to the store.
    Sealed(usize),
    /// It was answered with success.
    Answered(usize),
}

impl Mark {
    fn put(self, disk: &Simulated) {
        let (number, bit) = match self {
            Self::Sealed(number) => (number, 0),
            Self::Answered(number) => (number, 1),
        };
        disk.mark((number as u64) << 1 | bit);
    }

    pub(crate) fn of(mark: u64) -> Self {
        let number = usize::try_from(mark >> 1).unwrap_or(usize::MAX);
        if mark & 1 == 0 { Self::Sealed(number) } else { Self::Answered(number) }
    }
}

/// A record without its sequence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    time: i64,
    subject: Vec<u8>,
    headers: Vec<u8>,
    payload: Vec<u8>,
}

pub(crate) type Records = BTreeMap<u64, Arc<Content>>;

/// What a record costs besides its bytes.
const COST: Cost = Cost { per_record: 8, per_headers: 4 };

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LogModel {
    pub(crate) is_memory: bool,
    pub(crate) records: Records,
    pub(crate) last_seq: u64,
    /// Removed by a limit behind everything that was journaled: may be back after a crash.
    pub(crate) evicted: Records,
}

/// What a store should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct World {
    pub(crate) logs: BTreeMap<LogId, LogModel>,
    pub(crate) attributes: BTreeMap<(LogId, Vec<u8>), Vec<u8>>,
    /// The highest id that a log ever had.
    pub(crate) highest: u32,
}

/// One run of a store.
pub(crate) struct Driven {
    pub(crate) disk: Simulated,
    pub(crate) options: Options,
    pub(crate) store: Option<Store>,
    pub(crate) world: World,
    pub(crate) states: Vec<World>,
    pub(crate) answered: Arc<AtomicUsize>,
    /// Seals so far, and how many of them were answered: with success, with an error.
    pub(crate) seals: usize,
    pub(crate) answers: Arc<[AtomicUsize; 2]>,
    /// A failure was told, and the store has not recovered.
    pub(crate) has_failed: bool,
    /// While it refuses: what it may come back as, if space was freed or tried to be.
    freed: Vec<World>,
}

impl Driven {
    pub(crate) fn new(options: Options) -> Result<Self, String> {
        let disk = Simulated::new();
        let store =
            Store::open(Arc::new(disk.clone()), options.clone()).map_err(|error| error.to_string())?;
        Ok(Self {
            disk,
            options,
            store: Some(store),
            world: World::default(),
            states: vec![World::default()],
            answered: Arc::default(),
            seals: 0,
            answers: Arc::default(),
            has_failed: false,
            freed: Vec::new(),
        })
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        self.store.as_mut().expect("it is open")
    }

    pub(crate) fn refusing(&self) -> Option<&str> {
        self.store.as_ref().and_then(Store::refusing)
    }

    pub(crate) fn errors(&self) -> usize {
        self.answers[1].load(SeqCst)
    }

    pub(crate) fn awaits_answers(&self) -> bool {
        self.answers[0].load(SeqCst) + self.errors() < self.seals
    }

    /// Stages up to `most` changes. What is refused changes nothing.
    pub(crate) fn change(&mut self, most: u64, random: &mut Random) -> Result<(), String> {
        for _ in 0..random.below(most) {
            let store = self.store.as_mut().expect("it is open");
            let before = store.refusing().is_some().then(|| self.world.clone());
            // With threads the mover may meet a failure first, and have mended it before the owner hears of it.
            let is_threaded = self.options.is_threaded;
            match change(store, &mut self.world, is_threaded, random) {
                Ok(()) if before.is_none_or(|before| before == self.world) => {}
                Ok(()) => return Err("a change was taken while the store refuses".to_owned()),
                Err(StageError::Failed { cause }) if store.refusing() == Some(&cause) => {}
                // It gave nothing when it was opened again either.
                Err(StageError::Unreadable(ReadError::Unavailable(_)))
                    if is_threaded || store.stuck().is_some() =>
                {
                    return Ok(());
                }
                // redb cannot be written, or the next seal comes none too soon.
                Err(StageError::Busy { .. } | StageError::TooLong { .. }) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Seals; the disk is marked with the state's number when the answer is a success. Whether it was an error, given
    /// before this returned.
    pub(crate) fn seal(&mut self) -> bool {
        self.let_ride();
        let number = self.push(self.world.clone());
        self.seals += 1;
        let (answered, answers, disk) =
            (Arc::clone(&self.answered), Arc::clone(&self.answers), self.disk.clone());
        let is_refused = Arc::new(AtomicBool::new(false));
        let refused = Arc::clone(&is_refused);
        self.store().seal(Box::new(move |result| {
            if result.is_ok() {
                Mark::Answered(number).put(&disk);
                answered.store(number, SeqCst);
            }
            refused.store(result.is_err(), SeqCst);
            answers[usize::from(result.is_err())].fetch_add(1, SeqCst);
        }));
        is_refused.load(SeqCst)
    }

    /// What is staged takes along what limits removed before it, so that stays removed. Not when there may be too little
    /// room for it.
    fn let_ride(&mut self) {
        let store = self.store.as_ref().expect("it is open");
        if store.staged_bytes() > 0 && store.refusing().is_none() && store.pressure() < 90 {
            let removed: usize = self.world.logs.values().map(|log| log.evicted.len()).sum();
            if removed < 40 {
                self.world.logs.values_mut().for_each(|log| log.evicted.clear());
            }
        }
    }

    /// Notes a state that the store may be found in from now on. Returns its number.
    fn push(&mut self, state: World) -> usize {
        let number = self.states.len();
        self.states.push(state);
        Mark::Sealed(number).put(&self.disk);
        number
    }

    /// Lets the store take its reports. After a failure it must come back as it was answered.
    pub(crate) fn process(&mut self) -> Result<Events, String> {
        // What a thread answers after it has reported is not shown yet. Without threads it is answered in the call.
        let answered_before = self.answered.load(SeqCst);
        let events = self.store().process();
        if events.failed.is_some() && std::mem::replace(&mut self.has_failed, true) {
            return Err("a failure was told twice".to_owned());
        }
        if !self.has_failed && self.refusing().is_some() {
            return Err("the store refuses without a failure".to_owned());
        }
        if self.has_failed && self.refusing().is_none() {
            self.has_failed = false;
            let possible = self.after_the_failure();
            let found = self.found()?;
            let state = found.among(&possible);
            let state = state.map_err(|reason| format!("recovered from a failure: {reason}"))?;
            self.go_on_from(possible[state].clone())?;
        }
        let answered = if self.options.is_threaded { answered_before } else { self.answered.load(SeqCst) };
        self.shows_what_is_answered(answered)?;
        Ok(events)
    }

    /// What the store has. With threads its database may have failed after it recovered, and is waited for.
    fn found(&mut self) -> Result<Found, String> {
        let mut found = Found::of(self.store());
        for _ in 0..600 {
            if found.is_ok() || !self.options.is_threaded {
                break;
            }
            self.disk.heal();
            self.store().process();
            sleep(Duration::from_millis(10));
            found = Found::of(self.store());
        }
        found
    }

    /// With nothing staged and everything answered, the last record of each log is durable.
    fn shows_what_is_answered(&self, answered: usize) -> Result<(), String> {
        let all = answered + 1 == self.states.len();
        let store = self.store.as_ref().expect("it is open");
        if !all || store.staged_bytes() > 0 || store.refusing().is_some() {
            return Ok(());
        }
        for (id, log) in &self.world.logs {
            let Some(state) = store.state(*id) else { continue };
            if log.records.last_key_value().is_some_and(|(last, _)| *last > state.durable_seq) {
                let (durable, last) = (state.durable_seq, state.last_seq);
                return Err(format!("log {}: all is answered, and {durable} of {last} is durable", id.0));
            }
        }
        Ok(())
    }

    /// What the store may come back as.
    fn after_the_failure(&self) -> Vec<World> {
        if self.freed.is_empty() {
            return vec![self.states[self.answered.load(SeqCst)].clone()];
        }
        self.freed.clone()
    }

    /// Frees some space while the store refuses. Whether it was freed. If not, it may yet be, where the disk has not said.
    pub(crate) fn free(&mut self, random: &mut Random) -> Result<bool, String> {
        let before = self.after_the_failure();
        let all: Vec<LogId> = before[0].logs.keys().copied().collect();
        if all.is_empty() {
            return Ok(false);
        }
        let id = all[random.index(all.len())];
        let log = &before[0].logs[&id];
        let first = log.records.keys().next().copied().unwrap_or(log.last_seq + 1);
        let at = first + random.below(log.last_seq + 2 - first);
        let seqs = [at, at + 1, at + 3];
        let removal = match random.below(10) {
            0 => Removal::Log,
            1..=5 => Removal::Below(at),
            _ => Removal::These(&seqs),
        };
        if log.is_memory && !matches!(removal, Removal::Log) {
            let refused = self.store().free(id, removal);
            return match refused {
                // Its drop may be what was lost, and still shows.
                Err(StageError::Failed { .. } | StageError::NoSuchLog(_)) => Ok(false),
                other => Err(format!("records of memory log {} were freed: {other:?}", id.0)),
            };
        }
        let mut after = before.clone();
        after.iter_mut().for_each(|world| remove(world, id, removal));
        let numbers: Vec<usize> = after.iter().map(|world| self.push(world.clone())).collect();
        let freed = self.store().free(id, removal);
        match &freed {
            Ok(()) => {
                self.answered.store(numbers[0], SeqCst);
                Mark::Answered(numbers[0]).put(&self.disk);
                self.freed = after;
            }
            // Its drop was lost, and still shows.
            Err(StageError::NoSuchLog(_)) => self.freed = before,
            Err(StageError::Failed { .. }) => self.freed = [before, after].concat(),
            Err(error) => return Err(format!("space is not freed: {error}")),
        }
        self.process()?;
        Ok(freed.is_ok())
    }

    /// Goes on from a state that the store is in, for certain.
    fn go_on_from(&mut self, state: World) -> Result<(), String> {
        self.freed.clear();
        self.world = state;
        let found = self.found()?;
        found.adopt(&mut self.world);
        let mut certain = self.world.clone();
        for ((state, is_memory, _), log) in found.logs.values().zip(certain.logs.values_mut()) {
            // Sequences of a memory log that were used while their reservation failed were never shown.
            log.last_seq = if *is_memory { state.durable_seq } else { log.last_seq };
        }
        let number = self.push(certain);
        self.answered.store(number, SeqCst);
        Mark::Answered(number).put(&self.disk);
        Ok(())
    }

    /// The process ends, by force or in order, and a new one opens the store on a disk that works. The machine does
    /// not: written bytes are still on their way to the disk.
    pub(crate) fn restart(&mut self, in_order: bool) -> Result<(), String> {
        if let Some(store) = self.store.take() {
            if in_order {
                // What was staged last is sealed by the close.
                let number = self.push(self.world.clone());
                if store.close().is_ok() {
                    self.answered.store(number, SeqCst);
                    Mark::Answered(number).put(&self.disk);
                }
            } else {
                drop(store);
            }
        }
        self.disk.heal();
        self.has_failed = false;
        let store = Store::open(Arc::new(self.disk.clone()), self.options.clone());
        let store = self.store.insert(store.map_err(|error| format!("after a restart: {error}"))?);
        let found = Found::of(store)?;
        found.is_as_after_a_start()?;
        let answered = self.answered.load(SeqCst);
        let state = found.among(&self.states[answered..]);
        let state = state.map_err(|reason| format!("after a restart: {reason}"))?;
        self.go_on_from(self.states[answered + state].clone())
    }
}

/// What [`Store::free`] does to a world.
fn remove(world: &mut World, id: LogId, removal: Removal<'_>) {
    if matches!(removal, Removal::Log) {
        world.logs.remove(&id);
        world.attributes.retain(|(owner, _), _| *owner != id);
        return;
    }
    let Some(log) = world.logs.get_mut(&id) else { return };
    let is_gone = |seq: u64| match removal {
        Removal::Log => true,
        Removal::Below(first) => seq < first,
        Removal::These(seqs) => seqs.contains(&seq),
    };
    log.records.retain(|seq, _| !is_gone(*seq));
    log.evicted.retain(|seq, _| !is_gone(*seq));
}

/// Whether an eviction may come to nothing: the store refuses, or its database cannot be read until it is opened again.
fn cannot_evict(store: &Store, id: LogId, log: &LogModel) -> bool {
    store.refusing().is_some() || log.records.keys().any(|seq| store.get(id, *seq).is_err())
}

/// Stages one random change in both; in neither when the store refuses it. With `is_threaded` an eviction may come to
/// nothing although everything can be read when one looks.
fn change(
    store: &mut Store,
    world: &mut World,
    is_threaded: bool,
    random: &mut Random,
) -> Result<(), StageError> {
    let kind = random.below(100);
    if world.logs.is_empty() || (kind < 2 && world.logs.len() < 6) {
        let medium = if random.one_in(4) { Medium::Memory } else { Medium::Disk };
        let layout = if random.one_in(2) { Layout::Blocks } else { Layout::Rows };
        let id = store.create_log(LogSpec { medium, layout, cost: COST, first_seq: 1 })?;
        assert!(id.0 > world.highest, "log {} after {}: ids are used once", id.0, world.highest);
        world.highest = id.0;
        world.logs.insert(id, LogModel { is_memory: medium == Medium::Memory, ..LogModel::default() });
        return Ok(());
    }
    let at = random.index(world.logs.len());
    let Some((&id, log)) = world.logs.iter_mut().nth(at) else { return Ok(()) };
    let span = log.last_seq + 2 - log.records.keys().next().copied().unwrap_or(log.last_seq + 1);
    let somewhere = log.last_seq + 1 - random.below(span.max(1)).min(log.last_seq);
    match kind {
        0..=2 => {
            store.drop_log(id)?;
            world.logs.remove(&id);
            world.attributes.retain(|(owner, _), _| *owner != id);
        }
        3..=8 => {
            let removed = store.remove(id, &[somewhere])?;
            assert_eq!(removed, u64::from(log.records.remove(&somewhere).is_some()));
        }
        9..=11 => {
            let purged = store.purge(id, somewhere)?;
            let kept = log.records.split_off(&somewhere);
            assert_eq!(purged, log.records.len() as u64);
            log.records = kept;
            log.last_seq = log.last_seq.max(somewhere - 1);
            log.evicted = log.evicted.split_off(&somewhere);
        }
        12..=16 => {
            if store.evict(id, &[somewhere]) == 0 {
                assert!(is_threaded || !log.records.contains_key(&somewhere) || cannot_evict(store, id, log));
                return Ok(());
            }
            log.evicted.extend(log.records.remove_entry(&somewhere));
        }
        17..=19 => {
            let evicted = store.evict_below(id, somewhere);
            if evicted == 0 && (is_threaded || cannot_evict(store, id, log)) {
                return Ok(());
            }
            let kept = log.records.split_off(&somewhere);
            assert_eq!(evicted, log.records.len() as u64);
            log.evicted.append(&mut log.records);
            log.records = kept;
        }
        20..=30 => {
            let owner = if random.one_in(3) { LogId(0) } else { id };
            let key = format!("k{}", random.below(5)).into_bytes();
            if random.one_in(4) {
                store.remove_attribute(owner, &key)?;
                world.attributes.remove(&(owner, key));
            } else {
                let value = vec![random.next().to_le_bytes()[0]; random.index(300)];
                store.set_attribute(owner, &key, &value)?;
                world.attributes.insert((owner, key), value);
            }
        }
        31 | 32 => {
            // Also beyond what a log in memory has reserved.
            let far = log.is_memory && random.one_in(4);
            let last_seq = log.last_seq + random.below(if far { 200_000 } else { 5 });
            store.skip_to(id, last_seq)?;
            log.last_seq = last_seq;
        }
        _ => {
            let seq = log.last_seq + 1 + u64::from(random.one_in(20));
            let subject = format!("s.{}", random.below(9)).into_bytes();
            let length = if random.one_in(30) { 20_000 } else { random.index(900) };
            // The bytes name the record, so that no other can pass for it.
            let mut payload = format!("{}/{seq}/{:x}/", id.0, random.next()).into_bytes();
            payload.resize(payload.len() + length, seq.to_le_bytes()[0]);
            let time = i64::try_from(seq).unwrap_or(i64::MAX);
            let headers = if random.one_in(4) { b"NATS/1.0\r\nA: b\r\n\r\n".to_vec() } else { Vec::new() };
            store.append(id, seq, time, &subject, &headers, &payload)?;
            log.records.insert(seq, Arc::new(Content { time, subject, headers, payload }));
            log.last_seq = seq;
        }
    }
    Ok(())
}

/// All that a store gives to its reader, consistent in itself.
pub(crate) struct Found {
    logs: BTreeMap<LogId, (LogState, bool, Records)>,
    attributes: BTreeMap<(LogId, Vec<u8>), Vec<u8>>,
}

impl Found {
    /// Reads everything; numbers must be those of the records, and nothing may be named as lost.
    pub(crate) fn of(store: &Store) -> Result<Self, String> {
        if let Some(damage) = store.damage().first() {
            return Err(format!("{damage:?}"));
        }
        let mut found = Self { logs: BTreeMap::new(), attributes: BTreeMap::new() };
        for owner in store.logs().into_iter().chain([LogId(0)]) {
            for (key, value) in store.attributes(owner, b"") {
                found.attributes.insert((owner, key.to_vec()), value.to_vec());
            }
        }
        for id in store.logs() {
            let state = store.state(id).ok_or("no state")?;
            let is_memory = store.spec(id).is_some_and(|spec| spec.medium == Medium::Memory);
            let (mut records, mut from) = (Records::new(), 0);
            let next = |from| store.next(id, from, u64::MAX, None, 1).map_err(|error| error.to_string());
            while let Next::Record(record) = next(from)? {
                from = record.seq + 1;
                let content = Content {
                    time: record.time,
                    subject: record.subject.to_vec(),
                    headers: record.headers.to_vec(),
                    payload: record.payload.to_vec(),
                };
                records.insert(record.seq, Arc::new(content));
            }
            let mut subjects: BTreeMap<&[u8], (u64, u64, u64)> = BTreeMap::new();
            let mut bytes = 0;
            for (seq, content) in &records {
                let Content { subject, headers, payload, .. } = &**content;
                let one = subjects.entry(subject).or_insert((0, *seq, *seq));
                one.0 += 1;
                one.2 = *seq;
                bytes += (subject.len() + headers.len() + payload.len()) as u64 + u64::from(COST.per_record);
                bytes += if headers.is_empty() { 0 } else { u64::from(COST.per_headers) };
            }
            let first_seq = records.keys().next().copied().unwrap_or(state.last_seq + 1);
            if (state.messages, state.bytes, state.first_seq) != (records.len() as u64, bytes, first_seq) {
                return Err(format!(
                    "log {}: {state:?} but {} records from {first_seq} on, {bytes} bytes",
                    id.0,
                    records.len()
                ));
            }
            let told = store.subjects(id, None);
            let told = told.iter().map(|(subject, s)| (&subject[..], (s.messages, s.first_seq, s.last_seq)));
            if !told.clone().eq(subjects.iter().map(|(subject, numbers)| (*subject, *numbers))) {
                let told: Vec<_> = told.collect();
                return Err(format!("log {}: subjects {told:?}, expected {subjects:?}", id.0));
            }
            found.logs.insert(id, (state, is_memory, records));
        }
        Ok(found)
    }

    /// Memory logs are empty after a start.
    pub(crate) fn is_as_after_a_start(&self) -> Result<(), String> {
        match self.logs.iter().find(|(_, (state, is_memory, _))| *is_memory && state.messages > 0) {
            Some((id, _)) => Err(format!("memory log {} has records after a start", id.0)),
            None => Ok(()),
        }
    }

    /// Whether this is `world`: all of it, and nothing else but what was only evicted.
    pub(crate) fn is(&self, world: &World) -> Result<(), String> {
        if !self.logs.keys().eq(world.logs.keys()) {
            return Err(format!("logs {:?}, expected {:?}", self.logs.keys(), world.logs.keys()));
        }
        if self.attributes != world.attributes {
            let (found, expected) = (self.attributes.iter(), world.attributes.iter());
            let differs = |((owner, key), _): &(&(LogId, Vec<u8>), _)| {
                format!("{} of log {}", String::from_utf8_lossy(key), owner.0)
            };
            let too_many = found
                .filter(|(key, value)| world.attributes.get(*key) != Some(*value))
                .map(|at| differs(&at));
            let missing = expected
                .filter(|(key, value)| self.attributes.get(*key) != Some(*value))
                .map(|at| differs(&at));
            let (too_many, missing) = (too_many.collect::<Vec<_>>(), missing.collect::<Vec<_>>());
            return Err(format!("attributes there {too_many:?}, missing {missing:?}"));
        }
        for ((id, (state, _, records)), log) in self.logs.iter().zip(world.logs.values()) {
            if log.is_memory {
                if state.last_seq < log.last_seq {
                    return Err(format!("memory log {}: {state:?}, last_seq was {}", id.0, log.last_seq));
                }
                continue;
            }
            if state.last_seq != log.last_seq {
                return Err(format!("log {}: last_seq {}, expected {}", id.0, state.last_seq, log.last_seq));
            }
            if let Some((seq, _)) = log.records.iter().find(|(seq, record)| records.get(seq) != Some(record))
            {
                return Err(format!("log {}: sequence {seq} is not what it was", id.0));
            }
            let is_known = |seq: &u64, record| {
                log.records.get(seq) == Some(record) || log.evicted.get(seq) == Some(record)
            };
            if let Some((seq, _)) = records.iter().find(|(seq, record)| !is_known(seq, record)) {
                return Err(format!("log {}: sequence {seq} was not there", id.0));
            }
        }
        Ok(())
    }

    /// The first of `states` that this is.
    pub(crate) fn among(&self, states: &[World]) -> Result<usize, String> {
        let mut reasons = Vec::new();
        for (number, state) in states.iter().enumerate() {
            match self.is(state) {
                Ok(()) => return Ok(number),
                Err(reason) if reasons.len() < 3 => reasons.push(format!("not {number} later: {reason}")),
                Err(_) => {}
            }
        }
        Err(reasons.join("; "))
    }

    /// Takes over what evictions brought back, and where memory logs go on.
    fn adopt(&self, world: &mut World) {
        for ((state, _, records), log) in self.logs.values().zip(world.logs.values_mut()) {
            log.last_seq = state.last_seq;
            if !log.is_memory {
                // An eviction that was moved may still be undone by a power cut.
                log.evicted.append(&mut log.records);
            }
            log.records.clone_from(records);
            log.evicted.retain(|seq, _| !log.records.contains_key(seq));
        }
    }
}
