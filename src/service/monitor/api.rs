//! `/api/v1`: devices, buffers, recordings. Each route is in `docs/http-api.md`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Answer, Context, body, id_of};
use crate::client::jetstream::Storage;
use crate::service::command::{Request as Command, Response, Start};
use crate::service::device::{BufferSetting, DeviceChange};
use crate::service::id::Id;
use crate::service::span;

/// Longest body of these routes.
const BODY_BYTES_MAX: usize = 64 << 10;

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
async fn json_body<T: DeserializeOwned>(context: &Context, request: Request) -> Result<T> {
    let bytes = body::read(context, request, BODY_BYTES_MAX).await?;
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| Answer::error(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

async fn devices(State(context): Ctx) -> Answer {
    Answer::ok(json!({"devices": context.devices.list()}))
}

async fn device(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    Ok(Answer::ok(json!(context.devices.get(&id).await?)))
}

async fn set_device(State(context): Ctx, id: PathId, request: Request) -> Result {
    let id = id_of(id, "device id")?;
    let change: DeviceChange = json_body(&context, request).await?;
    let buffered = change.buffer.is_some();
    let device = context.devices.set(&id, change).await?;
    if buffered {
        context.buffers.reconcile(&id).await?;
    }
    Ok(Answer::ok(json!(device)))
}

async fn delete_device(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    context.devices.delete(&id).await?;
    context.buffers.reconcile(&id).await?;
    Ok(Answer::ok(json!({"deleted": id})))
}

async fn buffers(State(context): Ctx) -> Result {
    Ok(Answer::ok(json!({"buffers": context.buffers.list().await?})))
}

async fn buffer(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    Ok(Answer::ok(json!(context.buffers.status(&id).await?)))
}

/// What a buffer shall be; what is absent keeps its default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enable {
    #[serde(default, with = "span::optional")]
    window: Option<Duration>,
    storage: Option<Storage>,
    max_bytes: Option<u64>,
}

async fn enable_buffer(State(context): Ctx, id: PathId, request: Request) -> Result {
    let id = id_of(id, "device id")?;
    let Enable { window, storage, max_bytes } = json_body(&context, request).await?;
    let default = BufferSetting::default();
    let setting = BufferSetting {
        enabled: true,
        window: window.unwrap_or(default.window),
        storage: storage.unwrap_or(default.storage),
        max_bytes: max_bytes.unwrap_or(default.max_bytes),
    };
    set_buffer(&context, &id, setting).await
}

async fn disable_buffer(State(context): Ctx, id: PathId) -> Result {
    let id = id_of(id, "device id")?;
    let row = context.devices.get(&id).await?;
    set_buffer(&context, &id, BufferSetting { enabled: false, ..row.buffer.unwrap_or_default() }).await
}

async fn set_buffer(context: &Context, id: &Id, setting: BufferSetting) -> Result {
    let change = DeviceChange { buffer: Some(setting), ..DeviceChange::default() };
    context.devices.set(id, change).await?;
    context.buffers.reconcile(id).await?;
    Ok(Answer::ok(json!(context.buffers.status(id).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    device_id: Option<String>,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

async fn recordings(
    State(context): Ctx,
    query: std::result::Result<Query<Listing>, QueryRejection>,
) -> Result {
    let Query(Listing { device_id, offset, limit }) =
        query.map_err(|error| Answer::error(StatusCode::BAD_REQUEST, error.body_text()))?;
    carry_out(&context, StatusCode::OK, Command::List { device_id, offset, limit }).await
}

async fn start(State(context): Ctx, request: Request) -> Result {
    let start: Start = json_body(&context, request).await?;
    carry_out(&context, StatusCode::CREATED, Command::Start(start)).await
}

async fn purge_all(State(context): Ctx) -> Result {
    carry_out(&context, StatusCode::OK, Command::PurgeAll {}).await
}

/// Of a device, or all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopMany {
    device_id: Option<String>,
}

async fn stop_many(State(context): Ctx, request: Request) -> Result {
    let StopMany { device_id } = json_body(&context, request).await?;
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
    Ok(Answer::with(status, json!(response)))
}
