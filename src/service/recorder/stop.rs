//! The end of a recording, in steps that can each be repeated after a crash:
//!
//! 1. `running` -> `stopping`, with the moment that was asked for; then the last moment that belongs to it is written down: the
//!    one that was asked for, or now if that is later. In this order, so that whatever was answered as recorded came before it.
//! 2. Once that moment has passed, the last sequence S of the buffer up to it is written down.
//! 3. The mirror passes S (or can get no more): `promoting`.
//! 4. The stream is updated without its mirror, what lies beyond S is deleted, the holes are counted.
//! 5. The description gets its end, the state becomes `stopped`.
//!
//! Every step reads where things stand from the buckets and the streams, so it does not matter who did the one before.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

use super::{RecordError, Shared, gaps};
use crate::client::jetstream::{JetStreamError, MessageSelector, Purge, StreamInfo};
use crate::service::id::Id;
use crate::service::names::buffer_stream;
use crate::service::session::{RecordState, Session, State};
use crate::service::span;
use crate::sys::task;

/// Longest the mirror is waited for.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);
/// A mirror that hears from its origin and lacks nothing for so long has all there is.
const IDLE: Duration = Duration::from_secs(2);
const POLL_MIN: Duration = Duration::from_millis(2);
const POLL_MAX: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_millis(500);
const DELETES_AT_ONCE: usize = 64;
/// Sequences that are deleted from a message on before the next message is looked for.
const DELETES: u64 = 1024;

/// When a session is to end.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// Without its post-roll.
    Now,
    /// With its post-roll; asked again while that is under way, now.
    AfterPostRoll,
    /// At this moment, or now if that is later; what ends earlier stays so.
    At(i64),
}

impl End {
    /// The moment, when the clock says `now`.
    fn moment(self, session: &Session, now: i64) -> i64 {
        match self {
            Self::Now => now,
            Self::AfterPostRoll => now.saturating_add(span::nanos(session.post_roll)),
            Self::At(moment) => moment.max(now),
        }
    }

    /// What it means for a session that is stopping already.
    fn again(self) -> Self {
        match self {
            Self::Now | Self::AfterPostRoll => Self::Now,
            Self::At(moment) => Self::At(moment),
        }
    }
}

/// Asks a session to end and waits up to `wait` for it, unless it goes on for a while.
pub(super) async fn stop(
    shared: &Arc<Shared>,
    session: &Id,
    end: End,
    wait: Duration,
) -> Result<Option<State>, RecordError> {
    let Some((row, _)) = shared.sessions.sessions().get(&session.key()).await? else { return Ok(None) };
    if row.session_id != *session {
        return Ok(None);
    }
    let Some(goes_on) = begin(shared, &row, end).await? else { return Ok(None) };
    let ending = drive(shared, &row.session_id);
    // What still comes, comes after the answer.
    let wait = if goes_on { Duration::ZERO } else { wait };
    // Dropping the handle when the time is up leaves the end under way.
    drop(tokio::time::timeout(wait, ending).await);
    Ok(shared.sessions.states().get(&session.key()).await?.map(|(state, _)| state.state))
}

/// Asks all active sessions that `which` names to end.
pub(super) async fn stop_where(
    shared: &Arc<Shared>,
    end: End,
    which: impl Fn(&Session) -> bool,
    wait: Duration,
) -> Result<Vec<Id>, RecordError> {
    let active: Vec<Id> = shared
        .sessions
        .sessions()
        .all()
        .into_iter()
        .filter(|session| which(session))
        .filter(|session| shared.sessions.state_of(&session.session_id).is_some_and(State::is_active))
        .map(|session| session.session_id)
        .collect();
    let results = join_all(active.iter().map(|session| stop(shared, session, end, wait))).await;
    let mut stopped = Vec::new();
    for (session, result) in active.into_iter().zip(results) {
        if result?.is_some() {
            stopped.push(session);
        }
    }
    Ok(stopped)
}

/// Step 1. Whether the session goes on for a while; `None` when it is not active.
async fn begin(shared: &Shared, session: &Session, end: End) -> Result<Option<bool>, RecordError> {
    let clock = server_time(shared, session).await?;
    let (mut active, mut asked_for) = (false, end.moment(session, clock));
    shared
        .states_modify(&session.session_id.key(), |state| {
            active = state.state.is_active();
            let runs = state.state == State::Running;
            let again = end.again().moment(session, clock);
            let is_later = state.stop_at.or(state.stop_asked_for) > Some(again);
            let cut = state.state == State::Stopping && state.stop_sequence.is_none() && is_later;
            if cut {
                asked_for = again;
            }
            if runs || cut {
                state.state = State::Stopping;
                (state.stop_asked_for, state.stop_at) = (Some(asked_for), None);
            }
            runs || cut
        })
        .await?;
    if !active {
        return Ok(None);
    }
    set_stop_at(shared, session).await?;
    Ok(Some(asked_for > clock))
}

/// Writes down when a session that is stopping ends, unless that stands there.
async fn set_stop_at(shared: &Shared, session: &Session) -> Result<(), RecordError> {
    let states = shared.sessions.states();
    let key = session.session_id.key();
    loop {
        let Some((mut state, revision)) = states.get(&key).await? else { return Ok(()) };
        if state.state != State::Stopping || state.stop_at.is_some() {
            return Ok(());
        }
        // The clock is read behind this very row: what was answered as recorded was answered before it was written.
        let now = server_time(shared, session).await?;
        state.stop_at = state.stop_asked_for.take().max(Some(now));
        state.updated_at = shared.now();
        match states.update(&key, &state, revision).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The clock of the server that stamps the session's messages.
async fn server_time(shared: &Shared, session: &Session) -> Result<i64, RecordError> {
    let stream = match &session.device_id {
        Some(device) => buffer_stream(device),
        None => format!("KV_{}", shared.names.sessions),
    };
    let info = shared.jetstream.find_stream(&stream).await?;
    Ok(info.and_then(|info| info.ts).unwrap_or_else(|| shared.now()))
}

/// Carries an end through to `stopped`, in a task of its own; once per session and process at a time.
pub(super) fn drive(shared: &Arc<Shared>, session: &Id) -> tokio::task::JoinHandle<()> {
    let (shared, session) = (shared.clone(), session.clone());
    task::spawn(async move {
        let first = shared.ending_lock().insert(session.clone());
        if !first {
            shared.wait_inactive(&session).await;
            return;
        }
        let mut told = None;
        while let Err(error) = end(&shared, &session).await {
            if told.as_ref() != Some(&error) {
                tracing::warn!(%session, %error, "a recording is not stopped yet; trying again");
            }
            told = Some(error);
            tokio::time::sleep(RETRY).await;
        }
        shared.ending_lock().remove(&session);
    })
}

/// Steps 2 to 5.
async fn end(shared: &Arc<Shared>, id: &Id) -> Result<(), RecordError> {
    let key = id.key();
    loop {
        let Some((session, _)) = shared.sessions.sessions().get(&key).await? else { return Ok(()) };
        let Some((state, _)) = shared.sessions.states().get(&key).await? else { return Ok(()) };
        match (&session.device_id, state.state) {
            (_, State::Running | State::Stopped | State::Failed) => return Ok(()),
            (_, State::Stopping) if state.stop_at.is_none() => set_stop_at(shared, &session).await?,
            (None, State::Stopping | State::Promoting) => end_parent(shared, &session, &state).await?,
            (Some(device), State::Stopping) => {
                let Some(last) = state.stop_sequence else {
                    if let Some(last) = last_sequence(shared, device, &session, &state).await? {
                        shared
                            .states_modify(&key, |row| {
                                let due = row.state == State::Stopping && row.stop_at == state.stop_at;
                                due && row.stop_sequence.replace(last).is_none()
                            })
                            .await?;
                    }
                    continue;
                };
                if !catch_up(shared, device, &session, last).await? {
                    fail(shared, &session, "its stream was deleted").await?;
                    continue;
                }
                shared
                    .states_modify(&key, |state| {
                        let due = state.state == State::Stopping;
                        if due {
                            state.state = State::Promoting;
                        }
                        due
                    })
                    .await?;
            }
            (Some(_), State::Promoting) => promote(shared, &session, &state).await?,
        }
    }
}

/// Step 2: S, once the last moment has passed. `None` when that was changed meanwhile.
async fn last_sequence(
    shared: &Shared,
    device: &Id,
    session: &Session,
    state: &RecordState,
) -> Result<Option<u64>, RecordError> {
    let Some(stop_at) = state.stop_at else { return Ok(None) };
    loop {
        let Some(info) = shared.jetstream.find_stream(&buffer_stream(device)).await? else {
            // Nothing will come any more; what the mirror has is all.
            let copy = shared.jetstream.find_stream(&session.stream).await?;
            let last = copy.map_or(0, |info| info.state.last_seq);
            return last_before(shared, &session.stream, stop_at, last).await.map(Some);
        };
        let clock = info.ts.unwrap_or_else(|| shared.now());
        if clock >= stop_at {
            // The state was taken before these lookups, so a message that they do not find came later. A buffer in memory may
            // have restarted since the stop was asked for: what came in between is in the mirror alone.
            let last = last_before(shared, &info.config.name, stop_at, info.state.last_seq).await?;
            return last_before(shared, &session.stream, stop_at, last).await.map(Some);
        }
        // In short steps: the moment may be brought forward meanwhile.
        let left = Duration::from_nanos(u64::try_from(stop_at.saturating_sub(clock)).unwrap_or_default());
        tokio::time::sleep(left.min(Duration::from_millis(250)).max(POLL_MIN)).await;
        let known = shared.sessions.states().cached(&session.session_id.key());
        if known.is_none_or(|known| known.stop_at != Some(stop_at)) {
            return Ok(None);
        }
    }
}

/// The last sequence up to `last` that no message of a stream after `time` has; a stream that is gone has none.
async fn last_before(shared: &Shared, stream: &str, time: i64, last: u64) -> Result<u64, RecordError> {
    let selector = MessageSelector::since(time.saturating_add(1));
    match shared.jetstream.get_message(stream, &selector).await {
        Ok(beyond) => Ok(beyond.map_or(last, |message| message.sequence.saturating_sub(1).min(last))),
        Err(error) if error.is_not_found() => Ok(last),
        Err(error) => Err(error.into()),
    }
}

/// Step 3: waits until the mirror has all up to `last`, or can get no more. False when there is no mirror.
async fn catch_up(shared: &Shared, device: &Id, session: &Session, last: u64) -> Result<bool, RecordError> {
    let begun = shared.clock.monotonic();
    let mut idle_since = None;
    let mut pause = POLL_MIN;
    loop {
        let Some(info) = shared.jetstream.find_stream(&session.stream).await? else { return Ok(false) };
        if last < session.start_sequence || info.state.last_seq >= last || info.config.mirror.is_none() {
            return Ok(true);
        }
        let now = shared.clock.monotonic();
        if has_all_there_is(&info) {
            let since = *idle_since.get_or_insert(now);
            if now.saturating_sub(since) >= IDLE {
                return Ok(true);
            }
        } else {
            idle_since = None;
        }
        if now.saturating_sub(begun) >= CATCH_UP_MAX
            || shared.jetstream.find_stream(&buffer_stream(device)).await?.is_none()
        {
            return Ok(true);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

/// The origin was heard of just now and has nothing more.
fn has_all_there_is(info: &StreamInfo) -> bool {
    let fresh = 0..=1_500_000_000;
    info.mirror
        .as_ref()
        .is_some_and(|mirror| mirror.lag == 0 && mirror.error.is_none() && fresh.contains(&mirror.active))
}

/// Steps 4 and 5.
async fn promote(shared: &Shared, session: &Session, state: &RecordState) -> Result<(), RecordError> {
    let Some(info) = shared.jetstream.find_stream(&session.stream).await? else {
        return fail(shared, session, "its stream was deleted").await;
    };
    if info.config.mirror.is_some() {
        let mut config = info.config;
        config.mirror = None;
        config.other.insert("mirror_direct".to_owned(), false.into());
        config.metadata.remove("weir.hold");
        shared.jetstream.update_stream(&config).await?;
    }
    let last = state.stop_sequence.unwrap_or(u64::MAX);
    delete_beyond(shared, session, last).await?;
    let info = shared.jetstream.stream_info(&session.stream).await?;
    let end = shared.jetstream.get_message(&session.stream, &MessageSelector::last_on(">")).await?;
    let end_sequence = end.as_ref().map(|message| message.sequence);
    // The list of holes may be long: it is asked for only when something is missing.
    let info = match end_sequence {
        Some(end) if gaps::has_unknown_holes(&info, end) => {
            shared.jetstream.stream_info_with_deleted(&session.stream).await?
        }
        _ => info,
    };
    let gaps = gaps::gaps(session, &info, end_sequence, last);
    let last_message_at = end.map(|message| message.time);
    let message_count = info.state.messages;
    let now = shared.now();
    let key = session.session_id.key();
    let described = gaps.clone();
    shared
        .sessions
        .sessions()
        .modify(&key, |row| {
            // A session with an end has ended, whatever becomes of its state.
            row.end = state.stop_at.or(Some(now));
            row.end_sequence = state.stop_sequence;
            row.message_count = message_count;
            row.last_message_at = last_message_at;
            row.gaps.clone_from(&described);
            true
        })
        .await?;
    shared
        .states_modify(&key, |row| {
            row.state = State::Stopped;
            row.message_count = message_count;
            row.last_message_at = last_message_at;
            row.reason = match gaps.len() {
                0 => None,
                1 => Some("1 gap; see the session".to_owned()),
                many => Some(format!("{many} gaps; see the session")),
            };
            true
        })
        .await?;
    if let Some(device) = &session.device_id {
        shared.buffers.reconcile(device).await?;
    }
    Ok(())
}

async fn delete_beyond(shared: &Shared, session: &Session, last: u64) -> Result<(), JetStreamError> {
    let jetstream = &shared.jetstream;
    let state = jetstream.stream_info(&session.stream).await?.state;
    if state.messages == 0 || state.last_seq <= last {
        return Ok(());
    }
    if state.first_seq > last {
        jetstream.purge_stream(&session.stream, &Purge::default()).await?;
        return Ok(());
    }
    let mut next = last.saturating_add(1);
    // From message to message: between two of them there may be more sequences than one lives to count.
    while let Some(message) = jetstream.get_message(&session.stream, &MessageSelector::from(next)).await? {
        next = message.sequence.saturating_add(DELETES);
        let mut deletes = stream::iter(message.sequence..next.min(state.last_seq.saturating_add(1)))
            .map(|sequence| jetstream.delete_message(&session.stream, sequence))
            .buffered(DELETES_AT_ONCE);
        while let Some(deleted) = deletes.next().await {
            deleted?;
        }
    }
    Ok(())
}

/// The end of a recording of all devices: its children end, then it does.
async fn end_parent(shared: &Arc<Shared>, parent: &Session, state: &RecordState) -> Result<(), RecordError> {
    let id = &parent.session_id;
    let children = |session: &Session| session.is_child_of(id);
    // When it ends is when they end: with its post-roll, and before it when that is cut short.
    let end = state.stop_at.map_or(End::Now, End::At);
    Box::pin(stop_where(shared, end, children, CATCH_UP_MAX * 2)).await?;
    let family: Vec<Session> = shared.sessions.sessions().all().into_iter().filter(children).collect();
    if family.iter().any(|child| shared.sessions.state_of(&child.session_id).is_none_or(State::is_active)) {
        // A child is just being opened, or its post-roll is longer than this wait.
        tokio::time::sleep(RETRY).await;
        return Ok(());
    }
    let message_count = family.iter().fold(0, |count: u64, child| count.saturating_add(child.message_count));
    let last_message_at = family.iter().filter_map(|child| child.last_message_at).max();
    let now = shared.now();
    let key = id.key();
    shared
        .sessions
        .sessions()
        .modify(&key, |row| {
            row.end = state.stop_at.or(Some(now));
            row.message_count = message_count;
            row.last_message_at = last_message_at;
            true
        })
        .await?;
    shared
        .states_modify(&key, |row| {
            row.state = State::Stopped;
            row.message_count = message_count;
            row.last_message_at = last_message_at;
            true
        })
        .await?;
    shared.buffers.reconcile_all().await;
    Ok(())
}

/// The recording cannot be ended as it should.
pub(super) async fn fail(shared: &Shared, session: &Session, reason: &str) -> Result<(), RecordError> {
    let key = session.session_id.key();
    let now = shared.now();
    shared
        .sessions
        .sessions()
        .modify(&key, |row| {
            row.end = row.end.or(Some(now));
            true
        })
        .await?;
    shared
        .states_modify(&key, |row| {
            row.state = State::Failed;
            row.reason = Some(reason.to_owned());
            true
        })
        .await?;
    if let Some(device) = &session.device_id {
        shared.buffers.reconcile(device).await?;
    }
    Ok(())
}

impl Shared {
    pub(super) fn ending_lock(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<Id>> {
        self.ending.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes a state row and stamps it.
    pub(super) async fn states_modify(
        &self,
        key: &str,
        mut change: impl FnMut(&mut RecordState) -> bool,
    ) -> Result<Option<RecordState>, RecordError> {
        let changed = self
            .sessions
            .states()
            .modify(key, |row| {
                let changed = change(row);
                if changed {
                    row.updated_at = self.now();
                }
                changed
            })
            .await?;
        Ok(changed)
    }

    /// Waits until a session is no longer active, as memory has it.
    async fn wait_inactive(&self, session: &Id) {
        let mut changes = self.sessions.states().changes();
        loop {
            changes.mark_unchanged();
            if !self.sessions.state_of(session).is_some_and(State::is_active)
                || changes.changed().await.is_err()
            {
                return;
            }
        }
    }
}
