//! Spans of time as Go writes and reads them: `1h2m3.5s`, `300ms`, `-1.5h`, `0`.
//!
//! A span that may be negative is an `i64` of nanoseconds, as on the wire; one that may not is a [`Duration`]. Both end at 292
//! years.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not Go's syntax.
    #[error("{0:?} is not a duration such as 300ms, 2s, 5m or 1h30m")]
    Malformed(String),
    /// More than about 292 years.
    #[error("the duration {0:?} is longer than 292 years")]
    OutOfRange(String),
    /// Negative where only spans make sense.
    #[error("the duration {0:?} is negative")]
    Negative(String),
}

/// Reads a span that is not negative.
///
/// # Errors
/// Names the text and what is wrong with it.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let nanos = parse_nanos(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| DurationError::Negative(text.into()))
}

/// Reads a span as nanoseconds.
///
/// # Errors
/// Names the text and what is wrong with it.
pub fn parse_nanos(text: &str) -> Result<i64, DurationError> {
    let malformed = || DurationError::Malformed(text.into());
    let out_of_range = || DurationError::OutOfRange(text.into());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(malformed());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (fraction, tail) = tail.strip_prefix('.').map_or(("", tail), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(malformed());
        }
        let (unit, tail) = split_where(tail, |c| c == '.' || c.is_ascii_digit());
        let unit = unit_nanos(unit).ok_or_else(malformed)?;
        total = amount(whole, fraction, unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(out_of_range)?;
        rest = tail;
    }
    let total = if negative { total.checked_neg() } else { Some(total) };
    total.and_then(|total| i64::try_from(total).ok()).ok_or_else(out_of_range)
}

/// `whole.part` units in nanoseconds; `None` when that is beyond any span.
fn amount(whole: &str, part: &str, unit: u64) -> Option<i128> {
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    i128::from(whole).checked_mul(i128::from(unit))?.checked_add(i128::from(fraction(part, unit)))
}

/// What the digits behind the point of a number of units come to, in nanoseconds: less than a unit. What is below a nanosecond
/// does not count.
pub(crate) fn fraction(digits: &str, unit: u64) -> u64 {
    // Digits beyond the 18th are below a nanosecond, whatever the unit.
    let digits = digits.get(..18).unwrap_or(digits);
    let scale = u32::try_from(digits.len()).ok().and_then(|count| 10u128.checked_pow(count));
    let parts = digits.parse::<u64>().ok().map(|number| u128::from(number).saturating_mul(u128::from(unit)));
    let nanos = parts.zip(scale).and_then(|(parts, scale)| parts.checked_div(scale));
    nanos.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0)
}

fn digits(text: &str) -> (&str, &str) {
    split_where(text, |c| !c.is_ascii_digit())
}

/// The text before the first character that is `end`, and the text from there.
fn split_where(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.find(end).and_then(|at| text.split_at_checked(at)).unwrap_or((text, ""))
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND,
        "ms" => MILLISECOND,
        "s" => SECOND,
        "m" => MINUTE,
        "h" => HOUR,
        _ => return None,
    })
}

/// Writes a span as Go's `%v` does; one longer than 292 years is written as the longest there is.
#[must_use]
pub fn format(span: Duration) -> String {
    format_nanos(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

/// Writes nanoseconds as Go's `%v` does: `1h2m3.5s`, `1.5ms`, `0s`.
#[must_use]
pub fn format_nanos(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let rest = nanos.unsigned_abs();
    match rest {
        0 => return "0s".into(),
        1..MICROSECOND => return format!("{sign}{rest}ns"),
        MICROSECOND..MILLISECOND => return format!("{sign}{}\u{b5}s", decimal(rest, MICROSECOND)),
        MILLISECOND..SECOND => return format!("{sign}{}ms", decimal(rest, MILLISECOND)),
        SECOND.. => {}
    }
    let (hours, minutes, seconds) = (rest / HOUR, rest % HOUR / MINUTE, decimal(rest % MINUTE, SECOND));
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / SCALE` in decimal without trailing zeros; the scale is a power of ten.
fn decimal(value: u64, scale: u64) -> String {
    let parts = value.checked_div(scale).zip(value.checked_rem(scale));
    let (whole, fraction) = parts.unwrap_or((value, 0));
    if fraction == 0 {
        return whole.to_string();
    }
    let width = usize::try_from(scale.ilog10()).unwrap_or(0);
    format!("{whole}.{}", format!("{fraction:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_read_and_written_as_go_does() {
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
        for &(text, nanos, canonical) in table {
            assert_eq!(parse_nanos(text), Ok(nanos), "{text}");
            assert_eq!(format_nanos(nanos), canonical, "{text}");
        }
        for text in [
            "", "-", "+", "5", "5d", "5x", "s", ".s", "1 s", " 1s", "1S", "1s2", "--1s", "1e3s", "NaN",
            "infs", "\u{e9}",
        ] {
            assert_eq!(parse_nanos(text), Err(DurationError::Malformed(text.into())), "{text}");
        }
        for text in ["2562048h", "9223372037s", "99999999999999999999ns", "2562047h47m16.854775808s"] {
            assert_eq!(parse_nanos(text), Err(DurationError::OutOfRange(text.into())), "{text}");
        }
        assert_eq!(parse("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse("-2m"), Err(DurationError::Negative("-2m".into())));
        assert_eq!(format(Duration::from_millis(1500)), "1.5s");
        assert_eq!(format(Duration::MAX), "2562047h47m16.854775807s");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(nanos in prop_oneof![any::<i64>(), -5_000_000_000_000i64..5_000_000_000_000]) {
            prop_assert_eq!(parse_nanos(&format_nanos(nanos)), Ok(nanos));
        }

        #[test]
        fn any_text_is_judged_without_panic(text in "\\PC{0,24}", odd in "[-+0-9.nu\u{b5}msh]{0,24}") {
            let _ = (parse_nanos(&text), parse_nanos(&odd));
        }
    }
}
