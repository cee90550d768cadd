//! Judging and matching subjects, beside the naive way: split into vectors of strings and compare.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use weir_protocol::{header, subject};

fn split(subject: &str) -> Vec<String> {
    subject.split('.').map(str::to_owned).collect()
}

fn naive_matches(subject: &str, filter: &str) -> bool {
    let (subject, filter) = (split(subject), split(filter));
    for (at, wanted) in filter.iter().enumerate() {
        if wanted == ">" {
            return subject.len() > at;
        }
        match subject.get(at) {
            Some(token) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
    subject.len() == filter.len()
}

fn naive_is_valid(subject: &str) -> bool {
    split(subject).iter().all(|token| !token.is_empty() && !token.contains([' ', '\t', '\r', '\n', '\x0c']))
}

fn matching(c: &mut Criterion) {
    let cases = [
        ("literal", "monitor.device-17.sensors.temp", "monitor.device-17.sensors.temp"),
        ("full-wildcard", "monitor.device-17.sensors.temp", "monitor.>"),
        ("wildcards", "monitor.device-17.sensors.temp", "monitor.*.sensors.*"),
        ("miss", "monitor.device-17.sensors.temp", "orders.*.new"),
    ];
    let mut group = c.benchmark_group("matches");
    for (name, on, filter) in cases {
        assert_eq!(subject::matches(on.as_bytes(), filter.as_bytes()), naive_matches(on, filter));
        group.bench_function(format!("{name}/weir"), |b| {
            b.iter(|| subject::matches(black_box(on.as_bytes()), black_box(filter.as_bytes())));
        });
        group.bench_function(format!("{name}/naive"), |b| {
            b.iter(|| naive_matches(black_box(on), black_box(filter)));
        });
    }
    group.finish();
}

fn validity(c: &mut Criterion) {
    let on = "monitor.device-17.sensors.temp";
    let mut group = c.benchmark_group("validity");
    group.bench_function("subject/weir", |b| b.iter(|| subject::is_valid_subject(black_box(on.as_bytes()))));
    group.bench_function("subject/naive", |b| b.iter(|| naive_is_valid(black_box(on))));
    group.bench_function("filter/weir", |b| {
        b.iter(|| subject::is_valid_filter(black_box(b"monitor.*.sensors.>")))
    });
    group.bench_function("collide/weir", |b| {
        b.iter(|| subject::collide(black_box(b"monitor.*.sensors.>"), black_box(b"monitor.device-17.>")));
    });
    group.finish();
}

fn headers(c: &mut Criterion) {
    let mut builder = header::Builder::new();
    for (name, value) in [("X-Monitor-Device", "dev-1"), ("X-Monitor-Type", "state"), ("Nats-Msg-Id", "8f1c")]
    {
        builder.add(name, value);
    }
    let block = builder.finish();
    let mut group = c.benchmark_group("header");
    group.bench_function("get/weir", |b| b.iter(|| header::get(black_box(&block), "Nats-Msg-Id")));
    group.bench_function("miss/weir", |b| b.iter(|| header::get(black_box(&block), "Nats-Expected-Stream")));
    group.bench_function("get/naive", |b| {
        b.iter(|| {
            let text = String::from_utf8_lossy(black_box(&block)).into_owned();
            text.split("\r\n")
                .filter_map(|line| line.split_once(": "))
                .find(|(name, _)| *name == "Nats-Msg-Id")
                .map(|(_, v)| v.to_owned())
        });
    });
    group.finish();
}

criterion_group!(benches, matching, validity, headers);
criterion_main!(benches);
