//! Answers: a status and JSON; errors of the services translated to statuses in one place.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::service::buffer::BufferError;
use crate::service::device::DeviceError;
use crate::service::ingest::IngestError;
use crate::service::recorder::RecordError;
use crate::service::table::TableError;

/// A status and a JSON body.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: String,
}

/// The body of everything that is no success.
#[derive(Serialize)]
struct Refusal {
    error: String,
    /// Events of a batch that were accepted all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<usize>,
}

impl Answer {
    /// 200 with a struct or map of plain values.
    pub(super) fn ok(body: &impl Serialize) -> Self {
        Self::with(StatusCode::OK, body)
    }

    /// 200 with an object of one field.
    pub(super) fn field(name: &str, rows: &impl Serialize) -> Self {
        Self::ok(&std::collections::BTreeMap::from([(name, rows)]))
    }

    pub(super) fn with(status: StatusCode, body: &impl Serialize) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "answers are plain structs and maps with string keys, which always become JSON"
        )]
        let mut body = serde_json::to_string(body).expect("an answer becomes JSON");
        body.push('\n');
        Self { status, body }
    }

    pub(super) fn error(status: StatusCode, reason: impl std::fmt::Display) -> Self {
        Self::with(status, &Refusal { error: reason.to_string(), accepted: None })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, "application/json")], self.body).into_response()
    }
}

impl From<IngestError> for Answer {
    fn from(error: IngestError) -> Self {
        let (status, accepted) = match &error {
            IngestError::Device(_) => (StatusCode::CONFLICT, 0),
            IngestError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, 0),
            IngestError::Partly { accepted, .. } => (StatusCode::SERVICE_UNAVAILABLE, *accepted),
            IngestError::NotRecorded { events, .. } => (StatusCode::SERVICE_UNAVAILABLE, *events),
            IngestError::Row(_) => (StatusCode::INTERNAL_SERVER_ERROR, 0),
            IngestError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, 0),
        };
        Self::with(status, &Refusal { error: error.to_string(), accepted: Some(accepted) })
    }
}

impl From<TableError> for Answer {
    fn from(error: TableError) -> Self {
        let status = match error {
            TableError::Kv(_) => StatusCode::SERVICE_UNAVAILABLE,
            TableError::Unreadable { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::error(status, error)
    }
}

impl From<DeviceError> for Answer {
    fn from(error: DeviceError) -> Self {
        let status = match error {
            DeviceError::Unknown(_) => StatusCode::NOT_FOUND,
            DeviceError::OtherCase { .. } => StatusCode::CONFLICT,
            DeviceError::NothingToSet | DeviceError::Buffer(_) => StatusCode::BAD_REQUEST,
            DeviceError::Table(error) => return error.into(),
        };
        Self::error(status, error)
    }
}

impl From<BufferError> for Answer {
    fn from(error: BufferError) -> Self {
        let status = match error {
            BufferError::Taken { .. } => StatusCode::CONFLICT,
            BufferError::Setting(_) => StatusCode::BAD_REQUEST,
            BufferError::Device(error) => return error.into(),
            BufferError::JetStream(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::error(status, error)
    }
}

impl From<RecordError> for Answer {
    fn from(error: RecordError) -> Self {
        let status = match error {
            RecordError::SessionId(_)
            | RecordError::DeviceId(_)
            | RecordError::Subject(..)
            | RecordError::DeviceAndSubject(..)
            | RecordError::NoBuffer { .. }
            | RecordError::PreRoll { .. }
            | RecordError::PostRoll(_)
            | RecordError::Retention(_) => StatusCode::BAD_REQUEST,
            RecordError::Unknown(_) => StatusCode::NOT_FOUND,
            RecordError::AlreadyRunning(_)
            | RecordError::Exists(..)
            | RecordError::StreamExists(_)
            | RecordError::Busy { .. }
            | RecordError::Exclusive { .. }
            | RecordError::Active(..) => StatusCode::CONFLICT,
            RecordError::Device(error) => return error.into(),
            RecordError::Buffer(error) => return error.into(),
            RecordError::Table(error) => return error.into(),
            RecordError::JetStream(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::error(status, error)
    }
}
