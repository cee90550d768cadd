//! What a run yields: figures by metric, and the window of time that most of them are taken in.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::process;
use crate::wire::PATIENCE;

/// What a figure says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Messages a second.
    Rate,
    /// Microseconds of the server's processor time per message.
    Cpu,
    /// Cores that the server kept busy.
    ServerCores,
    /// Cores that the generator kept busy.
    GeneratorCores,
    /// Microseconds that half of the answers took at most.
    Median,
    /// Microseconds that 99 of 100 answers took at most.
    P99,
    /// Bytes of memory without connections.
    Idle,
    /// Bytes of memory with 1,000 connections.
    Idle1000,
    /// Bytes of memory with 10,000 connections.
    Idle10000,
    /// Seconds from the start of the process to the first answer.
    Start,
    /// Bytes to the device per byte of payload.
    Written,
    /// Bytes of the program's file.
    Binary,
}

impl Metric {
    /// The name in `--json`; its end is the unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "messages_per_s",
            Self::Cpu => "server_cpu_us",
            Self::ServerCores => "server_cores",
            Self::GeneratorCores => "generator_cores",
            Self::Median => "p50_us",
            Self::P99 => "p99_us",
            Self::Idle => "idle_bytes",
            Self::Idle1000 => "idle_1000_bytes",
            Self::Idle10000 => "idle_10000_bytes",
            Self::Start => "start_s",
            Self::Written => "written_per_payload_byte",
            Self::Binary => "binary_bytes",
        }
    }

    /// A figure of this metric for a reader.
    pub(crate) fn show(self, value: f64) -> String {
        let digits = |value: f64| {
            if value >= 100.0 {
                format!("{value:.0}")
            } else if value >= 10.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.2}")
            }
        };
        match self {
            Self::Rate if value >= 1e6 => format!("{} M/s", digits(value / 1e6)),
            Self::Rate if value >= 1e3 => format!("{} k/s", digits(value / 1e3)),
            Self::Rate => format!("{} /s", digits(value)),
            Self::Cpu if value < 1.0 => format!("{value:.3} us"),
            Self::Cpu | Self::Median | Self::P99 => format!("{} us", digits(value)),
            Self::Idle | Self::Idle1000 | Self::Idle10000 | Self::Binary => {
                format!("{} MB", digits(value / 1e6))
            }
            Self::Start => format!("{value:.3} s"),
            Self::ServerCores | Self::GeneratorCores | Self::Written => digits(value),
        }
    }
}

/// The figures of one run.
pub(crate) type Sample = BTreeMap<Metric, f64>;

/// Time that passes from the first message until a window opens, for caches to fill and windows of flow control to open.
const WARM_UP: Duration = Duration::from_millis(300);

/// Counts what passes in a stretch of time, and who spent processor time on it. Where nothing comes, it waits longer. The
/// load has begun to arrive before that stretch does.
///
/// `count` gives the messages so far, `server` the processor time of the server; both are read at both ends. Returns what
/// `count` gave there, too.
pub(crate) fn window(
    length: Duration,
    count: impl Fn() -> u64,
    server: impl Fn() -> Result<Option<Duration>, Fault>,
) -> Result<(Sample, Range<u64>), Fault> {
    let nothing = || Fault::failed("no message arrived in the time that was measured");
    let waiting = Instant::now();
    while count() == 0 {
        if waiting.elapsed() > PATIENCE {
            return Err(nothing());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(WARM_UP);
    let own = || process::cpu_time(std::process::id());
    let (own_before, server_before) = (own()?, server()?);
    let (begun, before) = (Instant::now(), count());
    std::thread::sleep(length);
    while count() == before && begun.elapsed() < PATIENCE {
        std::thread::sleep(length);
    }
    let (counted, elapsed) = (before..count(), begun.elapsed().as_secs_f64());
    let (own_after, server_after) = (own()?, server()?);
    if counted.is_empty() {
        return Err(nothing());
    }
    let messages = to_f64(counted.end - counted.start);
    let mut sample = Sample::new();
    sample.insert(Metric::Rate, messages / elapsed);
    sample.insert(Metric::GeneratorCores, own_after.saturating_sub(own_before).as_secs_f64() / elapsed);
    if let (Some(before), Some(after)) = (server_before, server_after) {
        let spent = after.saturating_sub(before).as_secs_f64();
        sample.insert(Metric::ServerCores, spent / elapsed);
        sample.insert(Metric::Cpu, spent * 1e6 / messages);
    }
    Ok((sample, counted))
}

/// A count as a number to divide by; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}

/// The value below which `share` of the sorted `values` lie.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
    let index = (to_f64(last as u64) * share).round() as usize;
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_three_digits() {
        for (metric, value, expected) in [
            (Metric::Rate, 12_345_678.0, "12.3 M/s"),
            (Metric::Rate, 4_560.0, "4.56 k/s"),
            (Metric::Rate, 12.0, "12.0 /s"),
            (Metric::Cpu, 0.0891, "0.089 us"),
            (Metric::P99, 155.4, "155 us"),
            (Metric::Idle, 5_600_000.0, "5.60 MB"),
            (Metric::Start, 0.3123, "0.312 s"),
            (Metric::Written, 2.104, "2.10"),
        ] {
            assert_eq!(metric.show(value), expected);
        }
    }

    #[test]
    fn a_window_opens_after_the_load_has_begun() {
        let asked = std::cell::Cell::new(0u64);
        // Nothing arrives for longer than it takes to warm up.
        let begun = Instant::now();
        let count = || {
            asked.set(asked.get() + 1);
            if begun.elapsed() > WARM_UP + Duration::from_millis(50) { asked.get() } else { 0 }
        };
        let (sample, counted) = window(Duration::from_millis(10), count, || Ok(None)).unwrap();
        assert!(counted.start > 0, "{counted:?}");
        assert!(sample[&Metric::Rate] > 0.0);
        assert!(begun.elapsed() > 2 * WARM_UP);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let values: Vec<u64> = (0..=100).collect();
        assert_eq!(
            (percentile(&values, 0.5), percentile(&values, 0.99), percentile(&values, 1.0)),
            (50, 99, 100)
        );
        assert_eq!(percentile(&[7], 0.99), 7);
        assert_eq!(percentile(&[], 0.5), 0);
    }
}
