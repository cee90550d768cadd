//! Rows of the plain broker: publishers write ready-made frames, subscribers count the frames that arrive.
//!
//! Frames of a row all have one length, so that counting needs one look per frame and no parsing. A publisher keeps at
//! most 4 MiB on the way to its slowest subscriber, so that nobody becomes a slow consumer. The same frames go through
//! the relay (`relay.rs`). A run ends when all that was published has been counted; otherwise it has no figure.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::lab::{Lab, Measure};
use crate::relay;
use crate::sample::{Sample, window};
use crate::shape::{Frames, Shape};
use crate::target::Target;
use crate::wire::{Connection, PATIENCE};

/// Bytes that a publisher writes at once.
const WRITE: usize = 128 * 1024;
/// Bytes on the way to the slowest subscriber of a publisher.
const IN_FLIGHT: usize = 4 * 1024 * 1024;
/// How long the count may stand still at the end before the rest is called lost.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Counts frames of one length in a stream of bytes that comes in any pieces. The first frame must be the one that is
/// expected; between frames a PING may come; anything else is what a server says before it closes a connection.
struct Counter {
    length: usize,
    /// Bytes of the current frame that have not come yet.
    left: usize,
    expected: Vec<u8>,
    /// What came of the first frame, or of a line that is no frame.
    gathered: Vec<u8>,
}

impl Counter {
    fn new(expected: Vec<u8>) -> Self {
        Self { length: expected.len(), left: 0, expected, gathered: Vec::new() }
    }

    /// Takes bytes; returns how many frames ended in them.
    fn feed(&mut self, mut bytes: &[u8]) -> Result<u64, Fault> {
        let mut frames = 0;
        while let Some(&first) = bytes.first() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                self.left -= taken;
                frames += u64::from(self.left == 0);
            } else if first == b'M' && self.gathered.is_empty() && self.expected.is_empty() {
                self.left = self.length;
            } else {
                let (byte, rest) = (first, bytes.get(1..).unwrap_or_default());
                bytes = rest;
                self.gathered.push(byte);
                frames += u64::from(self.gathered_more()?);
            }
        }
        Ok(frames)
    }

    /// Looks at what was gathered; returns whether it was the first frame.
    fn gathered_more(&mut self) -> Result<bool, Fault> {
        if self.gathered.starts_with(b"M") {
            if self.gathered.len() < self.length {
                return Ok(false);
            }
            let expected = std::mem::take(&mut self.expected);
            if self.gathered != expected {
                let text =
                    |bytes: &[u8]| String::from_utf8_lossy(bytes.get(..40).unwrap_or(bytes)).into_owned();
                return Err(Fault::failed(format!(
                    "expected {:?}, received {:?}",
                    text(&expected),
                    text(&self.gathered)
                )));
            }
            self.gathered = Vec::new();
            return Ok(true);
        }
        if self.gathered.ends_with(b"\n") {
            // A server may send its INFO at any time: one follows the first PONG.
            if self.gathered != b"PING\r\n" && !self.gathered.starts_with(b"INFO ") {
                let words = String::from_utf8_lossy(&self.gathered).trim().to_owned();
                return Err(Fault::failed(format!("the server says {words}")));
            }
            self.gathered.clear();
        }
        Ok(false)
    }
}

/// One row: a shape and a payload size.
pub(crate) struct Flow {
    pub(crate) shape: Shape,
    pub(crate) size: usize,
}

impl Measure for Flow {
    fn run(&mut self, _place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault> {
        let server = target.start(lab.folder.path(), false)?;
        self.drive(server.address(), lab.length, || server.cpu_time())
    }

    fn relay(&mut self, lab: &Lab) -> Option<Result<Sample, Fault>> {
        let run = || {
            let relay = relay::start(self.shape, self.size)?;
            self.drive(relay.address(), lab.length, || relay.cpu_time())
        };
        Some(run())
    }
}

impl Flow {
    fn drive(
        &self,
        address: SocketAddr,
        length: Duration,
        cpu: impl Fn() -> Result<Option<Duration>, Fault>,
    ) -> Result<Sample, Fault> {
        let shape = self.shape;
        let stop = Arc::new(AtomicBool::new(false));
        let counts: Vec<_> = (0..shape.subscribers()).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let mut sockets = Vec::new();
        let mut subscribers = Vec::new();
        for (place, count) in counts.iter().enumerate() {
            let stream = Connection::open_with(address, shape.subscription(place).as_bytes())?.into_stream();
            sockets.push(stream.try_clone()?);
            let publisher = if shape == Shape::TenToTen { place } else { 0 };
            let expected = Frames::delivered(shape, publisher, self.size).take(1).0.to_vec();
            let (counter, count) = (Counter::new(expected), Arc::clone(count));
            subscribers.push(std::thread::spawn(move || subscribe(stream, counter, &count)));
        }
        let mut publishers = Vec::new();
        for place in 0..shape.publishers() {
            let publisher = Publisher {
                stream: Connection::open(address)?.into_stream(),
                frames: Frames::published(shape, place, self.size),
                audience: shape.audience(place).filter_map(|at| counts.get(at)).map(Arc::clone).collect(),
                shares: shape.shares(),
                stop: Arc::clone(&stop),
            };
            publishers.push(std::thread::spawn(move || publisher.run()));
        }
        let received = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let window = window(length, received, cpu);

        stop.store(true, Ordering::Relaxed);
        let copies = if shape.shares() { 1 } else { shape.audience(0).len() as u64 };
        let publishers = join(publishers);
        let published = publishers.as_ref().map(|all| all.iter().map(|(sent, _)| sent).sum::<u64>() * copies);
        if let Ok(expected) = published {
            await_count(expected, received);
        }
        for socket in &sockets {
            // A server that closed it first has said why to its subscriber.
            let _ = socket.shutdown(Shutdown::Both);
        }
        join(subscribers)?;
        let expected = published.map_err(Fault::clone)?;
        Fault::unless_all("messages", expected, received())?;
        Ok(window?.0)
    }
}

/// Waits until `received` has reached `expected` or stands still.
fn await_count(expected: u64, received: impl Fn() -> u64) {
    let mut last = (received(), Instant::now());
    while last.0 < expected && last.1.elapsed() < STANDSTILL {
        std::thread::sleep(Duration::from_millis(1));
        let now = received();
        if now > last.0 {
            last = (now, Instant::now());
        }
    }
}

/// The results of all threads; the first fault if there is one.
pub(crate) fn join<T>(threads: Vec<JoinHandle<Result<T, Fault>>>) -> Result<Vec<T>, Fault> {
    let results: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    results
        .into_iter()
        .map(|result| result.unwrap_or_else(|_| Err(Fault::failed("a thread panicked"))))
        .collect()
}

struct Publisher {
    stream: TcpStream,
    frames: Frames,
    audience: Vec<Arc<AtomicU64>>,
    shares: bool,
    stop: Arc<AtomicBool>,
}

impl Publisher {
    /// Publishes until it is told to stop. Returns how many messages, and the socket: closed with a PING of the server
    /// unread, it would take back what the server has not read yet.
    fn run(mut self) -> Result<(u64, TcpStream), Fault> {
        let at_once = (WRITE / self.frames.length()).max(1);
        let limit = (IN_FLIGHT / self.frames.length()).max(4 * at_once) as u64;
        let mut sent = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let counts = self.audience.iter().map(|count| count.load(Ordering::Relaxed));
            let received: u64 = if self.shares { counts.sum() } else { counts.min().unwrap_or(sent) };
            if sent - received.min(sent) >= limit {
                std::thread::sleep(Duration::from_micros(50));
                continue;
            }
            let (bytes, count) = self.frames.take(at_once);
            if let Err(error) = self.stream.write_all(bytes) {
                return Err(Fault::failed(format!("publisher: {error}{}", last_words(&mut self.stream))));
            }
            sent += count as u64;
        }
        Ok((sent, self.stream))
    }
}

/// What the server said before it closed the connection.
fn last_words(stream: &mut TcpStream) -> String {
    let mut words = Vec::new();
    // The connection is broken: what can be read of it is all there is to tell.
    let _ = stream.take(1000).read_to_end(&mut words);
    if words.is_empty() { String::new() } else { format!(" ({})", String::from_utf8_lossy(&words).trim()) }
}

fn subscribe(mut stream: TcpStream, mut counter: Counter, count: &AtomicU64) -> Result<(), Fault> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                let frames = counter.feed(buffer.get(..read).unwrap_or_default())?;
                count.fetch_add(frames, Ordering::Relaxed);
            }
            // Nothing came for so long that the run is over: the counts say what is missing.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(error) => return Err(Fault::failed(format!("subscriber: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::SHAPES;

    #[test]
    fn frames_are_counted_however_their_bytes_are_split() {
        let mut frames = Frames::delivered(Shape::OneToOne, 0, 16);
        let one = frames.take(1).0.to_vec();
        let between = b"PING\r\nINFO {\"connect_info\":true}\r\n".to_vec();
        let stream = [one.repeat(3), between, one.repeat(2)].concat();
        for piece in 1..stream.len() {
            let mut counter = Counter::new(one.clone());
            let counted: u64 = stream.chunks(piece).map(|part| counter.feed(part).unwrap()).sum();
            assert_eq!(counted, 5, "pieces of {piece}");
        }
        let mut counter = Counter::new(one.clone());
        assert_eq!(counter.feed(&stream[..one.len() * 3 - 1]), Ok(2), "the third is not whole");
    }

    #[test]
    fn what_is_no_frame_is_told() {
        let one = b"MSG bench.flow 1 1\r\nx\r\n".to_vec();
        let told = Counter::new(one.clone()).feed(b"-ERR 'Slow Consumer'\r\n").unwrap_err().to_string();
        assert_eq!(told, "FAILED: the server says -ERR 'Slow Consumer'");
        let told = Counter::new(one.clone()).feed(b"MSG bench.flaw 1 1\r\nx\r\n").unwrap_err().to_string();
        assert!(told.starts_with("FAILED: expected \"MSG bench.flow 1 1"), "{told}");
        let mut counter = Counter::new(one.clone());
        assert_eq!(counter.feed(&one), Ok(1));
        assert!(counter.feed(b"-ERR 'x'\r\n").is_err());
    }

    #[test]
    fn the_relay_delivers_every_frame_of_every_shape() {
        for shape in SHAPES {
            let address = relay::serve_here(shape, 16).unwrap();
            let flow = Flow { shape, size: 16 };
            let sample = flow.drive(address, Duration::from_millis(50), || Ok(None)).unwrap();
            assert!(sample.values().all(|value| *value >= 0.0), "{shape:?}: {sample:?}");
        }
    }

    /// A server that takes frames and delivers one a millisecond, until the window has closed.
    #[test]
    fn messages_that_do_not_come_back_are_no_figure() {
        let frame = Frames::delivered(Shape::OneToOne, 0, 16).take(1).0.to_vec();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (closed, delivered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (Arc::clone(&closed), Arc::clone(&delivered));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (frame, until, count) = (frame.clone(), Arc::clone(&until), Arc::clone(&count));
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    if relay::greet(&mut stream).unwrap() {
                        while !until.load(Ordering::Relaxed) {
                            stream.write_all(&frame).unwrap();
                            count.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
                });
            }
        });
        // The server's processor time is asked for when the window opens and when it closes.
        let opened = AtomicBool::new(false);
        let cpu = || {
            closed.store(opened.swap(true, Ordering::Relaxed), Ordering::Relaxed);
            Ok(None)
        };
        let flow = Flow { shape: Shape::OneToOne, size: 16 };
        let fault = flow.drive(address, Duration::from_millis(10), cpu).unwrap_err();
        let Fault::Lost { received, sent, .. } = fault else { panic!("{fault}") };
        assert_eq!(received, delivered.load(Ordering::Relaxed));
        assert!(sent > received, "{sent}");
    }
}
