//! Pull requests and the status lines that answer them and keep push clients informed.
//!
//! Texts are matched by clients word for word. Deliberately absent: when a status is sent.

use bytes::{BufMut, Bytes};

use super::json::decode_lenient;
use crate::encode::decimal;
use crate::json_struct;

json_struct! {
    /// What a pull request in JSON says about priorities.
    pub struct PriorityGroup as "PriorityGroup" {
        /// The group.
        pub group: String => {"group" omit},
        /// Serve the request only while at least so many messages are to be delivered.
        pub min_pending: i64 => {"min_pending" omit},
        /// Serve the request only while at least so many messages are unacknowledged.
        pub min_ack_pending: i64 => {"min_ack_pending" omit},
        /// The pin of the client.
        pub id: String => {"id" omit},
        /// 0 to 9; the lowest is served first.
        pub priority: i64 => {"priority" omit ("int")},
    }
}

json_struct! {
    /// A pull request in JSON.
    pub struct PullRequest as "JSApiConsumerGetNextRequest" {
        /// How long it may wait, in nanoseconds; 0 for ever.
        pub expires: i64 => {"expires" omit ("time.Duration")},
        /// How many messages.
        pub batch: i64 => {"batch" omit ("int")},
        /// How many bytes; 0 for no limit.
        pub max_bytes: i64 => {"max_bytes" omit ("int")},
        /// Whether it ends when there is nothing more.
        pub no_wait: bool => {"no_wait" omit},
        /// After how many nanoseconds without a message the client hears that the request lives; 0 for never.
        pub idle_heartbeat: i64 => {"idle_heartbeat" omit ("time.Duration")},
        /// Priorities.
        pub priority: PriorityGroup => {embed "PriorityGroup"},
    }
}

/// A pull request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// What is asked for.
    pub request: PullRequest,
    /// Whether it came as JSON: only then priorities are looked at.
    pub json: bool,
}

impl Pull {
    /// Reads the body of a pull request: nothing, a number of messages, or JSON. Any other text asks for one message.
    ///
    /// # Errors
    /// What follows `Bad Request - `.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let body = body.trim_ascii();
        let plain = |batch| Self { request: PullRequest { batch, ..PullRequest::default() }, json: false };
        if body.first() == Some(&b'{') {
            let request: PullRequest = decode_lenient(body)?;
            // nats-server's product wraps, so a heartbeat that never comes is none to it.
            if request.idle_heartbeat > 0 && request.idle_heartbeat.wrapping_mul(2) > request.expires {
                return Err("heartbeat value too large".to_owned());
            }
            return Ok(Self { request, json: true });
        }
        let number = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
        Ok(plain(number.unwrap_or(1)))
    }
}

/// Header with the last consumer sequence, in heartbeats and flow control answers.
pub const LAST_CONSUMER: &str = "Nats-Last-Consumer";
/// Header with the last stream sequence, in heartbeats and flow control answers.
pub const LAST_STREAM: &str = "Nats-Last-Stream";
/// Header with the flow control request that waits for its answer.
pub const CONSUMER_STALLED: &str = "Nats-Consumer-Stalled";
/// Header with the messages a request is still owed.
pub const PENDING_MESSAGES: &str = "Nats-Pending-Messages";
/// Header with the bytes a request may still get.
pub const PENDING_BYTES: &str = "Nats-Pending-Bytes";
/// Header with the length of the payload that `headers_only` leaves out.
pub const MSG_SIZE: &str = "Nats-Msg-Size";

/// The header block `NATS/1.0 <code> <text>`.
#[must_use]
pub fn status(code: u16, text: &str) -> Bytes {
    Bytes::from(format!("NATS/1.0 {code} {text}\r\n\r\n"))
}

/// As [`status`], with what a request is still owed.
#[must_use]
pub fn status_with_pending(code: u16, text: &str, messages: i64, bytes: i64) -> Bytes {
    Bytes::from(format!(
        "NATS/1.0 {code} {text}\r\n{PENDING_MESSAGES}: {messages}\r\n{PENDING_BYTES}: {bytes}\r\n\r\n"
    ))
}

/// The header block of an idle heartbeat; `stalled` is the flow control request that waits for its answer.
#[must_use]
pub fn idle_heartbeat(consumer_seq: u64, stream_seq: u64, stalled: Option<&str>) -> Bytes {
    let stalled = stalled.map(|subject| format!("{CONSUMER_STALLED}: {subject}\r\n")).unwrap_or_default();
    Bytes::from(format!(
        "NATS/1.0 100 Idle Heartbeat\r\n{LAST_CONSUMER}: {consumer_seq}\r\n{LAST_STREAM}: {stream_seq}\r\n{stalled}\r\n"
    ))
}

/// The header block of a flow control request.
#[must_use]
pub fn flow_control_request() -> Bytes {
    Bytes::from_static(b"NATS/1.0 100 FlowControl Request\r\n\r\n")
}

/// Appends the headers of a message whose `size` bytes of payload are left out.
pub fn write_headers_only(headers: &[u8], size: usize, out: &mut impl BufMut) {
    let open = headers.strip_suffix(b"\r\n").unwrap_or(b"NATS/1.0\r\n");
    out.put_slice(open);
    out.put_slice(MSG_SIZE.as_bytes());
    out.put_slice(b": ");
    decimal(out, u64::try_from(size).unwrap_or(u64::MAX));
    out.put_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(body: &str) -> (i64, bool) {
        let pull = Pull::parse(body.as_bytes()).expect(body);
        (pull.request.batch, pull.json)
    }

    #[test]
    fn bodies_are_nothing_a_number_or_json() {
        assert_eq!(batch(""), (1, false));
        assert_eq!(batch(" 10\n"), (10, false));
        assert_eq!(batch("soon"), (1, false));
        assert_eq!(batch(r#"{"batch":5,"unknown":true}"#), (5, true));
        assert_eq!(batch("{}"), (0, true));
        let pull =
            Pull::parse(br#"{"batch":2,"expires":5000,"idle_heartbeat":2500,"group":"g","min_pending":3}"#);
        let request = pull.expect("valid").request;
        assert_eq!((request.expires, request.idle_heartbeat), (5000, 2500));
        assert_eq!((request.priority.group.as_str(), request.priority.min_pending), ("g", 3));
        for heartbeat in [i64::MAX, 1 << 62, 0, -5, i64::MIN] {
            let pull = Pull::parse(format!(r#"{{"idle_heartbeat":{heartbeat}}}"#).as_bytes());
            assert_eq!(pull.expect("as nats-server").request.idle_heartbeat, heartbeat);
        }
    }

    #[test]
    fn refusals() {
        for (body, error) in [
            (r#"{"batch":5"#, "unexpected end of JSON input"),
            (
                r#"{"batch":"x"}"#,
                "json: cannot unmarshal string into Go struct field JSApiConsumerGetNextRequest.batch of type int",
            ),
            (r#"{"expires":10,"idle_heartbeat":6}"#, "heartbeat value too large"),
            (r#"{"no_wait":true,"idle_heartbeat":4611686018427387903}"#, "heartbeat value too large"),
        ] {
            assert_eq!(Pull::parse(body.as_bytes()), Err(error.to_owned()), "{body}");
        }
    }

    #[test]
    fn status_lines() {
        assert_eq!(status(404, "No Messages"), "NATS/1.0 404 No Messages\r\n\r\n");
        assert_eq!(
            status_with_pending(408, "Request Timeout", 3, 0),
            "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\nNats-Pending-Bytes: 0\r\n\r\n"
        );
        assert_eq!(
            idle_heartbeat(1, 2, Some("$JS.FC.S.C.abcd")),
            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\nNats-Last-Stream: 2\r\nNats-Consumer-Stalled: $JS.FC.S.C.abcd\r\n\r\n"
        );
    }

    #[test]
    fn headers_only_keeps_the_headers_there_are() {
        let mut out = Vec::new();
        write_headers_only(b"", 12, &mut out);
        assert_eq!(out, b"NATS/1.0\r\nNats-Msg-Size: 12\r\n\r\n");
        out.clear();
        write_headers_only(b"NATS/1.0\r\nA: b\r\n\r\n", 0, &mut out);
        assert_eq!(out, b"NATS/1.0\r\nA: b\r\nNats-Msg-Size: 0\r\n\r\n");
    }
}
