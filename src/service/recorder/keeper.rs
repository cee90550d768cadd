//! Looking after recordings: counts in their rows, what a crash left half-done, and devices that a recording of all devices has
//! not met yet.
//!
//! Each service process looks after the sessions it started. It answers on a subject of its own while it lives; a session
//! whose process does not answer is taken over by the next one that notices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{End, RecordError, Recorder, Shared, start, stop};
use crate::client::RequestError;
use crate::client::jetstream::JetStreamError;
use crate::service::id::Id;
use crate::service::session::{Session, State};

/// A process that does not answer in this time is not taken for dead: it may be busy.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

impl Recorder {
    /// Answers other processes that ask whether this one lives, until the task is ended.
    pub(in crate::service) async fn answer_alive(self) {
        let client = self.shared.jetstream.client().clone();
        let mut questions = match client.subscribe(&self.shared.alive_subject(&self.shared.instance)) {
            Ok(questions) => questions,
            Err(error) => {
                tracing::warn!(%error, "other service processes cannot ask whether this one lives");
                return;
            }
        };
        while let Some(question) = questions.next().await {
            if let Some(reply) = question.reply
                && let Err(error) = client.publish(&reply, None, Bytes::new()).await
            {
                tracing::debug!(%error, "no answer to another service process");
            }
        }
    }

    /// Looks after all sessions every `interval`, until the task is ended.
    pub(in crate::service) async fn keep(self, interval: Duration) {
        let mut told = BTreeMap::new();
        loop {
            if let Err(error) = keep_once(&self.shared, &mut told).await {
                tracing::warn!(%error, "recordings were not looked after");
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// A device has sent something: recordings of all devices open one for it. Quick when there is nothing to do.
    ///
    /// # Errors
    /// As [`Recorder::start`].
    pub async fn seen(&self, device: &Id) -> Result<(), RecordError> {
        for parent in self.shared.parents() {
            let child = start::child_id(&parent.session_id, device).map_err(RecordError::SessionId)?;
            if self.shared.sessions.sessions().cached(&child.key()).is_none() {
                match start::child(&self.shared, &parent, device).await {
                    Ok(()) => {}
                    Err(error @ (RecordError::JetStream(_) | RecordError::Table(_))) => return Err(error),
                    Err(error) => start::note_unrecorded(&self.shared, &parent, device, &error).await?,
                }
            }
        }
        Ok(())
    }

    /// Whether a recording of all devices is running.
    #[must_use]
    pub fn records_all(&self) -> bool {
        !self.shared.parents().is_empty()
    }

    /// Ends the sessions that this process looks after, without their post-rolls; returns how many.
    ///
    /// # Errors
    /// The server's error.
    pub async fn shutdown(&self, wait: Duration) -> Result<usize, RecordError> {
        let shared = &self.shared;
        let mine = |session: &Session| {
            let state = shared.sessions.states().cached(&session.session_id.key());
            state.is_some_and(|state| state.controller == shared.instance)
        };
        let ended = stop::stop_where(shared, End::Now, mine, wait).await?.len();
        // Who ends a session tidies up behind the state that was waited for.
        let tidied = async {
            while !shared.ending_lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // What is not tidied in time is by the next process.
        drop(tokio::time::timeout(wait, tidied).await);
        Ok(ended)
    }
}

/// One look at all sessions. One that cannot be looked after holds up no other; what the log was `told` of it is not told again
/// until it changes. A server that does not answer ends the pass.
async fn keep_once(shared: &Arc<Shared>, told: &mut BTreeMap<Id, String>) -> Result<(), RecordError> {
    let mut alive: BTreeMap<String, bool> = BTreeMap::new();
    let mut failing = BTreeMap::new();
    for session in shared.sessions.sessions().all() {
        let Err(error) = keep_one(shared, &session, &mut alive).await else { continue };
        if error.of_server().is_some_and(JetStreamError::is_unavailable) {
            return Err(error);
        }
        let id = session.session_id;
        let reason = error.to_string();
        if told.get(&id) != Some(&reason) {
            tracing::warn!(session = %id, %error, "the recording cannot be looked after");
        }
        failing.insert(id, reason);
    }
    *told = failing;
    Ok(())
}

async fn keep_one(
    shared: &Arc<Shared>,
    session: &Session,
    alive: &mut BTreeMap<String, bool>,
) -> Result<(), RecordError> {
    let key = session.session_id.key();
    let Some(state) = shared.sessions.states().cached(&key) else {
        return resume_start(shared, session).await;
    };
    // Also where whoever waited for the start has gone before its end.
    shared.unfinished_lock().remove(&session.session_id);
    if !state.state.is_active() {
        return Ok(());
    }
    if state.controller != shared.instance {
        let known = alive.get(&state.controller).copied();
        let lives = match known {
            Some(lives) => lives,
            None => is_alive(shared, &state.controller).await,
        };
        alive.insert(state.controller, lives);
        if lives {
            return Ok(());
        }
        tracing::info!(session = %session.session_id, state = state.state.as_str(), "taking over a recording");
        shared
            .states_modify(&key, |row| {
                row.controller.clone_from(&shared.instance);
                true
            })
            .await?;
    }
    match state.state {
        State::Running if has_ended_parent(shared, session) => {
            stop::stop(shared, &session.session_id, End::Now, Duration::ZERO).await?;
        }
        State::Running => progress(shared, session).await?,
        State::Stopping | State::Promoting => {
            if !shared.ending_lock().contains(&session.session_id) {
                drop(stop::drive(shared, &session.session_id));
            }
        }
        State::Stopped | State::Failed => {}
    }
    Ok(())
}

/// Whether it was opened just as the recording of all devices to which it belongs ended, which did not see it.
fn has_ended_parent(shared: &Shared, session: &Session) -> bool {
    let parent = session.parent.as_ref().and_then(|parent| shared.sessions.state_of(parent));
    parent.is_some_and(|parent| !parent.is_active())
}

/// A session without a state: finishes a start that was interrupted, or whatever else has left it so.
async fn resume_start(shared: &Arc<Shared>, session: &Session) -> Result<(), RecordError> {
    let _no_start_under_way = shared.starting.lock().await;
    let key = session.session_id.key();
    // The lock was waited for: look again.
    let Some((session, _)) = shared.sessions.sessions().get(&key).await? else { return Ok(()) };
    if shared.sessions.states().get(&key).await?.is_some() {
        return Ok(());
    }
    if session.end.is_some() {
        return resume_ended(shared, &session).await;
    }
    let own = session.controller == shared.instance;
    if own && shared.unfinished_lock().contains(&session.session_id) {
        // None is under way here, so it failed, and whoever asked was told so.
        return start::undo(shared, &session).await;
    }
    if !own && is_alive(shared, &session.controller).await {
        return Ok(());
    }
    tracing::info!(session = %session.session_id, "finishing the start of a recording");
    match &session.device_id {
        Some(device) if !start::has_stream(shared, &session).await? => {
            if let Err(error) = begin_later(shared, &session, device).await {
                if error.of_server().is_some_and(JetStreamError::is_temporary) {
                    return Err(error);
                }
                // Nobody was told of it and nothing is recorded yet.
                tracing::warn!(session = %session.session_id, %error, "a start that cannot be finished is taken back");
                start::undo(shared, &session).await?;
            }
        }
        _ => start::write_state(shared, &session, State::Running).await?,
    }
    Ok(())
}

/// A session that has ended and has no state is being deleted, or its state was lost: a deletion begins with what was recorded.
async fn resume_ended(shared: &Shared, session: &Session) -> Result<(), RecordError> {
    let mut is_there = start::has_stream(shared, session).await?;
    for child in shared.sessions.sessions().all() {
        if !is_there && child.is_child_of(&session.session_id) {
            is_there = shared.sessions.sessions().get(&child.session_id.key()).await?.is_some();
        }
    }
    if is_there {
        tracing::warn!(session = %session.session_id, "the state of a recording was lost and is written again");
        return start::write_state(shared, session, State::Stopped).await;
    }
    tracing::info!(session = %session.session_id, "finishing the deletion of a recording");
    start::undo(shared, session).await
}

/// A start that nobody was told of begins with what the buffer still has: one in memory may have restarted meanwhile.
async fn begin_later(shared: &Shared, session: &Session, device: &Id) -> Result<(), RecordError> {
    let buffer = shared.buffers.for_recording(device).await?;
    let first = buffer.state.first_seq;
    let change = |row: &mut Session| {
        let later = row.start_sequence < first;
        row.start_sequence = row.start_sequence.max(first);
        row.first_live_sequence = row.first_live_sequence.max(first);
        later
    };
    if let Some(session) = shared.sessions.sessions().modify(&session.session_id.key(), change).await? {
        start::finish(shared, &session).await?;
    }
    Ok(())
}

/// Writes how far a running session is, when that has changed.
async fn progress(shared: &Arc<Shared>, session: &Session) -> Result<(), RecordError> {
    let Some(device) = &session.device_id else {
        // The parent of a recording of all devices: its children are counted.
        let children = shared.sessions.states().all().into_iter().filter(|row| {
            let child = shared.sessions.sessions().cached(&row.session_id.key());
            child.is_some_and(|child| child.is_child_of(&session.session_id))
        });
        let (count, last) = children.fold((0, None), |(count, last): (u64, _), row| {
            (count.saturating_add(row.message_count), last.max(row.last_message_at))
        });
        return write_progress(shared, session, count, last).await;
    };
    match shared.jetstream.find_stream(&session.stream).await? {
        None => stop::fail(shared, session, "its stream was deleted").await,
        Some(info) => {
            if shared.buffers.find(device).await?.is_none() {
                tracing::warn!(%device, "the buffer of a recorded device is gone and is made again");
                shared.buffers.reconcile(device).await?;
            }
            let last = info.state.last_ts.filter(|_| info.state.messages > 0);
            write_progress(shared, session, info.state.messages, last).await
        }
    }
}

async fn write_progress(
    shared: &Shared,
    session: &Session,
    count: u64,
    last: Option<i64>,
) -> Result<(), RecordError> {
    let key = session.session_id.key();
    let known = shared.sessions.states().cached(&key);
    if known.is_none_or(|row| row.message_count == count && row.last_message_at == last) {
        return Ok(());
    }
    let mut running = false;
    shared
        .states_modify(&key, |row| {
            running = row.state == State::Running;
            if running {
                row.message_count = count;
                row.last_message_at = last;
            }
            running
        })
        .await?;
    if running {
        shared
            .sessions
            .sessions()
            .modify(&key, |row| {
                // Its end is written by whoever ends it.
                if row.end.is_none() {
                    row.message_count = count;
                    row.last_message_at = last;
                }
                row.end.is_none()
            })
            .await?;
    }
    Ok(())
}

pub(super) async fn is_alive(shared: &Shared, instance: &str) -> bool {
    if instance.is_empty() {
        return false;
    }
    let subject = shared.alive_subject(instance);
    let answer = shared.jetstream.client().request(&subject, None, Bytes::new(), ALIVE_TIMEOUT).await;
    !matches!(answer, Err(RequestError::NoResponders { .. } | RequestError::Publish(_)))
}

impl Shared {
    pub(super) fn unfinished_lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Id>> {
        self.unfinished.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn alive_subject(&self, instance: &str) -> String {
        format!("{}.instance.{instance}", self.names.command)
    }

    /// Recordings of all devices that run.
    fn parents(&self) -> Vec<Session> {
        let states = self.sessions.states().all();
        states
            .into_iter()
            .filter(|row| row.device_id.is_none() && row.state == State::Running)
            .filter_map(|row| self.sessions.sessions().cached(&row.session_id.key()))
            .collect()
    }
}
