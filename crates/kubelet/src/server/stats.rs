//! `/stats/summary`: usage of the node, its pods and their containers.

use protos::cri::v1::{
    ContainerStats, CpuUsage, ListContainerStatsRequest, ListPodSandboxStatsRequest, MemoryUsage, UInt64Value,
};
use serde_json::{Value, json};

use super::About;
use crate::labels;
use crate::node::facts::{Load, disk};
use crate::shared::Shared;

pub(crate) async fn summary(shared: &Shared, about: &About) -> Value {
    let sandboxes = shared.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
    let containers = shared.runtime.list_container_stats(ListContainerStatsRequest::default()).await;
    let (sandboxes, containers) = (sandboxes.unwrap_or_default().stats, containers.unwrap_or_default().stats);
    let mut pods = Vec::new();
    for sandbox in &sandboxes {
        let Some(attributes) = &sandbox.attributes else { continue };
        let Some(metadata) = attributes.metadata.as_ref() else { continue };
        let is_its = |c: &&ContainerStats| {
            let of = c.attributes.as_ref().and_then(|a| a.labels.get(labels::POD_UID));
            of.is_some_and(|uid| *uid == metadata.uid)
        };
        let linux = sandbox.linux.as_ref();
        let mut pod = json!({
            "podRef": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
            "startTime": start_time(shared, &metadata.uid),
            "containers": containers.iter().filter(is_its).map(container).collect::<Vec<_>>(),
            "cpu": linux.and_then(|l| l.cpu.as_ref()).map(cpu),
            "memory": linux.and_then(|l| l.memory.as_ref()).map(memory),
        });
        if let Some(network) = linux.and_then(|l| l.network.as_ref()).and_then(|n| n.default_interface.as_ref()) {
            pod["network"] = json!({
                "time": base::time::now(),
                "name": network.name,
                "rxBytes": number(network.rx_bytes.as_ref()),
                "rxErrors": number(network.rx_errors.as_ref()),
                "txBytes": number(network.tx_bytes.as_ref()),
                "txErrors": number(network.tx_errors.as_ref()),
            });
        }
        if let Some(count) = linux.and_then(|l| l.process.as_ref()).and_then(|p| p.process_count.as_ref()) {
            pod["process_stats"] = json!({"process_count": count.value});
        }
        crate::api::strip_nulls(&mut pod);
        pods.push(pod);
    }
    json!({"node": node(shared, about), "pods": pods})
}

fn start_time(shared: &Shared, uid: &str) -> Option<String> {
    shared.registry.read().get(uid).and_then(|k| k.status.start_time.clone())
}

fn node(shared: &Shared, about: &About) -> Value {
    let load = Load::read();
    let disk = disk(&about.root_dir);
    let now = base::time::now();
    let used = shared.node.memory_bytes - load.memory_available;
    let cpu = shared.cpu.read();
    json!({
        "nodeName": about.node_name,
        "startTime": now,
        "cpu": {"time": now, "usageNanoCores": cpu.nano_cores, "usageCoreNanoSeconds": cpu.nanoseconds},
        "memory": {"time": now, "availableBytes": load.memory_available, "workingSetBytes": used, "usageBytes": used},
        "fs": {
            "time": now,
            "availableBytes": disk.bytes_free,
            "capacityBytes": disk.bytes,
            "usedBytes": disk.bytes - disk.bytes_free,
            "inodesFree": disk.inodes_free,
            "inodes": disk.inodes,
            "inodesUsed": disk.inodes - disk.inodes_free,
        },
        "rlimit": {"time": now, "maxpid": load.max_pids, "curproc": load.pids},
    })
}

fn container(stats: &ContainerStats) -> Value {
    let attributes = stats.attributes.as_ref();
    let name = attributes.and_then(|a| a.labels.get(labels::CONTAINER_NAME)).cloned().unwrap_or_default();
    let rootfs = stats.writable_layer.as_ref().map(|layer| {
        json!({
            "time": time(layer.timestamp),
            "usedBytes": number(layer.used_bytes.as_ref()),
            "inodesUsed": number(layer.inodes_used.as_ref()),
        })
    });
    json!({
        "name": name,
        "cpu": stats.cpu.as_ref().map(cpu),
        "memory": stats.memory.as_ref().map(memory),
        "rootfs": rootfs,
    })
}

fn cpu(usage: &CpuUsage) -> Value {
    json!({
        "time": time(usage.timestamp),
        "usageNanoCores": number(usage.usage_nano_cores.as_ref()),
        "usageCoreNanoSeconds": number(usage.usage_core_nano_seconds.as_ref()),
    })
}

fn memory(usage: &MemoryUsage) -> Value {
    json!({
        "time": time(usage.timestamp),
        "availableBytes": number(usage.available_bytes.as_ref()),
        "usageBytes": number(usage.usage_bytes.as_ref()),
        "workingSetBytes": number(usage.working_set_bytes.as_ref()),
        "rssBytes": number(usage.rss_bytes.as_ref()),
        "pageFaults": number(usage.page_faults.as_ref()),
        "majorPageFaults": number(usage.major_page_faults.as_ref()),
    })
}

fn number(value: Option<&UInt64Value>) -> Option<u64> {
    value.map(|v| v.value)
}

fn time(nanos: i64) -> String {
    base::time::format_seconds(nanos / 1_000_000_000)
}
