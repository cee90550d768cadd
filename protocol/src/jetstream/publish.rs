//! Publishing into a stream: the headers that steer it and the acknowledgement.

use super::ApiError;
use crate::json_struct;

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
