//! When a replayed message is due.
//!
//! Every message has a place on a line of nanoseconds: recorded time with long silences cut, or one second a message where
//! a rate is asked for. The line is walked at a constant factor from an anchor, so message i is due at
//! `anchor + (place_i - anchor_place) / factor` on the monotonic clock: lateness of one message never moves the next, drift
//! cannot add up, and bursts keep their shape. A change of speed, a pause or a jump only moves the anchor.
//!
//! Nothing here waits or reads a clock: `now` is handed in.

use std::time::Duration;

/// Least speed factor, a hundredth of the recorded speed.
pub const SPEED_MIN: f64 = 0.01;
/// Greatest speed factor.
pub const SPEED_MAX: f64 = 1000.0;
/// Greatest rate in messages per second.
pub const RATE_MAX: f64 = 10_000_000.0;

/// How fast a replay goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Recorded time times this factor, [`SPEED_MIN`] to [`SPEED_MAX`].
    Speed(f64),
    /// This many messages per second, whatever their recorded times.
    Rate(f64),
    /// As fast as the server takes them.
    Unpaced,
}

/// Why a pace is refused.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum PaceError {
    /// The speed is no number in range.
    #[error("speed {0} is not between {SPEED_MIN} and {SPEED_MAX} (0 means 1)")]
    Speed(f64),
    /// The rate is no number in range.
    #[error("rate {0} is not above 0 and at most {RATE_MAX} messages per second")]
    Rate(f64),
}

impl Pace {
    /// A speed factor; 0 means 1.
    ///
    /// # Errors
    /// Negative, not a number, infinite, or outside [`SPEED_MIN`]..=[`SPEED_MAX`].
    pub fn speed(factor: f64) -> Result<Self, PaceError> {
        if factor == 0.0 {
            Ok(Self::Speed(1.0))
        } else if (SPEED_MIN..=SPEED_MAX).contains(&factor) {
            Ok(Self::Speed(factor))
        } else {
            Err(PaceError::Speed(factor))
        }
    }

    /// A rate in messages per second.
    ///
    /// # Errors
    /// Not above 0, or above [`RATE_MAX`].
    pub fn rate(per_second: f64) -> Result<Self, PaceError> {
        if per_second > 0.0 && per_second <= RATE_MAX {
            Ok(Self::Rate(per_second))
        } else {
            Err(PaceError::Rate(per_second))
        }
    }

    /// Nanoseconds of the line walked in one nanosecond of the clock.
    fn factor(self) -> f64 {
        match self {
            Self::Speed(factor) | Self::Rate(factor) => factor,
            Self::Unpaced => f64::INFINITY,
        }
    }
}

/// When the next message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At this time of the monotonic clock, which may have passed.
    At(Duration),
    /// At once.
    Now,
    /// Not until the replay is resumed.
    Paused,
}

/// Places messages on the line and says when each is due. See the head of this file.
#[derive(Clone, Debug)]
pub struct Schedule {
    pace: Pace,
    /// Longest silence kept, in recorded time.
    silence_max: Option<Duration>,
    anchor_at: Duration,
    anchor_place: i64,
    /// Place and recorded time of the message sent last.
    sent: Option<(i64, i64)>,
    /// Where on the line the replay stands still.
    paused: Option<i64>,
}

impl Schedule {
    /// A schedule whose first message is due at `now`.
    #[must_use]
    pub fn new(now: Duration, pace: Pace, silence_max: Option<Duration>) -> Self {
        Self { pace, silence_max, anchor_at: now, anchor_place: 0, sent: None, paused: None }
    }

    /// When the message recorded at `time` is due, if it is the next one.
    #[must_use]
    pub fn due(&self, time: i64) -> Due {
        if self.paused.is_some() {
            return Due::Paused;
        }
        if self.pace == Pace::Unpaced {
            return Due::Now;
        }
        let ahead = self.place(time).saturating_sub(self.anchor_place);
        Due::At(self.anchor_at.saturating_add(span(ahead, self.pace.factor())))
    }

    /// Takes note that the message recorded at `time` was sent; the next one is placed behind it. While paused this is a
    /// single step: the replay then stands at that message.
    pub fn sent(&mut self, time: i64) {
        let place = self.place(time);
        self.sent = Some((place, time));
        if let Some(stands_at) = &mut self.paused {
            *stands_at = place;
        }
    }

    /// Changes the pace from `now` on.
    pub fn set_pace(&mut self, now: Duration, pace: Pace) {
        self.anchor(now);
        self.pace = pace;
    }

    /// The pace in force.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Stands still from `now` on.
    pub fn pause(&mut self, now: Duration) {
        if self.paused.is_none() {
            self.anchor(now);
            self.paused = Some(self.anchor_place);
        }
    }

    /// Goes on at `now` from where the replay stands.
    pub fn resume(&mut self, now: Duration) {
        if let Some(place) = self.paused.take() {
            self.anchor_at = now;
            self.anchor_place = place;
        }
    }

    /// Whether the replay stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Begins anew: the next message, wherever in the recording it lies, is due at `now`.
    pub fn jump(&mut self, now: Duration) {
        self.anchor_at = now;
        self.anchor_place = 0;
        self.sent = None;
        self.paused = self.paused.map(|_| 0);
    }

    /// Moves the anchor to where the replay is at `now`.
    fn anchor(&mut self, now: Duration) {
        if self.paused.is_some() {
            return;
        }
        let passed = now.saturating_sub(self.anchor_at);
        let sent = self.sent.map_or(0, |(place, _)| place);
        let walked = match self.pace {
            Pace::Unpaced => sent,
            Pace::Speed(factor) | Pace::Rate(factor) => {
                self.anchor_place.saturating_add(scale(passed, factor))
            }
        };
        self.anchor_at = now;
        self.anchor_place = walked;
    }

    fn place(&self, time: i64) -> i64 {
        let Some((place, sent_time)) = self.sent else { return 0 };
        let step = match self.pace {
            Pace::Rate(_) => 1_000_000_000,
            Pace::Speed(_) | Pace::Unpaced => {
                let gap = time.saturating_sub(sent_time).max(0);
                self.silence_max.map_or(gap, |max| gap.min(nanos(max)))
            }
        };
        place.saturating_add(step)
    }
}

fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// The clock time in which `line` nanoseconds are walked at `factor`. Exact to a nanosecond for spans below 100 days.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates"
)]
fn span(line: i64, factor: f64) -> Duration {
    Duration::from_nanos((line.max(0) as f64 / factor).round() as u64)
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "saturates")]
fn scale(passed: Duration, factor: f64) -> i64 {
    (passed.as_nanos() as f64 * factor).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Sends every message when it is due and returns the times.
    fn run(schedule: &mut Schedule, times: &[i64]) -> Vec<Duration> {
        times
            .iter()
            .map(|&time| {
                let Due::At(at) = schedule.due(time) else { panic!("not due at a time") };
                schedule.sent(time);
                at
            })
            .collect()
    }

    #[test]
    fn speed_one_keeps_every_gap_to_the_nanosecond() {
        let times = [5_000 * MS, 5_000 * MS + 1, 5_000 * MS + 300, 5_001 * MS, 9_001 * MS];
        let at = run(&mut Schedule::new(ms(7), Pace::Speed(1.0), None), &times);
        for (at, time) in at.iter().zip(times) {
            assert_eq!(*at, ms(7) + Duration::from_nanos(u64::try_from(time - times[0]).unwrap()));
        }
    }

    #[test]
    fn speed_is_a_factor_on_the_whole_span() {
        let times: Vec<i64> = (0..100).map(|i| i * 200 * MS).collect();
        for (factor, last) in [(5.0, 3_960), (0.25, 79_200), (4.0, 4_950)] {
            let at = run(&mut Schedule::new(ms(0), Pace::speed(factor).unwrap(), None), &times);
            assert_eq!(at[99], ms(last), "factor {factor}");
        }
    }

    #[test]
    fn drift_does_not_add_up_over_a_million_messages_at_an_odd_speed() {
        let mut schedule = Schedule::new(ms(0), Pace::Speed(3.0), None);
        let mut last = Duration::ZERO;
        for i in 0..1_000_000_i64 {
            let Due::At(at) = schedule.due(i * 1_000_001) else { panic!("not due at a time") };
            schedule.sent(i * 1_000_001);
            last = at;
        }
        let exact = 999_999_u64 * 1_000_001 / 3;
        assert!(last.abs_diff(Duration::from_nanos(exact)) <= Duration::from_nanos(1), "{last:?}");
    }

    #[test]
    fn a_rate_ignores_recorded_times() {
        let at = run(&mut Schedule::new(ms(0), Pace::rate(100.0).unwrap(), None), &[0, 0, 0, 900_000 * MS]);
        assert_eq!(at, [ms(0), ms(10), ms(20), ms(30)]);
    }

    #[test]
    fn silences_are_cut_and_what_follows_keeps_its_shape() {
        let times = [0, 10 * MS, 60_010 * MS, 60_015 * MS];
        let at = run(&mut Schedule::new(ms(0), Pace::Speed(1.0), Some(ms(100))), &times);
        assert_eq!(at, [ms(0), ms(10), ms(110), ms(115)]);
    }

    #[test]
    fn a_change_of_speed_holds_from_that_moment() {
        let mut schedule = Schedule::new(ms(0), Pace::Speed(1.0), None);
        schedule.sent(0);
        schedule.set_pace(ms(500), Pace::Speed(10.0));
        assert_eq!(schedule.due(1_000 * MS), Due::At(ms(550)));
    }

    #[test]
    fn a_pause_stops_the_line_and_a_step_sends_one() {
        let mut schedule = Schedule::new(ms(0), Pace::Speed(1.0), None);
        schedule.sent(0);
        schedule.pause(ms(400));
        assert_eq!(schedule.due(1_000 * MS), Due::Paused);
        let mut resumed = schedule.clone();
        resumed.resume(ms(5_000));
        assert_eq!(resumed.due(1_000 * MS), Due::At(ms(5_600)));
        schedule.sent(1_000 * MS);
        schedule.resume(ms(6_000));
        assert_eq!(schedule.due(1_500 * MS), Due::At(ms(6_500)));
    }

    #[test]
    fn a_jump_makes_the_next_message_due_at_once() {
        let mut schedule = Schedule::new(ms(0), Pace::Speed(2.0), None);
        schedule.sent(50 * MS);
        schedule.jump(ms(30));
        assert_eq!(schedule.due(7 * MS), Due::At(ms(30)));
        schedule.sent(7 * MS);
        assert_eq!(schedule.due(9 * MS), Due::At(ms(31)));
    }

    #[test]
    fn times_that_step_back_are_sent_without_a_gap() {
        let at = run(&mut Schedule::new(ms(0), Pace::Speed(1.0), None), &[100 * MS, 40 * MS, 60 * MS]);
        assert_eq!(at, [ms(0), ms(0), ms(20)]);
    }

    #[test]
    fn bad_paces_are_refused_by_value() {
        assert_eq!(Pace::speed(0.0), Ok(Pace::Speed(1.0)));
        for factor in [-1.0, 0.009, 1000.1, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Pace::speed(factor), Err(PaceError::Speed(factor)));
        }
        assert!(Pace::speed(f64::NAN).unwrap_err().to_string().contains("NaN"));
        for rate in [0.0, -5.0, f64::INFINITY] {
            assert_eq!(Pace::rate(rate), Err(PaceError::Rate(rate)));
        }
        assert!(Pace::rate(f64::NAN).is_err());
    }
}
