//! Requests and responses of the JetStream API, and the subjects they travel on.
//!
//! Consumers' own requests and responses stand with the consumers.

use std::collections::BTreeMap;

use super::ApiError;
use super::direct::StoredMessage;
use super::stream::{StreamConfig, StreamInfo};
use crate::{header, json_struct};

/// What every API subject starts with.
pub const PREFIX: &str = "$JS.API.";
/// What every response type starts with.
pub const TYPE_PREFIX: &str = "io.nats.jetstream.api.v1.";
/// Most entries of a page of names.
pub const NAMES_LIMIT: usize = 1024;
/// Most entries of a page of infos.
pub const LIST_LIMIT: usize = 256;
/// Most subjects of a page of stream details.
pub const SUBJECTS_LIMIT: usize = 100_000;
/// Request header: the API level the server must have.
pub const REQUIRED_API_LEVEL: &str = "Nats-Required-Api-Level";

/// Whether a request with these headers asks for a higher API level than `level`. One that is no number is higher than
/// any; an empty one asks for nothing.
#[must_use]
pub fn exceeds_level(headers: &[u8], level: u32) -> bool {
    if headers.is_empty() {
        return false;
    }
    let asked = header::get(headers, REQUIRED_API_LEVEL).filter(|asked| !asked.is_empty());
    asked.is_some_and(|asked| {
        let asked = std::str::from_utf8(asked).ok().and_then(|asked| asked.parse::<i64>().ok());
        asked.is_none_or(|asked| asked > i64::from(level))
    })
}

json_struct! {
    /// What every response starts with.
    #[derive(Eq)]
    pub struct ApiResponse as "ApiResponse" {
        /// Name of the response type, in full.
        pub response_type: String => {"type"},
        /// The error, if it is one.
        pub error: Option<ApiError> => {"error" omit},
    }
}

impl ApiResponse {
    /// A response of type `name`, for instance `stream_info_response`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { response_type: format!("{TYPE_PREFIX}{name}"), error: None }
    }

    /// An error of type `name`.
    #[must_use]
    pub fn failed(name: &str, error: impl Into<ApiError>) -> Self {
        Self { error: Some(error.into()), ..Self::new(name) }
    }
}

json_struct! {
    /// Which part of a long answer this is.
    #[derive(Eq)]
    pub struct ApiPaged as "ApiPaged" {
        /// Entries there are.
        pub total: i64 => {"total" ("int")},
        /// Entries passed over.
        pub offset: i64 => {"offset" ("int")},
        /// Most entries of one answer.
        pub limit: i64 => {"limit" ("int")},
    }
}

json_struct! {
    /// Which part of a long answer is wanted.
    #[derive(Eq)]
    pub struct ApiPagedRequest as "ApiPagedRequest" {
        /// Entries to pass over.
        pub offset: i64 => {"offset" ("int")},
    }
}

json_struct! {
    /// `STREAM.CREATE` and `STREAM.UPDATE`.
    #[derive(Eq)]
    pub struct StreamConfigRequest as "StreamConfigRequest" {
        /// The configuration.
        pub config: StreamConfig => {embed "StreamConfig"},
        /// Whether a silent adjustment is an error.
        pub pedantic: bool => {"pedantic" omit},
    }
}

json_struct! {
    /// Response to `STREAM.CREATE`.
    #[derive(Eq)]
    pub struct StreamCreateResponse as "JSApiStreamCreateResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// The stream.
        pub info: Option<StreamInfo> => {embed "StreamInfo"},
        /// Whether the stream is there now.
        pub did_create: bool => {"did_create" omit},
    }
}

json_struct! {
    /// Response to `STREAM.UPDATE`.
    #[derive(Eq)]
    pub struct StreamUpdateResponse as "JSApiStreamUpdateResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// The stream.
        pub info: Option<StreamInfo> => {embed "StreamInfo"},
    }
}

json_struct! {
    /// `STREAM.INFO`.
    #[derive(Eq)]
    pub struct StreamInfoRequest as "JSApiStreamInfoRequest" {
        /// Which part.
        pub page: ApiPagedRequest => {embed "ApiPagedRequest"},
        /// Whether to list deleted sequences.
        pub deleted_details: bool => {"deleted_details" omit},
        /// Filter of the subjects to list.
        pub subjects_filter: String => {"subjects_filter" omit},
    }
}

json_struct! {
    /// Response to `STREAM.INFO`.
    #[derive(Eq)]
    pub struct StreamInfoResponse as "JSApiStreamInfoResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Which part of the subjects.
        pub page: ApiPaged => {embed "ApiPaged"},
        /// The stream.
        pub info: Option<StreamInfo> => {embed "StreamInfo"},
    }
}

json_struct! {
    /// `STREAM.NAMES`.
    #[derive(Eq)]
    pub struct StreamNamesRequest as "JSApiStreamNamesRequest" {
        /// Which part.
        pub page: ApiPagedRequest => {embed "ApiPagedRequest"},
        /// Only streams whose subjects collide with this.
        pub subject: String => {"subject" omit},
    }
}

json_struct! {
    /// `STREAM.LIST`.
    #[derive(Eq)]
    pub struct StreamListRequest as "JSApiStreamListRequest" {
        /// Which part.
        pub page: ApiPagedRequest => {embed "ApiPagedRequest"},
        /// Only streams whose subjects collide with this.
        pub subject: String => {"subject" omit},
    }
}

json_struct! {
    /// Response to `STREAM.NAMES`.
    #[derive(Eq)]
    pub struct StreamNamesResponse as "JSApiStreamNamesResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Which part.
        pub page: ApiPaged => {embed "ApiPaged"},
        /// Names; null when there are none.
        pub streams: Option<Vec<String>> => {"streams"},
    }
}

json_struct! {
    /// Response to `STREAM.LIST`.
    #[derive(Eq)]
    pub struct StreamListResponse as "JSApiStreamListResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Which part.
        pub page: ApiPaged => {embed "ApiPaged"},
        /// Infos.
        pub streams: Vec<StreamInfo> => {"streams"},
        /// Names of streams that did not answer.
        pub missing: Vec<String> => {"missing" omit},
        /// Streams that cannot be served, each with the reason.
        pub offline: BTreeMap<String, String> => {"offline" omit},
    }
}

json_struct! {
    /// Response that says no more than that it was done.
    #[derive(Eq)]
    pub struct SuccessResponse as "JSApiStreamDeleteResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Whether it was done.
        pub success: bool => {"success" omit},
    }
}

json_struct! {
    /// `STREAM.PURGE`.
    #[derive(Eq)]
    pub struct StreamPurgeRequest as "JSApiStreamPurgeRequest" {
        /// Remove what lies below this sequence.
        pub seq: u64 => {"seq" omit},
        /// Remove only what matches.
        pub filter: String => {"filter" omit},
        /// Leave this many.
        pub keep: u64 => {"keep" omit},
    }
}

json_struct! {
    /// Response to `STREAM.PURGE`.
    #[derive(Eq)]
    pub struct StreamPurgeResponse as "JSApiStreamPurgeResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// Whether it was done.
        pub success: bool => {"success" omit},
        /// Messages removed.
        pub purged: u64 => {"purged"},
    }
}

json_struct! {
    /// `STREAM.MSG.DELETE`.
    #[derive(Eq)]
    pub struct MessageDeleteRequest as "JSApiMsgDeleteRequest" {
        /// Sequence.
        pub seq: u64 => {"seq"},
        /// Whether the bytes may stay on the disk for a while.
        pub no_erase: bool => {"no_erase" omit},
    }
}

json_struct! {
    /// Response to `STREAM.MSG.GET`.
    #[derive(Eq)]
    pub struct MessageGetResponse as "JSApiMsgGetResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// The message.
        pub message: Option<StoredMessage> => {"message" omit},
    }
}

json_struct! {
    /// What an account may use; -1 for no limit.
    #[derive(Eq)]
    pub struct AccountLimits as "JetStreamAccountLimits" {
        /// Bytes in memory.
        pub max_memory: i64 => {"max_memory"},
        /// Bytes on disk.
        pub max_storage: i64 => {"max_storage"},
        /// Streams.
        pub max_streams: i64 => {"max_streams" ("int")},
        /// Consumers of a stream.
        pub max_consumers: i64 => {"max_consumers" ("int")},
        /// Messages of a consumer that await acknowledgement.
        pub max_ack_pending: i64 => {"max_ack_pending" ("int")},
        /// Bytes of a memory stream.
        pub memory_max_stream_bytes: i64 => {"memory_max_stream_bytes"},
        /// Bytes of a file stream.
        pub storage_max_stream_bytes: i64 => {"storage_max_stream_bytes"},
        /// Whether streams must have `max_bytes`.
        pub max_bytes_required: bool => {"max_bytes_required"},
    }
}

json_struct! {
    /// What an account uses.
    #[derive(Eq)]
    pub struct AccountTier as "JetStreamTier" {
        /// Bytes in memory.
        pub memory: u64 => {"memory"},
        /// Bytes on disk.
        pub storage: u64 => {"storage"},
        /// Bytes in memory that streams have reserved.
        pub reserved_memory: u64 => {"reserved_memory"},
        /// Bytes on disk that streams have reserved.
        pub reserved_storage: u64 => {"reserved_storage"},
        /// Streams.
        pub streams: i64 => {"streams" ("int")},
        /// Consumers.
        pub consumers: i64 => {"consumers" ("int")},
        /// What it may use.
        pub limits: AccountLimits => {"limits"},
    }
}

json_struct! {
    /// How much the API was used.
    #[derive(Eq)]
    pub struct ApiStats as "JetStreamAPIStats" {
        /// API level of the server.
        pub level: i64 => {"level" ("int")},
        /// Requests since the start.
        pub total: u64 => {"total"},
        /// Requests answered with an error.
        pub errors: u64 => {"errors"},
    }
}

json_struct! {
    /// Response to `INFO`.
    #[derive(Eq)]
    pub struct AccountInfoResponse as "JSApiAccountInfoResponse" {
        /// Type and error.
        pub response: ApiResponse => {embed "ApiResponse"},
        /// What the account uses.
        pub tier: AccountTier => {embed "JetStreamTier"},
        /// JetStream domain.
        pub domain: String => {"domain" omit},
        /// How much the API was used.
        pub api: ApiStats => {"api"},
        /// The same by tier.
        pub tiers: BTreeMap<String, AccountTier> => {"tiers" omit},
    }
}

/// A request by the tokens of its subject, `$JS.API.` taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiCall<'a> {
    /// `INFO`.
    AccountInfo,
    /// `STREAM.CREATE.<s>`.
    StreamCreate(&'a str),
    /// `STREAM.UPDATE.<s>`.
    StreamUpdate(&'a str),
    /// `STREAM.NAMES`.
    StreamNames,
    /// `STREAM.LIST`.
    StreamList,
    /// `STREAM.INFO.<s>`.
    StreamInfo(&'a str),
    /// `STREAM.DELETE.<s>`.
    StreamDelete(&'a str),
    /// `STREAM.PURGE.<s>`.
    StreamPurge(&'a str),
    /// `STREAM.MSG.GET.<s>`.
    MessageGet(&'a str),
    /// `STREAM.MSG.DELETE.<s>`.
    MessageDelete(&'a str),
    /// A call that only a cluster can serve, with the name of its response type.
    ClusterOnly(&'static str),
    /// `STREAM.SNAPSHOT.<s>`.
    StreamSnapshot(&'a str),
    /// `STREAM.RESTORE.<s>`.
    StreamRestore(&'a str),
    /// `CONSUMER.CREATE.<s>`, `CONSUMER.CREATE.<s>.<c>`, `CONSUMER.CREATE.<s>.<c>.<filter>`.
    ConsumerCreate {
        /// Stream.
        stream: &'a str,
        /// Name, unless the subject has none.
        name: Option<&'a str>,
        /// Filter, unless the subject has none.
        filter: Option<&'a str>,
    },
    /// `CONSUMER.DURABLE.CREATE.<s>.<c>`; without a name, or with more tokens, `name` is absent.
    ConsumerDurableCreate {
        /// Stream.
        stream: &'a str,
        /// Name, unless the subject is malformed.
        name: Option<&'a str>,
    },
    /// `CONSUMER.NAMES.<s>`.
    ConsumerNames(&'a str),
    /// `CONSUMER.LIST.<s>`.
    ConsumerList(&'a str),
    /// `CONSUMER.INFO.<s>.<c>`.
    ConsumerInfo(&'a str, &'a str),
    /// `CONSUMER.DELETE.<s>.<c>`.
    ConsumerDelete(&'a str, &'a str),
    /// `CONSUMER.PAUSE.<s>.<c>`.
    ConsumerPause(&'a str, &'a str),
    /// `CONSUMER.UNPIN.<s>.<c>`.
    ConsumerUnpin(&'a str, &'a str),
    /// None of these.
    Unknown,
}

impl<'a> ApiCall<'a> {
    /// Reads an API subject.
    #[must_use]
    pub fn parse(subject: &'a str) -> Self {
        let Some(rest) = subject.strip_prefix(PREFIX) else { return Self::Unknown };
        let tokens: Vec<&str> = rest.splitn(5, '.').collect();
        match tokens.as_slice() {
            ["INFO"] => Self::AccountInfo,
            ["STREAM", "NAMES"] => Self::StreamNames,
            ["STREAM", "LIST"] => Self::StreamList,
            ["STREAM", "CREATE", stream] => Self::StreamCreate(stream),
            ["STREAM", "UPDATE", stream] => Self::StreamUpdate(stream),
            ["STREAM", "INFO", stream] => Self::StreamInfo(stream),
            ["STREAM", "DELETE", stream] => Self::StreamDelete(stream),
            ["STREAM", "PURGE", stream] => Self::StreamPurge(stream),
            ["STREAM", "MSG", "GET", stream] => Self::MessageGet(stream),
            ["STREAM", "MSG", "DELETE", stream] => Self::MessageDelete(stream),
            ["STREAM", "PEER", "REMOVE", _] => Self::ClusterOnly("stream_remove_peer_response"),
            ["STREAM", "CANCEL_MOVE", _] => Self::ClusterOnly("stream_update_response"),
            ["STREAM", "LEADER", "STEPDOWN", _] => Self::ClusterOnly("stream_leader_stepdown_response"),
            ["STREAM", "SNAPSHOT", stream] => Self::StreamSnapshot(stream),
            ["STREAM", "RESTORE", stream] => Self::StreamRestore(stream),
            ["CONSUMER", "CREATE", stream] => Self::ConsumerCreate { stream, name: None, filter: None },
            ["CONSUMER", "CREATE", stream, name] => {
                Self::ConsumerCreate { stream, name: Some(name), filter: None }
            }
            ["CONSUMER", "CREATE", stream, name, filter] => {
                Self::ConsumerCreate { stream, name: Some(name), filter: Some(filter) }
            }
            ["CONSUMER", "DURABLE", "CREATE", stream] => Self::ConsumerDurableCreate { stream, name: None },
            ["CONSUMER", "DURABLE", "CREATE", stream, name] => {
                Self::ConsumerDurableCreate { stream, name: Some(*name).filter(|name| !name.contains('.')) }
            }
            ["CONSUMER", "NAMES", stream] => Self::ConsumerNames(stream),
            ["CONSUMER", "LIST", stream] => Self::ConsumerList(stream),
            ["CONSUMER", "INFO", stream, name] => Self::ConsumerInfo(stream, name),
            ["CONSUMER", "DELETE", stream, name] => Self::ConsumerDelete(stream, name),
            ["CONSUMER", "PAUSE", stream, name] => Self::ConsumerPause(stream, name),
            ["CONSUMER", "UNPIN", stream, name] => Self::ConsumerUnpin(stream, name),
            ["CONSUMER", "LEADER", "STEPDOWN", _, _] => {
                Self::ClusterOnly("consumer_leader_stepdown_response")
            }
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jetstream::error;
    use crate::jetstream::json::{decode_lenient, decode_strict, encode};

    #[test]
    fn subjects_name_their_call() {
        for (subject, call) in [
            ("$JS.API.INFO", ApiCall::AccountInfo),
            ("$JS.API.STREAM.CREATE.A", ApiCall::StreamCreate("A")),
            ("$JS.API.STREAM.CREATE.A.b", ApiCall::Unknown),
            ("$JS.API.STREAM.MSG.GET.A", ApiCall::MessageGet("A")),
            (
                "$JS.API.CONSUMER.CREATE.A.c.x.*.>",
                ApiCall::ConsumerCreate { stream: "A", name: Some("c"), filter: Some("x.*.>") },
            ),
            (
                "$JS.API.CONSUMER.DURABLE.CREATE.A.c.d",
                ApiCall::ConsumerDurableCreate { stream: "A", name: None },
            ),
            ("$JS.API.STREAM.NOPE", ApiCall::Unknown),
            ("x", ApiCall::Unknown),
        ] {
            assert_eq!(ApiCall::parse(subject), call, "{subject}");
        }
    }

    #[test]
    fn a_required_level_is_a_number_up_to_the_servers() {
        assert!(!exceeds_level(b"", 0));
        assert!(!exceeds_level(b"NATS/1.0\r\nX: 9\r\n\r\n", 0));
        for (asked, exceeds) in
            [("", false), ("0", false), ("2", false), ("3", true), ("-1", false), ("two", true), ("2 ", true)]
        {
            let headers = format!("NATS/1.0\r\n{REQUIRED_API_LEVEL}: {asked}\r\n\r\n");
            assert_eq!(exceeds_level(headers.as_bytes(), 2), exceeds, "{asked:?}");
        }
    }

    #[test]
    fn responses_have_gos_shape() {
        let response = ApiResponse::failed("stream_names_response", error::BAD_REQUEST);
        let names = StreamNamesResponse { response, ..StreamNamesResponse::default() };
        assert_eq!(
            encode(&names),
            concat!(
                r#"{"type":"io.nats.jetstream.api.v1.stream_names_response","#,
                r#""error":{"code":400,"err_code":10003,"description":"bad request"},"#,
                r#""total":0,"offset":0,"limit":0,"streams":null}"#
            )
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let info = StreamInfo {
            config: StreamConfig { name: "A".into(), subjects: vec!["a.>".into()], ..Default::default() },
            ..Default::default()
        };
        let response = StreamCreateResponse {
            response: ApiResponse::new("stream_create_response"),
            info: Some(info),
            did_create: true,
        };
        assert_eq!(decode_lenient(encode(&response).as_bytes()), Ok(response));
        let error = decode_strict::<StreamInfoRequest>(br#"{"offset":"x"}"#).expect_err("no number");
        assert_eq!(
            error,
            "json: cannot unmarshal string into Go struct field \
             JSApiStreamInfoRequest.ApiPagedRequest.offset of type int"
        );
    }
}
