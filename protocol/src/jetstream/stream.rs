//! Streams: configuration, state, and what the API shows of them.

use std::collections::BTreeMap;

use super::ApiError;
use super::json::{Context, Json, Node, Timestamp, Value, encode_text};
use crate::{json_enum, json_struct};

json_enum! {
    /// When messages may leave a stream.
    pub enum RetentionPolicy {
        /// When a limit is reached.
        #[default]
        Limits = "limits",
        /// When every interested consumer has acknowledged them.
        Interest = "interest",
        /// When the one consumer of their subject has acknowledged them.
        WorkQueue = "workqueue",
    }
}

json_enum! {
    /// What gives way when a stream is full.
    pub enum DiscardPolicy fold {
        /// The oldest messages.
        #[default]
        Old = "old",
        /// The new message.
        New = "new",
    }
}

json_enum! {
    /// Where messages are kept.
    pub enum StorageType {
        /// On disk.
        #[default]
        File = "file",
        /// In memory.
        Memory = "memory",
    }
}

json_enum! {
    /// When a publish is acknowledged.
    pub enum PersistMode {
        /// Once it is on stable storage.
        #[default]
        Default = "default" | "",
        /// Before it is on stable storage.
        Async = "async",
    }
}

/// Compression of stored messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreCompression {
    /// None.
    #[default]
    None,
    /// S2.
    S2,
}

impl Json for StoreCompression {
    fn go_type() -> String {
        "string".to_owned()
    }

    fn decode(&mut self, node: &Node<'_>, _go: &str, context: &mut Context<'_>) {
        match &node.value {
            Value::Text(text) if text == "none" => *self = Self::None,
            Value::Text(text) if text == "s2" => *self = Self::S2,
            Value::Text(_) | Value::Null => context.fail("unknown compression algorithm".to_owned()),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                context.mismatch(node, "string");
            }
        }
    }

    fn encode(&self, out: &mut String) {
        encode_text(if *self == Self::S2 { "s2" } else { "none" }, out);
    }

    fn is_empty(&self) -> bool {
        *self == Self::None
    }
}

json_struct! {
    /// Where in a cluster a stream shall live.
    #[derive(Eq)]
    pub struct Placement as "Placement" {
        /// Cluster.
        pub cluster: String => {"cluster" omit},
        /// Tags a server must have.
        pub tags: Vec<String> => {"tags" omit},
        /// A server to prefer.
        pub preferred: String => {"preferred" omit},
    }
}

json_struct! {
    /// A mapping of subjects.
    #[derive(Eq)]
    pub struct SubjectTransform as "SubjectTransformConfig" {
        /// Filter of the subjects that are mapped.
        pub src: String => {"src"},
        /// What they become.
        pub dest: String => {"dest"},
    }
}

json_struct! {
    /// Publishing stored messages again on another subject.
    #[derive(Eq)]
    pub struct Republish as "RePublish" {
        /// Filter of the subjects that are published again; empty for all.
        pub src: String => {"src" omit},
        /// What they become.
        pub dest: String => {"dest"},
        /// Whether the payload is left out.
        pub headers_only: bool => {"headers_only" omit},
    }
}

json_struct! {
    /// Bounds for the consumers of a stream.
    #[derive(Eq)]
    pub struct ConsumerLimits as "StreamConsumerLimits" {
        /// Longest inactive threshold, in nanoseconds; 0 for no bound.
        pub inactive_threshold: i64 => {"inactive_threshold" omit ("time.Duration")},
        /// Most messages awaiting acknowledgement; 0 for no bound.
        pub max_ack_pending: i64 => {"max_ack_pending" omit ("int")},
    }
}

json_struct! {
    /// A stream in another account or domain.
    #[derive(Eq)]
    pub struct ExternalStream as "ExternalStream" {
        /// API prefix.
        pub api: String => {"api"},
        /// Prefix of delivery subjects.
        pub deliver: String => {"deliver"},
    }
}

json_struct! {
    /// A durable consumer through which a stream is sourced.
    #[derive(Eq)]
    pub struct StreamConsumerSource as "StreamConsumerSource" {
        /// Name.
        pub name: String => {"name" omit},
        /// Where it delivers.
        pub deliver_subject: String => {"deliver_subject" omit},
    }
}

json_struct! {
    /// The origin of a mirror or source.
    #[derive(Eq)]
    pub struct StreamSource as "StreamSource" {
        /// Name of the origin.
        pub name: String => {"name"},
        /// First sequence to take; 0 for all.
        pub opt_start_seq: u64 => {"opt_start_seq" omit},
        /// Time of the first message to take.
        pub opt_start_time: Option<Timestamp> => {"opt_start_time" omit},
        /// Filter of the subjects to take; empty for all.
        pub filter_subject: String => {"filter_subject" omit},
        /// Mappings of the subjects to take.
        pub subject_transforms: Vec<SubjectTransform> =>
            {"subject_transforms" omit ("server.SubjectTransformConfig")},
        /// Where the origin is, if not in the same account.
        pub external: Option<ExternalStream> => {"external" omit},
        /// The durable consumer to use.
        pub consumer: Option<StreamConsumerSource> => {"consumer" omit},
    }
}

impl StreamSource {
    /// The name under which messages from here are marked in `Nats-Stream-Source`: stream, filter, destination.
    #[must_use]
    pub fn index_name(&self) -> String {
        let or_all = |text: &str| if text.is_empty() { ">".to_owned() } else { text.to_owned() };
        let join = |part: fn(&SubjectTransform) -> &String| {
            self.subject_transforms.iter().map(|each| or_all(part(each))).collect::<Vec<_>>().join("\u{c}")
        };
        if self.subject_transforms.is_empty() {
            format!("{} {} >", self.name, or_all(&self.filter_subject))
        } else {
            format!("{} {} {}", self.name, join(|each| &each.src), join(|each| &each.dest))
        }
    }
}

json_struct! {
    /// The configuration of a stream.
    #[derive(Eq)]
    pub struct StreamConfig as "StreamConfig" {
        /// Name: 1 to 255 bytes, none of white space, `.`, `*`, `>`, `\`, `/`.
        pub name: String => {"name"},
        /// Description, at most 4,096 bytes.
        pub description: String => {"description" omit},
        /// Filters of the subjects that are captured.
        pub subjects: Vec<String> => {"subjects" omit},
        /// When messages may leave.
        pub retention: RetentionPolicy => {"retention"},
        /// Most consumers; -1 for no limit.
        pub max_consumers: i64 => {"max_consumers" ("int")},
        /// Most messages; -1 for no limit.
        pub max_msgs: i64 => {"max_msgs"},
        /// Most bytes; -1 for no limit.
        pub max_bytes: i64 => {"max_bytes"},
        /// Age in nanoseconds at which messages expire; 0 for never.
        pub max_age: i64 => {"max_age" ("time.Duration")},
        /// Most messages on one subject; -1 for no limit.
        pub max_msgs_per_subject: i64 => {"max_msgs_per_subject"},
        /// Most bytes of headers and payload of one message; -1 for no limit.
        pub max_msg_size: i32 => {"max_msg_size" omit},
        /// What gives way when the stream is full.
        pub discard: DiscardPolicy => {"discard"},
        /// Where messages are kept.
        pub storage: StorageType => {"storage"},
        /// Copies in a cluster.
        pub num_replicas: i64 => {"num_replicas" ("int")},
        /// Whether publishes are not acknowledged.
        pub no_ack: bool => {"no_ack" omit},
        /// How long message ids are remembered, in nanoseconds.
        pub duplicate_window: i64 => {"duplicate_window" omit ("time.Duration")},
        /// Where in a cluster the stream shall live.
        pub placement: Option<Placement> => {"placement" omit},
        /// The stream this one mirrors.
        pub mirror: Option<StreamSource> => {"mirror" omit},
        /// The streams this one copies from.
        pub sources: Vec<StreamSource> => {"sources" omit ("*server.StreamSource")},
        /// Compression of stored messages.
        pub compression: StoreCompression => {"compression"},
        /// First sequence of a new stream; 0 for 1.
        pub first_seq: u64 => {"first_seq" omit},
        /// Mapping of incoming subjects.
        pub subject_transform: Option<SubjectTransform> => {"subject_transform" omit},
        /// Publishing stored messages again.
        pub republish: Option<Republish> => {"republish" omit},
        /// Whether direct get is served.
        pub allow_direct: bool => {"allow_direct"},
        /// Whether a mirror serves direct gets of its origin.
        pub mirror_direct: bool => {"mirror_direct"},
        /// Whether discard policy new holds for each subject.
        pub discard_new_per_subject: bool => {"discard_new_per_subject" omit},
        /// Whether nothing may enter or leave.
        pub sealed: bool => {"sealed"},
        /// Whether messages may not be deleted.
        pub deny_delete: bool => {"deny_delete"},
        /// Whether the stream may not be purged.
        pub deny_purge: bool => {"deny_purge"},
        /// Whether `Nats-Rollup` is honoured.
        pub allow_rollup_hdrs: bool => {"allow_rollup_hdrs"},
        /// Bounds for consumers.
        pub consumer_limits: ConsumerLimits => {"consumer_limits"},
        /// Whether `Nats-TTL` is honoured.
        pub allow_msg_ttl: bool => {"allow_msg_ttl"},
        /// Lifetime of markers for deleted subjects, in nanoseconds; 0 for none.
        pub subject_delete_marker_ttl: i64 => {"subject_delete_marker_ttl" omit ("time.Duration")},
        /// Whether messages are counters.
        pub allow_msg_counter: bool => {"allow_msg_counter" omit},
        /// Whether atomic batches are allowed.
        pub allow_atomic: bool => {"allow_atomic" omit},
        /// Whether message schedules are allowed.
        pub allow_msg_schedules: bool => {"allow_msg_schedules" omit},
        /// When a publish is acknowledged.
        pub persist_mode: PersistMode => {"persist_mode" omit},
        /// Whether fast batches are allowed.
        pub allow_batched: bool => {"allow_batched" omit},
        /// Metadata; keys and values together at most 131,072 bytes.
        pub metadata: BTreeMap<String, String> => {"metadata" omit},
    }
}

json_struct! {
    /// Messages that were lost to damage.
    #[derive(Eq)]
    pub struct LostStreamData as "LostStreamData" {
        /// Sequences.
        pub msgs: Vec<u64> => {"msgs"},
        /// Bytes.
        pub bytes: u64 => {"bytes"},
    }
}

json_struct! {
    /// The numbers of a stream.
    #[derive(Eq)]
    pub struct StreamState as "StreamState" {
        /// Messages.
        pub messages: u64 => {"messages"},
        /// Bytes.
        pub bytes: u64 => {"bytes"},
        /// First sequence.
        pub first_seq: u64 => {"first_seq"},
        /// Time of the first message.
        pub first_ts: Timestamp => {"first_ts"},
        /// Last sequence.
        pub last_seq: u64 => {"last_seq"},
        /// Time of the last message.
        pub last_ts: Timestamp => {"last_ts"},
        /// Distinct subjects.
        pub num_subjects: i64 => {"num_subjects" omit ("int")},
        /// Messages by subject, when asked for.
        pub subjects: BTreeMap<String, u64> => {"subjects" omit},
        /// Sequences without a message between the first and the last.
        pub num_deleted: i64 => {"num_deleted" omit ("int")},
        /// These sequences, when asked for.
        pub deleted: Vec<u64> => {"deleted" omit},
        /// What was lost to damage.
        pub lost: Option<LostStreamData> => {"lost" omit},
        /// Consumers.
        pub consumer_count: i64 => {"consumer_count" ("int")},
    }
}

json_struct! {
    /// The servers that keep a stream.
    #[derive(Eq)]
    pub struct ClusterInfo as "ClusterInfo" {
        /// Name of the cluster.
        pub name: String => {"name" omit},
        /// Name of the leading server.
        pub leader: String => {"leader" omit},
    }
}

json_struct! {
    /// How a mirror or source does.
    #[derive(Eq)]
    pub struct StreamSourceInfo as "StreamSourceInfo" {
        /// Name of the origin.
        pub name: String => {"name"},
        /// Where the origin is, if not in the same account.
        pub external: Option<ExternalStream> => {"external" omit},
        /// Messages that are still to be taken.
        pub lag: u64 => {"lag"},
        /// Nanoseconds since the origin was last heard of; -1 for never.
        pub active: i64 => {"active" ("time.Duration")},
        /// What stops it.
        pub error: Option<ApiError> => {"error" omit},
        /// Filter of the subjects that are taken.
        pub filter_subject: String => {"filter_subject" omit},
        /// Mappings of the subjects that are taken.
        pub subject_transforms: Vec<SubjectTransform> =>
            {"subject_transforms" omit ("server.SubjectTransformConfig")},
    }
}

json_struct! {
    /// What the API shows of a stream.
    #[derive(Eq)]
    pub struct StreamInfo as "StreamInfo" {
        /// Configuration.
        pub config: StreamConfig => {"config"},
        /// When it was created.
        pub created: Timestamp => {"created"},
        /// Numbers.
        pub state: StreamState => {"state"},
        /// JetStream domain.
        pub domain: String => {"domain" omit},
        /// The servers that keep it.
        pub cluster: Option<ClusterInfo> => {"cluster" omit},
        /// How its mirror does.
        pub mirror: Option<StreamSourceInfo> => {"mirror" omit},
        /// How its sources do.
        pub sources: Vec<StreamSourceInfo> => {"sources" omit ("*server.StreamSourceInfo")},
        /// When this was gathered.
        pub ts: Timestamp => {"ts"},
    }
}
