//! What the controller is asked and what it answers, in JSON; shared by NATS, HTTP and the command line.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fields::{FieldError, Fields};
use super::session::{RecordState, Session, State};
use super::span;

/// Sessions in one answer, unless fewer are asked for: an answer must fit a message.
pub const LIST_MAX: usize = 500;
/// What may be asked for.
pub(super) const LIMITS: RangeInclusive<u64> = 1..=LIST_MAX as u64;

/// A request to the controller.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Request {
    /// Begins a recording.
    Start(Start),
    /// Ends a recording, or all of a device.
    Stop {
        /// The session; or else
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// the device.
        #[serde(skip_serializing_if = "Option::is_none")]
        device_id: Option<String>,
    },
    /// Ends every recording.
    StopAll {},
    /// Shows all sessions, oldest first.
    List {
        /// Only those of a device.
        #[serde(skip_serializing_if = "Option::is_none")]
        device_id: Option<String>,
        /// How many to pass over.
        offset: usize,
        /// How many to show, 1 to [`LIST_MAX`].
        #[serde(skip_serializing_if = "Option::is_none")]
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
    PurgeAll {},
}

/// The words for the actions.
#[derive(Clone, Copy)]
enum Action {
    Start,
    Stop,
    StopAll,
    List,
    Show,
    Status,
    Delete,
    PurgeAll,
}

/// `stop_all` and `purge_all` are understood too, and come last.
const ACTIONS: [(&str, Action); 10] = [
    ("start", Action::Start),
    ("stop", Action::Stop),
    ("stop-all", Action::StopAll),
    ("list", Action::List),
    ("show", Action::Show),
    ("status", Action::Status),
    ("delete", Action::Delete),
    ("purge-all", Action::PurgeAll),
    ("stop_all", Action::StopAll),
    ("purge_all", Action::PurgeAll),
];

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn parse(json: &[u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::parse(json)?;
        let action = fields.word("action", &ACTIONS)?;
        let request = match action.ok_or_else(|| FieldError::Missing("action".to_owned()))? {
            Action::Start => Self::Start(Start::read(&mut fields)?),
            Action::Stop => {
                Self::Stop { session_id: fields.text("session_id")?, device_id: fields.text("device_id")? }
            }
            Action::StopAll => Self::StopAll {},
            Action::List => Self::List {
                device_id: fields.text("device_id")?,
                offset: size(fields.number("offset", 0..=u64::MAX)?).unwrap_or_default(),
                limit: size(fields.number("limit", LIMITS)?),
            },
            Action::Show => Self::Show { session_id: fields.needed_text("session_id")? },
            Action::Status => Self::Status { session_id: fields.needed_text("session_id")? },
            Action::Delete => Self::Delete { session_id: fields.needed_text("session_id")? },
            Action::PurgeAll => Self::PurgeAll {},
        };
        fields.finish().map(|()| request)
    }
}

fn size(number: Option<u64>) -> Option<usize> {
    number.map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// How a recording begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Start {
    /// The device; all devices when neither it nor a subject is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The device by its subject, such as `monitor.dev-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The id of the session; a UUID when none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// How far back it reaches: `1m`. Needs a buffer with a window at least as long.
    #[serde(with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub pre_roll: Option<Duration>,
    /// How long it goes on after the stop.
    #[serde(with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub post_roll: Option<Duration>,
    /// Age at which recorded messages go: `24h`. Absent or `0s`: never.
    #[serde(with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// A note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Refuse to start while the device is being recorded, and keep others from starting.
    pub exclusive: bool,
}

impl Start {
    /// Takes the fields of a start.
    ///
    /// # Errors
    /// The first mistake in them.
    pub fn read(fields: &mut Fields) -> Result<Self, FieldError> {
        Ok(Self {
            device_id: fields.text("device_id")?,
            subject: fields.text("subject")?,
            session_id: fields.text("session_id")?,
            pre_roll: fields.span("pre_roll")?,
            post_roll: fields.span("post_roll")?,
            retention: fields.span("retention")?,
            note: fields.text("note")?,
            exclusive: fields.flag("exclusive")?.unwrap_or_default(),
        })
    }
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
        let read = |text: &str| Request::parse(text.as_bytes()).map_err(|error| error.to_string());
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
            (r#"{"action":"dance"}"#, "action must be \"start\" or \"stop\""),
            (r#"{"device_id":"x"}"#, "field \"action\" is missing"),
            (r#"{"action":"show"}"#, "field \"session_id\" is missing"),
            (r#"{"action":"start","pre_roll":"soon"}"#, "pre_roll must be a span of time"),
            (r#"{"action":"start","pre_roll":"-1s"}"#, "not \"-1s\""),
            (
                r#"{"action":"start","preroll":"1s"}"#,
                "there is no field \"preroll\"; the fields are action, device_id",
            ),
            (r#"{"action":"start","exclusive":1}"#, "exclusive must be true or false, not 1"),
            (r#"{"action":"list","limit":501}"#, "limit must be a whole number from 1 to 500, not 501"),
            (r#"{"action":"list","limit":0}"#, "not 0"),
            (r#"{"action":"#, "it ends too early at line 1, column 10"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let session_id = || "s".to_owned();
        for request in [
            Request::Start(Start {
                retention: Some(Duration::from_secs(5)),
                exclusive: true,
                ..Start::default()
            }),
            Request::Stop { session_id: Some(session_id()), device_id: None },
            Request::StopAll {},
            Request::List { device_id: Some("d".to_owned()), offset: 7, limit: Some(500) },
            Request::Show { session_id: session_id() },
            Request::Status { session_id: session_id() },
            Request::Delete { session_id: session_id() },
            Request::PurgeAll {},
        ] {
            let json = serde_json::to_vec(&request).unwrap();
            assert_eq!(Request::parse(&json), Ok(request));
        }
    }
}
