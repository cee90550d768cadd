//! Finding who gets a message among many subscriptions, beside comparing with every filter in turn.
//!
//! The subjects rotate, so that no cached match helps. The throughput counts lookups; each finds at least one filter.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir::broker::{Broker, InternalMessage, InternalSink, InternalSub};
use weir::sys::random::Random;
use weir_protocol::subject;

/// Counts what it gets.
#[derive(Default)]
struct Counter(AtomicU64);

impl InternalSink for Counter {
    fn push(&self, message: InternalMessage) {
        black_box(message);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the filters look like.
#[derive(Clone, Copy)]
enum Kind {
    Literal,
    Wildcard,
}

impl Kind {
    fn filter(self, number: usize) -> String {
        match self {
            Self::Literal => format!("site.{}.device.{number}.temperature", number % 17),
            Self::Wildcard => format!("site.*.device.{number}.>"),
        }
    }
}

fn subject_of(number: usize) -> String {
    format!("site.{}.device.{number}.temperature", number % 17)
}

fn subscribe(broker: &Broker, kind: Kind, count: usize) -> Vec<InternalSub> {
    let sink: Arc<dyn InternalSink> = Arc::new(Counter::default());
    (0..count).map(|n| broker.subscribe_internal(kind.filter(n).as_bytes(), Arc::clone(&sink))).collect()
}

fn matching(c: &mut Criterion) {
    for (name, kind) in [("literal", Kind::Literal), ("wildcard", Kind::Wildcard)] {
        let mut group = c.benchmark_group(format!("sublist/{name}"));
        group.throughput(Throughput::Elements(1));
        for count in [100, 10_000, 100_000] {
            let broker = Broker::new(Random::from_seed(1));
            let _subscriptions = subscribe(&broker, kind, count);
            let subjects: Vec<String> = (0..count).map(|n| subject_of(n * 7919 % count)).collect();
            let payload = Bytes::from_static(b"21.5");
            let mut next = subjects.iter().cycle();
            group.bench_function(BenchmarkId::new("publish", count), |b| {
                b.iter(|| {
                    let subject = next.next().map_or(&[][..], |subject| subject.as_bytes());
                    assert!(broker.publish(subject, subject, b"", b"", &payload));
                });
            });
            if count <= 10_000 {
                let filters: Vec<String> = (0..count).map(|n| kind.filter(n)).collect();
                group.bench_function(BenchmarkId::new("naive", count), |b| {
                    b.iter(|| {
                        let subject = next.next().map_or(&[][..], |subject| subject.as_bytes());
                        black_box(filters.iter().filter(|f| subject::matches(subject, f.as_bytes())).count())
                    });
                });
            }
        }
        group.finish();
    }
}

fn changing(c: &mut Criterion) {
    let broker = Broker::new(Random::from_seed(1));
    let _others = subscribe(&broker, Kind::Wildcard, 10_000);
    let sink: Arc<dyn InternalSink> = Arc::new(Counter::default());
    c.bench_function("sublist/subscribe and unsubscribe among 10000", |b| {
        b.iter(|| broker.subscribe_internal(b"site.*.device.5000.humidity", Arc::clone(&sink)).unsubscribe());
    });
}

criterion_group!(benches, matching, changing);
criterion_main!(benches);
