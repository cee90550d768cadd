//! Ids of devices and sessions, and the one code in which they stand in subjects, stream names and keys.
//!
//! Bytes outside `[A-Za-z0-9_-]` become `=XX`, so two different ids never meet in one name, and a name can be read back.
//! Subjects and streams keep the case of an id; the KV key is the same code in lower case, so ids that differ only in case
//! share a key, and the second one is refused by whoever keeps the row.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id, in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// Longest code of an id: the longest prefix of a stream name (`STREAMS_BUFFER_`) and it fit the 255 bytes of one.
pub const TOKEN_BYTES_MAX: usize = 240;

/// An id of a device or a session: 1 to 128 bytes without control characters, white space at its ends taken off.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Arc<str>);

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing but white space.
    #[error("the id is empty")]
    Empty,
    /// Above [`ID_BYTES_MAX`].
    #[error("the id has {0} bytes, more than {ID_BYTES_MAX}")]
    TooLong(usize),
    /// So many special characters that its code is above [`TOKEN_BYTES_MAX`].
    #[error(
        "the id takes {0} characters in a subject, more than {TOKEN_BYTES_MAX}: use letters, digits, '_' and '-'"
    )]
    TooLongEncoded(usize),
    /// A control character.
    #[error("the id {0:?} contains a control character")]
    Control(String),
}

impl Id {
    /// Reads an id.
    ///
    /// # Errors
    /// See [`IdError`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > ID_BYTES_MAX {
            return Err(IdError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(IdError::Control(text.to_owned()));
        }
        let id = Self(text.into());
        let encoded = id.token().len();
        if encoded > TOKEN_BYTES_MAX {
            return Err(IdError::TooLongEncoded(encoded));
        }
        Ok(id)
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its code: one subject token, or the end of a stream name.
    #[must_use]
    pub fn token(&self) -> String {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut out = String::with_capacity(self.0.len());
        for byte in self.0.bytes() {
            if is_plain(byte) {
                out.push(char::from(byte));
            } else {
                out.push('=');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        out
    }

    /// The id whose code this is; `None` when it is nobody's.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        let mut bytes = Vec::with_capacity(token.len());
        let mut rest = token.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'=' {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            } else {
                bytes.push(byte);
            }
        }
        let id = Self::parse(std::str::from_utf8(&bytes).ok()?).ok()?;
        // Only the code that `token` writes: another one would be a second subject of the same device.
        (id.token() == token).then_some(id)
    }

    /// Its key in a bucket: the code in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.token().to_ascii_lowercase()
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_readable_and_keys_are_lower_case() {
        for (id, token, key) in [
            ("dev-1", "dev-1", "dev-1"),
            ("dev.1", "dev=2E1", "dev=2e1"),
            ("DEV_1", "DEV_1", "dev_1"),
            ("a b", "a=20b", "a=20b"),
            ("*", "=2A", "=2a"),
            ("=", "=3D", "=3d"),
            ("\u{e9}", "=C3=A9", "=c3=a9"),
        ] {
            let id = Id::parse(id).unwrap();
            assert_eq!((id.token().as_str(), id.key().as_str()), (token, key));
        }
    }

    #[test]
    fn white_space_at_the_ends_is_not_part_of_an_id() {
        assert_eq!(Id::parse("  dev-1\n").unwrap().as_str(), "dev-1");
    }

    #[test]
    fn what_is_no_id_is_refused_with_the_limit() {
        assert_eq!(Id::parse(" \t"), Err(IdError::Empty));
        assert_eq!(Id::parse(&"x".repeat(129)), Err(IdError::TooLong(129)));
        assert!(Id::parse(&"x".repeat(128)).is_ok());
        assert_eq!(Id::parse(&".".repeat(128)), Err(IdError::TooLongEncoded(384)));
        assert_eq!(Id::parse("a\nb"), Err(IdError::Control("a\nb".to_owned())));
    }

    #[test]
    fn only_the_canonical_code_is_read() {
        for token in ["=41", "a.b", "=2e", "", "=", "=2", "=GG", "=FF", "a b", "=20a"] {
            assert_eq!(Id::from_token(token), None, "{token}");
        }
    }

    proptest! {
        #[test]
        fn every_id_comes_back_from_its_code(text in "\\PC{1,40}") {
            if let Ok(id) = Id::parse(&text) {
                let token = id.token();
                prop_assert!(token.bytes().all(|b| is_plain(b) || b == b'='));
                prop_assert_eq!(Id::from_token(&token), Some(id));
            }
        }

        #[test]
        fn different_ids_have_different_codes(a in "[a-c=.% ]{1,6}", b in "[a-c=.% ]{1,6}") {
            if let (Ok(a), Ok(b)) = (Id::parse(&a), Id::parse(&b)) {
                prop_assert_eq!(a == b, a.token() == b.token());
            }
        }
    }
}
