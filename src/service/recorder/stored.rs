//! Whether recordings have what a device was told they have: an HTTP answer of success waits for them.

use std::time::Duration;

use super::{RecordError, Recorder, Shared};
use crate::service::id::Id;
use crate::service::session::Session;

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
            if session.start_sequence > sequence {
                continue;
            }
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

    /// Whether any recording of a device is active.
    #[must_use]
    pub fn is_recorded(&self, device: &Id) -> bool {
        !self.shared.sessions.active_of(device).is_empty()
    }
}

/// Whether a session has a sequence, or need not have it.
async fn is_stored(shared: &Shared, session: &Session, sequence: u64) -> Result<bool, RecordError> {
    let state = shared.sessions.states().cached(&session.session_id.key());
    let excluded = state.is_some_and(|state| {
        !state.state.is_active() || state.stop_sequence.is_some_and(|last| last < sequence)
    });
    if excluded {
        return Ok(true);
    }
    let info = shared.jetstream.find_stream(&session.stream).await?;
    Ok(info.is_none_or(|info| info.state.last_seq >= sequence))
}
