//! Spans of time as Go writes and reads them: `1h2m3.5s`, `300ms`.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Nanoseconds of a text such as `1.5s`, `-2m`, `1h30m` or `0`; `None` for anything else or what does not fit.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0i128;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (fraction, tail) = match tail.strip_prefix('.') {
            Some(tail) => digits(tail),
            None => ("", tail),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = tail.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let unit = unit_nanos(unit)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        // Digits beyond the 18th are far below a nanosecond.
        let fraction = fraction.get(..18).unwrap_or(fraction);
        if !fraction.is_empty() {
            let scale = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            total =
                total.checked_add(fraction.parse::<i128>().ok()?.checked_mul(unit)?.checked_div(scale)?)?;
        }
        rest = tail;
    }
    i64::try_from(if negative { total.checked_neg()? } else { total }).ok()
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn unit_nanos(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// The text of a span in nanoseconds, as Go's `%v` shows it.
#[must_use]
pub fn format(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let value = nanos.unsigned_abs();
    let (unit, name) = match value {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let parts =
        |value: u64, unit: u64| (value.checked_div(unit).unwrap_or(0), value.checked_rem(unit).unwrap_or(0));
    let (whole, part) = parts(value, unit);
    let fraction = if part == 0 {
        String::new()
    } else {
        let width = usize::try_from(unit.ilog10()).unwrap_or(0);
        format!(".{part:0width$}").trim_end_matches('0').to_owned()
    };
    if name != "s" || whole < 60 {
        return format!("{sign}{whole}{fraction}{name}");
    }
    let (minutes, seconds) = parts(whole, 60);
    if minutes < 60 {
        return format!("{sign}{minutes}m{seconds}{fraction}s");
    }
    let (hours, minutes) = parts(minutes, 60);
    format!("{sign}{hours}h{minutes}m{seconds}{fraction}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("-1.5h", Some(-5_400_000_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            (".5ms", Some(500_000)),
            ("10\u{b5}s", Some(10_000)),
            ("+7ns", Some(7)),
            ("", None),
            ("-", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("5 s", None),
            ("5x", None),
            ("9999999999h", None),
        ] {
            assert_eq!(parse(text), nanos, "{text}");
        }
    }

    #[test]
    fn spans_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (100_000_000, "100ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (-60_000_000_000, "-1m0s"),
        ] {
            assert_eq!(format(nanos), text);
            if nanos != 0 {
                assert_eq!(parse(text), Some(nanos));
            }
        }
    }

    #[test]
    fn any_text_is_answered_and_what_is_written_is_read_back() {
        proptest::proptest!(|(text: String, nanos: i64)| {
            let _ = parse(&text);
            proptest::prop_assert_eq!(parse(&format(nanos)), Some(nanos));
        });
    }
}
