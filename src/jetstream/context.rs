//! The world as streams and consumers see it while they are called: time, the store, who listens, where to speak.
//!
//! It lies below them and below the engine, which makes it anew for each call. Deliberately absent: the streams.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_protocol::jetstream::api::exceeds_level;
use weir_protocol::jetstream::json::{self, Timestamp};
use weir_protocol::jetstream::stream::StreamConfig;
use weir_storage::{LogId, Store};

use super::consumer::View;
use super::interest::Interest;
use super::output::{Failure, Message, Outputs};
use crate::sys::random::Random;

/// What is fixed for the life of an engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Name of the server, shown as the leader of every stream.
    pub server_name: String,
    /// Version shown in metadata.
    pub version: String,
    /// The highest JetStream API level that works.
    pub api_level: u32,
    /// JetStream domain, or empty.
    pub domain: String,
    /// Largest payload in bytes.
    pub max_payload: usize,
    /// Bytes of one batch of direct gets that names no limit.
    pub max_pending: usize,
    /// Identifiers, jitter, sampling.
    pub random: Random,
}

/// A mirror that holds back the limits of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) mirror: u32,
    pub(super) bytes: u64,
    pub(super) copied_seq: u64,
}

/// What a stream sees of the world while it is called.
pub(super) struct Context<'a> {
    pub(super) now: i64,
    pub(super) store: &'a mut Store,
    pub(super) interest: &'a dyn Interest,
    pub(super) outputs: &'a mut Outputs,
    pub(super) config: &'a EngineConfig,
    /// By origin's log.
    pub(super) holds: &'a BTreeMap<u32, Vec<Hold>>,
}

impl Context<'_> {
    /// The world as a consumer of the stream with this log and configuration sees it.
    pub(super) fn view<'a>(&'a mut self, log: LogId, config: &'a StreamConfig) -> View<'a> {
        View {
            store: self.store,
            log,
            stream: &config.name,
            config,
            interest: self.interest,
            random: &self.config.random,
            now: self.now,
            domain: &self.config.domain,
            api_level: self.config.api_level,
            max_payload: self.config.max_payload,
            outputs: self.outputs,
        }
    }

    /// Whether a request asks for more than this server has.
    pub(super) fn lacks_level(&self, headers: &[u8]) -> bool {
        exceeds_level(headers, self.config.api_level)
    }

    /// Answers a direct get: once everything staged so far is durable, or at once while the store takes no changes, for
    /// then what it shows is durable.
    pub(super) fn answer_read(&mut self, to: &Bytes, headers: Bytes, payload: Bytes) {
        if self.store.refusing().is_none() {
            self.outputs.held_or(to.clone(), headers, payload, Failure::Status);
        } else if !to.is_empty() {
            self.outputs.now(to.clone(), to.clone(), Bytes::new(), headers, payload);
        }
    }

    /// Tells whoever listens what happened; the body is made only if somebody does.
    pub(super) fn advise(
        &mut self,
        subject: &str,
        kind: &str,
        fields: impl FnOnce(&mut json::ObjectWriter<'_>),
    ) {
        if !self.interest.has(subject.as_bytes()) {
            return;
        }
        let mut text = String::new();
        json::ObjectWriter::write(&mut text, |object| {
            object.text_field("type", &format!("io.nats.jetstream.advisory.v1.{kind}"));
            object.text_field("id", &self.config.random.id(22));
            object.field("timestamp", &Timestamp(self.now));
            fields(object);
            if !self.config.domain.is_empty() {
                object.text_field("domain", &self.config.domain);
            }
        });
        let to = Bytes::copy_from_slice(subject.as_bytes());
        self.outputs.held_message(Message {
            subject: to.clone(),
            to,
            payload: text.into(),
            ..Message::default()
        });
    }
}

/// The world as a stream sees it, with `self.streams` left free.
macro_rules! context {
    ($engine:ident, $now:expr, $store:expr, $interest:expr) => {
        $crate::jetstream::context::Context {
            now: $now,
            store: $store,
            interest: $interest,
            outputs: &mut $engine.outputs,
            config: &$engine.config,
            holds: &$engine.holds,
        }
    };
}
pub(super) use context;
