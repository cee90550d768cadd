//! Spans of time as NATS tools write them: `5m`, `1h30m`, `250ms`, `1.5s`, `2d`.
//!
//! A number without a unit is refused: it would be read as seconds by one and as nanoseconds by another.

use std::time::Duration;

/// Why a text is no span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no span of time: {reason}; write for example 500ms, 30s, 5m or 1h30m")]
pub struct SpanError {
    text: String,
    reason: &'static str,
}

/// The units, the longer name first where one begins with the other. The value is in nanoseconds.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Reads a span of time. Units: `ns us ms s m h d w`; several may follow each other, fractions are allowed.
///
/// # Errors
/// When the text is empty, a number has no unit, a unit is unknown, or the sum passes 2^63 nanoseconds (292 years).
pub fn parse_span(text: &str) -> Result<Duration, SpanError> {
    let fail = |reason| SpanError { text: text.to_owned(), reason };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fail("it is empty"));
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(fail("it is negative"));
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() || number == "." {
            return Err(fail("a number is missing"));
        }
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() {
            return Err(fail("a unit is missing"));
        }
        let Some(&(_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(fail("the unit is not one of ns, us, ms, s, m, h, d, w"));
        };
        total = scaled(number, nanos)
            .ok_or_else(|| fail("it is no number, or too large"))?
            .checked_add(total)
            .filter(|sum| i64::try_from(*sum).is_ok())
            .ok_or_else(|| fail("it is longer than 292 years"))?;
        rest = after;
    }
    Ok(Duration::from_nanos(total))
}

/// `number` (digits with at most one dot) times `unit`, exact to the nanosecond.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return None;
    }
    let mut sum = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    let mut share = unit;
    for digit in fraction.chars() {
        share /= 10;
        sum = sum.checked_add(u64::from(digit.to_digit(10)?).checked_mul(share)?)?;
    }
    Some(sum)
}

/// Writes a span the way [`parse_span`] and Go's `time.ParseDuration` read it: `5m`, `1h30m`, `1.5s`, `250ms`.
#[must_use]
pub fn format_span(span: Duration) -> String {
    let nanos = span.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, size) = match nanos {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("us", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{}{unit}", decimal(nanos, size));
    }
    let seconds = span.as_secs();
    let mut text = String::new();
    if seconds >= 3600 {
        text.push_str(&format!("{}h", seconds / 3600));
    }
    if seconds % 3600 >= 60 {
        text.push_str(&format!("{}m", seconds % 3600 / 60));
    }
    let rest = nanos % 60_000_000_000;
    if rest > 0 {
        text.push_str(&format!("{}s", decimal(rest, 1_000_000_000)));
    }
    text
}

/// `value / size` without trailing zeros; `size` is a power of ten.
fn decimal(value: u128, size: u128) -> String {
    let fraction = value % size;
    if fraction == 0 {
        return (value / size).to_string();
    }
    let width = size.ilog10() as usize;
    format!("{}.{}", value / size, format!("{fraction:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_type() {
        for (text, nanos) in [
            ("0", 0u64),
            ("0s", 0),
            ("1ns", 1),
            ("250us", 250_000),
            ("250µs", 250_000),
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("5m", 300_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1h0m0.5s", 3_600_500_000_000),
            (" 2d ", 172_800_000_000_000),
            ("1w", 604_800_000_000_000),
        ] {
            assert_eq!(parse_span(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_and_says_why() {
        for (text, part) in [
            ("", "empty"),
            ("5", "unit is missing"),
            ("-5s", "negative"),
            ("5 s", "unit is not one of"),
            ("m", "number is missing"),
            ("5x", "unit is not one of"),
            ("1.2.3s", "no number"),
            ("300000000000000000000s", "too large"),
            ("20000000000s", "too large"),
            ("9223372036s1s", "292 years"),
            ("1e3s", "unit is not one of"),
        ] {
            let error = parse_span(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains(&format!("\"{text}\"")), "{error}");
        }
    }

    #[test]
    fn writes_briefly() {
        for (nanos, text) in [
            (0u64, "0s"),
            (1, "1ns"),
            (1_500, "1.5us"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (60_000_000_000, "1m"),
            (90_000_000_000, "1m30s"),
            (300_000_000_000, "5m"),
            (3_600_000_000_000, "1h"),
            (3_600_500_000_000, "1h0.5s"),
            (90_061_000_000_000, "25h1m1s"),
        ] {
            assert_eq!(format_span(Duration::from_nanos(nanos)), text);
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_it_writes(nanos in 0..i64::MAX as u64) {
            let span = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_span(&format_span(span)), Ok(span));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse_span(&text);
        }
    }
}
