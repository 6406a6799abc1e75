//! Volumes of pods: set up before containers start, kept up to date while they run, torn down at the end.
//!
//! One file per kind. Setting up is idempotent and is also how live updates happen: the pod worker sets up again when a
//! ConfigMap, a Secret, the pod's labels or a token's age asks for it, and only what differs is written.

mod atomic;
mod config_map;
mod downward;
mod empty_dir;
mod host_path;
pub(crate) mod image;
pub(crate) mod mounter;
mod ownership;
mod projected;
mod secret;
pub(crate) mod subpath;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::Client;

use crate::api::{Pod, Volume};
use crate::config::NodeFacts;
use crate::objects::{Objects, ObjectsError};
use mounter::Mounter;

/// A volume that containers can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
    /// The volume's kind is read-only by nature.
    pub(crate) read_only: bool,
}

/// All volumes of a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct SetUp {
    pub(crate) volumes: HashMap<String, Mounted>,
    /// When tokens want to be renewed (seconds since the epoch).
    pub(crate) renew_at: Option<i64>,
}

/// Why one volume cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume {volume:?} : {cause}")]
pub(crate) struct VolumeError {
    pub(crate) volume: String,
    pub(crate) cause: Cause,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error(transparent)]
    Object(#[from] ObjectsError),
    #[error("{0}")]
    Spec(String),
    #[error("{what} {path}: {error}")]
    Io { what: &'static str, path: String, error: std::io::Error },
    #[error("failed to fetch token: {0}")]
    Token(object::Status),
}

impl Cause {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |error| Self::Io { what, path, error }
    }
}

/// A file that a projection makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    /// Its owner, when it is not root.
    pub(crate) user: Option<u32>,
}

/// Files by relative path.
pub(crate) type Payload = BTreeMap<PathBuf, File>;

/// Sets up and tears down the volumes of this node's pods.
pub(crate) struct Volumes {
    pods_dir: PathBuf,
    mounter: Arc<dyn Mounter>,
    objects: Objects,
    tokens: token::Tokens,
    node: NodeFacts,
}

/// What a volume's room works with.
struct Context<'a> {
    volumes: &'a Volumes,
    pod: &'a Pod,
    ips: &'a [String],
    dir: PathBuf,
}

impl Volumes {
    /// Volumes under `root_dir` (`/var/lib/kubelet`).
    pub(crate) fn new(
        root_dir: &Path,
        mounter: Arc<dyn Mounter>,
        objects: Objects,
        client: Client,
        node: NodeFacts,
    ) -> Self {
        Self { pods_dir: root_dir.join("pods"), mounter, objects, tokens: token::Tokens::new(client), node }
    }

    /// `pods/<uid>`.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir.join(uid)
    }

    /// What mounts.
    pub(crate) fn mounter(&self) -> &Arc<dyn Mounter> {
        &self.mounter
    }

    /// Sets up all volumes of the pod, or brings them up to date.
    pub(crate) async fn set_up(&self, pod: &Pod, ips: &[String]) -> Result<SetUp, VolumeError> {
        let mut out = SetUp::default();
        for volume in &pod.spec.volumes {
            let mounted = self.set_up_one(pod, ips, volume).await;
            let mounted = mounted.map_err(|cause| VolumeError { volume: volume.name.clone(), cause })?;
            out.volumes.insert(volume.name.clone(), mounted);
        }
        out.renew_at = self.tokens.renew_at(&pod.metadata.uid);
        Ok(out)
    }

    async fn set_up_one(&self, pod: &Pod, ips: &[String], volume: &Volume) -> Result<Mounted, Cause> {
        let dir = |plugin: &str| {
            self.pod_dir(&pod.metadata.uid).join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name)
        };
        let context = |plugin: &str| Context { volumes: self, pod, ips, dir: dir(plugin) };
        if let Some(source) = &volume.empty_dir {
            empty_dir::set_up(&context("empty-dir"), source).await
        } else if let Some(source) = &volume.host_path {
            host_path::set_up(source).await
        } else if let Some(source) = &volume.config_map {
            config_map::set_up(&context("configmap"), source).await
        } else if let Some(source) = &volume.secret {
            secret::set_up(&context("secret"), source).await
        } else if let Some(source) = &volume.projected {
            projected::set_up(&context("projected"), source).await
        } else if let Some(source) = &volume.downward_api {
            downward::set_up(&context("downward-api"), source).await
        } else if volume.image.is_some() {
            // Pulled and mounted when a container that mounts it starts.
            Ok(Mounted { path: PathBuf::new(), read_only: true })
        } else {
            let kind = volume.other.keys().next().map_or("no source", String::as_str);
            Err(Cause::Spec(format!("volume type {kind:?} is not supported by this node")))
        }
    }

    /// Unmounts everything below the pod's directory and removes it. Goes on after errors and returns the first.
    pub(crate) async fn tear_down(&self, uid: &str) -> std::io::Result<()> {
        self.tokens.forget(uid);
        let dir = self.pod_dir(uid);
        let mounter = self.mounter.clone();
        let work = move || {
            let mut first = mounter.unmount_below(&dir);
            // A hostPath or subPath bind that would not unmount must never be emptied.
            if first.is_ok() {
                first = match std::fs::remove_dir_all(&dir) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            }
            first
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
    }

    /// Uids of pods that have a directory.
    pub(crate) fn known(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.pods_dir).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    }
}

impl Context<'_> {
    /// Writes `payload` into the volume's directory, on a tmpfs when it holds secrets.
    async fn project(&self, payload: Payload, on_tmpfs: bool) -> Result<Mounted, Cause> {
        let dir = self.dir.clone();
        let mounter = self.volumes.mounter.clone();
        let fs_group = self.pod.spec.security_context.fs_group;
        let work = move || {
            std::fs::create_dir_all(&dir).map_err(Cause::io("cannot create", &dir))?;
            if on_tmpfs && !mounter.is_mount_point(&dir) {
                mounter.tmpfs(&dir, None, 0o1777).map_err(Cause::io("cannot mount a tmpfs at", &dir))?;
            }
            mode(&dir, 0o777)?;
            atomic::write(&dir, &payload, fs_group)?;
            Ok(Mounted { path: dir, read_only: true })
        };
        blocking(work).await
    }
}

/// Sets a directory's mode whatever the umask is.
fn mode(dir: &Path, mode: u32) -> Result<(), Cause> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).map_err(Cause::io("cannot chmod", dir))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Cause> + Send + 'static) -> Result<T, Cause> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Cause::Spec(error.to_string())))
}
