//! Starting sandboxes and containers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protos::cri::v1::{
    CreateContainerRequest, ImageSpec, Mount, MountPropagation, PodSandboxConfig, RemoveContainerRequest,
    RunPodSandboxRequest, StartContainerRequest, StatusRequest,
};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::hooks;
use super::kill;
use super::observed::{Observed, RunState};
use super::plan::{Kill, KillReason};
use super::status::Blocked;
use crate::api::{Container, Pod, VolumeMount};
use crate::clock::go_duration;
use crate::config::{container, env, expand, hosts, sandbox, services};
use crate::events::About;
use crate::images::{PullFailure, Pulled, Wanted};
use crate::shared::Shared;
use crate::volumes::{SetUp, subpath};

/// Why a container did not start, and when to try again (nanoseconds since the epoch; `None`: the usual time).
#[derive(Clone, Debug)]
pub(crate) struct NotStarted {
    pub(crate) blocked: Blocked,
    pub(crate) retry_at: Option<i64>,
}

impl NotStarted {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { blocked: Blocked { reason: reason.into(), message: message.into() }, retry_at: None }
    }
}

/// Everything that starting containers of one pod needs.
pub(crate) struct Starter<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) pod: &'a Arc<Pod>,
    pub(crate) observed: &'a Observed,
    pub(crate) volumes: &'a SetUp,
    pub(crate) sandbox_id: &'a str,
    pub(crate) sandbox: &'a PodSandboxConfig,
    pub(crate) ips: &'a [String],
    /// Images of the pod's volumes by the volume's name: looked for once, when the first container wants one.
    pub(crate) volume_images: OnceCell<HashMap<String, Result<Pulled, PullFailure>>>,
    /// The pod ends meanwhile: give up what takes long.
    pub(crate) stop: &'a CancellationToken,
}

/// The sandbox's configuration at this attempt.
pub(crate) async fn sandbox_config(shared: &Shared, pod: &Pod, attempt: u32) -> Result<PodSandboxConfig, String> {
    let host = tokio::fs::read_to_string(&shared.node.resolv_conf).await.unwrap_or_default();
    sandbox::config(pod, attempt, &shared.node, &host)
}

/// Why a pod that needs the node's pod network cannot have it yet.
pub(crate) async fn network_not_ready(shared: &Shared, pod: &Pod) -> Option<String> {
    if pod.spec.host_network {
        return None;
    }
    let reply = shared.runtime.status(StatusRequest { verbose: false }).await.ok()?;
    let conditions = reply.status.map(|s| s.conditions).unwrap_or_default();
    let network = conditions.into_iter().find(|c| c.r#type == "NetworkReady" && !c.status)?;
    Some(format!(
        "network is not ready: container runtime network not ready: NetworkReady=false reason:{} message:{}",
        network.reason, network.message
    ))
}

/// Runs a sandbox; its id.
pub(crate) async fn run_sandbox(shared: &Shared, pod: &Pod, config: &PodSandboxConfig) -> Result<String, String> {
    let make_dir = std::fs::create_dir_all(&config.log_directory);
    make_dir.map_err(|e| format!("Failed to create log directory for pod {:?}: {e}", pod.full()))?;
    let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    match shared.runtime.run_pod_sandbox(request).await {
        Ok(reply) => Ok(reply.pod_sandbox_id),
        Err(error) => Err(error.to_string()),
    }
}

impl Starter<'_> {
    /// Starts a container unless its back-off says to wait.
    pub(crate) async fn start(&self, container: &Container) -> Result<(), NotStarted> {
        self.check_backoff(container)?;
        let image_volumes = tokio::select! {
            () = self.stop.cancelled() => return Err(NotStarted::new("ContainerCreating", "")),
            pulled = self.image_volumes(container) => pulled?,
        };
        let result = self.create(container, &image_volumes).await;
        let mounts = container.volume_mounts.iter().filter(|m| image_volumes.contains_key(&m.name)).count();
        let has_failed = |e: &NotStarted| {
            e.blocked.reason == "CreateContainerError" && e.blocked.message.starts_with("ImageVolumeMountFailed")
        };
        self.shared.image_volumes.count(image_volumes.len(), mounts, result.as_ref().is_err_and(has_failed));
        result
    }

    /// Pulls the container's image, and makes and starts it.
    async fn create(&self, container: &Container, image_volumes: &HashMap<String, String>) -> Result<(), NotStarted> {
        let wanted = Wanted::of_container(self.pod, container);
        let image = tokio::select! {
            () = self.stop.cancelled() => return Err(NotStarted::new("ContainerCreating", "")),
            pulled = self.shared.puller.ensure(self.pod, &wanted, self.sandbox) => pulled,
        };
        let image = image.map_err(|failure| self.not_pulled(container, failure))?;
        let restart_count = self.restart_count(container);
        let prepared = self.prepare(container, restart_count, image, image_volumes).await;
        let config = prepared.and_then(container::config).map_err(|message| {
            self.failed(container, &message);
            NotStarted::new("CreateContainerConfigError", message)
        })?;
        self.remove_older(container).await;
        let request = CreateContainerRequest {
            pod_sandbox_id: self.sandbox_id.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(self.sandbox.clone()),
        };
        let created = self.shared.runtime.create_container(request).await.map_err(|error| {
            self.failed(container, &error.to_string());
            NotStarted::new("CreateContainerError", error.to_string())
        })?;
        let id = created.container_id;
        let about = || About::container(self.pod, container);
        self.shared.events.normal(about(), "Created", "Container created");
        let request = StartContainerRequest { container_id: id.clone() };
        self.shared.runtime.start_container(request).await.map_err(|error| {
            self.failed(container, &error.to_string());
            NotStarted::new("RunContainerError", error.to_string())
        })?;
        self.shared.events.normal(about(), "Started", "Container started");
        self.link_log(container, &id, &config.log_path);
        self.post_start(container, &id).await
    }

    /// Images of the volumes that the container mounts, by the volume's name.
    async fn image_volumes(&self, container: &Container) -> Result<HashMap<String, String>, NotStarted> {
        let is_image =
            |mount: &&VolumeMount| self.pod.spec.volumes.iter().any(|v| v.name == mount.name && v.image.is_some());
        let mounts: Vec<&VolumeMount> = container.volume_mounts.iter().filter(is_image).collect();
        let mut out = HashMap::new();
        if mounts.is_empty() {
            return Ok(out);
        }
        let images = self.volume_images.get_or_init(|| self.pull_volumes()).await;
        let mut last = None;
        for mount in mounts {
            match images.get(&mount.name) {
                Some(Ok(pulled)) => drop(out.insert(mount.name.clone(), pulled.id.clone())),
                Some(Err(failure)) => last = Some(self.not_pulled(container, failure.clone())),
                None => {}
            }
        }
        last.map_or(Ok(out), Err)
    }

    async fn pull_volumes(&self) -> HashMap<String, Result<Pulled, PullFailure>> {
        let mut out = HashMap::new();
        for volume in &self.pod.spec.volumes {
            let Some(source) = &volume.image else { continue };
            let wanted = Wanted::of_volume(self.pod, source);
            out.insert(volume.name.clone(), self.shared.puller.ensure(self.pod, &wanted, self.sandbox).await);
        }
        out
    }

    fn not_pulled(&self, container: &Container, failure: PullFailure) -> NotStarted {
        self.failed(container, &failure.blocked.reason);
        NotStarted { blocked: failure.blocked, retry_at: failure.retry_at }
    }

    fn failed(&self, container: &Container, message: &str) {
        self.shared.events.warning(About::container(self.pod, container), "Failed", format!("Error: {message}"));
    }

    fn check_backoff(&self, container: &Container) -> Result<(), NotStarted> {
        let exited = self.observed.containers.iter().find(|r| r.name == container.name && r.state == RunState::Exited);
        let Some(exited) = exited else { return Ok(()) };
        let key = format!("{}_{}_{}", self.pod.metadata.uid, container.name, crate::labels::hash(container));
        let now = self.shared.clock.nanos();
        let mut crashes = self.shared.crashes.lock();
        let Some(until) = crashes.waits_since(&key, exited.finished_at, now) else {
            crashes.next(&key, exited.finished_at, now);
            return Ok(());
        };
        let wait = go_duration(crashes.wait(&key));
        let full = self.pod.full();
        let event = format!("Back-off restarting failed container {} in pod {full}", container.name);
        self.shared.events.warning(About::container(self.pod, container), "BackOff", event);
        let message = format!("back-off {wait} restarting failed container={} pod={full}", container.name);
        Err(NotStarted { blocked: Blocked { reason: "CrashLoopBackOff".into(), message }, retry_at: Some(until) })
    }

    /// One more than the last incarnation's; when the runtime forgot it, one more than the newest log's.
    fn restart_count(&self, container: &Container) -> i32 {
        if let Some(last) = self.observed.latest(&container.name) {
            return last.restart_count + 1;
        }
        let dir = Path::new(&self.sandbox.log_directory).join(&container.name);
        let number = |entry: std::fs::DirEntry| -> Option<i32> {
            entry.file_name().to_str()?.split_once(".log")?.0.parse().ok()
        };
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(number).max().map_or(0, |newest| newest + 1)
    }

    async fn prepare<'b>(
        &'b self,
        container: &'b Container,
        restart_count: i32,
        image: Pulled,
        image_volumes: &HashMap<String, String>,
    ) -> Result<container::Prepared<'b>, String> {
        let shared = self.shared;
        let mut synced = shared.services_synced.clone();
        tokio::select! {
            () = self.stop.cancelled() => return Err("the pod is being deleted".into()),
            ready = synced.wait_for(|s| *s) => if ready.is_err() {
                return Err("services have not yet been read at least once, cannot construct envvars".into());
            },
        }
        let namespace = &self.pod.metadata.namespace;
        let links = self.pod.spec.enable_service_links.unwrap_or(true);
        let services = services::environment(&shared.services.list(), namespace, links);
        let sources = env::Sources {
            pod: self.pod,
            ips: self.ips,
            node: &shared.node,
            objects: &shared.objects,
            services: &services,
        };
        let env = env::environment(container, &sources).await.map_err(|e| e.to_string())?;
        let mounts = self.mounts(container, restart_count, &env, image_volumes).await?;
        std::fs::create_dir_all(Path::new(&self.sandbox.log_directory).join(&container.name))
            .map_err(|e| format!("create container log directory for container {} failed: {e}", container.name))?;
        let target_id = match container.target_container_name.as_str() {
            "" => None,
            name => {
                let target = self.observed.running().find(|r| r.name == name);
                Some(target.ok_or_else(|| format!("unable to find target container {name}"))?.id.clone())
            }
        };
        Ok(container::Prepared {
            pod: self.pod,
            container,
            restart_count,
            image_ref: image.id,
            image_user: image.user,
            env,
            mounts,
            target_id,
            seccomp_root: &shared.seccomp_root,
            node: &shared.node,
        })
    }

    async fn mounts(
        &self,
        container: &Container,
        restart_count: i32,
        env: &BTreeMap<String, String>,
        image_volumes: &HashMap<String, String>,
    ) -> Result<Vec<Mount>, String> {
        let pod_dir = self.shared.volumes.pod_dir(&self.pod.metadata.uid);
        let mut out = Vec::new();
        for (index, mount) in container.volume_mounts.iter().enumerate() {
            let volume = self.volumes.volumes.get(&mount.name).ok_or_else(|| {
                format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name)
            })?;
            let sub = match mount.sub_path_expr.as_str() {
                "" => mount.sub_path.clone(),
                text => expand::expand_strictly(text, |name| env.get(name).cloned())?,
            };
            let (host, image, image_sub_path) = match image_volumes.get(&mount.name) {
                Some(id) => (PathBuf::new(), Some(self.image_spec(id, &mount.name)), inside(&sub)?),
                None => {
                    (self.sub_path(container, index, mount, &volume.path, sub, &pod_dir).await?, None, String::new())
                }
            };
            out.push(Mount {
                container_path: absolute(&mount.mount_path),
                host_path: host.to_string_lossy().into_owned(),
                image,
                image_sub_path,
                readonly: mount.read_only || volume.read_only,
                propagation: propagation(mount.mount_propagation.as_deref())?,
                recursive_read_only: mount.recursive_read_only.as_deref() == Some("Enabled"),
                ..Mount::default()
            });
        }
        let at = |path: &str| out.iter().any(|m: &Mount| m.container_path == path);
        let io =
            |what: &str, e: std::io::Error| format!("failed to prepare {what} for container {:?}: {e}", container.name);
        // A pod of the node's network has the address of the node: its hosts file is the node's.
        if !at("/etc/hosts") {
            std::fs::create_dir_all(&pod_dir).map_err(|e| io("/etc/hosts", e))?;
            let file = pod_dir.join("etc-hosts");
            hosts::write(&file, self.pod, self.ips, &self.shared.node.cluster_domain)
                .map_err(|e| io("/etc/hosts", e))?;
            out.push(plain_mount("/etc/hosts", &file));
        }
        let message_path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        if !message_path.is_empty() {
            let dir = pod_dir.join("containers").join(&container.name);
            let file = dir.join(format!("{restart_count:08x}"));
            let make = || -> std::io::Result<()> {
                use std::os::unix::fs::PermissionsExt;
                std::fs::create_dir_all(&dir)?;
                std::fs::write(&file, "")?;
                // Any user of the container may write its last words.
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666))
            };
            make().map_err(|e| io("the termination log", e))?;
            out.push(plain_mount(message_path, &file));
        }
        Ok(out)
    }

    fn image_spec(&self, id: &str, volume: &str) -> ImageSpec {
        let source = self.pod.spec.volumes.iter().find(|v| v.name == volume).and_then(|v| v.image.as_ref());
        ImageSpec {
            image: id.to_owned(),
            user_specified_image: source.map(|s| s.reference.clone()).unwrap_or_default(),
            annotations: self.pod.metadata.annotations.clone().into_iter().collect(),
            ..ImageSpec::default()
        }
    }

    async fn sub_path(
        &self,
        container: &Container,
        index: usize,
        mount: &VolumeMount,
        volume: &Path,
        sub: String,
        pod_dir: &Path,
    ) -> Result<PathBuf, String> {
        if sub.is_empty() {
            return Ok(volume.to_owned());
        }
        let (volume, pod_dir) = (volume.to_owned(), pod_dir.to_owned());
        let (name, of) = (container.name.clone(), mount.name.clone());
        let mounter = self.shared.volumes.mounter().clone();
        let work = move || {
            let place = subpath::Place { pod_dir: &pod_dir, volume: &of, container: &name, index };
            subpath::prepare(&*mounter, &volume, &sub, &place)
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?;
        done.map_err(|error| {
            // The user learns no details of the host's file system.
            tracing::warn!(pod = self.pod.key(), container = container.name, %error, "cannot prepare a subPath");
            format!("failed to prepare subPath for volumeMount {:?} of container {:?}", mount.name, container.name)
        })
    }

    /// Keeps one dead incarnation beside the one that starts now.
    async fn remove_older(&self, container: &Container) {
        let dead = self.observed.containers.iter().filter(|r| {
            r.name == container.name && matches!(r.state, RunState::Exited | RunState::Created | RunState::Unknown)
        });
        for record in dead.skip(1) {
            let request = RemoveContainerRequest { container_id: record.id.clone() };
            if let Err(error) = self.shared.runtime.remove_container(request).await {
                tracing::debug!(container = record.id, %error, "cannot remove an old container");
                continue;
            }
            remove_logs(&record.log_path);
            let _ = std::fs::remove_file(self.link(container, &record.id));
        }
    }

    fn link(&self, container: &Container, id: &str) -> PathBuf {
        let m = &self.pod.metadata;
        self.shared.links_dir.join(format!("{}_{}_{}-{id}.log", m.name, m.namespace, container.name))
    }

    fn link_log(&self, container: &Container, id: &str, log_path: &str) {
        let log = Path::new(&self.sandbox.log_directory).join(log_path);
        if log.exists() {
            // For log collectors only; a node without the directory has none.
            let _ = std::os::unix::fs::symlink(log, self.link(container, id));
        }
    }

    async fn post_start(&self, container: &Container, id: &str) -> Result<(), NotStarted> {
        let Some(hook) = &container.lifecycle.post_start else { return Ok(()) };
        let run = hooks::run(self.shared, self.pod, container, id, hook, self.ips);
        let result = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            result = run => result,
        };
        let Err(message) = result else { return Ok(()) };
        // The message is not in the event: it may quote secrets.
        self.shared.events.warning(
            About::container(self.pod, container),
            "FailedPostStartHook",
            "PostStartHook failed",
        );
        let kill = Kill {
            id: id.to_owned(),
            name: container.name.clone(),
            message: "FailedPostStartHook".into(),
            reason: KillReason::Replaced,
        };
        kill::kill_one(self.shared, self.pod, &kill, self.ips).await;
        Err(NotStarted::new("PostStartHookError", message))
    }
}

/// Removes a log and what was rotated away from it.
pub(crate) fn remove_logs(path: &str) {
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|n| n.starts_with(name)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A part of an image, said as upstream says what leads out of it.
fn inside(sub: &str) -> Result<String, String> {
    if sub.starts_with('/') {
        return Err(format!("error SubPath `{sub}` must not be an absolute path"));
    }
    if sub.split('/').any(|part| part == "..") {
        return Err(format!("unable to provision SubPath `{sub}`: must not contain '..'"));
    }
    Ok(sub.to_owned())
}

fn plain_mount(inside: &str, host: &Path) -> Mount {
    Mount { container_path: inside.to_owned(), host_path: host.to_string_lossy().into_owned(), ..Mount::default() }
}

fn propagation(mode: Option<&str>) -> Result<i32, String> {
    let mode = match mode {
        None | Some("None") => MountPropagation::PropagationPrivate,
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        Some(other) => return Err(format!("invalid MountPropagation mode: {other:?}")),
    };
    Ok(mode as i32)
}
