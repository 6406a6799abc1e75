//! Records as the CRI shows them.

use std::collections::HashMap;

use linux::cgroup::Cgroup;
use protos::cri::v1::*;

use crate::spec::now;
use crate::state::{Container as Record, Sandbox};

fn ready(sandbox: &Sandbox) -> i32 {
    if sandbox.stopped { PodSandboxState::SandboxNotready as i32 } else { PodSandboxState::SandboxReady as i32 }
}

fn labels_match(wanted: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

pub(super) fn selects_sandbox(filter: &PodSandboxFilter, sandbox: &Sandbox) -> bool {
    (filter.id.is_empty() || sandbox.id.starts_with(&filter.id))
        && filter.state.as_ref().is_none_or(|s| s.state == ready(sandbox))
        && labels_match(&filter.label_selector, &sandbox.labels)
}

pub(super) fn selects_container(filter: &ContainerFilter, container: &Record) -> bool {
    (filter.id.is_empty() || container.id.starts_with(&filter.id))
        && (filter.pod_sandbox_id.is_empty() || container.sandbox == filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|s| s.state == state(container))
        && labels_match(&filter.label_selector, &container.labels)
}

pub(super) fn sandbox(sandbox: &Sandbox) -> PodSandbox {
    PodSandbox {
        id: sandbox.id.clone(),
        metadata: Some(sandbox.metadata()),
        state: ready(sandbox),
        created_at: sandbox.created_at,
        labels: sandbox.labels.clone(),
        annotations: sandbox.annotations.clone(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

fn namespaces(sandbox: &Sandbox) -> Namespace {
    let mode = |host: bool, own: NamespaceMode| if host { NamespaceMode::Node as i32 } else { own as i32 };
    let pid = if sandbox.shared_pid { NamespaceMode::Pod } else { NamespaceMode::Container };
    let options = NamespaceOption {
        network: mode(sandbox.host_network, NamespaceMode::Pod),
        pid: mode(sandbox.host_pid, pid),
        ipc: mode(sandbox.host_ipc, NamespaceMode::Pod),
        ..Default::default()
    };
    Namespace { options: Some(options) }
}

pub(super) fn sandbox_status(sandbox: &Sandbox) -> PodSandboxStatus {
    let mut ips = sandbox.ips.iter();
    let network = PodSandboxNetworkStatus {
        ip: ips.next().cloned().unwrap_or_default(),
        additional_ips: ips.map(|ip| PodIp { ip: ip.clone() }).collect(),
    };
    PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: Some(sandbox.metadata()),
        state: ready(sandbox),
        created_at: sandbox.created_at,
        network: Some(network),
        linux: Some(LinuxPodSandboxStatus { namespaces: Some(namespaces(sandbox)) }),
        labels: sandbox.labels.clone(),
        annotations: sandbox.annotations.clone(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

fn state(container: &Record) -> i32 {
    let state = match (&container.started, &container.exit) {
        (_, Some(_)) => ContainerState::ContainerExited,
        (Some(_), None) => ContainerState::ContainerRunning,
        (None, None) => ContainerState::ContainerCreated,
    };
    state as i32
}

fn image_ref(container: &Record) -> String {
    if container.image_ref.is_empty() { container.image_id.clone() } else { container.image_ref.clone() }
}

fn user(container: &Record) -> ContainerUser {
    let user = &container.spec.user;
    let linux = LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.groups.iter().map(|g| i64::from(*g)).collect(),
    };
    ContainerUser { linux: Some(linux) }
}

fn resources(container: &Record) -> ContainerResources {
    let limits = &container.spec.limits;
    let linux = LinuxContainerResources {
        cpu_shares: i64::try_from(limits.cpu_shares).unwrap_or(0),
        cpu_quota: limits.cpu_quota,
        cpu_period: i64::try_from(limits.cpu_period).unwrap_or(0),
        memory_limit_in_bytes: limits.memory,
        oom_score_adj: container.spec.oom_score_adj,
        cpuset_cpus: limits.cpuset.clone(),
        ..Default::default()
    };
    ContainerResources { linux: Some(linux), windows: None }
}

fn image(container: &Record) -> Option<ImageSpec> {
    Some(ImageSpec { image: container.image.clone(), ..Default::default() })
}

pub(super) fn container(container: &Record) -> Container {
    Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox.clone(),
        metadata: Some(container.metadata()),
        image: image(container),
        image_ref: image_ref(container),
        image_id: container.image_id.clone(),
        state: state(container),
        created_at: container.created_at,
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
    }
}

pub(super) fn container_status(container: &Record) -> ContainerStatus {
    let (code, finished_at, reason, message) = match &container.exit {
        None => (0, 0, String::new(), String::new()),
        Some(exit) => {
            let reason = match exit {
                exit if exit.error.is_some() => "StartError",
                exit if exit.oom => "OOMKilled",
                exit if exit.code == 0 => "Completed",
                _ => "Error",
            };
            (exit.code, exit.at, reason.into(), exit.error.clone().unwrap_or_default())
        }
    };
    let mounts = container.spec.mounts.iter().map(|m| {
        let image = (!m.image.is_empty()).then(|| ImageSpec { image: m.image.clone(), ..Default::default() });
        let host_path = if image.is_some() { String::new() } else { m.source.to_string_lossy().into_owned() };
        Mount {
            container_path: m.target.to_string_lossy().into_owned(),
            host_path,
            readonly: m.readonly,
            propagation: m.propagation,
            image,
            image_sub_path: m.image_sub_path.clone(),
            ..Default::default()
        }
    });
    ContainerStatus {
        id: container.id.clone(),
        metadata: Some(container.metadata()),
        state: state(container),
        created_at: container.created_at,
        started_at: container.started.as_ref().map_or(0, |s| s.at),
        finished_at,
        exit_code: code,
        image: image(container),
        image_ref: image_ref(container),
        image_id: container.image_id.clone(),
        reason,
        message,
        labels: container.labels.clone(),
        annotations: container.annotations.clone(),
        mounts: mounts.collect(),
        log_path: container.log_path.clone(),
        user: Some(user(container)),
        resources: Some(resources(container)),
        ..Default::default()
    }
}

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

pub(super) fn container_stats(container: &Record) -> ContainerStats {
    let usage = Cgroup::new(&container.spec.cgroup).usage();
    let timestamp = now();
    ContainerStats {
        attributes: Some(ContainerAttributes {
            id: container.id.clone(),
            metadata: Some(container.metadata()),
            labels: container.labels.clone(),
            annotations: container.annotations.clone(),
        }),
        cpu: Some(CpuUsage { timestamp, usage_core_nano_seconds: value(usage.cpu_nanos), ..Default::default() }),
        memory: Some(MemoryUsage {
            timestamp,
            working_set_bytes: value(usage.working_set_bytes),
            usage_bytes: value(usage.memory_bytes),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) fn sandbox_stats(sandbox: &Sandbox, containers: Vec<ContainerStats>) -> PodSandboxStats {
    let sum = |of: &dyn Fn(&ContainerStats) -> Option<u64>| value(containers.iter().filter_map(of).sum());
    let timestamp = now();
    let cpu = sum(&|c| Some(c.cpu.as_ref()?.usage_core_nano_seconds.as_ref()?.value));
    let working_set = sum(&|c| Some(c.memory.as_ref()?.working_set_bytes.as_ref()?.value));
    let usage = sum(&|c| Some(c.memory.as_ref()?.usage_bytes.as_ref()?.value));
    PodSandboxStats {
        attributes: Some(PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: Some(sandbox.metadata()),
            labels: sandbox.labels.clone(),
            annotations: sandbox.annotations.clone(),
        }),
        linux: Some(LinuxPodSandboxStats {
            cpu: Some(CpuUsage { timestamp, usage_core_nano_seconds: cpu, ..Default::default() }),
            memory: Some(MemoryUsage {
                timestamp,
                working_set_bytes: working_set,
                usage_bytes: usage,
                ..Default::default()
            }),
            containers,
            ..Default::default()
        }),
        windows: None,
    }
}
