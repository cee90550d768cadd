//! Whether recordings have what a device was told they have: an HTTP answer of success waits for them.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{RecordError, Recorder, Shared};
use crate::service::id::Id;
use crate::service::session::{Session, State};
use crate::service::table::TableError;

impl Recorder {
    /// Waits until every running recording of a device has stored what the buffer has up to `sequence`. Returns the sessions
    /// that have not within `patience`.
    ///
    /// # Errors
    /// The server's error.
    pub async fn wait_stored(
        &self,
        device: &Id,
        sequence: u64,
        patience: Duration,
    ) -> Result<Vec<Id>, RecordError> {
        let shared = &self.shared;
        let deadline = shared.clock.monotonic().saturating_add(patience);
        let mut behind = Vec::new();
        for session in shared.sessions.active_of(device) {
            let mut pause = Duration::from_millis(1);
            while !is_stored(shared, &session, sequence).await? {
                if shared.clock.monotonic() >= deadline {
                    behind.push(session.session_id.clone());
                    break;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
        Ok(behind)
    }

    /// Whether a recording has all these sequences of a device's buffer, on disk and for good.
    ///
    /// # Errors
    /// The server's error.
    pub async fn keeps(&self, device: &Id, batch: &RangeInclusive<u64>) -> Result<bool, RecordError> {
        for session in self.shared.sessions.active_of(device) {
            if keeps(&self.shared, &session, batch).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any recording of a device is active.
    #[must_use]
    pub fn is_recorded(&self, device: &Id) -> bool {
        !self.shared.sessions.active_of(device).is_empty()
    }
}

/// Whether a session has a sequence, or need not have it.
async fn is_stored(shared: &Shared, session: &Session, sequence: u64) -> Result<bool, RecordError> {
    let key = session.session_id.key();
    // A start under way may be taken back, or begin later.
    let Some(session) = shared.sessions.sessions().cached(&key) else { return Ok(true) };
    if session.start_sequence > sequence {
        return Ok(true);
    }
    match shared.sessions.states().cached(&key) {
        Some(state) if !state.state.is_active() => return Ok(true),
        Some(state) if state.stop_sequence.is_some_and(|last| last < sequence) => return Ok(true),
        Some(_) => {}
        None => match shared.sessions.states().get(&key).await {
            Ok(None) => return Ok(false),
            // Somebody wrote what nobody can read: it is no start under way, and its stream alone says what it has.
            Ok(Some(_)) | Err(TableError::Unreadable { .. }) => {}
            Err(error) => return Err(error.into()),
        },
    }
    let info = shared.jetstream.find_stream(&session.stream).await?;
    Ok(info.is_none_or(|info| info.state.last_seq >= sequence))
}

/// Whether a session has all these sequences and no stop takes them away again.
async fn keeps(shared: &Shared, session: &Session, batch: &RangeInclusive<u64>) -> Result<bool, RecordError> {
    let key = session.session_id.key();
    let state = match shared.sessions.states().get(&key).await {
        Ok(Some((state, _))) => state,
        // Nobody knows whether it goes on.
        Ok(None) | Err(TableError::Unreadable { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let Some(info) = shared.jetstream.find_stream(&session.stream).await? else { return Ok(false) };
    let kept = match state.stop_sequence {
        Some(last) => last >= *batch.end(),
        // What the server's clock says now is not before the batch's time.
        None => state.state == State::Running || info.ts.is_some_and(|now| state.stop_at >= Some(now)),
    };
    // Read anew: a start that a crash interrupted may have begun later than it was to.
    let session = shared.sessions.sessions().cached(&key);
    let begins = session.is_some_and(|session| session.start_sequence <= *batch.start());
    Ok(kept && begins && info.state.last_seq >= *batch.end())
}
