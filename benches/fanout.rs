//! Messages from one publisher to its subscribers, through the whole server over in-process pipes.
//!
//! One iteration publishes a batch and waits until every subscriber has all of it; the throughput counts deliveries. The
//! pipes and both ends run on the same two threads, so the figures compare versions of Weir with each other.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use weir::server::{Config, Server};

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";

async fn open(server: &Server, then: &str) -> DuplexStream {
    let mut pipe = server.connect_in_process();
    pipe.write_all(format!("{CONNECT}{then}PING\r\n").as_bytes()).await.expect("the pipe is open");
    let mut said = Vec::new();
    while !said.ends_with(b"PONG\r\n") {
        assert!(pipe.read_buf(&mut said).await.expect("the pipe is open") > 0, "the server closed");
    }
    pipe
}

async fn skip(pipe: &mut DuplexStream, mut bytes: usize) {
    let mut buffer = vec![0; 64 * 1024];
    while bytes > 0 {
        let read = pipe.read(&mut buffer).await.expect("the pipe is open");
        assert!(read > 0 && read <= bytes, "no more and no less than was published");
        bytes -= read;
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn fanout(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("fanout");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for (subscribers, size, messages) in
        [(1, 16, 20_000), (1, 1024, 5_000), (1, 65_536, 200), (10, 16, 5_000), (10, 1024, 1_000)]
    {
        let server =
            runtime.block_on(Server::start(Config { listen: None, ..Config::default() })).expect("it starts");
        let mut publisher = runtime.block_on(open(&server, ""));
        let mut receivers: Vec<_> =
            (0..subscribers).map(|_| runtime.block_on(open(&server, "SUB bench.0 1\r\n"))).collect();
        let payload = "x".repeat(size);
        let batch = format!("PUB bench.0 {size}\r\n{payload}\r\n").repeat(messages);
        let expected = format!("MSG bench.0 1 {size}\r\n{payload}\r\n").len() * messages;
        group.throughput(Throughput::Elements((subscribers * messages) as u64));
        group.bench_function(BenchmarkId::new(format!("1 to {subscribers}"), format!("{size} B")), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let receive =
                        futures_util::future::join_all(receivers.iter_mut().map(|pipe| skip(pipe, expected)));
                    let (written, _) = tokio::join!(publisher.write_all(batch.as_bytes()), receive);
                    written.expect("the pipe is open");
                });
            });
        });
        drop((publisher, receivers));
        runtime.block_on(server.shutdown()).expect("it stops in order");
    }
    group.finish();
}

criterion_group!(benches, fanout);
criterion_main!(benches);
