//! Readings of the machine this runs on, from `/proc`: CPU, memory, disk, network.
//!
//! Parsers take the text and read no file, so they are tested with texts. A part that this machine does not have (no
//! disk in a container, no `/proc` at all) is absent from the readings; it is never made up.

use std::path::PathBuf;
use std::time::Duration;

/// Counters as the kernel has them, since the machine's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Time the CPUs have spent.
    pub(crate) cpu: Option<Cpu>,
    /// Memory now.
    pub(crate) memory: Option<Memory>,
    /// Bytes to and from whole disks.
    pub(crate) disk: Option<Flow>,
    /// Bytes through all interfaces but the loopback.
    pub(crate) network: Option<Flow>,
}

/// Time of all CPUs together, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpu {
    /// Ticks that were worked.
    pub(crate) busy: u64,
    /// All ticks.
    pub(crate) total: u64,
}

/// Memory in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What the machine has.
    pub(crate) total_kib: u64,
    /// What could be given out without swapping.
    pub(crate) available_kib: u64,
}

/// Bytes in two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flow {
    /// Read or received.
    pub(crate) in_bytes: u64,
    /// Written or sent.
    pub(crate) out_bytes: u64,
}

/// What changed between two readings of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Readings {
    /// Share of the CPUs' time that was worked, 0 to 1.
    pub(crate) cpu_busy: Option<f64>,
    /// Memory now.
    pub(crate) memory: Option<Memory>,
    /// Bytes per second from and to disks.
    pub(crate) disk: Option<Flow>,
    /// Bytes per second received and sent.
    pub(crate) network: Option<Flow>,
}

/// Reads the counters and remembers the last ones.
#[derive(Debug)]
pub(crate) struct Machine {
    folder: PathBuf,
    last: Option<(Duration, Counters)>,
}

impl Machine {
    /// The machine behind a `/proc` folder.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), last: None }
    }

    /// Reads the counters; `now` is monotonic. Rates are those since the last reading, and absent in the first one.
    pub(crate) fn read(&mut self, now: Duration) -> Readings {
        let text = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        let counters = Counters {
            cpu: text("stat").as_deref().and_then(parse_stat),
            memory: text("meminfo").as_deref().and_then(parse_meminfo),
            disk: text("diskstats").as_deref().and_then(parse_diskstats),
            network: text("net/dev").as_deref().and_then(parse_net_dev),
        };
        let before = self.last.replace((now, counters));
        match before {
            Some((then, before)) => between(&before, &counters, now.saturating_sub(then)),
            None => Readings { memory: counters.memory, ..Readings::default() },
        }
    }
}

/// The readings that two states of the counters, `span` apart, come to.
fn between(before: &Counters, after: &Counters, span: Duration) -> Readings {
    let cpu_busy = before.cpu.zip(after.cpu).and_then(|(before, after)| {
        let total = after.total.checked_sub(before.total).filter(|ticks| *ticks > 0)?;
        Some(ratio(after.busy.saturating_sub(before.busy).min(total), total))
    });
    let rate = |before: Option<Flow>, after: Option<Flow>| {
        let (before, after) = before.zip(after)?;
        let per_second = |before: u64, after: u64| {
            let bytes = u128::from(after.saturating_sub(before));
            let rate = bytes.checked_mul(1_000_000_000)?.checked_div(span.as_nanos())?;
            u64::try_from(rate).ok()
        };
        Some(Flow {
            in_bytes: per_second(before.in_bytes, after.in_bytes)?,
            out_bytes: per_second(before.out_bytes, after.out_bytes)?,
        })
    };
    Readings {
        cpu_busy,
        memory: after.memory,
        disk: rate(before.disk, after.disk),
        network: rate(before.network, after.network),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// The first line of `/proc/stat`: `cpu  user nice system idle iowait irq softirq steal guest guest_nice`.
///
/// Guest time is inside user time already; waiting for a disk is not work.
fn parse_stat(text: &str) -> Option<Cpu> {
    let mut fields =
        text.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace().map(str::parse::<u64>);
    let mut total: u64 = 0;
    let mut idle: u64 = 0;
    for index in 0..8 {
        let ticks = match fields.next() {
            Some(field) => field.ok()?,
            // Old kernels have four fields.
            None if index >= 4 => break,
            None => return None,
        };
        total = total.checked_add(ticks)?;
        if matches!(index, 3 | 4) {
            idle = idle.checked_add(ticks)?;
        }
    }
    Some(Cpu { busy: total.checked_sub(idle)?, total })
}

/// `MemTotal` and `MemAvailable` of `/proc/meminfo`.
fn parse_meminfo(text: &str) -> Option<Memory> {
    let value = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory { total_kib: value("MemTotal")?, available_kib: value("MemAvailable")? })
}

/// The sum over the whole disks in `/proc/diskstats`: field 6 and 10 are sectors (512 bytes) read and written.
///
/// Partitions, loop devices, RAM disks and device-mapper volumes are left out, or their bytes would count twice.
fn parse_diskstats(text: &str) -> Option<Flow> {
    let mut sum: Option<Flow> = None;
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some(name) = fields.nth(2) else { continue };
        if !is_whole_disk(name) {
            continue;
        }
        let read = fields.nth(2).and_then(|field| field.parse::<u64>().ok());
        let written = fields.nth(3).and_then(|field| field.parse::<u64>().ok());
        if let Some((read, written)) = read.zip(written) {
            let flow = sum.get_or_insert_default();
            flow.in_bytes = flow.in_bytes.saturating_add(read.saturating_mul(512));
            flow.out_bytes = flow.out_bytes.saturating_add(written.saturating_mul(512));
        }
    }
    sum
}

fn is_whole_disk(name: &str) -> bool {
    let letters = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase()))
    };
    // nvme0n1 is a disk, nvme0n1p2 a partition; the same with mmcblk0 and mmcblk0p1.
    let numbered = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| !rest.contains('p'));
    letters("sd")
        || letters("vd")
        || letters("xvd")
        || letters("hd")
        || numbered("nvme")
        || numbered("mmcblk")
}

/// The sum over the interfaces in `/proc/net/dev` but `lo`: field 1 and 9 after the colon are bytes.
fn parse_net_dev(text: &str) -> Option<Flow> {
    let mut sum: Option<Flow> = None;
    for line in text.lines() {
        let Some((name, counts)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let mut fields = counts.split_whitespace().map(str::parse::<u64>);
        if let (Some(Ok(received)), Some(Ok(sent))) = (fields.next(), fields.nth(7)) {
            let flow = sum.get_or_insert_default();
            flow.in_bytes = flow.in_bytes.saturating_add(received);
            flow.out_bytes = flow.out_bytes.saturating_add(sent);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str =
        "cpu  1000 50 300 8000 200 10 40 0 5 0\ncpu0 500 25 150 4000 100 5 20 0 0 0\nintr 1 2\n";
    const MEMINFO: &str =
        "MemTotal:       16384000 kB\nMemFree:          100000 kB\nMemAvailable:    8192000 kB\n";
    const DISKSTATS: &str = "   8       0 sda 100 1 2000 5 200 2 4000 6 0 7 8\n   8       1 sda1 90 1 1900 5 190 2 3900 6 0 7 8\n 259       0 nvme0n1 10 0 8 1 20 0 16 1 0 1 2 0 0 0 0\n 259       1 nvme0n1p1 10 0 8 1 20 0 16 1 0 1 2\n   7       0 loop0 5 0 500 1 0 0 0 0 0 1 1\n 253       0 dm-0 5 0 500 1 0 0 500 0 0 1 1\n 252       0 vda 1 0 2 0 1 0 4 0 0 0 0\n";
    const NET_DEV: &str = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo: 9999 10 0 0 0 0 0 0 9999 10 0 0 0 0 0 0\n  eth0:1000 20 0 0 0 0 0 0 2000 30 0 0 0 0 0 0\n wlan0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";

    #[test]
    fn cpu_counts_work_and_not_waiting() {
        assert_eq!(parse_stat(STAT), Some(Cpu { busy: 1400, total: 9600 }));
        assert_eq!(parse_stat("cpu  1 2 3 4\n"), Some(Cpu { busy: 6, total: 10 }));
        for bad in ["", "cpu  1 2 3\n", "cpu  a 2 3 4\n", "cpu0 1 2 3 4\n"] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn memory_is_what_could_be_given_out() {
        assert_eq!(parse_meminfo(MEMINFO), Some(Memory { total_kib: 16_384_000, available_kib: 8_192_000 }));
        assert_eq!(parse_meminfo("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn disks_count_once() {
        let sectors = Flow { in_bytes: 2000 + 8 + 2, out_bytes: 4000 + 16 + 4 };
        let bytes = Flow { in_bytes: sectors.in_bytes * 512, out_bytes: sectors.out_bytes * 512 };
        assert_eq!(parse_diskstats(DISKSTATS), Some(bytes));
        assert_eq!(parse_diskstats("   7 0 loop0 5 0 500 1 0 0 0 0 0 1 1\n"), None);
        assert_eq!(parse_diskstats("8 0 sda 1 2\n"), None);
    }

    #[test]
    fn the_loopback_is_no_network() {
        assert_eq!(parse_net_dev(NET_DEV), Some(Flow { in_bytes: 1005, out_bytes: 2007 }));
        assert_eq!(parse_net_dev("lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n"), None);
    }

    #[test]
    fn rates_are_differences_over_time() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("net")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("stat", STAT);
        write("meminfo", MEMINFO);
        write("net/dev", NET_DEV);
        let mut machine = Machine::new(folder.path());
        let first = machine.read(Duration::from_secs(10));
        assert_eq!((first.cpu_busy, first.network), (None, None));
        assert_eq!(first.memory.unwrap().total_kib, 16_384_000);

        write("stat", "cpu  1030 50 300 8070 200 10 40 0\n");
        write("net/dev", "eth0: 1505 0 0 0 0 0 0 0 2107 0\n");
        let second = machine.read(Duration::from_millis(10_500));
        assert!((second.cpu_busy.unwrap() - 0.3).abs() < 1e-9, "{second:?}");
        assert_eq!(second.network, Some(Flow { in_bytes: 1000, out_bytes: 200 }));
        assert_eq!(second.disk, None, "no diskstats, no disk");
    }

    #[test]
    fn counters_that_go_back_give_no_negative_rate() {
        let flow = |bytes| Some(Flow { in_bytes: bytes, out_bytes: bytes });
        let before = Counters { network: flow(100), cpu: parse_stat(STAT), ..Counters::default() };
        let after =
            Counters { network: flow(10), cpu: Some(Cpu { busy: 0, total: 0 }), ..Counters::default() };
        let readings = between(&before, &after, Duration::from_secs(1));
        assert_eq!((readings.network, readings.cpu_busy), (flow(0), None));
        assert_eq!(between(&before, &before, Duration::ZERO).network, None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_a_cpu_and_memory() {
        let mut machine = Machine::new("/proc");
        machine.read(Duration::ZERO);
        let memory = machine.read(Duration::from_secs(1)).memory.unwrap();
        assert!(memory.available_kib <= memory.total_kib && memory.total_kib > 0);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-z0-9 :\n]*") {
            let _ = (parse_stat(&text), parse_meminfo(&text), parse_diskstats(&text), parse_net_dev(&text));
        }
    }
}
