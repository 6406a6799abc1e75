//! Processes of a cluster: found by what they were started for, ended with patience.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process, told from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// The process with this id that runs now (a zombie does not).
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may have spaces and parentheses in it.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        Some(Self { pid, started: fields.nth(18)?.parse().ok()? })
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn signal(self, signal: Signal) {
        if self.is_alive() {
            // Gone meanwhile is what was wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    pub(crate) fn resident_bytes(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("Rss:"));
        line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
    }

    /// Bytes that nobody else shares: what a further one of its kind costs.
    pub(crate) fn private_bytes(self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
        };
        of("Private_Clean:") + of("Private_Dirty:")
    }
}

/// The shims of the sandboxes below `sandboxes`: they have their directory on their command line.
pub(crate) fn shims(sandboxes: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|b| *b == 0).collect();
        let is_ours = words.get(1) == Some(&&b"shim"[..])
            && words.get(2).is_some_and(|dir| {
                let dir = std::str::from_utf8(dir).unwrap_or_default();
                Path::new(dir).starts_with(sandboxes)
            });
        found.extend(is_ours.then(|| Process::of(pid)).flatten());
    }
    found
}

/// Asks all to end, waits, and ends those that did not.
pub(crate) fn end(all: &[Process], patience: Duration) {
    for process in all {
        process.signal(Signal::SIGTERM);
    }
    if wait(all, patience) {
        return;
    }
    for process in all {
        process.signal(Signal::SIGKILL);
    }
    // A process in the middle of a system call needs a moment even so.
    wait(all, Duration::from_secs(10));
}

/// Polls: processes that are not our children cannot be waited for. True when all are gone.
fn wait(all: &[Process], patience: Duration) -> bool {
    let begun = Instant::now();
    while all.iter().any(|p| p.is_alive()) {
        if begun.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Resident memory by command name is not wanted; the sum over these is.
pub(crate) fn private_sum(all: &[Process]) -> u64 {
    let each: HashMap<i32, u64> = all.iter().map(|p| (p.pid, p.private_bytes())).collect();
    each.values().sum()
}
