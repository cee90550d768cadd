//! What the controller is asked and what it answers, in JSON; shared by NATS, HTTP and the command line.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::session::{RecordState, Session, State};
use super::span;

/// Sessions in one answer, unless fewer are asked for: an answer must fit a message.
pub const LIST_MAX: usize = 500;

/// A request to the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Begins a recording.
    Start(Start),
    /// Ends a recording, or all of a device.
    Stop {
        /// The session; or else
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// the device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_id: Option<String>,
    },
    /// Ends every recording.
    #[serde(alias = "stop_all")]
    StopAll {},
    /// Shows all sessions, oldest first.
    List {
        /// Only those of a device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_id: Option<String>,
        /// How many to pass over.
        #[serde(default)]
        offset: usize,
        /// How many to show, at most [`LIST_MAX`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// Shows one session.
    Show {
        /// Which.
        session_id: String,
    },
    /// Shows the state of one session.
    Status {
        /// Which.
        session_id: String,
    },
    /// Deletes a session that does not run.
    Delete {
        /// Which.
        session_id: String,
    },
    /// Stops and deletes every session.
    #[serde(alias = "purge_all")]
    PurgeAll {},
}

/// How a recording begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The device; all devices when neither it nor a subject is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The device by its subject, such as `monitor.dev-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The id of the session; a UUID when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// How far back it reaches: `1m`. Needs a buffer with a window at least as long.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub pre_roll: Option<Duration>,
    /// How long it goes on after the stop.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub post_roll: Option<Duration>,
    /// Age at which recorded messages go: `24h`. Absent or `0s`: never.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// A note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Refuse to start while the device is being recorded, and keep others from starting.
    #[serde(default)]
    pub exclusive: bool,
}

/// The answer to a request. Only the fields that the action has are there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Whether it was done.
    pub ok: bool,
    /// What was done, or why it was not.
    pub message: String,
    /// The session meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Sessions stopped or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Its state row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RecordState>,
    /// Sessions with their states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<Listed>>,
    /// How many sessions there are in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Its state; absent while its start is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Its description.
    #[serde(flatten)]
    pub session: Session,
}

impl Response {
    /// Done.
    #[must_use]
    pub fn done(message: impl Into<String>) -> Self {
        Self { ok: true, message: message.into(), ..Self::default() }
    }

    /// Not done.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { ok: false, message: reason.into(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_and_mistakes_in_them_are_named() {
        let read = |text: &str| serde_json::from_str::<Request>(text).map_err(|error| error.to_string());
        let start = Start {
            device_id: Some("dev-1".to_owned()),
            session_id: Some("s1".to_owned()),
            pre_roll: Some(Duration::from_secs(60)),
            ..Start::default()
        };
        let text = r#"{"action":"start","device_id":"dev-1","session_id":"s1","pre_roll":"1m"}"#;
        assert_eq!(read(text), Ok(Request::Start(start)));
        for text in [r#"{"action":"stop-all"}"#, r#"{"action":"stop_all"}"#] {
            assert_eq!(read(text), Ok(Request::StopAll {}));
        }
        for (text, reason) in [
            (r#"{"action":"dance"}"#, "unknown variant `dance`"),
            (r#"{"device_id":"x"}"#, "missing field `action`"),
            (r#"{"action":"start","pre_roll":"soon"}"#, "\"soon\" is not a duration"),
            (r#"{"action":"start","pre_roll":"-1s"}"#, "-1s"),
            (r#"{"action":"start","preroll":"1s"}"#, "unknown field `preroll`"),
            (r#"{"action":"#, "EOF"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
