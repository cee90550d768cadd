//! Devices: their rows in the bucket `streams_devices`.
//!
//! A row describes a device and says how it is buffered. Any NATS client may write one; fields that Weir does not know are
//! kept. The key is the id's code in lower case, so of two ids that differ only in case the first one seen stays.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weir_protocol::time;

use super::fields::{FieldError, Fields, ObjectOrSpan};
use super::id::Id;
use super::span;
use super::table::{Table, TableError};
use crate::client::jetstream::{JetStream, Storage};
use crate::client::json;
use crate::sys::clock::SharedClock;

/// Window of a buffer for which none is given.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(300);
/// Bytes of a buffer for which no limit is given: 256 MiB.
pub const DEFAULT_BUFFER_BYTES: u64 = 256 << 20;
/// Smallest limit of a buffer, 2 MiB: an event of the default `max_payload` fits with its headers.
pub const BUFFER_BYTES_MIN: u64 = 2 << 20;
/// Shortest window: JetStream keeps no message for less.
pub const WINDOW_MIN: Duration = Duration::from_millis(100);

/// How a device's messages are buffered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BufferText")]
pub struct BufferSetting {
    /// Whether they are.
    pub enabled: bool,
    /// How long a message stays: `5m`.
    #[serde(with = "span::text")]
    pub window: Duration,
    /// Where: `memory` or `file`.
    pub storage: Storage,
    /// Bytes above which the oldest messages go before their time.
    pub max_bytes: u64,
}

impl Default for BufferSetting {
    fn default() -> Self {
        Self {
            enabled: true,
            window: DEFAULT_WINDOW,
            storage: Storage::Memory,
            max_bytes: DEFAULT_BUFFER_BYTES,
        }
    }
}

/// A buffer as people write it: an object with any of the fields, or only the window.
#[derive(Deserialize)]
#[serde(untagged)]
enum BufferText {
    Window(#[serde(with = "span::text")] Duration),
    Fields {
        enabled: Option<bool>,
        #[serde(default, with = "span::optional")]
        window: Option<Duration>,
        storage: Option<Storage>,
        max_bytes: Option<u64>,
    },
}

impl From<BufferText> for BufferChange {
    fn from(text: BufferText) -> Self {
        match text {
            BufferText::Window(window) => Self { window: Some(window), ..Self::default() },
            BufferText::Fields { enabled, window, storage, max_bytes } => {
                Self { enabled, window, storage, max_bytes: max_bytes.filter(|bytes| *bytes > 0) }
            }
        }
    }
}

impl From<BufferText> for BufferSetting {
    fn from(text: BufferText) -> Self {
        BufferChange::from(text).of(&Self::default())
    }
}

/// Fields of a buffer's setting to set; the others stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BufferChange {
    /// Whether messages are buffered; they are when this is absent, but for a window of zero.
    pub enabled: Option<bool>,
    /// How long a message stays.
    pub window: Option<Duration>,
    /// Where.
    pub storage: Option<Storage>,
    /// Bytes above which the oldest messages go before their time.
    pub max_bytes: Option<u64>,
}

impl BufferChange {
    /// Takes the fields of a change; `enabled` is no field of it.
    ///
    /// # Errors
    /// The first mistake in them.
    pub fn read(fields: &mut Fields, enabled: Option<bool>) -> Result<Self, FieldError> {
        let places = [("memory", Storage::Memory), ("file", Storage::File)];
        Ok(Self {
            enabled,
            window: fields.span("window")?,
            storage: fields.word("storage", &places)?,
            max_bytes: fields.number("max_bytes", 1..=i64::MAX.unsigned_abs())?,
        })
    }

    /// What it makes of a setting.
    #[must_use]
    pub fn of(&self, before: &BufferSetting) -> BufferSetting {
        // A window of zero alone means none; with `enabled` it is a window that cannot be.
        let off = self.enabled.is_none() && self.window.is_some_and(|window| window.is_zero());
        BufferSetting {
            enabled: self.enabled.unwrap_or(!off),
            window: self.window.filter(|_| !off).unwrap_or(before.window),
            storage: self.storage.unwrap_or(before.storage),
            max_bytes: self.max_bytes.unwrap_or(before.max_bytes),
        }
    }
}

/// A buffer that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BufferSettingError {
    /// Below [`WINDOW_MIN`].
    #[error("a buffer window of {} is shorter than {}", span::format(*.0), span::format(WINDOW_MIN))]
    Window(Duration),
    /// Below [`BUFFER_BYTES_MIN`].
    #[error(
        "a buffer of max_bytes {0} is smaller than {BUFFER_BYTES_MIN}: one event alone could be too large for it"
    )]
    Bytes(u64),
}

impl BufferSetting {
    /// # Errors
    /// When it is enabled with a window that no stream can have, or with less room than an event may take.
    pub fn check(&self) -> Result<(), BufferSettingError> {
        if self.enabled && self.window < WINDOW_MIN {
            return Err(BufferSettingError::Window(self.window));
        }
        if self.enabled && self.max_bytes < BUFFER_BYTES_MIN {
            return Err(BufferSettingError::Bytes(self.max_bytes));
        }
        Ok(())
    }
}

/// A device's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its id, in the case in which it was first seen.
    pub device_id: Id,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Where it is.
    #[serde(default)]
    pub location: String,
    /// Whose it is.
    #[serde(default)]
    pub owner: String,
    /// How it is buffered; absent: as the service's default says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<BufferSetting>,
    /// The session with which a new device begins when every device is recorded from its first message on; absent once that runs,
    /// or cannot be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_session: Option<Id>,
    /// When the row was last written.
    #[serde(default, with = "time::optional")]
    pub updated: Option<i64>,
    /// What others keep here.
    #[serde(flatten, deserialize_with = "json::object")]
    pub other: Map<String, Value>,
}

impl Device {
    /// A row that says nothing yet.
    #[must_use]
    pub fn new(device_id: Id) -> Self {
        Self {
            device_id,
            description: String::new(),
            location: String::new(),
            owner: String::new(),
            buffer: None,
            auto_session: None,
            updated: None,
            other: Map::new(),
        }
    }
}

/// Fields to set; the others stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceChange {
    /// What it is.
    pub description: Option<String>,
    /// Where it is.
    pub location: Option<String>,
    /// Whose it is.
    pub owner: Option<String>,
    /// How it is buffered.
    pub buffer: Option<BufferChange>,
}

impl DeviceChange {
    /// Takes the fields of a change. A buffer is an object, or only the window.
    ///
    /// # Errors
    /// The first mistake in them.
    pub fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            description: fields.text("description")?,
            location: fields.text("location")?,
            owner: fields.text("owner")?,
            buffer: match fields.object_or_span("buffer")? {
                None => None,
                Some(ObjectOrSpan::Span(window)) => Some(BufferText::Window(window).into()),
                Some(ObjectOrSpan::Object(mut fields)) => {
                    let enabled = fields.flag("enabled")?;
                    let change = BufferChange::read(&mut fields, enabled)?;
                    fields.finish()?;
                    Some(change)
                }
            },
        })
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A call on devices that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is none.
    #[error("there is no device {0:?}")]
    Unknown(String),
    /// An id that differs only in case is known already.
    #[error("device {wanted:?} differs only in case from device {known:?}")]
    OtherCase {
        /// The id asked for.
        wanted: String,
        /// The id that is there.
        known: String,
    },
    /// No field to set.
    #[error("nothing to set: give a description, a location, an owner or a buffer")]
    NothingToSet,
    /// The buffer.
    #[error(transparent)]
    Buffer(#[from] BufferSettingError),
    /// The bucket.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The rows of all devices. Cheap to clone.
#[derive(Clone)]
pub struct DeviceStore {
    table: Table<Device>,
    clock: SharedClock,
}

impl DeviceStore {
    /// Opens the bucket.
    ///
    /// # Errors
    /// The server's error.
    pub async fn open(jetstream: &JetStream, bucket: &str, clock: SharedClock) -> Result<Self, TableError> {
        Ok(Self { table: Table::open(jetstream, bucket, "Devices and their buffers").await?, clock })
    }

    /// The rows as they are in memory, for whoever follows their changes.
    #[must_use]
    pub fn table(&self) -> &Table<Device> {
        &self.table
    }

    /// All devices, by key.
    #[must_use]
    pub fn list(&self) -> Vec<Device> {
        self.table.all()
    }

    /// One device.
    ///
    /// # Errors
    /// [`DeviceError::Unknown`], [`DeviceError::OtherCase`], or the server's error.
    pub async fn get(&self, id: &Id) -> Result<Device, DeviceError> {
        match self.table.get(&id.key()).await? {
            Some((device, _)) => same_case(id, device),
            None => Err(DeviceError::Unknown(id.to_string())),
        }
    }

    /// How a device is to be buffered; `None` when its row does not say, or there is no row.
    ///
    /// # Errors
    /// [`DeviceError::OtherCase`], or the server's error.
    pub async fn buffer(&self, id: &Id) -> Result<Option<BufferSetting>, DeviceError> {
        match self.get(id).await {
            Ok(device) => Ok(device.buffer),
            Err(DeviceError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the id can be a device's: no other one differs from it only in case.
    ///
    /// # Errors
    /// [`DeviceError::OtherCase`], or the server's error.
    pub async fn check_case(&self, id: &Id) -> Result<(), DeviceError> {
        match self.table.cached(&id.key()) {
            Some(device) if device.device_id != *id => match self.get(id).await {
                // The copy was behind: that row is gone.
                Err(DeviceError::Unknown(_)) => Ok(()),
                other => other.map(drop),
            },
            _ => Ok(()),
        }
    }

    /// The row of a device, made if it is not there. Whether it was made comes with it.
    ///
    /// # Errors
    /// [`DeviceError::OtherCase`], or the server's error.
    pub async fn ensure(&self, id: &Id) -> Result<(Device, bool), DeviceError> {
        self.ensure_with(id, || None).await
    }

    /// As [`ensure`](Self::ensure); a row that is made begins with this session.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub async fn ensure_with(
        &self,
        id: &Id,
        auto_session: impl FnOnce() -> Option<Id>,
    ) -> Result<(Device, bool), DeviceError> {
        self.check_case(id).await?;
        if let Some(device) = self.table.cached(&id.key()).filter(|device| device.device_id == *id) {
            return Ok((device, false));
        }
        let updated = Some(self.clock.wall());
        let device = Device { auto_session: auto_session(), updated, ..Device::new(id.clone()) };
        match self.table.create(&id.key(), &device).await {
            Ok(_) => Ok((device, true)),
            Err(error) if error.is_conflict() => Ok((self.get(id).await?, false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets fields of a device and stamps the row; makes the row if it is not there.
    ///
    /// # Errors
    /// No field at all, a buffer that cannot be, [`DeviceError::OtherCase`], or the server's error.
    pub async fn set(&self, id: &Id, change: DeviceChange) -> Result<Device, DeviceError> {
        if change.is_empty() {
            return Err(DeviceError::NothingToSet);
        }
        if let Some(buffer) = &change.buffer {
            buffer.of(&self.buffer(id).await?.unwrap_or_default()).check()?;
        }
        self.ensure(id).await?;
        let mut other_case = None;
        let changed = self
            .table
            .modify(&id.key(), |device| {
                if let Err(error) = same_case(id, device.clone()) {
                    other_case = Some(error);
                    return false;
                }
                let DeviceChange { description, location, owner, buffer } = change.clone();
                for (field, value) in [
                    (&mut device.description, description),
                    (&mut device.location, location),
                    (&mut device.owner, owner),
                ] {
                    if let Some(value) = value {
                        *field = value;
                    }
                }
                if let Some(buffer) = buffer {
                    device.buffer = Some(buffer.of(&device.buffer.clone().unwrap_or_default()));
                }
                device.updated = Some(self.clock.wall());
                true
            })
            .await?;
        match (other_case, changed) {
            (Some(error), _) => Err(error),
            (None, Some(device)) => Ok(device),
            (None, None) => Err(DeviceError::Unknown(id.to_string())),
        }
    }

    /// The session with which a device begins runs, or cannot be.
    ///
    /// # Errors
    /// The server's error.
    pub async fn forget_auto_session(&self, id: &Id, session: &Id) -> Result<(), DeviceError> {
        self.table
            .modify(&id.key(), |device| {
                let is_there = device.auto_session.as_ref() == Some(session);
                if is_there {
                    device.auto_session = None;
                    device.updated = Some(self.clock.wall());
                }
                is_there
            })
            .await?;
        Ok(())
    }

    /// Deletes a device's row. Its buffer goes with it, once it is not being recorded.
    ///
    /// # Errors
    /// [`DeviceError::Unknown`], [`DeviceError::OtherCase`], or the server's error.
    pub async fn delete(&self, id: &Id) -> Result<(), DeviceError> {
        self.get(id).await?;
        Ok(self.table.delete(&id.key()).await?)
    }
}

fn same_case(wanted: &Id, device: Device) -> Result<Device, DeviceError> {
    if device.device_id == *wanted {
        Ok(device)
    } else {
        Err(DeviceError::OtherCase { wanted: wanted.to_string(), known: device.device_id.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_however_much_of_it_is_written() {
        let row: Device = serde_json::from_str(r#"{"device_id":"dev-1","rack":7}"#).unwrap();
        assert_eq!((row.device_id.as_str(), &row.buffer, row.updated), ("dev-1", &None, None));
        assert_eq!(serde_json::to_value(&row).unwrap()["rack"], 7);
        let buffer =
            |text: &str| serde_json::from_str::<BufferSetting>(text).map_err(|error| error.to_string());
        let two_minutes = BufferSetting { window: Duration::from_secs(120), ..BufferSetting::default() };
        assert_eq!(buffer(r#""2m""#), Ok(two_minutes.clone()));
        assert_eq!(buffer(r#"{"window":"2m"}"#), Ok(two_minutes.clone()));
        assert_eq!(buffer(r#"{"window":"2m","storage":"file"}"#).unwrap().storage, Storage::File);
        assert!(!buffer(r#"{"enabled":false}"#).unwrap().enabled);
        assert!(!buffer(r#""0s""#).unwrap().enabled);
        assert!(buffer(r#""soon""#).is_err());
        let again = serde_json::to_string(&two_minutes).unwrap();
        assert_eq!(again, r#"{"enabled":true,"window":"2m","storage":"memory","max_bytes":268435456}"#);
        assert_eq!(buffer(&again), Ok(two_minutes));
    }

    #[test]
    fn a_window_that_no_stream_can_have_is_refused() {
        let short = BufferSetting { window: Duration::from_millis(99), ..BufferSetting::default() };
        assert_eq!(short.check().unwrap_err().to_string(), "a buffer window of 99ms is shorter than 100ms");
        assert_eq!(BufferSetting { enabled: false, ..short }.check(), Ok(()));
        let small = BufferSetting { max_bytes: BUFFER_BYTES_MIN - 1, ..BufferSetting::default() };
        let text = small.check().unwrap_err().to_string();
        assert!(text.starts_with("a buffer of max_bytes 2097151 is smaller than 2097152"), "{text}");
        let zero: BufferSetting = serde_json::from_str(r#"{"enabled":true,"window":"0s"}"#).unwrap();
        assert_eq!(zero.check(), Err(BufferSettingError::Window(Duration::ZERO)));
    }
}
