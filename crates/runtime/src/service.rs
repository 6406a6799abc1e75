//! The CRI's runtime service.

mod life;
mod report;

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use protos::cri::v1::*;
use protos::cri::{Code, Duplex, Error, Result, RuntimeService, Session};
use tokio::io::AsyncReadExt;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::convert;
use crate::spec::{Ask, NETNS, SPEC_FILE, SandboxSpec, now, read_json, write_json};
use crate::state::{Sandbox, State};
use crate::streams;

/// Output of a command that is waited for is cut here.
const MOST_OUTPUT: u64 = 16 << 20;
/// Events that a slow listener may miss.
const EVENTS: usize = 1024;

/// The image's own settings that a container starts from (OCI image configuration).
#[derive(Clone, Debug, Default)]
pub struct ImageConfig {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// What is run.
    pub entrypoint: Vec<String>,
    /// Its arguments, or what is run when there is no entrypoint.
    pub cmd: Vec<String>,
    /// `user`, `uid`, `user:group`; empty for root.
    pub user: String,
    /// Working directory; empty for `/`.
    pub working_dir: String,
    /// `SIGQUIT`; empty for SIGTERM.
    pub stop_signal: String,
}

/// A root file system that is ready.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Where it is mounted.
    pub path: PathBuf,
    /// The image's id (`sha256:...`).
    pub image_id: String,
    /// Its names with a tag (`docker.io/library/nginx:1.22`).
    pub tags: Vec<String>,
    /// Its names with a digest.
    pub digests: Vec<String>,
    /// The image's settings.
    pub config: ImageConfig,
}

/// Makes root file systems out of images.
#[async_trait]
pub trait Rootfs: Send + Sync {
    /// A fresh writable root for the container, or the one that it has (mounted anew if need be).
    async fn prepare(&self, container_id: &str, image: &str) -> Result<Prepared>;
    /// Where `sub` (empty: all) of another image is mounted, read-only, for that container.
    async fn mount_image(&self, container_id: &str, image: &str, sub: &str) -> Result<PathBuf>;
    /// Unmounts and removes it, images that were mounted for it too. Idempotent.
    async fn remove(&self, container_id: &str) -> Result<()>;
}

/// Connects sandboxes.
#[async_trait]
pub trait Network: Send + Sync {
    /// Connects the namespace at `netns`; the pod's addresses.
    async fn attach(&self, sandbox_id: &str, netns: &Path) -> Result<Vec<IpAddr>>;
    /// Disconnects. Idempotent.
    async fn detach(&self, sandbox_id: &str) -> Result<()>;
    /// Forgets sandboxes that are not among these.
    async fn retain(&self, alive: &HashSet<String>) -> Result<()>;
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Options {
    /// State of sandboxes and containers; must outlive the agent, and lie on a file system that holds sockets.
    pub state_dir: PathBuf,
    /// The program whose `shim` command is [`crate::shim_main`], and arguments before `shim`.
    pub program: PathBuf,
    /// Version that the CRI reports.
    pub version: String,
}

/// The runtime. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    rootfs: Arc<dyn Rootfs>,
    network: Arc<dyn Network>,
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEventResponse>,
    /// Counts ends of containers: wakes who waits for one.
    ended: watch::Sender<u64>,
    waiters: Mutex<JoinSet<()>>,
}

fn io_error(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |e| Error::unknown(format!("cannot {what}: {e}"))
}

fn fresh_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl EmbeddedRuntime {
    /// Reads the state and takes over what runs.
    pub async fn open(options: Options, rootfs: Arc<dyn Rootfs>, network: Arc<dyn Network>) -> Result<Self> {
        let state =
            State::open(&options.state_dir).map_err(io_error(format!("read {}", options.state_dir.display())))?;
        let alive: HashSet<String> =
            state.sandboxes.values().filter(|s| !s.stopped && !s.host_network).map(|s| s.id.clone()).collect();
        network.retain(&alive).await?;
        let running: Vec<(String, String)> = state
            .containers
            .values()
            .filter(|c| c.started.is_some() && c.exit.is_none())
            .map(|c| (c.sandbox.clone(), c.id.clone()))
            .collect();
        let inner = Arc::new(Inner {
            options,
            rootfs,
            network,
            state: Mutex::new(state),
            events: broadcast::Sender::new(EVENTS),
            ended: watch::Sender::new(0),
            waiters: Mutex::default(),
        });
        let runtime = Self { inner };
        for (sandbox, id) in running {
            runtime.follow(&sandbox, &id);
        }
        Ok(runtime)
    }
}

/// The image's name in a container's status: the one that the pod's author meant, else its first.
fn shown_name(asked: &ImageSpec, prepared: &Prepared) -> String {
    let meant = &asked.user_specified_image;
    let is_meant = |tag: &&String| *tag == meant || tag.strip_suffix(meant.as_str()).is_some_and(|t| t.ends_with('/'));
    let name = prepared.tags.iter().find(is_meant).or_else(|| prepared.tags.first());
    name.unwrap_or(&asked.image).clone()
}

#[async_trait]
impl RuntimeService for EmbeddedRuntime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "navarch".into(),
            runtime_version: self.inner.options.version.clone(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse> {
        let condition = |kind: &str| RuntimeCondition { r#type: kind.into(), status: true, ..Default::default() };
        let status = RuntimeStatus { conditions: vec![condition("RuntimeReady"), condition("NetworkReady")] };
        Ok(StatusResponse { status: Some(status), ..Default::default() })
    }

    async fn run_pod_sandbox(&self, req: RunPodSandboxRequest) -> Result<RunPodSandboxResponse> {
        let config = req.config.ok_or_else(|| Error::new(Code::InvalidArgument, "no sandbox config"))?;
        let metadata = config.metadata.clone().unwrap_or_default();
        let spec = convert::sandbox(&config);
        let id = fresh_id();
        let dir = self.inner.state.lock().sandbox_dir(&id);
        fs::create_dir_all(dir.join("containers")).map_err(io_error(format!("create {}", dir.display())))?;
        write_json(&dir.join(SPEC_FILE), &spec).map_err(io_error("write the sandbox's spec"))?;
        convert::write_names(&dir, &config).map_err(io_error("write the sandbox's resolver configuration"))?;
        let mut sandbox = Sandbox {
            id: id.clone(),
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            attempt: metadata.attempt,
            labels: config.labels,
            annotations: config.annotations,
            created_at: now(),
            ips: Vec::new(),
            host_network: spec.host_network,
            host_ipc: spec.host_ipc,
            host_pid: spec.host_pid,
            shared_pid: spec.shared_pid,
            cgroup_parent: spec.cgroup_parent.clone(),
            log_directory: config.log_directory,
            runtime_handler: req.runtime_handler,
            stopped: false,
        };
        let started = async {
            self.start_shim(&dir).await?;
            if !spec.host_network {
                let ips = self.inner.network.attach(&id, &dir.join(NETNS)).await?;
                sandbox.ips = ips.iter().map(ToString::to_string).collect();
            }
            Ok(())
        };
        let started: Result<()> = started.await;
        let recorded = self.inner.state.lock().put_sandbox(sandbox.clone()).map_err(io_error("record the sandbox"));
        if let Err(error) = started.and(recorded) {
            // The cause is what the caller hears; what cannot be undone now is undone at the next start.
            let _ = self.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await;
            return Err(error);
        }
        Ok(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(&self, req: StopPodSandboxRequest) -> Result<StopPodSandboxResponse> {
        match self.sandbox(&req.pod_sandbox_id) {
            Ok(sandbox) if !sandbox.stopped => self.stop_sandbox(&sandbox).await?,
            Ok(_) | Err(_) => {}
        }
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, req: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse> {
        let Ok(sandbox) = self.sandbox(&req.pod_sandbox_id) else { return Ok(RemovePodSandboxResponse {}) };
        let mut errors = Vec::new();
        if let Err(error) = self.stop_sandbox(&sandbox).await {
            errors.push(error.to_string());
        }
        for container in self.containers_of(&sandbox.id) {
            if let Err(error) = self.remove(&container).await {
                errors.push(error.to_string());
            }
        }
        let dir = {
            let mut state = self.inner.state.lock();
            state.sandboxes.remove(&sandbox.id);
            state.sandbox_dir(&sandbox.id)
        };
        if let Err(error) = fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            errors.push(format!("cannot remove {}: {error}", dir.display()));
        }
        if errors.is_empty() { Ok(RemovePodSandboxResponse {}) } else { Err(Error::unknown(errors.join("; "))) }
    }

    async fn pod_sandbox_status(&self, req: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse> {
        let sandbox = self.sandbox(&req.pod_sandbox_id)?;
        Ok(PodSandboxStatusResponse {
            status: Some(report::sandbox_status(&sandbox)),
            containers_statuses: self.containers_of(&sandbox.id).iter().map(report::container_status).collect(),
            timestamp: now(),
            ..Default::default()
        })
    }

    async fn list_pod_sandbox(&self, req: ListPodSandboxRequest) -> Result<ListPodSandboxResponse> {
        let filter = req.filter.unwrap_or_default();
        let state = self.inner.state.lock();
        let items = state.sandboxes.values().filter(|s| report::selects_sandbox(&filter, s)).map(report::sandbox);
        Ok(ListPodSandboxResponse { items: items.collect() })
    }

    async fn create_container(&self, req: CreateContainerRequest) -> Result<CreateContainerResponse> {
        let sandbox = self.sandbox(&req.pod_sandbox_id)?;
        let mut config = req.config.ok_or_else(|| Error::new(Code::InvalidArgument, "no container config"))?;
        if sandbox.stopped {
            return Err(Error::new(Code::FailedPrecondition, "the sandbox is not running"));
        }
        let dir = self.inner.state.lock().sandbox_dir(&sandbox.id);
        let sandbox_spec: SandboxSpec =
            read_json(&dir.join(SPEC_FILE)).ok_or_else(|| Error::unknown("the sandbox has no readable spec"))?;
        let id = fresh_id();
        let image = config.image.clone().unwrap_or_default();
        let prepared = self.inner.rootfs.prepare(&id, &image.image).await?;
        let image = shown_name(&image, &prepared);
        let mounted = self.mount_images(&id, &mut config.mounts).await;
        let record = |()| self.record_container(&id, &sandbox, &sandbox_spec, &config, &prepared, image);
        let made = mounted.and_then(record);
        if let Err(error) = made {
            let _ = self.inner.rootfs.remove(&id).await;
            return Err(error);
        }
        self.emit(&id, ContainerEventType::ContainerCreatedEvent);
        Ok(CreateContainerResponse { container_id: id })
    }

    async fn start_container(&self, req: StartContainerRequest) -> Result<StartContainerResponse> {
        let container = self.container(&req.container_id)?;
        if container.started.is_some() || container.exit.is_some() {
            return Err(Error::new(Code::FailedPrecondition, "the container was started before"));
        }
        let (spec, id) = (container.spec.clone(), container.id.clone());
        let limited = tokio::task::spawn_blocking(move || {
            let cgroup = linux::cgroup::Cgroup::new(&spec.cgroup);
            cgroup.create()?;
            cgroup.limit(&spec.limits)
        });
        let limited = limited.await.map_err(|e| Error::unknown(e.to_string()))?;
        limited.map_err(io_error("set the container's limits"))?;
        let started = self.link(&container.sandbox).call(Ask::Start { id: id.clone() }, Vec::new()).await;
        self.inner.state.lock().refresh(&id);
        if let Err(error) = started {
            return Err(Error::unknown(format!("unable to start container process: {}", error.message)));
        }
        self.follow(&container.sandbox, &id);
        self.emit(&id, ContainerEventType::ContainerStartedEvent);
        Ok(StartContainerResponse {})
    }

    async fn stop_container(&self, req: StopContainerRequest) -> Result<StopContainerResponse> {
        match self.container(&req.container_id) {
            Ok(container) => self.stop(&container, req.timeout).await.map(|()| StopContainerResponse {}),
            Err(_) => Ok(StopContainerResponse {}),
        }
    }

    async fn remove_container(&self, req: RemoveContainerRequest) -> Result<RemoveContainerResponse> {
        match self.container(&req.container_id) {
            Ok(container) => self.remove(&container).await.map(|()| RemoveContainerResponse {}),
            Err(_) => Ok(RemoveContainerResponse {}),
        }
    }

    async fn list_containers(&self, req: ListContainersRequest) -> Result<ListContainersResponse> {
        let filter = req.filter.unwrap_or_default();
        let mut state = self.inner.state.lock();
        let ids: Vec<String> = state.containers.keys().cloned().collect();
        for id in &ids {
            state.refresh(id);
        }
        let all = state.containers.values().filter(|c| report::selects_container(&filter, c)).map(report::container);
        Ok(ListContainersResponse { containers: all.collect() })
    }

    async fn container_status(&self, req: ContainerStatusRequest) -> Result<ContainerStatusResponse> {
        let status = report::container_status(&self.container(&req.container_id)?);
        Ok(ContainerStatusResponse { status: Some(status), ..Default::default() })
    }

    async fn update_container_resources(
        &self,
        req: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse> {
        let container = self.container(&req.container_id)?;
        let limits = convert::limits(&req.linux.unwrap_or_default());
        let changed = linux::cgroup::Cgroup::new(&container.spec.cgroup).limit(&limits);
        changed.map_err(io_error("change the container's limits"))?;
        let mut state = self.inner.state.lock();
        if let Some(mut record) = state.containers.get(&container.id).cloned() {
            record.spec.limits = limits.over(&record.spec.limits);
            state.put_container(record).map_err(io_error("note the container's limits"))?;
        }
        Ok(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(&self, req: ReopenContainerLogRequest) -> Result<ReopenContainerLogResponse> {
        let container = self.container(&req.container_id)?;
        self.link(&container.sandbox).call(Ask::ReopenLog { id: container.id }, Vec::new()).await?;
        Ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, req: ExecSyncRequest) -> Result<ExecSyncResponse> {
        let container = self.container(&req.container_id)?;
        let link = self.link(&container.sandbox);
        let Session { stdout, stderr, exit, .. } =
            streams::exec(&link, &container.id, req.cmd.clone(), false, (false, true, true)).await?;
        let read = |stream: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>| async move {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                // What was read until a failure counts.
                let _ = stream.take(MOST_OUTPUT).read_to_end(&mut bytes).await;
            }
            bytes
        };
        let whole = async {
            let (stdout, stderr, code) = tokio::join!(read(stdout), read(stderr), exit);
            let exit_code = code.unwrap_or_else(|_| Err(Error::unknown("the command was lost")))?;
            Ok(ExecSyncResponse { stdout, stderr, exit_code })
        };
        match u64::try_from(req.timeout).ok().filter(|t| *t > 0) {
            None => whole.await,
            Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), whole).await.unwrap_or_else(|_| {
                Err(Error::new(Code::DeadlineExceeded, format!("command {:?} timed out", req.cmd.join(" "))))
            }),
        }
    }

    async fn exec(&self, req: ExecRequest) -> Result<Session> {
        let container = self.container(&req.container_id)?;
        let link = self.link(&container.sandbox);
        streams::exec(&link, &container.id, req.cmd, req.tty, (req.stdin, req.stdout, req.stderr)).await
    }

    async fn attach(&self, req: AttachRequest) -> Result<Session> {
        let container = self.container(&req.container_id)?;
        let (mut sender, ended) = oneshot::channel();
        let (runtime, id) = (self.clone(), container.id.clone());
        // As with containerd: who has said all goes, unless that closes the container's input, whose answer is waited for.
        let said_all = CancellationToken::new();
        let left = said_all.clone();
        self.inner.waiters.lock().spawn(async move {
            tokio::select! {
                () = runtime.until_ended(&id) => drop(sender.send(Ok(0))),
                () = left.cancelled() => drop(sender.send(Ok(0))),
                // The client is gone.
                () = sender.closed() => {}
            }
        });
        let link = self.link(&container.sandbox);
        let mut session = streams::attach(&link, &container.id, container.spec.tty, req.stdin, ended).await?;
        if !container.spec.stdin_once || container.spec.tty {
            session.stdin = session.stdin.map(|stdin| Box::new(streams::Input { inner: stdin, said_all }) as _);
        }
        Ok(session)
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>> {
        let sandbox = self.sandbox(sandbox_id)?;
        streams::connect(&self.link(&sandbox.id), port).await
    }

    async fn container_stats(&self, req: ContainerStatsRequest) -> Result<ContainerStatsResponse> {
        Ok(ContainerStatsResponse { stats: Some(report::container_stats(&self.container(&req.container_id)?)) })
    }

    async fn list_container_stats(&self, req: ListContainerStatsRequest) -> Result<ListContainerStatsResponse> {
        let filter = req.filter.unwrap_or_default();
        let state = self.inner.state.lock();
        let running = state.containers.values().filter(|c| c.started.is_some() && c.exit.is_none());
        let wanted = running.filter(|c| {
            (filter.id.is_empty() || c.id == filter.id)
                && (filter.pod_sandbox_id.is_empty() || c.sandbox == filter.pod_sandbox_id)
                && filter.label_selector.iter().all(|(k, v)| c.labels.get(k) == Some(v))
        });
        Ok(ListContainerStatsResponse { stats: wanted.map(report::container_stats).collect() })
    }

    async fn list_pod_sandbox_stats(&self, _: ListPodSandboxStatsRequest) -> Result<ListPodSandboxStatsResponse> {
        let state = self.inner.state.lock();
        let stats = state.sandboxes.values().filter(|s| !s.stopped).map(|sandbox| {
            let containers = state
                .containers
                .values()
                .filter(|c| c.sandbox == sandbox.id && c.started.is_some() && c.exit.is_none());
            report::sandbox_stats(sandbox, containers.map(report::container_stats).collect())
        });
        Ok(ListPodSandboxStatsResponse { stats: stats.collect() })
    }

    async fn update_runtime_config(&self, _: UpdateRuntimeConfigRequest) -> Result<UpdateRuntimeConfigResponse> {
        Ok(UpdateRuntimeConfigResponse {})
    }

    async fn get_container_events(&self) -> Result<BoxStream<'static, ContainerEventResponse>> {
        let events = tokio_stream::wrappers::BroadcastStream::new(self.inner.events.subscribe());
        // Who falls behind relists, as kubelets do anyway.
        Ok(events.filter_map(|event| async move { event.ok() }).boxed())
    }
}
