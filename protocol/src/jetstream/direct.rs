//! Reading single messages: `STREAM.MSG.GET` and `DIRECT.GET`.

use super::json::{Base64, Timestamp};
use crate::json_struct;

/// What every direct get subject starts with.
pub const PREFIX: &str = "$JS.API.DIRECT.GET.";

/// Header of a direct answer: the stream.
pub const STREAM: &str = "Nats-Stream";
/// Header of a direct answer: the subject the message was stored under.
pub const SUBJECT: &str = "Nats-Subject";
/// Header of a direct answer: the sequence.
pub const SEQUENCE: &str = "Nats-Sequence";
/// Header of a direct answer: when the message was stored.
pub const TIME_STAMP: &str = "Nats-Time-Stamp";
/// Header of a batch: how many messages follow.
pub const NUM_PENDING: &str = "Nats-Num-Pending";
/// Header of a batch: the sequence of the message before.
pub const LAST_SEQUENCE: &str = "Nats-Last-Sequence";

json_struct! {
    /// Which message, or messages, to read.
    #[derive(Eq)]
    pub struct MessageGetRequest as "JSApiMsgGetRequest" {
        /// This sequence, or the first to look at.
        pub seq: u64 => {"seq" omit},
        /// The last message on this subject.
        pub last_by_subj: String => {"last_by_subj" omit},
        /// The next message whose subject matches.
        pub next_by_subj: String => {"next_by_subj" omit},
        /// Most messages (direct get).
        pub batch: i64 => {"batch" omit ("int")},
        /// Most bytes (direct get).
        pub max_bytes: i64 => {"max_bytes" omit ("int")},
        /// The first message at or after this time.
        pub start_time: Option<Timestamp> => {"start_time" omit},
        /// The last message of every subject that matches one of these (direct get).
        pub multi_last: Vec<String> => {"multi_last" omit},
        /// With `multi_last`: as of this sequence.
        pub up_to_seq: u64 => {"up_to_seq" omit},
        /// With `multi_last`: as of before this time.
        pub up_to_time: Option<Timestamp> => {"up_to_time" omit},
        /// Whether headers are left out.
        pub no_hdr: bool => {"no_hdr" omit},
    }
}

json_struct! {
    /// A stored message in JSON.
    #[derive(Eq)]
    pub struct StoredMessage as "StoredMsg" {
        /// Subject.
        pub subject: String => {"subject"},
        /// Sequence.
        pub seq: u64 => {"seq"},
        /// Header block.
        pub hdrs: Base64 => {"hdrs" omit},
        /// Payload.
        pub data: Base64 => {"data" omit},
        /// When it was stored.
        pub time: Timestamp => {"time"},
    }
}
