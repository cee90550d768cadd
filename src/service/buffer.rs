//! Buffers: for each device a stream `STREAMS_BUFFER_<device>` on its subjects, whose messages go when the window has passed.
//!
//! The rows of the devices say what shall be, the streams say what is, and [`Buffers::reconcile`] brings the one to the other.
//! It is asked when a row changes, when a recording ends, and every refresh interval for whatever was missed. While a device is
//! being recorded its buffer is only made when it is missing and never changed: the recording repeats it.
//!
//! Buffers have no direct get: a mirror of a stream with direct get answers for it, and a recording holds only a part.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use weir_protocol::time;

use super::device::{BufferSetting, Device, DeviceError, DeviceStore};
use super::id::Id;
use super::names::{BUFFER_PREFIX, Names, buffer_stream};
use super::session::SessionStore;
use super::span;
use crate::client::jetstream::{JetStream, JetStreamError, Storage, StreamConfig, StreamInfo};

/// Window of the buffer that a device without one has while it is recorded.
pub const TEMPORARY_WINDOW: Duration = Duration::from_secs(300);
/// Bytes of such a buffer.
pub const TEMPORARY_BYTES: u64 = 64 << 20;
/// So long the regular look at all buffers leaves a temporary one alone.
const YOUNG: Duration = Duration::from_secs(10);
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
const ROLE: &str = "weir.role";
const DEVICE: &str = "weir.device";
const TEMPORARY: &str = "weir.temporary";

/// A buffer that cannot be brought about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// Somebody's own stream captures the device's subjects.
    #[error(
        "device {device:?} cannot be buffered: stream {stream:?} already captures its subject {subject:?}"
    )]
    Taken {
        /// The device.
        device: String,
        /// Whose stream.
        stream: String,
        /// The subject.
        subject: String,
    },
    /// The setting itself.
    #[error(transparent)]
    Setting(#[from] super::device::BufferSettingError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The server.
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
}

/// What a device's buffer shall be and what it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BufferStatus {
    /// The device.
    pub device_id: Id,
    /// Whether it shall be buffered.
    pub enabled: bool,
    /// The window it shall have.
    #[serde(with = "span::text")]
    pub window: Duration,
    /// Where it shall be kept.
    pub storage: Storage,
    /// Whether messages are being buffered at this moment.
    pub active: bool,
    /// Its stream.
    pub stream: String,
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// When its first message came.
    #[serde(with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub first_message_at: Option<i64>,
    /// When its last message came.
    #[serde(with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub last_message_at: Option<i64>,
    /// Why it is not as it shall be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// See [`Buffers::hold`]; ends when dropped.
pub struct Hold {
    starting: Arc<Mutex<BTreeMap<Id, usize>>>,
    device: Id,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.device) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.remove(&self.device);
            }
        }
    }
}

/// All buffers. Cheap to clone.
#[derive(Clone)]
pub struct Buffers {
    shared: Arc<Shared>,
}

struct Shared {
    jetstream: JetStream,
    names: Names,
    devices: DeviceStore,
    sessions: SessionStore,
    default: Option<BufferSetting>,
    /// Devices whose recording is being started, each as often as that is so: nobody else knows of it yet.
    starting: Arc<Mutex<BTreeMap<Id, usize>>>,
    /// One change of a device's buffer at a time.
    locks: Mutex<BTreeMap<Id, Arc<tokio::sync::Mutex<()>>>>,
}

impl Buffers {
    /// Buffers as the devices' rows say; a row without a setting is buffered as `default` says.
    #[must_use]
    pub fn new(
        jetstream: JetStream,
        names: Names,
        devices: DeviceStore,
        sessions: SessionStore,
        default: Option<BufferSetting>,
    ) -> Self {
        let (starting, locks) = Default::default();
        Self { shared: Arc::new(Shared { jetstream, names, devices, sessions, default, starting, locks }) }
    }

    /// The setting that holds for a device.
    fn setting(&self, device: &Device) -> Option<BufferSetting> {
        device.buffer.clone().or_else(|| self.shared.default.clone()).filter(|setting| setting.enabled)
    }

    fn wanted(&self, device: &Id) -> Option<BufferSetting> {
        let row = self.shared.devices.table().cached(&device.key())?;
        (row.device_id == *device).then(|| self.setting(&row)).flatten()
    }

    /// Whether a device shall be buffered.
    #[must_use]
    pub fn is_wanted(&self, device: &Id) -> bool {
        self.wanted(device).is_some()
    }

    /// Keeps the device's buffer as it is while a recording of it is being started: between the look at the buffer and the
    /// session's row nothing else says that it is needed.
    #[must_use]
    pub fn hold(&self, device: &Id) -> Hold {
        let starting = self.shared.starting.clone();
        let mut held = starting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(device.clone()).or_default();
        *count = count.saturating_add(1);
        drop(held);
        Hold { starting, device: device.clone() }
    }

    /// Whether somebody records the device, or all devices, or is about to.
    fn is_recorded(&self, device: &Id) -> bool {
        let sessions = &self.shared.sessions;
        self.shared.starting.lock().unwrap_or_else(PoisonError::into_inner).contains_key(device)
            || !sessions.active_of(device).is_empty()
            || sessions.states().all().iter().any(|row| row.device_id.is_none() && row.state.is_active())
    }

    async fn lock(&self, device: &Id) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.shared.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            locks.entry(device.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Makes, changes or deletes a device's buffer so that it is as its row says.
    ///
    /// # Errors
    /// A setting that cannot be, a stream of somebody else, or the server's error.
    pub async fn reconcile(&self, device: &Id) -> Result<(), BufferError> {
        let _one_at_a_time = self.lock(device).await;
        let found = self.find(device).await?;
        let wanted = self.wanted(device);
        match (found, wanted) {
            (None, wanted) if self.is_recorded(device) => {
                if wanted.is_some() || !self.shared.sessions.active_of(device).is_empty() {
                    self.create(device, wanted.as_ref()).await?;
                }
            }
            (Some(_), _) if self.is_recorded(device) => {}
            (None, None) => {}
            (None, Some(setting)) => {
                self.create(device, Some(&setting)).await?;
            }
            (Some(_), None) => {
                self.shared.jetstream.delete_stream(&buffer_stream(device)).await?;
            }
            (Some(info), Some(setting)) => self.change(device, info, &setting).await?,
        }
        Ok(())
    }

    /// Brings every buffer to what the rows say, and deletes buffers of devices that have no row any longer.
    pub async fn reconcile_all(&self) {
        let streams = match self.shared.jetstream.streams(Some(&self.shared.names.all_devices_filter())).await
        {
            Ok(streams) => streams,
            Err(error) => {
                tracing::warn!(%error, "buffers cannot be compared with their settings");
                return;
            }
        };
        let mut buffers: BTreeMap<Id, StreamInfo> = BTreeMap::new();
        for info in streams {
            if let Some(device) = device_of(&info) {
                buffers.insert(device, info);
            }
        }
        let rows = self.shared.devices.list();
        let mut differing: Vec<Id> = Vec::new();
        for row in &rows {
            let found = buffers.remove(&row.device_id);
            let same = match (&found, self.setting(row)) {
                (None, None) => true,
                (Some(info), None) if is_young(info) => true,
                (Some(info), Some(setting)) => is_as(info, &setting),
                (None, Some(_)) | (Some(_), None) => false,
            };
            if !same {
                differing.push(row.device_id.clone());
            }
        }
        differing.extend(buffers.into_iter().filter(|(_, info)| !is_young(info)).map(|(device, _)| device));
        for device in differing {
            if let Err(error) = self.reconcile(&device).await {
                tracing::warn!(device = %device, %error, "the buffer is not as it should be");
            }
        }
    }

    /// The buffer of a device that is to be recorded: its own, or one for as long as the recording runs.
    ///
    /// # Errors
    /// A stream of somebody else, or the server's error.
    pub async fn for_recording(&self, device: &Id) -> Result<StreamInfo, BufferError> {
        let _one_at_a_time = self.lock(device).await;
        match self.find(device).await? {
            Some(info) => Ok(info),
            None => self.create(device, self.wanted(device).as_ref()).await,
        }
    }

    /// The buffer's stream, if the device has one.
    ///
    /// # Errors
    /// [`BufferError::Taken`] when a stream of somebody else has its name; the server's error.
    pub async fn find(&self, device: &Id) -> Result<Option<StreamInfo>, BufferError> {
        let stream = buffer_stream(device);
        let Some(info) = self.shared.jetstream.find_stream(&stream).await? else { return Ok(None) };
        if device_of(&info).as_ref() == Some(device) {
            return Ok(Some(info));
        }
        let subject = self.shared.names.device_subject(device);
        Err(BufferError::Taken { device: device.to_string(), stream, subject })
    }

    /// Makes the stream; a temporary one when there is no setting.
    async fn create(&self, device: &Id, setting: Option<&BufferSetting>) -> Result<StreamInfo, BufferError> {
        let temporary = BufferSetting {
            window: TEMPORARY_WINDOW,
            max_bytes: TEMPORARY_BYTES,
            ..BufferSetting::default()
        };
        let mut config = StreamConfig {
            description: format!("Buffer of device {device}"),
            subjects: self.shared.names.device_filters(device).into(),
            first_seq: self.first_sequence(device).await?,
            ..StreamConfig::named(buffer_stream(device))
        };
        config.metadata.insert(ROLE.to_owned(), "buffer".to_owned());
        config.metadata.insert(DEVICE.to_owned(), device.to_string());
        if let Some(setting) = setting {
            setting.check()?;
        } else {
            config.metadata.insert(TEMPORARY.to_owned(), "true".to_owned());
        }
        apply(&mut config, setting.unwrap_or(&temporary));
        match self.shared.jetstream.create_stream(&config).await {
            Ok(info) => Ok(info),
            Err(error) if error.err_code() == Some(10_065) => match self.foreign_stream(device).await? {
                Some((stream, subject)) => {
                    Err(BufferError::Taken { device: device.to_string(), stream, subject })
                }
                // It went meanwhile: the next refresh makes the buffer.
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// A buffer made anew under a running recording goes on past every sequence the recording has.
    async fn first_sequence(&self, device: &Id) -> Result<u64, BufferError> {
        let mut last = 0;
        for session in self.shared.sessions.active_of(device) {
            if let Some(info) = self.shared.jetstream.find_stream(&session.stream).await? {
                last = last.max(info.state.last_seq);
            }
            last = last.max(session.start_sequence.saturating_sub(1));
        }
        Ok(if last == 0 { 0 } else { last.saturating_add(1) })
    }

    /// Whether a device can be buffered.
    ///
    /// # Errors
    /// [`BufferError::Taken`] when a stream of somebody else captures a subject of it; the server's error.
    pub async fn check_free(&self, device: &Id) -> Result<(), BufferError> {
        match self.foreign_stream(device).await? {
            Some((stream, subject)) => {
                Err(BufferError::Taken { device: device.to_string(), stream, subject })
            }
            None => Ok(()),
        }
    }

    /// The stream of somebody else that captures a subject of a device, and the subject.
    async fn foreign_stream(&self, device: &Id) -> Result<Option<(String, String)>, BufferError> {
        let own = buffer_stream(device);
        for subject in self.shared.names.device_filters(device) {
            let names = self.shared.jetstream.stream_names(Some(&subject)).await?;
            if let Some(stream) = names.into_iter().find(|name| *name != own) {
                return Ok(Some((stream, subject)));
            }
        }
        Ok(None)
    }

    async fn change(
        &self,
        device: &Id,
        info: StreamInfo,
        setting: &BufferSetting,
    ) -> Result<(), BufferError> {
        if is_as(&info, setting) {
            return Ok(());
        }
        setting.check()?;
        if info.config.storage != setting.storage {
            // Streams cannot move: what the old one held is given up, as whoever asked for another storage was told.
            self.shared.jetstream.delete_stream(&info.config.name).await?;
            self.create(device, Some(setting)).await?;
            return Ok(());
        }
        let mut config = info.config;
        config.metadata.remove(TEMPORARY);
        apply(&mut config, setting);
        self.shared.jetstream.update_stream(&config).await?;
        Ok(())
    }

    /// What a device's buffer shall be and what it is.
    ///
    /// # Errors
    /// An unknown device, or the server's error.
    pub async fn status(&self, device: &Id) -> Result<BufferStatus, BufferError> {
        let row = self.shared.devices.get(device).await?;
        let (info, taken) = match self.find(device).await {
            Ok(info) => (info, None),
            Err(error @ BufferError::Taken { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let setting = self.setting(&row);
        let problem = match (&info, &setting) {
            _ if taken.is_some() => taken,
            (None, Some(setting)) => match setting.check() {
                Err(error) => Some(error.to_string()),
                Ok(()) => {
                    let taken = self.foreign_stream(device).await?;
                    let making = || "it is being made".to_owned();
                    Some(taken.map_or_else(making, |(stream, subject)| {
                        BufferError::Taken { device: device.to_string(), stream, subject }.to_string()
                    }))
                }
            },
            (Some(info), Some(setting)) if is_as(info, setting) => None,
            (None, None) => None,
            (Some(_), _) if self.is_recorded(device) => Some(
                "the device is being recorded: the change takes effect when its last recording ends"
                    .to_owned(),
            ),
            (Some(_), _) => Some("it is being changed".to_owned()),
        };
        Ok(status(row.device_id.clone(), row.buffer.or_else(|| self.shared.default.clone()), info, problem))
    }

    /// [`status`](Self::status) of every device.
    ///
    /// # Errors
    /// The server's error.
    pub async fn list(&self) -> Result<Vec<BufferStatus>, BufferError> {
        let mut all = Vec::new();
        for device in self.shared.devices.list() {
            match self.status(&device.device_id).await {
                Ok(status) => all.push(status),
                // Deleted since the list was taken.
                Err(BufferError::Device(DeviceError::Unknown(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Follows the rows until the task is ended.
    pub(super) async fn follow(self, refresh: Duration) {
        let mut rows = self.shared.devices.table().changes();
        loop {
            rows.mark_unchanged();
            self.reconcile_all().await;
            tokio::select! {
                changed = rows.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(refresh) => {}
            }
        }
    }

    /// The window of a device's own buffer as it is now; `None` without one.
    #[must_use]
    pub fn window(info: &StreamInfo) -> Option<Duration> {
        let temporary = info.config.metadata.contains_key(TEMPORARY);
        let nanos = u64::try_from(info.config.max_age).unwrap_or_default();
        (!temporary).then(|| Duration::from_nanos(nanos))
    }
}

/// The device whose buffer a stream is, if it is one.
fn device_of(info: &StreamInfo) -> Option<Id> {
    let token = info.config.name.strip_prefix(BUFFER_PREFIX)?;
    (info.config.metadata.get(ROLE).map(String::as_str) == Some("buffer"))
        .then(|| Id::from_token(token))
        .flatten()
}

fn apply(config: &mut StreamConfig, setting: &BufferSetting) {
    config.storage = setting.storage;
    config.max_age = span::nanos(setting.window);
    config.max_bytes = i64::try_from(setting.max_bytes).unwrap_or(i64::MAX);
    config.duplicate_window = span::nanos(setting.window.min(DUPLICATE_WINDOW));
}

/// A temporary buffer that was made just now: another process may be starting a recording of the device, which nobody
/// else can know of before its row is written.
fn is_young(info: &StreamInfo) -> bool {
    let age = info.ts.zip(info.created).map(|(now, created)| now.saturating_sub(created));
    info.config.metadata.contains_key(TEMPORARY) && age.is_none_or(|age| age < span::nanos(YOUNG))
}

/// Whether a buffer is what a setting wants.
fn is_as(info: &StreamInfo, setting: &BufferSetting) -> bool {
    let mut config = info.config.clone();
    apply(&mut config, setting);
    config == info.config && !info.config.metadata.contains_key(TEMPORARY)
}

fn status(
    device_id: Id,
    setting: Option<BufferSetting>,
    info: Option<StreamInfo>,
    problem: Option<String>,
) -> BufferStatus {
    let enabled = setting.as_ref().is_some_and(|setting| setting.enabled);
    let setting = setting.unwrap_or_default();
    let stream = buffer_stream(&device_id);
    let active = info.is_some();
    let state = info.map(|info| info.state).unwrap_or_default();
    BufferStatus {
        device_id,
        enabled,
        window: setting.window,
        storage: setting.storage,
        active,
        stream,
        messages: state.messages,
        bytes: state.bytes,
        first_message_at: state.first_ts.filter(|_| state.messages > 0),
        last_message_at: state.last_ts.filter(|_| state.messages > 0),
        problem,
    }
}
