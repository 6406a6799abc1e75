//! What the machine says of itself.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Facts that do not change while the kubelet runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cpus: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) swap_bytes: i64,
    /// Pages by size name (`2Mi`), in bytes.
    pub(crate) hugepages: Vec<(String, i64)>,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) architecture: &'static str,
}

impl Machine {
    /// Reads `/proc`, `/sys` and `/etc`.
    pub(crate) fn read() -> Self {
        let meminfo = text("/proc/meminfo");
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
            memory_bytes: meminfo_bytes(&meminfo, "MemTotal"),
            swap_bytes: meminfo_bytes(&meminfo, "SwapTotal"),
            hugepages: hugepages(),
            machine_id: first_of(&["/etc/machine-id", "/var/lib/dbus/machine-id"]),
            system_uuid: first_of(&["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]),
            boot_id: text("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            os_image: os_image(&text("/etc/os-release")),
            architecture: architecture(),
        }
    }
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn first_of(paths: &[&str]) -> String {
    paths.iter().map(|p| text(p).trim().to_owned()).find(|t| !t.is_empty()).unwrap_or_default()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A line of `/proc/meminfo` in bytes.
fn meminfo_bytes(meminfo: &str, name: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}

fn os_image(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map_or_else(|| "Linux".to_owned(), |v| v.trim_matches('"').to_owned())
}

fn hugepages() -> Vec<(String, i64)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kib =
            name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")).and_then(|n| n.parse::<i64>().ok());
        let Some(kib) = kib else { continue };
        let pages: i64 = text(&entry.path().join("nr_hugepages").to_string_lossy()).trim().parse().unwrap_or(0);
        let size =
            if kib % (1024 * 1024) == 0 { format!("{}Gi", kib / 1024 / 1024) } else { format!("{}Mi", kib / 1024) };
        out.push((size, pages * kib * 1024));
    }
    out.sort();
    out
}

/// Space and inodes of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) bytes: i64,
    pub(crate) bytes_free: i64,
    pub(crate) inodes: i64,
    pub(crate) inodes_free: i64,
}

/// The file system that `path` is on.
pub(crate) fn disk(path: &Path) -> Disk {
    let Ok(stat) = statvfs(path) else { return Disk::default() };
    let size = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.fragment_size())).unwrap_or(i64::MAX);
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Disk {
        bytes: size(stat.blocks()),
        bytes_free: size(stat.blocks_available()),
        inodes: count(stat.files()),
        inodes_free: count(stat.files_available()),
    }
}

/// What changes by the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) memory_available: i64,
    pub(crate) pids: i64,
    pub(crate) max_pids: i64,
}

impl Load {
    /// Reads `/proc`.
    pub(crate) fn read() -> Self {
        let threads = text("/proc/loadavg");
        let pids = threads.split_whitespace().nth(3).and_then(|t| t.split('/').nth(1)).and_then(|n| n.parse().ok());
        Self {
            memory_available: meminfo_bytes(&text("/proc/meminfo"), "MemAvailable"),
            pids: pids.unwrap_or(0),
            max_pids: text("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0),
        }
    }
}

/// How busy the machine's processors are.
pub(crate) struct CpuMeter(Mutex<CpuUse>);

/// What a [`CpuMeter`] says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuUse {
    at: Instant,
    /// Time that processors spent on something since the machine started.
    pub(crate) nanoseconds: i64,
    /// How many thousand millionths of a processor were busy lately.
    pub(crate) nano_cores: i64,
}

impl CpuMeter {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(CpuUse { at: Instant::now(), nanoseconds: busy(&text("/proc/stat")), nano_cores: 0 }))
    }

    /// Reads `/proc`; the rate is that since the reading before, if that is not just now.
    pub(crate) fn read(&self) -> CpuUse {
        let mut last = self.0.lock();
        let (at, nanoseconds) = (Instant::now(), busy(&text("/proc/stat")));
        let passed = (at - last.at).as_secs_f64();
        if passed < 1.0 && last.nano_cores > 0 {
            return CpuUse { nanoseconds, ..*last };
        }
        let rate = (nanoseconds - last.nanoseconds) as f64 / passed.max(0.001);
        *last = CpuUse { at, nanoseconds, nano_cores: rate.max(0.0) as i64 };
        *last
    }
}

/// Nanoseconds that `/proc/stat` calls busy. Its unit is a hundredth of a second on every architecture.
fn busy(stat: &str) -> i64 {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks: Vec<i64> = all.unwrap_or("").split_whitespace().map_while(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum::<i64>() * 10_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_busy() {
        assert_eq!(busy("cpu  10 2 30 400 50 6 7 80 0 0\ncpu0 1 2 3\n"), 55 * 10_000_000);
        assert_eq!(busy(""), 0);
        assert!(CpuMeter::new().read().nanoseconds > 0);
    }

    #[test]
    fn files_are_read() {
        assert_eq!(meminfo_bytes("MemTotal:  16 kB\nMemTotalX: 1 kB", "MemTotal"), 16384);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        let machine = Machine::read();
        assert!(machine.cpus > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
        assert!(disk(Path::new("/")).bytes > 0);
        assert!(Load::read().memory_available > 0);
    }
}
