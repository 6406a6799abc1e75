//! Control groups: one interface over v2 (unified) and v1 (legacy, and hybrid with an empty v2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Limits of a group, in the terms of the OCI and the CRI.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// CPU weight as v1 shares (2 to 262144); 0 for unset.
    pub cpu_shares: u64,
    /// Microseconds of CPU per period; 0 for unset, negative for unlimited.
    pub cpu_quota: i64,
    /// Microseconds of a period.
    pub cpu_period: u64,
    /// Bytes; 0 for unset.
    pub memory: i64,
    /// Processes; 0 for unset.
    pub pids: i64,
    /// `0-1,3`; empty for unset.
    pub cpuset: String,
}

impl Limits {
    /// These limits where they are set, else the others.
    pub fn over(&self, other: &Self) -> Self {
        let or = |own: i64, other: i64| if own == 0 { other } else { own };
        Self {
            cpu_shares: if self.cpu_shares == 0 { other.cpu_shares } else { self.cpu_shares },
            cpu_quota: or(self.cpu_quota, other.cpu_quota),
            cpu_period: if self.cpu_period == 0 { other.cpu_period } else { self.cpu_period },
            memory: or(self.memory, other.memory),
            pids: or(self.pids, other.pids),
            cpuset: if self.cpuset.is_empty() { other.cpuset.clone() } else { self.cpuset.clone() },
        }
    }
}

/// Usage of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of CPU since the group was made.
    pub cpu_nanos: u64,
    /// Bytes in use.
    pub memory_bytes: u64,
    /// Bytes in use without cold page cache.
    pub working_set_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// How this host has its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy.
    V2,
    /// A hierarchy per controller.
    V1,
}

/// What is mounted at `/sys/fs/cgroup`.
pub fn version() -> Version {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { Version::V2 } else { Version::V1 }
}

/// v1 hierarchies that containers are put into.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "freezer", "devices", "blkio"];

/// A group, by its path below the root (`/kubepods/burstable/pod1/abc`).
#[derive(Clone, Debug)]
pub struct Cgroup {
    path: String,
    version: Version,
}

impl Cgroup {
    /// The group at `path`; nothing is made yet.
    pub fn new(path: &str) -> Self {
        Self { path: path.trim_matches('/').to_owned(), version: version() }
    }

    fn dirs(&self) -> Vec<(&'static str, PathBuf)> {
        let root = Path::new("/sys/fs/cgroup");
        match self.version {
            Version::V2 => vec![("", root.join(&self.path))],
            Version::V1 => {
                let present = CONTROLLERS.iter().filter(|c| root.join(c).is_dir());
                present.map(|c| (*c, root.join(c).join(&self.path))).collect()
            }
        }
    }

    fn dir(&self, controller: &str) -> Option<PathBuf> {
        let mut dirs = self.dirs().into_iter();
        dirs.find(|(c, _)| self.version == Version::V2 || *c == controller).map(|(_, dir)| dir)
    }

    fn write(&self, controller: &str, file: &str, value: &str) -> io::Result<()> {
        let Some(dir) = self.dir(controller) else { return Ok(()) };
        let path = dir.join(file);
        fs::write(&path, value)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot write {value} to {}: {e}", path.display())))
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir(controller)?.join(file)).ok()?.trim().parse().ok()
    }

    fn field(&self, controller: &str, file: &str, field: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir(controller)?.join(file)).ok()?;
        text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Makes the group and its parents.
    pub fn create(&self) -> io::Result<()> {
        for (controller, dir) in self.dirs() {
            if self.version == Version::V2 {
                self.delegate()?;
            }
            fs::create_dir_all(&dir)
                .map_err(|e| io::Error::new(e.kind(), format!("cannot create the cgroup {}: {e}", dir.display())))?;
            if controller == "cpuset" {
                self.inherit_cpuset(&dir)?;
            }
        }
        Ok(())
    }

    /// v2: every group above must hand its controllers down.
    fn delegate(&self) -> io::Result<()> {
        let mut dir = PathBuf::from("/sys/fs/cgroup");
        for part in self.path.split('/') {
            fs::create_dir_all(&dir)?;
            for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io"] {
                // A controller that is missing or busy is one less; limits that need it fail by name.
                let _ = fs::write(dir.join("cgroup.subtree_control"), controller);
            }
            dir.push(part);
        }
        Ok(())
    }

    /// v1: a cpuset group is unusable until it has CPUs and memory nodes.
    fn inherit_cpuset(&self, dir: &Path) -> io::Result<()> {
        let root = Path::new("/sys/fs/cgroup/cpuset");
        let Ok(relative) = dir.strip_prefix(root) else { return Ok(()) };
        let mut at = root.to_path_buf();
        for part in relative.components() {
            let parent = at.clone();
            at.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if fs::read_to_string(at.join(file)).is_ok_and(|v| v.trim().is_empty()) {
                    fs::write(at.join(file), fs::read_to_string(parent.join(file))?.trim())?;
                }
            }
        }
        Ok(())
    }

    /// Sets limits; zero fields stay as they are.
    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        match self.version {
            Version::V2 => self.limit_v2(limits),
            Version::V1 => self.limit_v1(limits),
        }
    }

    fn limit_v1(&self, limits: &Limits) -> io::Result<()> {
        if limits.cpu_shares > 0 {
            self.write("cpu", "cpu.shares", &limits.cpu_shares.to_string())?;
        }
        if limits.cpu_period > 0 && limits.cpu_quota != 0 {
            self.write("cpu", "cpu.cfs_period_us", &limits.cpu_period.to_string())?;
            self.write("cpu", "cpu.cfs_quota_us", &limits.cpu_quota.to_string())?;
        }
        if limits.memory > 0 {
            let value = limits.memory.to_string();
            // Raising: the sum with swap first; lowering: memory first. One of the two orders works.
            let swap = |value: &str| self.write("memory", "memory.memsw.limit_in_bytes", value);
            let swapped = swap(&value);
            self.write("memory", "memory.limit_in_bytes", &value)?;
            if swapped.is_err() {
                // A host without swap accounting has no such file; then there is nothing to limit.
                let _ = swap(&value);
            }
        }
        if limits.pids > 0 {
            self.write("pids", "pids.max", &limits.pids.to_string())?;
        }
        if !limits.cpuset.is_empty() {
            self.write("cpuset", "cpuset.cpus", &limits.cpuset)?;
        }
        Ok(())
    }

    fn limit_v2(&self, limits: &Limits) -> io::Result<()> {
        if limits.cpu_shares > 0 {
            let shares = limits.cpu_shares.clamp(2, 262_144);
            self.write("cpu", "cpu.weight", &(1 + (shares - 2) * 9999 / 262_142).to_string())?;
        }
        if limits.cpu_period > 0 && limits.cpu_quota != 0 {
            let quota = if limits.cpu_quota < 0 { "max".to_owned() } else { limits.cpu_quota.to_string() };
            self.write("cpu", "cpu.max", &format!("{quota} {}", limits.cpu_period))?;
        }
        if limits.memory > 0 {
            self.write("memory", "memory.max", &limits.memory.to_string())?;
            // No swap beyond the limit; a kernel without swap has no such file.
            let _ = self.write("memory", "memory.swap.max", "0");
        }
        if limits.pids > 0 {
            self.write("pids", "pids.max", &limits.pids.to_string())?;
        }
        if !limits.cpuset.is_empty() {
            self.write("cpuset", "cpuset.cpus", &limits.cpuset)?;
        }
        Ok(())
    }

    /// Moves a process in; 0 is the caller.
    pub fn enter(&self, pid: u32) -> io::Result<()> {
        for (_, dir) in self.dirs() {
            let path = dir.join("cgroup.procs");
            fs::write(&path, pid.to_string())
                .map_err(|e| io::Error::new(e.kind(), format!("cannot enter {}: {e}", path.display())))?;
        }
        Ok(())
    }

    /// The processes in the group and below.
    pub fn processes(&self) -> Vec<i32> {
        fn collect(dir: &Path, all: &mut Vec<i32>) {
            let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            all.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()));
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    collect(&entry.path(), all);
                }
            }
        }
        let mut all = Vec::new();
        if let Some(dir) = self.dir("pids").or_else(|| self.dir("memory")) {
            collect(&dir, &mut all);
        }
        all
    }

    /// Kills everything in the group and below.
    pub fn kill(&self) {
        for pid in self.processes() {
            // Gone already is fine.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// Removes the group and those below. Waits a moment for processes that are dying. Missing is fine.
    pub fn remove(&self) -> io::Result<()> {
        let mut last = Ok(());
        for (_, dir) in self.dirs() {
            for _ in 0..50 {
                last = remove_tree(&dir);
                if last.is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        last
    }

    /// True when the kernel killed something here for want of memory.
    pub fn was_out_of_memory(&self) -> bool {
        let killed = match self.version {
            Version::V2 => self.field("memory", "memory.events", "oom_kill"),
            Version::V1 => self.field("memory", "memory.oom_control", "oom_kill"),
        };
        killed.is_some_and(|n| n > 0)
    }

    /// What the group uses.
    pub fn usage(&self) -> Usage {
        let (cpu, memory, inactive) = match self.version {
            Version::V2 => (
                self.field("cpu", "cpu.stat", "usage_usec").map(|u| u * 1000),
                self.number("memory", "memory.current"),
                self.field("memory", "memory.stat", "inactive_file"),
            ),
            Version::V1 => (
                self.number("cpuacct", "cpuacct.usage"),
                self.number("memory", "memory.usage_in_bytes"),
                self.field("memory", "memory.stat", "total_inactive_file"),
            ),
        };
        let memory = memory.unwrap_or(0);
        Usage {
            cpu_nanos: cpu.unwrap_or(0),
            memory_bytes: memory,
            working_set_bytes: memory.saturating_sub(inactive.unwrap_or(0)),
            pids: self.number("pids", "pids.current").unwrap_or(0),
        }
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_groups_go_away() {
        let group = Cgroup::new(&format!("navarch-test-{}/a", std::process::id()));
        group.create().expect("this test needs root");
        let limits = Limits {
            cpu_shares: 512,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            memory: 64 << 20,
            pids: 32,
            ..Limits::default()
        };
        group.limit(&limits).unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        group.enter(child.id()).unwrap();
        assert_eq!(group.processes(), [i32::try_from(child.id()).unwrap()]);
        assert_eq!(group.usage().pids, 1);
        group.kill();
        child.wait().unwrap();
        Cgroup::new(&format!("navarch-test-{}", std::process::id())).remove().unwrap();
        assert!(group.processes().is_empty());
        assert!(!group.was_out_of_memory());
    }
}
