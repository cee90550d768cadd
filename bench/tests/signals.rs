//! A measurement that is ended by a signal leaves no process and no file behind.

#![expect(clippy::disallowed_methods, reason = "waits for real processes")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Waits for something that takes moments.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

#[test]
fn a_signal_ends_the_servers_and_removes_their_stores() {
    // What these tests were told to ignore (`nohup`, a job in the background) the program ignores, too.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        if ignored >> (signal.as_raw() - 1) & 1 == 1 {
            eprintln!("not tested: {signal:?} is ignored here");
            continue;
        }
        let (programs, stores) = (tempfile::tempdir().unwrap(), tempfile::tempdir_in(".").unwrap());
        let (server, note) = (programs.path().join("server"), programs.path().join("pid"));
        // Says who it is, begins a store, and never answers on its port.
        let script = format!(
            "#!/bin/sh\n[ $1 = --version ] && exec echo nats-server: v0\nmkdir store; echo $$ >{0}.new\n\
             mv {0}.new {0}; exec sleep 1000\n",
            note.display()
        );
        fs::write(&server, script).unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o700)).unwrap();
        let target = format!("nats-server={}", server.display());
        let mut bench = Command::new(env!("CARGO_BIN_EXE_weir-bench"))
            .args(["--a", &target, "--b", &target, "--rows", "binary", "--folder"])
            .arg(stores.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the server is started", || note.exists());
        assert!(!is_empty(stores.path()));
        let pid = Pid::from_raw(fs::read_to_string(&note).unwrap().trim().parse().unwrap()).unwrap();
        kill_process(Pid::from_child(&bench), signal).unwrap();
        assert_eq!(bench.wait().unwrap().code(), Some(code));
        assert!(test_kill_process(pid).is_err(), "the server runs on after {signal:?}");
        assert!(is_empty(stores.path()), "after {signal:?}");
    }
}
