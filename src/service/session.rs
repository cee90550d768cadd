//! Sessions: the description of each recording in `streams_session`, its state in `streams_record_state`.
//!
//! The description is written first, before there is anything to describe: it reserves the id, and a start that a crash
//! interrupted can be finished from it. Keys follow the same code as devices (`id.rs`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weir_protocol::time;

use super::id::Id;
use super::span;
use super::table::{Table, TableError};
use crate::client::jetstream::JetStream;
use crate::client::json;

/// A recording's description.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub session_id: Id,
    /// The device; absent for the parent of a recording of all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<Id>,
    /// The recording of all devices to which it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// The subject recorded, and all below it.
    #[serde(default)]
    pub subject: String,
    /// The stream that holds the messages; empty for a parent.
    #[serde(default)]
    pub stream: String,
    /// When it was started, by the server's clock.
    #[serde(with = "time::rfc3339")]
    pub start: i64,
    /// When it was stopped; post-roll included.
    #[serde(default, with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
    /// How far before `start` it reaches.
    #[serde(default, with = "span::text")]
    pub pre_roll: Duration,
    /// How far beyond the stop it reaches.
    #[serde(default, with = "span::text")]
    pub post_roll: Duration,
    /// Age at which recorded messages go; absent: never.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub retention: Option<Duration>,
    /// What the user wrote to it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// It was asked to be the only recording of its device.
    #[serde(default)]
    pub exclusive: bool,
    /// The first sequence that belongs to it, as in the buffer.
    #[serde(default)]
    pub start_sequence: u64,
    /// The first sequence that came after `start`; what stands before it is pre-roll.
    #[serde(default)]
    pub first_live_sequence: u64,
    /// The last sequence that belongs to it, once it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_sequence: Option<u64>,
    /// Messages it holds; exact once it is stopped.
    #[serde(default)]
    pub message_count: u64,
    /// When its last message was captured.
    #[serde(default, with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub last_message_at: Option<i64>,
    /// Which service process started it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub controller: String,
    /// Sequences that are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Gap>,
    /// Of a recording of all devices: those that it cannot record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrecorded: Vec<Unrecorded>,
    /// What others keep here.
    #[serde(flatten, deserialize_with = "json::object")]
    pub other: Map<String, Value>,
}

/// Sequences that a recording should hold and does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// First missing sequence.
    pub first_sequence: u64,
    /// Last missing sequence.
    pub last_sequence: u64,
    /// Why.
    pub reason: String,
}

/// A device that a recording of all devices cannot record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecorded {
    /// The device.
    pub device_id: Id,
    /// Why.
    pub reason: String,
}

/// How far a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It records.
    Running,
    /// It waits for the last messages that belong to it.
    Stopping,
    /// It has them, and is being made a stream of its own.
    Promoting,
    /// It is whole, and nothing will change it but its retention.
    Stopped,
    /// It ended before it should; `reason` says why.
    Failed,
}

impl Session {
    /// Whether it belongs to this recording of all devices. Rows are anybody's to write: a parent is nobody's child, so that
    /// no family goes round in a circle.
    #[must_use]
    pub fn is_child_of(&self, parent: &Id) -> bool {
        self.parent.as_ref() == Some(parent) && self.device_id.is_some() && !self.stream.is_empty()
    }
}

impl State {
    /// Whether somebody still works on it.
    #[must_use]
    pub fn is_active(self) -> bool {
        match self {
            Self::Running | Self::Stopping | Self::Promoting => true,
            Self::Stopped | Self::Failed => false,
        }
    }

    /// The word for it in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Promoting => "promoting",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// A recording's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordState {
    /// The session.
    pub session_id: Id,
    /// Its device; absent for the parent of a recording of all devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<Id>,
    /// How far it is.
    pub state: State,
    /// Messages it holds.
    #[serde(default)]
    pub message_count: u64,
    /// When it was started.
    #[serde(with = "time::rfc3339")]
    pub started_at: i64,
    /// When its last message was captured.
    #[serde(default, with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub last_message_at: Option<i64>,
    /// When this row was written.
    #[serde(with = "time::rfc3339")]
    pub updated_at: i64,
    /// The moment that a stop asked for, until `stop_at` says which it is.
    #[serde(default, with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub stop_asked_for: Option<i64>,
    /// The last moment that belongs to it, once it is being stopped.
    #[serde(default, with = "time::optional", skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<i64>,
    /// The last sequence that belongs to it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_sequence: Option<u64>,
    /// Which service process looks after it.
    #[serde(default)]
    pub controller: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What others keep here.
    #[serde(flatten, deserialize_with = "json::object")]
    pub other: Map<String, Value>,
}

/// Both tables. Cheap to clone.
#[derive(Clone)]
pub struct SessionStore {
    sessions: Table<Session>,
    states: Table<RecordState>,
}

impl SessionStore {
    /// Opens both buckets.
    ///
    /// # Errors
    /// The server's error.
    pub async fn open(jetstream: &JetStream, sessions: &str, states: &str) -> Result<Self, TableError> {
        Ok(Self {
            sessions: Table::open(jetstream, sessions, "Recordings").await?,
            states: Table::open(jetstream, states, "States of recordings").await?,
        })
    }

    /// Stops following both buckets.
    pub fn close(&self) {
        self.sessions.close();
        self.states.close();
    }

    /// The descriptions.
    #[must_use]
    pub fn sessions(&self) -> &Table<Session> {
        &self.sessions
    }

    /// The states.
    #[must_use]
    pub fn states(&self) -> &Table<RecordState> {
        &self.states
    }

    /// The state of a session as memory has it. A session whose start is still under way has none.
    #[must_use]
    pub fn state_of(&self, session: &Id) -> Option<State> {
        self.states.cached(&session.key()).map(|row| row.state)
    }

    /// The sessions of a device on which somebody still works, their start included.
    #[must_use]
    pub fn active_of(&self, device: &Id) -> Vec<Session> {
        self.sessions
            .all()
            .into_iter()
            .filter(|session| session.device_id.as_ref() == Some(device))
            .filter(|session| self.state_of(&session.session_id).is_none_or(State::is_active))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_reads_back_as_it_was_written() {
        let text = r#"{"session_id":"s1","device_id":"dev-1","subject":"monitor.dev-1","stream":"STREAMS_REC_s1",
            "start":"2026-01-01T00:00:00.000000001Z","pre_roll":"1m","post_roll":"0s","exclusive":false,
            "start_sequence":5,"first_live_sequence":9,"message_count":3,"mine":"kept"}"#;
        let session: Session = serde_json::from_str(text).unwrap();
        assert_eq!(session.pre_roll, Duration::from_secs(60));
        assert_eq!((session.end, session.retention, session.gaps.len()), (None, None, 0));
        let written = serde_json::to_value(&session).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn words_for_states_are_the_ones_in_json() {
        for state in [State::Running, State::Stopping, State::Promoting, State::Stopped, State::Failed] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
