//! What the store keeps of a consumer: its configuration, the time of its creation and its state, each an attribute of its
//! stream's log.
//!
//! What belongs together is staged together or not at all. Deliberately absent: the bytes of the state and when they are
//! worth writing (`state.rs`), and what becomes of a consumer that cannot be brought back (the engine puts it aside).

use std::collections::BTreeSet;

use bytes::Bytes;
use weir_protocol::jetstream::consumer::ConsumerConfig;
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json;
use weir_storage::{LogId, StageError, Store};

use super::Consumer;
use super::state::BARE_STATE_MAX;

/// What the keys of all that is kept of consumers start with.
pub(in crate::jetstream) const PREFIX: &[u8] = b"consumer/";
/// The configuration as JSON; the consumer's name follows.
pub(in crate::jetstream) const CONFIG_KEY: &[u8] = b"consumer/config/";
/// When it was created, nanoseconds since 1970, little endian; the consumer's name follows.
const CREATED_KEY: &[u8] = b"consumer/created/";
/// The state; the consumer's name follows.
const STATE_KEY: &[u8] = b"consumer/state/";

/// What is kept of a consumer, as far as it is there.
pub(in crate::jetstream) struct Stored {
    pub(in crate::jetstream) config: Option<Bytes>,
    pub(in crate::jetstream) created: Option<i64>,
    pub(in crate::jetstream) state: Option<Bytes>,
}

/// The answer to a change that the store does not take.
pub(in crate::jetstream) fn refused(error: impl std::fmt::Display) -> ApiError {
    error::CONSUMER_STORE_FAILED.with(error)
}

/// Stages all that a restart needs of a new consumer, or nothing of it.
pub(in crate::jetstream) fn stage(
    consumer: &Consumer,
    log: LogId,
    store: &mut Store,
) -> Result<(), ApiError> {
    if !consumer.is_kept() {
        return Ok(());
    }
    let created = consumer.created().to_le_bytes();
    let text = json::encode(consumer.config());
    let mut attributes = vec![(CONFIG_KEY, text.into_bytes()), (CREATED_KEY, created.to_vec())];
    attributes.extend(consumer.whole_state().map(|state| (STATE_KEY, state)));
    let attributes: Vec<_> =
        attributes.into_iter().map(|(prefix, value)| (key(prefix, consumer.name()), value)).collect();
    let bytes = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    store.admits(attributes.len(), bytes).map_err(refused)?;
    for (key, value) in attributes {
        store.set_attribute(log, &key, &value).map_err(refused)?;
    }
    Ok(())
}

/// Stages another configuration for a consumer, if it is one that is kept.
pub(in crate::jetstream) fn stage_config(
    consumer: &Consumer,
    config: &ConsumerConfig,
    log: LogId,
    store: &mut Store,
) -> Result<(), ApiError> {
    if !consumer.is_kept() {
        return Ok(());
    }
    let text = json::encode(config);
    store.set_attribute(log, &key(CONFIG_KEY, consumer.name()), text.as_bytes()).map_err(refused)
}

/// Stages the state of a consumer.
pub(in crate::jetstream) fn stage_state(
    consumer: &Consumer,
    state: &[u8],
    log: LogId,
    store: &mut Store,
) -> Result<(), StageError> {
    store.set_attribute(log, &key(STATE_KEY, consumer.name()), state)
}

/// Whether the state of a consumer without pending messages can be staged now, if it is one that is kept.
pub(in crate::jetstream) fn admits_bare_state(consumer: &Consumer, store: &Store) -> Result<(), ApiError> {
    if !consumer.is_kept() {
        return Ok(());
    }
    store.admits(1, key(STATE_KEY, consumer.name()).len() + BARE_STATE_MAX).map_err(refused)
}

/// What is kept of the consumer of this name.
pub(in crate::jetstream) fn read(name: &str, log: LogId, store: &Store) -> Stored {
    let created = store.attribute(log, &key(CREATED_KEY, name));
    Stored {
        config: store.attribute(log, &key(CONFIG_KEY, name)),
        created: created.and_then(|bytes| bytes[..].try_into().ok()).map(i64::from_le_bytes),
        state: store.attribute(log, &key(STATE_KEY, name)),
    }
}

/// The names of the consumers of which something is kept.
pub(in crate::jetstream) fn names(log: LogId, store: &Store) -> BTreeSet<String> {
    let names = |prefix: &'static [u8]| {
        let keys = store.attributes(log, prefix).into_iter();
        keys.filter_map(|(key, _)| Some(String::from_utf8_lossy(key.strip_prefix(prefix)?).into_owned()))
    };
    [CONFIG_KEY, CREATED_KEY, STATE_KEY].into_iter().flat_map(names).collect()
}

/// Stages that nothing is kept of the consumer of this name: all of it, or nothing.
pub(in crate::jetstream) fn forget(name: &str, log: LogId, store: &mut Store) -> Result<(), ApiError> {
    let keys = [CONFIG_KEY, CREATED_KEY, STATE_KEY].map(|prefix| key(prefix, name));
    let kept: Vec<_> = keys.into_iter().filter(|key| store.attribute(log, key).is_some()).collect();
    if kept.is_empty() {
        return Ok(());
    }
    store.admits(kept.len(), kept.iter().map(Vec::len).sum()).map_err(refused)?;
    for key in kept {
        store.remove_attribute(log, &key).map_err(refused)?;
    }
    Ok(())
}

fn key(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes()].concat()
}
