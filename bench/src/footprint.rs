//! Rows about what a server takes: memory, disk, time to start, size.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fault::Fault;
use crate::lab::{Lab, Measure, ROOM};
use crate::process;
use crate::sample::{Metric, Sample, to_f64};
use crate::stream::{create, fill, stored};
use crate::target::{Kind, Server, Target};
use crate::wire::Connection;

/// Time for a server to come to rest before its memory is looked at.
const REST: Duration = Duration::from_secs(2);

fn pid(server: &Server) -> Result<u32, Fault> {
    server.pid().ok_or_else(|| Fault::unfit("needs a binary"))
}

/// Memory without and with connections that have one subscription each and say nothing.
pub(crate) struct Memory;

impl Measure for Memory {
    fn run(&mut self, _place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault> {
        const MOST: u64 = 10_000;
        if lab.open_files < MOST + 100 {
            let why = format!("needs {} open files, the limit is {}", MOST + 100, lab.open_files);
            return Err(Fault::unfit(why));
        }
        let server = target.start(lab.folder.path(), false)?;
        let pid = pid(&server)?;
        let mut sample = Sample::new();
        let mut idle = Vec::new();
        for (count, metric) in [(0, Metric::Idle), (1000, Metric::Idle1000), (MOST, Metric::Idle10000)] {
            while (idle.len() as u64) < count {
                let subscription = format!("SUB bench.idle.{} 1\r\n", idle.len());
                let connection = Connection::open_with(server.address(), subscription.as_bytes())
                    .map_err(|error| Fault::failed(format!("connection {}: {error}", idle.len() + 1)))?;
                idle.push(connection.into_stream());
            }
            std::thread::sleep(REST);
            sample.insert(metric, to_f64(process::resident_bytes(pid)?));
        }
        Ok(sample)
    }
}

/// Bytes to the device for messages of 1 KiB that come in groups: from the first of them until the server has ended in
/// an orderly way. What it would write later otherwise, such as from a journal into its database, is among them.
pub(crate) struct Written;

impl Measure for Written {
    fn run(&mut self, _place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault> {
        const MESSAGES: u64 = 200_000;
        const SIZE: usize = 1024;
        /// Nothing is written for so long: what the background had to do is done.
        const QUIET: Duration = Duration::from_secs(4);
        const MOST: Duration = Duration::from_secs(30);
        let server = target.start(lab.folder.path(), false)?;
        let pid = pid(&server)?;
        let _stream = create(&server)?;
        let before = process::written_bytes(pid)?;
        fill(&server, MESSAGES, SIZE)?;
        let filled = Instant::now();
        let mut last = (process::written_bytes(pid)?, Instant::now());
        while last.1.elapsed() < QUIET && filled.elapsed() < MOST {
            std::thread::sleep(Duration::from_millis(100));
            let now = process::written_bytes(pid)?;
            if now > last.0 {
                last = (now, Instant::now());
            }
        }
        process::terminate(pid)?;
        let written = process::written_bytes(pid)? - before;
        let payload = MESSAGES * SIZE as u64;
        Ok(Sample::from([(Metric::Written, to_f64(written) / to_f64(payload))]))
    }
}

/// From the start of the process to the first answer about a large stream, after `kill -9` in the middle of work.
#[derive(Default)]
pub(crate) struct Start {
    /// The store of each target, filled once: by place on the command line.
    stores: Vec<Option<Store>>,
}

struct Store {
    folder: TempDir,
    messages: u64,
}

impl Store {
    fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

impl Measure for Start {
    fn run(&mut self, place: usize, target: &Target, lab: &Lab) -> Result<Sample, Fault> {
        const SIZE: usize = 16;
        /// Published before each kill, so that there is something to recover.
        const FRESH: u64 = 100_000;
        if target.binary().is_none() {
            return Err(Fault::unfit("needs a binary"));
        }
        if self.stores.len() <= place {
            self.stores.resize_with(place + 1, || None);
        }
        let Some(slot) = self.stores.get_mut(place) else { return Err(Fault::failed("no place")) };
        let store = match slot {
            Some(store) => store,
            None => {
                let folder = TempDir::new_in(lab.folder.path())?;
                let store = Store { folder, messages: lab.stored };
                let server = target.start_on(&store.path(), store.folder.path(), false)?;
                let _stream = create(&server)?;
                fill(&server, store.messages, SIZE)?;
                server.kill();
                slot.insert(store)
            }
        };
        let begun = Instant::now();
        let server = target.start_on(&store.path(), store.folder.path(), false)?;
        let found = stored(&server)?;
        let took = begun.elapsed();
        Fault::unless_all("messages after kill -9", store.messages, found)?;
        fill(&server, FRESH, SIZE)?;
        store.messages += FRESH;
        server.kill();
        Ok(Sample::from([(Metric::Start, took.as_secs_f64())]))
    }

    fn room(&self, lab: &Lab, servers: u64) -> u64 {
        /// Twice what a message of 16 B takes on disk.
        const A_MESSAGE: u64 = 160;
        ROOM + lab.stored * A_MESSAGE * servers
    }
}

/// The size of the program's file. Weir's counts only if it needs no other file.
pub(crate) struct Binary;

impl Measure for Binary {
    fn run(&mut self, _place: usize, target: &Target, _lab: &Lab) -> Result<Sample, Fault> {
        let path = target.binary().ok_or_else(|| Fault::unfit("needs a binary"))?;
        let bytes = std::fs::read(path)?;
        if target.kind() == Kind::Weir && wants_interpreter(&bytes) {
            return Err(Fault::unfit("not a static binary"));
        }
        Ok(Sample::from([(Metric::Binary, to_f64(bytes.len() as u64))]))
    }
}

/// Whether an ELF file names a dynamic linker: has a program header of type PT_INTERP. False for what is no 64-bit ELF.
fn wants_interpreter(file: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, length: usize| {
        let bytes = file.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let headers = || {
        let is_elf64 = file.get(..5)? == b"\x7fELF\x02";
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        is_elf64.then_some((table, size, count))
    };
    let Some((table, size, count)) = headers() else { return false };
    (0..count).any(|index| {
        let at = usize::try_from(table.saturating_add(index * size)).unwrap_or(usize::MAX);
        number(at, 4) == Some(PT_INTERP)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_linker_is_seen() {
        // A test binary is linked dynamically unless it was asked to be otherwise.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let linker = memchr::memmem::find(&own, b"/ld-linux").is_some()
            || memchr::memmem::find(&own, b"/ld-musl").is_some();
        assert_eq!(wants_interpreter(&own), linker);
        assert!(!wants_interpreter(b"#!/bin/sh"));
        assert!(!wants_interpreter(b"\x7fELF\x02"));
    }
}
