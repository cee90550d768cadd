//! The names that the services share with every other client: subjects, buckets, streams.

use weir_protocol::subject;

use super::id::Id;

/// Prefix of a buffer's stream.
pub const BUFFER_PREFIX: &str = "STREAMS_BUFFER_";
/// Prefix of a recording's stream.
pub const RECORDING_PREFIX: &str = "STREAMS_REC_";

/// Names that can be chosen. The defaults are the ones that other tools expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// First tokens of the subjects on which devices publish: `monitor`.
    pub monitor: String,
    /// Subject of the controller's requests: `streams.record.cmd`.
    pub command: String,
    /// Queue group of the controllers: `streams-record-controller`.
    pub command_queue: String,
    /// First tokens of the subjects on which replays publish: `streams.playback`.
    pub playback: String,
    /// Bucket of the devices: `streams_devices`.
    pub devices: String,
    /// Bucket of the sessions' descriptions: `streams_session`.
    pub sessions: String,
    /// Bucket of the sessions' states: `streams_record_state`.
    pub record_state: String,
    /// Bucket of the replays' positions: `streams_replay_state`.
    pub replay_state: String,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            monitor: "monitor".to_owned(),
            command: "streams.record.cmd".to_owned(),
            command_queue: "streams-record-controller".to_owned(),
            playback: "streams.playback".to_owned(),
            devices: "streams_devices".to_owned(),
            sessions: "streams_session".to_owned(),
            record_state: "streams_record_state".to_owned(),
            replay_state: "streams_replay_state".to_owned(),
        }
    }
}

/// A chosen name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not valid: {reason}")]
pub struct NameError {
    what: &'static str,
    name: String,
    reason: &'static str,
}

impl Names {
    /// Checks every name.
    ///
    /// # Errors
    /// The first one that is no literal subject, or no bucket name.
    pub fn check(&self) -> Result<(), NameError> {
        for (what, name) in [
            ("the monitor prefix", &self.monitor),
            ("the command subject", &self.command),
            ("the command queue group", &self.command_queue),
            ("the playback prefix", &self.playback),
        ] {
            let valid = subject::is_valid_subject(name.as_bytes()) && subject::is_literal(name.as_bytes());
            if !valid || name.starts_with('$') || name.chars().any(char::is_control) {
                let reason = "it must be a subject without wildcards and control characters that does not begin with '$'";
                return Err(NameError { what, name: name.clone(), reason });
            }
        }
        for (what, name) in [
            ("the device bucket", &self.devices),
            ("the session bucket", &self.sessions),
            ("the record state bucket", &self.record_state),
            ("the replay state bucket", &self.replay_state),
        ] {
            if !crate::client::kv::is_valid_bucket(name) {
                return Err(NameError { what, name: name.clone(), reason: "it must be of [A-Za-z0-9_-]" });
            }
        }
        Ok(())
    }

    /// The subject on which the monitor publishes a device's events.
    #[must_use]
    pub fn device_subject(&self, device: &Id) -> String {
        format!("{}.{}", self.monitor, device.token())
    }

    /// All subjects of a device.
    #[must_use]
    pub fn device_filters(&self, device: &Id) -> [String; 2] {
        let subject = self.device_subject(device);
        let below = format!("{subject}.>");
        [subject, below]
    }

    /// The subjects of all devices.
    #[must_use]
    pub fn all_devices_filter(&self) -> String {
        format!("{}.>", self.monitor)
    }

    /// The device to which a subject belongs: the first token after the prefix is its code.
    #[must_use]
    pub fn device_of(&self, subject: &str) -> Option<Id> {
        let rest = subject.strip_prefix(&self.monitor)?.strip_prefix('.')?;
        Id::from_token(rest.split('.').next()?)
    }

    /// Where a replay publishes when nothing else is asked for.
    #[must_use]
    pub fn playback_subject(&self, device: &Id) -> String {
        format!("{}.{}", self.playback, device.token())
    }
}

/// The stream of a device's buffer.
#[must_use]
pub fn buffer_stream(device: &Id) -> String {
    format!("{BUFFER_PREFIX}{}", device.token())
}

/// The stream of a recording.
#[must_use]
pub fn recording_stream(session: &Id) -> String {
    format!("{RECORDING_PREFIX}{}", session.token())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_belongs_to_the_device_of_its_first_token() {
        let names = Names::default();
        let device = |subject: &str| names.device_of(subject).map(|id| id.as_str().to_owned());
        assert_eq!(device("monitor.dev.1").as_deref(), Some("dev"));
        assert_eq!(device("monitor.dev=2E1.x").as_deref(), Some("dev.1"));
        for foreign in ["monitor", "monitor.", "monitored.dev", "other.dev", "monitor.d\u{e9}v"] {
            assert_eq!(device(foreign), None, "{foreign}");
        }
        let id = Id::parse("dev.1").unwrap();
        assert_eq!(names.device_filters(&id), ["monitor.dev=2E1", "monitor.dev=2E1.>"]);
        assert_eq!(buffer_stream(&id), "STREAMS_BUFFER_dev=2E1");
    }

    #[test]
    fn bad_names_are_named() {
        assert_eq!(Names::default().check(), Ok(()));
        let names = Names { monitor: "a.*".to_owned(), ..Names::default() };
        assert!(names.check().unwrap_err().to_string().contains("the monitor prefix \"a.*\""));
        for bad in ["", "a..b", "a b", "a\tb", "a\u{0}b", "a\r\nb", ".a", "a.", "a.>", "$JS.x"] {
            let names = Names { command: bad.to_owned(), ..Names::default() };
            assert!(names.check().is_err(), "{bad:?}");
        }
        let names = Names { sessions: "a.b".to_owned(), ..Names::default() };
        assert!(names.check().unwrap_err().to_string().contains("the session bucket \"a.b\""));
    }
}
