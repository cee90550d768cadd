//! Subjects and subject filters: what is valid, what matches, what overlaps.
//!
//! A subject is what a message is published on: tokens joined by dots, no token empty, no white space. A filter is what a
//! subscription, a stream or a consumer asks for: `*` stands for exactly one token, `>` (last token only) for one or more.
//! A wildcard counts only when it is a token of its own: `foo*` is a literal.
//!
//! The functions work on the raw bytes of the wire, which need not be UTF-8, and never allocate. [`Subject`] and
//! [`SubjectFilter`] are for names that appear in configuration and JSON: validated once, UTF-8, cheap to clone.
//! Routing tables and subject transforms are elsewhere.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Stands for exactly one token.
pub const WILDCARD: u8 = b'*';
/// Stands for one or more tokens at the end.
pub const FULL_WILDCARD: u8 = b'>';
/// Between two tokens.
pub const SEPARATOR: u8 = b'.';

/// The tokens of a subject or filter, in order; an empty token where two dots meet or at an edge.
///
/// The empty subject has one empty token.
pub fn tokens(subject: &[u8]) -> Tokens<'_> {
    Tokens { rest: Some(subject) }
}

/// See [`tokens`].
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Tokens<'a> {
    /// What has not been handed out yet; `None` after the last token.
    pub fn rest(&self) -> Option<&'a [u8]> {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest?;
        // Tokens are short: a plain loop beats the set-up of a vectorised search.
        match rest.iter().position(|&b| b == SEPARATOR).and_then(|at| rest.split_at_checked(at)) {
            Some((token, after)) => {
                self.rest = after.split_first().map(|(_, after)| after);
                Some(token)
            }
            None => {
                self.rest = None;
                Some(rest)
            }
        }
    }
}

/// The number of tokens; 1 for a subject without a dot, the empty one included.
pub fn token_count(subject: &[u8]) -> usize {
    memchr::memchr_iter(SEPARATOR, subject).count().saturating_add(1)
}

/// The token at `index`, counted from 0.
pub fn token(subject: &[u8], index: usize) -> Option<&[u8]> {
    tokens(subject).nth(index)
}

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0c)
}

#[inline]
fn is_wildcard(token: &[u8]) -> bool {
    matches!(token, [WILDCARD | FULL_WILDCARD])
}

/// Whether a message may be published on `subject`: no token empty, no white space. Wildcard characters are mere text here.
pub fn is_valid_subject(subject: &[u8]) -> bool {
    // One pass: a dot first, last or after a dot bounds an empty token.
    let mut token_is_empty = true;
    for &byte in subject {
        if byte == SEPARATOR {
            if token_is_empty {
                return false;
            }
            token_is_empty = true;
        } else if is_space(byte) {
            return false;
        } else {
            token_is_empty = false;
        }
    }
    !token_is_empty
}

/// Whether no token is a wildcard. Says nothing about empty tokens or white space: see [`is_valid_subject`].
pub fn is_literal(subject: &[u8]) -> bool {
    if memchr::memchr2(WILDCARD, FULL_WILDCARD, subject).is_none() {
        return true;
    }
    !tokens(subject).any(is_wildcard)
}

/// Whether `filter` may be subscribed to: no token empty, no white space, `>` as last token only.
pub fn is_valid_filter(filter: &[u8]) -> bool {
    let mut rest = tokens(filter);
    while let Some(token) = rest.next() {
        if token.is_empty() || token.iter().any(|&b| is_space(b)) {
            return false;
        }
        if token == [FULL_WILDCARD] && rest.rest().is_some() {
            return false;
        }
    }
    true
}

/// Whether a message on `subject` goes to a subscription of `filter`.
///
/// `subject` is taken as text even where it holds wildcard characters. A subject with an empty token matches nothing, as in
/// nats-server's routing. `filter` must be valid.
pub fn matches(subject: &[u8], filter: &[u8]) -> bool {
    let mut subject = tokens(subject);
    let mut filter = tokens(filter);
    loop {
        match (subject.next(), filter.next()) {
            (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some([]), Some(_)) => return false,
            (Some(_), Some([FULL_WILDCARD])) if filter.rest().is_none() => {
                return subject.all(|token| !token.is_empty());
            }
            (Some(_), Some([WILDCARD])) => {}
            (Some(token), Some(wanted)) if token == wanted => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Whether some subject matches both filters. Both must be valid; either may be literal.
pub fn collide(a: &[u8], b: &[u8]) -> bool {
    let mut a = tokens(a);
    let mut b = tokens(b);
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some([FULL_WILDCARD]), Some(_)) | (Some(_), Some([FULL_WILDCARD])) => return true,
            (Some([WILDCARD]), Some(_)) | (Some(_), Some([WILDCARD])) => {}
            (Some(x), Some(y)) if x == y => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Whether every subject that matches `a` also matches `b`. Both must be valid filters; either may be literal.
pub fn is_subset(a: &[u8], b: &[u8]) -> bool {
    let mut a = tokens(a);
    let mut b = tokens(b);
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(_), None) | (None, Some(_)) => return false,
            (Some(_), Some([FULL_WILDCARD])) => return true,
            (Some([FULL_WILDCARD]), Some(_)) => return false,
            (Some(_), Some([WILDCARD])) => {}
            (Some([WILDCARD]), Some(_)) => return false,
            (Some(x), Some(y)) if x == y => {}
            (Some(_), Some(_)) => return false,
        }
    }
}

/// Why a text is no subject or no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing at all.
    #[error("the subject is empty")]
    Empty,
    /// Two dots meet, or one stands first or last.
    #[error("subject {0:?} has an empty token")]
    EmptyToken(String),
    /// Space, tab, CR, LF or FF.
    #[error("subject {0:?} contains white space")]
    Space(String),
    /// `>` with a token after it.
    #[error("subject {0:?} has a token after '>'")]
    FullWildcardNotLast(String),
    /// A wildcard where a literal subject is needed.
    #[error("subject {0:?} contains a wildcard token")]
    Wildcard(String),
    /// Configuration and JSON are UTF-8.
    #[error("subject {0:?} is not UTF-8")]
    NotUtf8(String),
}

fn check_filter(text: &str) -> Result<(), SubjectError> {
    if text.is_empty() {
        return Err(SubjectError::Empty);
    }
    if is_valid_filter(text.as_bytes()) {
        return Ok(());
    }
    if tokens(text.as_bytes()).any(<[u8]>::is_empty) {
        Err(SubjectError::EmptyToken(text.into()))
    } else if text.bytes().any(is_space) {
        Err(SubjectError::Space(text.into()))
    } else {
        Err(SubjectError::FullWildcardNotLast(text.into()))
    }
}

macro_rules! subject_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes over `text`.
            pub fn parse(text: &str) -> Result<Self, SubjectError> {
                let check: fn(&str) -> Result<(), SubjectError> = $check;
                check(text)?;
                Ok(Self(text.into()))
            }

            /// As [`Self::parse`], from the bytes of the wire.
            pub fn parse_bytes(bytes: &[u8]) -> Result<Self, SubjectError> {
                match std::str::from_utf8(bytes) {
                    Ok(text) => Self::parse(text),
                    Err(_) => Err(SubjectError::NotUtf8(String::from_utf8_lossy(bytes).into_owned())),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text as the wire has it.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }

            /// The tokens in order; none is empty.
            pub fn tokens(&self) -> Tokens<'_> {
                tokens(self.as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = SubjectError;

            fn from_str(text: &str) -> Result<Self, SubjectError> {
                Self::parse(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = SubjectError;

            fn try_from(text: &str) -> Result<Self, SubjectError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

subject_type!(
    /// A subject without wildcards: something to publish on.
    Subject,
    |text| {
        check_filter(text)?;
        if is_literal(text.as_bytes()) { Ok(()) } else { Err(SubjectError::Wildcard(text.into())) }
    }
);

subject_type!(
    /// A subject that may hold wildcards: something to subscribe to.
    SubjectFilter,
    check_filter
);

impl SubjectFilter {
    /// Whether a message on `subject` goes to this filter: see [`matches()`].
    pub fn matches(&self, subject: &[u8]) -> bool {
        matches(subject, self.as_bytes())
    }

    /// Whether some subject matches both.
    pub fn collides(&self, other: &SubjectFilter) -> bool {
        collide(self.as_bytes(), other.as_bytes())
    }

    /// Whether every subject of this filter is one of `other`.
    pub fn is_subset(&self, other: &SubjectFilter) -> bool {
        is_subset(self.as_bytes(), other.as_bytes())
    }

    /// Whether no token is a wildcard.
    pub fn is_literal(&self) -> bool {
        is_literal(self.as_bytes())
    }
}

impl From<Subject> for SubjectFilter {
    fn from(subject: Subject) -> SubjectFilter {
        SubjectFilter(subject.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn subjects_and_filters_are_valid_as_in_nats_server() {
        // subject, valid subject, literal, valid filter
        let table: &[(&[u8], bool, bool, bool)] = &[
            (b"", false, true, false),
            (b"foo", true, true, true),
            (b"foo.bar", true, true, true),
            (b".", false, true, false),
            (b".foo", false, true, false),
            (b"foo.", false, true, false),
            (b"foo..bar", false, true, false),
            (b"foo bar", false, true, false),
            (b"foo\tbar", false, true, false),
            (b"foo\rbar", false, true, false),
            (b"foo\nbar", false, true, false),
            (b"foo\x0cbar", false, true, false),
            (b" ", false, true, false),
            (b"*", true, false, true),
            (b">", true, false, true),
            (b"foo.*", true, false, true),
            (b"foo.>", true, false, true),
            (b"foo.>.bar", true, false, false),
            (b">.foo", true, false, false),
            (b"foo*", true, true, true),
            (b"*foo.b>r", true, true, true),
            (b">>", true, true, true),
            (b"**", true, true, true),
            (b"foo.*.bar", true, false, true),
            (b"\xff\xfe.\x00", true, true, true),
        ];
        for &(subject, valid, literal, filter) in table {
            let name = String::from_utf8_lossy(subject);
            assert_eq!(is_valid_subject(subject), valid, "is_valid_subject({name:?})");
            assert_eq!(is_literal(subject), literal, "is_literal({name:?})");
            assert_eq!(is_valid_filter(subject), filter, "is_valid_filter({name:?})");
        }
    }

    #[test]
    fn a_subject_is_text_when_it_is_matched() {
        let table: &[(&str, &str, bool)] = &[
            ("foo", "foo", true),
            ("foo", "bar", false),
            ("foo", "*", true),
            ("foo.bar", "*", false),
            ("foo.bar", "foo.*", true),
            ("foo.bar", "*.bar", true),
            ("foo.bar", ">", true),
            ("foo", "foo.>", false),
            ("foo.bar.baz", "foo.>", true),
            ("foo.bar", "foo.bar.>", false),
            ("foo.*", "foo.*", true),
            ("foo.*", "foo.>", true),
            ("foo.*", "foo.bar", false),
            ("foo.>", "foo.*", true),
            ("foo.bar", "foo.b*", false),
            ("foo.b*", "foo.b*", true),
            ("FOO", "foo", false),
            // An empty token matches nothing, neither as a wildcard's token nor under the full one.
            ("foo..bar", "foo.*.bar", false),
            ("foo..bar", ">", false),
            ("foo.", "foo.*", false),
            ("foo.", "foo.>", false),
            (".foo", "*.foo", false),
            ("", ">", false),
            ("", "*", false),
            ("a.b.", ">", false),
        ];
        for &(subject, filter, expected) in table {
            assert_eq!(matches(subject.as_bytes(), filter.as_bytes()), expected, "{subject:?} to {filter:?}");
        }
    }

    /// Every pattern of one to three tokens out of {a, b, *, >}.
    fn patterns(alphabet: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for x in alphabet {
            all.push((*x).to_string());
            for y in alphabet {
                all.push(format!("{x}.{y}"));
                for z in alphabet {
                    all.push(format!("{x}.{y}.{z}"));
                }
            }
        }
        all
    }

    fn naive_matches(subject: &[&str], filter: &[&str]) -> bool {
        match (subject, filter) {
            ([], []) => true,
            ([_, ..], [">"]) => true,
            ([s, subject @ ..], [f, filter @ ..]) => (*f == "*" || s == f) && naive_matches(subject, filter),
            _ => false,
        }
    }

    /// Collision and subset by trying every literal subject of up to four tokens; `c` stands for any other token.
    #[test]
    fn match_collide_and_subset_agree_with_trying_every_subject() {
        let filters: Vec<String> =
            patterns(&["a", "b", "*", ">"]).into_iter().filter(|f| is_valid_filter(f.as_bytes())).collect();
        let mut subjects = patterns(&["a", "b", "c"]);
        for three in patterns(&["a", "b", "c"]).into_iter().filter(|s| token_count(s.as_bytes()) == 3) {
            for last in ["a", "b", "c"] {
                subjects.push(format!("{three}.{last}"));
            }
        }
        let hits: Vec<Vec<bool>> = filters
            .iter()
            .map(|filter| {
                let naive: Vec<&str> = filter.split('.').collect();
                subjects
                    .iter()
                    .map(|subject| {
                        let expected = naive_matches(&subject.split('.').collect::<Vec<_>>(), &naive);
                        assert_eq!(
                            matches(subject.as_bytes(), filter.as_bytes()),
                            expected,
                            "{subject} to {filter}"
                        );
                        expected
                    })
                    .collect()
            })
            .collect();
        for (a, hits_a) in filters.iter().zip(&hits) {
            for (b, hits_b) in filters.iter().zip(&hits) {
                let both = hits_a.iter().zip(hits_b).any(|(x, y)| *x && *y);
                assert_eq!(collide(a.as_bytes(), b.as_bytes()), both, "{a} and {b}");
                let subset = hits_a.iter().zip(hits_b).all(|(x, y)| !*x || *y);
                assert_eq!(is_subset(a.as_bytes(), b.as_bytes()), subset, "{a} in {b}");
            }
        }
    }

    #[test]
    fn errors_name_the_subject() {
        assert_eq!(Subject::parse(""), Err(SubjectError::Empty));
        assert_eq!(Subject::parse("a..b").unwrap_err().to_string(), "subject \"a..b\" has an empty token");
        assert_eq!(Subject::parse("a b").unwrap_err().to_string(), "subject \"a b\" contains white space");
        assert_eq!(
            Subject::parse("a.*").unwrap_err().to_string(),
            "subject \"a.*\" contains a wildcard token"
        );
        assert_eq!(
            SubjectFilter::parse("a.>.b").unwrap_err().to_string(),
            "subject \"a.>.b\" has a token after '>'"
        );
        assert_eq!(
            SubjectFilter::parse_bytes(b"a\xff").unwrap_err(),
            SubjectError::NotUtf8("a\u{fffd}".into())
        );
        assert!(SubjectFilter::parse("a.*.>").is_ok());
        assert!(Subject::parse("a.b*").is_ok());
        assert!(!SubjectFilter::parse("a.*").unwrap().is_literal());
        assert!(SubjectFilter::parse("a.b*").unwrap().is_literal());
    }

    #[test]
    fn json_round_trip_checks() {
        let filter: SubjectFilter = serde_json::from_str("\"a.>\"").unwrap();
        assert_eq!(serde_json::to_string(&filter).unwrap(), "\"a.>\"");
        let error = serde_json::from_str::<Subject>("\"a.>\"").unwrap_err().to_string();
        assert!(error.contains("contains a wildcard token"), "{error}");
    }

    #[test]
    fn tokens_are_counted_and_found() {
        assert_eq!(token_count(b"a.b.c"), 3);
        assert_eq!(token_count(b""), 1);
        assert_eq!(token(b"a.b.c", 1), Some(&b"b"[..]));
        assert_eq!(token(b"a.b.c", 3), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_as_a_split_on_dots_judges_them(subject in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b'*'), Just(b'>'), Just(b' '), Just(b'a'), any::<u8>()], 0..12)) {
            let space = |t: &[u8]| t.iter().any(|b| b" \t\r\n\x0c".contains(b));
            let split: Vec<&[u8]> = subject.split(|b| *b == b'.').collect();
            let sound = split.iter().all(|t| !t.is_empty() && !space(t));
            prop_assert_eq!(is_valid_subject(&subject), sound);
            prop_assert_eq!(is_literal(&subject), !split.iter().any(|t| *t == b"*" || *t == b">"));
            let last_only = split.iter().rev().skip(1).all(|t| *t != b">");
            prop_assert_eq!(is_valid_filter(&subject), sound && last_only);
            prop_assert_eq!(tokens(&subject).collect::<Vec<_>>(), split.clone());
            prop_assert_eq!(token_count(&subject), split.len());
            prop_assert_eq!(matches(&subject, b">"), split.iter().all(|t| !t.is_empty()));
        }
    }
}
