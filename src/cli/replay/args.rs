//! The flags of `weir replay`, and how their words are read.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use weir_protocol::duration;
use weir_protocol::time::parse_rfc3339;
use weir_protocol::transform::Transform;

use crate::cli::connection::ServerArgs;
use crate::service::replay::schedule::Pace;

/// Flags of `weir replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys on a terminal: space pauses and goes on, . publishes one message while paused, \
+ doubles and - halves the speed, q stops. A stopped replay goes on with --resume."
)]
pub(crate) struct ReplayArgs {
    /// The recording
    #[arg(value_name = "SESSION")]
    pub(super) session: String,

    /// Speed as a factor, 0.01 to 1000; 0 means 1
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed, default_value = "1", allow_negative_numbers = true, group = "pace")]
    pub(super) speed: Pace,

    /// Messages per second, whatever their recorded times
    #[arg(long, value_name = "N", value_parser = parse_rate, allow_negative_numbers = true, conflicts_with = "speed")]
    pub(super) rate: Option<Pace>,

    /// As fast as the server takes them
    #[arg(long, conflicts_with_all = ["speed", "rate"])]
    pub(super) unpaced: bool,

    /// Leave out what was recorded before: a time such as 2026-01-31T12:00:00Z, or a span from the first message such as 30s
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    pub(super) from: Option<Moment>,

    /// Leave out what was recorded at this time or later; as --from
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    pub(super) to: Option<Moment>,

    /// Publish everything on this subject [default: streams.playback.<device>]
    #[arg(long, value_name = "SUBJECT", alias = "target-subject")]
    pub(super) target: Option<String>,

    /// Rewrite subjects, such as 'monitor.>=test.>'; may be given several times, the first that matches counts
    #[arg(long, value_name = "FROM=TO", value_parser = parse_map, conflicts_with = "target")]
    pub(super) map: Vec<Transform>,

    /// Publish each message on the subject it was recorded from
    #[arg(long, conflicts_with_all = ["target", "map"])]
    pub(super) original_subjects: bool,

    /// Only messages whose recorded subject matches
    #[arg(long, value_name = "FILTER")]
    pub(super) filter: Option<String>,

    /// Repeat it N times; without a number until stopped
    #[arg(long = "loop", value_name = "N", value_parser = parse_rounds, allow_negative_numbers = true)]
    pub(super) rounds: Option<Option<NonZeroU64>>,

    /// Cut longer silences to this
    #[arg(long, value_name = "SPAN", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(super) max_gap: Option<Duration>,

    /// Begin paused; needs a terminal
    #[arg(long)]
    pub(super) paused: bool,

    /// Go on where the last replay of this recording was stopped
    #[arg(long, conflicts_with = "from")]
    pub(super) resume: bool,

    /// Print a summary as JSON
    #[arg(long)]
    pub(super) json: bool,

    /// Bucket with the sessions' descriptions
    #[arg(long, value_name = "BUCKET", default_value = "streams_session")]
    pub(super) session_bucket: String,

    /// Bucket with the replays' positions
    #[arg(long, value_name = "BUCKET", default_value = "streams_replay_state")]
    pub(super) replay_bucket: String,

    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// A place in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
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
}
