//! What the user sees of a replay: a line on a terminal while it runs, a summary at its end.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::args::ReplayArgs;
use crate::cli::failure::Outcome;
use crate::cli::output;
use crate::service::id::Id;
use crate::service::replay::Progress;
use crate::service::replay::schedule::Pace;
use crate::service::span;
use crate::sys::clock::SharedClock;

/// What is shown, and since when.
pub(super) struct Shown {
    pub(super) session: Id,
    pub(super) target: String,
    pub(super) clock: SharedClock,
    pub(super) began: Duration,
}

impl Shown {
    fn elapsed(&self) -> Duration {
        let elapsed = self.clock.monotonic().saturating_sub(self.began);
        Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// One line on a terminal, written over and over.
    pub(super) fn line(&self, progress: &Progress, pace: Pace, paused: bool) {
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

    /// Takes the line away.
    pub(super) fn clear(&self) {
        let mut out = std::io::stderr().lock();
        if out.is_terminal() {
            let _ = write!(out, "\r\x1b[K");
            let _ = out.flush();
        }
    }

    /// What became of it.
    pub(super) fn summary(&self, args: &ReplayArgs, progress: &Progress, finished: bool) -> Outcome {
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
