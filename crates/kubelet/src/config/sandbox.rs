//! The sandbox's configuration.

use std::path::PathBuf;

use protos::cri::v1::{
    LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol,
};

use super::{NodeFacts, dns, hosts, security};
use crate::api::{Pod, Resources, amount};
use crate::{labels, qos};

/// Where the logs of a pod's containers go.
pub(crate) fn log_directory(node: &NodeFacts, namespace: &str, name: &str, uid: &str) -> PathBuf {
    node.log_dir.join(format!("{namespace}_{name}_{uid}"))
}

/// What the runtime is told to run a sandbox; `host_resolver` is the text of the node's `resolv.conf`.
pub(crate) fn config(
    pod: &Pod,
    attempt: u32,
    node: &NodeFacts,
    host_resolver: &str,
) -> Result<PodSandboxConfig, String> {
    let m = &pod.metadata;
    let hostname = match pod.spec.host_network {
        true => String::new(),
        false => hosts::kernel_name(pod, &node.cluster_domain)?,
    };
    let sysctls = pod.spec.security_context.sysctls.iter().map(|s| (s.name.clone(), s.value.clone())).collect();
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: m.name.clone(),
            uid: m.uid.clone(),
            namespace: m.namespace.clone(),
            attempt,
        }),
        hostname,
        log_directory: log_directory(node, &m.namespace, &m.name, &m.uid).to_string_lossy().into_owned(),
        dns_config: Some(dns::resolver(pod, node, host_resolver)),
        port_mappings: ports(pod),
        labels: labels::of_sandbox(pod),
        annotations: m.annotations.clone().into_iter().collect(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: qos::cgroup(pod, &node.cgroup_root),
            security_context: Some(security::of_sandbox(pod)),
            sysctls,
            overhead: Some(LinuxContainerResources::default()),
            resources: Some(pod_resources(pod)),
        }),
        windows: None,
    })
}

fn ports(pod: &Pod) -> Vec<PortMapping> {
    let containers = pod.spec.init_containers.iter().filter(|c| c.is_sidecar()).chain(&pod.spec.containers);
    let of_port = |p: &crate::api::ContainerPort| PortMapping {
        protocol: match p.protocol.as_str() {
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            _ => Protocol::Tcp,
        } as i32,
        container_port: i32::try_from(p.container_port).unwrap_or(0),
        host_port: i32::try_from(p.host_port).unwrap_or(0),
        host_ip: p.host_ip.clone(),
    };
    containers.flat_map(|c| c.ports.iter().map(of_port)).collect()
}

/// The pod cgroup's resources: sums; a limit only when every container has one.
fn pod_resources(pod: &Pod) -> LinuxContainerResources {
    let of = |resources: &Resources| {
        let request = |name: &str| match resources.requests.contains_key(name) {
            true => amount(&resources.requests, name),
            false => amount(&resources.limits, name),
        };
        (request("cpu"), amount(&resources.limits, "cpu"), amount(&resources.limits, "memory"))
    };
    let zero = object::Quantity::from_units(0);
    let running = pod.spec.init_containers.iter().filter(|c| c.is_sidecar()).chain(&pod.spec.containers);
    let (mut shares, mut cpu, mut memory) = (zero, zero, zero);
    let (mut all_cpu, mut all_memory) = (true, true);
    for container in running {
        let (request, cpu_limit, memory_limit) = of(&container.resources);
        shares = shares.plus(request);
        cpu = cpu.plus(cpu_limit);
        memory = memory.plus(memory_limit);
        all_cpu &= !cpu_limit.is_zero();
        all_memory &= !memory_limit.is_zero();
    }
    for container in pod.spec.init_containers.iter().filter(|c| !c.is_sidecar()) {
        let (request, cpu_limit, memory_limit) = of(&container.resources);
        shares = shares.max(request);
        cpu = cpu.max(cpu_limit);
        memory = memory.max(memory_limit);
        all_cpu &= !cpu_limit.is_zero();
        all_memory &= !memory_limit.is_zero();
    }
    LinuxContainerResources {
        cpu_period: super::container::CPU_PERIOD,
        cpu_quota: if all_cpu { qos::quota(cpu, super::container::CPU_PERIOD) } else { 0 },
        cpu_shares: qos::shares(shares),
        memory_limit_in_bytes: if all_memory { memory.units() } else { 0 },
        ..LinuxContainerResources::default()
    }
}
