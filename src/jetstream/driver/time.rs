//! What time it is for streams and consumers.

use std::time::Duration;

use crate::sys::clock::SharedClock;

/// The server's time, from which messages get theirs: the wall clock's, but it never goes backwards and never slower than
/// time passes. When the wall clock is set back, ack waits and ages go on, and messages' times with them, at a distance from
/// the wall clock that stays until it is set forward or the server is started again.
#[derive(Debug)]
pub(super) struct Time {
    clock: SharedClock,
    /// Nanoseconds since 1970.
    last: i64,
    /// When that was, on the monotonic clock.
    read_at: Duration,
}

impl Time {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { last: 0, read_at: clock.monotonic(), clock }
    }

    /// Nanoseconds since 1970.
    pub(super) fn now(&mut self) -> i64 {
        // The wall clock comes first: what passes between the two readings (the thread may lose its processor) would be
        // counted twice the other way round, and it would stay ahead of the wall clock by that.
        let wall = self.clock.wall();
        let read_at = self.clock.monotonic();
        let passed = read_at.saturating_sub(self.read_at);
        let passed = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        self.read_at = read_at;
        self.last = wall.max(self.last.saturating_add(passed));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::sys::clock::{Clock, ManualClock};

    const START: i64 = 1_000_000_000;

    /// A clock in whose readings time passes: the thread is not always on a processor.
    #[derive(Debug, Default)]
    struct Busy {
        passed: AtomicI64,
        readings: AtomicI64,
        /// What is added to the wall clock: it is set.
        set: AtomicI64,
    }

    impl Busy {
        /// Reading 1, 3, 5 and so on take a microsecond; 2, 4 and 6 take one millisecond, two, three and so on.
        fn read(&self) -> i64 {
            let reading = self.readings.fetch_add(1, Ordering::SeqCst) + 1;
            let takes = if reading % 2 == 0 { reading / 2 * 1_000_000 } else { 1000 };
            self.passed.fetch_add(takes, Ordering::SeqCst) + takes
        }
    }

    impl Clock for Busy {
        fn wall(&self) -> i64 {
            START + self.read() + self.set.load(Ordering::SeqCst)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_nanos(u64::try_from(self.read()).expect("positive"))
        }
    }

    #[test]
    fn what_reading_the_clocks_takes_does_not_put_it_ahead() {
        let clock = Arc::new(Busy::default());
        let mut time = Time::new(clock.clone());
        let mut before = 0;
        for reading in 0..100 {
            // Now and then the other clock is the one whose reading takes long.
            if reading % 7 == 0 {
                clock.readings.fetch_add(1, Ordering::SeqCst);
            }
            let began = START + clock.passed.load(Ordering::SeqCst);
            let now = time.now();
            let ended = START + clock.passed.load(Ordering::SeqCst);
            assert!((began..=ended).contains(&now), "reading {reading}: {now} is not in {began}..={ended}");
            assert!(now > before, "reading {reading} stands still");
            before = now;
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_back_does_not_stop_time() {
        let clock = Arc::new(Busy::default());
        let mut time = Time::new(clock.clone());
        let (before, passed) = (time.now(), clock.passed.load(Ordering::SeqCst));
        clock.set.store(-3_600_000_000_000, Ordering::SeqCst);
        let after = time.now();
        let passed = clock.passed.load(Ordering::SeqCst) - passed;
        assert!(after > before && after - before <= passed, "{} ns of {passed}", after - before);
        clock.set.store(3_600_000_000_000, Ordering::SeqCst);
        assert!(time.now() >= before + 3_600_000_000_000, "it is set forward");
    }

    #[test]
    fn it_is_the_wall_clock() {
        let clock = ManualClock::at(START);
        let mut time = Time::new(clock.clone());
        assert_eq!(time.now(), START);
        clock.advance(Duration::from_millis(7));
        assert_eq!(time.now(), START + 7_000_000);
    }
}
