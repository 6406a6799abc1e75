//! `navarch down`: everything that runs ends, everything that was made on the host goes. What cannot be removed does not keep the
//! rest from going; it is told at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use crate::state::{self, State};
use crate::{Cluster, ClusterError, Progress, Result, Wire, kubeconfig, processes};

/// How long the server, and then the containers, may take to end by themselves.
const SERVER_PATIENCE: Duration = Duration::from_secs(20);
const POD_PATIENCE: Duration = Duration::from_secs(5);

/// Stops the cluster; with `purge` its data go too. False when there was nothing to do.
pub async fn down(cluster: &Cluster, purge: bool, wire: &dyn Wire, progress: Progress<'_>) -> Result<bool> {
    let Some(mut known) = State::load(cluster)? else {
        if cluster.dir.join("server/db").exists() {
            return Err(ClusterError::Foreign { dir: cluster.dir.clone() });
        }
        return Ok(false);
    };
    if !nix::unistd::geteuid().is_root() {
        return Err(ClusterError::Preflight(vec![crate::preflight::Problem {
            id: "HOST-NOT-ROOT",
            what: "only root can take a node down".into(),
            advice: "run it as root (sudo)".into(),
        }]));
    }
    let lock = state::work_lock(cluster)?;
    let mut left = Vec::new();
    if let Some(server) = state::server(cluster) {
        processes::end(&[server], SERVER_PATIENCE);
        if server.is_alive() {
            left.push("the server goes on running".to_owned());
        }
    }
    let sandboxes = pods(cluster, &mut left);
    let told = if sandboxes == 0 { String::new() } else { format!("{sandboxes} pods ended") };
    progress("server", "stopped", &told);
    unmount(&cluster.dir, &mut left);
    if let Err(error) = wire.cut(Some(&cluster.namespace()), &cluster.host_link()).await {
        left.push(format!("the network: {}", base::Chain(&error)));
    }
    for path in [cluster.run_dir(), cluster.run_root.clone()] {
        remove_if_empty(&path);
    }
    if let Some(merged) = known.merged.take() {
        match kubeconfig::remove(&cluster.context(), &merged) {
            Ok(()) => known.save(cluster)?,
            Err(error) => left.push(base::Chain(&error).to_string()),
        }
    }
    progress("network", "removed", "");
    if purge && left.is_empty() {
        drop(lock);
        fs::remove_dir_all(&cluster.dir).map_err(ClusterError::io(format!("remove {}", cluster.dir.display())))?;
        progress("data", "removed", &cluster.dir.display().to_string());
    }
    if left.is_empty() { Ok(true) } else { Err(ClusterError::Left(left)) }
}

/// Ends containers and their shims, and removes their control groups; how many shims there were.
fn pods(cluster: &Cluster, left: &mut Vec<String>) -> usize {
    let group = linux::cgroup::Cgroup::new(&cgroup(cluster));
    let shims = processes::shims(&cluster.dir.join("run/sandboxes"));
    let containers: Vec<_> = group.processes().into_iter().filter_map(processes::Process::of).collect();
    let containers: Vec<_> = containers.into_iter().filter(|p| !shims.contains(p)).collect();
    // The shims write down how their containers ended; so they go last.
    processes::end(&containers, POD_PATIENCE);
    processes::end(&shims, Duration::ZERO);
    group.kill();
    if let Err(error) = group.remove() {
        left.push(format!("the control group {}: {error}", cgroup(cluster)));
    }
    shims.len()
}

/// The control group of a cluster's node.
fn cgroup(cluster: &Cluster) -> String {
    format!("/navarch-{}", cluster.context())
}

/// Unmounts everything below `dir`, the latest first.
fn unmount(dir: &Path, left: &mut Vec<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mounts_below(&table, dir).iter().rev() {
        if let Err(error) = umount2(point, MntFlags::MNT_DETACH)
            && error != nix::errno::Errno::EINVAL
        {
            left.push(format!("the mount {}: {error}", point.display()));
        }
    }
}

/// Mount points below `dir` in the order of the table.
fn mounts_below(table: &str, dir: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p)));
    points.filter(|p| p != dir && p.starts_with(dir)).collect()
}

/// `\040` is a space.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        match octal.filter(|_| *first == b'\\') {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The last of the clusters takes the directory with it.
fn remove_if_empty(dir: &Path) {
    let others = fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| entry.file_name() != "lock");
    if !others {
        // Not there, or used again this moment: both are fine.
        let _ = fs::remove_file(dir.join("lock"));
        let _ = fs::remove_dir(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_directory() {
        let table = "1 0 0:1 / / rw\n2 1 0:2 / /data rw\n3 2 0:3 / /data/a\\040b rw\n4 2 0:3 / /data2 rw\n5 3 0:3 / /data/a\\040b/c rw\n";
        assert_eq!(mounts_below(table, Path::new("/data")), [Path::new("/data/a b"), Path::new("/data/a b/c")]);
        assert_eq!(unescape("a\\04"), "a\\04");
    }
}
