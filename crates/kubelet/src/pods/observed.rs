//! What the runtime knows of one pod: sandboxes and containers, newest first.

use std::path::Path;
use std::sync::Arc;

use protos::cri::v1::{
    ContainerFilter, ContainerStatus, ContainerStatusRequest, ListContainersRequest, ListPodSandboxRequest,
    NamespaceMode, PodSandboxFilter, PodSandboxStatus, PodSandboxStatusRequest,
};
use protos::cri::{Error, RuntimeService};

use crate::labels;
use crate::pods::termination;

/// A container's state in the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum RunState {
    Created,
    Running,
    Exited,
    #[default]
    Unknown,
}

/// One incarnation of a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) sandbox_id: String,
    pub(crate) hash: Option<u64>,
    pub(crate) restart_count: i32,
    pub(crate) state: RunState,
    /// Nanoseconds since the epoch, as all times here; 0 for never.
    pub(crate) created_at: i64,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) user: Option<(i64, i64, Vec<i64>)>,
    /// What it is limited to, where the runtime tells.
    pub(crate) limits: Option<Limits>,
    pub(crate) log_path: String,
}

/// What a container is limited to, in the runtime's terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) cpu_shares: i64,
    pub(crate) cpu_quota: i64,
    pub(crate) memory: i64,
}

/// One incarnation of the sandbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SandboxRecord {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) is_ready: bool,
    pub(crate) created_at: i64,
    pub(crate) host_network: bool,
    pub(crate) ips: Vec<String>,
}

/// All of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandboxes: Vec<SandboxRecord>,
    pub(crate) containers: Vec<Record>,
}

impl Observed {
    /// The newest incarnation of the container called `name`.
    pub(crate) fn latest(&self, name: &str) -> Option<&Record> {
        self.containers.iter().find(|c| c.name == name)
    }
    /// Everything that runs now.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Record> {
        self.containers.iter().filter(|c| c.state == RunState::Running)
    }
    /// The addresses of the newest ready sandbox.
    pub(crate) fn ips(&self) -> &[String] {
        self.sandboxes.iter().find(|s| s.is_ready).map_or(&[], |s| &s.ips)
    }
    /// True while a container runs or a sandbox stands.
    pub(crate) fn is_alive(&self) -> bool {
        self.running().next().is_some() || self.sandboxes.iter().any(|s| s.is_ready)
    }
}

/// Asks the runtime about the pod with this uid.
pub(crate) async fn observe(runtime: &Arc<dyn RuntimeService>, uid: &str) -> Result<Observed, Error> {
    let of_pod = || [(labels::POD_UID.to_owned(), uid.to_owned())].into_iter().collect();
    let filter = PodSandboxFilter { label_selector: of_pod(), ..Default::default() };
    let sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await?;
    let mut observed = Observed::default();
    for sandbox in sandboxes.items {
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: false };
        match runtime.pod_sandbox_status(request).await {
            Ok(reply) => observed.sandboxes.extend(reply.status.as_ref().map(sandbox_record)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let filter = ContainerFilter { label_selector: of_pod(), ..Default::default() };
    let containers = runtime.list_containers(ListContainersRequest { filter: Some(filter) }).await?;
    for container in containers.containers {
        let request = ContainerStatusRequest { container_id: container.id, verbose: false };
        match runtime.container_status(request).await {
            Ok(reply) => {
                if let Some(status) = reply.status {
                    let mut record = record(&status);
                    record.sandbox_id = container.pod_sandbox_id;
                    if record.state == RunState::Exited {
                        termination::complete(&mut record, &status).await;
                    }
                    observed.containers.push(record);
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    observed.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
    observed.containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.restart_count)));
    Ok(observed)
}

fn sandbox_record(status: &PodSandboxStatus) -> SandboxRecord {
    let options = status.linux.as_ref().and_then(|l| l.namespaces.as_ref()).and_then(|n| n.options.as_ref());
    let network = status.network.as_ref();
    let first = network.map(|n| n.ip.clone()).filter(|ip| !ip.is_empty());
    let more = network.into_iter().flat_map(|n| n.additional_ips.iter().map(|a| a.ip.clone()));
    SandboxRecord {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        is_ready: status.state == protos::cri::v1::PodSandboxState::SandboxReady as i32,
        created_at: status.created_at,
        host_network: options.is_some_and(|o| o.network == NamespaceMode::Node as i32),
        ips: first.into_iter().chain(more).collect(),
    }
}

fn record(status: &ContainerStatus) -> Record {
    use protos::cri::v1::ContainerState as S;
    let state = match S::try_from(status.state) {
        Ok(S::ContainerCreated) => RunState::Created,
        Ok(S::ContainerRunning) => RunState::Running,
        Ok(S::ContainerExited) => RunState::Exited,
        _ => RunState::Unknown,
    };
    let annotation = |key: &str| status.annotations.get(key);
    let image = status.image.as_ref();
    let named = image.map(|i| if i.user_specified_image.is_empty() { &i.image } else { &i.user_specified_image });
    Record {
        id: status.id.clone(),
        name: status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default(),
        sandbox_id: String::new(),
        hash: annotation(labels::HASH).and_then(|h| u64::from_str_radix(h, 16).ok()),
        restart_count: annotation(labels::RESTART_COUNT).and_then(|c| c.parse().ok()).unwrap_or(0),
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        image: named.cloned().unwrap_or_default(),
        image_id: status.image_ref.clone(),
        user: status
            .user
            .as_ref()
            .and_then(|u| u.linux.as_ref())
            .map(|u| (u.uid, u.gid, u.supplemental_groups.clone())),
        limits: status.resources.as_ref().and_then(|r| r.linux.as_ref()).map(|r| Limits {
            cpu_shares: r.cpu_shares,
            cpu_quota: r.cpu_quota,
            memory: r.memory_limit_in_bytes,
        }),
        log_path: Path::new(&status.log_path).to_string_lossy().into_owned(),
    }
}
