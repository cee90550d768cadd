//! What a replay is to be, decided from its flags, the session's row and its stream: refused before it begins when nothing
//! would come of it.

use std::num::NonZeroU64;

use weir_protocol::transform::Transform;

use super::args::{Moment, ReplayArgs};
use super::open_positions;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output;
use crate::client::Client;
use crate::client::jetstream::JetStream;
use crate::client::kv::Bucket;
use crate::service::id::Id;
use crate::service::names::Names;
use crate::service::replay::position::{self, Position};
use crate::service::replay::schedule::Pace;
use crate::service::replay::{Options, Recording, Target};
use crate::service::session::Session;
use crate::service::span;
use crate::sys::random::Random;

/// So many rounds never end by themselves.
const UNTIL_STOPPED: u64 = 0;

/// What is replayed, and how.
pub(super) struct Plan {
    pub(super) recording: Recording,
    pub(super) options: Options,
    pub(super) replay_id: String,
    /// Where it goes, for people.
    pub(super) target: String,
}

/// Looks up what the flags speak of.
pub(super) async fn plan(args: &ReplayArgs, client: &Client, id: &Id, session: &Session) -> Outcome<Plan> {
    let jetstream = client.jetstream();
    let device = session.device_id.as_ref().filter(|_| !session.stream.is_empty());
    let Some(device) = device else {
        return Err(Failure::new(format!(
            "session {id} is a recording of all devices: it holds no messages itself"
        ))
        .hint(format!("replay one of its parts; `weir record list` shows them as {id}-<device>")));
    };
    let (target, shown) = target(args, device)?;
    let (from, to) = span_of(args, &jetstream, &session.stream).await?;
    let resumed = if args.resume { Some(unfinished(args, &jetstream, id).await?) } else { None };
    let options = Options {
        pace: if args.unpaced { Pace::Unpaced } else { args.rate.unwrap_or(args.speed) },
        silence_max: args.max_gap,
        from,
        to,
        from_sequence: resumed.as_ref().map_or(0, |position| position.next_sequence),
        filter: args.filter.clone(),
        target,
        rounds: args.rounds.map_or(1, |rounds| rounds.map_or(UNTIL_STOPPED, NonZeroU64::get)),
        paused: args.paused,
    };
    let replay_id = resumed.map_or_else(|| Random::from_system().id(10), |position| position.replay_id);
    let recording =
        Recording { session: id.to_string(), device: device.to_string(), stream: session.stream.clone() };
    Ok(Plan { recording, options, replay_id, target: shown })
}

fn target(args: &ReplayArgs, device: &Id) -> Outcome<(Target, String)> {
    if args.original_subjects {
        let same = Transform::parse(">", ">").map_err(|error| Failure::new(error.to_string()))?;
        return Ok((Target::Transforms(vec![same]), "the recorded subjects".to_owned()));
    }
    if !args.map.is_empty() {
        return Ok((Target::Transforms(args.map.clone()), "mapped subjects".to_owned()));
    }
    let subject = args.target.clone().unwrap_or_else(|| Names::default().playback_subject(device));
    Ok((Target::Subject(subject.clone()), subject))
}

/// The times between which messages are replayed.
async fn span_of(
    args: &ReplayArgs,
    jetstream: &JetStream,
    stream: &str,
) -> Outcome<(Option<i64>, Option<i64>)> {
    if args.from.is_none() && args.to.is_none() {
        return Ok((None, None));
    }
    let info = jetstream.find_stream(stream).await;
    let info = info.map_err(|error| Failure::new(format!("stream {stream}: {error}")))?;
    // A recording without messages, or without its stream, is told about where it is read.
    let Some((first, last)) = info.and_then(|info| info.state.first_ts.zip(info.state.last_ts)) else {
        return Ok((None, None));
    };
    let at = |moment: Moment| match moment {
        Moment::At(time) => time,
        Moment::After(span) => first.saturating_add(span::nanos(span)),
    };
    let (from, to) = (args.from.map(at), args.to.map(at));
    let nothing = |what: String| {
        Err(Failure::new(format!("{what}: nothing would be replayed")).hint(format!(
            "the recording holds messages from {} to {}",
            output::moment(first),
            output::moment(last)
        )))
    };
    match (from, to) {
        (Some(from), Some(to)) if to <= from => nothing("--to is not after --from".to_owned()),
        (Some(from), _) if from > last => {
            nothing(format!("--from {} is after the last message", output::moment(from)))
        }
        (_, Some(to)) if to <= first => {
            nothing(format!("--to {} is not after the first message", output::moment(to)))
        }
        _ => Ok((from, to)),
    }
}

/// The session's row.
pub(super) async fn session(client: &Client, bucket: &str, id: &Id) -> Outcome<Session> {
    let missing = || {
        Failure::new(format!("there is no recording {id} in bucket {bucket}"))
            .hint("`weir record list` shows the recordings")
    };
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("bucket {bucket}: {error}"));
    let jetstream = client.jetstream();
    let found = jetstream.find_stream(&format!("KV_{bucket}")).await.map_err(|error| failed(&error))?;
    if found.is_none() {
        return Err(missing());
    }
    let sessions = Bucket::open(&jetstream, bucket).await.map_err(|error| failed(&error))?;
    let row = sessions.get(&id.key()).await.map_err(|error| failed(&error))?.ok_or_else(missing)?;
    let session: Session = serde_json::from_slice(&row).map_err(|error| failed(&error))?;
    if session.session_id == *id { Ok(session) } else { Err(missing()) }
}

async fn unfinished(args: &ReplayArgs, jetstream: &JetStream, id: &Id) -> Outcome<Position> {
    let bucket = open_positions(args, jetstream).await?;
    let found = position::latest_unfinished(&bucket, &id.key()).await;
    found
        .map_err(|error| Failure::new(format!("bucket {}: {error}", args.replay_bucket)))?
        .ok_or_else(|| Failure::new(format!("no replay of {id} was stopped: there is nothing to resume")))
}
