//! Reading a JSON object field by field, so that a mistake is told in the words of whoever made it: the field, the value that
//! stands there, and what may stand there. A field that nobody asks for is a mistake too.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use weir_protocol::duration::{self, DurationError};

use crate::client::json::Plain;

/// Longest value shown in an error, in characters.
const SHOWN_MAX: usize = 60;

/// A mistake in a request's JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It is no JSON.
    #[error("it is not JSON: {reason} at line {line}, column {column}")]
    NotJson {
        /// What is wrong.
        reason: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// It is something else.
    #[error("it must be a JSON object, not {0}")]
    NotAnObject(&'static str),
    /// A field is there twice.
    #[error("field {0:?} is there twice")]
    Twice(String),
    /// A field that must be there.
    #[error("field {0:?} is missing")]
    Missing(String),
    /// A field that nobody knows.
    #[error("there is no field {field:?}; the fields are {known}")]
    Unknown {
        /// Which.
        field: String,
        /// Those that there are.
        known: String,
    },
    /// A value that may not stand there.
    #[error("{field} must be {wanted}, not {value}")]
    Value {
        /// Where.
        field: String,
        /// What may stand there.
        wanted: String,
        /// What stands there.
        value: String,
    },
}

/// The fields of an object that are not read yet.
#[derive(Debug)]
pub struct Fields {
    /// Stands before the names in errors: `buffer.` for the fields of the field `buffer`.
    prefix: String,
    left: Vec<(String, Value)>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Reads an object.
    ///
    /// # Errors
    /// No JSON, or something else than an object, or a field that is there twice.
    pub fn parse(json: &[u8]) -> Result<Self, FieldError> {
        match serde_json::from_slice::<Entries>(json) {
            Ok(Entries(left)) => Self::of(String::new(), left),
            Err(error) if error.is_data() => match serde_json::from_slice::<Plain>(json) {
                Ok(Plain(value)) => Err(FieldError::NotAnObject(kind(&value))),
                Err(error) => Err(not_json(&error)),
            },
            Err(error) => Err(not_json(&error)),
        }
    }

    fn of(prefix: String, left: Vec<(String, Value)>) -> Result<Self, FieldError> {
        for (index, (name, _)) in left.iter().enumerate() {
            if left.iter().take(index).any(|(before, _)| before == name) {
                return Err(FieldError::Twice(format!("{prefix}{name}")));
            }
        }
        Ok(Self { prefix, left, known: Vec::new() })
    }

    /// Takes a field; null counts as absent.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        let index = self.left.iter().position(|(field, _)| field == name)?;
        Some(self.left.swap_remove(index).1).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, wanted: impl fmt::Display, value: &Value) -> FieldError {
        FieldError::Value { field: self.full(name), wanted: wanted.to_string(), value: shown(value) }
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A text.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, FieldError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", &other)),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// As [`text`](Self::text), or when it is missing.
    pub fn needed_text(&mut self, name: &'static str) -> Result<String, FieldError> {
        self.text(name)?.ok_or_else(|| FieldError::Missing(self.full(name)))
    }

    /// Yes or no.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, FieldError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(name, "true or false", &other)),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// When something else stands there, or a number outside `range`.
    pub fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, FieldError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_u64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, whole_number(&range), &value)),
        }
    }

    /// A span of time as text.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn span(&mut self, name: &'static str) -> Result<Option<Duration>, FieldError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_str().map(|text| duration::parse(text.trim())) {
            Some(Ok(span)) => Ok(Some(span)),
            Some(Err(DurationError::OutOfRange(_))) => Err(self.wrong(name, SPAN_MAX, &value)),
            Some(Err(_)) | None => Err(self.wrong(name, SPAN, &value)),
        }
    }

    /// One of some words.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, FieldError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, meant)) => Ok(Some(*meant)),
            None => {
                let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                Err(self.wrong(name, words.join(" or "), &value))
            }
        }
    }

    /// An object or a span.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn object_or_span(&mut self, name: &'static str) -> Result<Option<ObjectOrSpan>, FieldError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = |value: &Value| self.wrong(name, format!("an object or {SPAN}"), value);
        match value {
            Value::Object(map) => {
                let fields = Self::of(format!("{}.", self.full(name)), map.into_iter().collect())?;
                Ok(Some(ObjectOrSpan::Object(fields)))
            }
            Value::String(text) => match duration::parse(text.trim()) {
                Ok(span) => Ok(Some(ObjectOrSpan::Span(span))),
                Err(_) => Err(wrong(&Value::String(text))),
            },
            other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => Err(wrong(&other)),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When a field is left that nobody asked for.
    pub fn finish(self) -> Result<(), FieldError> {
        let Some((field, _)) = self.left.first() else { return Ok(()) };
        let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
        Err(FieldError::Unknown { field: self.full(field), known })
    }
}

/// See [`Fields::object_or_span`].
#[derive(Debug)]
pub enum ObjectOrSpan {
    /// An object.
    Object(Fields),
    /// A span.
    Span(Duration),
}

/// The longest span: nanoseconds are counted in 63 bits.
const SPAN_MAX: &str = "a span of at most 292 years";
const SPAN: &str = "a span of time such as \"30s\", \"5m\" or \"1h30m\"";

/// The words for a whole number in a range.
pub(super) fn whole_number(range: &RangeInclusive<u64>) -> String {
    match (*range.start(), *range.end()) {
        (start, u64::MAX) => format!("a whole number from {start} on"),
        (start, end) => format!("a whole number from {start} to {end}"),
    }
}

fn not_json(error: &serde_json::Error) -> FieldError {
    FieldError::NotJson { reason: syntax(error), line: error.line(), column: error.column() }
}

/// What is wrong with a text that is no JSON, without the place.
#[must_use]
pub fn syntax(error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "it ends too early".to_owned();
    }
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

/// What a value is.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", text.split_at(end).0),
        None => text,
    }
}

/// The fields of an object in their order, also those that are there twice.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some((name, Plain(value))) = map.next_entry()? {
                    entries.push((name, value));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(json: &str, read: impl FnOnce(&mut Fields) -> Result<T, FieldError>) -> Result<T, String> {
        let all = || {
            let mut fields = Fields::parse(json.as_bytes())?;
            let value = read(&mut fields)?;
            fields.finish().map(|()| value)
        };
        all().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_right_is_read() {
        assert_eq!(read("{}", |fields| fields.text("a")), Ok(None));
        assert_eq!(read(r#"{"a":null}"#, |fields| fields.text("a")), Ok(None));
        assert_eq!(read(r#"{"a":"x"}"#, |fields| fields.needed_text("a")), Ok("x".to_owned()));
        assert_eq!(read(r#"{"a":true}"#, |fields| fields.flag("a")), Ok(Some(true)));
        assert_eq!(read(r#"{"a":5}"#, |fields| fields.number("a", 1..=5)), Ok(Some(5)));
        assert_eq!(read(r#"{"a":"5m"}"#, |fields| fields.span("a")), Ok(Some(Duration::from_secs(300))));
        assert_eq!(read(r#"{"a":"y"}"#, |fields| fields.word("a", &[("x", 1), ("y", 2)])), Ok(Some(2)));
    }

    #[test]
    fn a_mistake_names_field_value_and_what_is_allowed() {
        let text = |json| read(json, |fields| fields.text("a")).unwrap_err();
        assert_eq!(text("{bad"), "it is not JSON: key must be a string at line 1, column 2");
        assert_eq!(text(r#"{"a":"#), "it is not JSON: it ends too early at line 1, column 5");
        assert_eq!(text("{}x"), "it is not JSON: trailing characters at line 1, column 3");
        assert_eq!(text("[]"), "it must be a JSON object, not an array");
        assert_eq!(text("7"), "it must be a JSON object, not a number");
        assert_eq!(text(r#"{"a":7}"#), "a must be a text, not 7");
        assert_eq!(text(r#"{"b":7}"#), "there is no field \"b\"; the fields are a");
        assert_eq!(text(r#"{"a":"x","a":"y"}"#), "field \"a\" is there twice");
        let missing = read("{}", |fields| fields.needed_text("a")).unwrap_err();
        assert_eq!(missing, "field \"a\" is missing");
        for json in [r#"{"a":0}"#, r#"{"a":6}"#, r#"{"a":-1}"#, r#"{"a":1.5}"#, r#"{"a":"1"}"#] {
            let error = read(json, |fields| fields.number("a", 1..=5)).unwrap_err();
            assert!(error.starts_with("a must be a whole number from 1 to 5, not "), "{error}");
        }
        let far = read(r#"{"a":"9999999h"}"#, |fields| fields.span("a")).unwrap_err();
        assert_eq!(far, "a must be a span of at most 292 years, not \"9999999h\"");
        for json in [r#"{"a":"-5m"}"#, r#"{"a":"soon"}"#, r#"{"a":300}"#] {
            let error = read(json, |fields| fields.span("a")).unwrap_err();
            assert!(error.starts_with("a must be a span of time such as \"30s\""), "{error}");
        }
        let word = read(r#"{"a":"z"}"#, |fields| fields.word("a", &[("x", 1), ("y", 2)])).unwrap_err();
        assert_eq!(word, "a must be \"x\" or \"y\", not \"z\"");
        let inner = read(r#"{"o":{"a":[1]}}"#, |fields| match fields.object_or_span("o")? {
            Some(ObjectOrSpan::Object(mut inner)) => inner.text("a"),
            _ => Ok(None),
        });
        assert_eq!(inner.unwrap_err(), "o.a must be a text, not [1]");
        let long = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(100));
        assert!(text(&long).ends_with("..."), "{}", text(&long));
    }
}
