//! What a cluster remembers (`cluster.json`), and the locks that say who is at work.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::kubeconfig::Merged;
use crate::processes::Process;
use crate::{Cluster, ClusterError, Result};

/// `cluster.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// The veth pair's network; kept from start to start while it is free.
    pub(crate) network: Option<String>,
    /// The node's address of the last start.
    pub(crate) node_address: Option<String>,
    /// What was changed in the user's kubeconfig.
    pub(crate) merged: Option<Merged>,
}

/// Below the cluster's directory.
pub(crate) const FILE: &str = "cluster.json";
/// Held by the server's process as long as it lives; its process id is in it.
const SERVER_LOCK: &str = "server.lock";
/// Held by an `up` or `down`.
const WORK_LOCK: &str = "work.lock";

impl State {
    /// What is remembered; `None` when there is no cluster.
    pub(crate) fn load(cluster: &Cluster) -> Result<Option<Self>> {
        let path = cluster.dir.join(FILE);
        let failed = || format!("read {}", path.display());
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| ClusterError::io(failed())(e.into())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ClusterError::io(failed())(e)),
        }
    }

    pub(crate) fn save(&self, cluster: &Cluster) -> Result<()> {
        let (path, beside) = (cluster.dir.join(FILE), cluster.dir.join("cluster.json.new"));
        let make = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        make().map_err(ClusterError::io(format!("write {}", path.display())))
    }
}

/// Keeps other `up`s and `down`s of the cluster away until it is dropped.
pub(crate) fn work_lock(cluster: &Cluster) -> Result<File> {
    let path = cluster.dir.join(WORK_LOCK);
    let failed = || format!("lock {}", path.display());
    let file = File::create(&path).map_err(ClusterError::io(failed()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ClusterError::Busy),
        Err(TryLockError::Error(e)) => Err(ClusterError::io(failed())(e)),
    }
}

/// The server's process says that it runs, until it ends, however it ends.
#[derive(Debug)]
pub struct Running {
    /// Held for its lock.
    _lock: File,
}

impl Running {
    /// For the server's process: takes the lock.
    pub fn announce(dir: &Path) -> Result<Self> {
        let path = dir.join(SERVER_LOCK);
        let failed = || format!("lock {}", path.display());
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(ClusterError::io(failed()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ClusterError::Busy),
            Err(TryLockError::Error(e)) => return Err(ClusterError::io(failed())(e)),
        }
        let write = |file: &mut File| file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        write(&mut file).map_err(ClusterError::io(failed()))?;
        Ok(Self { _lock: file })
    }
}

/// The server's process, if it runs.
pub(crate) fn server(cluster: &Cluster) -> Option<Process> {
    let mut text = String::new();
    held(cluster)?.read_to_string(&mut text).ok()?;
    Process::of(text.trim().parse().ok()?)
}

/// True when a server was killed and its last threads have not ended: its files are still locked.
pub(crate) fn is_ending(cluster: &Cluster) -> bool {
    held(cluster).is_some() && server(cluster).is_none()
}

/// The server's lock file when somebody has the lock.
fn held(cluster: &Cluster) -> Option<File> {
    let file = File::open(cluster.dir.join(SERVER_LOCK)).ok()?;
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(file)
}
