//! What the agent knows of sandboxes and containers: in memory, and as files from which it is read again.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use protos::cri::v1::{ContainerMetadata, PodSandboxMetadata};
use serde::{Deserialize, Serialize};

use crate::link::Link;
use crate::spec::{ContainerSpec, EXIT_FILE, Exit, SPEC_FILE, STARTED_FILE, Started, now, read_json, write_json};

const RECORD_FILE: &str = "record.json";

/// A sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) attempt: u32,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) annotations: HashMap<String, String>,
    pub(crate) created_at: i64,
    pub(crate) ips: Vec<String>,
    pub(crate) host_network: bool,
    #[serde(default)]
    pub(crate) host_ipc: bool,
    #[serde(default)]
    pub(crate) host_pid: bool,
    #[serde(default)]
    pub(crate) shared_pid: bool,
    pub(crate) cgroup_parent: String,
    pub(crate) log_directory: String,
    pub(crate) runtime_handler: String,
    pub(crate) stopped: bool,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) name: String,
    pub(crate) attempt: u32,
    /// A name of the image, or what it was asked for by.
    pub(crate) image: String,
    pub(crate) image_id: String,
    /// `name@digest` of the image; its id when it has none.
    #[serde(default)]
    pub(crate) image_ref: String,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) annotations: HashMap<String, String>,
    pub(crate) created_at: i64,
    pub(crate) log_path: String,
    pub(crate) spec: ContainerSpec,
    #[serde(skip)]
    pub(crate) started: Option<Started>,
    #[serde(skip)]
    pub(crate) exit: Option<Exit>,
}

impl Sandbox {
    pub(crate) fn metadata(&self) -> PodSandboxMetadata {
        PodSandboxMetadata {
            name: self.name.clone(),
            uid: self.uid.clone(),
            namespace: self.namespace.clone(),
            attempt: self.attempt,
        }
    }
}

impl Container {
    pub(crate) fn metadata(&self) -> ContainerMetadata {
        ContainerMetadata { name: self.name.clone(), attempt: self.attempt }
    }
}

/// Everything, and where it lies.
pub(crate) struct State {
    root: PathBuf,
    pub(crate) sandboxes: BTreeMap<String, Sandbox>,
    pub(crate) containers: BTreeMap<String, Container>,
}

impl State {
    /// Reads what is there. Sandboxes whose shim is gone (a reboot, a kill) are stopped, their containers ended.
    pub(crate) fn open(root: &Path) -> std::io::Result<Self> {
        let mut state = Self { root: root.to_owned(), sandboxes: BTreeMap::new(), containers: BTreeMap::new() };
        fs::create_dir_all(state.sandboxes_dir())?;
        for entry in fs::read_dir(state.sandboxes_dir())?.flatten() {
            let dir = entry.path();
            let Some(mut sandbox) = read_json::<Sandbox>(&dir.join(RECORD_FILE)) else {
                // It was never finished; what is left of it goes.
                let _ = nix::mount::umount2(&dir.join(crate::spec::NETNS), nix::mount::MntFlags::MNT_DETACH);
                let _ = fs::remove_dir_all(&dir);
                continue;
            };
            let alive = Link::new(&dir).is_alive();
            if !alive && !sandbox.stopped {
                sandbox.stopped = true;
                write_json(&dir.join(RECORD_FILE), &sandbox)?;
            }
            for entry in fs::read_dir(dir.join("containers")).into_iter().flatten().flatten() {
                let Some(mut container) = read_json::<Container>(&entry.path().join(RECORD_FILE)) else { continue };
                container.started = read_json(&entry.path().join(STARTED_FILE));
                container.exit = read_json(&entry.path().join(EXIT_FILE));
                if !alive && container.started.is_some() && container.exit.is_none() {
                    // Whatever outlived its shim must not run beside what takes its place.
                    linux::cgroup::Cgroup::new(&container.spec.cgroup).kill();
                    let exit = Exit { code: 255, oom: false, at: now(), error: None };
                    write_json(&entry.path().join(EXIT_FILE), &exit)?;
                    container.exit = Some(exit);
                }
                state.containers.insert(container.id.clone(), container);
            }
            state.sandboxes.insert(sandbox.id.clone(), sandbox);
        }
        Ok(state)
    }

    fn sandboxes_dir(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub(crate) fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.sandboxes_dir().join(id)
    }

    pub(crate) fn container_dir(&self, sandbox: &str, id: &str) -> PathBuf {
        self.sandbox_dir(sandbox).join("containers").join(id)
    }

    /// Remembers a sandbox.
    pub(crate) fn put_sandbox(&mut self, sandbox: Sandbox) -> std::io::Result<()> {
        write_json(&self.sandbox_dir(&sandbox.id).join(RECORD_FILE), &sandbox)?;
        self.sandboxes.insert(sandbox.id.clone(), sandbox);
        Ok(())
    }

    /// Remembers a new container.
    pub(crate) fn put_container(&mut self, container: Container) -> std::io::Result<()> {
        let dir = self.container_dir(&container.sandbox, &container.id);
        fs::create_dir_all(&dir)?;
        write_json(&dir.join(SPEC_FILE), &container.spec)?;
        write_json(&dir.join(RECORD_FILE), &container)?;
        self.containers.insert(container.id.clone(), container);
        Ok(())
    }

    /// Looks whether a container has begun or ended since; true when it ended just now.
    pub(crate) fn refresh(&mut self, id: &str) -> bool {
        let Some(container) = self.containers.get(id) else { return false };
        if container.exit.is_some() {
            return false;
        }
        let dir = self.container_dir(&container.sandbox, id);
        let (started, exit) = (read_json(&dir.join(STARTED_FILE)), read_json(&dir.join(EXIT_FILE)));
        let Some(container) = self.containers.get_mut(id) else { return false };
        container.started = started;
        container.exit = exit;
        container.exit.is_some()
    }
}
