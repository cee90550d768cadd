//! Decoding a read chunk of operations and encoding deliveries, beside the naive way of doing it.
//!
//! The unit is one chunk of 64 KiB, as the server reads it; the throughput counts operations.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_protocol::decode::{ClientDecoder, ServerDecoder};
use weir_protocol::encode;
use weir_protocol::op::{ClientOp, Message, ServerOp};

const CHUNK: usize = 64 * 1024;

/// As many copies of `op` as fit into a chunk.
fn chunk(op: &[u8]) -> (Bytes, u64) {
    let count = CHUNK / op.len();
    (Bytes::from(op.repeat(count)), count as u64)
}

fn publish(subject: &str, reply: &str, headers: &str, payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let payload = vec![b'x'; payload];
    encode::publish(&mut out, subject.as_bytes(), reply.as_bytes(), headers.as_bytes(), &payload);
    out
}

/// Lines and tokens as strings, a payload of its own for each message.
fn naive_decode(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 2..];
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            break;
        }
        if matches!(words[0].to_uppercase().as_str(), "PUB" | "HPUB") {
            let size: usize = words[words.len() - 1].parse().unwrap_or(0);
            black_box(bytes[..size].to_vec());
            bytes = &bytes[size + 2..];
        }
        black_box(words);
        count += 1;
    }
    count
}

fn decode(c: &mut Criterion) {
    let headers = "NATS/1.0\r\nNats-Msg-Id: 123456\r\n\r\n";
    let inbox = "_INBOX.aBcDeFgHiJkLmNoPqRsTuV.123456";
    let cases = [
        ("pub-16B", publish("bench.subject.1", "", "", 16)),
        ("pub-128B", publish("bench.subject.1", "", "", 128)),
        ("pub-1KiB", publish("bench.subject.1", "", "", 1024)),
        ("pub-reply-16B", publish("bench.subject.1", inbox, "", 16)),
        ("hpub-reply-16B", publish("bench.subject.1", inbox, headers, 16)),
        ("sub", b"SUB bench.subject.* 123\r\n".to_vec()),
        ("ping", b"PING\r\n".to_vec()),
    ];
    let mut group = c.benchmark_group("decode");
    for (name, op) in cases {
        let (bytes, count) = chunk(&op);
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{name}/weir"), |b| {
            let mut decoder = ClientDecoder::default();
            decoder.set_headers(true);
            b.iter(|| {
                let (mut at, mut ops) = (0, 0);
                while let Ok(Some((op, taken))) = decoder.decode(&bytes[at..]) {
                    if let ClientOp::Pub(publish) = &op {
                        black_box(publish.tail);
                    }
                    black_box(&op);
                    at += taken;
                    ops += 1;
                }
                assert_eq!(ops, count);
            });
        });
        group.bench_function(format!("{name}/naive"), |b| {
            b.iter(|| assert_eq!(naive_decode(&bytes), usize::try_from(count).unwrap_or(0)));
        });
    }
    let message =
        Message { subject: b"bench.subject.1", sid: b"12", reply: b"", headers: b"", payload: &[b'x'; 16] };
    let mut op = Vec::new();
    encode::message(&mut op, &message);
    let (bytes, count) = chunk(&op);
    group.throughput(Throughput::Elements(count));
    group.bench_function("msg-16B/weir", |b| {
        let mut decoder = ServerDecoder::new();
        b.iter(|| {
            let (mut at, mut ops) = (0, 0);
            while let Ok(Some((op, taken))) = decoder.decode(&bytes[at..]) {
                if let ServerOp::Msg(message) = op {
                    black_box(bytes.slice_ref(message.payload));
                }
                at += taken;
                ops += 1;
            }
            assert_eq!(ops, count);
        });
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let bytes = publish("bench.subject.1", "", "", 16);
    let Ok(Some((ClientOp::Pub(publish), _))) = ClientDecoder::default().decode(&bytes) else {
        unreachable!("a canonical PUB decodes");
    };
    let message =
        Message { subject: publish.subject, sid: b"12", reply: b"", headers: b"", payload: publish.payload };
    group.throughput(Throughput::Elements(1000));
    group.bench_function("msg-16B/tail", |b| {
        let mut out = Vec::with_capacity(CHUNK);
        b.iter(|| {
            out.clear();
            for _ in 0..1000 {
                encode::delivery(&mut out, message.subject, message.sid, publish.tail, false);
            }
            black_box(out.len())
        });
    });
    group.bench_function("msg-16B/parts", |b| {
        let mut out = Vec::with_capacity(CHUNK);
        b.iter(|| {
            out.clear();
            for _ in 0..1000 {
                encode::message(&mut out, &message);
            }
            black_box(out.len())
        });
    });
    group.bench_function("msg-16B/naive", |b| {
        let mut out: Vec<u8> = Vec::with_capacity(CHUNK);
        b.iter(|| {
            out.clear();
            for _ in 0..1000 {
                let (subject, sid) =
                    (String::from_utf8_lossy(message.subject), String::from_utf8_lossy(message.sid));
                let head = format!("MSG {subject} {sid} {}\r\n", message.payload.len());
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(message.payload);
                out.extend_from_slice(b"\r\n");
            }
            black_box(out.len())
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
