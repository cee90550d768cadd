//! What the kernel says about a process, from `/proc`, and the limits of this one.

use std::io::{Error, Result};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Signal, WaitId, WaitIdOptions, getrlimit, kill_process, setrlimit, waitid,
};

/// A tick of the processor accounting: a hundredth of a second on every Linux that is.
const TICK: Duration = Duration::from_millis(10);

/// Processor time that process `pid` spent so far, user and system, all threads.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let times = || {
        // The name in parentheses may hold anything; behind it, times are the 12th and 13th field.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(TICK * (user + system))
    };
    times().ok_or_else(|| Error::other(format!("/proc/{pid}/stat is not understood")))
}

/// Bytes of memory that process `pid` holds.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    Ok(field(&format!("/proc/{pid}/status"), "VmRSS:")? * 1024)
}

/// Bytes that process `pid` caused to be written to a device so far, those still in the page cache included.
pub(crate) fn written_bytes(pid: u32) -> Result<u64> {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

/// Asks child `pid` to end and waits until it has. It stays a zombie, so that it can still be asked what it wrote.
///
/// # Errors
/// After a minute the child is called one that does not end.
pub(crate) fn terminate(pid: u32) -> Result<()> {
    const MOST: Duration = Duration::from_secs(60);
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::other("no process has such a number"))?;
    kill_process(pid, Signal::TERM)?;
    let begun = Instant::now();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(pid), options)?.is_none() {
        if begun.elapsed() > MOST {
            return Err(Error::other(format!("SIGTERM has not ended it within {} s", MOST.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The signals that this process ignores: signal N is bit N - 1.
pub(crate) fn ignored_signals() -> Result<u64> {
    field_as("/proc/self/status", "SigIgn:", |word| u64::from_str_radix(word, 16).ok())
}

fn field(path: &str, name: &str) -> Result<u64> {
    field_as(path, name, |word| word.parse().ok())
}

fn field_as(path: &str, name: &str, number: impl Fn(&str) -> Option<u64>) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let value = |line: &str| number(line.strip_prefix(name)?.split_ascii_whitespace().next()?);
    text.lines().find_map(value).ok_or_else(|| Error::other(format!("{path} has no {name}")))
}

/// The load averages of the machine, as the kernel writes them.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Processor cores that this process and its children may use.
pub(crate) fn cores() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores).unwrap_or(u16::MAX)
}

/// Model of the processor and number of cores.
pub(crate) fn machine() -> String {
    let cores = cores();
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!("{} x {cores}", model.map_or("unknown processor", |(_, model)| model.trim()))
}

/// Raises the limit of open files to what the system allows; servers started from here inherit it. Returns the limit.
pub(crate) fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused: the former limit holds, and the row that needs more says so.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether files in `folder` live in memory, where a sync costs nothing.
pub(crate) fn in_memory(folder: &Path) -> Result<bool> {
    const TMPFS: i128 = 0x0102_1994;
    const RAMFS: i128 = 0x8584_58f6;
    let kind = i128::from(rustix::fs::statfs(folder)?.f_type);
    Ok(kind == TMPFS || kind == RAMFS)
}

/// Bytes that may still be written in `folder`.
pub(crate) fn free_bytes(folder: &Path) -> Result<u64> {
    let file_system = rustix::fs::statvfs(folder)?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).unwrap() > 100_000);
        assert!(written_bytes(pid).is_ok());
        let before = cpu_time(pid).unwrap();
        let mut sum = 0u64;
        while cpu_time(pid).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }

    #[test]
    fn what_a_child_wrote_can_be_asked_after_its_end() {
        use std::process::{Command, Stdio};

        let file = tempfile::NamedTempFile::new().unwrap();
        if in_memory(file.path()).unwrap() {
            eprintln!("not tested: nothing is written to a device here");
            return;
        }
        // Writes when it is asked to end, not before.
        let script = r#"trap 'printf %01000000d 0 >"$0"; exit' TERM; echo; while :; do sleep 0.01; done"#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(file.path()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let before = written_bytes(child.id()).unwrap();
        terminate(child.id()).unwrap();
        let after = written_bytes(child.id()).unwrap();
        child.wait().unwrap();
        assert!((1_000_000..1_100_000).contains(&(after - before)), "{before} {after}");
    }

    #[test]
    fn a_field_that_is_not_there_is_named() {
        let error = field("/proc/self/status", "NoSuchField:").unwrap_err().to_string();
        assert_eq!(error, "/proc/self/status has no NoSuchField:");
    }
}
