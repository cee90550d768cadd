//! `weir replay`: publishes a recording again, from this process.
//!
//! It reads the session's row and stream itself and needs no controller. Where it stands is kept in the replay bucket about
//! twice a second, so that `--resume` goes on after a stop. On a terminal keys steer it.

mod args;
mod keys;
mod plan;
mod shown;

use weir_protocol::time::format_rfc3339;

use super::failure::{Failure, Outcome};
use super::task::{self, Stop};
use super::{identity, output};
use crate::client::Client;
use crate::client::jetstream::JetStream;
use crate::client::kv::{Bucket, BucketConfig};
use crate::service::id::Id;
use crate::service::replay::position::{self, Position, State};
use crate::service::replay::schedule::{Pace, SPEED_MAX, SPEED_MIN};
use crate::service::replay::{self as engine, Progress, Replay};
use crate::sys::clock::{SharedClock, SystemClock};
pub(crate) use args::ReplayArgs;
use keys::{Key, Keys};
use plan::{plan, session};
use shown::Shown;

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
    let mut bookmark = Bookmark::open(&client, &args, &id, plan.replay_id.clone(), clock.clone()).await?;
    let shown = Shown {
        session: id.clone(),
        target: plan.target.clone(),
        clock: clock.clone(),
        began: clock.monotonic(),
    };
    let mut replay = engine::start(&client, clock.clone(), plan.recording, plan.options)
        .await
        .map_err(|error| Failure::new(error.to_string()))?;
    let result = steer(&mut replay, &mut stop, keys.as_mut(), &mut bookmark, &shown).await;
    drop(keys);
    let progress = replay.progress().borrow().clone();
    let (state, finished) = match &result {
        Ok(Ended::Finished) => (State::Finished, true),
        Ok(Ended::Stopped(_)) => (State::Stopped, false),
        Err(_) => (State::Failed, false),
    };
    bookmark.save(&progress, state).await?;
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
    bookmark: &mut Bookmark,
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
                    bookmark.save(&now, State::Running).await?;
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
struct Bookmark {
    bucket: Bucket,
    key: String,
    position: Position,
    clock: SharedClock,
}

impl Bookmark {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_within_the_limits_of_speed() {
        assert_eq!(scaled(Pace::Speed(4.0), 2.0), Pace::Speed(8.0));
        assert_eq!(scaled(Pace::Speed(SPEED_MAX), 2.0), Pace::Speed(SPEED_MAX));
        assert_eq!(scaled(Pace::Speed(SPEED_MIN), 0.5), Pace::Speed(SPEED_MIN));
        assert_eq!(scaled(Pace::Rate(10.0), 0.5), Pace::Rate(5.0));
        assert_eq!(scaled(Pace::Unpaced, 2.0), Pace::Unpaced);
    }
}
