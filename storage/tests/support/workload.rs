//! A workload from a seed, with the state it should have after every seal, and the comparison with a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_storage::simulated::Simulated;
use weir_storage::{Cost, Layout, LogId, LogSpec, Medium, Next, Options, ReadError, StageError, Store};

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
}

pub(crate) fn options() -> Options {
    Options { journal_file_bytes: 64 << 10, is_threaded: false, cache_bytes: 1 << 20, ..Options::default() }
}

pub(crate) fn open(disk: &Simulated) -> Result<Store, String> {
    Store::open(Arc::new(disk.clone()), options()).map_err(|error| error.to_string())
}

#[derive(Clone, Debug, Default)]
pub(crate) struct LogModel {
    pub(crate) is_memory: bool,
    /// Sequence to subject and payload.
    pub(crate) records: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    pub(crate) last_seq: u64,
    /// Removed without the journal: may be back after a crash.
    pub(crate) evicted: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) logs: BTreeMap<LogId, LogModel>,
    pub(crate) attributes: BTreeMap<(LogId, Vec<u8>), Vec<u8>>,
}

/// What a run did: the state after each seal; `states[0]` is the empty store.
pub(crate) struct Run {
    pub(crate) disk: Simulated,
    pub(crate) states: Vec<World>,
}

/// Stages random changes and seals them, `seals` times. Each answer marks the disk with its number.
pub(crate) fn run(seed: u64, seals: u64) -> Run {
    let mut random = Random(seed);
    let disk = Simulated::new();
    let mut store = open(&disk).unwrap();
    let mut world = World::default();
    let mut states = vec![world.clone()];
    for number in 1..=seals {
        for _ in 0..random.below(12) {
            change(&mut store, &mut world, &mut random).unwrap();
        }
        states.push(world.clone());
        let disk_of_release = disk.clone();
        store.seal(Box::new(move |result| {
            result.unwrap();
            disk_of_release.mark(number);
        }));
        if random.below(3) > 0 {
            assert_eq!(store.process().failed, None);
        }
        // The process is killed, the machine is not: written bytes are still on their way to the disk.
        if random.below(40) == 0 {
            assert_eq!(store.process().failed, None);
            drop(store);
            store = open(&disk).unwrap();
            assert_eq!(matches(&store, &world), Ok(()), "after a kill, seed {seed}, seal {number}");
            for log in world.logs.values_mut() {
                if log.is_memory {
                    log.records.clear();
                }
            }
            adopt(&store, &mut world);
            // The state of this seal now has several shapes; the last one counts from the next seal on.
            states.pop();
            states.push(world.clone());
        }
    }
    store.process();
    Run { disk, states }
}

/// Takes over what evictions brought back, and where memory logs go on.
pub(crate) fn adopt(store: &Store, world: &mut World) {
    for (id, log) in &mut world.logs {
        log.last_seq = store.state(*id).unwrap().last_seq;
        if !log.is_memory {
            // An eviction that was moved may still be undone by a power cut.
            log.evicted.append(&mut log.records);
        }
        log.records = all_records(store, *id).unwrap();
        log.evicted.retain(|seq, _| !log.records.contains_key(seq));
    }
}

/// Stages one random change in both; in neither when the store refuses it.
pub(crate) fn change(store: &mut Store, world: &mut World, random: &mut Random) -> Result<(), StageError> {
    let pick = |world: &World, random: &mut Random| -> Option<LogId> {
        let at = random.below(world.logs.len().max(1) as u64) as usize;
        world.logs.keys().nth(at).copied()
    };
    let kind = random.below(100);
    if world.logs.is_empty() || (kind < 2 && world.logs.len() < 6) {
        let medium = if random.below(4) == 0 { Medium::Memory } else { Medium::Disk };
        let layout = if random.below(2) == 0 { Layout::Blocks } else { Layout::Rows };
        let cost = Cost { per_record: 8, per_headers: 0 };
        let id = store.create_log(LogSpec { medium, layout, cost, first_seq: 1 })?;
        world.logs.insert(id, LogModel { is_memory: medium == Medium::Memory, ..LogModel::default() });
        return Ok(());
    }
    let Some(id) = pick(world, random) else { return Ok(()) };
    let log = world.logs.get_mut(&id).unwrap();
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
                assert!(store.refusing().is_some() || !log.records.contains_key(&somewhere));
                return Ok(());
            }
            log.evicted.extend(log.records.remove_entry(&somewhere));
        }
        17..=19 => {
            let evicted = store.evict_below(id, somewhere);
            if store.refusing().is_some() {
                assert_eq!(evicted, 0);
                return Ok(());
            }
            let kept = log.records.split_off(&somewhere);
            assert_eq!(evicted, log.records.len() as u64);
            log.evicted.append(&mut log.records);
            log.records = kept;
        }
        20..=30 => {
            let owner = if random.below(3) == 0 { LogId(0) } else { id };
            let key = format!("k{}", random.below(5)).into_bytes();
            if random.below(4) == 0 {
                store.remove_attribute(owner, &key)?;
                world.attributes.remove(&(owner, key));
            } else {
                let value = vec![random.next() as u8; random.below(300) as usize];
                store.set_attribute(owner, &key, &value)?;
                world.attributes.insert((owner, key), value);
            }
        }
        31 | 32 => {
            let last_seq = log.last_seq + random.below(5);
            store.skip_to(id, last_seq)?;
            log.last_seq = last_seq;
        }
        _ => {
            let seq = log.last_seq + 1 + u64::from(random.below(20) == 0);
            let subject = format!("s.{}", random.below(9)).into_bytes();
            let length = if random.below(30) == 0 { 20_000 } else { random.below(900) };
            // The bytes name the record, so that no other can pass for it.
            let mut payload = format!("{}/{seq}/{:x}/", id.0, random.next()).into_bytes();
            payload.resize(payload.len() + length as usize, (seq % 251) as u8);
            store.append(id, seq, seq as i64, &subject, b"", &payload)?;
            log.records.insert(seq, (subject, payload));
            log.last_seq = seq;
        }
    }
    Ok(())
}

type Records = BTreeMap<u64, (Vec<u8>, Vec<u8>)>;

pub(crate) fn all_records(store: &Store, log: LogId) -> Result<Records, ReadError> {
    let (mut records, mut from) = (Records::new(), 0);
    while let Next::Record(record) = store.next(log, from, u64::MAX, None, 1)? {
        from = record.seq + 1;
        records.insert(record.seq, (record.subject.to_vec(), record.payload.to_vec()));
    }
    Ok(records)
}

/// Whether a store that was opened again is in this state.
pub(crate) fn matches(store: &Store, world: &World) -> Result<(), String> {
    for (id, _) in world.logs.iter().filter(|(_, log)| log.is_memory) {
        if store.state(*id).is_some_and(|state| state.messages > 0) {
            return Err(format!("memory log {} has records after a start", id.0));
        }
    }
    matches_running(store, world)
}

/// Whether a store is in this state, where memory logs may have records.
pub(crate) fn matches_running(store: &Store, world: &World) -> Result<(), String> {
    let ids: Vec<LogId> = world.logs.keys().copied().collect();
    if store.logs() != ids {
        return Err(format!("logs {:?}, expected {ids:?}", store.logs()));
    }
    for owner in ids.iter().copied().chain([LogId(0)]) {
        let found: BTreeMap<Vec<u8>, Vec<u8>> = store
            .attributes(owner, b"")
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        let expected: BTreeMap<Vec<u8>, Vec<u8>> = world
            .attributes
            .iter()
            .filter(|((of, _), _)| *of == owner)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        if found != expected {
            return Err(format!("attributes of log {}: {found:?}, expected {expected:?}", owner.0));
        }
    }
    for (id, log) in &world.logs {
        let state = store.state(*id).ok_or("no state")?;
        let records = all_records(store, *id).map_err(|error| error.to_string())?;
        if log.is_memory {
            if state.last_seq < log.last_seq {
                return Err(format!("memory log {}: {state:?}, last_seq was {}", id.0, log.last_seq));
            }
            continue;
        }
        if state.last_seq != log.last_seq {
            return Err(format!("log {}: last_seq {}, expected {}", id.0, state.last_seq, log.last_seq));
        }
        for (seq, record) in &log.records {
            if records.get(seq) != Some(record) {
                return Err(format!("log {}: sequence {seq} is not what it was", id.0));
            }
        }
        for (seq, record) in &records {
            if log.records.get(seq) != Some(record) && log.evicted.get(seq) != Some(record) {
                return Err(format!("log {}: sequence {seq} was not there", id.0));
            }
        }
        let mut subjects: BTreeMap<&[u8], (u64, u64, u64)> = BTreeMap::new();
        let mut bytes = 0;
        for (seq, (subject, payload)) in &records {
            let one = subjects.entry(subject).or_insert((0, *seq, *seq));
            one.0 += 1;
            one.2 = *seq;
            bytes += (subject.len() + payload.len() + 8) as u64;
        }
        if (state.messages, state.bytes) != (records.len() as u64, bytes) {
            return Err(format!("log {}: {state:?} but {} records, {bytes} bytes", id.0, records.len()));
        }
        if state.first_seq != records.keys().next().copied().unwrap_or(state.last_seq + 1) {
            return Err(format!("log {}: first_seq is wrong: {state:?}", id.0));
        }
        let found: BTreeMap<Vec<u8>, (u64, u64, u64)> = store
            .subjects(*id, None)
            .into_iter()
            .map(|(subject, s)| (subject.to_vec(), (s.messages, s.first_seq, s.last_seq)))
            .collect();
        let expected: BTreeMap<Vec<u8>, (u64, u64, u64)> =
            subjects.into_iter().map(|(subject, numbers)| (subject.to_vec(), numbers)).collect();
        if found != expected {
            return Err(format!("log {}: subjects {found:?}, expected {expected:?}", id.0));
        }
    }
    Ok(())
}
