//! Reading a JetStream stream from its beginning, again and again for a stretch of time.
//!
//! Each pass has a new consumer: a push consumer without acks, or a pull consumer that is asked for a thousand messages at
//! a time and gets an ack for every one. A pass must deliver every message of the stream; a pass with acks ends with all
//! of them acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fault::Fault;
use crate::lab::{Lab, Measure};
use crate::latency::finish;
use crate::sample::{Sample, window};
use crate::stream::{SETTLE, STREAM, create, fill};
use crate::target::Target;
use crate::wire::{Connection, Message, PATIENCE};

/// Messages of a request to a pull consumer; also nats-server's default of messages without ack.
const BATCH: u64 = 1000;

/// How messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Push,
    PullWithAcks,
}

/// A row: reading messages of a size.
pub(crate) struct Consume {
    pub(crate) how: How,
    pub(crate) size: usize,
    /// Messages in the stream.
    pub(crate) messages: u64,
}

impl Measure for Consume {
    fn run(&mut self, _place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault> {
        let server = target.start(lab.folder.path(), false)?;
        let _stream = create(&server)?;
        fill(&server, self.messages, self.size)?;
        std::thread::sleep(SETTLE);
        let stop = Arc::new(AtomicBool::new(false));
        let read = Arc::new(AtomicU64::new(0));
        let reader = {
            let mut pass = Pass {
                connection: server.connect()?,
                control: server.connect()?,
                number: 0,
                messages: self.messages,
                size: self.size,
                read: Arc::clone(&read),
            };
            let (how, stop) = (self.how, Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    pass.number += 1;
                    match how {
                        How::Push => pass.push()?,
                        How::PullWithAcks => pass.pull()?,
                    }
                }
                Ok(())
            })
        };
        let window = window(lab.length, || read.load(Ordering::Relaxed), || server.cpu_time());
        stop.store(true, Ordering::Relaxed);
        finish(reader)?;
        Ok(window?.0)
    }
}

/// One reading of the stream after the other.
struct Pass {
    connection: Connection,
    control: Connection,
    number: u64,
    messages: u64,
    size: usize,
    read: Arc<AtomicU64>,
}

impl Pass {
    fn push(&mut self) -> Result<(), Fault> {
        let Self { number, messages, .. } = *self;
        let inbox = format!("_INBOX.push.{number}");
        self.connection.send(format!("SUB {inbox} {number}\r\n").as_bytes())?;
        self.create(&format!(r#""deliver_subject":"{inbox}","ack_policy":"none""#))?;
        let mut received = 0;
        while received < messages {
            let before = received;
            loop {
                let message = self.connection.message().map_err(|error| self.missing(received, &error))?;
                self.look(&message)?;
                received += 1;
                if !self.connection.has_more() || received == messages {
                    break;
                }
            }
            self.read.fetch_add(received - before, Ordering::Relaxed);
        }
        self.connection.send(format!("UNSUB {number}\r\n").as_bytes())?;
        self.remove()
    }

    fn pull(&mut self) -> Result<(), Fault> {
        let Self { number, messages, .. } = *self;
        self.create(r#""ack_policy":"explicit""#)?;
        let inbox = format!("_INBOX.pull.{number}");
        self.connection.send(format!("SUB {inbox} {number}\r\n").as_bytes())?;
        let mut received = 0;
        let mut acks = Vec::new();
        while received < messages {
            let batch = BATCH.min(messages - received);
            let ask = format!(r#"{{"batch":{batch}}}"#);
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{}", self.consumer());
            self.connection.send(format!("PUB {subject} {inbox} {}\r\n{ask}\r\n", ask.len()).as_bytes())?;
            let mut left = batch;
            while left > 0 {
                acks.clear();
                let before = left;
                loop {
                    let message =
                        self.connection.message().map_err(|error| self.missing(received, &error))?;
                    self.look(&message)?;
                    acks.extend_from_slice(b"PUB ");
                    acks.extend_from_slice(self.connection.reply(&message));
                    acks.extend_from_slice(b" 4\r\n+ACK\r\n");
                    left -= 1;
                    if left == 0 || !self.connection.has_more() {
                        break;
                    }
                }
                self.connection.send(&acks)?;
                received += before - left;
                self.read.fetch_add(before - left, Ordering::Relaxed);
            }
        }
        self.connection.send(format!("UNSUB {number}\r\n").as_bytes())?;
        self.await_acks()?;
        self.remove()
    }

    /// Servers take acks when they come to it: waits until the last one shows.
    fn await_acks(&mut self) -> Result<(), Fault> {
        let subject = format!("$JS.API.CONSUMER.INFO.{STREAM}.{}", self.consumer());
        let begun = Instant::now();
        loop {
            let info = self.control.request(&subject, "")?;
            let floor = info.pointer("/ack_floor/stream_seq").and_then(Value::as_u64).unwrap_or_default();
            if floor == self.messages || begun.elapsed() > PATIENCE {
                return Fault::unless_all("messages acknowledged", self.messages, floor);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn consumer(&self) -> String {
        format!("c{}", self.number)
    }

    /// Makes the consumer. Its messages may overtake the answer, which therefore comes on another connection.
    fn create(&mut self, settings: &str) -> Result<(), Fault> {
        let consumer = self.consumer();
        let config = format!(
            r#"{{"stream_name":"{STREAM}","config":{{"name":"{consumer}",{settings},"deliver_policy":"all","replay_policy":"instant","inactive_threshold":60000000000}}}}"#
        );
        self.control.request(&format!("$JS.API.CONSUMER.CREATE.{STREAM}.{consumer}"), &config)?;
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Fault> {
        self.control.request(&format!("$JS.API.CONSUMER.DELETE.{STREAM}.{}", self.consumer()), "")?;
        Ok(())
    }

    /// A message must have the size that was stored: anything else is a status.
    fn look(&self, message: &Message) -> Result<(), Fault> {
        let length = self.connection.payload(message).len();
        if length == self.size {
            return Ok(());
        }
        Err(Fault::failed(format!("a message of {length} B among those of {} B", self.size)))
    }

    fn missing(&self, received: u64, error: &std::io::Error) -> Fault {
        if error.kind() == std::io::ErrorKind::TimedOut {
            return Fault::Lost { what: "messages read", sent: self.messages, received };
        }
        Fault::failed(error.to_string())
    }
}
