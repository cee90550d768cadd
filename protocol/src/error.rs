//! What a server says before or while it parts with a client: every `-ERR` text, whether it closes, and the reason kept.
//!
//! Clients compare these texts, lower-cased, and take subject and queue out of them by pattern; so they are nats-server's to
//! the byte. Some faults close the connection without a word: they have no wire text. [`std::fmt::Display`] is for logs:
//! it names the value and the limit.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// A fault of the client, or a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each one is")]
pub enum ProtocolError {
    #[error("unknown protocol operation {snippet:?}")]
    UnknownOperation { snippet: String },
    #[error("malformed {verb}: {problem} in {line:?}")]
    Malformed { verb: &'static str, problem: &'static str, line: String },
    #[error("HPUB on a connection that did not negotiate headers")]
    HeadersNotNegotiated,
    #[error("control line longer than max_control_line of {limit} bytes")]
    ControlLineTooLong { limit: usize },
    #[error("message of {size} bytes exceeds max_payload of {limit} bytes")]
    PayloadTooLarge { size: usize, limit: usize },
    #[error("the client sent an error: {0}")]
    FromClient(String),
    #[error("authorization violation")]
    AuthorizationViolation,
    #[error("no valid CONNECT within auth_timeout")]
    AuthenticationTimeout,
    #[error("user authentication expired")]
    UserAuthenticationExpired,
    #[error("user authentication revoked")]
    UserAuthenticationRevoked,
    #[error("account authentication expired")]
    AccountAuthenticationExpired,
    #[error("failed account registration")]
    FailedAccountRegistration,
    #[error("max_connections of the server exceeded")]
    TooManyConnections,
    #[error("connections of the account exceeded")]
    TooManyAccountConnections,
    #[error("subscriptions of the connection exceeded")]
    TooManySubscriptions,
    #[error("publish on an invalid subject by a pedantic client")]
    InvalidPublishSubject,
    #[error("subscription to an invalid subject")]
    InvalidSubject,
    #[error("no permission to publish to {}", quote(.subject))]
    PublishPermission { subject: Vec<u8> },
    #[error("reply subject {} is reserved", quote(.reply))]
    ReplyPermission { reply: Vec<u8> },
    #[error("no permission to subscribe to {}", quote(.subject))]
    SubscriptionPermission { subject: Vec<u8>, queue: Option<Vec<u8>> },
    #[error("permission to subscribe to {} was withdrawn", quote(.subject))]
    SubscriptionPermissionLost { subject: Vec<u8>, queue: Option<Vec<u8>>, sid: Vec<u8> },
    #[error("subscription to {} has more tokens than max_sub_tokens", quote(.subject))]
    TooManySubjectTokens { subject: Vec<u8> },
    #[error("client protocol is neither 0 nor 1")]
    BadClientProtocol,
    #[error("no_responders without headers")]
    NoRespondersRequiresHeaders,
    #[error("more than ping_max pings unanswered")]
    StaleConnection,
    #[error("no TLS handshake within the TLS timeout")]
    TlsRequired,
    #[error("connection_rate_limit reached")]
    ConnectionThrottled,
    #[error("a leaf node's client on the wrong port")]
    WrongPortLeafNode,
    #[error("a route's client on the wrong port")]
    WrongPortRoute,
}

impl ProtocolError {
    /// The text between the quotes of `-ERR '...'`; `None` when the connection closes without a word.
    pub fn wire_text(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::UnknownOperation { .. } => "Unknown Protocol Operation",
            Self::Malformed { .. } | Self::HeadersNotNegotiated | Self::FromClient(_) => return None,
            Self::ControlLineTooLong { .. } => "maximum control line exceeded",
            Self::PayloadTooLarge { .. } => "Maximum Payload Violation",
            Self::AuthorizationViolation => "Authorization Violation",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::UserAuthenticationExpired => "User Authentication Expired",
            Self::UserAuthenticationRevoked => "User Authentication Revoked",
            Self::AccountAuthenticationExpired => "Account Authentication Expired",
            Self::FailedAccountRegistration => "Failed Account Registration",
            Self::TooManyConnections => "maximum connections exceeded",
            Self::TooManyAccountConnections => "maximum account active connections exceeded",
            Self::TooManySubscriptions => "maximum subscriptions exceeded",
            Self::InvalidPublishSubject => "Invalid Publish Subject",
            Self::InvalidSubject => "Invalid Subject",
            Self::BadClientProtocol => "invalid client protocol",
            Self::NoRespondersRequiresHeaders => "no responders requires headers support",
            Self::StaleConnection => "Stale Connection",
            Self::TlsRequired => "Secure Connection - TLS Required",
            Self::ConnectionThrottled => "Connection throttling is active. Please try again later.",
            Self::WrongPortLeafNode => "attempted to connect to leaf node port",
            Self::WrongPortRoute => "attempted to connect to route port",
            Self::PublishPermission { subject } => {
                return Some(format!("Permissions Violation for Publish to {}", quote(subject)).into());
            }
            Self::ReplyPermission { reply } => {
                return Some(
                    format!("Permissions Violation for Publish with Reply of {}", quote(reply)).into(),
                );
            }
            Self::SubscriptionPermission { subject, queue } => {
                return Some(subscription_violation(subject, queue.as_deref()).into());
            }
            Self::SubscriptionPermissionLost { subject, queue, sid } => {
                let text = subscription_violation(subject, queue.as_deref());
                return Some(format!("{text} (sid {})", quote(sid)).into());
            }
            Self::TooManySubjectTokens { subject } => {
                return Some(format!("{}, too many tokens", subscription_violation(subject, None)).into());
            }
        };
        Some(Cow::Borrowed(text))
    }

    /// The reason of the close, as the monitoring reports it; `None` when the connection stays open.
    pub fn closes(&self) -> Option<ClosedReason> {
        Some(match self {
            Self::UnknownOperation { .. } | Self::Malformed { .. } | Self::HeadersNotNegotiated => {
                ClosedReason::ProtocolViolation
            }
            Self::ControlLineTooLong { .. } => ClosedReason::MaxControlLineExceeded,
            Self::PayloadTooLarge { .. } => ClosedReason::MaxPayloadExceeded,
            Self::FromClient(_) => ClosedReason::ParseError,
            Self::AuthorizationViolation => ClosedReason::AuthenticationViolation,
            Self::AuthenticationTimeout => ClosedReason::AuthenticationTimeout,
            Self::UserAuthenticationExpired | Self::AccountAuthenticationExpired => {
                ClosedReason::AuthenticationExpired
            }
            Self::UserAuthenticationRevoked => ClosedReason::Revocation,
            Self::FailedAccountRegistration => ClosedReason::MissingAccount,
            Self::TooManyConnections | Self::ConnectionThrottled => ClosedReason::MaxConnectionsExceeded,
            Self::TooManyAccountConnections => ClosedReason::MaxAccountConnectionsExceeded,
            Self::BadClientProtocol => ClosedReason::BadClientProtocolVersion,
            Self::NoRespondersRequiresHeaders => ClosedReason::NoRespondersRequiresHeaders,
            Self::StaleConnection => ClosedReason::StaleConnection,
            Self::TlsRequired => ClosedReason::TlsHandshakeError,
            Self::WrongPortLeafNode | Self::WrongPortRoute => ClosedReason::WrongPort,
            Self::TooManySubscriptions
            | Self::InvalidPublishSubject
            | Self::InvalidSubject
            | Self::PublishPermission { .. }
            | Self::ReplyPermission { .. }
            | Self::SubscriptionPermission { .. }
            | Self::SubscriptionPermissionLost { .. }
            | Self::TooManySubjectTokens { .. } => return None,
        })
    }
}

fn subscription_violation(subject: &[u8], queue: Option<&[u8]>) -> String {
    match queue {
        None => format!("Permissions Violation for Subscription to {}", quote(subject)),
        Some(queue) => {
            format!(
                "Permissions Violation for Subscription to {} using queue {}",
                quote(subject),
                quote(queue)
            )
        }
    }
}

/// The bytes in double quotes, escaped as Go's `%q` does: clients find subject and queue by these quotes.
fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_add(2));
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c);
        }
        for byte in chunk.invalid() {
            push(&mut out, format_args!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0b' => out.push_str("\\v"),
        '\x0c' => out.push_str("\\f"),
        c if c.is_ascii_control() => push(out, format_args!("\\x{:02x}", u32::from(c))),
        c if c.is_control() => push(out, format_args!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

#[expect(clippy::expect_used, reason = "a String takes whatever is written")]
fn push(out: &mut String, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes whatever is written");
}

/// Why a connection ended, in the words of nats-server's monitoring (`/connz?state=closed`) and its disconnect events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the texts say what each one is")]
pub enum ClosedReason {
    ClientClosed,
    AuthenticationTimeout,
    AuthenticationViolation,
    TlsHandshakeError,
    SlowConsumerPendingBytes,
    SlowConsumerWriteDeadline,
    WriteError,
    ReadError,
    ParseError,
    StaleConnection,
    ProtocolViolation,
    BadClientProtocolVersion,
    WrongPort,
    MaxConnectionsExceeded,
    MaxAccountConnectionsExceeded,
    MaxPayloadExceeded,
    MaxControlLineExceeded,
    MaxSubscriptionsExceeded,
    DuplicateRoute,
    RouteRemoved,
    ServerShutdown,
    AuthenticationExpired,
    WrongGateway,
    MissingAccount,
    Revocation,
    InternalClient,
    MessageHeaderViolation,
    NoRespondersRequiresHeaders,
    Kicked,
    ProxyNotTrusted,
    ProxyRequired,
}

impl ClosedReason {
    /// The text of the monitoring.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::AuthenticationTimeout => "Authentication Timeout",
            Self::AuthenticationViolation => "Authentication Failure",
            Self::TlsHandshakeError => "TLS Handshake Failure",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::StaleConnection => "Stale Connection",
            Self::ProtocolViolation => "Protocol Violation",
            Self::BadClientProtocolVersion => "Bad Client Protocol Version",
            Self::WrongPort => "Incorrect Port",
            Self::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            Self::MaxAccountConnectionsExceeded => "Maximum Account Connections Exceeded",
            Self::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            Self::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            Self::MaxSubscriptionsExceeded => "Maximum Subscriptions Exceeded",
            Self::DuplicateRoute => "Duplicate Route",
            Self::RouteRemoved => "Route Removed",
            Self::ServerShutdown => "Server Shutdown",
            Self::AuthenticationExpired => "Authentication Expired",
            Self::WrongGateway => "Wrong Gateway",
            Self::MissingAccount => "Missing Account",
            Self::Revocation => "Credentials Revoked",
            Self::InternalClient => "Internal Client",
            Self::MessageHeaderViolation => "Message Header Violation",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::Kicked => "Kicked",
            Self::ProxyNotTrusted => "Proxy Not Trusted",
            Self::ProxyRequired => "Proxy Required",
        }
    }
}

impl fmt::Display for ClosedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_text_and_its_effect() {
        use ProtocolError as E;
        let bytes = |text: &str| text.as_bytes().to_vec();
        let table: Vec<(ProtocolError, Option<&str>, Option<&str>)> = vec![
            (
                E::UnknownOperation { snippet: "X".into() },
                Some("Unknown Protocol Operation"),
                Some("Protocol Violation"),
            ),
            (
                E::Malformed { verb: "PUB", problem: "bad size", line: "PUB a x".into() },
                None,
                Some("Protocol Violation"),
            ),
            (E::HeadersNotNegotiated, None, Some("Protocol Violation")),
            (
                E::ControlLineTooLong { limit: 4096 },
                Some("maximum control line exceeded"),
                Some("Maximum Control Line Exceeded"),
            ),
            (
                E::PayloadTooLarge { size: 2, limit: 1 },
                Some("Maximum Payload Violation"),
                Some("Maximum Message Payload Exceeded"),
            ),
            (E::FromClient("bye".into()), None, Some("Parse Error")),
            (E::AuthorizationViolation, Some("Authorization Violation"), Some("Authentication Failure")),
            (E::AuthenticationTimeout, Some("Authentication Timeout"), Some("Authentication Timeout")),
            (
                E::UserAuthenticationExpired,
                Some("User Authentication Expired"),
                Some("Authentication Expired"),
            ),
            (E::UserAuthenticationRevoked, Some("User Authentication Revoked"), Some("Credentials Revoked")),
            (
                E::AccountAuthenticationExpired,
                Some("Account Authentication Expired"),
                Some("Authentication Expired"),
            ),
            (E::FailedAccountRegistration, Some("Failed Account Registration"), Some("Missing Account")),
            (
                E::TooManyConnections,
                Some("maximum connections exceeded"),
                Some("Maximum Connections Exceeded"),
            ),
            (
                E::TooManyAccountConnections,
                Some("maximum account active connections exceeded"),
                Some("Maximum Account Connections Exceeded"),
            ),
            (E::TooManySubscriptions, Some("maximum subscriptions exceeded"), None),
            (E::InvalidPublishSubject, Some("Invalid Publish Subject"), None),
            (E::InvalidSubject, Some("Invalid Subject"), None),
            (
                E::PublishPermission { subject: bytes("a.b") },
                Some("Permissions Violation for Publish to \"a.b\""),
                None,
            ),
            (
                E::ReplyPermission { reply: bytes("$JS.ACK.x") },
                Some("Permissions Violation for Publish with Reply of \"$JS.ACK.x\""),
                None,
            ),
            (
                E::SubscriptionPermission { subject: bytes("a.*"), queue: None },
                Some("Permissions Violation for Subscription to \"a.*\""),
                None,
            ),
            (
                E::SubscriptionPermission { subject: bytes("a"), queue: Some(bytes("q")) },
                Some("Permissions Violation for Subscription to \"a\" using queue \"q\""),
                None,
            ),
            (
                E::SubscriptionPermissionLost { subject: bytes("a"), queue: None, sid: bytes("7") },
                Some("Permissions Violation for Subscription to \"a\" (sid \"7\")"),
                None,
            ),
            (
                E::SubscriptionPermissionLost {
                    subject: bytes("a"),
                    queue: Some(bytes("q")),
                    sid: bytes("7"),
                },
                Some("Permissions Violation for Subscription to \"a\" using queue \"q\" (sid \"7\")"),
                None,
            ),
            (
                E::TooManySubjectTokens { subject: bytes("a.b") },
                Some("Permissions Violation for Subscription to \"a.b\", too many tokens"),
                None,
            ),
            (E::BadClientProtocol, Some("invalid client protocol"), Some("Bad Client Protocol Version")),
            (
                E::NoRespondersRequiresHeaders,
                Some("no responders requires headers support"),
                Some("No Responders Requires Headers"),
            ),
            (E::StaleConnection, Some("Stale Connection"), Some("Stale Connection")),
            (E::TlsRequired, Some("Secure Connection - TLS Required"), Some("TLS Handshake Failure")),
            (
                E::ConnectionThrottled,
                Some("Connection throttling is active. Please try again later."),
                Some("Maximum Connections Exceeded"),
            ),
            (E::WrongPortLeafNode, Some("attempted to connect to leaf node port"), Some("Incorrect Port")),
            (E::WrongPortRoute, Some("attempted to connect to route port"), Some("Incorrect Port")),
        ];
        for (error, text, reason) in table {
            assert_eq!(error.wire_text().as_deref(), text, "{error:?}");
            assert_eq!(error.closes().map(ClosedReason::as_str), reason, "{error:?}");
        }
    }

    #[test]
    fn quoting_is_go_s() {
        assert_eq!(quote(b"a\"b\\c\n\x01\x7f\xff\xc3\xa9"), "\"a\\\"b\\\\c\\n\\x01\\x7f\\xff\u{e9}\"");
    }

    #[test]
    fn logs_name_value_and_limit() {
        let error = ProtocolError::PayloadTooLarge { size: 2048, limit: 1024 };
        assert_eq!(error.to_string(), "message of 2048 bytes exceeds max_payload of 1024 bytes");
    }
}
