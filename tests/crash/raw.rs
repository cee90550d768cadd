//! A NATS client of bytes: it writes what it is told, reads what comes, and neither reconnects nor repeats anything. What it
//! has not read was not answered. An error means that the server is gone, and is one of those of a connection that broke off
//! ([`is_gone`]); whatever the server says that is not whole, not known or not expected is a panic with its words.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::support::PATIENCE;

/// Messages of a stream that are asked for at a time.
const PORTION: u64 = 1000;
/// The one subscription, on everything under the inbox.
const SID: &str = "1";

/// True for the errors of a connection whose other end was killed.
pub(crate) fn is_gone(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn is_info(line: &str) -> bool {
    let info = line.strip_prefix("INFO ").and_then(|info| serde_json::from_str::<Value>(info).ok());
    info.is_some_and(|info| info.is_object())
}

/// What the server says after its greeting; its pings are answered on the way.
enum Said {
    Message(Message),
    Pong,
}

/// A message.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) subject: String,
    pub(crate) reply: String,
    /// The header block as it came; empty without headers.
    pub(crate) headers: String,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// The status in the header block, such as `404`.
    pub(crate) fn status(&self) -> Option<&str> {
        self.headers.strip_prefix("NATS/1.0 ")?.split([' ', '\r']).next().filter(|status| !status.is_empty())
    }

    /// The sequence in its stream, from the reply subject of a delivery.
    pub(crate) fn stream_seq(&self) -> Option<u64> {
        self.reply.strip_prefix("$JS.ACK.")?.split('.').nth(3)?.parse().ok()
    }

    /// When it was stored, in nanoseconds.
    pub(crate) fn time(&self) -> Option<i64> {
        self.reply.strip_prefix("$JS.ACK.")?.split('.').nth(5)?.parse().ok()
    }
}

/// A connection.
pub(crate) struct Raw {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    inbox: String,
    requests: u64,
    /// Came while an answer was waited for.
    waiting: VecDeque<Message>,
}

impl Raw {
    /// Connects and subscribes to an inbox of its own, `name` making it unlike others.
    pub(crate) async fn connect(address: &str, name: &str) -> Result<Self> {
        let (reader, writer) = TcpStream::connect(address).await?.into_split();
        let inbox = format!("_INBOX.{name}");
        let mut raw = Self {
            reader: BufReader::with_capacity(1 << 16, reader),
            writer,
            inbox,
            requests: 0,
            waiting: VecDeque::new(),
        };
        let greeting = raw.line().await?;
        assert!(is_info(&greeting), "the server greeted with {greeting:?}");
        let connect =
            json!({"verbose": false, "headers": true, "no_responders": true, "lang": "raw", "protocol": 1});
        let hello = format!("CONNECT {connect}\r\nSUB {}.> {SID}\r\nPING\r\n", raw.inbox);
        raw.write(hello.as_bytes()).await?;
        raw.pong().await?;
        Ok(raw)
    }

    /// The subject on which answer number `n` comes.
    pub(crate) fn reply(&self, n: u64) -> String {
        format!("{}.{n}", self.inbox)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).await
    }

    /// Waits until the server has read what was written.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        self.write(b"PING\r\n").await?;
        self.pong().await
    }

    /// Reads up to the answer to a ping; what comes before it waits.
    async fn pong(&mut self) -> Result<()> {
        while let Said::Message(message) = self.said().await? {
            self.waiting.push_back(message);
        }
        Ok(())
    }

    /// `PUB`, as bytes to be written.
    pub(crate) fn publish(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
        let mut bytes = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// `HPUB`, as bytes to be written.
    pub(crate) fn publish_with(
        subject: &str,
        reply: &str,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Vec<u8> {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let block = format!("NATS/1.0\r\n{lines}\r\n");
        let total = block.len() + payload.len();
        let mut bytes = format!("HPUB {subject} {reply} {} {total}\r\n{block}", block.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// Writes one request and reads its answer.
    pub(crate) async fn request(&mut self, subject: &str, payload: &[u8]) -> Result<Message> {
        let reply = self.next_reply();
        self.write(&Self::publish(subject, &reply, payload)).await?;
        self.answer(&reply).await
    }

    /// A request with headers.
    pub(crate) async fn request_with(
        &mut self,
        subject: &str,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<Message> {
        let reply = self.next_reply();
        self.write(&Self::publish_with(subject, &reply, headers, payload)).await?;
        self.answer(&reply).await
    }

    /// A request of JetStream's API; panics when it is refused.
    pub(crate) async fn api(&mut self, call: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.request(&format!("$JS.API.{call}"), &body).await?;
        let value: Value = serde_json::from_slice(&answer.payload)
            .unwrap_or_else(|error| panic!("{call}: {error}: {:?}", answer.payload));
        assert!(value.get("error").is_none(), "{call} was refused: {value}");
        Ok(value)
    }

    fn next_reply(&mut self) -> String {
        self.requests += 1;
        format!("{}.r{}", self.inbox, self.requests)
    }

    async fn answer(&mut self, reply: &str) -> Result<Message> {
        let mut before = Vec::new();
        loop {
            let next = tokio::time::timeout(PATIENCE, self.message()).await;
            let message = next.unwrap_or_else(|_| panic!("no answer on {reply}; before came {before:?}"))?;
            if message.subject == reply {
                self.waiting.extend(before);
                return Ok(message);
            }
            before.push(message);
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Result<Message> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(message);
        }
        match self.said().await? {
            Said::Message(message) => Ok(message),
            Said::Pong => panic!("the server said PONG and was not asked"),
        }
    }

    /// The next that the server says.
    async fn said(&mut self) -> Result<Said> {
        loop {
            let line = self.line().await?;
            let words: Vec<&str> = line.split(' ').collect();
            let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("the server said {line:?}"));
            let (subject, reply, header, total) = match *words.as_slice() {
                ["PING"] => {
                    self.write(b"PONG\r\n").await?;
                    continue;
                }
                ["PONG"] => return Ok(Said::Pong),
                // Once more after `CONNECT`, and whenever something changes.
                ["INFO", ..] if is_info(&line) => continue,
                ["MSG", subject, SID, total] => (subject, "", 0, number(total)),
                ["MSG", subject, SID, reply, total] => (subject, reply, 0, number(total)),
                ["HMSG", subject, SID, header, total] => (subject, "", number(header), number(total)),
                ["HMSG", subject, SID, reply, header, total] => {
                    (subject, reply, number(header), number(total))
                }
                _ => panic!("the server said {line:?}"),
            };
            assert!(header <= total, "the server said {line:?}");
            let mut bytes: Vec<u8> = vec![0; total + 2];
            self.reader.read_exact(&mut bytes).await?;
            let end = bytes.split_off(total);
            assert_eq!(end.as_slice(), b"\r\n", "the end of what {line:?} announced");
            let payload = bytes.split_off(header);
            let headers = String::from_utf8(bytes)
                .unwrap_or_else(|error| panic!("{line:?} has headers that are no text: {error}"));
            let (subject, reply) = (subject.to_owned(), reply.to_owned());
            return Ok(Said::Message(Message { subject, reply, headers, payload }));
        }
    }

    /// A line without its end.
    async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let text = line.strip_suffix(b"\r\n").and_then(|text| std::str::from_utf8(text).ok());
        Ok(text.unwrap_or_else(|| panic!("the server said {:?}", line.escape_ascii().to_string())).to_owned())
    }

    /// Every message of a stream to which nobody writes at this moment, in order.
    pub(crate) async fn all(&mut self, stream: &str) -> Result<Vec<Message>> {
        let info = self.api(&format!("STREAM.INFO.{stream}"), &Value::Null).await?;
        let count = info["state"]["messages"].as_u64().expect("a count");
        // In portions: a connection that is sent more than it reads is closed.
        let config = json!({"ack_policy": "none", "deliver_policy": "all", "mem_storage": true,
            "inactive_threshold": 300_000_000_000_u64});
        let body = json!({"stream_name": stream, "config": config});
        let created = self.api(&format!("CONSUMER.CREATE.{stream}"), &body).await?;
        let name = created["name"].as_str().expect("a name").to_owned();
        let (next, inbox) = (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"), self.next_reply());
        let mut all = Vec::new();
        while (all.len() as u64) < count {
            let batch = (count - all.len() as u64).min(PORTION);
            let pull = json!({"batch": batch, "expires": 10_000_000_000_u64}).to_string();
            self.write(&Self::publish(&next, &inbox, pull.as_bytes())).await?;
            for _ in 0..batch {
                let read = tokio::time::timeout(PATIENCE, self.message()).await;
                let message =
                    read.unwrap_or_else(|_| panic!("{} of {count} messages of {stream} came", all.len()))?;
                let here = all.len();
                assert_eq!(
                    message.status(),
                    None,
                    "{here} of {count} messages of {stream}: {}",
                    message.headers
                );
                all.push(message);
            }
        }
        self.api(&format!("CONSUMER.DELETE.{stream}.{name}"), &Value::Null).await?;
        Ok(all)
    }
}
