//! Events: what devices send to the monitor, and the messages that become of them.
//!
//! An event is a JSON object with `type`, and optionally `id`, `symbol`, `timestamp` and `data`. Its message has `data` as payload,
//! byte for byte, and the rest in headers. An older form of message carries the whole event as payload and no headers;
//! [`Event::of_message`] reads both.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use weir_protocol::{header, time};

use super::fields::{self, Fields};
use super::id::Id;
use crate::client::json::Plain;
use crate::sys::random::Random;

/// Header with the device's id.
pub const DEVICE: &str = "X-Monitor-Device";
/// Header with the event's id.
pub const ID: &str = "X-Monitor-Id";
/// Header with the event's type.
pub const TYPE: &str = "X-Monitor-Type";
/// Header with the event's time, RFC 3339.
pub const TIMESTAMP: &str = "X-Monitor-Timestamp";
/// Header with the event's symbol.
pub const SYMBOL: &str = "X-Monitor-Symbol";
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// How deep a body may be nested, the array and the event around the data included.
pub const DEPTH_MAX: usize = 100;
/// Longest text of one field, in bytes: headers are limited.
const FIELD_BYTES_MAX: usize = 4096;

/// An event as a device sends it.
#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    symbol: Option<String>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

/// An event that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id; given, or made here.
    pub id: String,
    /// Whether the device gave the id, so that sending it again means the same event.
    pub id_given: bool,
    /// What it is.
    pub kind: String,
    /// What it is about.
    pub symbol: String,
    /// When it happened, as the device wrote it, or when it came.
    pub timestamp: String,
    /// The JSON of its data.
    pub data: Bytes,
}

/// An event, or a body, that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not JSON, or not an array.
    #[error("the body must be a JSON array of events: {0}")]
    Body(String),
    /// Nothing in it.
    #[error("the array of events is empty")]
    Empty,
    /// One of them.
    #[error("event {index}: {reason}")]
    Event {
        /// Counted from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// How deep JSON is nested: `1` not at all, `[{"a":1}]` twice. What is no JSON has some depth too.
#[must_use]
pub fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Reads a body: all events of it, or the first thing that is wrong.
///
/// # Errors
/// See [`EventError`].
pub fn parse(body: &[u8], now: i64, random: &Random) -> Result<Vec<Event>, EventError> {
    let depth = depth(body);
    if depth > DEPTH_MAX {
        return Err(EventError::Body(format!("it is nested {depth} deep, and {DEPTH_MAX} is the most")));
    }
    let items: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|error| EventError::Body(not_an_array(body, &error)))?;
    if items.is_empty() {
        return Err(EventError::Empty);
    }
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| {
            Event::parse(item.get(), now, random).map_err(|reason| EventError::Event { index, reason })
        })
        .collect()
}

/// What a body is that is no array.
fn not_an_array(body: &[u8], error: &serde_json::Error) -> String {
    match serde_json::from_slice::<Plain>(body) {
        Ok(Plain(value)) => format!("it is {}", fields::kind(&value)),
        Err(_) => format!("{} at line {}, column {}", fields::syntax(error), error.line(), error.column()),
    }
}

/// What is wrong with an event that could not be read.
fn mistake(json: &str, error: &serde_json::Error) -> String {
    let found = Fields::parse(json.as_bytes()).and_then(|mut fields| {
        fields.needed_text("type")?;
        for field in ["id", "symbol", "timestamp"] {
            fields.text(field)?;
        }
        Ok(())
    });
    found.err().map_or_else(|| fields::syntax(error), |mistake| mistake.to_string())
}

impl Event {
    fn parse(json: &str, now: i64, random: &Random) -> Result<Self, String> {
        let sent: Sent<'_> = serde_json::from_str(json).map_err(|error| mistake(json, &error))?;
        let given = sent.id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
        let event = Self {
            id_given: given.is_some(),
            id: given.unwrap_or_else(|| random.id(22)),
            // As for the id: headers keep no blanks at the ends.
            kind: sent.kind.trim().to_owned(),
            symbol: sent.symbol.unwrap_or_default().trim().to_owned(),
            timestamp: sent.timestamp.unwrap_or_else(|| time::format_rfc3339(now)),
            data: sent
                .data
                .map_or(Bytes::from_static(b"{}"), |data| Bytes::copy_from_slice(data.get().as_bytes())),
        };
        event.check()?;
        Ok(event)
    }

    fn check(&self) -> Result<(), String> {
        if self.kind.is_empty() {
            return Err("type is empty".to_owned());
        }
        let fields = [
            ("id", &self.id),
            ("type", &self.kind),
            ("symbol", &self.symbol),
            ("timestamp", &self.timestamp),
        ];
        for (name, value) in fields {
            if value.chars().any(char::is_control) {
                return Err(format!("{name} {value:?} contains a control character"));
            }
            if value.len() > FIELD_BYTES_MAX {
                return Err(format!("{name} of {} bytes is longer than {FIELD_BYTES_MAX}", value.len()));
            }
        }
        time::parse_rfc3339(&self.timestamp).map_err(|error| format!("timestamp: {error}"))?;
        Ok(())
    }

    /// The headers of its message.
    #[must_use]
    pub fn headers(&self, device: &Id) -> Bytes {
        let mut builder = header::Builder::new();
        builder
            .add(DEVICE, device.as_str())
            .add(ID, &self.id)
            .add(TYPE, &self.kind)
            .add(TIMESTAMP, &self.timestamp)
            .add(SYMBOL, &self.symbol);
        if self.id_given {
            builder.add(MESSAGE_ID, &self.id);
        }
        builder.finish()
    }

    /// The event in a message: from its headers, or from its payload in the older form. `None` when it is neither.
    #[must_use]
    pub fn of_message(headers: &[u8], payload: &Bytes) -> Option<Self> {
        let text = |name: &str| header::get_str(headers, name).map(str::to_owned);
        if let Some(kind) = text(TYPE) {
            return Some(Self {
                id: text(ID).unwrap_or_default(),
                id_given: header::get(headers, MESSAGE_ID).is_some(),
                kind,
                symbol: text(SYMBOL).unwrap_or_default(),
                timestamp: text(TIMESTAMP).unwrap_or_default(),
                data: payload.clone(),
            });
        }
        let sent: Sent<'_> = serde_json::from_slice(payload).ok()?;
        Some(Self {
            id_given: sent.id.is_some(),
            id: sent.id.unwrap_or_default(),
            kind: sent.kind,
            symbol: sent.symbol.unwrap_or_default(),
            timestamp: sent.timestamp.unwrap_or_default(),
            data: sent.data.map_or(Bytes::new(), |data| Bytes::copy_from_slice(data.get().as_bytes())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Event>, String> {
        parse(body.as_bytes(), 1_767_225_600_000_000_000, &Random::from_seed(1))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn given_fields_are_kept_and_missing_ones_filled_in() {
        let events = read(
            r#"[{"id":"e1","type":"state","symbol":"demo/temp","timestamp":"2026-02-01T00:00:00+01:00",
                 "data":{"c": 21.50, "n": 12345678901234567890},"device":"evil","more":1},
                {"type":"call"}]"#,
        )
        .unwrap();
        assert_eq!(events[0].id, "e1");
        assert_eq!(events[0].timestamp, "2026-02-01T00:00:00+01:00");
        assert_eq!(events[0].data, r#"{"c": 21.50, "n": 12345678901234567890}"#);
        assert_eq!((events[1].id.len(), events[1].id_given, &events[1].data[..]), (22, false, &b"{}"[..]));
        assert_eq!(events[1].timestamp, "2026-01-01T00:00:00Z");
        let device = Id::parse("dev-1").unwrap();
        let headers = events[0].headers(&device);
        assert_eq!(header::get_str(&headers, DEVICE), Some("dev-1"));
        assert_eq!(header::get_str(&headers, MESSAGE_ID), Some("e1"));
        assert_eq!(header::get_str(&events[1].headers(&device), MESSAGE_ID), None);
    }

    #[test]
    fn depth_has_a_limit_whatever_is_nested() {
        for (json, deep) in [
            ("1", 0),
            ("[]", 1),
            (r#"[{"a":[1]},{}]"#, 3),
            (r#"["[[{\"[",{}]"#, 2),
            (r#"["\\",[1]]"#, 2),
            ("[[", 2),
        ] {
            assert_eq!(depth(json.as_bytes()), deep, "{json}");
        }
        let nested = |deep: usize| format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        let data = |deep: usize| format!(r#"[{{"type":"a","data":{}}}]"#, nested(deep));
        assert!(read(&data(DEPTH_MAX - 2)).is_ok());
        for body in [data(DEPTH_MAX - 1), data(200_000), nested(200_000)] {
            let error = read(&body).unwrap_err();
            assert!(error.contains("deep, and 100 is the most"), "{error}");
        }
    }

    #[test]
    fn white_space_at_the_ends_does_not_count() {
        let events = read(r#"[{"id":" e ","type":"\ta ","symbol":" s b "}]"#).unwrap();
        assert_eq!((&*events[0].id, &*events[0].kind, &*events[0].symbol), ("e", "a", "s b"));
    }

    #[test]
    fn bad_bodies_are_refused_with_a_reason() {
        for (body, reason) in [
            ("", "JSON array"),
            ("hello", "JSON array"),
            (r#"{"type":"state"}"#, "JSON array"),
            ("[]", "empty"),
            ("[1]", "event 0"),
            (r#"[{"type":"a"},{"data":{}}]"#, "event 1: field \"type\" is missing"),
            (r#"[{"type":" "}]"#, "type is empty"),
            (r#"[{"type":7}]"#, "event 0"),
            (r#"[{"type":"a","timestamp":"yesterday"}]"#, "\"yesterday\" is not a time"),
            (r#"[{"type":"a\r\nX: y"}]"#, "control character"),
            (r#"[{"type":"a"}"#, "JSON array"),
        ] {
            let error = read(body).expect_err(body);
            assert!(error.contains(reason), "{body}: {error}");
        }
        let long = format!(r#"[{{"type":"a","symbol":"{}"}}]"#, "x".repeat(4097));
        assert!(read(&long).unwrap_err().contains("4097 bytes is longer than 4096"));
    }

    #[test]
    fn both_forms_of_message_are_read() {
        let device = Id::parse("dev-1").unwrap();
        let event = read(r#"[{"id":"e1","type":"state","symbol":"s","data":[1,2]}]"#).unwrap().remove(0);
        assert_eq!(Event::of_message(&event.headers(&device), &event.data), Some(event));
        let old = Bytes::from(r#"{"id":"e2","device":"dev-1","type":"state","symbol":"s","data":{"a":1}}"#);
        let event = Event::of_message(b"", &old).unwrap();
        assert_eq!((event.kind.as_str(), &event.data[..]), ("state", &br#"{"a":1}"#[..]));
        assert_eq!(Event::of_message(b"", &Bytes::from("plain text")), None);
    }
}
