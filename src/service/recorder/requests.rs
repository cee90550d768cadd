//! What is asked of the controller, over NATS or HTTP, carried out: each request with its answer and the words of it.

use futures_util::future::join_all;
use weir_protocol::time;

use super::{End, RecordError, Recorder};
use crate::service::command::{LIST_MAX, Listed, Request, Response};
use crate::service::id::Id;
use crate::service::session::{RecordState, Session, State};

impl Recorder {
    /// Carries out a request of the controller; what goes wrong stands in the answer.
    pub async fn handle(&self, request: Request) -> Response {
        match self.carry_out(request).await {
            Ok(response) => response,
            Err(error) => Response::refused(error.to_string()),
        }
    }

    /// As [`handle`](Self::handle), with the error as it is.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub async fn carry_out(&self, request: Request) -> Result<Response, RecordError> {
        let session = |text: &str| Id::parse(text).map_err(RecordError::SessionId);
        let device = |text: &str| Id::parse(text).map_err(RecordError::DeviceId);
        Ok(match request {
            Request::Start(start) => {
                let (session, state) = self.start(&start).await?;
                let message = match unrecorded(&session) {
                    None => "recording started".to_owned(),
                    Some(devices) => format!("recording started; {devices}"),
                };
                Response {
                    session_id: Some(session.session_id.to_string()),
                    state: Some(state),
                    session: Some(session),
                    ..Response::done(message)
                }
            }
            Request::Stop { session_id: Some(id), device_id } => {
                let id = session(&id)?;
                if let Some(text) = device_id {
                    let device = device(&text)?;
                    let row = self.shared.sessions.sessions().cached(&id.key());
                    if row.is_some_and(|row| row.device_id.as_ref() != Some(&device)) {
                        return Ok(Response::refused(format!(
                            "session {id:?} does not record device {device:?}"
                        )));
                    }
                }
                let stopped = self.stop(&id, End::AfterPostRoll).await?;
                let message = match stopped {
                    None => "no active recording".to_owned(),
                    Some(State::Stopped) => "recording stopped".to_owned(),
                    Some(State::Failed) => "recording failed".to_owned(),
                    Some(State::Running | State::Stopping | State::Promoting) => self.ending(&id),
                };
                // One that had ended before says so; one that never was has no state.
                let state = stopped.or_else(|| self.shared.sessions.state_of(&id));
                Response { session_id: Some(id.to_string()), state, ..Response::done(message) }
            }
            Request::Stop { session_id: None, device_id: Some(text) } => {
                let device = device(&text)?;
                let stopped = self
                    .stop_where(End::AfterPostRoll, |row| row.device_id.as_ref() == Some(&device))
                    .await?;
                stopped_response(&stopped)
            }
            Request::Stop { session_id: None, device_id: None } => {
                Response::refused("stop needs a session_id or a device_id; stop-all ends every recording")
            }
            Request::StopAll {} => stopped_response(&self.stop_where(End::AfterPostRoll, |_| true).await?),
            Request::List { device_id, offset, limit } => {
                let device = device_id.as_deref().map(device).transpose()?;
                let all = self.list(device.as_ref());
                let total = all.len();
                let limit = limit.unwrap_or(LIST_MAX);
                let mut sessions: Vec<Listed> = all.into_iter().skip(offset).take(limit).collect();
                let live = join_all(sessions.iter().map(|listed| self.live(&listed.session, listed.state)));
                let live = live.await;
                for (listed, live) in sessions.iter_mut().zip(live) {
                    if let Some(live) = live? {
                        (listed.session.message_count, listed.session.last_message_at) = live;
                    }
                }
                Response {
                    total: Some(total),
                    sessions: Some(sessions),
                    ..Response::done(format!("{total} {}", plural(total)))
                }
            }
            Request::Show { session_id } => {
                let (session, state) = self.show(&session(&session_id)?).await?;
                Response {
                    session_id: Some(session.session_id.to_string()),
                    state: state.map(|state| state.state),
                    session: Some(session),
                    ..Response::done("session")
                }
            }
            Request::Status { session_id } => {
                let (session, state) = self.show(&session(&session_id)?).await?;
                let state = state.map(|state| RecordState {
                    message_count: session.message_count,
                    last_message_at: session.last_message_at,
                    reason: state.reason.or_else(|| unrecorded(&session)),
                    ..state
                });
                Response {
                    session_id: Some(session.session_id.to_string()),
                    state: state.as_ref().map(|state| state.state),
                    status: state,
                    ..Response::done("status")
                }
            }
            Request::Delete { session_id } => {
                let id = session(&session_id)?;
                let count = self.delete(&id).await?;
                Response {
                    session_id: Some(id.to_string()),
                    count: Some(count),
                    ..Response::done(format!("{count} {} deleted", plural(count)))
                }
            }
            Request::PurgeAll {} => {
                let count = self.purge_all().await?;
                Response {
                    count: Some(count),
                    ..Response::done(format!("{count} {} deleted", plural(count)))
                }
            }
        })
    }
}

impl Recorder {
    /// What is said of a session that has not ended yet.
    fn ending(&self, session: &Id) -> String {
        let stop_at = self.shared.sessions.states().cached(&session.key()).and_then(|state| state.stop_at);
        match stop_at.filter(|at| *at > self.shared.now()) {
            None => "recording is being stopped".to_owned(),
            Some(at) => format!(
                "recording goes on until {}, the end of its post-roll; another stop ends it at once",
                time::format_rfc3339(at)
            ),
        }
    }
}

/// The devices that a recording of all devices does not record.
fn unrecorded(session: &Session) -> Option<String> {
    let devices: Vec<String> =
        session.unrecorded.iter().map(|each| format!("{:?} ({})", each.device_id, each.reason)).collect();
    (!devices.is_empty()).then(|| format!("not recorded: {}", devices.join(", ")))
}

fn stopped_response(stopped: &[Id]) -> Response {
    let count = stopped.len();
    let message = match count {
        0 => "no active recording".to_owned(),
        1 => "1 recording stopped".to_owned(),
        _ => format!("{count} recordings stopped"),
    };
    let only = if let [only] = stopped { Some(only.to_string()) } else { None };
    Response { session_id: only, count: Some(count), ..Response::done(message) }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "session" } else { "sessions" }
}
