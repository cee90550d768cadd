//! Configurations: what is filled in, what is refused, what may be changed.
//!
//! The order of the checks and their texts are NATS's, because clients and people know them. Priority groups are
//! refused by name, once they are valid: nothing is accepted and then ignored.

use std::collections::BTreeMap;

use weir_protocol::duration;
use weir_protocol::jetstream::consumer::{AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy};
use weir_protocol::jetstream::stream::{RetentionPolicy, StreamConfig};
use weir_protocol::jetstream::{ApiError, error};
use weir_protocol::subject;

use crate::jetstream::interest::Interest;
use crate::jetstream::stream::config::SEQUENCE_MAX;

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;
/// Ack wait of a consumer that wants acks.
const ACK_WAIT: i64 = 30 * SECOND;
/// Pull requests that may wait.
const MAX_WAITING: i64 = 512;
/// Unacknowledged messages.
const MAX_ACK_PENDING: i64 = 1_000;
/// Inactivity of a consumer without a durable name.
const INACTIVE_THRESHOLD: i64 = 5 * SECOND;
/// Heartbeat of the `flow_control` ack policy.
const FLOW_HEARTBEAT: i64 = SECOND;
const MAX_NAME: usize = 255;
const MAX_DESCRIPTION: usize = 4 * 1024;
const MAX_METADATA: usize = 128 * 1024;

/// Limits that server and account set; 0 or less for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Unacknowledged messages of a consumer, by the server.
    pub max_ack_pending: i64,
    /// Unacknowledged messages of a consumer, by the account.
    pub account_max_ack_pending: i64,
    /// Batch of a pull request.
    pub max_request_batch: i64,
}

/// Metadata: the API level a configuration needs.
pub const LEVEL_NEEDED: &str = "_nats.req.level";
/// Metadata of answers: the version of the server.
pub const SERVER_VERSION: &str = "_nats.ver";
/// Metadata of answers: the API level of the server.
pub const SERVER_LEVEL: &str = "_nats.level";

/// Fills in what is not given; `pedantic` makes an error of every adjustment of what is given.
///
/// # Errors
/// 10157 when `pedantic`.
pub fn with_defaults(
    mut config: ConsumerConfig,
    stream: &StreamConfig,
    limits: &Limits,
    pedantic: bool,
) -> Result<ConsumerConfig, ApiError> {
    let refuse =
        |when: bool, text: &str| if pedantic && when { Err(error::PEDANTIC.with(text)) } else { Ok(()) };
    refuse(config.max_deliver < -1, "max_deliver must be set to -1")?;
    if config.max_deliver == 0 || config.max_deliver < -1 {
        config.max_deliver = -1;
    }
    refuse(config.max_waiting < 0, "max_waiting must not be negative")?;
    config.max_waiting = config.max_waiting.max(0);
    refuse(config.max_ack_pending < -1, "max_ack_pending must be set to -1")?;
    config.max_ack_pending = config.max_ack_pending.max(-1);
    for (value, name) in [
        (&mut config.max_batch, "max_batch"),
        (&mut config.max_expires, "max_expires"),
        (&mut config.max_bytes, "max_bytes"),
        (&mut config.idle_heartbeat, "idle_heartbeat"),
        (&mut config.inactive_threshold, "inactive_threshold"),
        (&mut config.priority_timeout, "priority_timeout"),
    ] {
        refuse(*value < 0, &format!("{name} must not be negative"))?;
        *value = (*value).max(0);
    }
    if !config.is_push() && config.max_waiting == 0 {
        config.max_waiting = MAX_WAITING;
    }
    if config.ack_wait == 0 && matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::All) {
        config.ack_wait = ACK_WAIT;
    }
    if let Some(first) = config.backoff.first() {
        refuse(config.ack_wait != *first, "first backoff value has to equal batch AckWait")?;
        config.ack_wait = *first;
    }
    let inherited = &stream.consumer_limits;
    if config.max_ack_pending == 0 {
        let text = "max_ack_pending must be set if it's configured in stream limits";
        refuse(inherited.max_ack_pending > 0, text)?;
        config.max_ack_pending = inherited.max_ack_pending;
    }
    if config.inactive_threshold == 0 {
        let text = "inactive_threshold must be set if it's configured in stream limits";
        refuse(inherited.inactive_threshold > 0, text)?;
        config.inactive_threshold = inherited.inactive_threshold;
    }
    if config.max_ack_pending == 0 && config.ack_policy != AckPolicy::None {
        let caps = [limits.max_ack_pending, limits.account_max_ack_pending];
        config.max_ack_pending = caps.into_iter().filter(|cap| *cap > 0).fold(MAX_ACK_PENDING, i64::min);
    }
    if !config.is_push() && config.max_batch == 0 && limits.max_request_batch > 0 {
        refuse(true, "max_request_batch must be set if it's JetStream limits are set")?;
        config.max_batch = limits.max_request_batch;
    }
    if config.ack_policy == AckPolicy::FlowControl && !pedantic {
        config.flow_control = true;
        config.idle_heartbeat = FLOW_HEARTBEAT;
    }
    if !config.is_durable() && config.inactive_threshold == 0 {
        config.inactive_threshold = INACTIVE_THRESHOLD;
    }
    set_level_needed(&mut config);
    Ok(config)
}

/// Refuses a configuration that cannot work; its defaults are filled in.
///
/// # Errors
/// The error of the first check that fails.
pub fn validate(config: &ConsumerConfig, stream: &StreamConfig, limits: &Limits) -> Result<(), ApiError> {
    check_names_and_replicas(config, stream)?;
    check_acks(config)?;
    if config.description.len() > MAX_DESCRIPTION {
        return Err(error::CONSUMER_DESCRIPTION_TOO_LONG.with(MAX_DESCRIPTION));
    }
    if config.is_push() {
        check_push(config, stream)?
    } else {
        check_pull(config, stream, limits)?
    }
    check_limits(config, stream, limits)?;
    check_filters(config)?;
    check_start(config)?;
    if !config.sample_freq.is_empty() {
        check_sample_freq(&config.sample_freq)?;
    }
    if config.flow_control && config.idle_heartbeat == 0 {
        return Err(error::CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS.into());
    }
    if !config.durable_name.is_empty() && !config.name.is_empty() && config.name != config.durable_name {
        return Err(error::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH.into());
    }
    let metadata: usize =
        config.metadata.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
    if metadata > MAX_METADATA {
        return Err(error::CONSUMER_METADATA_LENGTH.with(format!("{}KB", MAX_METADATA / 1024)));
    }
    check_priorities(config)?;
    if config.durable_name.len() > MAX_NAME || config.name.len() > MAX_NAME {
        return Err(error::CONSUMER_NAME_TOO_LONG.with(MAX_NAME));
    }
    Ok(())
}

fn invalid(text: impl std::fmt::Display) -> ApiError {
    error::STREAM_INVALID_CONFIG.with(text)
}

fn is_valid_name(name: &str) -> bool {
    !name.contains([' ', '\t', '\r', '\n', '\x0c', '.', '*', '>', '\\', '/'])
}

fn check_names_and_replicas(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    if !is_valid_name(&config.name) {
        return Err(invalid(r"consumer name can not contain '.', '*', '>', '\', '/'"));
    }
    if !is_valid_name(&config.durable_name) {
        return Err(invalid(r"consumer durable name can not contain '.', '*', '>', '\', '/'"));
    }
    if config.num_replicas > 0 && config.num_replicas > stream.num_replicas {
        return Err(error::CONSUMER_REPLICAS_EXCEEDS_STREAM.into());
    }
    if config.num_replicas < 0 {
        return Err(error::REPLICAS_COUNT_CANNOT_BE_NEGATIVE.into());
    }
    if stream.retention != RetentionPolicy::Limits
        && config.num_replicas != 0
        && config.num_replicas != stream.num_replicas
    {
        return Err(error::CONSUMER_REPLICAS_SHOULD_MATCH_STREAM.into());
    }
    Ok(())
}

fn check_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.backoff.iter().any(|wait| *wait < 0) {
        return Err(error::CONSUMER_BACK_OFF_NEGATIVE.into());
    }
    if config.ack_wait < 0 {
        return Err(error::CONSUMER_ACK_WAIT_NEGATIVE.into());
    }
    if config.ack_policy == AckPolicy::FlowControl {
        if !config.is_push() {
            return Err(error::CONSUMER_ACK_FC_REQUIRES_PUSH.into());
        }
        if !config.flow_control {
            return Err(error::CONSUMER_ACK_FC_REQUIRES_FC.into());
        }
        if config.idle_heartbeat != FLOW_HEARTBEAT {
            return Err(invalid("flow control ack policy heartbeat needs to be 1s"));
        }
        if config.max_ack_pending <= 0 {
            return Err(error::CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING.into());
        }
        if config.ack_wait != 0 || !config.backoff.is_empty() {
            return Err(error::CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT.into());
        }
        if config.max_deliver > 0 {
            return Err(error::CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER.into());
        }
    }
    check_backoff(config)
}

fn check_backoff(config: &ConsumerConfig) -> Result<(), ApiError> {
    let waits = i64::try_from(config.backoff.len()).unwrap_or(i64::MAX);
    if waits > 0 && config.max_deliver != -1 && waits > config.max_deliver {
        return Err(error::CONSUMER_MAX_DELIVER_BACKOFF.into());
    }
    Ok(())
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let deliver = config.deliver_subject.as_bytes();
    if !subject::is_literal(deliver) {
        return Err(error::CONSUMER_DELIVER_TO_WILDCARDS.into());
    }
    if !subject::is_valid_filter(deliver) {
        return Err(error::CONSUMER_INVALID_DELIVER_SUBJECT.into());
    }
    if stream.subjects.iter().any(|captured| subject::is_subset(deliver, captured.as_bytes())) {
        return Err(error::CONSUMER_DELIVER_CYCLE.into());
    }
    if config.max_waiting != 0 {
        return Err(error::CONSUMER_PUSH_MAX_WAITING.into());
    }
    if config.max_ack_pending > 0 && config.ack_policy == AckPolicy::None {
        return Err(error::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED.into());
    }
    if config.idle_heartbeat > 0 && config.idle_heartbeat < 100 * MILLISECOND {
        return Err(error::CONSUMER_SMALL_HEARTBEAT.into());
    }
    Ok(())
}

fn check_pull(config: &ConsumerConfig, stream: &StreamConfig, limits: &Limits) -> Result<(), ApiError> {
    if config.ack_policy == AckPolicy::None && stream.retention == RetentionPolicy::WorkQueue {
        return Err(error::CONSUMER_PULL_REQUIRES_ACK.into());
    }
    if config.rate_limit_bps > 0 {
        return Err(error::CONSUMER_PULL_WITH_RATE_LIMIT.into());
    }
    if config.idle_heartbeat > 0 {
        return Err(error::CONSUMER_HB_REQUIRES_PUSH.into());
    }
    if config.flow_control {
        return Err(error::CONSUMER_FC_REQUIRES_PUSH.into());
    }
    if config.max_expires != 0 && config.max_expires < MILLISECOND {
        return Err(error::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL.into());
    }
    if limits.max_request_batch > 0 && config.max_batch > limits.max_request_batch {
        return Err(error::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED.with(limits.max_request_batch));
    }
    Ok(())
}

fn check_limits(config: &ConsumerConfig, stream: &StreamConfig, limits: &Limits) -> Result<(), ApiError> {
    let of_stream = &stream.consumer_limits;
    for limit in [limits.max_ack_pending, limits.account_max_ack_pending, of_stream.max_ack_pending] {
        if limit > 0 && config.max_ack_pending > limit {
            return Err(error::CONSUMER_MAX_PENDING_ACK_EXCESS.with(limit));
        }
    }
    let threshold = of_stream.inactive_threshold;
    if threshold > 0 && config.inactive_threshold > threshold {
        return Err(error::CONSUMER_INACTIVE_THRESHOLD_EXCESS.with(duration::format_nanos(threshold)));
    }
    if config.direct && !config.is_push() {
        return Err(error::CONSUMER_DIRECT_REQUIRES_PUSH.into());
    }
    if config.direct && config.is_durable() {
        return Err(error::CONSUMER_DIRECT_REQUIRES_EPHEMERAL.into());
    }
    Ok(())
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    if !config.filter_subject.is_empty() && !config.filter_subjects.is_empty() {
        return Err(error::CONSUMER_DUPLICATE_FILTER_SUBJECTS.into());
    }
    let bad_subject = || invalid("bad subject");
    if !config.filter_subject.is_empty() && !subject::is_valid_filter(config.filter_subject.as_bytes()) {
        return Err(bad_subject());
    }
    if config.filter_subjects.iter().any(String::is_empty) {
        return Err(error::CONSUMER_EMPTY_FILTER.into());
    }
    let filters = config.filters();
    for (index, filter) in filters.iter().enumerate() {
        if !subject::is_valid_filter(filter.as_bytes()) {
            return Err(bad_subject());
        }
        for (other_index, other) in filters.iter().enumerate() {
            if index != other_index && subject::is_subset(filter.as_bytes(), other.as_bytes()) {
                return Err(error::CONSUMER_OVERLAPPING_SUBJECT_FILTERS.into());
            }
        }
    }
    Ok(())
}

fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let (seq, time) = (config.opt_start_seq > 0, config.opt_start_time.is_some());
    let refuse = |text: String| Err(error::CONSUMER_INVALID_POLICY.with(text));
    if config.opt_start_seq > SEQUENCE_MAX {
        return refuse(format!(
            "start sequence {} exceeds the maximum of {SEQUENCE_MAX}",
            config.opt_start_seq
        ));
    }
    let also = |policy: &str, what: &str| {
        refuse(format!("consumer delivery policy is deliver {policy}, but optional start {what} is also set"))
    };
    let missing = |policy: &str, what: &str| {
        refuse(format!("consumer delivery policy is deliver {policy}, but optional {what} is not set"))
    };
    let word = match config.deliver_policy {
        DeliverPolicy::ByStartSequence if !seq => return missing("by start sequence", "start sequence"),
        DeliverPolicy::ByStartSequence if time => return also("by start sequence", "time"),
        DeliverPolicy::ByStartTime if !time => return missing("by start time", "start time"),
        DeliverPolicy::ByStartTime if seq => return also("by start time", "start sequence"),
        DeliverPolicy::ByStartSequence | DeliverPolicy::ByStartTime => return Ok(()),
        DeliverPolicy::All => "all",
        DeliverPolicy::Last => "last",
        DeliverPolicy::New => "new",
        DeliverPolicy::LastPerSubject => "last per subject",
    };
    if seq {
        return also(word, "sequence");
    }
    if time {
        return also(word, "time");
    }
    if config.deliver_policy == DeliverPolicy::LastPerSubject && config.filters().is_empty() {
        return missing(word, "filter subject");
    }
    Ok(())
}

/// `"30"` or `"30%"`; refused in the words of Go's `strconv.Atoi`.
fn check_sample_freq(text: &str) -> Result<(), ApiError> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    let refuse = |why: &str| Err(error::CONSUMER_INVALID_SAMPLING.with(why));
    match digits.parse::<i64>() {
        Ok(value) if value >= 0 => Ok(()),
        Ok(_) => refuse("<nil>"),
        Err(_) => {
            let quoted = weir_protocol::jetstream::json::quote(digits.as_bytes());
            let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            let numeric = !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit());
            let why = if numeric { "value out of range" } else { "invalid syntax" };
            refuse(&format!("strconv.Atoi: parsing {quoted}: {why}"))
        }
    }
}

fn check_priorities(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.priority_policy == PriorityPolicy::None {
        if !config.priority_groups.is_empty() {
            return Err(error::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE.into());
        }
        if config.priority_timeout > 0 {
            return Err(error::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE.into());
        }
        return Ok(());
    }
    if config.is_push() {
        return Err(error::CONSUMER_PUSH_WITH_PRIORITY_GROUP.into());
    }
    if config.priority_groups.is_empty() {
        return Err(error::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP.into());
    }
    for group in &config.priority_groups {
        if group.is_empty() {
            return Err(error::CONSUMER_EMPTY_GROUP_NAME.into());
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'=' | b'-');
        if group.len() > 16 || !group.bytes().all(allowed) {
            return Err(error::CONSUMER_INVALID_GROUP_NAME.into());
        }
    }
    let policy = config.priority_policy.as_str();
    Err(invalid(format!("priority_policy '{policy}' is not supported by this server; use 'none'")))
}

/// Whether an existing consumer may get this configuration (validated, defaults filled in).
///
/// # Errors
/// 10012 naming what may not change, 10013 while somebody listens on the old deliver subject, 10116.
pub fn check_update(
    old: &ConsumerConfig,
    new: &ConsumerConfig,
    interest: &dyn Interest,
) -> Result<(), ApiError> {
    if old == new {
        return Ok(());
    }
    let refuse = |changed: bool, text: &str| {
        if changed { Err(error::CONSUMER_CREATE.with(text)) } else { Ok(()) }
    };
    refuse(old.deliver_policy != new.deliver_policy, "deliver policy can not be updated")?;
    refuse(old.mem_storage != new.mem_storage, "storage type can not be updated")?;
    refuse(old.opt_start_seq != new.opt_start_seq, "start sequence can not be updated")?;
    refuse(old.opt_start_time != new.opt_start_time, "start time can not be updated")?;
    refuse(old.ack_policy != new.ack_policy, "ack policy can not be updated")?;
    refuse(old.replay_policy != new.replay_policy, "replay policy can not be updated")?;
    refuse(old.idle_heartbeat != new.idle_heartbeat, "heart beats can not be updated")?;
    refuse(old.flow_control != new.flow_control, "flow control can not be updated")?;
    if old.deliver_subject != new.deliver_subject {
        refuse(!old.is_push(), "can not update pull consumer to push based")?;
        refuse(!new.is_push(), "can not update push consumer to pull based")?;
        if interest.has(old.deliver_subject.as_bytes()) {
            return Err(error::CONSUMER_NAME_EXIST.into());
        }
    }
    refuse(old.max_waiting != new.max_waiting, "max waiting can not be updated")?;
    refuse(old.direct != new.direct, "direct can not be updated")?;
    refuse(old.sourcing != new.sourcing, "sourcing can not be updated")?;
    refuse(old.durable_name != new.durable_name, "durable name can not be updated")?;
    check_backoff(new)
}

/// Whether two configurations are the same but for metadata that is the server's.
#[must_use]
pub fn is_same(a: &ConsumerConfig, b: &ConsumerConfig) -> bool {
    let own = |config: &ConsumerConfig| -> BTreeMap<String, String> {
        let servers = [LEVEL_NEEDED, SERVER_VERSION, SERVER_LEVEL];
        let mut metadata = config.metadata.clone();
        metadata.retain(|key, _| !servers.contains(&key.as_str()));
        metadata
    };
    let bare = |config: &ConsumerConfig| ConsumerConfig { metadata: own(config), ..config.clone() };
    bare(a) == bare(b)
}

/// Notes the API level a configuration needs, and drops what only answers carry.
pub fn set_level_needed(config: &mut ConsumerConfig) {
    config.metadata.remove(SERVER_VERSION);
    config.metadata.remove(SERVER_LEVEL);
    let paused = config.pause_until.is_some_and(|until| !until.is_zero());
    let prioritized = config.priority_policy != PriorityPolicy::None
        || config.priority_timeout != 0
        || !config.priority_groups.is_empty();
    let level = match () {
        () if config.ack_policy == AckPolicy::FlowControl => 4,
        () if paused || prioritized => 1,
        () => 0,
    };
    config.metadata.insert(LEVEL_NEEDED.to_owned(), level.to_string());
}

/// Adds the metadata that answers carry (not lists): the server's version and API level.
pub fn answer_metadata(config: &mut ConsumerConfig, version: &str, level: u32) {
    config.metadata.insert(SERVER_VERSION.to_owned(), version.to_owned());
    config.metadata.insert(SERVER_LEVEL.to_owned(), level.to_string());
}

#[cfg(test)]
mod tests;
