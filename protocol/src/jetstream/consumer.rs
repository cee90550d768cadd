//! Consumers on the wire: configuration, information, and the requests that create, pause and reset them.
//!
//! Durations are nanoseconds. Field order, omissions and enumerations are Go's, because clients compare what they sent
//! with what comes back. Deliberately absent: defaults and validation, which are the server's.

use std::collections::BTreeMap;

use super::api::{ApiPaged, ApiResponse};
use super::json::{Context, Json, Node, Timestamp, encode_text};
use crate::{json_enum, json_struct};

json_enum! {
    /// Where a consumer starts.
    pub enum DeliverPolicy {
        /// At the first message of the stream.
        #[default]
        All = "all" | "undefined",
        /// At the last message (of the filter).
        Last = "last",
        /// After the last message.
        New = "new",
        /// At `opt_start_seq`.
        ByStartSequence = "by_start_sequence",
        /// At the first message not older than `opt_start_time`.
        ByStartTime = "by_start_time",
        /// With the last message of every subject, then everything after.
        LastPerSubject = "last_per_subject",
    }
}

json_enum! {
    /// What an acknowledgement covers.
    pub enum AckPolicy {
        /// Nothing is acknowledged.
        #[default]
        None = "none",
        /// The message and everything before it.
        All = "all",
        /// The message alone.
        Explicit = "explicit",
        /// As `All`, by the answers to flow control.
        FlowControl = "flow_control",
    }
}

json_enum! {
    /// How fast stored messages are delivered.
    pub enum ReplayPolicy {
        /// As fast as possible.
        #[default]
        Instant = "instant",
        /// With the gaps they were stored with.
        Original = "original",
    }
}

macro_rules! worded_enum {
    (
        $(#[$meta:meta])* $vis:vis enum $name:ident unknown $what:literal {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal ),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        $vis enum $name { $( $(#[$variant_meta])* $variant, )* }

        impl $name {
            /// The word in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }

        impl Json for $name {
            fn go_type() -> String {
                concat!("server.", stringify!($name)).to_owned()
            }

            fn decode(&mut self, node: &Node<'_>, _go: &str, context: &mut Context<'_>) {
                $( if node.raw == concat!("\"", $text, "\"").as_bytes() {
                    *self = Self::$variant;
                    return;
                } )*
                context.fail(format!(concat!("unknown ", $what, ": {}"), String::from_utf8_lossy(node.raw)));
            }

            fn encode(&self, out: &mut String) {
                encode_text(self.as_str(), out);
            }

            fn is_empty(&self) -> bool {
                *self == Self::default()
            }
        }
    };
}

worded_enum! {
    /// Which of several waiting clients gets a message.
    pub enum PriorityPolicy unknown "priority policy" {
        /// Each in turn.
        #[default]
        None = "none",
        /// Those whose condition on the backlog holds.
        Overflow = "overflow",
        /// One, until it goes.
        PinnedClient = "pinned_client",
        /// The one with the lowest number.
        Prioritized = "prioritized",
    }
}

worded_enum! {
    /// What a create request may do.
    pub enum ConsumerAction unknown "consumer action" {
        /// Create or update.
        #[default]
        CreateOrUpdate = "",
        /// Update only.
        Update = "update",
        /// Create only.
        Create = "create",
    }
}

json_struct! {
    /// The configuration of a consumer.
    pub struct ConsumerConfig as "ConsumerConfig" {
        /// The name, for a consumer that outlives its clients.
        pub durable_name: String => {"durable_name" omit},
        /// The name; equal to `durable_name` when both are given.
        pub name: String => {"name" omit},
        /// Free text, at most 4,096 bytes.
        pub description: String => {"description" omit},
        /// Where it starts.
        pub deliver_policy: DeliverPolicy => {"deliver_policy"},
        /// The first sequence, for `by_start_sequence`.
        pub opt_start_seq: u64 => {"opt_start_seq" omit},
        /// The first time, for `by_start_time`.
        pub opt_start_time: Option<Timestamp> => {"opt_start_time" omit},
        /// What an acknowledgement covers.
        pub ack_policy: AckPolicy => {"ack_policy"},
        /// How long a delivered message may go unacknowledged before it is delivered again.
        pub ack_wait: i64 => {"ack_wait" omit ("time.Duration")},
        /// How often a message is delivered at most; -1 for no limit.
        pub max_deliver: i64 => {"max_deliver" omit ("int")},
        /// The waits after the first, second, ... delivery; the last repeats.
        pub backoff: Vec<i64> => {"backoff" omit ("time.Duration")},
        /// The subjects delivered; empty for all.
        pub filter_subject: String => {"filter_subject" omit},
        /// As `filter_subject`, several.
        pub filter_subjects: Vec<String> => {"filter_subjects" omit},
        /// How fast stored messages are delivered.
        pub replay_policy: ReplayPolicy => {"replay_policy"},
        /// The limit of a push consumer in bits per second; 0 for none.
        pub rate_limit_bps: u64 => {"rate_limit_bps" omit},
        /// The share of acknowledgements that are measured, in percent (`"30"` or `"30%"`).
        pub sample_freq: String => {"sample_freq" omit},
        /// How many pull requests may wait.
        pub max_waiting: i64 => {"max_waiting" omit ("int")},
        /// How many messages may be unacknowledged; -1 for no limit.
        pub max_ack_pending: i64 => {"max_ack_pending" omit ("int")},
        /// Whether the client is asked now and then whether it keeps up.
        pub flow_control: bool => {"flow_control" omit},
        /// Whether messages come without their payload.
        pub headers_only: bool => {"headers_only" omit},
        /// The largest batch of a pull request; 0 for no limit.
        pub max_batch: i64 => {"max_batch" omit ("int")},
        /// The longest wait of a pull request; 0 for no limit.
        pub max_expires: i64 => {"max_expires" omit ("time.Duration")},
        /// The largest byte budget of a pull request; 0 for no limit.
        pub max_bytes: i64 => {"max_bytes" omit ("int")},
        /// Where a push consumer delivers to; empty for a pull consumer.
        pub deliver_subject: String => {"deliver_subject" omit},
        /// The queue group whose members share what is pushed.
        pub deliver_group: String => {"deliver_group" omit},
        /// After how long without a delivery a push consumer says that it lives.
        pub idle_heartbeat: i64 => {"idle_heartbeat" omit ("time.Duration")},
        /// After how long without a client the consumer is removed; 0 for never.
        pub inactive_threshold: i64 => {"inactive_threshold" omit ("time.Duration")},
        /// Replicas; 0 for those of the stream.
        pub num_replicas: i64 => {"num_replicas" ("int")},
        /// Whether the state is kept in memory alone.
        pub mem_storage: bool => {"mem_storage" omit},
        /// Whether it is an internal consumer of a mirror or source.
        pub direct: bool => {"direct" omit},
        /// Whether it serves a mirror or source.
        pub sourcing: bool => {"sourcing" omit},
        /// Free pairs; those beginning with `_nats.` are the server's.
        pub metadata: BTreeMap<String, String> => {"metadata" omit},
        /// Until when nothing is delivered.
        pub pause_until: Option<Timestamp> => {"pause_until" omit},
        /// The groups that pull requests name.
        pub priority_groups: Vec<String> => {"priority_groups" omit},
        /// Which of several waiting clients gets a message.
        pub priority_policy: PriorityPolicy => {"priority_policy" omit},
        /// After how long without a request a pinned client is given up.
        pub priority_timeout: i64 => {"priority_timeout" omit ("time.Duration")},
    }
}

impl ConsumerConfig {
    /// Whether the consumer outlives its clients.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !self.durable_name.is_empty()
    }

    /// Whether messages are pushed to a subject rather than pulled.
    #[must_use]
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// The filters: `filter_subject` or `filter_subjects`; empty for everything.
    #[must_use]
    pub fn filters(&self) -> &[String] {
        if self.filter_subject.is_empty() {
            &self.filter_subjects
        } else {
            std::slice::from_ref(&self.filter_subject)
        }
    }
}

json_struct! {
    /// A position of a consumer.
    pub struct SequenceInfo as "SequenceInfo" {
        /// The consumer's sequence.
        pub consumer_seq: u64 => {"consumer_seq"},
        /// The stream's sequence.
        pub stream_seq: u64 => {"stream_seq"},
        /// When it last moved.
        pub last_active: Option<Timestamp> => {"last_active" omit},
    }
}

json_struct! {
    /// The state of a priority group.
    pub struct PriorityGroupState as "PriorityGroupState" {
        /// Its name.
        pub group: String => {"group"},
        /// The pin of the client that has it.
        pub pinned_client_id: String => {"pinned_client_id" omit},
        /// Since when.
        pub pinned_ts: Timestamp => {"pinned_ts"},
    }
}

json_struct! {
    /// What is known about a consumer.
    pub struct ConsumerInfo as "ConsumerInfo" {
        /// Its stream.
        pub stream_name: String => {"stream_name"},
        /// Its name.
        pub name: String => {"name"},
        /// When it was created.
        pub created: Timestamp => {"created"},
        /// Its configuration.
        pub config: Option<ConsumerConfig> => {"config" omit},
        /// The last delivery.
        pub delivered: SequenceInfo => {"delivered"},
        /// Everything at or below is acknowledged.
        pub ack_floor: SequenceInfo => {"ack_floor"},
        /// How many messages are delivered and not acknowledged.
        pub num_ack_pending: i64 => {"num_ack_pending" ("int")},
        /// How many messages were delivered more than once.
        pub num_redelivered: i64 => {"num_redelivered" ("int")},
        /// How many pull requests wait.
        pub num_waiting: i64 => {"num_waiting" ("int")},
        /// How many messages are to be delivered.
        pub num_pending: u64 => {"num_pending"},
        /// Whether a client is subscribed to the deliver subject.
        pub push_bound: bool => {"push_bound" omit},
        /// Whether it is paused.
        pub paused: bool => {"paused" omit},
        /// How much longer.
        pub pause_remaining: i64 => {"pause_remaining" omit ("time.Duration")},
        /// When all this was so.
        pub ts: Timestamp => {"ts"},
        /// The priority groups.
        pub priority_groups: Vec<PriorityGroupState> => {"priority_groups" omit},
    }
}

json_struct! {
    /// The request that creates or updates a consumer.
    pub struct CreateConsumerRequest as "CreateConsumerRequest" {
        /// The stream, as in the subject.
        pub stream_name: String => {"stream_name"},
        /// The configuration.
        pub config: ConsumerConfig => {"config"},
        /// What the request may do.
        pub action: ConsumerAction => {"action"},
        /// Whether what would be adjusted silently is an error.
        pub pedantic: bool => {"pedantic" omit},
    }
}

json_struct! {
    /// The request that pauses or resumes a consumer.
    pub struct PauseConsumerRequest as "JSApiConsumerPauseRequest" {
        /// Until when; unset or past to resume.
        pub pause_until: Timestamp => {"pause_until"},
    }
}

json_struct! {
    /// The request that sets a consumer back.
    pub struct ResetConsumerRequest as "JSApiConsumerResetRequest" {
        /// The next sequence to deliver; 0 for the one after the ack floor.
        pub seq: u64 => {"seq" omit},
    }
}

json_struct! {
    /// The request that takes the pin from a client.
    pub struct UnpinConsumerRequest as "JSApiConsumerUnpinRequest" {
        /// The priority group.
        pub group: String => {"group"},
    }
}

json_struct! {
    /// Response to `CONSUMER.CREATE` and `CONSUMER.INFO`.
    pub struct ConsumerInfoResponse as "JSApiConsumerInfoResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// The consumer.
        pub info: Option<ConsumerInfo> => {embed "ConsumerInfo"},
    }
}

json_struct! {
    /// Response to `CONSUMER.RESET`.
    pub struct ConsumerResetResponse as "JSApiConsumerResetResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// The consumer.
        pub info: Option<ConsumerInfo> => {embed "ConsumerInfo"},
        /// The next sequence to be delivered.
        pub reset_seq: u64 => {"reset_seq"},
    }
}

json_struct! {
    /// Response to `CONSUMER.PAUSE`.
    pub struct ConsumerPauseResponse as "JSApiConsumerPauseResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Whether it is paused.
        pub paused: bool => {"paused"},
        /// Until when.
        pub pause_until: Timestamp => {"pause_until"},
        /// How much longer.
        pub pause_remaining: i64 => {"pause_remaining" omit ("time.Duration")},
    }
}

json_struct! {
    /// Response to `CONSUMER.NAMES`.
    pub struct ConsumerNamesResponse as "JSApiConsumerNamesResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Which part.
        pub page: ApiPaged => {embed "ApiPaged"},
        /// Names; null when there are none.
        pub consumers: Option<Vec<String>> => {"consumers"},
    }
}

json_struct! {
    /// Response to `CONSUMER.LIST`.
    pub struct ConsumerListResponse as "JSApiConsumerListResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Which part.
        pub page: ApiPaged => {embed "ApiPaged"},
        /// Infos.
        pub consumers: Vec<ConsumerInfo> => {"consumers"},
        /// Names of consumers that did not answer.
        pub missing: Vec<String> => {"missing" omit},
        /// Consumers that cannot be served, each with the reason.
        pub offline: BTreeMap<String, String> => {"offline" omit},
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{decode_lenient, decode_strict, encode};
    use super::*;

    #[test]
    fn the_default_configuration_has_gos_shape() {
        assert_eq!(
            encode(&ConsumerConfig::default()),
            r#"{"deliver_policy":"all","ack_policy":"none","replay_policy":"instant","num_replicas":0}"#
        );
    }

    #[test]
    fn a_request_as_the_nats_command_sends_it_is_read_and_comes_back() {
        let text = concat!(
            r#"{"stream_name":"S","config":{"durable_name":"C","name":"C","deliver_policy":"by_start_sequence","opt_start_seq":3,"#,
            r#""ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"filter_subject":"a.\u003e","replay_policy":"instant","#,
            r#""sample_freq":"30%","max_ack_pending":1000,"num_replicas":0,"metadata":{"k":"v"},"#,
            r#""pause_until":"0001-01-01T00:00:00Z"},"action":"create"}"#
        );
        let request: CreateConsumerRequest = decode_strict(text.as_bytes()).expect("valid");
        assert_eq!(request.config.deliver_policy, DeliverPolicy::ByStartSequence);
        assert_eq!(request.config.filters(), ["a.>"]);
        assert_eq!(request.config.pause_until, Some(Timestamp::ZERO));
        assert_eq!(request.action, ConsumerAction::Create);
        assert_eq!(encode(&request), text);
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        for (text, error) in [
            (r#"{"action":"x"}"#, r#"unknown consumer action: "x""#),
            (r#"{"config":{"priority_policy":"x"}}"#, r#"unknown priority policy: "x""#),
            (r#"{"config":{"ack_policy":"x"}}"#, r#"can not unmarshal "\"x\"""#),
            (
                r#"{"config":{"ack_wait":"1s"}}"#,
                "json: cannot unmarshal string into Go struct field ConsumerConfig.config.ack_wait of type time.Duration",
            ),
            (r#"{"config":{"acks":1}}"#, r#"json: unknown field "acks""#),
        ] {
            assert_eq!(
                decode_strict::<CreateConsumerRequest>(text.as_bytes()),
                Err(error.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn information_round_trips() {
        let text = concat!(
            r#"{"stream_name":"S","name":"C","created":"2026-01-02T03:04:05.000000006Z","#,
            r#""config":{"deliver_policy":"undefined","ack_policy":"none","replay_policy":"instant","num_replicas":0},"#,
            r#""delivered":{"consumer_seq":2,"stream_seq":5,"last_active":"2026-01-02T03:04:05Z"},"#,
            r#""ack_floor":{"consumer_seq":0,"stream_seq":0},"num_ack_pending":2,"num_redelivered":0,"num_waiting":0,"#,
            r#""num_pending":7,"push_bound":true,"ts":"2026-01-02T03:04:06Z"}"#
        );
        let info: ConsumerInfo = decode_lenient(text.as_bytes()).expect("valid");
        assert_eq!(encode(&info), text.replace("undefined", "all"));
    }
}
