//! A runtime in memory, and a kubelet over it, for this crate's tests.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use protos::cri::v1::*;
use protos::cri::{Code, Duplex, Error, ImageService, Result, RuntimeService, Session};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;

use crate::clock::Clock;

/// How one container behaves; by container name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    /// Starting fails with this text.
    pub(crate) fails_to_start: Option<String>,
    /// It ends at once with this code.
    pub(crate) ends_with: Option<i32>,
    /// It ignores the stop signal.
    pub(crate) is_stubborn: bool,
    /// Exit code and output of commands.
    pub(crate) exec: Option<(i32, String)>,
}

struct State {
    sandboxes: BTreeMap<String, (PodSandboxStatus, PodSandboxConfig)>,
    containers: BTreeMap<String, (ContainerStatus, CreateContainerRequest)>,
    behaviours: HashMap<String, Behaviour>,
    images: BTreeMap<String, Image>,
    unpullable: HashMap<String, String>,
    calls: Vec<String>,
    next: u64,
    network_ready: bool,
}

/// A runtime whose containers are entries in a map.
pub(crate) struct FakeRuntime {
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEventResponse>,
    /// Counts changes, for tests that wait.
    changes: watch::Sender<u64>,
    clock: Clock,
}

impl FakeRuntime {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        let state = State {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            behaviours: HashMap::new(),
            images: BTreeMap::new(),
            unpullable: HashMap::new(),
            calls: Vec::new(),
            next: 0,
            network_ready: true,
        };
        let (events, _) = broadcast::channel(1024);
        Arc::new(Self { state: Mutex::new(state), events, changes: watch::channel(0).0, clock })
    }

    pub(crate) fn behave(&self, container: &str, behaviour: Behaviour) {
        self.state.lock().behaviours.insert(container.to_owned(), behaviour);
    }
    pub(crate) fn refuse_pull(&self, image: &str, why: Option<&str>) {
        let mut state = self.state.lock();
        match why {
            Some(why) => drop(state.unpullable.insert(image.to_owned(), why.to_owned())),
            None => drop(state.unpullable.remove(image)),
        }
    }
    /// What was asked of the runtime that changes something.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }
    pub(crate) fn set_network_ready(&self, ready: bool) {
        self.state.lock().network_ready = ready;
    }
    /// The configuration that the newest container of this name was created with.
    pub(crate) fn created(&self, name: &str) -> Option<ContainerConfig> {
        let state = self.state.lock();
        let newest = state.containers.values().filter(|(status, _)| name_of(status) == name);
        newest.max_by_key(|(status, _)| status.created_at).and_then(|(_, request)| request.config.clone())
    }
    pub(crate) fn sandbox_config(&self) -> Option<PodSandboxConfig> {
        self.state.lock().sandboxes.values().next().map(|(_, config)| config.clone())
    }
    pub(crate) fn running(&self) -> Vec<String> {
        let state = self.state.lock();
        let is_running = |s: &ContainerStatus| s.state == ContainerState::ContainerRunning as i32;
        state.containers.values().filter(|(s, _)| is_running(s)).map(|(s, _)| name_of(s)).collect()
    }
    pub(crate) fn sandbox_count(&self) -> usize {
        self.state.lock().sandboxes.len()
    }
    /// The container ends by itself.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let id = {
            let state = self.state.lock();
            let is_it = |s: &ContainerStatus| name_of(s) == name && s.state == ContainerState::ContainerRunning as i32;
            state.containers.iter().find(|(_, (s, _))| is_it(s)).map(|(id, _)| id.clone())
        };
        self.end(&id.expect("the container runs"), code);
    }
    /// All processes are gone, as after a reboot.
    pub(crate) fn lose_everything(&self) {
        let ids: Vec<String> = self.state.lock().containers.keys().cloned().collect();
        ids.iter().for_each(|id| self.end(id, 255));
        for (status, _) in self.state.lock().sandboxes.values_mut() {
            status.state = PodSandboxState::SandboxNotready as i32;
        }
        self.changed(None);
    }
    /// Waits for a condition on the runtime.
    pub(crate) async fn until(&self, done: impl Fn(&Self) -> bool) {
        let mut changes = self.changes.subscribe();
        let wait = async {
            while !done(self) {
                let _ = changes.changed().await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "the runtime did not come to the expected state: {:?}", self.calls());
    }

    fn end(&self, id: &str, code: i32) {
        let now = self.clock.nanos();
        let uid = {
            let mut state = self.state.lock();
            let Some((status, _)) = state.containers.get_mut(id) else { return };
            if status.state == ContainerState::ContainerExited as i32 {
                return;
            }
            status.state = ContainerState::ContainerExited as i32;
            status.exit_code = code;
            status.finished_at = now;
            status.reason = if code == 0 { "Completed" } else { "Error" }.into();
            status.labels.get(crate::labels::POD_UID).cloned()
        };
        self.changed(uid);
    }

    fn changed(&self, uid: Option<String>) {
        self.changes.send_modify(|n| *n += 1);
        if let Some(uid) = uid {
            let metadata = PodSandboxMetadata { uid, ..Default::default() };
            let status = PodSandboxStatus { metadata: Some(metadata), ..Default::default() };
            let _ = self.events.send(ContainerEventResponse { pod_sandbox_status: Some(status), ..Default::default() });
        }
    }

    fn note(&self, call: String) {
        self.state.lock().calls.push(call);
    }
}

fn name_of(status: &ContainerStatus) -> String {
    status.labels.get(crate::labels::CONTAINER_NAME).cloned().unwrap_or_default()
}

fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

fn unserved<T>(what: &str) -> Result<T> {
    Err(Error::new(Code::Unimplemented, format!("{what} is not served by the fake")))
}

#[async_trait]
impl RuntimeService for FakeRuntime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse> {
        Ok(VersionResponse { runtime_name: "navarch".into(), runtime_version: "0.1.0".into(), ..Default::default() })
    }
    async fn status(&self, _: StatusRequest) -> Result<StatusResponse> {
        let network = self.state.lock().network_ready;
        let condition = |kind: &str, status| RuntimeCondition {
            r#type: kind.into(),
            status,
            reason: if status { "" } else { "NotYet" }.into(),
            message: String::new(),
        };
        let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", network)];
        Ok(StatusResponse { status: Some(RuntimeStatus { conditions }), ..Default::default() })
    }
    async fn run_pod_sandbox(&self, req: RunPodSandboxRequest) -> Result<RunPodSandboxResponse> {
        let config = req.config.unwrap_or_default();
        let (id, uid) = {
            let mut state = self.state.lock();
            state.next += 1;
            let id = format!("box{}", state.next);
            let metadata = config.metadata.clone().unwrap_or_default();
            let options = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
            let options = options.and_then(|s| s.namespace_options.clone());
            let is_host = options.as_ref().is_some_and(|o| o.network == NamespaceMode::Node as i32);
            let ip = if is_host { String::new() } else { format!("10.42.0.{}", state.next + 1) };
            let status = PodSandboxStatus {
                id: id.clone(),
                metadata: Some(metadata.clone()),
                state: PodSandboxState::SandboxReady as i32,
                created_at: self.clock.nanos(),
                network: Some(PodSandboxNetworkStatus { ip, ..Default::default() }),
                linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options }) }),
                labels: config.labels.clone(),
                ..Default::default()
            };
            state.calls.push(format!("sandbox {} {}", metadata.name, metadata.attempt));
            state.sandboxes.insert(id.clone(), (status, config));
            (id, metadata.uid)
        };
        self.changed(Some(uid));
        Ok(RunPodSandboxResponse { pod_sandbox_id: id })
    }
    async fn stop_pod_sandbox(&self, req: StopPodSandboxRequest) -> Result<StopPodSandboxResponse> {
        {
            let mut state = self.state.lock();
            if let Some((status, _)) = state.sandboxes.get_mut(&req.pod_sandbox_id) {
                status.state = PodSandboxState::SandboxNotready as i32;
                if let Some(network) = &mut status.network {
                    network.ip.clear();
                }
            }
            state.calls.push(format!("stop sandbox {}", req.pod_sandbox_id));
        }
        self.changed(None);
        Ok(StopPodSandboxResponse {})
    }
    async fn remove_pod_sandbox(&self, req: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse> {
        {
            let mut state = self.state.lock();
            state.sandboxes.remove(&req.pod_sandbox_id);
            state.containers.retain(|_, (_, created)| created.pod_sandbox_id != req.pod_sandbox_id);
            state.calls.push(format!("remove sandbox {}", req.pod_sandbox_id));
        }
        self.changed(None);
        Ok(RemovePodSandboxResponse {})
    }
    async fn pod_sandbox_status(&self, req: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse> {
        let state = self.state.lock();
        let found = state.sandboxes.get(&req.pod_sandbox_id).map(|(status, _)| status.clone());
        let status = found.ok_or_else(|| Error::not_found("no such sandbox"))?;
        Ok(PodSandboxStatusResponse { status: Some(status), ..Default::default() })
    }
    async fn list_pod_sandbox(&self, req: ListPodSandboxRequest) -> Result<ListPodSandboxResponse> {
        let filter = req.filter.unwrap_or_default();
        let state = self.state.lock();
        let items = state.sandboxes.values().map(|(s, _)| s).filter(|s| selects(&filter.label_selector, &s.labels));
        let items = items.map(|s| PodSandbox {
            id: s.id.clone(),
            metadata: s.metadata.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            ..Default::default()
        });
        Ok(ListPodSandboxResponse { items: items.collect() })
    }
    async fn create_container(&self, req: CreateContainerRequest) -> Result<CreateContainerResponse> {
        let config = req.config.clone().unwrap_or_default();
        let log_dir = req.sandbox_config.as_ref().map(|c| c.log_directory.clone()).unwrap_or_default();
        let log_path = Path::new(&log_dir).join(&config.log_path).to_string_lossy().into_owned();
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!("c{}", state.next);
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: ContainerState::ContainerCreated as i32,
            created_at: self.clock.nanos() + i64::try_from(state.next).unwrap_or(0),
            image: config.image.clone(),
            image_ref: config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path,
            ..Default::default()
        };
        let name = name_of(&status);
        state.calls.push(format!("create {name}"));
        state.containers.insert(id.clone(), (status, req));
        Ok(CreateContainerResponse { container_id: id })
    }
    async fn start_container(&self, req: StartContainerRequest) -> Result<StartContainerResponse> {
        let (uid, behaviour) = {
            let mut state = self.state.lock();
            let State { containers, behaviours, calls, .. } = &mut *state;
            let (status, _) = containers.get_mut(&req.container_id).ok_or_else(|| Error::not_found("none"))?;
            let name = name_of(status);
            let behaviour = behaviours.get(&name).cloned().unwrap_or_default();
            if let Some(why) = &behaviour.fails_to_start {
                return Err(Error::unknown(why.clone()));
            }
            status.state = ContainerState::ContainerRunning as i32;
            status.started_at = self.clock.nanos();
            let _ = std::fs::write(&status.log_path, format!("2026-01-01T00:00:00Z stdout F hello from {name}\n"));
            calls.push(format!("start {name}"));
            (status.labels.get(crate::labels::POD_UID).cloned(), behaviour)
        };
        self.changed(uid);
        if let Some(code) = behaviour.ends_with {
            self.end(&req.container_id, code);
        }
        Ok(StartContainerResponse {})
    }
    async fn stop_container(&self, req: StopContainerRequest) -> Result<StopContainerResponse> {
        let is_stubborn = {
            let mut state = self.state.lock();
            let Some((status, _)) = state.containers.get(&req.container_id) else {
                return Ok(StopContainerResponse {});
            };
            let name = name_of(status);
            state.calls.push(format!("stop {name} {}", req.timeout));
            state.behaviours.get(&name).is_some_and(|b| b.is_stubborn)
        };
        self.changed(None);
        if is_stubborn {
            tokio::time::sleep(std::time::Duration::from_secs(req.timeout.unsigned_abs())).await;
        }
        self.end(&req.container_id, if is_stubborn { 137 } else { 143 });
        Ok(StopContainerResponse {})
    }
    async fn remove_container(&self, req: RemoveContainerRequest) -> Result<RemoveContainerResponse> {
        self.state.lock().containers.remove(&req.container_id);
        self.changed(None);
        Ok(RemoveContainerResponse {})
    }
    async fn list_containers(&self, req: ListContainersRequest) -> Result<ListContainersResponse> {
        let filter = req.filter.unwrap_or_default();
        let state = self.state.lock();
        let found = state.containers.values().filter(|(s, _)| {
            selects(&filter.label_selector, &s.labels) && filter.state.as_ref().is_none_or(|f| f.state == s.state)
        });
        let containers = found.map(|(s, created)| Container {
            id: s.id.clone(),
            pod_sandbox_id: created.pod_sandbox_id.clone(),
            metadata: s.metadata.clone(),
            image: s.image.clone(),
            image_ref: s.image_ref.clone(),
            state: s.state,
            created_at: s.created_at,
            labels: s.labels.clone(),
            annotations: s.annotations.clone(),
            ..Default::default()
        });
        Ok(ListContainersResponse { containers: containers.collect() })
    }
    async fn container_status(&self, req: ContainerStatusRequest) -> Result<ContainerStatusResponse> {
        let state = self.state.lock();
        let found = state.containers.get(&req.container_id).map(|(status, _)| status.clone());
        let status = found.ok_or_else(|| Error::not_found("no such container"))?;
        Ok(ContainerStatusResponse { status: Some(status), ..Default::default() })
    }
    async fn update_container_resources(
        &self,
        _: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse> {
        unserved("update")
    }
    async fn reopen_container_log(&self, _: ReopenContainerLogRequest) -> Result<ReopenContainerLogResponse> {
        Ok(ReopenContainerLogResponse {})
    }
    async fn exec_sync(&self, req: ExecSyncRequest) -> Result<ExecSyncResponse> {
        let (name, outcome) = {
            let state = self.state.lock();
            let (status, _) = state.containers.get(&req.container_id).ok_or_else(|| Error::not_found("none"))?;
            let name = name_of(status);
            let outcome = state.behaviours.get(&name).and_then(|b| b.exec.clone()).unwrap_or_default();
            (name, outcome)
        };
        self.note(format!("exec {name}: {}", req.cmd.join(" ")));
        self.changed(None);
        Ok(ExecSyncResponse { exit_code: outcome.0, stdout: outcome.1.into_bytes(), stderr: Vec::new() })
    }
    async fn exec(&self, _: ExecRequest) -> Result<Session> {
        unserved("exec")
    }
    async fn attach(&self, _: AttachRequest) -> Result<Session> {
        unserved("attach")
    }
    async fn port_forward(&self, _: &str, _: u16) -> Result<Box<dyn Duplex>> {
        unserved("port forward")
    }
    async fn container_stats(&self, _: ContainerStatsRequest) -> Result<ContainerStatsResponse> {
        unserved("stats")
    }
    async fn list_container_stats(&self, _: ListContainerStatsRequest) -> Result<ListContainerStatsResponse> {
        Ok(ListContainerStatsResponse::default())
    }
    async fn list_pod_sandbox_stats(&self, _: ListPodSandboxStatsRequest) -> Result<ListPodSandboxStatsResponse> {
        Ok(ListPodSandboxStatsResponse::default())
    }
    async fn update_runtime_config(&self, req: UpdateRuntimeConfigRequest) -> Result<UpdateRuntimeConfigResponse> {
        let network = req.runtime_config.and_then(|c| c.network_config).unwrap_or_default();
        self.note(format!("pod CIDR {}", network.pod_cidr));
        Ok(UpdateRuntimeConfigResponse {})
    }
    async fn get_container_events(&self) -> Result<BoxStream<'static, ContainerEventResponse>> {
        let events = BroadcastStream::new(self.events.subscribe());
        Ok(events.filter_map(|event| std::future::ready(event.ok())).boxed())
    }
}

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self, _: ListImagesRequest) -> Result<ListImagesResponse> {
        Ok(ListImagesResponse { images: self.state.lock().images.values().cloned().collect() })
    }
    async fn image_status(&self, req: ImageStatusRequest) -> Result<ImageStatusResponse> {
        let name = req.image.unwrap_or_default().image;
        Ok(ImageStatusResponse { image: self.state.lock().images.get(&name).cloned(), ..Default::default() })
    }
    async fn pull_image(&self, req: PullImageRequest) -> Result<PullImageResponse> {
        let name = req.image.unwrap_or_default().image;
        let user = req.auth.map(|a| a.username).unwrap_or_default();
        let mut state = self.state.lock();
        state.calls.push(format!("pull {name} {user}").trim_end().to_owned());
        if let Some(why) = state.unpullable.get(&name) {
            return Err(Error::unknown(why.clone()));
        }
        let id = format!("sha256:{name}");
        let image = Image { id: id.clone(), repo_tags: vec![name.clone()], size: 1234, ..Default::default() };
        state.images.insert(name, image);
        Ok(PullImageResponse { image_ref: id })
    }
    async fn remove_image(&self, _: RemoveImageRequest) -> Result<RemoveImageResponse> {
        Ok(RemoveImageResponse {})
    }
    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse> {
        Ok(ImageFsInfoResponse::default())
    }
}
