//! What happens when a device sends something: its row, its buffer, its recordings, and the events on their way.
//!
//! [`Ingest::prepare`] comes before the first event of a device is published, so nothing of it is missed;
//! [`Ingest::publish`] returns once all events of a batch have arrived where they were meant to, and says how safe they are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::buffer::{BufferError, Buffers};
use super::command::Start;
use super::device::{DeviceError, DeviceStore};
use super::event::Event;
use super::id::Id;
use super::names::Names;
use super::recorder::{RecordError, Recorder};
use super::table::TableError;
use crate::client::jetstream::{JetStream, JetStreamError, Storage, StreamInfo};
use crate::client::{PublishError, UnavailableError};

/// How long running recordings may take to store a batch.
const STORED_PATIENCE: Duration = Duration::from_secs(5);
/// How often the streams of a device that is to be stored are looked for, its buffer being made in between.
const CAPTURE_ATTEMPTS: usize = 3;
/// How often, and how long apart, a first recording is tried that another process is just starting.
const START_ATTEMPTS: usize = 100;
const START_PAUSE: Duration = Duration::from_millis(50);
/// How Weir begins `git_commit` in its INFO.
const WEIR: &str = "weir-";
/// Events under way before acknowledgements are read.
const UNDER_WAY_MAX: usize = 1024;

/// What survives of an accepted batch when the server's machine loses power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// All of it: it is on stable storage.
    Disk,
    /// What the server has synced: it is in a file of a server that is not Weir, and nats-server answers before it syncs.
    File,
    /// Nothing, but a restart of a client misses nothing: it is in a stream in memory.
    Memory,
    /// Nothing: it went to whoever was listening.
    None,
}

/// An accepted batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// Events of it.
    #[serde(rename = "accepted")]
    pub events: usize,
    /// Events that had been sent before, by their ids.
    pub duplicates: usize,
    /// How safe it is.
    pub durability: Durability,
}

/// A batch that was not accepted as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The device's id is taken in another case.
    #[error(transparent)]
    Device(DeviceError),
    /// An event that no message can hold. Nothing was published.
    #[error("event {index}: {size} bytes with its headers exceed the server's max_payload {limit}")]
    TooLarge {
        /// Which, counted from 0.
        index: usize,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The server did not take all of it.
    #[error("{accepted} of {events} events were accepted: {reason}")]
    Partly {
        /// Events known to be accepted.
        accepted: usize,
        /// Events in the batch.
        events: usize,
        /// Why the others are not.
        reason: String,
    },
    /// All events were accepted, but a recording has not stored them in time.
    #[error(
        "all {events} events were accepted, but not yet stored within 5s by the recordings {}",
        sessions.iter().map(|session| format!("{session:?}")).collect::<Vec<_>>().join(", ")
    )]
    NotRecorded {
        /// Events in the batch.
        events: usize,
        /// The recordings.
        sessions: Vec<Id>,
    },
    /// The row of the device is not one.
    #[error("{0}; write or delete that row")]
    Row(String),
    /// The server cannot be asked, or refuses what the event needs: its device's row, buffer or recording.
    #[error("the NATS server does not answer, or refuses: {0}")]
    Unavailable(String),
}

impl From<JetStreamError> for IngestError {
    fn from(error: JetStreamError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<DeviceError> for IngestError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Table(TableError::Kv(error)) => Self::Unavailable(error.to_string()),
            DeviceError::Table(error @ TableError::Unreadable { .. }) => Self::Row(error.to_string()),
            DeviceError::Unknown(_)
            | DeviceError::OtherCase { .. }
            | DeviceError::NothingToSet
            | DeviceError::Buffer(_) => Self::Device(error),
        }
    }
}

impl From<UnavailableError> for IngestError {
    fn from(error: UnavailableError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<PublishError> for IngestError {
    fn from(error: PublishError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// See the head of this file. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

struct Shared {
    jetstream: JetStream,
    names: Names,
    devices: DeviceStore,
    buffers: Buffers,
    recorder: Recorder,
    auto_record: bool,
    /// One first recording at a time.
    first_recording: tokio::sync::Mutex<()>,
}

impl Ingest {
    /// An ingest over the given services. With `auto_record` the first event of a new device starts a recording of it.
    #[must_use]
    pub fn new(
        jetstream: JetStream,
        names: Names,
        devices: DeviceStore,
        buffers: Buffers,
        recorder: Recorder,
        auto_record: bool,
    ) -> Self {
        let first_recording = tokio::sync::Mutex::default();
        Self {
            shared: Arc::new(Shared {
                jetstream,
                names,
                devices,
                buffers,
                recorder,
                auto_record,
                first_recording,
            }),
        }
    }

    /// Makes sure that a device has its row, its buffer, and the recordings that begin with it.
    ///
    /// # Errors
    /// An id that differs only in case from a known one, or a server that does not answer.
    pub async fn prepare(&self, device: &Id) -> Result<(), IngestError> {
        let shared = &self.shared;
        let auto_session = || shared.auto_record.then(|| shared.recorder.new_session_id());
        let (row, new) = shared.devices.ensure_with(device, auto_session).await?;
        if new && shared.buffers.is_wanted(device) {
            self.buffer(device).await?;
        }
        if shared.auto_record && row.auto_session.is_some() {
            self.record_new(device).await?;
        }
        match shared.recorder.seen(device).await {
            Ok(()) => Ok(()),
            Err(error) => match error.of_server() {
                Some(error) => Err(error.clone().into()),
                None => {
                    tracing::warn!(%device, %error, "the device is not recorded with all others");
                    Ok(())
                }
            },
        }
    }

    /// Starts the recording with which a new device begins; returns once it runs, or cannot be. Its id stands in the device's row
    /// until then: so it is one recording, whoever tries and however often, and an event that is refused is not the last try.
    async fn record_new(&self, device: &Id) -> Result<(), IngestError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.first_recording.lock().await;
        let session = match shared.devices.get(device).await {
            Ok(row) => row.auto_session,
            Err(DeviceError::Unknown(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(session) = session else { return Ok(()) };
        let sessions = shared.recorder.sessions();
        let mut others = sessions.active_of(device);
        others.retain(|active| active.session_id != session);
        if !others.is_empty() && others.iter().all(|other| sessions.state_of(&other.session_id).is_none()) {
            // Starts under way: should they fail, the next event begins the recording.
            return Ok(());
        }
        if others.is_empty() {
            let start = Start {
                session_id: Some(session.to_string()),
                device_id: Some(device.to_string()),
                note: Some("started by the first event of the device".to_owned()),
                ..Start::default()
            };
            let mut result = shared.recorder.start(&start).await;
            for _ in 0..START_ATTEMPTS {
                let under_way = matches!(result, Err(RecordError::AlreadyRunning(_)));
                if !under_way || sessions.state_of(&session).is_some() {
                    break;
                }
                // By another process. It runs soon, or is taken back.
                tokio::time::sleep(START_PAUSE).await;
                result = shared.recorder.start(&start).await;
            }
            match result {
                Ok(_) => tracing::info!(%device, %session, "recording a new device"),
                Err(RecordError::AlreadyRunning(_)) if sessions.state_of(&session).is_none() => {
                    let reason = format!("the start of session {session:?} of the new device is not done");
                    return Err(IngestError::Unavailable(reason));
                }
                // Another process was faster, or this one before a crash.
                Err(RecordError::AlreadyRunning(_) | RecordError::Exists(..)) => {}
                Err(error) => match error.of_server() {
                    Some(error) => return Err(error.clone().into()),
                    None => tracing::warn!(%device, %error, "the new device is not recorded"),
                },
            }
        }
        Ok(shared.devices.forget_auto_session(device, &session).await?)
    }

    /// A device whose buffer cannot be is not buffered; its events pass all the same.
    async fn buffer(&self, device: &Id) -> Result<(), IngestError> {
        match self.shared.buffers.reconcile(device).await {
            Ok(()) => Ok(()),
            Err(BufferError::JetStream(error)) if error.is_unavailable() => Err(error.into()),
            Err(error) => {
                tracing::warn!(%device, %error, "the device is not buffered");
                Ok(())
            }
        }
    }

    /// Publishes the events of a device in order, and waits until they are stored wherever they are to be stored.
    ///
    /// # Errors
    /// See [`IngestError`]; it says what was accepted.
    pub async fn publish(&self, device: &Id, events: &[Event]) -> Result<Accepted, IngestError> {
        let shared = &self.shared;
        let messages: Vec<(Bytes, Bytes)> =
            events.iter().map(|event| (event.headers(device), event.data.clone())).collect();
        let limit =
            usize::try_from(shared.jetstream.client().server_info().max_payload).unwrap_or(usize::MAX);
        for (index, (headers, data)) in messages.iter().enumerate() {
            let size = headers.len() + data.len();
            if size > limit {
                return Err(IngestError::TooLarge { index, size, limit });
            }
        }
        self.prepare(device).await?;
        let subject = shared.names.device_subject(device);
        let (mut streams, mut recorded) = (Vec::new(), false);
        for _ in 0..CAPTURE_ATTEMPTS {
            // Asked before the streams: what is recorded now has its buffer already, unless somebody took it away.
            recorded = shared.recorder.is_recorded(device);
            streams = shared.jetstream.streams(Some(&subject)).await?;
            if !streams.is_empty() || !(recorded || shared.buffers.is_wanted(device)) {
                break;
            }
            self.buffer(device).await?;
        }
        // Subjects of streams do not overlap, so at most one of them acknowledges.
        match streams.iter().find(|stream| !stream.config.no_ack) {
            None if recorded => {
                let reason = "the device is being recorded, but no stream captures its subject".to_owned();
                Err(IngestError::Partly { accepted: 0, events: events.len(), reason })
            }
            None => {
                let client = shared.jetstream.client();
                for (headers, data) in &messages {
                    client.publish(&subject, Some(headers), data.clone()).await?;
                }
                client.flush().await?;
                Ok(Accepted { events: events.len(), duplicates: 0, durability: Durability::None })
            }
            Some(stream) => self.publish_stored(device, &subject, messages, stream).await,
        }
    }

    async fn publish_stored(
        &self,
        device: &Id,
        subject: &str,
        messages: Vec<(Bytes, Bytes)>,
        stream: &StreamInfo,
    ) -> Result<Accepted, IngestError> {
        let on_file = stream.config.storage == Storage::File;
        let events = messages.len();
        let client = self.shared.jetstream.client();
        let server = client.server_info().server_id.clone();
        let mut accepted = 0;
        let mut duplicates = 0;
        let (mut first, mut last) = (u64::MAX, 0);
        let mut reason = None;
        for chunk in messages.chunks(UNDER_WAY_MAX) {
            let mut under_way = Vec::with_capacity(chunk.len());
            for (headers, data) in chunk {
                match self.shared.jetstream.start_publish(subject, Some(headers), data.clone()).await {
                    Ok(pending) => under_way.push(pending),
                    Err(error) => {
                        reason.get_or_insert(error.to_string());
                        break;
                    }
                }
            }
            for pending in under_way {
                match pending.ack().await {
                    Ok(ack) => {
                        accepted += 1;
                        duplicates += usize::from(ack.duplicate);
                        first = first.min(ack.sequence);
                        last = last.max(ack.sequence);
                    }
                    Err(error) => {
                        reason.get_or_insert(error.to_string());
                    }
                }
            }
            if let Some(reason) = reason {
                let limit = stream.config.other.get("max_msg_size").and_then(serde_json::Value::as_i64);
                let limit = limit.filter(|limit| *limit > 0);
                let limit = limit.map(|limit| format!(" (its max_msg_size is {limit})")).unwrap_or_default();
                let reason = format!("stream {:?}{limit}: {reason}", stream.config.name);
                return Err(IngestError::Partly { accepted, events, reason });
            }
        }
        let recorder = &self.shared.recorder;
        let unavailable = |error: RecordError| IngestError::Unavailable(error.to_string());
        let mut kept = on_file;
        if recorder.is_recorded(device) {
            let behind = recorder.wait_stored(device, last, STORED_PATIENCE).await.map_err(unavailable)?;
            if !behind.is_empty() {
                return Err(IngestError::NotRecorded { events, sessions: behind });
            }
            kept = on_file || recorder.keeps(device, &(first..=last)).await.map_err(unavailable)?;
            if !on_file && client.server_info().server_id != server {
                // The sequences that were waited for may have been passed over instead of recorded.
                let reason = "the NATS server restarted before the recordings were asked".to_owned();
                return Err(IngestError::Partly { accepted: 0, events, reason });
            }
        }
        let durability = match kept {
            true if client.server_info().git_commit.starts_with(WEIR) => Durability::Disk,
            true => Durability::File,
            false => Durability::Memory,
        };
        Ok(Accepted { events, duplicates, durability })
    }

    /// Notices devices that publish over NATS instead of HTTP, until the task is ended. Listens only while somebody wants to
    /// know: a default buffer, recordings of new devices, or a recording of all devices.
    pub(super) async fn discover(self, always: bool) {
        let shared = &self.shared;
        let mut states = shared.recorder.sessions().states().changes();
        loop {
            states.mark_unchanged();
            if !always && !shared.recorder.records_all() {
                if states.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let mut messages = match shared.jetstream.client().subscribe(&shared.names.all_devices_filter()) {
                Ok(messages) => messages,
                Err(error) => {
                    tracing::warn!(%error, "devices on NATS cannot be noticed");
                    return;
                }
            };
            // Devices that were looked after since the sessions last changed.
            let mut known = std::collections::BTreeSet::new();
            while always || shared.recorder.records_all() {
                tokio::select! {
                    message = messages.next() => {
                        let Some(message) = message else { return };
                        let Some(device) = shared.names.device_of(&message.subject) else { continue };
                        if known.contains(&device) {
                            continue;
                        }
                        match self.prepare(&device).await {
                            Ok(()) => {
                                known.insert(device);
                            }
                            Err(error) => tracing::warn!(%device, %error, "the device was not prepared"),
                        }
                    }
                    changed = states.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        known.clear();
                    }
                }
            }
        }
    }
}
