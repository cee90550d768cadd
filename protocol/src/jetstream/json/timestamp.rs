//! Times in JSON: RFC 3339 in UTC with as many digits as the nanoseconds need, and Go's zero time for "unset".

use super::syntax::{Node, Value, quote};
use super::{Context, Json};
use crate::time::{self, Problem};

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
        f.write_str(&self.nanos().map_or_else(|| time::ZERO.to_owned(), time::format_rfc3339))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    /// Reads RFC 3339 with any offset; moments outside 1678-2261 become the nearest one inside.
    fn from_str(text: &str) -> Result<Self, String> {
        let nanos = time::read(text).map_err(|problem| refusal(text, problem))?;
        if nanos == time::ZERO_NANOS {
            return Ok(Self::ZERO);
        }
        let nearest = if nanos < 0 { i64::MIN + 1 } else { i64::MAX };
        Ok(Self(i64::try_from(nanos).unwrap_or(nearest).max(i64::MIN + 1)))
    }
}

/// What Go's `time.Parse` says.
fn refusal(text: &str, problem: Problem<'_>) -> String {
    let quoted = |text: &str| quote(text.as_bytes());
    let whole = quoted(text);
    match problem {
        Problem::Missing { element, rest } => {
            format!("parsing time {whole} as \"{LAYOUT}\": cannot parse {} as \"{element}\"", quoted(rest))
        }
        Problem::OutOfRange(what) => format!("parsing time {whole}: {what} out of range"),
        Problem::Extra(rest) => format!("parsing time {whole}: extra text: {}", quoted(rest)),
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
