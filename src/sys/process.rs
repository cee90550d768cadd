//! What the system says about this process. Linux says it in `/proc`; elsewhere there is no answer.

use std::time::Duration;

/// Raises the number of files that this process may have open to what the system allows: each connection is one, and the usual
/// limit is 1,024. Returns the number in force.
#[cfg(unix)]
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without the right to it, what there was stays.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// There is no such limit here.
#[cfg(not(unix))]
pub fn raise_file_limit() -> u64 {
    u64::MAX
}

/// Bytes of memory in use.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Processor time spent, user and system.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; behind it, times are the 12th and 13th field.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // The unit is a hundredth of a second on every Linux that is.
    Some(Duration::from_millis((user + system) * 10))
}

/// Processor time over the time `running`, in percent of one core.
#[must_use]
pub fn cpu_percent(running: Duration) -> Option<f64> {
    if running.is_zero() {
        return None;
    }
    let percent = cpu_time()?.as_secs_f64() / running.as_secs_f64() * 100.0;
    Some((percent * 10.0).round() / 10.0)
}

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_time() {
        assert!(resident_bytes().unwrap() > 100_000);
        let before = cpu_time().unwrap();
        let mut sum = 0u64;
        while cpu_time().unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_percent(Duration::from_secs(1)).unwrap() > 0.0);
    }
}
