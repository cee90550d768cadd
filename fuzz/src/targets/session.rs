//! A whole connection: a server is sent the bytes at once and in pieces, and must answer the same to both; another client is served
//! all the while.
//!
//! The first byte says where the cuts are, the rest is what the client sends. Time is virtual, ids follow from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir::server::{Config, Limits, Server};
use weir::sys::clock::ManualClock;
use weir::sys::random::Random;
use weir_protocol::decode::{ClientDecoder, ServerDecoder};
use weir_protocol::op::{ClientOp, ServerOp};

const CONTROL_LINE: usize = 256;
const PAYLOAD: usize = 1024;

/// See the module.
pub fn body(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let step = 1 + usize::from(*cut);
    let (whole, cut) =
        runtime.block_on(async { (answers(bytes, bytes.len().max(1)).await, answers(bytes, step).await) });
    let groups = groups(bytes);
    assert_eq!(said(&whole, &groups), said(&cut, &groups), "cut every {step}");
}

/// The subscriptions in queue groups: for each sid, its subject and group.
fn groups(mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut decoder = ClientDecoder::new(CONTROL_LINE, Some(PAYLOAD));
    decoder.set_headers(true);
    let mut groups = BTreeMap::new();
    while let Ok(Some((op, taken))) = decoder.decode(bytes) {
        if let ClientOp::Sub(subscribe) = &op
            && !subscribe.queue.is_empty()
        {
            groups.insert(subscribe.sid.to_vec(), [subscribe.subject, b" ", subscribe.queue].concat());
        }
        bytes = &bytes[taken..];
    }
    groups
}

/// What was said, in order. Which member of a queue group has a message depends on the cuts, and is nobody's to know.
fn said(bytes: &[u8], groups: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<String> {
    let mut decoder = ServerDecoder::new();
    let (mut told, mut at) = (Vec::new(), 0);
    while let Some((mut op, taken)) =
        decoder.decode(&bytes[at..]).expect("what a server says is the protocol")
    {
        at += taken;
        if let ServerOp::Msg(message) = &mut op {
            message.sid = groups.get(message.sid).map_or(message.sid, Vec::as_slice);
        }
        told.push(format!("{op:?}"));
    }
    assert_eq!(at, bytes.len(), "the last operation is whole");
    told
}

/// Everything that the server says to these bytes.
async fn answers(bytes: &[u8], step: usize) -> Vec<u8> {
    let limits = Limits {
        max_control_line: CONTROL_LINE,
        max_payload: PAYLOAD,
        max_pending: 64 * 1024,
        max_subscriptions: 8,
        max_sub_tokens: 8,
        ..Limits::default()
    };
    let config = Config {
        listen: None,
        limits,
        clock: ManualClock::at(0),
        random: Random::from_seed(1),
        ..Config::default()
    };
    let server = Server::start(config).await.expect("it starts");
    let (mut read, mut write) = tokio::io::split(server.connect_in_process());
    let send = async {
        for piece in bytes.chunks(step) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            // The server reads what is there.
            tokio::task::yield_now().await;
        }
        // The end is told by a closed pipe; a server that closed first knows.
        let _ = write.shutdown().await;
    };
    let mut said = Vec::new();
    let hear = async {
        // A reset after an error is an end too.
        let _ = read.read_to_end(&mut said).await;
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(send, hear) })
        .await
        .expect("the connection ends");
    assert!(said.len() <= 4 * 1024 * 1024, "{} bytes for {}", said.len(), bytes.len());
    let mut other = server.connect_in_process();
    let hello = b"CONNECT {\"verbose\":false}\r\nSUB still.here 1\r\nPUB still.here 2\r\nhi\r\nPING\r\n";
    other.write_all(hello).await.expect("it is open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"MSG still.here 1 2\r\nhi\r\nPONG\r\n") {
        let count = other.read_buf(&mut answer).await.expect("it is open");
        assert!(count > 0, "another client is turned away: {}", answer.escape_ascii());
    }
    drop(other);
    server.shutdown().await.expect("it stops");
    said
}
