//! Append: staging alone, and appended and synced in groups, beside the bare write and `fdatasync` of as many bytes.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::channel;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir_storage::{Cost, Folder, Layout, LogId, LogSpec, Medium, Options, Store};

const SUBJECT: &[u8] = b"monitor.device-1.state.temp.c1";

fn store(folder: &tempfile::TempDir, medium: Medium) -> (Store, LogId) {
    let disk = Arc::new(Folder::open(folder.path().join("store")).unwrap());
    let mut store = Store::open(disk, Options::default()).unwrap();
    let cost = Cost { per_record: 0, per_headers: 0 };
    let log = store.create_log(LogSpec { medium, layout: Layout::Blocks, cost, first_seq: 1 }).unwrap();
    (store, log)
}

/// Records staged in memory, nothing sealed: the owner's cost of a record.
fn stage(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage");
    let folder = tempfile::tempdir().unwrap();
    for (name, medium) in [("disk", Medium::Disk), ("memory", Medium::Memory)] {
        let payload = vec![7u8; 128];
        let (mut store, log) = store(&folder, medium);
        let mut seq = 0;
        group.throughput(Throughput::Elements(1000));
        group.bench_function(BenchmarkId::new(name, 128), |bencher| {
            bencher.iter(|| {
                for _ in 0..1000 {
                    seq += 1;
                    // A busy store waits for its mover, as its owner would.
                    while store.append(log, seq, 0, SUBJECT, b"", &payload).is_err() {
                        store.process();
                    }
                }
                store.seal(Box::new(|_| ()));
                store.process();
                store.evict_below(log, seq.saturating_sub(10_000));
            });
        });
        drop(store);
    }
    group.finish();
}

/// Records appended, sealed, and waited for: one group after the other.
fn durable(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("durable");
    group.sample_size(20);
    for payload in [128usize, 1024] {
        for size in [1usize, 10, 100, 1000] {
            let folder = tempfile::tempdir().unwrap();
            let bytes = vec![7u8; payload];
            group.throughput(Throughput::Elements(size as u64));
            let (mut store, log) = store(&folder, Medium::Disk);
            let mut seq = 0;
            group.bench_function(BenchmarkId::new(format!("store {payload} B"), size), |bencher| {
                bencher.iter(|| {
                    for _ in 0..size {
                        seq += 1;
                        while store.append(log, seq, 0, SUBJECT, b"", &bytes).is_err() {
                            store.process();
                        }
                    }
                    let (sender, receiver) = channel();
                    store.seal(Box::new(move |result| sender.send(result).unwrap()));
                    receiver.recv().unwrap().unwrap();
                    store.process();
                    store.evict_below(log, seq.saturating_sub(100_000));
                });
            });
            drop(store);

            let file = File::create(folder.path().join("bare")).unwrap();
            let whole = 16 << 20;
            file.write_all_at(&vec![0; whole], 0).unwrap();
            file.sync_all().unwrap();
            let mut offset = 0;
            group.bench_function(BenchmarkId::new(format!("bare {payload} B"), size), |bencher| {
                bencher.iter_batched_ref(
                    || vec![7u8; size * (payload + SUBJECT.len())],
                    |buffer| {
                        if offset + buffer.len() > whole {
                            offset = 0;
                        }
                        file.write_all_at(black_box(buffer), offset as u64).unwrap();
                        file.sync_data().unwrap();
                        offset += buffer.len();
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, stage, durable);
criterion_main!(benches);
