//! Replay: a recording published again, once and in order, with its recorded spacing times a factor.
//!
//! Three stages, a file each, hand messages on through bounded channels: a *reader* task takes the recording's stream in
//! batches by direct get, the *pacer* thread lets each message go when the *schedule* says that it is due, a *publisher* task
//! sends it. Reading runs ahead and
//! depends on no acknowledgement, so a replay may be as slow as it likes. It ends at the message that was the recording's
//! last when the replay began: replaying onto a subject that is being recorded cannot run for ever.
//!
//! A replay leaves nothing on the server but its row in `streams_replay_state`. At most once: a message published while the
//! connection to the server breaks may be lost, as with core NATS.

mod pacer;
pub mod position;
mod publisher;
mod reader;
pub mod schedule;

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_protocol::subject;
use weir_protocol::transform::Transform;

use crate::client::jetstream::{JetStream, JetStreamError, MessageSelector};
use crate::client::{Client, PublishError, UnavailableError};
use crate::sys::clock::SharedClock;
use crate::sys::task;
pub use pacer::Control;
use publisher::Publisher;
use reader::RecordingReader;
use schedule::Pace;

/// Which recording is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Its session's id.
    pub session: String,
    /// The device it was recorded from.
    pub device: String,
    /// The stream that holds it.
    pub stream: String,
}

/// Where replayed messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All on one subject.
    Subject(String),
    /// Each on its own subject, rewritten by the first transform that matches; messages that match none are left out.
    Transforms(Vec<Transform>),
}

/// How a recording is replayed.
#[derive(Clone, Debug)]
pub struct Options {
    /// How fast.
    pub pace: Pace,
    /// Longest silence kept, in recorded time; longer ones are cut to it.
    pub silence_max: Option<Duration>,
    /// Messages recorded before this time are left out (nanoseconds since 1970).
    pub from: Option<i64>,
    /// Messages recorded at this time or later are left out.
    pub to: Option<i64>,
    /// Messages below this sequence of the recording are left out: where an earlier replay stopped.
    pub from_sequence: u64,
    /// Only messages whose recorded subject matches.
    pub filter: Option<String>,
    /// Where messages go.
    pub target: Target,
    /// How often the recording is replayed; 0 means until stopped.
    pub rounds: u64,
    /// Begin standing still.
    pub paused: bool,
}

/// Why a replay does not start or did not reach its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording's stream is gone.
    #[error("recording '{session}' has no stream '{stream}': it was deleted, or its retention passed")]
    Missing {
        /// Session.
        session: String,
        /// Stream.
        stream: String,
    },
    /// The target is not one subject.
    #[error("target '{0}' is not a subject that can be published on")]
    Target(String),
    /// The filter is no subject filter.
    #[error("filter '{0}' is not a valid subject filter")]
    Filter(String),
    /// The server did not give the recording.
    #[error("cannot read the recording: {0}")]
    Read(#[from] JetStreamError),
    /// A message cannot be published.
    #[error("cannot publish message {sequence} of the recording on '{subject}': {source}")]
    Publish {
        /// Its sequence in the recording.
        sequence: u64,
        /// Where it should have gone.
        subject: String,
        /// Why not.
        source: PublishError,
    },
    /// The connection is closed.
    #[error("cannot reach the server: {0}")]
    Unavailable(#[from] UnavailableError),
    /// No thread for the pacer.
    #[error("cannot start the pacing thread: {0}")]
    Thread(#[from] io::Error),
}

/// How far a replay is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages published and taken by the server.
    pub published: u64,
    /// The sequence of the recording to go on with.
    pub next_sequence: u64,
    /// When the message published last was recorded; 0 before the first.
    pub recorded_at: i64,
    /// Messages the recording held when the replay began, whatever is left out.
    pub messages: u64,
}

/// How a replay ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where.
    pub progress: Progress,
    /// Whether everything asked for was published; false after [`Replay::stop`].
    pub finished: bool,
}

/// A running replay. Dropping it ends it.
#[derive(Debug)]
pub struct Replay {
    control: Control,
    progress: watch::Receiver<Progress>,
    reader: JoinHandle<Result<(), ReplayError>>,
    publisher: JoinHandle<Result<(), ReplayError>>,
}

/// Starts to replay `recording` over `client`.
///
/// # Errors
/// When the recording's stream is gone, a target or filter is not valid, or the server does not answer.
pub async fn start(
    client: &Client,
    clock: SharedClock,
    recording: Recording,
    options: Options,
) -> Result<Replay, ReplayError> {
    check(&options)?;
    let jetstream = client.jetstream();
    let Some(info) = jetstream.find_stream(&recording.stream).await? else {
        return Err(ReplayError::Missing { session: recording.session, stream: recording.stream });
    };
    let first = first_sequence(&jetstream, &recording.stream, &options, info.state.last_seq).await?;
    let (input, due, control) =
        pacer::start(clock.clone(), options.pace, options.silence_max, options.paused)?;
    let reader = RecordingReader {
        jetstream,
        stream: recording.stream.clone(),
        filter: options.filter.clone(),
        first,
        last: info.state.last_seq,
        to: options.to,
        rounds: options.rounds,
    };
    let progress = Progress { messages: info.state.messages, next_sequence: first, ..Progress::default() };
    let (told, progress) = watch::channel(progress);
    let publisher =
        Publisher { client: client.clone(), clock, recording, target: options.target, progress: told };
    let reader = task::spawn(reader.read(input));
    let publisher = task::spawn(publisher.publish(due));
    Ok(Replay { control, progress, reader, publisher })
}

impl Replay {
    /// Changes the pace from now on.
    pub fn set_pace(&self, pace: Pace) {
        self.control.set_pace(pace);
    }

    /// The pace in force.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.control.pace()
    }

    /// Stands still, or goes on.
    pub fn set_paused(&self, paused: bool) {
        self.control.set_paused(paused);
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.control.is_paused()
    }

    /// Publishes one message while standing still.
    pub fn step(&self) {
        self.control.step();
    }

    /// Ends it; what was not due yet is not published. Then [`wait`](Self::wait) tells where it stopped.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// A handle that steers it while somebody else waits for its end.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// How far it is, about twice a second.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits until everything is published, or it was stopped, or it failed. Call it once.
    ///
    /// # Errors
    /// When reading or publishing failed; [`progress`](Self::progress) holds how far it came.
    pub async fn wait(&mut self) -> Result<Outcome, ReplayError> {
        let published = joined((&mut self.publisher).await);
        let finished = !self.control.is_stopped();
        if published.is_err() {
            self.control.stop();
        }
        let read = joined((&mut self.reader).await);
        published.and(read)?;
        let progress = self.progress.borrow().clone();
        Ok(Outcome { progress, finished })
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.control.stop();
        self.publisher.abort();
        self.reader.abort();
    }
}

/// A task of ours neither panics nor is aborted before its replay is dropped.
fn joined(result: Result<Result<(), ReplayError>, tokio::task::JoinError>) -> Result<(), ReplayError> {
    result.unwrap_or_else(|error| Err(ReplayError::Thread(io::Error::other(error))))
}

fn check(options: &Options) -> Result<(), ReplayError> {
    if let Target::Subject(target) = &options.target {
        let bytes = target.as_bytes();
        if !subject::is_valid_subject(bytes) || !subject::is_literal(bytes) {
            return Err(ReplayError::Target(target.clone()));
        }
    }
    match &options.filter {
        Some(filter) if !subject::is_valid_filter(filter.as_bytes()) => {
            Err(ReplayError::Filter(filter.clone()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Where the replay begins; beyond `last` when nothing is to be replayed.
async fn first_sequence(
    jetstream: &JetStream,
    stream: &str,
    options: &Options,
    last: u64,
) -> Result<u64, JetStreamError> {
    let mut first = options.from_sequence.max(1);
    if let Some(from) = options.from {
        let found = jetstream.get_message(stream, &MessageSelector::since(from)).await?;
        first = found.map_or(last.saturating_add(1), |message| first.max(message.sequence));
    }
    Ok(first)
}
