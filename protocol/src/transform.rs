//! Subject transforms: a subject rewritten by a source filter and a destination (NATS subject mapping, ADR-30).
//!
//! The destination may take over wildcard tokens of the source with `$n` or `{{wildcard(n)}}` (counted from 1) and the
//! rest of the subject with a last `>`. The functions that compute tokens (`partition`, `split`, ...) are refused by name.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::subject::{self, FULL_WILDCARD, SEPARATOR, WILDCARD};

/// Rewrites subjects that match its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform {
    source: Vec<u8>,
    destination: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    /// The n-th `*` of the source, counted from 0.
    Wildcard(usize),
    Rest,
}

/// Why a transform is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// The source is no subject filter.
    #[error("source '{0}' is not a valid subject filter")]
    Source(String),
    /// The destination is no subject.
    #[error("destination '{0}' is not a valid subject")]
    Destination(String),
    /// `>` must stand at the end of both or of neither.
    #[error("source '{source_filter}' and destination '{destination}' must both end in '>' or neither")]
    Rest {
        /// The source as given.
        source_filter: String,
        /// The destination as given.
        destination: String,
    },
    /// The destination asks for a wildcard that the source does not have.
    #[error("destination token '{token}' asks for a wildcard outside 1 to {wildcards}")]
    Wildcard {
        /// The token as given.
        token: String,
        /// How many `*` the source has.
        wildcards: usize,
    },
    /// A function that is not supported, or none at all.
    #[error("destination token '{0}' is not a supported function (wildcard(n) is)")]
    Function(String),
}

impl Transform {
    /// Parses a transform; an empty source means `>`.
    ///
    /// # Errors
    /// See [`TransformError`].
    pub fn parse(source: &str, destination: &str) -> Result<Self, TransformError> {
        let source = if source.is_empty() { ">" } else { source };
        if !subject::is_valid_filter(source.as_bytes()) {
            return Err(TransformError::Source(source.to_owned()));
        }
        if !subject::is_valid_filter(destination.as_bytes()) {
            return Err(TransformError::Destination(destination.to_owned()));
        }
        let source_tokens: Vec<&[u8]> = subject::tokens(source.as_bytes()).collect();
        let wildcards = source_tokens.iter().filter(|token| **token == [WILDCARD]).count();
        let tokens = subject::tokens(destination.as_bytes())
            .map(|token| parse_token(token, destination, wildcards))
            .collect::<Result<Vec<_>, _>>()?;
        if source_tokens.last().is_some_and(|token| *token == [FULL_WILDCARD])
            != (tokens.last() == Some(&Token::Rest))
        {
            let (source_filter, destination) = (source.to_owned(), destination.to_owned());
            return Err(TransformError::Rest { source_filter, destination });
        }
        Ok(Self { source: source.as_bytes().to_vec(), destination: tokens })
    }

    /// The rewritten subject; `None` when `subject` does not match the source.
    #[must_use]
    pub fn apply(&self, subject: &[u8]) -> Option<Vec<u8>> {
        if !subject::matches(subject, &self.source) {
            return None;
        }
        let mut stars = Vec::new();
        let mut rest = subject::tokens(subject);
        for wanted in subject::tokens(&self.source) {
            if wanted == [FULL_WILDCARD] {
                break;
            }
            let token = rest.next()?;
            if wanted == [WILDCARD] {
                stars.push(token);
            }
        }
        let mut out = Vec::with_capacity(subject.len());
        for (at, token) in self.destination.iter().enumerate() {
            if at > 0 {
                out.push(SEPARATOR);
            }
            match token {
                Token::Literal(text) => out.extend_from_slice(text),
                Token::Wildcard(n) => out.extend_from_slice(stars.get(*n)?),
                Token::Rest => out.extend_from_slice(rest.rest()?),
            }
        }
        Some(out)
    }
}

fn parse_token(token: &[u8], destination: &str, wildcards: usize) -> Result<Token, TransformError> {
    let text = String::from_utf8_lossy(token);
    let number = if token == [FULL_WILDCARD] {
        return Ok(Token::Rest);
    } else if token == [WILDCARD] {
        return Err(TransformError::Destination(destination.to_owned()));
    } else if let Some(number) = text.strip_prefix('$') {
        // `$JS` and the like are text.
        match number.parse::<usize>() {
            Ok(number) => number,
            Err(_) => return Ok(Token::Literal(token.to_vec())),
        }
    } else if let Some(call) = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}")) {
        call.trim()
            .strip_prefix(['w', 'W'])
            .and_then(|rest| rest.strip_prefix("ildcard("))
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|number| number.trim().parse().ok())
            .ok_or_else(|| TransformError::Function(text.clone().into_owned()))?
    } else {
        return Ok(Token::Literal(token.to_vec()));
    };
    match number.checked_sub(1) {
        Some(n) if n < wildcards => Ok(Token::Wildcard(n)),
        Some(_) | None => Err(TransformError::Wildcard { token: text.into_owned(), wildcards }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_what_matches() {
        for (source, destination, from, to) in [
            (">", ">", "monitor.a", Some("monitor.a")),
            ("", "copy.>", "monitor.a", Some("copy.monitor.a")),
            ("production.>", "test.>", "production.a.b", Some("test.a.b")),
            ("production.>", "test.>", "production", None),
            ("monitor.*", "out.$1", "monitor.dev-1", Some("out.dev-1")),
            ("monitor.*", "out.{{wildcard(1)}}.x", "monitor.dev-1", Some("out.dev-1.x")),
            ("*.*.>", "$2.{{Wildcard(1)}}.>", "a.b.c.d", Some("b.a.c.d")),
            ("monitor.*", "one.subject", "monitor.dev-1", Some("one.subject")),
            ("monitor.*", "$JS.x", "monitor.dev-1", Some("$JS.x")),
            ("monitor.*", "out.$1", "other.dev-1", None),
        ] {
            let transform = Transform::parse(source, destination).unwrap();
            let got = transform.apply(from.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(got.as_deref(), to, "{source} -> {destination}: {from}");
        }
    }

    #[test]
    fn refuses_by_name() {
        for (source, destination, error) in [
            ("a..b", "c", "source 'a..b' is not a valid subject filter"),
            ("a", "b c", "destination 'b c' is not a valid subject"),
            ("a.*", "b.*", "destination 'b.*' is not a valid subject"),
            ("a.>", "b", "source 'a.>' and destination 'b' must both end in '>' or neither"),
            ("a", "b.>", "source 'a' and destination 'b.>' must both end in '>' or neither"),
            ("a.*", "b.$2", "destination token '$2' asks for a wildcard outside 1 to 1"),
            ("a.*", "b.$0", "destination token '$0' asks for a wildcard outside 1 to 1"),
            (
                "a.*",
                "b.{{partition(3,1)}}",
                "destination token '{{partition(3,1)}}' is not a supported function (wildcard(n) is)",
            ),
        ] {
            assert_eq!(Transform::parse(source, destination).unwrap_err().to_string(), error);
        }
    }
}
