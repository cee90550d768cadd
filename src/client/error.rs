//! What can go wrong between this client and a server; each error says how far the damage reaches.

use std::io;
use std::time::Duration;

use super::connector::UrlError;

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address itself is wrong.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Nobody answers there.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// The other side speaks, but no NATS.
    #[error("{address} does not speak NATS: {reason}")]
    Protocol {
        /// Who.
        address: String,
        /// What it sent.
        reason: String,
    },
    /// The server refused, for example for wrong credentials. The text is the server's.
    #[error("{address} refuses the connection: {reason}")]
    Refused {
        /// Who.
        address: String,
        /// The text of its -ERR.
        reason: String,
    },
}

/// A message that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Empty token, white space, or a wildcard where none may stand.
    #[error("subject {0:?} is not valid")]
    Subject(String),
    /// Headers and payload together are above the server's limit.
    #[error("message of {size} bytes exceeds the server's max_payload {limit}")]
    TooLarge {
        /// Headers and payload, in bytes.
        size: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The client was closed, or may not reconnect.
    #[error("the connection is closed")]
    Closed,
}

/// The server cannot be asked now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the server is lost")]
pub struct UnavailableError;

/// A request without a useful answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens on the subject.
    #[error("nobody answers on {subject:?}")]
    NoResponders {
        /// The subject of the request.
        subject: String,
    },
    /// No answer in time.
    #[error("no answer on {subject:?} within {timeout:?}")]
    Timeout {
        /// The subject of the request.
        subject: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// The connection broke while waiting: whether the request was carried out is not known.
    #[error("the connection to the server was lost before the answer")]
    Disconnected,
    /// The request was not sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
