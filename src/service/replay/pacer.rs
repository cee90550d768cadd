//! The thread that lets messages go when they are due.
//!
//! The runtime's timers tick once a millisecond, which would swallow the shape of a burst. So pacing has a thread of its
//! own: it sleeps until shortly before a message is due and spins for the rest. What is due and when, the
//! [`Schedule`](super::schedule) decides; what becomes of a message, whoever receives from the channel.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::schedule::{Due, Pace, Schedule};
use crate::sys::clock::SharedClock;
use crate::sys::task;

/// Messages read ahead, and messages let go but not yet taken: the most that either channel holds.
const QUEUE_MESSAGES_MAX: usize = 1024;
/// A sleeping thread wakes up to this much late; the rest of the wait is spun.
const SPIN: Duration = Duration::from_micros(200);

/// A message on its way through the pacer.
#[derive(Debug)]
pub(super) struct Paced<T> {
    /// When it was recorded, nanoseconds since 1970.
    pub(super) time: i64,
    /// What travels.
    pub(super) message: T,
}

/// Controls a running pacer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
    clock: SharedClock,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Rises with every change, so that a spinning thread looks again.
    changes: AtomicU64,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    steps: u64,
    stopped: bool,
}

/// Starts the thread: what is sent into the first channel comes out of the second when it is due. The thread ends when the
/// sender is dropped and all is let go, when the receiver is dropped, or by [`Control::stop`].
///
/// # Errors
/// When the operating system refuses another thread.
#[expect(clippy::type_complexity, reason = "the two ends of the pacer and its control")]
pub(super) fn start<T: Send + 'static>(
    clock: SharedClock,
    pace: Pace,
    silence_max: Option<Duration>,
    paused: bool,
) -> io::Result<(mpsc::Sender<Paced<T>>, mpsc::Receiver<Paced<T>>, Control)> {
    let now = clock.monotonic();
    let mut schedule = Schedule::new(now, pace, silence_max);
    if paused {
        schedule.pause(now);
    }
    let state = State { schedule, steps: 0, stopped: false };
    let shared =
        Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), changes: AtomicU64::new(0) });
    let control = Control { shared, clock };
    let (input, mut read) = mpsc::channel::<Paced<T>>(QUEUE_MESSAGES_MAX);
    let (due, output) = mpsc::channel::<Paced<T>>(QUEUE_MESSAGES_MAX);
    let pacer = control.clone();
    let mut first = true;
    task::thread("replay-pacer", move || {
        while let Some(paced) = read.blocking_recv() {
            if std::mem::take(&mut first) {
                pacer.begin();
            }
            if !pacer.wait(paced.time) || due.blocking_send(paced).is_err() {
                return;
            }
        }
    })?;
    Ok((input, output, control))
}

impl Control {
    /// Changes the pace from now on.
    pub fn set_pace(&self, pace: Pace) {
        let now = self.clock.monotonic();
        self.change(|state| state.schedule.set_pace(now, pace));
    }

    /// Stands still, or goes on.
    pub fn set_paused(&self, paused: bool) {
        let now = self.clock.monotonic();
        self.change(|state| if paused { state.schedule.pause(now) } else { state.schedule.resume(now) });
    }

    /// Lets one message go while paused.
    pub fn step(&self) {
        self.change(|state| state.steps = state.steps.saturating_add(1));
    }

    /// Ends the thread; what was not due yet is dropped.
    pub fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    /// Whether [`stop`](Self::stop) was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Whether the replay stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.lock().schedule.is_paused()
    }

    /// The pace in force.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.lock().schedule.pace()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.changes.fetch_add(1, Ordering::Release);
        self.shared.changed.notify_all();
    }

    /// The clock starts with the first message, not while it is being fetched.
    fn begin(&self) {
        let now = self.clock.monotonic();
        self.lock().schedule.jump(now);
    }

    /// Returns when the message recorded at `time` is due; false when stopped before.
    fn wait(&self, time: i64) -> bool {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            match state.schedule.due(time) {
                Due::Paused if state.steps == 0 => {
                    state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Due::Paused => {
                    state.steps -= 1;
                    state.schedule.sent(time);
                    return true;
                }
                Due::Now => {
                    state.schedule.sent(time);
                    return true;
                }
                Due::At(at) => {
                    let left = at.saturating_sub(self.clock.monotonic());
                    if left.is_zero() {
                        state.schedule.sent(time);
                        return true;
                    } else if left > SPIN {
                        let sleep = left.saturating_sub(SPIN);
                        state = self
                            .shared
                            .changed
                            .wait_timeout(state, sleep)
                            .unwrap_or_else(PoisonError::into_inner)
                            .0;
                    } else {
                        drop(state);
                        self.spin_until(at);
                        state = self.lock();
                    }
                }
            }
        }
    }

    fn spin_until(&self, at: Duration) {
        let changes = self.shared.changes.load(Ordering::Acquire);
        while self.clock.monotonic() < at && self.shared.changes.load(Ordering::Acquire) == changes {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::SystemClock;

    const MS: i64 = 1_000_000;

    async fn send(input: &mpsc::Sender<Paced<u32>>, times: &[i64]) {
        for (n, &time) in (0..).zip(times) {
            input.send(Paced { time, message: n }).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_leaves_before_it_is_due_and_everything_leaves_in_order() {
        let clock = SystemClock::shared();
        let (input, mut output, _) = start::<u32>(clock.clone(), Pace::Speed(10.0), None, false).unwrap();
        let times = [0, MS, MS, 100 * MS, 300 * MS];
        let begun = clock.monotonic();
        send(&input, &times).await;
        drop(input);
        for (n, time) in (0..).zip(times) {
            let paced = output.recv().await.unwrap();
            assert_eq!(paced.message, n);
            let due = Duration::from_nanos(u64::try_from(time / 10).unwrap());
            assert!(clock.monotonic() - begun >= due, "message {n} left early");
        }
        assert!(output.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_paused_pacer_steps_then_goes_on() {
        let (input, mut output, control) =
            start::<u32>(SystemClock::shared(), Pace::Unpaced, None, true).unwrap();
        send(&input, &[0, 0, 0]).await;
        control.step();
        assert_eq!(output.recv().await.unwrap().message, 0);
        assert!(output.try_recv().is_err());
        assert!(control.is_paused());
        control.set_paused(false);
        assert_eq!(output.recv().await.unwrap().message, 1);
        assert_eq!(output.recv().await.unwrap().message, 2);
    }

    #[tokio::test]
    async fn stop_ends_a_long_wait() {
        let (input, mut output, control) =
            start::<u32>(SystemClock::shared(), Pace::Speed(1.0), None, false).unwrap();
        send(&input, &[0, 3_600_000 * MS]).await;
        assert!(output.recv().await.is_some());
        control.stop();
        assert!(output.recv().await.is_none());
    }
}
