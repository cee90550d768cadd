//! Publishing into a stream: the headers that steer it and the acknowledgement.

use super::ApiError;
use crate::{duration, json_struct};

/// De-duplication id.
pub const MSG_ID: &str = "Nats-Msg-Id";
/// The stream that must take the message.
pub const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// The sequence the stream's last message must have.
pub const EXPECTED_LAST_SEQUENCE: &str = "Nats-Expected-Last-Sequence";
/// The sequence the subject's last message must have.
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// The subject that the previous header speaks of.
pub const EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
/// The id the stream's last message must have.
pub const EXPECTED_LAST_MSG_ID: &str = "Nats-Expected-Last-Msg-Id";
/// Whether the message replaces those before it: `sub` or `all`.
pub const ROLLUP: &str = "Nats-Rollup";
/// Lifetime of the message.
pub const TTL: &str = "Nats-TTL";

/// The seconds that a value of [`TTL`] says: a span of a second or more, a number of seconds, or `never`, which is -1. `None` when it
/// cannot be read. A number beyond an i64 wraps, as nats-server's does.
#[must_use]
pub fn ttl(value: &[u8]) -> Option<i64> {
    const SECOND: i64 = duration::SECOND.cast_signed();
    if value.eq_ignore_ascii_case(b"never") {
        return Some(-1);
    }
    if let Some(nanos) = std::str::from_utf8(value).ok().and_then(|text| duration::parse_nanos(text).ok()) {
        return (nanos >= SECOND).then_some(nanos / SECOND);
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte & 0x0f));
    let number =
        value.iter().try_fold(0i64, |number, byte| Some(number.wrapping_mul(10).wrapping_add(digit(byte)?)));
    number.filter(|seconds| *seconds >= 0 && !value.is_empty())
}

/// Increment of a counter.
pub const INCREMENT: &str = "Nats-Incr";
/// Batch the message belongs to.
pub const BATCH_ID: &str = "Nats-Batch-Id";
/// Place in the batch.
pub const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
/// End of the batch.
pub const BATCH_COMMIT: &str = "Nats-Batch-Commit";
/// When the message is to be published.
pub const SCHEDULE: &str = "Nats-Schedule";
/// The schedule a message was made by.
pub const SCHEDULER: &str = "Nats-Scheduler";
/// What becomes of the schedule.
pub const SCHEDULE_NEXT: &str = "Nats-Schedule-Next";
/// Where a sourced message came from.
pub const STREAM_SOURCE: &str = "Nats-Stream-Source";
/// Who published, added by the server and never stored.
pub const REQUEST_INFO: &str = "Nats-Request-Info";

json_struct! {
    /// The answer to a publish.
    #[derive(Eq)]
    pub struct PubAck as "PubAck" {
        /// What went wrong; nothing is stored then.
        pub error: Option<ApiError> => {"error" omit},
        /// Stream.
        pub stream: String => {"stream"},
        /// Sequence of the message.
        pub seq: u64 => {"seq"},
        /// JetStream domain.
        pub domain: String => {"domain" omit},
        /// Whether the message was there already.
        pub duplicate: bool => {"duplicate" omit},
        /// Value of the counter.
        pub value: String => {"val" omit},
        /// Batch.
        pub batch: String => {"batch" omit},
        /// Messages of the batch.
        pub count: u64 => {"count" omit},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_read_as_nats_server_reads_them() {
        for (value, seconds) in [
            ("never", Some(-1)),
            ("NEVER", Some(-1)),
            ("1", Some(1)),
            ("10s", Some(10)),
            ("1h30m", Some(5400)),
            ("1.9s", Some(1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("99999999999999999999", Some(7_766_279_631_452_241_919)),
            ("9223372036854775808", None),
            ("00", Some(0)),
            ("0", None),
            ("500ms", None),
            ("-1", None),
            ("-10s", None),
            ("1.5", None),
            ("10000000h", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(ttl(value.as_bytes()), seconds, "{value:?}");
        }
        assert_eq!(ttl(b"\xff"), None);
    }
}
