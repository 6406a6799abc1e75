//! A container's configuration.

use std::collections::BTreeMap;
use std::path::Path;

use protos::cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources, Mount,
    NamespaceMode, Signal,
};

use super::security::{self, ImageUser};
use super::{NodeFacts, expand};
use crate::api::{Container, Pod, amount};
use crate::{labels, qos};

/// CFS period in microseconds.
pub(crate) const CPU_PERIOD: i64 = 100_000;

/// What is found out before a container can be described.
pub(crate) struct Prepared<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) restart_count: i32,
    /// Id of the pulled image.
    pub(crate) image_ref: String,
    pub(crate) image_user: ImageUser,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) mounts: Vec<Mount>,
    /// The container whose process namespace an ephemeral container joins.
    pub(crate) target_id: Option<String>,
    pub(crate) seccomp_root: &'a Path,
    pub(crate) node: &'a NodeFacts,
}

/// What the runtime is told to create; `Err` is a `CreateContainerConfigError`.
pub(crate) fn config(from: Prepared<'_>) -> Result<ContainerConfig, String> {
    let Prepared { pod, container, .. } = from;
    let mut security = security::of_container(pod, container, &from.image_user, from.seccomp_root)?;
    if let (Some(target), Some(namespaces)) = (&from.target_id, &mut security.namespace_options)
        && namespaces.pid == NamespaceMode::Container as i32
    {
        namespaces.pid = NamespaceMode::Target as i32;
        namespaces.target_id = target.clone();
    }
    let expanded = |items: &[String]| -> Vec<String> {
        items.iter().map(|item| expand::expand(item, |name| from.env.get(name).cloned())).collect()
    };
    let image =
        ImageSpec { image: from.image_ref, user_specified_image: container.image.clone(), ..ImageSpec::default() };
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt: u32::try_from(from.restart_count).unwrap_or(0),
        }),
        image: Some(image),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        envs: from.env.iter().map(|(k, v)| KeyValue { key: k.clone(), value: v.clone().into_bytes() }).collect(),
        mounts: from.mounts,
        labels: labels::of_container(pod, container),
        annotations: labels::annotations(pod, container, from.restart_count),
        log_path: format!("{}/{}.log", container.name, from.restart_count),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(pod, container, from.node.memory_bytes)),
            security_context: Some(security),
        }),
        stop_signal: container.lifecycle.stop_signal.as_deref().map_or(0, stop_signal),
        ..ContainerConfig::default()
    })
}

fn stop_signal(name: &str) -> i32 {
    // The CRI spells `SIGRTMIN+3` as SIGNAL_SIGRTMINPLUS3.
    let spelled = name.to_uppercase().replace('+', "PLUS").replace('-', "MINUS");
    Signal::from_str_name(&format!("SIGNAL_{spelled}")).unwrap_or(Signal::RuntimeDefault) as i32
}

/// The limits of a container in the runtime's terms.
pub(crate) fn resources(pod: &Pod, container: &Container, node_memory: i64) -> LinuxContainerResources {
    let of = &container.resources;
    let pod_limits = pod.spec.resources.as_ref().map(|r| &r.limits);
    let limit = |name: &str| {
        let own = amount(&of.limits, name);
        match pod_limits {
            Some(limits) if own.is_zero() => amount(limits, name),
            _ => own,
        }
    };
    let cpu_limit = limit("cpu");
    let request = if of.requests.contains_key("cpu") { amount(&of.requests, "cpu") } else { cpu_limit };
    LinuxContainerResources {
        cpu_period: CPU_PERIOD,
        cpu_quota: qos::quota(cpu_limit, CPU_PERIOD),
        cpu_shares: qos::shares(request),
        memory_limit_in_bytes: limit("memory").units(),
        oom_score_adj: qos::oom_score_adj(pod, container, node_memory),
        ..LinuxContainerResources::default()
    }
}
