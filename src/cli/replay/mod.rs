//! `weir replay`: publishes a recording again, from this process.
//!
//! It reads the session's row and stream itself and needs no controller. Where it stands is kept in the replay bucket about
//! twice a second, so that `--resume` goes on after a stop. On a terminal keys steer it.

mod keys;

use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use weir_protocol::duration;
use weir_protocol::time::{format_rfc3339, parse_rfc3339};
use weir_protocol::transform::Transform;

use super::connection::ServerArgs;
use super::failure::{Failure, Outcome};
use super::task::{self, Stop};
use super::{identity, output};
use crate::client::Client;
use crate::client::jetstream::JetStream;
use crate::client::kv::{Bucket, BucketConfig};
use crate::service::id::Id;
use crate::service::names::Names;
use crate::service::replay::position::{self, Position, State};
use crate::service::replay::schedule::{Pace, SPEED_MAX, SPEED_MIN};
use crate::service::replay::{self as engine, Options, Progress, Recording, Replay, Target};
use crate::service::session::Session;
use crate::service::span;
use crate::sys::clock::{SharedClock, SystemClock};
use crate::sys::random::Random;
use keys::{Key, Keys};

/// Flags of `weir replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys on a terminal: space pauses and goes on, . publishes one message while paused, \
+ doubles and - halves the speed, q stops. A stopped replay goes on with --resume."
)]
pub(crate) struct ReplayArgs {
    /// The recording
    #[arg(value_name = "SESSION")]
    session: String,

    /// Speed as a factor, 0.01 to 1000; 0 means 1
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed, default_value = "1", allow_negative_numbers = true, group = "pace")]
    speed: Pace,

    /// Messages per second, whatever their recorded times
    #[arg(long, value_name = "N", value_parser = parse_rate, allow_negative_numbers = true, conflicts_with = "speed")]
    rate: Option<Pace>,

    /// As fast as the server takes them
    #[arg(long, conflicts_with_all = ["speed", "rate"])]
    unpaced: bool,

    /// Leave out what was recorded before: a time such as 2026-01-31T12:00:00Z, or a span from the first message such as 30s
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    from: Option<Moment>,

    /// Leave out what was recorded at this time or later; as --from
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    to: Option<Moment>,

    /// Publish everything on this subject [default: streams.playback.<device>]
    #[arg(long, value_name = "SUBJECT", alias = "target-subject")]
    target: Option<String>,

    /// Rewrite subjects, such as 'monitor.>=test.>'; may be given several times, the first that matches counts
    #[arg(long, value_name = "FROM=TO", value_parser = parse_map, conflicts_with = "target")]
    map: Vec<Transform>,

    /// Publish each message on the subject it was recorded from
    #[arg(long, conflicts_with_all = ["target", "map"])]
    original_subjects: bool,

    /// Only messages whose recorded subject matches
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,

    /// Repeat it N times; without a number until stopped
    #[arg(long = "loop", value_name = "N", value_parser = parse_rounds, allow_negative_numbers = true)]
    rounds: Option<Option<NonZeroU64>>,

    /// Cut longer silences to this
    #[arg(long, value_name = "SPAN", value_parser = duration::parse, allow_hyphen_values = true)]
    max_gap: Option<Duration>,

    /// Begin paused; needs a terminal
    #[arg(long)]
    paused: bool,

    /// Go on where the last replay of this recording was stopped
    #[arg(long, conflicts_with = "from")]
    resume: bool,

    /// Print a summary as JSON
    #[arg(long)]
    json: bool,

    /// Bucket with the sessions' descriptions
    #[arg(long, value_name = "BUCKET", default_value = "streams_session")]
    session_bucket: String,

    /// Bucket with the replays' positions
    #[arg(long, value_name = "BUCKET", default_value = "streams_replay_state")]
    replay_bucket: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// So many rounds never end by themselves.
const UNTIL_STOPPED: u64 = 0;

/// A place in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Nanoseconds since 1970.
    At(i64),
    /// So long after its first message.
    After(Duration),
}

fn parse_speed(text: &str) -> Result<Pace, String> {
    let factor = text.parse::<f64>().map_err(|_| format!("speed {text} is no number"))?;
    Pace::speed(factor).map_err(|error| error.to_string())
}

fn parse_rate(text: &str) -> Result<Pace, String> {
    let rate = text.parse::<f64>().map_err(|_| format!("rate {text} is no number"))?;
    Pace::rate(rate).map_err(|error| error.to_string())
}

fn parse_rounds(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "give a number above 0, or none to repeat it until stopped".to_owned())
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    match (parse_rfc3339(text), duration::parse(text)) {
        (Ok(time), _) => Ok(Moment::At(time)),
        (Err(_), Ok(span)) => Ok(Moment::After(span)),
        (Err(error), Err(_)) => Err(format!("{error}, and no span such as 30s")),
    }
}

/// `FROM=TO`. Codes in subjects have `=` too: the first place counts where both sides make a transform.
fn parse_map(text: &str) -> Result<Transform, String> {
    let mut error = "give FROM=TO, such as 'monitor.>=test.>'".to_owned();
    for (place, _) in text.match_indices('=').collect::<Vec<_>>() {
        let (source, destination) = (text.get(..place).unwrap_or(""), text.get(place + 1..).unwrap_or(""));
        match Transform::parse(source.trim(), destination.trim()) {
            Ok(transform) => return Ok(transform),
            Err(refused) => error = refused.to_string(),
        }
    }
    Err(error)
}

/// Runs the command.
pub(crate) fn run(args: ReplayArgs) -> Outcome {
    task::block_on_all(replay(args))
}

async fn replay(args: ReplayArgs) -> Outcome {
    let id = identity::session(&args.session)?;
    let mut stop = Stop::listen()?;
    let mut keys = Keys::listen()?;
    if args.paused && keys.is_none() {
        return Err(Failure::new("--paused needs a terminal: nothing else could let the replay go on"));
    }
    let client = args.server.connect("replay").await?;
    let clock = SystemClock::shared();
    let session = session(&client, &args.session_bucket, &id).await?;
    let plan = plan(&args, &client, &id, &session).await?;
    let mut log = Log::open(&client, &args, &id, plan.replay_id.clone(), clock.clone()).await?;
    let shown = Shown {
        session: id.clone(),
        target: plan.target.clone(),
        clock: clock.clone(),
        began: clock.monotonic(),
    };
    let mut replay = engine::start(&client, clock.clone(), plan.recording, plan.options)
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
    let result = steer(&mut replay, &mut stop, keys.as_mut(), &mut log, &shown).await;
    drop(keys);
    let progress = replay.progress().borrow().clone();
    let (state, finished) = match &result {
        Ok(Ended::Finished) => (State::Finished, true),
        Ok(Ended::Stopped(_)) => (State::Stopped, false),
        Err(_) => (State::Failed, false),
    };
    log.save(&progress, state).await?;
    let ended = result?;
    client.drain().await.map_err(|error| Failure::new(error.to_string()))?;
    shown.summary(&args, &progress, finished)?;
    if finished && progress.published == 0 {
        output::remark(match progress.messages {
            0 => "the recording holds no messages",
            _ => {
                "none of the recording's messages was meant: --from, --to, --filter or --map leave all of them out"
            }
        });
    }
    match ended {
        Ended::Stopped(Some(signal)) => Err(Failure::new(format!("stopped by {signal}"))
            .hint(format!("`weir replay {id} --resume` goes on at the next message"))),
        Ended::Stopped(None) | Ended::Finished => Ok(()),
    }
}

/// What is replayed, and how.
struct Plan {
    recording: Recording,
    options: Options,
    replay_id: String,
    /// Where it goes, for people.
    target: String,
}

async fn plan(args: &ReplayArgs, client: &Client, id: &Id, session: &Session) -> Outcome<Plan> {
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

async fn session(client: &Client, bucket: &str, id: &Id) -> Outcome<Session> {
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

async fn open_positions(args: &ReplayArgs, jetstream: &JetStream) -> Outcome<Bucket> {
    let config = BucketConfig {
        description: "Positions of replays".to_owned(),
        ..BucketConfig::named(&args.replay_bucket)
    };
    Bucket::open_or_create(jetstream, &config)
        .await
        .map_err(|error| Failure::new(format!("bucket {}: {error}", args.replay_bucket)))
}

/// How a replay ended.
enum Ended {
    Finished,
    /// By a signal, or by a key.
    Stopped(Option<&'static str>),
}

/// Lets the replay run, and obeys signals and keys meanwhile.
async fn steer(
    replay: &mut Replay,
    stop: &mut Stop,
    mut keys: Option<&mut Keys>,
    log: &mut Log,
    shown: &Shown,
) -> Outcome<Ended> {
    let mut progress = replay.progress();
    let mut stopped = None;
    let control = replay.control();
    let waiting = replay.wait();
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            outcome = &mut waiting => {
                let outcome = outcome.map_err(|error| Failure::new(error.to_string()))?;
                shown.clear();
                return Ok(if outcome.finished { Ended::Finished } else { Ended::Stopped(stopped) });
            }
            changed = progress.changed() => {
                if changed.is_ok() {
                    let now = progress.borrow_and_update().clone();
                    shown.line(&now, control.pace(), control.is_paused());
                    log.save(&now, State::Running).await?;
                }
            }
            signal = stop.wait() => {
                stopped = Some(signal);
                control.stop();
            }
            key = next_key(&mut keys) => {
                match key {
                    Key::Pause => control.set_paused(!control.is_paused()),
                    Key::Step => control.step(),
                    Key::Faster => control.set_pace(scaled(control.pace(), 2.0)),
                    Key::Slower => control.set_pace(scaled(control.pace(), 0.5)),
                    Key::Quit => control.stop(),
                }
                shown.line(&progress.borrow().clone(), control.pace(), control.is_paused());
            }
        }
    }
}

async fn next_key(keys: &mut Option<&mut Keys>) -> Key {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

/// A pace times a factor, within the limits.
fn scaled(pace: Pace, factor: f64) -> Pace {
    match pace {
        Pace::Speed(speed) => Pace::Speed((speed * factor).clamp(SPEED_MIN, SPEED_MAX)),
        Pace::Rate(rate) => Pace::rate(rate * factor).unwrap_or(pace),
        Pace::Unpaced => pace,
    }
}

/// Where the replay stands, for `--resume`.
struct Log {
    bucket: Bucket,
    key: String,
    position: Position,
    clock: SharedClock,
}

impl Log {
    async fn open(
        client: &Client,
        args: &ReplayArgs,
        id: &Id,
        replay_id: String,
        clock: SharedClock,
    ) -> Outcome<Self> {
        let bucket = open_positions(args, &client.jetstream()).await?;
        let position = Position {
            session_id: id.to_string(),
            replay_id,
            state: State::Running,
            next_sequence: 0,
            published: 0,
            updated: String::new(),
        };
        Ok(Self { bucket, key: id.key(), position, clock })
    }

    async fn save(&mut self, progress: &Progress, state: State) -> Outcome {
        self.position.state = state;
        self.position.next_sequence = progress.next_sequence;
        self.position.published = progress.published;
        self.position.updated = format_rfc3339(self.clock.wall());
        position::save(&self.bucket, &self.key, &self.position)
            .await
            .map_err(|error| Failure::new(format!("the replay's position is not kept: {error}")))
    }
}

/// What the user sees of it.
struct Shown {
    session: Id,
    target: String,
    clock: SharedClock,
    began: Duration,
}

impl Shown {
    fn elapsed(&self) -> Duration {
        let elapsed = self.clock.monotonic().saturating_sub(self.began);
        Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// One line on a terminal, written over and over.
    fn line(&self, progress: &Progress, pace: Pace, paused: bool) {
        let mut out = std::io::stderr().lock();
        if !out.is_terminal() {
            return;
        }
        let pace = match pace {
            Pace::Speed(factor) => format!("{factor}x"),
            Pace::Rate(rate) => format!("{rate}/s"),
            Pace::Unpaced => "unpaced".to_owned(),
        };
        let pause = if paused { ", paused" } else { "" };
        let at = if progress.recorded_at > 0 { output::moment(progress.recorded_at) } else { "-".to_owned() };
        // A terminal that is gone shows nothing; the replay goes on.
        let _ = write!(
            out,
            "\r\x1b[K{} of {}, at {at}, {pace}{pause}",
            progress.published,
            output::count(progress.messages, "message")
        );
        let _ = out.flush();
    }

    fn clear(&self) {
        let mut out = std::io::stderr().lock();
        if out.is_terminal() {
            let _ = write!(out, "\r\x1b[K");
            let _ = out.flush();
        }
    }

    fn summary(&self, args: &ReplayArgs, progress: &Progress, finished: bool) -> Outcome {
        if args.json {
            return output::record(&serde_json::json!({
                "session_id": self.session,
                "finished": finished,
                "published": progress.published,
                "next_sequence": progress.next_sequence,
                "elapsed": span::format(self.elapsed()),
            }));
        }
        let Shown { session, target, .. } = self;
        let word = if finished { "replayed" } else { "stopped:" };
        output::line(format!(
            "{word} {} of {session} on {target} in {}",
            output::count(progress.published, "message"),
            span::format(self.elapsed())
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_spans() {
        assert_eq!(parse_moment("30s"), Ok(Moment::After(Duration::from_secs(30))));
        assert_eq!(parse_moment("1970-01-01T00:00:01Z"), Ok(Moment::At(1_000_000_000)));
        assert!(parse_moment("yesterday-ish").unwrap_err().contains("yesterday-ish"));
    }

    #[test]
    fn maps_are_split_where_both_sides_make_sense() {
        for (map, subject, mapped) in [
            ("monitor.>=test.>", "monitor.dev.x", "test.dev.x"),
            ("monitor.dev=2E1.>=test.>", "monitor.dev=2E1.x", "test.x"),
            ("monitor.*=out.$1", "monitor.a", "out.a"),
        ] {
            let transform = parse_map(map).unwrap_or_else(|error| panic!("{map}: {error}"));
            assert_eq!(transform.apply(subject.as_bytes()).as_deref(), Some(mapped.as_bytes()), "{map}");
        }
        for bad in ["monitor", "=", "a.>=b", "a b=c"] {
            assert!(parse_map(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_stay_within_the_limits_of_speed() {
        assert_eq!(scaled(Pace::Speed(4.0), 2.0), Pace::Speed(8.0));
        assert_eq!(scaled(Pace::Speed(SPEED_MAX), 2.0), Pace::Speed(SPEED_MAX));
        assert_eq!(scaled(Pace::Speed(SPEED_MIN), 0.5), Pace::Speed(SPEED_MIN));
        assert_eq!(scaled(Pace::Rate(10.0), 0.5), Pace::Rate(5.0));
        assert_eq!(scaled(Pace::Unpaced, 2.0), Pace::Unpaced);
    }
}
