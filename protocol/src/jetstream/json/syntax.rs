//! JSON text as a tree that keeps the raw bytes of each value.
//!
//! What is refused, with which words and at which offset, is what Go's `encoding/json` does, because those words reach
//! users inside error 10025. Deliberately absent: what a value means.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Deeper nesting than this is refused (Go allows 10,000; nothing in the API nests deeper than 5).
const DEPTH_MAX: usize = 200;

/// A value and the bytes it was written as.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    /// The bytes, without surrounding white space.
    pub raw: &'a [u8],
    /// What they say.
    pub value: Value<'a>,
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as written.
    Number(&'a str),
    /// A string with its escapes resolved.
    Text(String),
    /// An array.
    Array(Vec<Node<'a>>),
    /// An object: keys in the order written, repeated ones included.
    Object(Vec<(String, Node<'a>)>),
}

impl Value<'_> {
    /// The word Go uses for this kind of value in its errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::Text(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }
}

/// Why text is no JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SyntaxError {
    /// The text ends inside a value.
    Truncated,
    /// A byte that cannot stand where it stands; `offset` counts from 1.
    Unexpected { text: String, offset: usize },
}

/// Reads values one after the other from a text.
pub(super) struct Parser<'a> {
    input: &'a [u8],
    at: usize,
}

type Parsed<T> = Result<T, SyntaxError>;

impl<'a> Parser<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// The next value, or `None` when only white space is left.
    pub(super) fn next_value(&mut self) -> Parsed<Option<Node<'a>>> {
        self.skip_space();
        if self.peek().is_none() {
            return Ok(None);
        }
        self.value(0).map(Some)
    }

    /// Fails when anything but white space is left.
    pub(super) fn finish(&mut self) -> Parsed<()> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.advance();
        }
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.input.get(start..self.at).unwrap_or_default()
    }

    fn unexpected(&self, place: &str) -> SyntaxError {
        match self.peek() {
            None => SyntaxError::Truncated,
            Some(byte) => SyntaxError::Unexpected {
                text: format!("invalid character {} {place}", quote_byte(byte)),
                offset: self.at.saturating_add(1),
            },
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Node<'a>> {
        if depth > DEPTH_MAX {
            return Err(SyntaxError::Unexpected {
                text: "exceeded max depth".to_owned(),
                offset: self.at.saturating_add(1),
            });
        }
        self.skip_space();
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Text(self.text()?),
            Some(b't') => self.literal("true", Value::Bool(true))?,
            Some(b'f') => self.literal("false", Value::Bool(false))?,
            Some(b'n') => self.literal("null", Value::Null)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => return Err(self.unexpected("looking for beginning of value")),
        };
        Ok(Node { raw: self.since(start), value })
    }

    fn literal(&mut self, word: &str, value: Value<'a>) -> Parsed<Value<'a>> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                let expected = char::from(expected);
                return Err(self.unexpected(&format!("in literal {word} (expecting '{expected}')")));
            }
            self.advance();
        }
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Parsed<Value<'a>> {
        self.advance();
        let mut fields = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.advance();
            return Ok(Value::Object(fields));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let key = self.text()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.advance();
            let node = self.value(depth.saturating_add(1))?;
            fields.push((key, node));
            self.skip_space();
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b'}') => {
                    self.advance();
                    return Ok(Value::Object(fields));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Parsed<Value<'a>> {
        self.advance();
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.advance();
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth.saturating_add(1))?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b']') => {
                    self.advance();
                    return Ok(Value::Array(items));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn number(&mut self) -> Parsed<Value<'a>> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.advance();
        }
        match self.peek() {
            Some(b'0') => self.advance(),
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.peek() == Some(b'.') {
            self.advance();
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.advance();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.advance();
            }
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
            self.digits();
        }
        Ok(Value::Number(std::str::from_utf8(self.since(start)).unwrap_or_default()))
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.advance();
        }
    }

    /// A string; bytes that are no UTF-8 and lone surrogates become U+FFFD.
    fn text(&mut self) -> Parsed<String> {
        self.advance();
        let mut out: Vec<u8> = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.advance();
                    return Ok(String::from_utf8_lossy(&out).into_owned());
                }
                Some(b'\\') => {
                    self.advance();
                    let escaped = self.escape()?;
                    out.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(0x20..) => {
                    let start = self.at;
                    while matches!(self.peek(), Some(byte) if byte >= 0x20 && byte != b'"' && byte != b'\\') {
                        self.advance();
                    }
                    out.extend_from_slice(self.since(start));
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let plain = match self.peek() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(byte @ (b'\\' | b'/' | b'"')) => char::from(byte),
            Some(b'u') => {
                self.advance();
                return self.escaped_unicode();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.advance();
        Ok(plain)
    }

    fn escaped_unicode(&mut self) -> Parsed<char> {
        let first = self.hex4()?;
        if let Some(plain) = char::from_u32(first) {
            return Ok(plain);
        }
        let after = self.at;
        if first < 0xdc00 && self.input.get(after..).is_some_and(|rest| rest.starts_with(b"\\u")) {
            self.advance();
            self.advance();
            let second = self.hex4()?;
            let pair =
                char::decode_utf16([first, second].map(|unit| u16::try_from(unit).unwrap_or_default()));
            if let [Ok(both)] = pair.collect::<Vec<_>>().as_slice() {
                return Ok(*both);
            }
            self.at = after;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Parsed<u32> {
        let mut unit = 0u32;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            unit = unit.wrapping_shl(4) | digit;
            self.advance();
        }
        Ok(unit)
    }
}

fn quote_byte(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        byte => {
            let quoted = quote(char::from(byte).to_string().as_bytes());
            format!("'{}'", quoted.trim_matches('"'))
        }
    }
}

/// Bytes as Go's `%q` shows them.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{b}' => out.push_str("\\v"),
                '\0'..' ' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(character))),
                '\u{80}'..'\u{a0}' | '\u{ad}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                    out.push_str(&format!("\\u{:04x}", u32::from(character)));
                }
                printable => out.push(printable),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}
