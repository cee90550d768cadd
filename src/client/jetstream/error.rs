//! Answers of the API: the wanted JSON, or the server's error with its number.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{PublishError, RequestError};

/// An error as JetStream reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub struct ApiError {
    /// Like an HTTP status.
    #[serde(default)]
    pub code: u16,
    /// The number of this very error.
    #[serde(default)]
    pub err_code: u32,
    /// The server's words.
    #[serde(default)]
    pub description: String,
}

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JetStreamError {
    /// The server refuses.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A status line instead of an answer.
    #[error("{subject} was answered with status {code} {text}")]
    Status {
        /// The subject of the request.
        subject: String,
        /// The status.
        code: u16,
        /// Its description.
        text: String,
    },
    /// An answer of the wrong shape.
    #[error("the answer on {subject} cannot be read: {reason}")]
    Malformed {
        /// The subject of the request.
        subject: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<PublishError> for JetStreamError {
    fn from(error: PublishError) -> Self {
        Self::Request(error.into())
    }
}

impl JetStreamError {
    /// The server's number for this error.
    #[must_use]
    pub fn err_code(&self) -> Option<u32> {
        match self {
            Self::Api(error) => Some(error.err_code),
            Self::Request(_) | Self::Status { .. } | Self::Malformed { .. } => None,
        }
    }

    /// Stream, consumer or message not found.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.err_code(), Some(10_059 | 10_014 | 10_037))
    }

    /// The last sequence was not the expected one: somebody else was faster.
    #[must_use]
    pub fn is_wrong_last_sequence(&self) -> bool {
        matches!(self.err_code(), Some(10_071 | 10_164))
    }

    /// There is no JetStream to ask.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        matches!(self, Self::Request(RequestError::NoResponders { .. })) || self.err_code() == Some(10_039)
    }

    /// There was no answer at all.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(
            self,
            Self::Request(
                RequestError::Timeout { .. } | RequestError::Disconnected | RequestError::NoResponders { .. }
            )
        )
    }

    /// Asking again may help: there was no answer, or one that says so (503), such as that of a store that takes nothing now.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.is_unavailable() || matches!(self, Self::Api(ApiError { code: 503, .. }))
    }
}

/// Reads an answer: its `error` if it has one, else the wanted shape.
pub(super) fn parse<T: DeserializeOwned>(subject: &str, payload: &[u8]) -> Result<T, JetStreamError> {
    #[derive(Deserialize)]
    struct Envelope {
        error: Option<ApiError>,
    }
    let malformed = |error: serde_json::Error| JetStreamError::Malformed {
        subject: subject.to_owned(),
        reason: error.to_string(),
    };
    let envelope: Envelope = serde_json::from_slice(payload).map_err(malformed)?;
    match envelope.error {
        Some(error) => Err(error.into()),
        None => serde_json::from_slice(payload).map_err(malformed),
    }
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<Value, JetStreamError> {
    serde_json::to_value(value).map_err(|error| JetStreamError::Malformed {
        subject: "the request".to_owned(),
        reason: error.to_string(),
    })
}
