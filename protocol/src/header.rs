//! Header blocks: the bytes between the control line and the payload of an HPUB or HMSG.
//!
//! A block is `NATS/1.0[ <status>[ <description>]]\r\n`, then `Name: value\r\n` lines, then an empty line; its length
//! counts all of it. The server passes blocks on as they came and looks only at single names, so the functions here work
//! on raw bytes: the lookup is case-sensitive and takes the first occurrence, as nats-server's does. [`Headers`] is the
//! parsed form, for code that composes and reads whole blocks.
//!
//! The builder can write no broken block: line breaks in a value become spaces.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memmem;

/// What each block begins with.
pub const VERSION: &[u8] = b"NATS/1.0";
/// The block that says nothing: 12 bytes.
pub const EMPTY: &[u8] = b"NATS/1.0\r\n\r\n";
/// The largest block a stream stores, in bytes; larger ones are refused with JetStream error 10097.
pub const MAX_STORED: usize = 65_535;

const CRLF: &[u8] = b"\r\n";

/// The status and its description on the first line of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<'a> {
    /// Such as 503.
    pub code: u16,
    /// Such as `No Messages`; may be empty.
    pub description: &'a [u8],
}

/// The start of the first line `name:`, which stands after a line break.
fn find(block: &[u8], name: &[u8]) -> Option<usize> {
    if name.is_empty() {
        return None;
    }
    memmem::find_iter(block, name).find(|&at| {
        let before = block.get(..at).unwrap_or_default();
        let after = block.get(at..).and_then(|b| b.get(name.len()..)).unwrap_or_default();
        before.ends_with(CRLF) && after.first() == Some(&b':')
    })
}

/// The bytes up to the next line break, and those after it.
fn split_line(block: &[u8]) -> (&[u8], &[u8]) {
    match memmem::find(block, CRLF).and_then(|at| block.split_at_checked(at)) {
        Some((line, rest)) => (line, rest.get(CRLF.len()..).unwrap_or_default()),
        None => (block, &[]),
    }
}

fn trim_spaces(mut value: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = value {
        value = rest;
    }
    value
}

/// The value of the first line with exactly this name, without the spaces before it; an empty block has no lines.
pub fn get(block: &[u8], name: impl AsRef<[u8]>) -> Option<&[u8]> {
    let name = name.as_ref();
    let line = block.get(find(block, name)?..)?;
    let value = line.get(name.len()..)?.get(1..)?;
    Some(split_line(trim_spaces(value)).0)
}

/// As [`get`], for values that must be UTF-8; a value that is not counts as absent.
pub fn get_str(block: &[u8], name: impl AsRef<[u8]>) -> Option<&str> {
    std::str::from_utf8(get(block, name)?).ok()
}

/// The status of a block, if its first line has one: three digits, then a description.
pub fn status(block: &[u8]) -> Option<Status<'_>> {
    let (line, _) = split_line(block.strip_prefix(VERSION)?);
    let line = trim_spaces(line);
    let code = line.get(..3)?;
    if !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = std::str::from_utf8(code).ok()?.parse().ok()?;
    let description = line.get(3..)?;
    Some(Status { code, description: trim_spaces(description) })
}

/// Whether the block has the shape that this module's head describes, as far as its first and its last line go.
pub fn is_valid(block: &[u8]) -> bool {
    let Some(after) = block.strip_prefix(VERSION) else { return false };
    matches!(after.first(), Some(b' ' | b'\r')) && after.ends_with(b"\r\n\r\n")
}

/// The name and value of every line in order, repeated names as often as they come. Lines without a colon are passed over.
pub fn iter(block: &[u8]) -> Iter<'_> {
    let (_, lines) = split_line(block);
    Iter { lines }
}

/// See [`iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    lines: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        while !self.lines.is_empty() {
            let (line, rest) = split_line(self.lines);
            if line.is_empty() {
                break;
            }
            self.lines = rest;
            if let Some((name, value)) = memchr::memchr(b':', line).and_then(|at| line.split_at_checked(at)) {
                return Some((name, trim_spaces(value.get(1..).unwrap_or_default())));
            }
        }
        self.lines = &[];
        None
    }
}

/// The block without any line of this name; empty when nothing but an empty block is left.
pub fn remove(block: &[u8], name: impl AsRef<[u8]>) -> Bytes {
    let name = name.as_ref();
    remove_where(block, |line| line == name)
}

/// The block without the lines whose names begin with `prefix`; empty when nothing but an empty block is left.
pub fn remove_prefix(block: &[u8], prefix: impl AsRef<[u8]>) -> Bytes {
    let prefix = prefix.as_ref();
    remove_where(block, |line| line.starts_with(prefix))
}

fn remove_where(block: &[u8], unwanted: impl Fn(&[u8]) -> bool) -> Bytes {
    let (first, mut rest) = split_line(block);
    let mut out = BytesMut::with_capacity(block.len());
    out.put_slice(first);
    out.put_slice(CRLF);
    while !rest.is_empty() {
        let (line, after) = split_line(rest);
        let name = memchr::memchr(b':', line).and_then(|at| line.get(..at));
        if !name.is_some_and(&unwanted) {
            out.put_slice(line);
            out.put_slice(CRLF);
        }
        rest = after;
    }
    if out.len() <= EMPTY.len() { Bytes::new() } else { out.freeze() }
}

/// The block without the status on its first line, as it is stored; empty when nothing but an empty block is left.
///
/// Bytes that are no header block come back as they are.
pub fn strip_status(block: &Bytes) -> Bytes {
    if !block.starts_with(VERSION) {
        return block.clone();
    }
    let (first, rest) = split_line(block);
    if first.len() == VERSION.len() {
        return if block.len() <= EMPTY.len() { Bytes::new() } else { block.clone() };
    }
    if rest.len() <= CRLF.len() {
        return Bytes::new();
    }
    let mut out = BytesMut::with_capacity(block.len());
    out.put_slice(VERSION);
    out.put_slice(CRLF);
    out.put_slice(rest);
    out.freeze()
}

/// The block with this name set to this value: the first line of the name is changed, else one is added at the end.
pub fn set(block: &[u8], name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Bytes {
    let (name, value) = (name.as_ref(), value.as_ref());
    let Some((before, line)) = find(block, name).and_then(|at| block.split_at_checked(at)) else {
        let mut builder = Builder::extend(block);
        builder.add(name, value);
        return builder.finish();
    };
    let (_, after) = split_line(line);
    let mut out = BytesMut::with_capacity(block.len().saturating_add(value.len()));
    out.put_slice(before);
    put_line(&mut out, name, value);
    out.put_slice(after);
    out.freeze()
}

/// Why a header line cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Empty, or with a colon, white space or a control character.
    #[error(
        "header name {0:?} is not valid: it must not be empty or contain ':', white space or control characters"
    )]
    Name(String),
    /// CR or LF.
    #[error("the value of header {0:?} contains a line break")]
    Value(String),
    /// Not `NATS/1.0 ... \r\n\r\n`.
    #[error("the header block does not begin with NATS/1.0 or does not end with an empty line")]
    Block,
}

/// Whether `name` can stand before the colon of a header line.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| (0x21..0x7f).contains(b) && *b != b':')
}

fn put_text(out: &mut BytesMut, text: &[u8]) {
    if memchr::memchr2(b'\r', b'\n', text).is_none() {
        out.put_slice(text);
    } else {
        out.extend(text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
    }
}

fn put_line(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    put_text(out, name);
    out.put_slice(b": ");
    put_text(out, value);
    out.put_slice(CRLF);
}

/// Composes a block line by line.
#[derive(Debug, Clone)]
pub struct Builder {
    out: BytesMut,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A block without status.
    pub fn new() -> Builder {
        let mut out = BytesMut::with_capacity(64);
        out.put_slice(VERSION);
        out.put_slice(CRLF);
        Builder { out }
    }

    /// A block whose first line carries a status; no description when it is empty.
    pub fn with_status(code: u16, description: impl AsRef<[u8]>) -> Builder {
        let description = description.as_ref();
        let mut out = BytesMut::with_capacity(64);
        out.put_slice(VERSION);
        out.put_slice(format!(" {code}").as_bytes());
        if !description.is_empty() {
            out.put_u8(b' ');
            put_text(&mut out, description);
        }
        out.put_slice(CRLF);
        Builder { out }
    }

    /// Goes on with a finished block, which may be empty.
    pub fn extend(block: &[u8]) -> Builder {
        let Some(open) = block.strip_suffix(CRLF).filter(|open| open.ends_with(CRLF)) else {
            return Builder::new();
        };
        let mut out = BytesMut::with_capacity(block.len().saturating_add(64));
        out.put_slice(open);
        Builder { out }
    }

    /// Adds a line; the name is the program's own. Line breaks in the value become spaces.
    pub fn add(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Builder {
        debug_assert!(
            is_valid_name(name.as_ref()),
            "header name {:?}",
            String::from_utf8_lossy(name.as_ref())
        );
        put_line(&mut self.out, name.as_ref(), value.as_ref());
        self
    }

    /// Adds a line whose value is a number.
    pub fn add_number(&mut self, name: impl AsRef<[u8]>, value: u64) -> &mut Builder {
        self.add(name, value.to_string())
    }

    /// Adds a line that somebody else chose: a name or value that would break the block is an error.
    pub fn try_add(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Builder, HeaderError> {
        let (name, value) = (name.as_ref(), value.as_ref());
        if !is_valid_name(name) {
            return Err(HeaderError::Name(String::from_utf8_lossy(name).into_owned()));
        }
        if memchr::memchr2(b'\r', b'\n', value).is_some() {
            return Err(HeaderError::Value(String::from_utf8_lossy(name).into_owned()));
        }
        put_line(&mut self.out, name, value);
        Ok(self)
    }

    /// The block with its closing empty line.
    pub fn finish(&mut self) -> Bytes {
        let mut out = std::mem::take(&mut self.out);
        out.put_slice(CRLF);
        out.freeze()
    }
}

/// A block in parsed form: the status and the lines in order, repeated names kept, case kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    status: Option<(u16, Bytes)>,
    lines: Vec<(Bytes, Bytes)>,
}

impl Headers {
    /// No status, no line.
    pub fn new() -> Headers {
        Headers::default()
    }

    /// Reads a block; no bytes at all are no headers.
    pub fn parse(block: &Bytes) -> Result<Headers, HeaderError> {
        if block.is_empty() {
            return Ok(Headers::default());
        }
        if !is_valid(block) {
            return Err(HeaderError::Block);
        }
        Ok(Headers {
            status: status(block).map(|s| (s.code, block.slice_ref(s.description))),
            lines: iter(block).map(|(name, value)| (block.slice_ref(name), block.slice_ref(value))).collect(),
        })
    }

    /// Whether there is neither a status nor a line.
    pub fn is_empty(&self) -> bool {
        self.status.is_none() && self.lines.is_empty()
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The status of the first line.
    pub fn status(&self) -> Option<Status<'_>> {
        self.status.as_ref().map(|(code, description)| Status { code: *code, description })
    }

    /// The first value of exactly this name.
    pub fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// As [`Self::get`], for values that must be UTF-8; a value that is not counts as absent.
    pub fn get_str(&self, name: impl AsRef<[u8]>) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// All values of exactly this name in order.
    pub fn get_all(&self, name: impl AsRef<[u8]>) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(move |(n, _)| n.as_ref() == name.as_ref()).map(|(_, value)| value.as_ref())
    }

    /// All lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Adds a line after the others.
    pub fn append(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Headers, HeaderError> {
        let mut probe = Builder::new();
        probe.try_add(name.as_ref(), value.as_ref())?;
        self.lines.push((Bytes::copy_from_slice(name.as_ref()), Bytes::copy_from_slice(value.as_ref())));
        Ok(self)
    }

    /// Makes this the only line of its name, at the end.
    pub fn insert(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<&mut Headers, HeaderError> {
        let name = name.as_ref();
        let kept = self.lines.iter().filter(|(n, _)| n.as_ref() != name).cloned().collect();
        let before = std::mem::replace(&mut self.lines, kept);
        match self.append(name, value) {
            Ok(_) => Ok(self),
            Err(error) => {
                self.lines = before;
                Err(error)
            }
        }
    }

    /// Removes every line of exactly this name; says whether there was one.
    pub fn remove(&mut self, name: impl AsRef<[u8]>) -> bool {
        let before = self.lines.len();
        self.lines.retain(|(n, _)| n.as_ref() != name.as_ref());
        self.lines.len() != before
    }

    /// The block; no bytes at all when there is nothing to say.
    pub fn to_block(&self) -> Bytes {
        if self.is_empty() {
            return Bytes::new();
        }
        let mut builder = match &self.status {
            Some((code, description)) => Builder::with_status(*code, description),
            None => Builder::new(),
        };
        for (name, value) in &self.lines {
            put_line(&mut builder.out, name, value);
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BLOCK: &[u8] =
        b"NATS/1.0\r\nFoo-Bar: X\r\nFoo: one\r\nfoo:   two\r\nFoo:three\r\nEmpty:\r\nColon: a:b\r\n\r\n";

    #[test]
    fn lookup_is_exact_and_takes_the_first() {
        let table: &[(&str, Option<&str>)] = &[
            ("Foo", Some("one")),
            ("foo", Some("two")),
            ("Foo-Bar", Some("X")),
            ("FOO", None),
            ("Bar", None),
            ("oo", None),
            ("Empty", Some("")),
            ("Colon", Some("a:b")),
            ("one", None),
            ("", None),
            ("NATS/1.0", None),
        ];
        for &(name, value) in table {
            assert_eq!(get_str(BLOCK, name), value, "{name}");
        }
        assert_eq!(get(b"", "Foo"), None);
        assert_eq!(get(b"NATS/1.0\r\nFoo: cut", "Foo"), Some(&b"cut"[..]));
        assert_eq!(get(b"NATS/1.0\r\nFoo", "Foo"), None);
        // The name as part of a value or of another name is passed over.
        assert_eq!(get(b"NATS/1.0\r\nA: Foo: no\r\nXFoo: no\r\nFoo: yes\r\n\r\n", "Foo"), Some(&b"yes"[..]));
    }

    #[test]
    fn status_lines() {
        let table: &[(&str, Option<(u16, &str)>)] = &[
            ("NATS/1.0\r\n\r\n", None),
            ("NATS/1.0 503\r\n\r\n", Some((503, ""))),
            ("NATS/1.0 503\r\nNats-Subject: foo\r\n\r\n", Some((503, ""))),
            ("NATS/1.0 404 No Messages\r\n\r\n", Some((404, "No Messages"))),
            ("NATS/1.0   409   Consumer Deleted\r\n\r\n", Some((409, "Consumer Deleted"))),
            ("NATS/1.0 abc\r\n\r\n", None),
            ("NATS/1.0 50\r\n\r\n", None),
            ("HTTP/1.1 503\r\n\r\n", None),
            ("", None),
        ];
        for &(block, expected) in table {
            let found =
                status(block.as_bytes()).map(|s| (s.code, std::str::from_utf8(s.description).unwrap()));
            assert_eq!(found, expected, "{block:?}");
        }
    }

    #[test]
    fn removal_takes_every_line_of_the_name_and_no_other() {
        assert_eq!(
            remove(BLOCK, "Foo"),
            &b"NATS/1.0\r\nFoo-Bar: X\r\nfoo:   two\r\nEmpty:\r\nColon: a:b\r\n\r\n"[..]
        );
        assert_eq!(remove(BLOCK, "None"), BLOCK);
        assert_eq!(remove(b"NATS/1.0\r\nFoo: 1\r\n\r\n", "Foo"), &b""[..]);
        assert_eq!(remove(b"NATS/1.0 503\r\nFoo: 1\r\n\r\n", "Foo"), &b"NATS/1.0 503\r\n\r\n"[..]);
        assert_eq!(
            remove_prefix(BLOCK, "Foo"),
            &b"NATS/1.0\r\nfoo:   two\r\nEmpty:\r\nColon: a:b\r\n\r\n"[..]
        );
    }

    #[test]
    fn a_stored_block_has_no_status() {
        let strip = |block: &'static [u8]| strip_status(&Bytes::from_static(block));
        assert_eq!(strip(b"NATS/1.0 503 Gone\r\nFoo: 1\r\n\r\n"), &b"NATS/1.0\r\nFoo: 1\r\n\r\n"[..]);
        assert_eq!(strip(b"NATS/1.0 503\r\n\r\n"), &b""[..]);
        assert_eq!(strip(b"NATS/1.0\r\n\r\n"), &b""[..]);
        assert_eq!(strip(b"NATS/1.0\r\nFoo: 1\r\n\r\n"), &b"NATS/1.0\r\nFoo: 1\r\n\r\n"[..]);
        assert_eq!(strip(b"junk"), &b"junk"[..]);
        assert_eq!(strip(b""), &b""[..]);
    }

    #[test]
    fn the_builder_writes_what_a_server_sends() {
        assert_eq!(Builder::new().finish(), EMPTY);
        assert_eq!(
            Builder::with_status(503, "").add("Nats-Subject", "foo").finish(),
            &b"NATS/1.0 503\r\nNats-Subject: foo\r\n\r\n"[..]
        );
        assert_eq!(
            Builder::with_status(408, "Request Timeout").add_number("Nats-Pending-Messages", 7).finish(),
            &b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 7\r\n\r\n"[..]
        );
        // Nobody can smuggle a second line in through a value.
        assert_eq!(Builder::new().add("A", "x\r\nB: y").finish(), &b"NATS/1.0\r\nA: x  B: y\r\n\r\n"[..]);
        let mut builder = Builder::new();
        assert_eq!(builder.try_add("A", "x\ny").unwrap_err(), HeaderError::Value("A".into()));
        assert_eq!(builder.try_add("A b", "x").unwrap_err(), HeaderError::Name("A b".into()));
        assert_eq!(builder.try_add("", "x").unwrap_err(), HeaderError::Name(String::new()));
        assert_eq!(builder.try_add("A:", "x").unwrap_err(), HeaderError::Name("A:".into()));
        assert_eq!(builder.finish(), EMPTY);
        assert_eq!(
            Builder::extend(b"NATS/1.0\r\nA: 1\r\n\r\n").add("B", "2").finish(),
            &b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n"[..]
        );
        assert_eq!(Builder::extend(b"").add("B", "2").finish(), &b"NATS/1.0\r\nB: 2\r\n\r\n"[..]);
    }

    #[test]
    fn setting_changes_the_first_line_or_adds_one() {
        assert_eq!(
            set(b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n", "A", "33"),
            &b"NATS/1.0\r\nA: 33\r\nB: 2\r\n\r\n"[..]
        );
        assert_eq!(set(b"NATS/1.0\r\nA: 1\r\n\r\n", "B", "2"), &b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n"[..]);
        assert_eq!(set(b"", "B", "2"), &b"NATS/1.0\r\nB: 2\r\n\r\n"[..]);
    }

    #[test]
    fn parsed_headers_keep_case_order_and_repetition() {
        let mut headers = Headers::parse(&Bytes::from_static(BLOCK)).unwrap();
        assert_eq!(headers.get_all("Foo").collect::<Vec<_>>(), [&b"one"[..], b"three"]);
        assert_eq!(headers.len(), 6);
        headers.insert("Foo", "last").unwrap();
        assert_eq!(headers.get_all("Foo").collect::<Vec<_>>(), [&b"last"[..]]);
        assert!(headers.remove("foo"));
        assert!(!headers.remove("foo"));
        assert!(headers.insert("Foo", "a\r\nb").is_err());
        assert_eq!(headers.get("Foo"), Some(&b"last"[..]));
        assert_eq!(
            headers.to_block(),
            &b"NATS/1.0\r\nFoo-Bar: X\r\nEmpty: \r\nColon: a:b\r\nFoo: last\r\n\r\n"[..]
        );
        assert!(Headers::parse(&Bytes::new()).unwrap().to_block().is_empty());
        assert_eq!(Headers::parse(&Bytes::from_static(b"NATS/1.0\r\n")).unwrap_err(), HeaderError::Block);
        assert_eq!(
            Headers::parse(&Bytes::from_static(b"NATS/1.0x\r\n\r\n")).unwrap_err(),
            HeaderError::Block
        );
    }

    fn line() -> impl Strategy<Value = (String, String)> {
        ("[A-Ca-c-]{1,3}", "[!-~]{0,6}")
    }

    proptest! {
        #[test]
        fn block_and_parsed_form_agree(lines in proptest::collection::vec(line(), 0..6), code in proptest::option::of(100u16..600)) {
            let mut builder = match code { Some(code) => Builder::with_status(code, "Why Not"), None => Builder::new() };
            for (name, value) in &lines {
                builder.try_add(name, value).unwrap();
            }
            let block = builder.finish();
            prop_assert!(is_valid(&block));
            let headers = Headers::parse(&block).unwrap();
            if !headers.is_empty() {
                prop_assert_eq!(headers.to_block(), block.clone());
            }
            prop_assert_eq!(status(&block).map(|s| s.code), code);
            for (name, _) in &lines {
                let first = lines.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_bytes());
                prop_assert_eq!(get(&block, name), first);
                prop_assert_eq!(headers.get(name), first);
                let mut rest = headers.clone();
                rest.remove(name);
                prop_assert_eq!(remove(&block, name), rest.to_block());
            }
            prop_assert_eq!(iter(&block).count(), lines.len());
        }

        #[test]
        fn any_bytes_are_read_without_panic(block in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b' '), Just(b'A'), any::<u8>()], 0..64), version in any::<bool>()) {
            let mut bytes = if version { VERSION.to_vec() } else { Vec::new() };
            bytes.extend(block);
            let block = Bytes::from(bytes);
            let _ = (get(&block, "A"), status(&block), iter(&block).count(), Headers::parse(&block));
            let _ = (remove(&block, "A"), strip_status(&block), set(&block, "A", "b"));
            prop_assert!(get(&remove(&block, "A"), "A").is_none());
            prop_assert!(status(&strip_status(&block)).is_none());
        }
    }
}
