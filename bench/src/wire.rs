//! A NATS connection with blocking reads and as little between socket and caller as can be.
//!
//! It understands what a server sends to a client (MSG, HMSG, PING, PONG, +OK, -ERR, INFO) and writes whatever bytes it
//! is given. A message borrows from the read buffer until the next one is asked for. Rows about the plain broker count
//! frames of a known length instead (`flow.rs`): parsing would be the bottleneck there.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

/// How long a server may be silent before a run gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One connection, its handshake done.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What was read and not yet taken: `buffer[start..end]`.
    start: usize,
    end: usize,
    info: Value,
}

/// A message, in the connection's buffer.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    subject: Range<usize>,
    reply: Option<Range<usize>>,
    headers: Range<usize>,
    payload: Range<usize>,
}

enum Frame {
    Message(Message),
    Pong,
}

impl Connection {
    /// Connects, reads INFO, sends CONNECT, and waits for the answer to a PING.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        Self::open_with(address, b"")
    }

    /// The same; `first` is sent with the handshake and taken by the server when this returns.
    pub(crate) fn open_with(address: SocketAddr, first: &[u8]) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self { stream, buffer: vec![0; 4096], start: 0, end: 0, info: Value::Null };
        let line = connection.line()?;
        let text = connection.buffer.get(line).unwrap_or_default();
        let info = text.strip_prefix(b"INFO ").and_then(|json| serde_json::from_slice(json).ok());
        connection.info = info.ok_or_else(|| {
            Error::new(ErrorKind::InvalidData, format!("{address} greets with no INFO: not a NATS server"))
        })?;
        let mut hello = Vec::from(
            &br#"CONNECT {"verbose":false,"pedantic":false,"lang":"weir-bench","version":"0","protocol":1,"headers":true,"no_responders":true}"#[..],
        );
        hello.extend_from_slice(b"\r\n");
        hello.extend_from_slice(first);
        connection.send(&hello)?;
        connection.ping()?;
        Ok(connection)
    }

    /// What the server said about itself.
    pub(crate) fn info(&self) -> &Value {
        &self.info
    }

    /// The socket; what was read ahead stays here, so take it right after the handshake.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Writes all of `bytes`.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// Returns once the server has taken all that was sent. A message on the way is an error: nobody would see it.
    pub(crate) fn ping(&mut self) -> Result<()> {
        self.send(b"PING\r\n")?;
        match self.frame()? {
            Frame::Pong => Ok(()),
            Frame::Message(message) => Err(Error::new(
                ErrorKind::InvalidData,
                format!("a message on '{}' came before PONG", self.text(&message.subject)),
            )),
        }
    }

    /// The next message.
    pub(crate) fn message(&mut self) -> Result<Message> {
        loop {
            if let Frame::Message(message) = self.frame()? {
                return Ok(message);
            }
        }
    }

    /// Whether a whole message or a part of one has been read and not been taken.
    pub(crate) fn has_more(&self) -> bool {
        self.start < self.end
    }

    /// Sends `payload` to `subject` and returns the answer. Needs a subscription of its own, so not for hot paths.
    pub(crate) fn request(&mut self, subject: &str, payload: &str) -> Result<Value> {
        const INBOX: &str = "_INBOX.bench.request";
        self.send(
            format!(
                "SUB {INBOX} 999\r\nUNSUB 999 1\r\nPUB {subject} {INBOX} {}\r\n{payload}\r\n",
                payload.len()
            )
            .as_bytes(),
        )?;
        let about = |error: Error| Error::new(error.kind(), format!("{subject}: {error}"));
        let message = self.message().map_err(about)?;
        if self.payload(&message).is_empty() {
            return Err(Error::other(format!(
                "nobody answers on {subject}: {}",
                self.text(&message.headers)
            )));
        }
        let answer: Value = serde_json::from_slice(self.payload(&message))
            .map_err(|error| Error::other(format!("{subject} answered no JSON: {error}")))?;
        match answer.get("error") {
            Some(error) => Err(Error::other(format!("{subject}: {error}"))),
            None => Ok(answer),
        }
    }

    /// The payload of the message that came last.
    pub(crate) fn payload(&self, message: &Message) -> &[u8] {
        self.buffer.get(message.payload.clone()).unwrap_or_default()
    }

    /// The reply subject of the message that came last; empty if it has none.
    pub(crate) fn reply(&self, message: &Message) -> &[u8] {
        message.reply.clone().and_then(|reply| self.buffer.get(reply)).unwrap_or_default()
    }

    fn text(&self, range: &Range<usize>) -> String {
        String::from_utf8_lossy(self.buffer.get(range.clone()).unwrap_or_default()).into_owned()
    }

    fn frame(&mut self) -> Result<Frame> {
        loop {
            let line = self.line()?;
            let bytes = self.buffer.get(line.clone()).unwrap_or_default();
            match bytes {
                [b'M', b'S', b'G', b' ', ..] => return self.rest(line, false).map(Frame::Message),
                [b'H', b'M', b'S', b'G', b' ', ..] => return self.rest(line, true).map(Frame::Message),
                b"PONG" => return Ok(Frame::Pong),
                b"PING" => self.stream.write_all(b"PONG\r\n")?,
                b"+OK" => {}
                _ if bytes.starts_with(b"INFO ") => {}
                _ => return Err(Error::other(format!("the server says {}", self.text(&line)))),
            }
        }
    }

    /// The message whose control line is `line`: waits for its body.
    fn rest(&mut self, line: Range<usize>, headers: bool) -> Result<Message> {
        let bad = |line: &[u8]| {
            Error::new(ErrorKind::InvalidData, format!("not understood: {}", String::from_utf8_lossy(line)))
        };
        let bytes = self.buffer.get(line.clone()).unwrap_or_default();
        // name subject sid [reply] [headers] total
        let mut words = [const { 0..0 }; 6];
        let mut count = 0;
        let mut from = 0;
        for to in memchr::memchr_iter(b' ', bytes).chain([bytes.len()]) {
            let Some(word) = words.get_mut(count) else { return Err(bad(bytes)) };
            *word = from..to;
            count += 1;
            from = to + 1;
        }
        let sizes = if headers { 2 } else { 1 };
        let number = |word: usize| {
            let digits = bytes.get(words.get(word)?.clone())?;
            digits.iter().try_fold(0usize, |value, digit| {
                digit.is_ascii_digit().then(|| value * 10 + usize::from(digit - b'0'))
            })
        };
        if count < 3 + sizes || count > 4 + sizes {
            return Err(bad(bytes));
        }
        let (Some(total), Some(head)) =
            (number(count - 1), if headers { number(count - 2) } else { Some(0) })
        else {
            return Err(bad(bytes));
        };
        if head > total {
            return Err(bad(bytes));
        }
        let line_start = line.start;
        let length = line.len() + 2;
        // Reading the body may move what is in the buffer: keep distances from the line's start.
        let moved = self.fill(line_start, length + total + 2)?;
        let at = |range: &Range<usize>| moved + range.start..moved + range.end;
        let [_, subject, _, reply, ..] = &words;
        let body = moved + length;
        self.start = body + total + 2;
        Ok(Message {
            subject: at(subject),
            reply: (count == 4 + sizes).then(|| at(reply)),
            headers: body..body + head,
            payload: body + head..body + total,
        })
    }

    /// Takes the next line; its end is not part of the range.
    fn line(&mut self) -> Result<Range<usize>> {
        let mut searched = 0;
        loop {
            let waiting = self.buffer.get(self.start + searched..self.end).unwrap_or_default();
            if let Some(length) = memchr::memchr(b'\n', waiting) {
                let line = self.start..self.start + searched + length;
                self.start = line.end + 1;
                return Ok(line.start..line.end.saturating_sub(1).max(line.start));
            }
            searched = self.end - self.start;
            self.read(self.start)?;
        }
    }

    /// Reads until `length` bytes from `from` on are in the buffer; returns where `from` lies now.
    fn fill(&mut self, mut from: usize, length: usize) -> Result<usize> {
        while self.end - from < length {
            from = self.read_keeping(from, length)?;
        }
        Ok(from)
    }

    fn read(&mut self, keep: usize) -> Result<()> {
        let kept = self.read_keeping(keep, 0)?;
        self.start = kept;
        Ok(())
    }

    /// One read. What lies from `keep` on is kept, perhaps elsewhere: returns where.
    fn read_keeping(&mut self, keep: usize, length: usize) -> Result<usize> {
        let mut kept = keep;
        if self.buffer.len() - self.end < self.buffer.len() / 4 || self.buffer.len() - keep < length {
            self.buffer.copy_within(keep..self.end, 0);
            self.end -= keep;
            kept = 0;
            let wanted = (length + 2).max(self.end * 2).max(65_536);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
        }
        let read = match self.stream.read(self.buffer.get_mut(self.end..).unwrap_or_default()) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!("the server was silent for {} s", PATIENCE.as_secs()),
                ));
            }
            Err(error) => return Err(error),
        };
        self.end += read;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A peer that greets, answers the handshake and then sends `script` in pieces of `piece` bytes.
    fn peer(script: &'static [u8], piece: usize) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(b"INFO {\"version\":\"1\"}\r\n").unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"PING\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                seen.push(byte[0]);
            }
            stream.write_all(b"PONG\r\n").unwrap();
            for part in script.chunks(piece) {
                stream.write_all(part).unwrap();
            }
            // Read on until the other side goes: a socket closed with bytes unread takes back what it has written.
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        Connection::open(address).unwrap()
    }

    #[test]
    fn messages_are_the_same_however_their_bytes_are_split() {
        let script = b"MSG a.b 1 5\r\nhello\r\nPING\r\nMSG a 22 in.box 0\r\n\r\nHMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
        for piece in [1, 2, 3, 7, 1000] {
            let mut connection = peer(script, piece);
            assert_eq!(connection.info()["version"], "1");
            let first = connection.message().unwrap();
            assert_eq!((connection.payload(&first), connection.reply(&first)), (&b"hello"[..], &b""[..]));
            assert_eq!(connection.text(&first.subject), "a.b");
            let second = connection.message().unwrap();
            assert_eq!((connection.payload(&second), connection.reply(&second)), (&b""[..], &b"in.box"[..]));
            let third = connection.message().unwrap();
            assert_eq!((connection.payload(&third), connection.reply(&third)), (&b"hi"[..], &b"r"[..]));
            assert_eq!(connection.text(&third.headers), "NATS/1.0\r\n\r\n");
        }
    }

    #[test]
    fn a_message_larger_than_the_buffer_comes_whole() {
        let body = [b"MSG a 1 100000\r\n".to_vec(), vec![b'x'; 100_000], b"\r\nMSG a 1 1\r\ny\r\n".to_vec()]
            .concat();
        let mut connection = peer(body.leak(), 30_000);
        let large = connection.message().unwrap();
        assert!(connection.payload(&large) == vec![b'x'; 100_000]);
        let small = connection.message().unwrap();
        assert_eq!(connection.payload(&small), b"y");
    }

    #[test]
    fn errors_carry_the_words_of_the_server() {
        let error = peer(b"-ERR 'Slow Consumer'\r\n", 100).message().unwrap_err().to_string();
        assert_eq!(error, "the server says -ERR 'Slow Consumer'");
        let error = peer(b"MSG a 1 x\r\n", 100).message().unwrap_err().to_string();
        assert_eq!(error, "not understood: MSG a 1 x");
        let error = peer(b"", 100).message().unwrap_err().to_string();
        assert_eq!(error, "the server closed the connection");
    }
}
