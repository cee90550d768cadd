//! What a stream's configuration may say, and what it becomes: defaults, adjustments, refusals.
//!
//! Texts and numbers are nats-server's, because users read them and clients compare them. What this server does not
//! have yet is refused by name and never accepted and ignored. Deliberately absent: whether another stream stands in
//! the way (the engine asks that of its streams).

use std::collections::{BTreeMap, BTreeSet};

use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json::quote;
use weir_protocol::jetstream::stream::{
    DiscardPolicy, PersistMode, Placement, RetentionPolicy, StorageType, StreamConfig, StreamSource,
};
use weir_protocol::subject;

/// Highest sequence that a request may name: far above any that is reached, far below what could overflow.
pub const SEQUENCE_MAX: u64 = 1 << 62;
/// Longest name of a stream or consumer in bytes.
pub const NAME_MAX: usize = 255;
/// Longest description in bytes.
pub const DESCRIPTION_MAX: usize = 4 * 1024;
/// Most bytes of keys and values of metadata together.
pub const METADATA_MAX: usize = 128 * 1024;
/// Duplicate window of a stream that names none, in nanoseconds.
pub const DUPLICATE_WINDOW: i64 = 120_000_000_000;

/// Metadata key: the API level a stream or consumer needs.
pub const REQUIRED_LEVEL: &str = "_nats.req.level";
/// Metadata key of responses: the server's version.
pub const SERVER_VERSION: &str = "_nats.ver";
/// Metadata key of responses: the server's API level.
pub const SERVER_LEVEL: &str = "_nats.level";
/// Metadata key of a mirror: while its origin holds no more than this many bytes, the origin's limits do not remove
/// what the mirror has not copied yet.
pub const HOLD: &str = "weir.hold";
/// Metadata key of such a mirror, set by the server: the sequences that its origin in memory passed over at a restart, as
/// `7-65540,65543-131078`. None of them ever held a message.
pub const UNUSED: &str = "weir.unused";

const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;

/// The configurations of the other streams, by name.
pub trait Neighbours {
    /// The configuration of the stream `name`.
    fn config_of(&self, name: &str) -> Option<&StreamConfig>;
}

impl Neighbours for BTreeMap<String, StreamConfig> {
    fn config_of(&self, name: &str) -> Option<&StreamConfig> {
        self.get(name)
    }
}

fn invalid(text: impl std::fmt::Display) -> ApiError {
    error::STREAM_INVALID_CONFIG.with(text)
}

/// Whether `name` can name a stream or consumer.
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && !name.bytes().any(|byte| {
            matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0c | b'.' | b'*' | b'>' | b'\\' | b'/')
        })
}

/// The configuration as it takes effect: checked, with its defaults filled in.
///
/// # Errors
/// What is wrong with it; with `pedantic` also what would silently be adjusted (10157).
pub fn check(
    config: &StreamConfig,
    pedantic: bool,
    neighbours: &impl Neighbours,
) -> Result<StreamConfig, ApiError> {
    check_names(config)?;
    let mut config = config.clone();
    fill_in_limits(&mut config, pedantic)?;
    check_windows(&mut config, pedantic)?;
    check_permissions(&mut config, pedantic)?;
    check_mirror(&mut config, pedantic, neighbours)?;
    check_sources(&config, neighbours)?;
    check_cycles(&config, neighbours)?;
    check_subjects(&mut config)?;
    check_republish(&mut config, pedantic)?;
    if config.placement.as_ref().is_some_and(|placement| *placement == Placement::default()) {
        config.placement = None;
    }
    if config.placement.as_ref().is_some_and(|placement| !placement.preferred.is_empty()) {
        return Err(invalid("preferred server not permitted in placement"));
    }
    check_supported(&config)?;
    Ok(config)
}

fn check_names(config: &StreamConfig) -> Result<(), ApiError> {
    let starts = config.mirror.iter().chain(&config.sources).map(|origin| origin.opt_start_seq);
    if let Some(seq) = starts.chain([config.first_seq]).find(|seq| *seq > SEQUENCE_MAX) {
        return Err(invalid(format!("sequence {seq} exceeds the maximum of {SEQUENCE_MAX}")));
    }
    if !is_valid_name(&config.name) {
        return Err(invalid(r"stream name is required and can not contain '.', '*', '>', '\', '/'"));
    }
    if config.name.len() > NAME_MAX {
        return Err(invalid(format!("stream name is too long, maximum allowed is {NAME_MAX}")));
    }
    if config.description.len() > DESCRIPTION_MAX {
        return Err(invalid(format!("stream description is too long, maximum allowed is {DESCRIPTION_MAX}")));
    }
    let metadata: usize = config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if metadata > METADATA_MAX {
        return Err(invalid(format!("stream metadata exceeds maximum size of {METADATA_MAX} bytes")));
    }
    Ok(())
}

fn fill_in_limits(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.num_replicas == 0 {
        config.num_replicas = 1;
    }
    if config.num_replicas > 5 {
        return Err(invalid("maximum replicas is 5"));
    }
    if config.num_replicas < 0 {
        return Err(error::REPLICAS_COUNT_CANNOT_BE_NEGATIVE.error());
    }
    let refuse = |limit: i64, name: &str| {
        if pedantic && limit < -1 {
            Err(error::PEDANTIC.with(format!("{name} must be set to -1")))
        } else {
            Ok(if limit == 0 || limit < -1 { -1 } else { limit })
        }
    };
    config.max_msgs = refuse(config.max_msgs, "max_msgs")?;
    config.max_msgs_per_subject = refuse(config.max_msgs_per_subject, "max_msgs_per_subject")?;
    config.max_bytes = refuse(config.max_bytes, "max_bytes")?;
    config.max_msg_size =
        i32::try_from(refuse(i64::from(config.max_msg_size), "max_msg_size")?).unwrap_or(-1);
    config.max_consumers = refuse(config.max_consumers, "max_consumers")?;
    if config.max_age < 0 {
        return Err(invalid("max age can not be negative"));
    }
    if config.max_age != 0 && config.max_age < 100 * MILLISECOND {
        return Err(invalid("max age needs to be >= 100ms"));
    }
    Ok(())
}

fn check_windows(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.duplicate_window == 0 && config.mirror.is_none() && config.sources.is_empty() {
        config.duplicate_window = DUPLICATE_WINDOW;
        if config.max_age != 0 && config.max_age < DUPLICATE_WINDOW {
            if pedantic {
                return Err(error::PEDANTIC.with("duplicate window cannot be bigger than max age"));
            }
            config.duplicate_window = config.max_age;
        }
    }
    if config.duplicate_window < 0 {
        return Err(invalid("duplicates window can not be negative"));
    }
    if config.max_age != 0 && config.duplicate_window > config.max_age {
        return Err(invalid("duplicates window can not be larger then max age"));
    }
    if config.duplicate_window > 0 && config.duplicate_window < 100 * MILLISECOND {
        return Err(invalid("duplicates window needs to be >= 100ms"));
    }
    Ok(())
}

fn check_permissions(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.deny_purge && config.allow_rollup_hdrs {
        return Err(invalid("roll-ups require the purge permission"));
    }
    if config.allow_msg_counter {
        if config.discard == DiscardPolicy::New {
            return Err(invalid("counter stream cannot use discard new"));
        }
        if config.allow_msg_ttl {
            return Err(invalid("counter stream cannot use message TTLs"));
        }
        if config.allow_msg_schedules {
            return Err(invalid("counter stream cannot use message schedules"));
        }
        if config.retention != RetentionPolicy::Limits {
            return Err(invalid("counter stream can only use limits retention"));
        }
    }
    check_discard_per_subject(config)?;
    if config.subject_delete_marker_ttl > 0 {
        if config.subject_delete_marker_ttl < SECOND {
            return Err(invalid("subject delete marker TTL must be at least 1 second"));
        }
        if !config.allow_msg_ttl {
            if pedantic {
                return Err(invalid("subject delete marker cannot be set if message TTLs are disabled"));
            }
            config.allow_msg_ttl = true;
        }
        require_rollup(config, pedantic, "subject delete marker cannot be set if roll-ups are disabled")?;
    } else if config.subject_delete_marker_ttl < 0 {
        return Err(invalid("subject delete marker TTL must not be negative"));
    }
    if config.allow_msg_schedules {
        if config.discard == DiscardPolicy::New {
            return Err(invalid("message scheduling cannot use discard new"));
        }
        require_rollup(config, pedantic, "message scheduling cannot be set if roll-ups are disabled")?;
    }
    if config.persist_mode == PersistMode::Async {
        if config.storage != StorageType::File {
            return Err(invalid("async persist mode is only supported on file storage"));
        }
        if config.num_replicas > 1 {
            return Err(invalid("async persist mode is not supported on replicated streams"));
        }
        if config.allow_atomic {
            return Err(invalid("async persist mode is not supported with atomic batch publish"));
        }
    }
    Ok(())
}

fn check_discard_per_subject(config: &StreamConfig) -> Result<(), ApiError> {
    if config.discard_new_per_subject {
        if config.discard != DiscardPolicy::New {
            return Err(invalid("discard new per subject requires discard new policy to be set"));
        }
        if config.max_msgs_per_subject <= 0 {
            return Err(invalid("discard new per subject requires max msgs per subject > 0"));
        }
    }
    Ok(())
}

fn require_rollup(config: &mut StreamConfig, pedantic: bool, refusal: &str) -> Result<(), ApiError> {
    if !config.allow_rollup_hdrs {
        if pedantic {
            return Err(invalid(refusal));
        }
        config.allow_rollup_hdrs = true;
        config.deny_purge = false;
    }
    Ok(())
}

fn check_mirror(
    config: &mut StreamConfig,
    pedantic: bool,
    neighbours: &impl Neighbours,
) -> Result<(), ApiError> {
    let Some(mirror) = &config.mirror else { return Ok(()) };
    if config.first_seq > 0 {
        return Err(error::MIRROR_WITH_FIRST_SEQ.error());
    }
    if !config.subjects.is_empty() {
        return Err(error::MIRROR_WITH_SUBJECTS.error());
    }
    if !config.sources.is_empty() {
        return Err(error::MIRROR_WITH_SOURCES.error());
    }
    for (set, code) in [
        (config.allow_msg_counter, error::MIRROR_WITH_COUNTERS),
        (config.allow_atomic, error::MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_batched, error::MIRROR_WITH_BATCH_PUBLISH),
        (config.allow_msg_schedules, error::MIRROR_WITH_MSG_SCHEDULES),
    ] {
        if set {
            return Err(code.error());
        }
    }
    if !mirror.filter_subject.is_empty() && !mirror.subject_transforms.is_empty() {
        return Err(error::MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED.error());
    }
    if config.subject_delete_marker_ttl > 0 {
        return Err(invalid("subject delete markers forbidden on mirrors"));
    }
    if mirror.external.is_some() {
        return Ok(());
    }
    if !is_valid_name(&mirror.name) {
        return Err(error::MIRROR_INVALID_STREAM_NAME.error());
    }
    if let Some(origin) = neighbours.config_of(&mirror.name) {
        if config.max_msg_size > 0 && origin.max_msg_size > 0 && config.max_msg_size < origin.max_msg_size {
            return Err(error::MIRROR_MAX_MESSAGE_SIZE_TOO_BIG.error());
        }
        if pedantic && config.mirror_direct != origin.allow_direct {
            return Err(error::PEDANTIC.with("origin stream has direct get set, mirror has it disabled"));
        }
        config.mirror_direct = origin.allow_direct;
    }
    Ok(())
}

fn check_sources(config: &StreamConfig, neighbours: &impl Neighbours) -> Result<(), ApiError> {
    if !config.sources.is_empty() && config.allow_msg_schedules {
        return Err(error::SOURCE_WITH_MSG_SCHEDULES.error());
    }
    let mut index_names = BTreeSet::new();
    for source in &config.sources {
        if !is_valid_name(&source.name) {
            return Err(error::SOURCE_INVALID_STREAM_NAME.error());
        }
        if !index_names.insert(source.index_name()) {
            return Err(error::SOURCE_DUPLICATE_DETECTED.error());
        }
        if !source.filter_subject.is_empty() && !source.subject_transforms.is_empty() {
            return Err(error::SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED.error());
        }
        if source.external.is_none()
            && let Some(origin) = neighbours.config_of(&source.name)
            && config.max_msg_size > 0
            && origin.max_msg_size > 0
            && config.max_msg_size < origin.max_msg_size
        {
            return Err(error::SOURCE_MAX_MESSAGE_SIZE_TOO_BIG.error());
        }
    }
    Ok(())
}

fn check_cycles(config: &StreamConfig, neighbours: &impl Neighbours) -> Result<(), ApiError> {
    let overlaps = |subjects: &[String], filter: &str| {
        filter.is_empty() || subjects.iter().any(|each| subject::collide(each.as_bytes(), filter.as_bytes()))
    };
    let cycle = || invalid("detected cycle");
    let mut visited: BTreeSet<&str> = BTreeSet::new();
    let mut to_visit = vec![config];
    while let Some(each) = to_visit.pop() {
        if !visited.insert(&each.name) {
            continue;
        }
        for source in each.sources.iter().filter(|source| source.external.is_none()) {
            if visited.contains(source.name.as_str()) {
                if overlaps(&each.subjects, &source.filter_subject) {
                    return Err(cycle());
                }
            } else if let Some(origin) = neighbours.config_of(&source.name) {
                to_visit.push(origin);
            }
        }
        if let Some(mirror) = each.mirror.as_ref().filter(|mirror| mirror.external.is_none()) {
            if visited.contains(mirror.name.as_str()) {
                return Err(cycle());
            }
            if let Some(origin) = neighbours.config_of(&mirror.name) {
                to_visit.push(origin);
            }
        }
    }
    Ok(())
}

fn check_subjects(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.subjects.is_empty() && config.mirror.is_none() && config.sources.is_empty() {
        config.subjects.push(config.name.clone());
        return Ok(());
    }
    let is_subset = |a: &str, b: &[u8]| subject::is_subset(a.as_bytes(), b);
    let collides = |a: &str, b: &[u8]| subject::collide(a.as_bytes(), b);
    let mut seen = BTreeSet::new();
    for (index, each) in config.subjects.iter().enumerate() {
        if !subject::is_valid_filter(each.as_bytes()) {
            return Err(invalid("invalid subject"));
        }
        if !seen.insert(each) {
            return Err(invalid("duplicate subjects detected"));
        }
        if each == ">" {
            if !config.no_ack {
                return Err(invalid("capturing all subjects requires no-ack to be true"));
            }
            if config.num_replicas != 1 {
                return Err(invalid("capturing all subjects requires replicas of 1"));
            }
        }
        if !config.no_ack {
            let api: [&[u8]; 3] = [b"$JS.>", b"$JSC.>", b"$NRG.>"];
            if api.iter().any(|space| collides(each, space)) && !is_subset(each, b"$JS.EVENT.>") {
                return Err(invalid("subjects that overlap with jetstream api require no-ack to be true"));
            }
            if collides(each, b"$SYS.>") && !is_subset(each, b"$SYS.ACCOUNT.>") {
                return Err(invalid("subjects that overlap with system api require no-ack to be true"));
            }
        }
        for other in config.subjects.iter().skip(index + 1) {
            if collides(other, each.as_bytes()) {
                let (each, other) = (quote(each.as_bytes()), quote(other.as_bytes()));
                return Err(invalid(format!("subject {each} overlaps with {other}")));
            }
        }
    }
    Ok(())
}

fn check_republish(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let Some(republish) = &mut config.republish else { return Ok(()) };
    if republish.src.is_empty() {
        if pedantic {
            return Err(error::PEDANTIC.with("republish source can not be empty"));
        }
        ">".clone_into(&mut republish.src);
    }
    if config.subjects.iter().any(|each| subject::collide(republish.dest.as_bytes(), each.as_bytes())) {
        return Err(invalid("stream configuration for republish destination forms a cycle"));
    }
    Ok(())
}

/// Refuses by name what this server does not have yet.
pub(crate) fn check_supported(config: &StreamConfig) -> Result<(), ApiError> {
    let refuse = |what: &str| Err(invalid(format!("{what} is not supported by this server yet")));
    match config.retention {
        RetentionPolicy::Limits => {}
        RetentionPolicy::Interest => return refuse("retention \"interest\""),
        RetentionPolicy::WorkQueue => return refuse("retention \"workqueue\""),
    }
    for (set, what) in [
        (config.subject_transform.is_some(), "subject_transform"),
        (config.republish.is_some(), "republish"),
        (config.subject_delete_marker_ttl != 0, "subject_delete_marker_ttl"),
        (config.allow_msg_ttl, "allow_msg_ttl"),
        (config.allow_msg_counter, "allow_msg_counter"),
        (config.allow_atomic, "allow_atomic"),
        (config.allow_msg_schedules, "allow_msg_schedules"),
        (config.persist_mode == PersistMode::Async, "persist_mode \"async\""),
        (config.allow_batched, "allow_batched"),
    ] {
        if set {
            return refuse(what);
        }
    }
    let origins = config.mirror.iter().map(|mirror| ("mirror", mirror));
    for (kind, origin) in origins.chain(config.sources.iter().map(|source| ("source", source))) {
        for (set, what) in [
            (!origin.subject_transforms.is_empty(), "subject_transforms"),
            (origin.external.is_some(), "external"),
            (origin.consumer.is_some(), "consumer"),
        ] {
            if set {
                return refuse(&format!("{what} of a {kind}"));
            }
        }
    }
    if let Some(hold) = config.metadata.get(HOLD)
        && hold.parse::<u64>().is_err()
    {
        return Err(invalid(format!(
            "metadata {HOLD} must be a number of bytes, not {}",
            quote(hold.as_bytes())
        )));
    }
    Ok(())
}

/// Whether the origin of a mirror or source names a filter that is one.
///
/// # Errors
/// 10049, as nats-server answers a create with a bad filter.
pub fn check_filters(config: &StreamConfig) -> Result<(), ApiError> {
    let bad = |origin: &StreamSource| {
        !origin.filter_subject.is_empty() && !subject::is_valid_filter(origin.filter_subject.as_bytes())
    };
    if let Some(mirror) = config.mirror.as_ref().filter(|mirror| bad(mirror)) {
        let text = format!("subject filter '{}' for the mirror invalid subject", mirror.filter_subject);
        return Err(error::STREAM_CREATE.with(text));
    }
    if let Some(source) = config.sources.iter().find(|source| bad(source)) {
        let text = format!("subject filter '{}' for the source: invalid subject", source.filter_subject);
        return Err(error::STREAM_CREATE.with(text));
    }
    Ok(())
}

/// The configuration an update leads to; `new` has passed [`check`].
///
/// # Errors
/// What may not be changed.
pub fn check_update(old: &StreamConfig, new: StreamConfig) -> Result<StreamConfig, ApiError> {
    let mut new = new;
    if new.name != old.name {
        return Err(invalid("stream configuration name must match original"));
    }
    if new.storage != old.storage {
        return Err(invalid("stream configuration update can not change storage type"));
    }
    if new.retention != old.retention
        && (old.retention == RetentionPolicy::WorkQueue || new.retention == RetentionPolicy::WorkQueue)
    {
        return Err(invalid("stream configuration update can not change retention policy to/from workqueue"));
    }
    for (undone, text) in [
        (old.sealed && !new.sealed, "stream configuration update can not unseal a sealed stream"),
        (
            old.deny_delete && !new.deny_delete,
            "stream configuration update can not cancel deny message deletes",
        ),
        (old.deny_purge && !new.deny_purge, "stream configuration update can not cancel deny purge"),
    ] {
        if undone {
            return Err(invalid(text));
        }
    }
    if new.mirror.is_some() && new.mirror != old.mirror {
        return Err(error::STREAM_MIRROR_NOT_UPDATABLE.error());
    }
    check_discard_per_subject(&new)?;
    for (undone, text) in [
        (old.allow_msg_ttl && !new.allow_msg_ttl, "message TTL status can not be disabled"),
        (
            old.allow_msg_counter != new.allow_msg_counter,
            "stream configuration update can not change message counter setting",
        ),
        (old.allow_msg_schedules && !new.allow_msg_schedules, "message schedules can not be disabled"),
        (old.persist_mode != new.persist_mode, "stream configuration update can not change persist mode"),
    ] {
        if undone {
            return Err(invalid(text));
        }
    }
    if new.sealed {
        new.max_age = 0;
        new.discard = DiscardPolicy::New;
        new.deny_delete = true;
        new.deny_purge = true;
        new.allow_rollup_hdrs = false;
    }
    Ok(new)
}

/// Sets the metadata that is stored: the level the configuration needs, and nothing that only responses have.
pub fn set_stored_metadata(config: &mut StreamConfig) {
    config.metadata.remove(SERVER_VERSION);
    config.metadata.remove(SERVER_LEVEL);
    let level = if config.allow_batched {
        4
    } else if config.allow_msg_counter
        || config.allow_atomic
        || config.allow_msg_schedules
        || config.persist_mode == PersistMode::Async
    {
        2
    } else {
        i32::from(config.allow_msg_ttl || config.subject_delete_marker_ttl > 0)
    };
    config.metadata.insert(REQUIRED_LEVEL.to_owned(), level.to_string());
}

/// Whether two configurations are the same to a create: all but what the server itself notes in the metadata.
#[must_use]
pub fn is_same(a: &StreamConfig, b: &StreamConfig) -> bool {
    let plain = |config: &StreamConfig| {
        let mut config = config.clone();
        for key in [REQUIRED_LEVEL, SERVER_VERSION, SERVER_LEVEL, UNUSED] {
            config.metadata.remove(key);
        }
        config
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests;
