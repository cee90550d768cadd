//! Writes and syncs that fail, a full disk, and damaged bytes: a failed group is in no store, an answered one stays,
//! and wrong bytes are never served.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::print_stdout, dead_code)]

#[path = "support/workload.rs"]
mod workload;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

use weir_storage::simulated::Simulated;
use weir_storage::{Cost, Layout, LogId, LogSpec, Medium, Next, Options, ReadError, StageError, Store};
use workload::{Driven, Random, open, options};

fn spec(layout: Layout) -> LogSpec {
    LogSpec { medium: Medium::Disk, layout, cost: Cost { per_record: 0, per_headers: 0 }, first_seq: 1 }
}

fn payload(seq: u64, nonce: u64) -> Vec<u8> {
    let mut payload = format!("{seq}/{nonce}/").into_bytes();
    payload.resize(700, (nonce % 251) as u8);
    payload
}

/// Every record, and the ranges that are named as damaged.
fn read_all(store: &Store, log: LogId) -> (Payloads, Vec<(u64, u64)>) {
    let (mut records, mut damaged, mut from) = (BTreeMap::new(), Vec::new(), 0);
    loop {
        match store.next(log, from, u64::MAX, None, 1) {
            Ok(Next::Record(record)) => {
                from = record.seq + 1;
                records.insert(record.seq, record.payload.to_vec());
            }
            Ok(_) => return (records, damaged),
            Err(ReadError::Damaged { first, last, .. }) => {
                assert!(last >= from, "a damaged range lies ahead");
                damaged.push((first, last));
                from = last + 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sequence to payload.
type Payloads = BTreeMap<u64, Vec<u8>>;
type Answers = Arc<Mutex<BTreeMap<u64, Result<(), String>>>>;

/// Appends one record per seal; the answers by nonce.
struct Client {
    store: Store,
    log: LogId,
    nonce: u64,
    /// Nonce to what was sealed under it.
    sent: BTreeMap<u64, (u64, Vec<u8>)>,
    answers: Answers,
    failures: usize,
    /// From a failure until the store has recovered.
    has_failed: bool,
}

impl Client {
    fn send(&mut self) -> Result<(), StageError> {
        let seq = self.store.state(self.log).unwrap().last_seq + 1;
        self.nonce += 1;
        let (nonce, bytes) = (self.nonce, payload(seq, self.nonce));
        self.store.append(self.log, seq, 0, b"s", b"", &bytes)?;
        self.sent.insert(nonce, (seq, bytes));
        let answers = Arc::clone(&self.answers);
        self.store.seal(Box::new(move |result| {
            answers.lock().unwrap().insert(nonce, result);
        }));
        Ok(())
    }

    fn answered(&self) -> Payloads {
        let answers = self.answers.lock().unwrap();
        let ok = self.sent.iter().filter(|(nonce, _)| matches!(answers.get(nonce), Some(Ok(()))));
        ok.map(|(_, record)| record.clone()).collect()
    }

    fn process(&mut self, context: &str) {
        if self.store.process().failed.is_some() {
            self.failures += 1;
            self.has_failed = true;
        }
        assert!(self.has_failed || self.store.refusing().is_none(), "{context}: refusing without a failure");
        if self.has_failed && self.store.refusing().is_none() {
            self.has_failed = false;
            assert_eq!(read_all(&self.store, self.log).0, self.answered(), "{context}: after the failure");
        }
    }
}

fn client(disk: &Simulated, layout: Layout) -> Client {
    client_with(disk, layout, options())
}

fn client_with(disk: &Simulated, layout: Layout, options: Options) -> Client {
    let mut store = Store::open(Arc::new(disk.clone()), options).unwrap();
    let log = store.create_log(spec(layout)).unwrap();
    store.seal(Box::new(|result| result.unwrap()));
    store.process();
    Client {
        store,
        log,
        nonce: 0,
        sent: BTreeMap::new(),
        answers: Answers::default(),
        failures: 0,
        has_failed: false,
    }
}

#[test]
fn any_operation_may_fail_once() {
    // How many operations there are when nothing fails.
    let disk = Simulated::new();
    let mut whole = client(&disk, Layout::Blocks);
    let start = disk.attempts();
    for _ in 0..150 {
        whole.send().unwrap();
        whole.process("no fault");
    }
    let end = disk.attempts();
    assert!(end > start + 200, "the workload goes through a rotation");
    drop(whole);

    let mut failed = 0;
    let step = ((end - start) / 60).max(1);
    for (at, attempt) in (start..end).step_by(usize::try_from(step).unwrap()).enumerate() {
        let layout = if at % 2 == 0 { Layout::Blocks } else { Layout::Rows };
        let disk = Simulated::new();
        let mut client = client(&disk, layout);
        disk.fail(attempt..attempt + 1, ErrorKind::Other);
        let context = format!("attempt {attempt}");
        for number in 0..150 {
            client.send().unwrap_or_else(|error| panic!("{context}, record {number}: {error}"));
            if number % 3 > 0 {
                client.process(&context);
            }
        }
        client.process(&context);
        failed += client.failures;
        let answered = client.answered();
        let refused = client.sent.len() - answered.len();
        assert_eq!(
            refused > 0,
            client.failures > 0,
            "{context}: {refused} refused, {} failures",
            client.failures
        );
        assert_eq!(read_all(&client.store, client.log).0, answered, "{context}");
        let log = client.log;
        disk.heal();
        if at % 2 == 0 {
            client.store.close().unwrap();
        } else {
            drop(client.store);
        }
        let store = open(&disk).unwrap();
        assert_eq!(read_all(&store, log), (answered, Vec::new()), "{context}: opened again");
    }
    assert!(failed > 10, "some attempts hit the journal: {failed}");
}

#[test]
fn a_full_disk_refuses_writes_and_lets_them_in_again() {
    for seed in 0..6 {
        let disk = Simulated::new();
        let mut client = client(&disk, Layout::Blocks);
        for _ in 0..40 {
            client.send().unwrap();
            client.process("before");
        }
        let full_from = disk.attempts() + seed * 7;
        disk.fail(full_from..full_from + 400, ErrorKind::StorageFull);
        let mut refusals = 0;
        for _ in 0..6000 {
            match client.send() {
                Ok(()) => {}
                Err(StageError::Failed { cause } | StageError::Busy { cause, .. }) => {
                    refusals += 1;
                    assert!(cause.contains("simulated") || cause.is_empty(), "{cause}");
                    assert_eq!(read_all(&client.store, client.log).1, Vec::new(), "reads go on");
                }
                Err(error) => panic!("{error}"),
            }
            client.process("while full");
            if disk.attempts() > full_from + 500 {
                break;
            }
        }
        assert!(disk.attempts() > full_from + 500, "seed {seed}: writing goes on when there is space again");
        assert!(refusals > 0 || client.failures > 0, "seed {seed}: the full disk was noticed");
        let answered = client.answered();
        let log = client.log;
        client.store.close().unwrap();
        let store = open(&disk).unwrap();
        assert_eq!(read_all(&store, log), (answered, Vec::new()), "seed {seed}");
    }
}

#[test]
fn nothing_waits_for_a_full_disk() {
    for is_threaded in [false, true] {
        for whole_disk in [false, true] {
            let context = format!("threads: {is_threaded}, every write fails: {whole_disk}");
            let (wake, woken) = channel();
            let options = Options {
                is_threaded,
                wake: Arc::new(move || wake.send(()).unwrap_or_default()),
                ..options()
            };
            let disk = Simulated::new();
            let mut client = client_with(&disk, Layout::Blocks, options.clone());
            // The store has a minute at most to get there by itself.
            let until = |client: &mut Client, wanted: &str, is_there: &dyn Fn(&Client) -> bool| {
                for _ in 0..600 {
                    client.process(&context);
                    if is_there(client) {
                        return;
                    }
                    let _ = woken.recv_timeout(Duration::from_millis(if is_threaded { 100 } else { 0 }));
                }
                panic!("{context}: {wanted}");
            };
            let all_answered = |client: &Client| client.answers.lock().unwrap().len() == client.sent.len();
            for _ in 0..30 {
                client.send().unwrap();
                until(&mut client, "answered while there is room", &all_answered);
            }
            if whole_disk {
                disk.fail(disk.attempts()..u64::MAX, ErrorKind::StorageFull);
            } else {
                // What was made before can be overwritten.
                disk.fail_file("journal-0003", ErrorKind::StorageFull);
                disk.fail_file("main.redb", ErrorKind::StorageFull);
            }
            let refused = (0..400).find_map(|_| {
                let refused = client.send().err();
                until(&mut client, "answered on a full disk", &all_answered);
                refused
            });
            let Some(StageError::Failed { cause }) = refused else { panic!("{context}: {refused:?}") };
            assert!(cause.contains("simulated"), "{context}: {cause}");
            until(&mut client, "what keeps the database back is named", &|client| {
                client.store.refusing().is_some_and(|cause| cause.contains("then: "))
                    && client.store.stuck().is_some()
            });
            let kept = client.answered();
            assert!(kept.len() < client.sent.len(), "{context}");
            let (records, damaged) = read_all(&client.store, client.log);
            assert!(
                damaged.is_empty() && kept.iter().all(|(seq, payload)| records.get(seq) == Some(payload))
            );

            disk.heal();
            until(&mut client, "goes on by itself", &|client| client.store.refusing().is_none());
            assert_eq!(client.store.stuck(), None, "{context}");
            client.send().unwrap();
            until(&mut client, "answered again", &all_answered);
            let answered = client.answered();
            assert_eq!(answered.len(), kept.len() + 1, "{context}");
            let log = client.log;
            drop(client);
            let store = Store::open(Arc::new(disk), options).unwrap();
            assert_eq!(read_all(&store, log), (answered, Vec::new()), "{context}");
        }
    }
}

#[test]
fn nothing_behind_a_lost_chunk_is_answered_with_success() {
    for round in 0..10 {
        let disk = Simulated::new();
        let mut client = client_with(&disk, Layout::Blocks, Options { is_threaded: true, ..options() });
        let (answer, answers) = channel();
        let [kept, lost] = [answer.clone(), answer.clone()];
        let minute = Duration::from_secs(60);
        client.store.append(client.log, 1, 0, b"s", b"", b"kept").unwrap();
        client.store.seal(Box::new(move |result| kept.send(result).unwrap()));
        answers.recv_timeout(minute).unwrap().unwrap();
        disk.fail(disk.attempts()..u64::MAX, ErrorKind::StorageFull);
        client.store.append(client.log, 2, 0, b"s", b"", b"lost").unwrap();
        client.store.seal(Box::new(move |result| lost.send(result).unwrap()));
        assert!(answers.recv_timeout(minute).unwrap().is_err());
        // The owner has not taken note of it yet. Now and then the journal's thread is still behind the answer.
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        client.store.seal(Box::new(move |result| answer.send(result).unwrap()));
        assert!(answers.recv_timeout(minute).unwrap().is_err(), "round {round}");
        assert!(client.store.process().failed.is_some());
    }
}

#[test]
fn a_full_disk_is_not_taken_for_damage_when_a_store_is_opened() {
    let disk = Simulated::new();
    let mut client = client(&disk, Layout::Blocks);
    client.send().unwrap();
    client.process("no fault");
    let (answered, log) = (client.answered(), client.log);
    drop(client);
    disk.fail(disk.attempts()..u64::MAX, ErrorKind::StorageFull);
    let error = open(&disk).map(drop).unwrap_err();
    assert!(error.contains("cannot use main.redb") && error.contains("simulated"), "{error}");
    assert!(!error.contains("repaired"), "{error}");
    disk.heal();
    assert_eq!(read_all(&open(&disk).unwrap(), log), (answered, Vec::new()));
}

#[test]
fn journal_and_database_fail_together() {
    let [failures, lasting, killed, closed] =
        fail_together(60, &options(), &|run| drop(run.process().unwrap()));
    assert!(failures > 100 && lasting > 30 && killed > 10 && closed > 10);
}

#[test]
fn journal_and_database_fail_together_with_threads() {
    let (wake, woken) = channel();
    let wake = Arc::new(move || wake.send(()).unwrap_or_default());
    let options = Options { is_threaded: true, wake, ..options() };
    // How many depends on the threads.
    let [failures, ..] = fail_together(8, &options, &|_| {
        let _ = woken.recv_timeout(Duration::from_millis(20));
    });
    assert!(failures > 0);
}

/// Returns how many failures there were, how many of them lasted, and how many kills and closes came before the end.
/// `wait` returns when the store may have news, and at some time anyway.
fn fail_together(seeds: u64, options: &Options, wait: &dyn Fn(&mut Driven)) -> [usize; 4] {
    let (mut failures, mut lasting, mut killed, mut closed) = (0, 0, 0, 0);
    for seed in 1..=seeds {
        let mut random = Random(seed);
        let mut run = Driven::new(options.clone()).unwrap();
        let mut refused_for = 0;
        for step in 0..300 {
            let context = format!("seed {seed}, step {step}");
            let checked =
                |result: Result<(), String>| result.unwrap_or_else(|why| panic!("{context}: {why}"));
            if random.one_in(25) {
                // A few stretches: what lies between them succeeds.
                let mut from = run.disk.attempts();
                for _ in 0..1 + random.below(3) {
                    from += random.below(8);
                    let length = [1, 1, 5, 40, 100_000][random.index(5)];
                    run.disk.fail(from..from + length, ErrorKind::Other);
                    from += length;
                }
            } else if random.one_in(12) {
                run.disk.heal();
            }
            checked(run.change(10, &mut random));
            let refuses = run.refusing().is_some();
            assert!(!refuses || run.store().staged_bytes() == 0, "{context}");
            // Chunks from before the failure may be refused meanwhile, on the journal's thread.
            let is_refused = run.seal();
            assert!(!refuses || is_refused, "{context}: refused at once");
            if random.one_in(3) {
                continue;
            }
            for _ in 0..5 {
                if options.is_threaded && run.awaits_answers() {
                    wait(&mut run);
                }
            }
            let events = run.process().unwrap_or_else(|why| panic!("{context}: {why}"));
            failures += usize::from(events.failed.is_some());
            refused_for = if run.has_failed { refused_for + 1 } else { 0 };
            lasting += usize::from(refused_for == 2);
            if refused_for > 0 && random.one_in(15) {
                let in_order = random.one_in(2);
                killed += usize::from(!in_order);
                closed += usize::from(in_order);
                checked(run.restart(in_order));
                refused_for = 0;
            }
        }
        // Healthy again, it recovers by itself, and keeps what it is given.
        let context = format!("seed {seed}, the end");
        let checked = |result: Result<(), String>| result.unwrap_or_else(|why| panic!("{context}: {why}"));
        run.disk.heal();
        run.seal();
        while run.awaits_answers() || {
            checked(run.process().map(drop));
            run.has_failed
        } {
            wait(&mut run);
        }
        checked(run.change(10, &mut random));
        checked(run.restart(true));
    }
    println!("{failures} failures, {lasting} lasting; {killed} kills, {closed} closes while refusing");
    [failures, lasting, killed, closed]
}

#[test]
fn a_memory_log_shows_what_it_kept_over_a_failure() {
    let disk = Simulated::new();
    let mut store = open(&disk).unwrap();
    let log = store.create_log(LogSpec { medium: Medium::Memory, ..spec(Layout::Blocks) }).unwrap();
    store.seal(Box::new(|result| result.unwrap()));
    store.process();
    // The record stays in memory, the reservation of its sequence is lost.
    store.append(log, 1, 0, b"s", b"", b"kept").unwrap();
    disk.fail(disk.attempts()..disk.attempts() + 1, ErrorKind::Other);
    store.seal(Box::new(|result| assert!(result.is_err())));
    assert!(store.process().failed.is_some() && store.refusing().is_none());
    let state = store.state(log).unwrap();
    assert_eq!((state.messages, state.last_seq, state.durable_seq), (1, 1, 0));
    store.seal(Box::new(|result| result.unwrap()));
    store.process();
    assert_eq!(store.state(log).unwrap().durable_seq, 1);
    drop(store);
    assert!(open(&disk).unwrap().state(log).unwrap().last_seq >= 1, "its sequence is not used again");
}

#[test]
fn a_memory_log_that_is_emptied_and_skipped_ahead_is_durable_again_with_the_next_record() {
    let disk = Simulated::new();
    let mut store = open(&disk).unwrap();
    let log = store.create_log(LogSpec { medium: Medium::Memory, ..spec(Layout::Blocks) }).unwrap();
    let keep = |store: &mut Store| {
        store.seal(Box::new(|result| result.unwrap()));
        store.process();
    };
    store.append(log, 1, 0, b"s", b"", b"x").unwrap();
    keep(&mut store);
    // Neither writes anything, so both chunks would have the same number.
    store.purge(log, 2).unwrap();
    keep(&mut store);
    store.purge(log, 1_000_000).unwrap();
    store.append(log, 1_000_000, 0, b"s", b"", b"y").unwrap();
    keep(&mut store);
    assert_eq!(store.state(log).unwrap().durable_seq, 1_000_000);
}

#[test]
fn a_close_ends_though_nothing_can_be_moved() {
    let disk = Simulated::new();
    let options = Options { is_threaded: true, ..options() };
    let mut store = Store::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let log = store.create_log(spec(Layout::Blocks)).unwrap();
    // Both journal files fill up, a third cannot be made, and redb does not take what is in them.
    disk.fail_file("main.redb", ErrorKind::Other);
    disk.fail_file("journal-0003", ErrorKind::Other);
    let answers = Arc::new(Mutex::new(Vec::new()));
    for seq in 1..=10 {
        store.append(log, seq, 0, b"s", b"", &[7; 20_000]).unwrap();
        let answers = Arc::clone(&answers);
        store.seal(Box::new(move |result| answers.lock().unwrap().push((seq, result.is_ok()))));
    }
    let (done, closed) = channel();
    Builder::new().spawn(move || done.send(store.close()).unwrap()).unwrap();
    let closed = closed.recv_timeout(Duration::from_secs(60)).expect("it ends");
    assert!(closed.is_err(), "{closed:?}");
    let answers = answers.lock().unwrap().clone();
    let good: Vec<u64> = answers.iter().filter(|(_, is_ok)| *is_ok).map(|(seq, _)| *seq).collect();
    assert_eq!((answers.len(), &good[..]), (10, &[1, 2, 3, 4, 5, 6][..]));
    disk.heal();
    let store = Store::open(Arc::new(disk), options).unwrap();
    assert_eq!(read_all(&store, log).0.into_keys().collect::<Vec<_>>(), good);
}

#[test]
fn a_flipped_bit_is_never_served_and_never_silent() {
    let disk = Simulated::new();
    let mut client = client(&disk, Layout::Blocks);
    let rows = client.store.create_log(spec(Layout::Rows)).unwrap();
    let mut expected_rows = BTreeMap::new();
    for number in 1..=260u64 {
        client.send().unwrap();
        if number % 4 == 0 {
            let seq = number / 4;
            client.store.append(rows, seq, 0, b"row", b"", &payload(seq, 9)).unwrap();
            expected_rows.insert(seq, payload(seq, 9));
        }
        client.process("no fault");
    }
    let expected_blocks = client.answered();
    let (blocks, file_names) = (client.log, ["main.redb", "journal-0001", "journal-0002"]);
    drop(client.store);

    let seed = 77;
    let mut random = Random(seed);
    let (mut refused, mut named, mut silent_rows) = (0, 0, 0);
    for round in 0..250 {
        let copy = disk.copy();
        let name = file_names[(round % 3) as usize];
        let length = weir_storage::Disk::open(&copy, name, false).unwrap().len().unwrap();
        let offset = random.below(length) as usize;
        copy.damage(name, offset, 1 << random.below(8));
        let context = format!("seed {seed}, round {round}: byte {offset} of {name}");
        let Ok(opened) = catch_unwind(AssertUnwindSafe(|| open(&copy))) else { panic!("{context}: panic") };
        let Ok(store) = opened else {
            refused += 1;
            continue;
        };
        for (log, expected) in [(blocks, &expected_blocks), (rows, &expected_rows)] {
            let (records, mut damaged) = read_all(&store, log);
            damaged.extend(store.damage().iter().filter(|d| d.log == log).map(|d| (d.first, d.last)));
            named += damaged.len();
            let is_named = |seq: u64| damaged.iter().any(|(first, last)| (*first..=*last).contains(&seq));
            for (seq, payload) in &records {
                assert_eq!(Some(payload), expected.get(seq), "{context}: log {} sequence {seq}", log.0);
            }
            // What is behind the last durable group of a damaged journal is named by the file's damage, or it is a tail.
            let end = store.state(log).unwrap().last_seq;
            for seq in
                expected.keys().filter(|seq| **seq <= end && !records.contains_key(seq) && !is_named(**seq))
            {
                assert!(log == rows, "{context}: log {} sequence {seq} is missing without a word", log.0);
                silent_rows += 1;
            }
        }
    }
    assert!(named > 0, "some flips hit records");
    assert!(silent_rows < 20, "{silent_rows} rows were missing without a word");
    println!("{refused} of 250 refused to open, {named} ranges named, {silent_rows} rows silent");
}
