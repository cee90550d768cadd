//! Spans of time in rows and requests: `30s`, `5m`, `1h30m`, as Go writes them without trailing zero units.

use std::time::Duration;

use weir_protocol::duration;

/// Writes a span: `5m`, `1h30m`, `1.5s`, `0s`.
#[must_use]
pub fn format(span: Duration) -> String {
    let text = duration::format(span);
    let text = text.strip_suffix("m0s").map_or(text.clone(), |head| format!("{head}m"));
    text.strip_suffix("h0m").map_or(text.clone(), |head| format!("{head}h"))
}

/// Nanoseconds for a configuration; the longest there is when it does not fit.
#[must_use]
pub fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// `#[serde(with = "span")]`: a span as text.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// As text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format(*span))
    }

    /// From text.
    ///
    /// # Errors
    /// When it is no duration, or a negative one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        weir_protocol::duration::parse(text.trim()).map_err(de::Error::custom)
    }
}

/// `#[serde(default, with = "span::optional")]`: a span as text, or nothing.
pub mod optional {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    /// As text.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::text::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// From text; null and an absent field are nothing.
    ///
    /// # Errors
    /// When it is no duration, or a negative one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        match <Option<std::borrow::Cow<'de, str>>>::deserialize(deserializer)? {
            None => Ok(None),
            Some(text) => weir_protocol::duration::parse(text.trim()).map(Some).map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zero_units_are_left_out_and_all_is_read_back() {
        for (seconds, text) in
            [(0, "0s"), (30, "30s"), (300, "5m"), (5400, "1h30m"), (3600, "1h"), (3601, "1h0m1s")]
        {
            let span = Duration::from_secs(seconds);
            assert_eq!(format(span), text);
            assert_eq!(duration::parse(text), Ok(span));
        }
        assert_eq!(format(Duration::from_millis(1500)), "1.5s");
    }
}
