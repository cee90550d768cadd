//! Where replays stand, in the bucket `streams_replay_state`: one row per replay, under `<session>.<replay>`.
//!
//! The row of a stopped replay is what `--resume` goes on from; a finished one leaves none. A replay that was killed left the
//! position it told last, at most about a second old: going on from it repeats what was published since.

use serde::{Deserialize, Serialize};

use crate::client::kv::{Bucket, KvError};

/// What became of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It runs, or was killed.
    Running,
    /// It was stopped before its end.
    Stopped,
    /// Everything asked for was published.
    Finished,
    /// It failed.
    Failed,
}

/// A replay's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The session that is replayed.
    pub session_id: String,
    /// The replay's own id.
    pub replay_id: String,
    /// What became of it.
    pub state: State,
    /// The sequence of the recording to go on with.
    pub next_sequence: u64,
    /// Messages published so far.
    pub published: u64,
    /// When the row was written, RFC 3339.
    pub updated: String,
}

/// Writes a replay's row, or removes it when the replay is finished.
///
/// # Errors
/// When the bucket does not take it.
pub async fn save(bucket: &Bucket, session_key: &str, position: &Position) -> Result<(), KvError> {
    let key = format!("{session_key}.{}", position.replay_id);
    if position.state == State::Finished {
        return bucket.erase(&key).await;
    }
    let value = serde_json::to_vec(position).unwrap_or_default();
    bucket.put(&key, value.into()).await.map(drop)
}

/// The row written last among the replays of a session that did not reach their end. Rows that are not ours are passed over.
///
/// # Errors
/// When the bucket cannot be read.
pub async fn latest_unfinished(bucket: &Bucket, session_key: &str) -> Result<Option<Position>, KvError> {
    let mut latest = None;
    for entry in bucket.entries().await? {
        let of_session = entry.key.rsplit_once('.').is_some_and(|(session, _)| session == session_key);
        let Ok(position) = serde_json::from_slice::<Position>(&entry.value) else { continue };
        if of_session && position.state != State::Finished {
            let newer = latest.as_ref().is_none_or(|(revision, _)| *revision < entry.revision);
            if newer {
                latest = Some((entry.revision, position));
            }
        }
    }
    Ok(latest.map(|(_, position)| position))
}

/// Removes every row of a session.
///
/// # Errors
/// When the bucket cannot be read or written.
pub async fn forget(bucket: &Bucket, session_key: &str) -> Result<(), KvError> {
    for key in bucket.keys().await? {
        if key.rsplit_once('.').is_some_and(|(session, _)| session == session_key) {
            bucket.erase(&key).await?;
        }
    }
    Ok(())
}
