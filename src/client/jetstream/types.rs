//! Streams as the API describes them, as far as this client looks at them. What it does not know it keeps.
//!
//! Not the types of `weir_protocol::jetstream`: those are what this server implements, word for word; these go to any server
//! and back without losing a field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weir_protocol::time;

use crate::client::json;

/// Where a stream keeps its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory.
    Memory,
}

/// What removes messages besides the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    /// Nothing.
    #[default]
    Limits,
    /// All consumers have acknowledged.
    Interest,
    /// One consumer has acknowledged.
    Workqueue,
}

/// A stream's configuration. Zero or `None` means the server's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamConfig {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it captures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// What removes messages.
    #[serde(default)]
    pub retention: Retention,
    /// Where it keeps messages.
    #[serde(default)]
    pub storage: Storage,
    /// Age at which messages go, in nanoseconds; 0 never.
    #[serde(default)]
    pub max_age: i64,
    /// Bytes above which the oldest go; -1 without limit.
    #[serde(default = "unlimited")]
    pub max_bytes: i64,
    /// Messages above which the oldest go; -1 without limit.
    #[serde(default = "unlimited")]
    pub max_msgs: i64,
    /// Messages of one subject above which its oldest go; -1 without limit.
    #[serde(default = "unlimited")]
    pub max_msgs_per_subject: i64,
    /// How long message ids are remembered, in nanoseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub duplicate_window: i64,
    /// The sequence of the first message of a new stream.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub first_seq: u64,
    /// No acknowledgement of publishes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_ack: bool,
    /// Direct get is answered.
    #[serde(default)]
    pub allow_direct: bool,
    /// Messages cannot be deleted one by one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deny_delete: bool,
    /// `Nats-Rollup` is obeyed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_rollup_hdrs: bool,
    /// `old` or `new`.
    #[serde(default = "discard_old")]
    pub discard: String,
    /// The stream that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Notes of whoever made it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Everything else that the server said.
    #[serde(flatten, deserialize_with = "json::object")]
    pub other: Map<String, Value>,
}

impl StreamConfig {
    /// A stream of this name with unlimited size.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            max_bytes: -1,
            max_msgs: -1,
            max_msgs_per_subject: -1,
            discard: discard_old(),
            ..Self::default()
        }
    }
}

fn unlimited() -> i64 {
    -1
}

fn discard_old() -> String {
    "old".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero_u64(value: &u64) -> bool {
    *value == 0
}

/// What a mirror repeats.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    /// The origin stream.
    pub name: String,
    /// The first sequence to repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opt_start_seq: Option<u64>,
    /// Everything else that the server said.
    #[serde(flatten, deserialize_with = "json::object")]
    pub other: Map<String, Value>,
}

/// What a stream holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct StreamState {
    /// Messages held.
    pub messages: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Sequence of the first message held; one past the last when there is none.
    pub first_seq: u64,
    /// Time of the first message, nanoseconds since 1970; `None` when there is none.
    #[serde(default, deserialize_with = "timestamp")]
    pub first_ts: Option<i64>,
    /// The last sequence ever used.
    pub last_seq: u64,
    /// Time of the last message, nanoseconds since 1970.
    #[serde(default, deserialize_with = "timestamp")]
    pub last_ts: Option<i64>,
    /// Missing sequences between first and last.
    #[serde(default)]
    pub num_deleted: u64,
    /// Which ones, when asked for.
    #[serde(default)]
    pub deleted: Option<Vec<u64>>,
    /// Consumers on it.
    #[serde(default)]
    pub consumer_count: u64,
}

/// How far a mirror is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MirrorInfo {
    /// The origin stream.
    pub name: String,
    /// Messages of the origin not yet here.
    #[serde(default)]
    pub lag: u64,
    /// Nanoseconds since the origin was last heard of; -1 when never.
    #[serde(default)]
    pub active: i64,
    /// Why the origin cannot be read.
    #[serde(default)]
    pub error: Option<super::ApiError>,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct StreamInfo {
    /// Its configuration, defaults filled in.
    pub config: StreamConfig,
    /// When it was made, nanoseconds since 1970.
    #[serde(default, deserialize_with = "timestamp")]
    pub created: Option<i64>,
    /// What it holds.
    pub state: StreamState,
    /// How far it is as a mirror.
    #[serde(default)]
    pub mirror: Option<MirrorInfo>,
    /// The server's clock at this answer, nanoseconds since 1970.
    #[serde(default, deserialize_with = "timestamp")]
    pub ts: Option<i64>,
}

/// Use of JetStream by this account.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct AccountInfo {
    /// Bytes in memory streams.
    #[serde(default)]
    pub memory: u64,
    /// Bytes in file streams.
    #[serde(default)]
    pub storage: u64,
    /// Streams.
    #[serde(default)]
    pub streams: u64,
    /// Consumers.
    #[serde(default)]
    pub consumers: u64,
    /// Everything else that the server said.
    #[serde(flatten, deserialize_with = "json::object")]
    pub other: Map<String, Value>,
}

/// RFC 3339; the year 1 stands for no time.
fn timestamp<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.as_deref().and_then(parse_time))
}

/// Nanoseconds since 1970; `None` for a time outside 1970 to 2262, such as the zero time.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    time::parse_rfc3339(text).ok().filter(|nanos| *nanos >= 0)
}
