//! What the machine is like, read once.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use super::network::{Route, routes};
use super::{Wanted, nftables, ports};

/// Control groups, whichever version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// `cpu`, `memory` ...; none when nothing is mounted.
    pub controllers: Vec<String>,
}

/// An address that cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address.
    pub address: SocketAddr,
    /// The flag that changes it.
    pub flag: &'static str,
    /// Who has it, in words.
    pub by: String,
}

/// What [`super::check`] decides on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// We are root.
    pub is_root: bool,
    /// File systems and modules that the kernel has, built in, loaded or on the disk; `None` when that cannot be found out.
    pub modules: Option<Vec<String>>,
    /// File systems that are registered.
    pub filesystems: Vec<String>,
    /// nf_tables answers.
    pub has_nftables: bool,
    /// Kinds of namespaces that are not there.
    pub missing_namespaces: Vec<&'static str>,
    /// The control groups.
    pub cgroups: Cgroups,
    /// The process that uses the data directory.
    pub holder: Option<String>,
    /// The data directory is a local cluster's.
    pub is_local: bool,
    /// Room for the data directory.
    pub free_bytes: Option<u64>,
    /// Addresses that are taken.
    pub taken: Vec<Taken>,
    /// The routes of this network namespace.
    pub routes: Vec<Route>,
}

impl Facts {
    /// Reads the machine whose root directory is `root` (`/`, but for tests).
    pub fn gather(root: &Path, wanted: &Wanted) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let kinds = ["mnt", "net", "pid", "uts", "ipc"];
        let taken = wanted.listen.iter().filter_map(|(address, flag)| {
            let by = ports::taken(root, *address)?;
            Some(Taken { address: *address, flag, by })
        });
        Self {
            is_root: nix::unistd::geteuid().is_root(),
            modules: modules(root),
            filesystems: text("proc/filesystems").split_whitespace().map(Into::into).collect(),
            has_nftables: !wanted.agent || nftables::present(),
            missing_namespaces: kinds.into_iter().filter(|k| !root.join("proc/self/ns").join(k).exists()).collect(),
            cgroups: cgroups(root),
            holder: holder(&wanted.data_dir),
            is_local: wanted.data_dir.join(crate::state::FILE).exists(),
            free_bytes: free_bytes(&wanted.data_dir),
            taken: taken.collect(),
            routes: routes(&text("proc/net/route")),
        }
    }

    /// True when it is sure that the kernel has no such module or file system.
    pub(super) fn lacks(&self, module: &str) -> bool {
        !self.filesystems.iter().any(|f| f == module)
            && self.modules.as_ref().is_some_and(|known| !known.iter().any(|m| m == module))
    }
}

/// Names of all modules. A kernel whose modules are nowhere has all it needs built in, or fails at the first use.
fn modules(root: &Path) -> Option<Vec<String>> {
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).ok()?;
    let dir = ["lib/modules", "usr/lib/modules"].map(|d| root.join(d).join(release.trim()));
    let builtin = dir.iter().find_map(|d| fs::read_to_string(d.join("modules.builtin")).ok())?;
    let on_disk = dir.iter().find_map(|d| fs::read_to_string(d.join("modules.dep")).ok()).unwrap_or_default();
    let loaded = fs::read_to_string(root.join("proc/modules")).unwrap_or_default();
    let of_path = |line: &str| {
        let path = line.split(':').next()?;
        Some(path.rsplit('/').next()?.split(".ko").next()?.replace('-', "_"))
    };
    let mut all: Vec<String> = builtin.lines().chain(on_disk.lines()).filter_map(of_path).collect();
    all.extend(loaded.lines().filter_map(|l| l.split(' ').next().map(Into::into)));
    Some(all)
}

fn cgroups(root: &Path) -> Cgroups {
    let at = root.join("sys/fs/cgroup");
    if let Ok(unified) = fs::read_to_string(at.join("cgroup.controllers")) {
        return Cgroups { controllers: unified.split_whitespace().map(Into::into).collect() };
    }
    let mounted = fs::read_dir(&at).into_iter().flatten().flatten().filter(|d| d.path().join("tasks").exists());
    let names = mounted.map(|d| d.file_name().to_string_lossy().into_owned());
    // `cpu,cpuacct` is one mount with two names.
    Cgroups { controllers: names.flat_map(|n| n.split(',').map(str::to_owned).collect::<Vec<_>>()).collect() }
}

/// Who holds the lock of the store in the data directory.
fn holder(data_dir: &Path) -> Option<String> {
    let mut file = File::open(data_dir.join("server/db/lock")).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut pid = String::new();
    file.read_to_string(&mut pid).ok()?;
    Some(pid.trim().to_owned())
}

/// Room on the disk that the directory is on, or will be.
fn free_bytes(data_dir: &Path) -> Option<u64> {
    let present = data_dir.ancestors().find(|d| d.exists())?;
    let disk = nix::sys::statvfs::statvfs(present).ok()?;
    Some(disk.blocks_available() * disk.fragment_size())
}
