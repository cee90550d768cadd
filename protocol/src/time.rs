//! Times as NATS writes them: RFC 3339 with nanoseconds, in UTC.
//!
//! A time is an `i64` of nanoseconds since 1970 (the years 1678 to 2262). JSON of NATS knows one time outside of that, Go's zero
//! time, which means "never"; [`optional`] reads and writes it as `None`. Texts are taken as Go takes them; its words for a
//! refusal are at home in the JetStream API, which answers with them. Nothing here asks a clock.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::{DateTime, datetime};

use crate::duration;

/// Go's zero time: "never", "not set".
pub const ZERO: &str = "0001-01-01T00:00:00Z";
/// The same in nanoseconds since 1970.
pub(crate) const ZERO_NANOS: i128 = -62_135_596_800 * 1_000_000_000;

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339.
    #[error("{0:?} is not a time such as 2026-01-31T12:00:00.5Z")]
    NotATime(String),
    /// Before 1678 or after 2262.
    #[error("the time {0:?} is outside of the years 1678 to 2262")]
    OutOfRange(String),
}

/// Reads RFC 3339, with any offset and up to nanoseconds, as nanoseconds since 1970.
///
/// # Errors
/// Names the text.
pub fn parse_rfc3339(text: &str) -> Result<i64, TimeError> {
    let nanos = read(text).map_err(|_| TimeError::NotATime(text.into()))?;
    i64::try_from(nanos).map_err(|_| TimeError::OutOfRange(text.into()))
}

/// Writes RFC 3339 in UTC, the fraction without trailing zeros, as Go's JSON does.
#[must_use]
pub fn format_rfc3339(nanoseconds: i64) -> String {
    // jiff's Display is RFC 3339 in UTC with as many digits as are needed.
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_or_else(|_| ZERO.into(), |time| time.to_string())
}

/// Where reading a time stopped. A rest is what was left of the text there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem<'a> {
    /// This element of Go's layout is not there.
    Missing { element: &'static str, rest: &'a str },
    /// A number that this part of a time cannot have.
    OutOfRange(&'static str),
    /// Something follows the time.
    Extra(&'a str),
}

/// The nanoseconds since 1970 of any time from the year 0 to 9999, checked in Go's order.
pub(crate) fn read(text: &str) -> Result<i128, Problem<'_>> {
    let mut reader = Reader { rest: text };
    let year: i16 = reader.number(4, "2006")?;
    reader.literal("-")?;
    let month: i8 = reader.number(2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(Problem::OutOfRange("month"));
    }
    reader.literal("-")?;
    let day: i8 = reader.number(2, "02")?;
    reader.literal("T")?;
    let hour: i8 = reader.number(2, "15")?;
    if hour > 23 {
        return Err(Problem::OutOfRange("hour"));
    }
    reader.literal(":")?;
    let minute: i8 = reader.number(2, "04")?;
    if minute > 59 {
        return Err(Problem::OutOfRange("minute"));
    }
    reader.literal(":")?;
    let second: i8 = reader.number(2, "05")?;
    if second > 59 {
        return Err(Problem::OutOfRange("second"));
    }
    let nanos = reader.fraction();
    let offset = reader.offset()?;
    if !reader.rest.is_empty() {
        return Err(Problem::Extra(reader.rest));
    }
    // Only the day can still be wrong: it depends on year and month.
    let local = DateTime::new(year, month, day, hour, minute, second, nanos)
        .map_err(|_| Problem::OutOfRange("day"))?;
    let since = local.duration_since(datetime(1970, 1, 1, 0, 0, 0, 0));
    Ok(since.saturating_sub(SignedDuration::from_secs(offset)).as_nanos())
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn number<T: FromStr>(&mut self, digits: usize, element: &'static str) -> Result<T, Problem<'a>> {
        let missing = Problem::Missing { element, rest: self.rest };
        let (head, tail) = self.rest.split_at_checked(digits).ok_or(missing)?;
        if !head.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(missing);
        }
        self.rest = tail;
        head.parse().map_err(|_| missing)
    }

    fn literal(&mut self, text: &'static str) -> Result<(), Problem<'a>> {
        let missing = Problem::Missing { element: text, rest: self.rest };
        self.rest = self.rest.strip_prefix(text).ok_or(missing)?;
        Ok(())
    }

    /// Nanoseconds; digits beyond the ninth do not count.
    fn fraction(&mut self) -> i32 {
        let Some(tail) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let Some((head, tail)) = tail.split_at_checked(digits).filter(|(head, _)| !head.is_empty()) else {
            return 0;
        };
        self.rest = tail;
        i32::try_from(duration::fraction(head, duration::SECOND)).unwrap_or(0)
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, Problem<'a>> {
        if let Some(tail) = self.rest.strip_prefix('Z') {
            self.rest = tail;
            return Ok(0);
        }
        let missing = Problem::Missing { element: "Z07:00", rest: self.rest };
        let (sign, tail) = match self.rest.split_at_checked(1) {
            Some(("+", tail)) => (1, tail),
            Some(("-", tail)) => (-1, tail),
            Some(_) | None => return Err(missing),
        };
        self.rest = tail;
        let hours: i64 = self.number(2, "Z07:00").map_err(|_| missing)?;
        self.literal(":").map_err(|_| missing)?;
        let minutes: i64 = self.number(2, "Z07:00").map_err(|_| missing)?;
        if hours > 24 {
            return Err(Problem::OutOfRange("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(Problem::OutOfRange("time zone offset minute"));
        }
        Ok(hours.saturating_mul(3600).saturating_add(minutes.saturating_mul(60)).saturating_mul(sign))
    }
}

/// `#[serde(with = "weir_protocol::time::rfc3339")]` for an `i64` of nanoseconds.
pub mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// As RFC 3339.
    pub fn serialize<S: Serializer>(nanoseconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_rfc3339(*nanoseconds))
    }

    /// From RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        super::parse_rfc3339(&text).map_err(de::Error::custom)
    }
}

/// `#[serde(default, with = "weir_protocol::time::optional")]` for an `Option<i64>`: Go's zero time, `null` and an absent field are `None`.
///
/// `None` is written as Go's zero time; where NATS leaves the field out, add `skip_serializing_if = "Option::is_none"`.
pub mod optional {
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// As RFC 3339; `None` as Go's zero time.
    pub fn serialize<S: Serializer>(nanoseconds: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        match nanoseconds {
            Some(nanoseconds) => super::rfc3339::serialize(nanoseconds, serializer),
            None => serializer.serialize_str(super::ZERO),
        }
    }

    /// From RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        match <Option<std::borrow::Cow<'de, str>>>::deserialize(deserializer)? {
            None => Ok(None),
            Some(text) if text == super::ZERO => Ok(None),
            Some(text) => super::parse_rfc3339(&text).map(Some).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[test]
    fn times() {
        let table: &[(&str, i64, &str)] = &[
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("1970-01-01T00:00:00.000000001Z", 1, "1970-01-01T00:00:00.000000001Z"),
            ("1970-01-01T01:00:00+01:00", 0, "1970-01-01T00:00:00Z"),
            ("1969-12-31T19:00:00-05:00", 0, "1970-01-01T00:00:00Z"),
            ("2026-08-21T12:34:56.789Z", 1_787_315_696_789_000_000, "2026-08-21T12:34:56.789Z"),
            ("2026-08-21T12:34:56.100000000Z", 1_787_315_696_100_000_000, "2026-08-21T12:34:56.1Z"),
            ("2026-08-21T12:34:56.1234567899Z", 1_787_315_696_123_456_789, "2026-08-21T12:34:56.123456789Z"),
            ("1969-12-31T23:59:59.5Z", -500_000_000, "1969-12-31T23:59:59.5Z"),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            ("1677-09-21T00:12:43.145224192Z", i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ];
        for &(text, nanoseconds, canonical) in table {
            assert_eq!(parse_rfc3339(text), Ok(nanoseconds), "{text}");
            assert_eq!(format_rfc3339(nanoseconds), canonical, "{text}");
        }
        for text in [
            "",
            "now",
            "2026-08-21",
            "2026-08-21 12:34:56Z",
            "2026-08-21T12:34:56",
            "2026-13-21T12:34:56Z",
            "2026-08-21T12:34:56+0100",
            "2026-08-21T12:34:56Z[UTC]",
            "2026-08-21T12:34:60Z",
            "2026-02-29T12:34:56Z",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(parse_rfc3339(text), Err(TimeError::NotATime(text.into())));
        }
        assert_eq!(parse_rfc3339(ZERO), Err(TimeError::OutOfRange(ZERO.into())));
        assert_eq!(read(ZERO), Ok(ZERO_NANOS));
        assert!(matches!(parse_rfc3339("9999-12-31T23:59:59-24:60"), Err(TimeError::OutOfRange(_))));
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Row {
        #[serde(with = "rfc3339")]
        time: i64,
        #[serde(default, with = "optional")]
        last: Option<i64>,
    }

    #[test]
    fn json() {
        let row: Row =
            serde_json::from_str(r#"{"time":"1970-01-01T00:00:01Z","last":"0001-01-01T00:00:00Z"}"#).unwrap();
        assert_eq!(row, Row { time: 1_000_000_000, last: None });
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"time":"1970-01-01T00:00:01Z","last":"0001-01-01T00:00:00Z"}"#
        );
        let row: Row =
            serde_json::from_str(r#"{"time":"1970-01-01T00:00:01Z","last":"1970-01-01T00:00:00.5Z"}"#)
                .unwrap();
        assert_eq!(row.last, Some(500_000_000));
        let row: Row = serde_json::from_str(r#"{"time":"1970-01-01T00:00:01Z"}"#).unwrap();
        assert_eq!(row.last, None);
        assert!(serde_json::from_str::<Row>(r#"{"time":"soon"}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanoseconds in prop_oneof![any::<i64>(), -5_000_000_000_000i64..5_000_000_000_000]) {
            prop_assert_eq!(parse_rfc3339(&format_rfc3339(nanoseconds)), Ok(nanoseconds));
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,24}", odd in "[-+0-9.,:TZ]{0,32}") {
            let _ = (parse_rfc3339(&text), parse_rfc3339(&odd));
        }
    }
}
