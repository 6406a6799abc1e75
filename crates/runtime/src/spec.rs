//! What a sandbox and a container are, on disk and between agent and shim.

use std::collections::BTreeMap;
use std::path::PathBuf;

use linux::capabilities::Capabilities;
use serde::{Deserialize, Serialize};

/// A sandbox, as its shim needs it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxSpec {
    pub(crate) hostname: String,
    /// Uses the network of the agent.
    pub(crate) host_network: bool,
    pub(crate) host_ipc: bool,
    pub(crate) host_pid: bool,
    /// All containers share one process namespace.
    pub(crate) shared_pid: bool,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) cgroup_parent: String,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    pub(crate) id: String,
    /// The mounted root file system.
    pub(crate) rootfs: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: User,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) devices: Vec<Device>,
    pub(crate) readonly_rootfs: bool,
    pub(crate) privileged: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privs: bool,
    pub(crate) seccomp: bool,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) oom_score_adj: i64,
    pub(crate) cgroup: String,
    pub(crate) limits: linux::cgroup::Limits,
    /// Absolute; empty for none.
    pub(crate) log_path: PathBuf,
    pub(crate) stop_signal: i32,
    pub(crate) host_pid: bool,
}

/// Who a process runs as.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// A bind mount from the host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) readonly: bool,
    /// 0 private, 1 from the host, 2 both ways: as the CRI numbers them.
    pub(crate) propagation: i32,
    /// The image that is mounted at `source`; empty for what is the host's own.
    #[serde(default)]
    pub(crate) image: String,
    /// Which part of the image.
    #[serde(default)]
    pub(crate) image_sub_path: String,
}

/// A device node of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) oom: bool,
    /// Nanoseconds since the epoch.
    pub(crate) at: i64,
    /// Why it could not start, if it could not.
    pub(crate) error: Option<String>,
}

/// That a container runs, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) at: i64,
}

/// What the agent asks a shim; one JSON line. Descriptors travel beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Start the container whose spec is in the container's directory.
    Start { id: String },
    /// Run a command in a container. The descriptors are stdin, stdout, stderr; with a terminal the reply brings its master instead.
    Exec { id: String, args: Vec<String>, tty: bool },
    /// Copies of a container's output go to the descriptors; the reply brings its stdin (or terminal).
    Attach { id: String },
    /// Say when the container ends ([`Answer::Exited`]); at once if it has.
    Wait { id: String },
    /// Signal the container's first process.
    Signal { id: String, signal: i32 },
    /// Open the log file anew.
    ReopenLog { id: String },
    /// Begin to connect to a port on the sandbox's loopback; the reply brings the socket, which may still be at it.
    Connect {
        port: u16,
        #[serde(default)]
        v6: bool,
    },
    /// Forget a container that has ended.
    Forget { id: String },
    /// End when no container is left running.
    Quit,
}

/// A shim's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// The process runs; an exec's exit follows as [`Answer::Exited`] on the same connection.
    Running {
        pid: i32,
    },
    Exited {
        code: i32,
    },
    Failed {
        message: String,
    },
}

pub(crate) const SPEC_FILE: &str = "spec.json";
pub(crate) const STARTED_FILE: &str = "started.json";
pub(crate) const EXIT_FILE: &str = "exit.json";
pub(crate) const SOCKET: &str = "shim.sock";
pub(crate) const NETNS: &str = "netns";
pub(crate) const PID_FILE: &str = "shim.pid";

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Writes a file whole: beside, then renamed.
pub(crate) fn write_json<T: Serialize>(path: &std::path::Path, value: &T) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(value)?)?;
    std::fs::rename(beside, path)
}

/// Reads such a file; `None` when it is missing or torn.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &std::path::Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}
