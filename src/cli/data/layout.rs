//! Moments written by a layout: Go's reference time (`2006-01-02 15:04:05`), or strftime where the layout has a `%`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Go's words and what they mean in strftime, the longer first where one begins with the other.
const WORDS: &[(&str, &str)] = &[
    ("2006", "%Y"),
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "UTC"),
    ("002", "%j"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("15", "%H"),
    ("PM", "%p"),
    ("pm", "%P"),
    ("Z07:00", "Z"),
    ("Z0700", "Z"),
    ("-07:00", "+00:00"),
    ("-0700", "+0000"),
    ("-07", "+00"),
    ("_2", "%e"),
];

/// Writes `nanos` since 1970 in UTC by a layout. An empty layout is RFC 3339 with nanoseconds.
///
/// # Errors
/// When the layout cannot be written, or the moment lies outside the years -9999 to 9999.
pub(crate) fn write(nanos: i64, layout: &str) -> Result<String, String> {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).map_err(|error| error.to_string())?;
    if layout.is_empty() {
        return Ok(time.to_string());
    }
    let pattern = if layout.contains('%') { layout.to_owned() } else { strftime(layout) };
    let mut text = String::new();
    jiff::fmt::strtime::BrokenDownTime::from(&time.to_zoned(TimeZone::UTC))
        .format(&pattern, &mut text)
        .map_err(|error| format!("layout \"{layout}\": {error}"))?;
    Ok(text)
}

/// Go's layout as a strftime pattern.
fn strftime(layout: &str) -> String {
    let mut pattern = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((word, meaning)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            pattern.push_str(meaning);
            rest = rest.get(word.len()..).unwrap_or("");
            continue;
        }
        // A dot or comma and digits of one kind are fractions of a second: zeros always, nines without trailing zeros.
        let digits = rest.get(1..).map_or(0, |after| {
            let zeros = after.len() - after.trim_start_matches('0').len();
            let nines = after.len() - after.trim_start_matches('9').len();
            zeros.max(nines)
        });
        if matches!(first, '.' | ',') && (1..=9).contains(&digits) {
            let nines = rest.get(1..).is_some_and(|after| after.starts_with('9'));
            if nines {
                pattern.push_str(&format!("%.{digits}f"));
            } else {
                pattern.push_str(&format!("{first}%{digits}f"));
            }
            rest = rest.get(digits + 1..).unwrap_or("");
            continue;
        }
        pattern.push(first);
        rest = rest.get(first.len_utf8()..).unwrap_or("");
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_go_and_strftime_layouts() {
        /// 2023-11-14T22:13:20.120456789Z, a Tuesday.
        const AT: i64 = 1_700_000_000_120_456_789;
        for (layout, text) in [
            ("", "2023-11-14T22:13:20.120456789Z"),
            ("2006-01-02", "2023-11-14"),
            ("2006-01-02T15:04:05Z07:00", "2023-11-14T22:13:20Z"),
            ("2006-01-02T15:04:05.000Z07:00", "2023-11-14T22:13:20.120Z"),
            ("15:04:05.000000", "22:13:20.120456"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Tue, 14 Nov 2023 22:13:20 UTC"),
            ("Monday, January _2 06 03:04PM -0700", "Tuesday, November 14 23 10:13PM +0000"),
            ("%Y/%j", "2023/318"),
            ("at work", "at work"),
        ] {
            assert_eq!(write(AT, layout).as_deref(), Ok(text), "{layout}");
        }
    }

    #[test]
    fn a_bad_layout_is_named() {
        assert!(write(0, "%!").unwrap_err().contains("\"%!\""));
    }
}
