//! The start of a recording.
//!
//! The description is written before anything is made, with the sequence at which the recording begins: pre-roll ends and
//! live begins at a number, so no clock decides on which side a message falls. From the description a start that was
//! interrupted is finished ([`finish`]); one that failed and was answered so is taken back ([`undo`]).

use std::time::Duration;

use super::{RecordError, Shared};
use crate::client::jetstream::{JetStreamError, MessageSelector, Mirror, Storage, StreamConfig, StreamInfo};
use crate::service::buffer::Buffers;
use crate::service::command::Start;
use crate::service::id::{Id, IdError};
use crate::service::names::{buffer_stream, recording_stream};
use crate::service::session::{RecordState, Session, State, Unrecorded};
use crate::service::span;

/// Metadata of a recording's stream: its session.
const SESSION: &str = "weir.session";
const RETENTION_MIN: Duration = Duration::from_millis(100);
/// Devices that a recording of all devices names as not recorded; more are only in the log.
const UNRECORDED_MAX: usize = 1000;
/// Longest post-roll.
pub(super) const POST_ROLL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes that a buffer may keep past its window for a recording that is behind.
const HOLD_BYTES: u64 = 64 << 20;

pub(super) async fn start(shared: &Shared, start: &Start) -> Result<(Session, State), RecordError> {
    let device = device_of(shared, start)?;
    let session_id = match &start.session_id {
        Some(text) => Id::parse(text).map_err(RecordError::SessionId)?,
        None => uuid(shared),
    };
    let retention = start.retention.filter(|retention| !retention.is_zero());
    if let Some(short) = retention.filter(|retention| *retention < RETENTION_MIN) {
        return Err(RecordError::Retention(short));
    }
    if let Some(long) = start.post_roll.filter(|post_roll| *post_roll > POST_ROLL_MAX) {
        return Err(RecordError::PostRoll(long));
    }
    let _one_at_a_time = shared.starting.lock().await;
    check_free(shared, &session_id).await?;
    let session = Session {
        session_id,
        device_id: device.clone(),
        parent: None,
        subject: shared.names.all_devices_filter(),
        stream: String::new(),
        start: 0,
        end: None,
        pre_roll: start.pre_roll.unwrap_or_default(),
        post_roll: start.post_roll.unwrap_or_default(),
        retention,
        note: start.note.clone().unwrap_or_default(),
        exclusive: start.exclusive,
        start_sequence: 0,
        first_live_sequence: 0,
        end_sequence: None,
        message_count: 0,
        last_message_at: None,
        controller: shared.instance.clone(),
        gaps: Vec::new(),
        unrecorded: Vec::new(),
        other: serde_json::Map::new(),
    };
    match device {
        Some(device) => one(shared, session, &device).await,
        None => all(shared, session).await,
    }
}

/// The device that a request means; `None` for all.
fn device_of(shared: &Shared, start: &Start) -> Result<Option<Id>, RecordError> {
    let device = start.device_id.as_deref().map(Id::parse).transpose().map_err(RecordError::DeviceId)?;
    let Some(subject) = &start.subject else { return Ok(device) };
    let wrong = || RecordError::Subject(subject.clone(), shared.names.monitor.clone());
    let named = shared.names.device_of(subject).ok_or_else(wrong)?;
    if !shared.names.device_filters(&named).contains(subject) {
        return Err(wrong());
    }
    match device {
        Some(device) if device != named => {
            Err(RecordError::DeviceAndSubject(device.to_string(), subject.clone()))
        }
        _ => Ok(Some(named)),
    }
}

async fn check_free(shared: &Shared, session: &Id) -> Result<(), RecordError> {
    if let Some((row, _)) = shared.sessions.sessions().get(&session.key()).await? {
        let state = shared.sessions.states().get(&row.session_id.key()).await?.map(|(state, _)| state.state);
        return Err(match state {
            None => RecordError::AlreadyRunning(row.session_id.to_string()),
            Some(state) if state.is_active() => RecordError::AlreadyRunning(row.session_id.to_string()),
            Some(state) => RecordError::Exists(row.session_id.to_string(), state.as_str()),
        });
    }
    let stream = recording_stream(session);
    match shared.jetstream.find_stream(&stream).await? {
        Some(_) => Err(RecordError::StreamExists(stream)),
        None => Ok(()),
    }
}

/// Begins the recording of one device.
async fn one(shared: &Shared, session: Session, device: &Id) -> Result<(Session, State), RecordError> {
    shared.devices.check_case(device).await?;
    check_exclusive(shared, device, session.exclusive)?;
    if !session.pre_roll.is_zero() {
        check_pre_roll(shared, device, session.pre_roll).await?;
    }
    shared.buffers.check_free(device).await?;
    let (_, new) = shared.devices.ensure(device).await?;
    let hold = shared.buffers.hold(device);
    let result = one_of_known(shared, session, device).await;
    drop(hold);
    // Of a session that another process is just starting, the buffer may be that one's.
    if result.as_ref().is_err_and(|error| !matches!(error, RecordError::AlreadyRunning(_))) {
        // What was made for this recording alone goes with it.
        if new && let Err(error) = shared.devices.delete(device).await {
            tracing::warn!(%device, %error, "the row of a device that could not be recorded is left");
        }
        if let Err(error) = shared.buffers.reconcile(device).await {
            tracing::warn!(%device, %error, "the buffer of a device that could not be recorded may be left");
        }
    }
    result
}

async fn one_of_known(
    shared: &Shared,
    session: Session,
    device: &Id,
) -> Result<(Session, State), RecordError> {
    let buffer = shared.buffers.for_recording(device).await?;
    let session = described(shared, session, device, &buffer, None).await?;
    let state = begin(shared, &session).await?;
    if shared.buffers.find(device).await?.is_none() {
        // Another process took it away before it could know of this recording.
        shared.buffers.for_recording(device).await?;
    }
    Ok((session, state))
}

fn check_exclusive(shared: &Shared, device: &Id, exclusive: bool) -> Result<(), RecordError> {
    let active = shared.sessions.active_of(device);
    let names = |session: &Session| (device.to_string(), session.session_id.to_string());
    if let Some(holder) = active.iter().find(|session| session.exclusive) {
        let (device, session) = names(holder);
        return Err(RecordError::Exclusive { device, session });
    }
    match active.first() {
        Some(other) if exclusive => {
            let (device, session) = names(other);
            Err(RecordError::Busy { device, session })
        }
        _ => Ok(()),
    }
}

async fn check_pre_roll(shared: &Shared, device: &Id, pre_roll: Duration) -> Result<(), RecordError> {
    let window = shared.buffers.find(device).await?.as_ref().and_then(Buffers::window);
    let device = device.to_string();
    match window {
        None => Err(RecordError::NoBuffer { device, pre_roll }),
        Some(window) if pre_roll > window => Err(RecordError::PreRoll { device, pre_roll, window }),
        Some(_) => Ok(()),
    }
}

/// Fills in what the buffer decides: where the recording begins. `since` moves its start to an earlier moment.
async fn described(
    shared: &Shared,
    session: Session,
    device: &Id,
    buffer: &StreamInfo,
    since: Option<i64>,
) -> Result<Session, RecordError> {
    // The answer's state and clock belong together: what it does not count comes later.
    let after_all = buffer.state.last_seq.saturating_add(1);
    let start = since.or(buffer.ts).unwrap_or_else(|| shared.now());
    let first_live_sequence = match since {
        Some(since) => first_since(shared, &buffer.config.name, since).await?.unwrap_or(after_all),
        None => after_all,
    };
    let start_sequence = if session.pre_roll.is_zero() {
        first_live_sequence
    } else {
        let from = start.saturating_sub(span::nanos(session.pre_roll));
        let found = first_since(shared, &buffer.config.name, from).await?;
        found.unwrap_or(first_live_sequence).min(first_live_sequence)
    };
    Ok(Session {
        subject: shared.names.device_subject(device),
        stream: recording_stream(&session.session_id),
        start,
        start_sequence,
        first_live_sequence,
        ..session
    })
}

/// The first sequence of a buffer at or after a time.
async fn first_since(shared: &Shared, stream: &str, time: i64) -> Result<Option<u64>, JetStreamError> {
    let found = shared.jetstream.get_message(stream, &MessageSelector::since(time)).await?;
    Ok(found.map(|message| message.sequence))
}

/// Writes the description and makes what it describes.
async fn begin(shared: &Shared, session: &Session) -> Result<State, RecordError> {
    let key = session.session_id.key();
    shared.unfinished_lock().insert(session.session_id.clone());
    match shared.sessions.sessions().create(&key, session).await {
        Ok(_) => {}
        Err(error) if error.is_conflict() => {
            shared.unfinished_lock().remove(&session.session_id);
            return Err(RecordError::AlreadyRunning(session.session_id.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    let finished = finish(shared, session).await;
    if finished.is_ok() {
        shared.unfinished_lock().remove(&session.session_id);
    } else if let Err(error) = undo(shared, session).await {
        tracing::warn!(session = %session.session_id, %error, "a start that failed is undone later");
    }
    finished
}

/// Takes back what a start made, its description last: while that is there, the next look at the sessions tries again.
pub(super) async fn undo(shared: &Shared, session: &Session) -> Result<(), RecordError> {
    let key = session.session_id.key();
    if has_stream(shared, session).await? {
        shared.jetstream.delete_stream(&session.stream).await?;
    }
    if shared.sessions.states().get(&key).await?.is_some() {
        shared.sessions.states().delete(&key).await?;
    }
    shared.sessions.sessions().delete(&key).await?;
    shared.unfinished_lock().remove(&session.session_id);
    Ok(())
}

/// Whether the stream of a session is there, and its own.
pub(super) async fn has_stream(shared: &Shared, session: &Session) -> Result<bool, JetStreamError> {
    if session.stream.is_empty() {
        return Ok(false);
    }
    let info = shared.jetstream.find_stream(&session.stream).await?;
    let owner = info.as_ref().and_then(|info| info.config.metadata.get(SESSION));
    Ok(owner.is_some_and(|owner| owner == session.session_id.as_str()))
}

/// Makes the stream of a described session, and says that it runs. Can be repeated.
pub(super) async fn finish(shared: &Shared, session: &Session) -> Result<State, RecordError> {
    if let Some(device) = &session.device_id {
        shared.jetstream.create_stream(&mirror(session, device)).await?;
    }
    write_state(shared, session, State::Running).await?;
    Ok(State::Running)
}

/// Writes the state of a session that has none, with what its description knows.
pub(super) async fn write_state(shared: &Shared, session: &Session, state: State) -> Result<(), RecordError> {
    let row = RecordState {
        session_id: session.session_id.clone(),
        device_id: session.device_id.clone(),
        state,
        message_count: session.message_count,
        started_at: session.start,
        last_message_at: session.last_message_at,
        updated_at: shared.now(),
        stop_asked_for: None,
        stop_at: session.end,
        stop_sequence: session.end_sequence,
        controller: shared.instance.clone(),
        reason: None,
        other: serde_json::Map::new(),
    };
    match shared.sessions.states().create(&session.session_id.key(), &row).await {
        Ok(_) => Ok(()),
        // Another process has written it.
        Err(error) if error.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn mirror(session: &Session, device: &Id) -> StreamConfig {
    let origin = Mirror {
        name: buffer_stream(device),
        opt_start_seq: Some(session.start_sequence.max(1)),
        ..Mirror::default()
    };
    let mut config = StreamConfig {
        description: format!("Recording {} of device {device}", session.session_id),
        storage: Storage::File,
        max_age: session.retention.map_or(0, span::nanos),
        allow_direct: true,
        mirror: Some(origin),
        ..StreamConfig::named(&session.stream)
    };
    for (key, value) in [
        ("weir.role", "recording".to_owned()),
        (SESSION, session.session_id.to_string()),
        ("weir.device", device.to_string()),
        ("weir.hold", HOLD_BYTES.to_string()),
    ] {
        config.metadata.insert(key.to_owned(), value);
    }
    config
}

/// Begins a recording of all devices: devices that were seen within the pre-roll are opened now, the others when they are seen.
async fn all(shared: &Shared, session: Session) -> Result<(Session, State), RecordError> {
    let bucket = format!("KV_{}", shared.names.sessions);
    let start = shared.jetstream.stream_info(&bucket).await?.ts.unwrap_or_else(|| shared.now());
    let session = Session { start, ..session };
    let state = begin(shared, &session).await?;
    for device in shared.devices.list() {
        if let Err(error) = open_quiet(shared, &session, &device.device_id).await {
            note_unrecorded(shared, &session, &device.device_id, &error).await?;
        }
    }
    let noted = shared.sessions.sessions().cached(&session.session_id.key());
    Ok((noted.unwrap_or(session), state))
}

/// Writes down, once, that a recording of all devices cannot record one of them.
pub(super) async fn note_unrecorded(
    shared: &Shared,
    parent: &Session,
    device: &Id,
    error: &RecordError,
) -> Result<(), RecordError> {
    let is_noted = |row: &Session| row.unrecorded.iter().any(|each| each.device_id == *device);
    let key = parent.session_id.key();
    if shared.sessions.sessions().cached(&key).is_some_and(|row| is_noted(&row)) {
        return Ok(());
    }
    tracing::warn!(%device, %error, "the device is not recorded with all others");
    let change = |row: &mut Session| {
        let room = !is_noted(row) && row.unrecorded.len() < UNRECORDED_MAX;
        if room {
            row.unrecorded.push(Unrecorded { device_id: device.clone(), reason: error.to_string() });
        }
        room
    };
    shared.sessions.sessions().modify(&key, change).await?;
    Ok(())
}

/// The device is recorded after all.
async fn forget_unrecorded(shared: &Shared, parent: &Session, device: &Id) -> Result<(), RecordError> {
    let key = parent.session_id.key();
    let is_noted = |row: &Session| row.unrecorded.iter().any(|each| each.device_id == *device);
    if shared.sessions.sessions().cached(&key).is_some_and(|row| is_noted(&row)) {
        let change = |row: &mut Session| {
            row.unrecorded.retain(|each| each.device_id != *device);
            true
        };
        shared.sessions.sessions().modify(&key, change).await?;
    }
    Ok(())
}

/// Gives a known device a buffer from now on, and a recording if it was seen within the pre-roll.
async fn open_quiet(shared: &Shared, parent: &Session, device: &Id) -> Result<(), RecordError> {
    let buffer = shared.buffers.for_recording(device).await?;
    let from = parent.start.saturating_sub(span::nanos(parent.pre_roll));
    if !parent.pre_roll.is_zero() && first_since(shared, &buffer.config.name, from).await?.is_some() {
        child_of(shared, parent, device).await?;
    }
    Ok(())
}

/// Opens the recording of one device that belongs to a recording of all; nothing happens when it is there already.
pub(super) async fn child(shared: &Shared, parent: &Session, device: &Id) -> Result<(), RecordError> {
    let _one_at_a_time = shared.starting.lock().await;
    child_of(shared, parent, device).await
}

async fn child_of(shared: &Shared, parent: &Session, device: &Id) -> Result<(), RecordError> {
    let session_id = child_id(&parent.session_id, device).map_err(RecordError::SessionId)?;
    if shared.sessions.sessions().cached(&session_id.key()).is_some() {
        return Ok(());
    }
    check_exclusive(shared, device, false)?;
    let buffer = shared.buffers.for_recording(device).await?;
    // A device without a buffer of its own, or with a short one, has less to roll back to.
    let pre_roll = parent.pre_roll.min(Buffers::window(&buffer).unwrap_or_default());
    let session = Session {
        session_id,
        device_id: Some(device.clone()),
        parent: Some(parent.session_id.clone()),
        unrecorded: Vec::new(),
        pre_roll,
        ..parent.clone()
    };
    let session = described(shared, session, device, &buffer, Some(parent.start)).await?;
    match begin(shared, &session).await {
        Ok(_) | Err(RecordError::AlreadyRunning(_)) => forget_unrecorded(shared, parent, device).await,
        Err(error) => Err(error),
    }
}

/// `<session>-<device>`.
pub(super) fn child_id(parent: &Id, device: &Id) -> Result<Id, IdError> {
    Id::parse(&format!("{parent}-{device}"))
}

/// A random UUID, version 4.
pub(super) fn uuid(shared: &Shared) -> Id {
    let high = (shared.random.next() & 0xffff_ffff_ffff_0fff) | 0x4000;
    let low = (shared.random.next() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    let text = format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    );
    #[expect(clippy::expect_used, reason = "36 hexadecimal digits and dashes are an id")]
    Id::parse(&text).expect("a UUID is an id")
}
