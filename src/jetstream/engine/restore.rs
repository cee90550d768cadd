//! Bringing streams and consumers back from the store.
//!
//! Damage stays where it is: a stream or consumer that cannot be brought back is *offline*, as nats-server calls it. The
//! log and the lists name it with the reason, requests to it are refused with the reason, nothing that is kept of it is
//! touched until somebody deletes it, and everything else is served. What failed only because the store could not be
//! read or written just then is tried again. Deliberately absent: mending, which is the store's.

use weir_protocol::jetstream::consumer::ConsumerConfig;
use weir_protocol::jetstream::error::{self, ApiError};
use weir_protocol::jetstream::json;
use weir_protocol::jetstream::stream::{StorageType, StreamConfig};
use weir_storage::{LogId, Store};

use super::Engine;
use crate::jetstream::consumer::{Consumer, RestoreError, stored};
use crate::jetstream::context::{Context, context};
use crate::jetstream::interest::Interest;
use crate::jetstream::stream::{CONFIG_KEY, CREATED_KEY, Stream, stage_stream};

/// Before what failed in passing is tried again, in nanoseconds.
const RETRY: i64 = 1_000_000_000;

/// A stream that is kept and not served.
#[derive(Debug)]
pub(in crate::jetstream) struct Offline {
    /// Its name, or its log's number when the name is lost.
    pub(in crate::jetstream) name: String,
    pub(in crate::jetstream) reason: String,
    /// What it was configured as, where that can be read.
    pub(in crate::jetstream) config: Option<StreamConfig>,
    retry_at: Option<i64>,
}

impl Engine {
    /// Takes up the streams and consumers that the store keeps. What cannot be taken up is offline, and named.
    pub(super) fn restore_streams(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        for log in store.logs().into_iter().filter(|log| log.0 != 0) {
            self.restore_or_put_aside(log, now, store, interest);
        }
        for damage in store.damage() {
            let stream = self.streams.get(&damage.log.0).map(|stream| stream.config.name.as_str());
            let (log, first, last, what) = (damage.log.0, damage.first, damage.last, damage.what);
            tracing::error!(stream, log, first, last, what, "the store has lost something");
        }
        for log in self.streams.keys().copied().collect::<Vec<_>>() {
            self.serve(log, store);
        }
    }

    /// A stream is served from now on. Its timer comes first: what grew too old meanwhile goes before it can be copied.
    fn serve(&mut self, log: u32, store: &Store) {
        self.depend(log);
        self.make_hungry(log);
        self.touch(log);
        self.renew_timer(log, store);
    }

    /// Tries again what failed in passing.
    pub(super) fn restore_again(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        let due = self.offline.iter().filter(|(_, offline)| offline.retry_at.is_some_and(|at| at <= now));
        for log in due.map(|(log, _)| *log).collect::<Vec<_>>() {
            let before = self.offline.remove(&log).map(|offline| offline.name);
            let Some(log) = self.restore_or_put_aside(LogId(log), now, store, interest) else { continue };
            tracing::info!(stream = before, "the stream is served again");
            self.serve(log, store);
            self.wake_dependents(&before.unwrap_or_default());
        }
    }

    /// When [`Self::restore_again`] has something to do.
    pub(super) fn restore_timeout(&self) -> Option<i64> {
        self.offline.values().filter_map(|offline| offline.retry_at).min()
    }

    /// The stream's id, if it is served now.
    fn restore_or_put_aside(
        &mut self,
        log: LogId,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) -> Option<u32> {
        let config = read_config(log, store);
        let restored = match &config {
            Ok(config) => self.restore_stream(log, config.clone(), now, store, interest),
            Err((_, reason)) => Err(RestoreError::Damaged(reason.clone())),
        };
        let error = match restored {
            Ok(id) => return Some(id),
            Err(error) => error,
        };
        let (name, config) = match config {
            Ok(config) => (config.name.clone(), Some(config)),
            Err((name, _)) => (name.unwrap_or_else(|| format!("log {}", log.0)), None),
        };
        tracing::error!(stream = %name, log = log.0, %error, "a stream is offline; what is kept of it is untouched");
        let retry_at = matches!(error, RestoreError::Unavailable(_)).then(|| now.saturating_add(RETRY));
        self.offline.insert(log.0, Offline { name, reason: error.to_string(), config, retry_at });
        None
    }

    fn restore_stream(
        &mut self,
        log: LogId,
        config: StreamConfig,
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) -> Result<u32, RestoreError> {
        if let Some(other) = self.names.get(&config.name) {
            let text = format!("log {} holds a stream of this name too", other);
            return Err(RestoreError::Damaged(text));
        }
        let created = store.attribute(log, CREATED_KEY).and_then(|bytes| bytes[..].try_into().ok());
        let created = created.map_or_else(
            || {
                let first = store.state(log).filter(|state| state.messages > 0).map(|state| state.first_time);
                tracing::error!(stream = %config.name, log = log.0, "the time of the stream's creation is lost");
                first.unwrap_or(now)
            },
            i64::from_le_bytes,
        );
        let log = if config.storage == StorageType::Memory && config.mirror.is_some() {
            // A mirror's sequences are its origin's: an empty one begins again under a new log.
            let kept = store.attributes(log, stored::PREFIX);
            stage_stream(&config, created, &kept, Some(log), store)?
        } else {
            log
        };
        let mut context = context!(self, now, store, interest);
        let mut stream = Stream::restore(log, config, created, &mut context)?;
        let mut consumers = Vec::new();
        for name in stored::names(log, store) {
            let mut context = context!(self, now, store, interest);
            match restore_consumer(&name, &stream, &mut context) {
                Ok(consumer) => consumers.push(consumer),
                Err(RestoreError::Damaged(reason)) => {
                    let stream_name = &stream.config.name;
                    tracing::error!(stream = %stream_name, log = log.0, consumer = %name, %reason, "a consumer is offline");
                    stream.offline_consumers.insert(name, reason);
                }
                Err(error @ RestoreError::Unavailable(_)) => return Err(error),
            }
        }
        self.names.insert(stream.config.name.clone(), log.0);
        self.streams.insert(log.0, stream);
        self.listen(log.0, None);
        for consumer in consumers {
            self.add_consumer(log.0, consumer);
        }
        Ok(log.0)
    }

    /// The log of a stream that is offline.
    pub(in crate::jetstream) fn find_offline(&self, name: &str) -> Option<(LogId, &Offline)> {
        let found = self.offline.iter().find(|(_, offline)| offline.name == name);
        found.map(|(log, offline)| (LogId(*log), offline))
    }

    /// Subjects of streams that are offline: nobody else may take them.
    pub(in crate::jetstream) fn offline_subjects(&self) -> impl Iterator<Item = &String> {
        self.offline
            .values()
            .filter_map(|offline| offline.config.as_ref())
            .flat_map(|config| &config.subjects)
    }

    /// Deletes what is kept of a consumer that is offline.
    pub(in crate::jetstream) fn forget_offline(
        &mut self,
        log: u32,
        name: &str,
        store: &mut Store,
    ) -> Result<(), ApiError> {
        let Some(stream) = self.streams.get_mut(&log) else { return Ok(()) };
        stored::forget(name, stream.log, store)?;
        stream.offline_consumers.remove(name);
        Ok(())
    }

    /// Deletes what is kept of a stream that is offline; `None` when there is none of this name.
    pub(in crate::jetstream) fn delete_offline(
        &mut self,
        name: &str,
        store: &mut Store,
    ) -> Option<Result<(), ApiError>> {
        let (log, _) = self.find_offline(name)?;
        let dropped = store.drop_log(log).map_err(|error| error::STREAM_DELETE.with(error));
        if dropped.is_ok() {
            self.offline.remove(&log.0);
        }
        Some(dropped)
    }
}

/// The configuration that a log holds; else its name if that can be read, and what is wrong.
fn read_config(log: LogId, store: &Store) -> Result<StreamConfig, (Option<String>, String)> {
    let Some(text) = store.attribute(log, CONFIG_KEY) else {
        return Err((None, format!("log {} has lost its configuration", log.0)));
    };
    json::decode_lenient(&text).map_err(|error| {
        #[derive(serde::Deserialize)]
        struct Named {
            name: String,
        }
        let named = serde_json::from_slice::<Named>(&text).ok();
        (named.map(|named| named.name), format!("the configuration in log {} cannot be read: {error}", log.0))
    })
}

fn restore_consumer(
    name: &str,
    stream: &Stream,
    context: &mut Context<'_>,
) -> Result<Consumer, RestoreError> {
    let kept = stored::read(name, stream.log, context.store);
    let Some(text) = kept.config else {
        return Err(RestoreError::Damaged("its configuration is lost".to_owned()));
    };
    let config: ConsumerConfig = json::decode_lenient(&text)
        .map_err(|error| RestoreError::Damaged(format!("its configuration cannot be read: {error}")))?;
    let created = kept.created.unwrap_or_else(|| {
        tracing::error!(stream = %stream.config.name, consumer = name, "the time of the consumer's creation is lost");
        context.now
    });
    let mut view = context.view(stream.log, &stream.config);
    let state = kept.state.as_deref();
    let consumer = Consumer::restore(config, name.to_owned(), created, state, &mut view)?;
    if state.is_none() && consumer.whole_state().is_some() {
        return Err(RestoreError::Damaged("its state is lost: delete it and create it again".to_owned()));
    }
    Ok(consumer)
}

impl Stream {
    /// What is answered to a request to a consumer that is offline.
    pub(in crate::jetstream) fn offline_consumer(&self, name: &str) -> Option<ApiError> {
        self.offline_consumers.get(name).map(|reason| error::CONSUMER_OFFLINE_REASON.with(reason))
    }
}

impl Offline {
    /// What is answered to a request to it.
    pub(in crate::jetstream) fn error(&self) -> ApiError {
        error::STREAM_OFFLINE_REASON.with(&self.reason)
    }
}
