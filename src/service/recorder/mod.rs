//! Recordings: streams that repeat a device's buffer from a moment on, and become streams of their own when they end.
//!
//! While it runs, a recording needs nobody: the server copies the buffer into it, sequence numbers and times kept, so pre-roll
//! and live messages join without gap or duplicate. What is done here is a start (`start.rs`), an end in steps that can each
//! be repeated (`stop.rs`), and looking after all of it (`keeper.rs`): counts, what a crash left half-done, and recordings of all
//! devices. `requests.rs` carries out what is asked of the controller, `stored.rs` says whether recordings have what a device
//! was told they have. State lives in the buckets alone, so any of several service processes can do any step.

mod gaps;
mod keeper;
mod requests;
mod start;
mod stop;
mod stored;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::buffer::{BufferError, Buffers};
use super::command::{Listed, Start};
use super::device::{DeviceError, DeviceStore};
use super::id::{Id, IdError};
use super::names::Names;
use super::replay::position;
use super::session::{RecordState, Session, SessionStore, State};
use super::span;
use super::table::TableError;
use crate::client::jetstream::{JetStream, JetStreamError};
use crate::client::kv::{Bucket, KvError};
use crate::sys::clock::SharedClock;
use crate::sys::random::Random;

pub use stop::End;

/// Longest a caller waits for a recording to end; the end goes on without it.
const STOP_WAIT: Duration = Duration::from_secs(4);

/// Why a recording was not started, shown or deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The id of a session.
    #[error("session_id: {0}")]
    SessionId(IdError),
    /// The id of a device.
    #[error("device_id: {0}")]
    DeviceId(IdError),
    /// The subject names no device.
    #[error("subject {0:?} names no device: it must be {1}.<device>")]
    Subject(String, String),
    /// Device and subject name different devices.
    #[error("device_id {0:?} and subject {1:?} name different devices")]
    DeviceAndSubject(String, String),
    /// It runs.
    #[error("session {0:?} is already running")]
    AlreadyRunning(String),
    /// It is finished.
    #[error("session {0:?} exists already ({1}); choose another id or delete it")]
    Exists(String, &'static str),
    /// The stream of the session is there without a session.
    #[error("stream {0:?} exists already and belongs to no session")]
    StreamExists(String),
    /// The only one.
    #[error(
        "device {device:?} is being recorded by session {session:?}, so it cannot be recorded exclusively"
    )]
    Busy {
        /// The device.
        device: String,
        /// By which session.
        session: String,
    },
    /// Somebody else is the only one.
    #[error("device {device:?} is being recorded exclusively by session {session:?}")]
    Exclusive {
        /// The device.
        device: String,
        /// By which session.
        session: String,
    },
    /// Nothing to roll back to.
    #[error("pre_roll {} is not possible: device {device:?} has no buffer", span::format(*pre_roll))]
    NoBuffer {
        /// The device.
        device: String,
        /// What was asked for.
        pre_roll: Duration,
    },
    /// Too far back.
    #[error(
        "pre_roll {} is longer than the buffer window {} of device {device:?}",
        span::format(*pre_roll),
        span::format(*window)
    )]
    PreRoll {
        /// The device.
        device: String,
        /// What was asked for.
        pre_roll: Duration,
        /// What there is.
        window: Duration,
    },
    /// Too short.
    #[error("retention {} is shorter than 100ms", span::format(*.0))]
    Retention(Duration),
    /// Too long.
    #[error("post_roll {} is longer than {}", span::format(*.0), span::format(start::POST_ROLL_MAX))]
    PostRoll(Duration),
    /// There is none.
    #[error("there is no session {0:?}")]
    Unknown(String),
    /// It runs.
    #[error("session {0:?} is {1}; stop it first, and once more to cut a post-roll short")]
    Active(String, &'static str),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The buffer.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The buckets.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The server.
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
}

impl RecordError {
    /// What the server answered, or that it did not, when that is what went wrong.
    #[must_use]
    pub fn of_server(&self) -> Option<&JetStreamError> {
        if let Self::JetStream(error)
        | Self::Buffer(BufferError::JetStream(error))
        | Self::Table(TableError::Kv(KvError::JetStream(error)))
        | Self::Device(DeviceError::Table(TableError::Kv(KvError::JetStream(error))))
        | Self::Buffer(BufferError::Device(DeviceError::Table(TableError::Kv(KvError::JetStream(
            error,
        ))))) = self
        {
            Some(error)
        } else {
            None
        }
    }
}

/// Starts, ends and looks after recordings. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    jetstream: JetStream,
    names: Names,
    devices: DeviceStore,
    sessions: SessionStore,
    buffers: Buffers,
    clock: SharedClock,
    random: Random,
    /// This process among several.
    instance: String,
    /// One start at a time, so that exclusive ones see each other, and none while a session is deleted.
    starting: tokio::sync::Mutex<()>,
    /// Starts of this process that run neither nor are taken back: under way, failed, or abandoned by whoever asked.
    unfinished: Mutex<BTreeSet<Id>>,
    /// Sessions whose end is under way in this process.
    ending: Mutex<BTreeSet<Id>>,
}

impl Recorder {
    /// A recorder over the given stores.
    #[must_use]
    pub fn new(
        jetstream: JetStream,
        names: Names,
        devices: DeviceStore,
        sessions: SessionStore,
        buffers: Buffers,
        clock: SharedClock,
        random: Random,
    ) -> Self {
        let instance = random.id(12);
        let (starting, unfinished, ending) = Default::default();
        Self {
            shared: Arc::new(Shared {
                jetstream,
                names,
                devices,
                sessions,
                buffers,
                clock,
                random,
                instance,
                starting,
                unfinished,
                ending,
            }),
        }
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &SessionStore {
        &self.shared.sessions
    }

    /// An id that no session has.
    #[must_use]
    pub fn new_session_id(&self) -> Id {
        start::uuid(&self.shared)
    }

    /// Begins a recording: returns once the server copies.
    ///
    /// # Errors
    /// See [`RecordError`]. Nothing is left of a start that failed.
    pub async fn start(&self, start: &Start) -> Result<(Session, State), RecordError> {
        start::start(&self.shared, start).await
    }

    /// Ends a recording. Waits some seconds for an end that is to come now; the state says whether it has come. `None` when
    /// the session is not active.
    ///
    /// # Errors
    /// The server's error.
    pub async fn stop(&self, session: &Id, end: End) -> Result<Option<State>, RecordError> {
        stop::stop(&self.shared, session, end, STOP_WAIT).await
    }

    /// Ends the recordings that `which` says yes to; returns their ids.
    ///
    /// # Errors
    /// The first error; the others are ended all the same.
    pub async fn stop_where(
        &self,
        end: End,
        which: impl Fn(&Session) -> bool,
    ) -> Result<Vec<Id>, RecordError> {
        stop::stop_where(&self.shared, end, which, STOP_WAIT).await
    }

    /// A session's description. While it runs, its count is the stream's.
    ///
    /// # Errors
    /// [`RecordError::Unknown`], or the server's error.
    pub async fn show(&self, session: &Id) -> Result<(Session, Option<RecordState>), RecordError> {
        let (mut row, _) = self.row(session).await?;
        let state = self.shared.sessions.states().get(&session.key()).await?.map(|(state, _)| state);
        if let Some(live) = self.live(&row, state.as_ref().map(|state| state.state)).await? {
            (row.message_count, row.last_message_at) = live;
        }
        Ok((row, state))
    }

    /// Messages of an active session, and when its last one came, as its stream has them: its row is some seconds behind.
    async fn live(
        &self,
        session: &Session,
        state: Option<State>,
    ) -> Result<Option<(u64, Option<i64>)>, RecordError> {
        if !state.is_some_and(State::is_active) {
            return Ok(None);
        }
        if !session.stream.is_empty() {
            let info = self.shared.jetstream.find_stream(&session.stream).await?;
            return Ok(info
                .map(|info| (info.state.messages, info.state.last_ts.filter(|_| info.state.messages > 0))));
        }
        // The parent of a recording of all devices has what its children have.
        let mut all = (0, None);
        for child in self.shared.sessions.sessions().all() {
            if child.is_child_of(&session.session_id) {
                let state = self.shared.sessions.state_of(&child.session_id);
                let live = Box::pin(self.live(&child, state)).await?;
                let (count, last) = live.unwrap_or((child.message_count, child.last_message_at));
                all = (count.saturating_add(all.0), all.1.max(last));
            }
        }
        Ok(Some(all))
    }

    async fn row(&self, session: &Id) -> Result<(Session, u64), RecordError> {
        match self.shared.sessions.sessions().get(&session.key()).await? {
            Some((row, revision)) if row.session_id == *session => Ok((row, revision)),
            _ => Err(RecordError::Unknown(session.to_string())),
        }
    }

    /// Deletes a session that is not active: its stream, the positions of its replays, its state, its description, in this
    /// order. The parent of a recording of all devices takes its children with it. Returns how many sessions are gone. A
    /// deletion that was interrupted is finished by whoever looks after the sessions next, but for the parent of children that
    /// are gone: that is there until it is deleted again.
    ///
    /// # Errors
    /// [`RecordError::Unknown`], [`RecordError::Active`], or the server's error; then the description is still there.
    pub async fn delete(&self, session: &Id) -> Result<usize, RecordError> {
        let _no_start_under_way = self.shared.starting.lock().await;
        let (row, _) = self.row(session).await?;
        let sessions = &self.shared.sessions;
        let active = match sessions.states().get(&session.key()).await? {
            Some((state, _)) => state.state.is_active().then(|| state.state.as_str()),
            None if row.end.is_some() || row.controller == self.shared.instance => None,
            // One that nobody is at any more is not finished, or it soon would be.
            None => keeper::is_alive(&self.shared, &row.controller).await.then_some("starting"),
        };
        if let Some(state) = active {
            return Err(RecordError::Active(session.to_string(), state));
        }
        let mut family: Vec<Session> =
            sessions.sessions().all().into_iter().filter(|child| child.is_child_of(session)).collect();
        family.push(row);
        for member in &family {
            if start::has_stream(&self.shared, member).await? {
                self.shared.jetstream.delete_stream(&member.stream).await?;
            }
            self.forget_replays(&member.session_id).await?;
            sessions.states().delete(&member.session_id.key()).await?;
            sessions.sessions().delete(&member.session_id.key()).await?;
        }
        Ok(family.len())
    }

    async fn forget_replays(&self, session: &Id) -> Result<(), RecordError> {
        match Bucket::open(&self.shared.jetstream, &self.shared.names.replay_state).await {
            Ok(bucket) => Ok(position::forget(&bucket, &session.key()).await.map_err(TableError::from)?),
            Err(KvError::JetStream(error)) if error.is_not_found() => Ok(()),
            Err(error) => Err(TableError::from(error).into()),
        }
    }

    /// Stops and deletes every session; returns how many.
    ///
    /// # Errors
    /// The server's error.
    pub async fn purge_all(&self) -> Result<usize, RecordError> {
        self.stop_where(End::Now, |_| true).await?;
        let mut gone = 0;
        for session in self.shared.sessions.sessions().all() {
            match self.delete(&session.session_id).await {
                Ok(count) => gone += count,
                // It went with its parent.
                Err(RecordError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// All sessions with their states, oldest first; those that run with the counts of some seconds ago.
    #[must_use]
    pub fn list(&self, device: Option<&Id>) -> Vec<Listed> {
        let sessions = &self.shared.sessions;
        let mut all: Vec<Listed> = sessions
            .sessions()
            .all()
            .into_iter()
            .filter(|session| device.is_none() || session.device_id.as_ref() == device)
            .map(|mut session| {
                let state = sessions.states().cached(&session.session_id.key());
                if let Some(state) = &state {
                    session.message_count = state.message_count;
                    session.last_message_at = state.last_message_at;
                }
                Listed { state: state.map(|state| state.state), session }
            })
            .collect();
        all.sort_by(|a, b| {
            (a.session.start, &a.session.session_id).cmp(&(b.session.start, &b.session.session_id))
        });
        all
    }
}

impl Shared {
    fn now(&self) -> i64 {
        self.clock.wall()
    }
}
