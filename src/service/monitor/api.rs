//! `/api/v1`: devices, buffers, recordings. Each route is in `docs/http-api.md`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, post};

use super::{Answer, Context, body, id_of};
use crate::service::command::{LIMITS, Request as Command, Response, Start};
use crate::service::device::{BufferChange, Device, DeviceChange};
use crate::service::fields::{FieldError, Fields, whole_number};
use crate::service::id::Id;

/// Longest body of these routes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

type PathId = std::result::Result<Path<String>, PathRejection>;
type Result<T = Answer> = std::result::Result<T, Answer>;
type Ctx = State<Arc<Context>>;

pub(super) fn routes() -> Router<Arc<Context>> {
    Router::new()
        .route("/api/v1/devices", get(devices))
        .route("/api/v1/devices/{id}", get(device).put(set_device).delete(delete_device))
        .route("/api/v1/buffers", get(buffers))
        .route("/api/v1/buffers/{id}", get(buffer).put(enable_buffer).delete(disable_buffer))
        .route("/api/v1/recordings", get(recordings).post(start).delete(purge_all))
        .route("/api/v1/recordings/stop", post(stop_many))
        .route("/api/v1/recordings/{id}", get(show).delete(delete))
        .route("/api/v1/recordings/{id}/status", get(status))
        .route("/api/v1/recordings/{id}/stop", post(stop))
}

/// A JSON body; an empty one counts as `{}`.
async fn json_body<T>(
    context: &Context,
    request: Request,
    read: impl FnOnce(&mut Fields) -> std::result::Result<T, FieldError>,
) -> Result<T> {
    let bytes = body::read(&context.bodies, request, BODY_BYTES_MAX).await?;
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes };
    let read = || {
        let mut fields = Fields::parse(text)?;
        let value = read(&mut fields)?;
        fields.finish().map(|()| value)
    };
    read().map_err(|error| bad_request(format!("the body: {error}")))
}

fn bad_request(reason: impl std::fmt::Display) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, reason)
}

async fn devices(State(context): Ctx) -> Answer {
    Answer::field("devices", &context.devices.list())
}

async fn device(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    Ok(Answer::ok(&context.devices.get(&id).await?))
}

async fn set_device(State(context): Ctx, id: PathId, request: Request) -> Result {
    let id = id_of(id, "device id")?;
    let change = json_body(&context, request, DeviceChange::read).await?;
    Ok(Answer::ok(&change_device(&context, &id, change).await?))
}

async fn delete_device(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    context.devices.delete(&id).await?;
    context.buffers.reconcile(&id).await?;
    Ok(Answer::field("deleted", &id))
}

async fn buffers(State(context): Ctx) -> Result {
    Ok(Answer::field("buffers", &context.buffers.list().await?))
}

async fn buffer(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    Ok(Answer::ok(&context.buffers.status(&id).await?))
}

async fn enable_buffer(State(context): Ctx, id: PathId, request: Request) -> Result {
    let id = id_of(id, "device id")?;
    let change = json_body(&context, request, |fields| BufferChange::read(fields, Some(true))).await?;
    change_buffer(&context, &id, change).await
}

async fn disable_buffer(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    context.devices.get(&id).await?;
    change_buffer(&context, &id, BufferChange { enabled: Some(false), ..BufferChange::default() }).await
}

async fn change_buffer(context: &Context, id: &Id, change: BufferChange) -> Result {
    let change = DeviceChange { buffer: Some(change), ..DeviceChange::default() };
    change_device(context, id, change).await?;
    Ok(Answer::ok(&context.buffers.status(id).await?))
}

/// Sets fields of a device, and makes its buffer what they say.
async fn change_device(context: &Context, id: &Id, change: DeviceChange) -> Result<Device> {
    let Some(buffer) = &change.buffer else { return Ok(context.devices.set(id, change).await?) };
    if buffer.of(&context.devices.buffer(id).await?.unwrap_or_default()).enabled {
        // A setting that cannot be is not kept.
        context.buffers.check_free(id).await?;
    }
    let device = context.devices.set(id, change).await?;
    context.buffers.reconcile(id).await?;
    Ok(device)
}

async fn recordings(
    State(context): Ctx,
    query: std::result::Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result {
    let Query(query) = query.map_err(|_| bad_request("the query cannot be read: percent-encode it"))?;
    let (mut device_id, mut offset, mut limit) = (None, None, None);
    for (name, value) in query {
        let twice = match name.as_str() {
            "device_id" => device_id.replace(value).is_some(),
            "offset" => offset.replace(number("offset", &value, &(0..=u64::MAX))?).is_some(),
            "limit" => limit.replace(number("limit", &value, &LIMITS)?).is_some(),
            _ => {
                let reason = format!("there is no parameter {name:?}; there are device_id, offset and limit");
                return Err(bad_request(reason));
            }
        };
        if twice {
            return Err(bad_request(format!("parameter {name:?} is there twice")));
        }
    }
    let list = Command::List { device_id, offset: offset.unwrap_or_default(), limit };
    carry_out(&context, StatusCode::OK, list).await
}

/// A number in a query.
fn number(name: &str, value: &str, range: &RangeInclusive<u64>) -> Result<usize> {
    let read = value.parse::<u64>().ok().filter(|number| range.contains(number));
    let number =
        read.ok_or_else(|| bad_request(format!("{name} must be {}, not {value:?}", whole_number(range))))?;
    Ok(usize::try_from(number).unwrap_or(usize::MAX))
}

async fn start(State(context): Ctx, request: Request) -> Result {
    let start = json_body(&context, request, Start::read).await?;
    carry_out(&context, StatusCode::CREATED, Command::Start(start)).await
}

async fn purge_all(State(context): Ctx) -> Result {
    carry_out(&context, StatusCode::OK, Command::PurgeAll {}).await
}

/// Of a device, or all.
async fn stop_many(State(context): Ctx, request: Request) -> Result {
    let device_id = json_body(&context, request, |fields| fields.text("device_id")).await?;
    let command = match device_id {
        Some(device) => Command::Stop { session_id: None, device_id: Some(device) },
        None => Command::StopAll {},
    };
    carry_out(&context, StatusCode::OK, command).await
}

async fn show(State(context): Ctx, id: PathId) -> Result {
    let session_id = id_of(id, "session id")?.to_string();
    carry_out(&context, StatusCode::OK, Command::Show { session_id }).await
}

async fn status(State(context): Ctx, id: PathId) -> Result {
    let session_id = id_of(id, "session id")?.to_string();
    carry_out(&context, StatusCode::OK, Command::Status { session_id }).await
}

async fn stop(State(context): Ctx, id: PathId) -> Result {
    let session_id = Some(id_of(id, "session id")?.to_string());
    carry_out(&context, StatusCode::OK, Command::Stop { session_id, device_id: None }).await
}

async fn delete(State(context): Ctx, id: PathId) -> Result {
    let session_id = id_of(id, "session id")?.to_string();
    carry_out(&context, StatusCode::OK, Command::Delete { session_id }).await
}

/// The controller's answer as it is, with a status.
async fn carry_out(context: &Context, success: StatusCode, command: Command) -> Result {
    let response: Response = context.recorder.carry_out(command).await?;
    let status = if response.ok { success } else { StatusCode::BAD_REQUEST };
    Ok(Answer::with(status, &response))
}
