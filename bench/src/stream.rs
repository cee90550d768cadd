//! Publishing to a JetStream stream on file, and counting what it answers.
//!
//! Two ways: connections that each wait for the answer before they publish again (one thread serves them all, so that the
//! generator costs the least), and connections that keep up to a thousand publishes unanswered (a thread for each).
//! Every publish has a reply subject of its own, as with real clients. At the end the stream must hold as many messages
//! as were answered and sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use serde_json::Value;

use crate::cleanup;
use crate::fault::Fault;
use crate::flow::join;
use crate::lab::{Lab, Measure, ROOM};
use crate::remark;
use crate::sample::{Sample, window};
use crate::target::{Kind, Server, Target};
use crate::wire::{Connection, PATIENCE};

/// Publishes that a pipelining connection leaves unanswered at most.
const UNANSWERED: u64 = 1000;
/// Connections that pipeline.
const PIPELINES: u64 = 4;
/// Publishes written at once.
const BURST: u64 = 100;
/// Digits that make a reply subject unique.
const DIGITS: usize = 10;

/// The stream of all rows.
pub(crate) const STREAM: &str = "BENCH";
const SUBJECT: &str = "bench.js";
/// How an answer that is no refusal begins.
const STORED: &[u8] = b"{\"stream\":";

/// The stream of a run. Dropped, it is removed from a server that goes on without us.
pub(crate) struct Stream {
    /// Such a server.
    remains_on: Option<SocketAddr>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(address) = self.remains_on {
            delete(address);
            cleanup::forget_stream(address);
        }
    }
}

/// Makes the stream, on file with the server's defaults. A stream of that name is somebody else's, or left by a run that
/// was killed: that is for its owner to say.
pub(crate) fn create(server: &Server) -> Result<Stream, Fault> {
    /// nats-server's code for a stream that is not there.
    const NOT_FOUND: &str = "\"err_code\":10059";
    let mut connection = server.connect()?;
    let remains_on = server.pid().is_none().then(|| server.address());
    if let Some(address) = remains_on {
        match connection.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "") {
            Err(error) if error.to_string().contains(NOT_FOUND) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                return Err(Fault::Wrong(format!(
                    "{address} has a stream {STREAM}, which this program would fill and remove: if it may go, remove \
                     it (nats stream rm {STREAM}), otherwise measure on another server"
                )));
            }
        }
    }
    let config = format!(
        r#"{{"name":"{STREAM}","subjects":["{SUBJECT}"],"retention":"limits","storage":"file","discard":"old","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msg_size":-1,"num_replicas":1}}"#
    );
    connection.request(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &config)?;
    remains_on.inspect(|address| cleanup::hold_stream(*address, delete));
    Ok(Stream { remains_on })
}

/// How many messages the stream holds.
pub(crate) fn stored(server: &Server) -> Result<u64, Fault> {
    let answer = server.connect()?.request(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")?;
    let count = answer.pointer("/state/messages").and_then(Value::as_u64);
    count.ok_or_else(|| Fault::failed("the stream's info has no state.messages"))
}

/// Removes the stream from the server at `address`; says so where it cannot.
fn delete(address: SocketAddr) {
    let deleted = Connection::open(address)
        .and_then(|mut connection| connection.request(&format!("$JS.API.STREAM.DELETE.{STREAM}"), ""));
    if let Err(error) = deleted {
        remark(format_args!("the stream {STREAM} is left on {address}: {error}"));
    }
}

/// How publishers treat answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// So many connections, each with one publish unanswered.
    Waiting(u64),
    Pipelined,
}

/// A row: publishing for a stretch of time.
pub(crate) struct Publish {
    pub(crate) way: Way,
    pub(crate) size: usize,
    /// nats-server is told to sync before it answers, as Weir does by itself.
    pub(crate) sync_always: bool,
}

impl Measure for Publish {
    fn run(&mut self, _place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault> {
        let sync_always = self.sync_always && target.kind() == Kind::NatsServer;
        let server = match target.start(lab.folder.path(), sync_always) {
            Err(Fault::Failed(why)) if sync_always && why.contains("unknown field \"sync_interval\"") => {
                return Err(Fault::unfit("has no sync_interval"));
            }
            started => started?,
        };
        let _stream = create(&server)?;
        let answered = Arc::new(AtomicU64::new(0));
        let quota = Quota::UntilStopped(Arc::new(AtomicBool::new(false)));
        let load = match self.way {
            Way::Waiting(connections) => {
                let (address, size) = (server.address(), self.size);
                let (quota, answered) = (quota.clone(), Arc::clone(&answered));
                vec![std::thread::spawn(move || wait_for_each(address, connections, size, &quota, &answered))]
            }
            Way::Pipelined => pipelines(&server, self.size, |_| quota.clone(), &answered),
        };
        let window = window(lab.length, || answered.load(Ordering::Relaxed), || server.cpu_time());
        quota.stop();
        let sent = join(load)?.iter().sum();
        check(&server, sent, answered.load(Ordering::Relaxed))?;
        Ok(window?.0)
    }

    fn room(&self, lab: &Lab, _servers: u64) -> u64 {
        // Twice what a fast disk takes in.
        const A_SECOND: u64 = 1 << 30;
        ROOM + A_SECOND * (lab.length.as_secs() + 1)
    }
}

/// Publishes `count` messages of `size` bytes as fast as pipelines can, and returns when all are answered.
pub(crate) fn fill(server: &Server, count: u64, size: usize) -> Result<(), Fault> {
    let before = stored(server)?;
    let answered = Arc::new(AtomicU64::new(0));
    // Shares that differ by one at most, and are `count` together.
    let share = |place| Quota::Each((count + place) / PIPELINES);
    let sent: u64 = join(pipelines(server, size, share, &answered))?.iter().sum();
    check(server, before + sent, before + answered.load(Ordering::Relaxed))
}

fn check(server: &Server, sent: u64, answered: u64) -> Result<(), Fault> {
    Fault::unless_all("publishes answered", sent, answered)?;
    Fault::unless_all("messages in the stream", sent, stored(server)?)
}

/// When a publisher ends.
#[derive(Clone)]
enum Quota {
    UntilStopped(Arc<AtomicBool>),
    Each(u64),
}

impl Quota {
    fn stop(&self) {
        if let Self::UntilStopped(stop) = self {
            stop.store(true, Ordering::Relaxed);
        }
    }

    /// How many may follow after `sent`.
    fn left(&self, sent: u64) -> u64 {
        match self {
            Self::UntilStopped(stop) if stop.load(Ordering::Relaxed) => 0,
            Self::UntilStopped(_) => u64::MAX,
            Self::Each(count) => count - sent,
        }
    }
}

/// Publishes of one connection, ready but for the number in the reply subject.
struct Publishes {
    bytes: Vec<u8>,
    length: usize,
    /// Where the number begins in a frame.
    number_at: usize,
    next: u64,
}

impl Publishes {
    fn new(connection: u64, size: usize) -> Self {
        let before = format!("PUB {SUBJECT} _INBOX.bench.{connection}.");
        let frame = format!("{before}{:0DIGITS$} {size}\r\n{}\r\n", 0, "x".repeat(size));
        let bytes = frame.repeat(usize::try_from(BURST).unwrap_or(1)).into_bytes();
        Self { length: frame.len(), number_at: before.len(), bytes, next: 0 }
    }

    fn subscription(connection: u64) -> String {
        format!("SUB _INBOX.bench.{connection}.* 1\r\n")
    }

    /// The next `count` publishes, at most [`BURST`].
    fn take(&mut self, count: u64) -> &[u8] {
        let count = usize::try_from(count.min(BURST)).unwrap_or(1);
        for frame in self.bytes.chunks_exact_mut(self.length).take(count) {
            let mut number = self.next;
            for digit in frame.iter_mut().skip(self.number_at).take(DIGITS).rev() {
                *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
            self.next += 1;
        }
        self.bytes.get(..count * self.length).unwrap_or_default()
    }
}

type Load = Vec<std::thread::JoinHandle<Result<u64, Fault>>>;

fn pipelines(server: &Server, size: usize, quota: impl Fn(u64) -> Quota, answered: &Arc<AtomicU64>) -> Load {
    let one = |place| {
        let (address, quota, answered) = (server.address(), quota(place), Arc::clone(answered));
        std::thread::spawn(move || pipeline(address, place, size, &quota, &answered))
    };
    (0..PIPELINES).map(one).collect()
}

/// One connection with many publishes unanswered. Returns how many it sent; all of them have been answered.
fn pipeline(
    address: SocketAddr,
    place: u64,
    size: usize,
    quota: &Quota,
    answered: &AtomicU64,
) -> Result<u64, Fault> {
    let mut connection = Connection::open_with(address, Publishes::subscription(place).as_bytes())?;
    let mut publishes = Publishes::new(place, size);
    let (mut sent, mut back) = (0, 0);
    loop {
        let mut free = (UNANSWERED - (sent - back)).min(quota.left(sent));
        // Small writes would make the generator the bottleneck: wait for room, except at the end.
        while free >= BURST || (free > 0 && free == quota.left(sent)) {
            let count = free.min(BURST);
            connection.send(publishes.take(count))?;
            sent += count;
            free -= count;
        }
        if sent == back {
            return Ok(sent);
        }
        let before = back;
        loop {
            let message = connection.message().map_err(|error| missing(sent, back, &error))?;
            look(connection.payload(&message))?;
            back += 1;
            // What is left in the buffer may be a PING.
            if back == sent || !connection.has_more() {
                break;
            }
        }
        answered.fetch_add(back - before, Ordering::Relaxed);
    }
}

/// Answers that do not come are a loss.
fn missing(sent: u64, received: u64, error: &std::io::Error) -> Fault {
    if error.kind() == ErrorKind::TimedOut {
        return Fault::Lost { what: "publishes answered", sent, received };
    }
    Fault::failed(format!("publisher: {error}"))
}

/// An answer must say that the message is stored.
fn look(payload: &[u8]) -> Result<(), Fault> {
    if payload.starts_with(STORED) {
        return Ok(());
    }
    Err(Fault::failed(format!("a publish was answered with {}", String::from_utf8_lossy(payload))))
}

/// A connection that waits for each answer.
struct Waiting {
    stream: TcpStream,
    publishes: Publishes,
    /// What came of the answer.
    answer: Vec<u8>,
}

impl Waiting {
    fn open(address: SocketAddr, place: u64, size: usize) -> Result<Self, Fault> {
        let connection = Connection::open_with(address, Publishes::subscription(place).as_bytes())?;
        let stream = connection.into_stream();
        stream.set_nonblocking(true)?;
        Ok(Self { stream, publishes: Publishes::new(place, size), answer: Vec::new() })
    }

    /// Publishes once. A single small publish finds room in an idle socket.
    fn publish(&mut self) -> Result<(), Fault> {
        Ok(self.stream.write_all(self.publishes.take(1))?)
    }

    /// Reads what there is; returns whether the answer is complete.
    fn read(&mut self) -> Result<bool, Fault> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => return Err(Fault::failed("the server closed the connection")),
            Ok(read) => self.answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if self.answer == b"PING\r\n" {
            self.stream.write_all(b"PONG\r\n")?;
            self.answer.clear();
        }
        while self.answer.starts_with(b"INFO ") {
            let Some(line) = memchr::memchr(b'\n', &self.answer) else { return Ok(false) };
            self.answer.drain(..=line);
        }
        let Some(line) = memchr::memchr(b'\n', &self.answer) else { return Ok(false) };
        let (head, body) = self.answer.split_at(line + 1);
        if !head.starts_with(b"MSG ") {
            return Err(Fault::failed(format!("the server says {}", String::from_utf8_lossy(head).trim())));
        }
        let Some(payload) = body.strip_suffix(b"\r\n") else { return Ok(false) };
        look(payload)?;
        self.answer.clear();
        Ok(true)
    }
}

/// Connections that each wait for an answer before they publish again, served by one thread. Returns how many publishes
/// were sent; all of them have been answered.
fn wait_for_each(
    address: SocketAddr,
    connections: u64,
    size: usize,
    quota: &Quota,
    answered: &AtomicU64,
) -> Result<u64, Fault> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from)?;
    let mut all = Vec::new();
    for place in 0..connections {
        let waiting = Waiting::open(address, place, size)?;
        let key = epoll::EventData::new_u64(place);
        epoll::add(&poll, &waiting.stream, key, epoll::EventFlags::IN).map_err(std::io::Error::from)?;
        all.push(waiting);
    }
    for waiting in &mut all {
        waiting.publish()?;
    }
    let (mut sent, mut back) = (all.len() as u64, 0);
    let mut events = Vec::with_capacity(all.len());
    let mut heard = Instant::now();
    while back < sent {
        events.clear();
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&second))
            .map_err(std::io::Error::from)?;
        if events.is_empty() && heard.elapsed() > PATIENCE {
            return Err(Fault::Lost { what: "publishes answered", sent, received: back });
        }
        if !events.is_empty() {
            heard = Instant::now();
        }
        let before = back;
        for event in &events {
            let place = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(waiting) = all.get_mut(place) else { continue };
            if waiting.read()? {
                back += 1;
                if quota.left(sent) > 0 {
                    waiting.publish()?;
                    sent += 1;
                }
            }
        }
        answered.fetch_add(back - before, Ordering::Relaxed);
    }
    Ok(sent)
}

/// Time for a server to finish what it does in the background after a load.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_publish_has_a_reply_of_its_own() {
        let mut publishes = Publishes::new(3, 4);
        let first = String::from_utf8(publishes.take(2).to_vec()).unwrap();
        assert_eq!(
            first,
            "PUB bench.js _INBOX.bench.3.0000000000 4\r\nxxxx\r\nPUB bench.js _INBOX.bench.3.0000000001 4\r\nxxxx\r\n"
        );
        publishes.next = 1_234_567_890;
        let later = String::from_utf8(publishes.take(1).to_vec()).unwrap();
        assert_eq!(later, "PUB bench.js _INBOX.bench.3.1234567890 4\r\nxxxx\r\n");
    }

    #[test]
    fn a_refusal_is_no_answer() {
        assert_eq!(look(br#"{"stream":"BENCH","seq":1}"#), Ok(()));
        let refusal = look(br#"{"error":{"code":503},"stream":"BENCH","seq":0}"#).unwrap_err();
        assert!(refusal.to_string().contains("503"), "{refusal}");
    }
}
