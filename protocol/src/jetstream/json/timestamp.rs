//! Times in JSON: RFC 3339 in UTC with as many digits as the nanoseconds need, and Go's zero time for "unset".

use super::syntax::{Node, Value, quote};
use super::{Context, Json};

const SECOND: i64 = 1_000_000_000;
const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

/// A moment in nanoseconds since 1970, or [`Timestamp::ZERO`] for "unset" (`0001-01-01T00:00:00Z`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Go's zero time.
    pub const ZERO: Self = Self(i64::MIN);

    /// Whether the time is unset.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == i64::MIN
    }

    /// The nanoseconds, unless the time is unset.
    #[must_use]
    pub const fn nanos(self) -> Option<i64> {
        if self.is_zero() { None } else { Some(self.0) }
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::ZERO
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_zero() {
            return f.write_str("0001-01-01T00:00:00Z");
        }
        let seconds = self.0.div_euclid(SECOND);
        let nanos = self.0.rem_euclid(SECOND);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let rest = seconds.rem_euclid(86_400);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if nanos > 0 {
            let digits = format!("{nanos:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    /// Reads RFC 3339 with any offset; moments outside 1678-2261 become the nearest one inside.
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text)
    }
}

impl Json for Timestamp {
    fn go_type() -> String {
        "time.Time".to_owned()
    }

    fn decode(&mut self, node: &Node<'_>, _go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Null => {}
            Value::Text(text) => match text.parse() {
                Ok(time) => *self = time,
                Err(error) => context.fail(error),
            },
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                context.fail("Time.UnmarshalJSON: input is not a JSON string".to_owned());
            }
        }
    }

    fn encode(&self, out: &mut String) {
        out.push('"');
        out.push_str(&self.to_string());
        out.push('"');
    }

    fn is_empty(&self) -> bool {
        false
    }
}

struct Reader<'a> {
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn refuse(&self, element: &str) -> String {
        let (whole, rest) = (quote(self.whole.as_bytes()), quote(self.rest.as_bytes()));
        format!("parsing time {whole} as \"{LAYOUT}\": cannot parse {rest} as \"{element}\"")
    }

    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {}: {what} out of range", quote(self.whole.as_bytes()))
    }

    fn number(&mut self, digits: usize, element: &str) -> Result<i64, String> {
        let Some((head, tail)) = self.rest.split_at_checked(digits) else { return Err(self.refuse(element)) };
        if !head.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.refuse(element));
        }
        self.rest = tail;
        Ok(head.parse().unwrap_or_default())
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| self.refuse(text))?;
        Ok(())
    }

    fn fraction(&mut self) -> i64 {
        let Some(tail) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let Some((head, tail)) = tail.split_at_checked(digits).filter(|(head, _)| !head.is_empty()) else {
            return 0;
        };
        self.rest = tail;
        format!("{:0<9.9}", head).parse().unwrap_or_default()
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, String> {
        if let Some(tail) = self.rest.strip_prefix('Z') {
            self.rest = tail;
            return Ok(0);
        }
        let refusal = self.refuse("Z07:00");
        let sign = match self.rest.chars().next() {
            Some('+') => 1,
            Some('-') => -1,
            _ => return Err(refusal),
        };
        self.rest = self.rest.get(1..).unwrap_or_default();
        let hour = self.number(2, "Z07:00").map_err(|_| refusal.clone())?;
        self.literal(":").map_err(|_| refusal.clone())?;
        let minute = self.number(2, "Z07:00").map_err(|_| refusal)?;
        if hour > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minute > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        Ok(sign * (hour * 3600 + minute * 60))
    }
}

fn parse(text: &str) -> Result<Timestamp, String> {
    let mut reader = Reader { whole: text, rest: text };
    let year = reader.number(4, "2006")?;
    reader.literal("-")?;
    let month = reader.number(2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(reader.out_of_range("month"));
    }
    reader.literal("-")?;
    let day = reader.number(2, "02")?;
    reader.literal("T")?;
    let hour = reader.number(2, "15")?;
    if hour > 23 {
        return Err(reader.out_of_range("hour"));
    }
    reader.literal(":")?;
    let minute = reader.number(2, "04")?;
    if minute > 59 {
        return Err(reader.out_of_range("minute"));
    }
    reader.literal(":")?;
    let second = reader.number(2, "05")?;
    if second > 59 {
        return Err(reader.out_of_range("second"));
    }
    let nanos = reader.fraction();
    let offset = reader.offset()?;
    if !reader.rest.is_empty() {
        let (whole, rest) = (quote(text.as_bytes()), quote(reader.rest.as_bytes()));
        return Err(format!("parsing time {whole}: extra text: {rest}"));
    }
    if day < 1 || day > days_in(year, month) {
        return Err(reader.out_of_range("day"));
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    if seconds == days(1, 1, 1) * 86_400 && nanos == 0 {
        return Ok(Timestamp::ZERO);
    }
    let whole = i128::from(seconds) * i128::from(SECOND) + i128::from(nanos);
    let nearest = whole.clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX));
    Ok(Timestamp(i64::try_from(nearest).expect("clamped to the range of i64")))
}

fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(next_year, next_month, 1) - days(year, month, 1)
}

/// Days from 1970-01-01 to a date; years are counted from March, so that a leap day ends one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date that lies `days` after 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_and_drop_trailing_zeros() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_500_000_000, "1970-01-01T00:00:01.5Z"),
            (1_709_164_800_000_000_001, "2024-02-29T00:00:00.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(Timestamp(nanos)));
        }
        assert_eq!("2020-01-01T02:00:00+02:00".parse(), Ok(Timestamp(1_577_836_800_000_000_000)));
    }

    #[test]
    fn refusals_speak_as_go_does() {
        for (text, error) in [
            ("x", r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#),
            ("", r#"parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#),
            (
                "2020-01-01T00:00:00",
                r#"parsing time "2020-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
            ),
            ("2020-13-01T00:00:00Z", r#"parsing time "2020-13-01T00:00:00Z": month out of range"#),
            ("2021-02-29T00:00:00Z", r#"parsing time "2021-02-29T00:00:00Z": day out of range"#),
            ("2020-01-01T00:00:00Zx", r#"parsing time "2020-01-01T00:00:00Zx": extra text: "x""#),
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(error.to_owned()), "{text}");
        }
    }
}
