//! Why a connection ended, in the words that NATS monitoring and events use.

use std::fmt;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client went away.
    ClientClosed,
    /// More than `max_pending` bytes waited to be written.
    SlowConsumerPendingBytes,
    /// A write took longer than `write_deadline`.
    SlowConsumerWriteDeadline,
    /// The socket refused a write.
    WriteError,
    /// The socket failed while reading.
    ReadError,
    /// What the client sent is no NATS protocol.
    ParseError,
    /// No PONG came for `ping_max` pings.
    StaleConnection,
    /// CONNECT asked for a protocol other than 0 or 1.
    BadClientProtocolVersion,
    /// `max_connections` are there already.
    MaxConnectionsExceeded,
    /// A message was larger than `max_payload`.
    MaxPayloadExceeded,
    /// A control line was longer than `max_control_line`.
    MaxControlLineExceeded,
    /// The client may not do what it asked for.
    AuthenticationFailure,
    /// A message with headers on a connection without, or with a header length that cannot be.
    MessageHeaderViolation,
    /// CONNECT asked for no_responders without headers.
    NoRespondersRequiresHeaders,
    /// The server stops.
    ServerShutdown,
}

impl CloseReason {
    /// The words of NATS.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "Client Closed",
            Self::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            Self::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            Self::WriteError => "Write Error",
            Self::ReadError => "Read Error",
            Self::ParseError => "Parse Error",
            Self::StaleConnection => "Stale Connection",
            Self::BadClientProtocolVersion => "Bad Client Protocol Version",
            Self::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            Self::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            Self::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            Self::AuthenticationFailure => "Authentication Failure",
            Self::MessageHeaderViolation => "Message Header Violation",
            Self::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            Self::ServerShutdown => "Server Shutdown",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
