//! Times and spans as NATS writes them: RFC 3339 with nanoseconds in UTC, and Go's texts for durations.
//!
//! A time is an `i64` of nanoseconds since 1970 (the years 1677 to 2262). JSON of NATS knows one time outside of that, Go's zero
//! time, which means "never"; [`optional`] reads and writes it as `None`. Nothing here asks a clock.

use std::time::Duration;

use jiff::Timestamp;

/// Go's zero time: "never", "not set".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

const MICROSECOND: i128 = 1_000;
const MILLISECOND: i128 = 1_000_000;
const SECOND: i128 = 1_000_000_000;
const MINUTE: i128 = 60 * SECOND;
const HOUR: i128 = 60 * MINUTE;

/// Why a text is no time or no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not RFC 3339.
    #[error("{0:?} is not a time such as 2026-01-31T12:00:00.5Z")]
    NotATime(String),
    /// Before 1677 or after 2262.
    #[error("the time {0:?} is outside of the years 1678 to 2262")]
    TimeOutOfRange(String),
    /// Not Go's syntax.
    #[error("{0:?} is not a duration such as 300ms, 2s, 5m or 1h30m")]
    NotADuration(String),
    /// More than about 292 years.
    #[error("the duration {0:?} is longer than 292 years")]
    DurationOutOfRange(String),
    /// Negative where only spans make sense.
    #[error("the duration {0:?} is negative")]
    NegativeDuration(String),
}

/// Reads RFC 3339, with any offset and up to nanoseconds, as nanoseconds since 1970.
pub fn parse_rfc3339(text: &str) -> Result<i64, TimeError> {
    // jiff takes more than RFC 3339 (a space, no offset's colon, annotations); Go does not.
    let bytes = text.as_bytes();
    let is_strict = bytes.len() >= 20
        && bytes.get(4) == Some(&b'-')
        && bytes.get(10) == Some(&b'T')
        && (text.ends_with('Z')
            || matches!(bytes.get(bytes.len() - 6), Some(b'+' | b'-'))
                && bytes.get(bytes.len() - 3) == Some(&b':'));
    if !is_strict {
        return Err(TimeError::NotATime(text.into()));
    }
    let timestamp: Timestamp = text.parse().map_err(|_| TimeError::NotATime(text.into()))?;
    i64::try_from(timestamp.as_nanosecond()).map_err(|_| TimeError::TimeOutOfRange(text.into()))
}

/// Writes RFC 3339 in UTC, the fraction without trailing zeros, as Go's JSON does.
pub fn format_rfc3339(nanoseconds: i64) -> String {
    // jiff's Display is RFC 3339 in UTC with as many digits as are needed.
    Timestamp::from_nanosecond(i128::from(nanoseconds)).map_or_else(|_| ZERO.into(), |time| time.to_string())
}

/// Reads Go's duration text, as nanoseconds: `1h2m3.5s`, `-1.5h`, `300ms`, `0`.
pub fn parse_duration_nanos(text: &str) -> Result<i64, TimeError> {
    let not = || TimeError::NotADuration(text.into());
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(not());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(not());
        }
        let (unit, after) =
            after.split_at(after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len()));
        let scale = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
            "ms" => MILLISECOND,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            _ => return Err(not()),
        };
        let out_of_range = || TimeError::DurationOutOfRange(text.into());
        let whole: i128 = match whole.trim_start_matches('0') {
            "" => 0,
            digits if digits.len() > 19 => return Err(out_of_range()),
            digits => digits.parse().map_err(|_| not())?,
        };
        total += whole * scale;
        // Digits beyond the nanosecond of an hour's fraction are below what counts.
        let (mut value, mut divisor) = (0, 1);
        for digit in fraction.bytes().take(18) {
            value = value * 10 + i128::from(digit - b'0');
            divisor *= 10;
        }
        total += value * scale / divisor;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(out_of_range());
        }
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).map_err(|_| TimeError::DurationOutOfRange(text.into()))
}

/// As [`parse_duration_nanos`], for spans: a negative one is an error.
pub fn parse_duration(text: &str) -> Result<Duration, TimeError> {
    let nanoseconds = parse_duration_nanos(text)?;
    u64::try_from(nanoseconds).map(Duration::from_nanos).map_err(|_| TimeError::NegativeDuration(text.into()))
}

/// Writes nanoseconds as Go does: `1h2m3.5s`, `1.5ms`, `0s`.
pub fn format_duration_nanos(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let rest = i128::from(nanoseconds).abs();
    if rest == 0 {
        return "0s".into();
    }
    if rest < SECOND {
        let (scale, unit) = match rest {
            1..MICROSECOND => (1, "ns"),
            MICROSECOND..MILLISECOND => (MICROSECOND, "\u{b5}s"),
            _ => (MILLISECOND, "ms"),
        };
        return format!("{sign}{}{unit}", decimal(rest, scale));
    }
    let (hours, minutes, seconds) = (rest / HOUR, rest % HOUR / MINUTE, decimal(rest % MINUTE, SECOND));
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// As [`format_duration_nanos`]; a span longer than 292 years is written as the longest there is.
pub fn format_duration(span: Duration) -> String {
    format_duration_nanos(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

/// `value / scale` in decimal without trailing zeros; the scale is a power of ten.
fn decimal(value: i128, scale: i128) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    format!("{whole}.{}", format!("{fraction:0width$}").trim_end_matches('0'))
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
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(parse_rfc3339(text), Err(TimeError::NotATime(text.into())));
        }
        assert_eq!(parse_rfc3339(ZERO), Err(TimeError::TimeOutOfRange(ZERO.into())));
        assert!(matches!(parse_rfc3339("9999-01-01T00:00:00Z"), Err(TimeError::TimeOutOfRange(_))));
    }

    #[test]
    fn durations() {
        // text, nanoseconds, as Go writes it
        let table: &[(&str, i64, &str)] = &[
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("-0", 0, "0s"),
            ("1ns", 1, "1ns"),
            ("1us", 1_000, "1\u{b5}s"),
            ("1\u{b5}s", 1_000, "1\u{b5}s"),
            ("1\u{3bc}s", 1_000, "1\u{b5}s"),
            ("1500ns", 1_500, "1.5\u{b5}s"),
            ("300ms", 300_000_000, "300ms"),
            ("1.5ms", 1_500_000, "1.5ms"),
            ("1s", 1_000_000_000, "1s"),
            ("+5s", 5_000_000_000, "5s"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            ("1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
            ("90m", 5_400_000_000_000, "1h30m0s"),
            ("5m", 300_000_000_000, "5m0s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("1s1s", 2_000_000_000, "2s"),
            ("0.000000001s", 1, "1ns"),
            ("0.0000000009s", 0, "0s"),
            ("2562047h47m16.854775807s", i64::MAX, "2562047h47m16.854775807s"),
            ("-2562047h47m16.854775808s", i64::MIN, "-2562047h47m16.854775808s"),
            ("0000000000000000000000001s", 1_000_000_000, "1s"),
        ];
        for &(text, nanoseconds, canonical) in table {
            assert_eq!(parse_duration_nanos(text), Ok(nanoseconds), "{text}");
            assert_eq!(format_duration_nanos(nanoseconds), canonical, "{text}");
        }
        for text in [
            "", "-", "+", "5", "5d", "s", ".s", "1 s", " 1s", "1S", "1s2", "--1s", "1e3s", "NaN", "infs",
            "\u{e9}",
        ] {
            assert_eq!(parse_duration_nanos(text), Err(TimeError::NotADuration(text.into())), "{text}");
        }
        for text in ["2562048h", "9223372037s", "99999999999999999999ns", "2562047h47m16.854775808s"] {
            assert_eq!(parse_duration_nanos(text), Err(TimeError::DurationOutOfRange(text.into())), "{text}");
        }
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("-2m"), Err(TimeError::NegativeDuration("-2m".into())));
        assert_eq!(format_duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(format_duration(Duration::MAX), "2562047h47m16.854775807s");
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
            prop_assert_eq!(parse_duration_nanos(&format_duration_nanos(nanoseconds)), Ok(nanoseconds));
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,24}", odd in "[-+0-9.nu\u{b5}msh:TZ]{0,24}") {
            let _ = (parse_rfc3339(&text), parse_duration_nanos(&text), parse_rfc3339(&odd), parse_duration_nanos(&odd));
        }
    }
}
