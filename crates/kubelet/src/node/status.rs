//! The node's object and status out of facts. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::facts::{Disk, Load, Machine};
use crate::VERSION;

/// Memory below this is pressure (upstream's `memory.available<100Mi`).
const LEAST_MEMORY: i64 = 100 * 1024 * 1024;

/// What a node's status is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inputs {
    pub(crate) name: String,
    pub(crate) ip: String,
    pub(crate) machine: Machine,
    pub(crate) load: Load,
    pub(crate) node_disk: Disk,
    pub(crate) image_disk: Disk,
    pub(crate) max_pods: i64,
    pub(crate) port: u16,
    /// `navarch://0.1.0`.
    pub(crate) runtime_version: String,
    /// Why the node is not ready; empty when it is.
    pub(crate) not_ready: Vec<String>,
    pub(crate) images: Vec<ImageNames>,
}

/// An image that is on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageNames {
    pub(crate) names: Vec<String>,
    pub(crate) size_bytes: i64,
}

/// Most images that a node's status lists, the largest first.
const MOST_IMAGES: usize = 50;

/// The node as it is registered.
pub(crate) fn node(name: &str, labels: &BTreeMap<String, String>, taints: &[Value], machine: &Machine) -> Value {
    let mut all: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    all.extend(labels.clone());
    let mut spec = Map::new();
    if !taints.is_empty() {
        spec.insert("taints".into(), json!(taints));
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": all,
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        },
        "spec": spec,
    })
}

/// The status, conditions excepted.
pub(crate) fn status(input: &Inputs) -> Map<String, Value> {
    let machine = &input.machine;
    let ephemeral = input.node_disk.bytes;
    let mut capacity = Map::new();
    capacity.insert("cpu".into(), json!(machine.cpus.to_string()));
    capacity.insert("memory".into(), json!(format!("{}Ki", machine.memory_bytes / 1024)));
    capacity.insert("ephemeral-storage".into(), json!(format!("{}Ki", ephemeral / 1024)));
    capacity.insert("pods".into(), json!(input.max_pods.to_string()));
    for (size, bytes) in &machine.hugepages {
        let text = if *bytes == 0 { "0".to_owned() } else { format!("{}Ki", bytes / 1024) };
        capacity.insert(format!("hugepages-{size}"), json!(text));
    }
    let mut allocatable = capacity.clone();
    // A twentieth of the disk is what eviction keeps free.
    allocatable.insert("ephemeral-storage".into(), json!((ephemeral - ephemeral / 20).to_string()));
    let mut images = input.images.clone();
    images.sort_by_key(|i| std::cmp::Reverse(i.size_bytes));
    let images: Vec<Value> = images
        .iter()
        .take(MOST_IMAGES)
        .map(|i| json!({"names": i.names.iter().take(5).collect::<Vec<_>>(), "sizeBytes": i.size_bytes}))
        .collect();
    let tree = json!({
        "capacity": capacity,
        "allocatable": allocatable,
        "addresses": [
            {"type": "InternalIP", "address": input.ip},
            {"type": "Hostname", "address": input.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": input.port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": input.runtime_version,
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
            "swap": {"capacity": machine.swap_bytes},
        },
        "images": images,
    });
    match tree {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) kind: &'static str,
    pub(crate) is_true: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The four conditions.
pub(crate) fn conditions(input: &Inputs) -> Vec<Condition> {
    let of = |kind, is_true, yes: (&'static str, &str), no: (&'static str, &str)| {
        let (reason, message) = if is_true { yes } else { no };
        Condition { kind, is_true, reason, message: message.to_owned() }
    };
    let short_memory = input.load.memory_available < LEAST_MEMORY;
    let short_pids = input.load.max_pids > 0 && input.load.pids * 10 > input.load.max_pids * 9;
    let ready = match input.not_ready.as_slice() {
        [] => of("Ready", true, ("KubeletReady", "kubelet is posting ready status"), ("", "")),
        reasons => Condition {
            kind: "Ready",
            is_true: false,
            reason: "KubeletNotReady",
            message: match reasons {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            },
        },
    };
    vec![
        of(
            "MemoryPressure",
            short_memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        of(
            "DiskPressure",
            is_short(&input.node_disk) || is_short(&input.image_disk),
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        of(
            "PIDPressure",
            short_pids,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ]
}

/// Free space of this size is enough on the largest disk.
const PLENTY: i64 = 5 << 30;

/// Less than a twentieth of the space or of the inodes is free, as k3s has it: upstream's tenth and 15 % are much on the disks of today.
/// So is a twentieth on the largest ones, where [`PLENTY`] counts. File systems without inodes have none to lack.
fn is_short(disk: &Disk) -> bool {
    let bytes = disk.bytes > 0 && disk.bytes_free < (disk.bytes / 20).min(PLENTY);
    let inodes = disk.inodes > 0 && disk.inodes_free < disk.inodes / 20;
    bytes || inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Inputs {
        let disk = Disk { bytes: 1000 * 1024, bytes_free: 500 * 1024, inodes: 100, inodes_free: 50 };
        Inputs {
            name: "n1".into(),
            ip: "10.0.0.1".into(),
            machine: Machine { cpus: 2, memory_bytes: 1 << 30, architecture: "amd64", ..Machine::default() },
            load: Load { memory_available: 1 << 29, pids: 100, max_pids: 1000 },
            node_disk: disk,
            image_disk: disk,
            max_pods: 110,
            port: 10250,
            ..Inputs::default()
        }
    }

    fn shown(input: &Inputs) -> Vec<&'static str> {
        conditions(input).iter().filter(|c| c.is_true).map(|c| c.kind).collect()
    }

    #[test]
    fn pressure_is_seen() {
        assert_eq!(shown(&inputs()), ["Ready"]);
        let mut large = inputs();
        large.node_disk = Disk { bytes: 1 << 40, bytes_free: 6 << 30, ..large.node_disk };
        assert_eq!(shown(&large), ["Ready"], "a twentieth would be 51 GiB");
        let mut short = inputs();
        short.load.memory_available = 1 << 20;
        short.image_disk.bytes_free = 1;
        short.load.pids = 950;
        short.not_ready = vec!["container runtime is down".into()];
        assert_eq!(shown(&short), ["MemoryPressure", "DiskPressure", "PIDPressure"]);
        assert_eq!(conditions(&short)[3].message, "container runtime is down");
    }

    #[test]
    fn capacity_and_identity() {
        let status = status(&inputs());
        assert_eq!(
            status["capacity"],
            json!({"cpu": "2", "memory": "1048576Ki", "ephemeral-storage": "1000Ki", "pods": "110"})
        );
        assert_eq!(status["allocatable"]["ephemeral-storage"], "972800");
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let node = node("n1", &labels, &[], &inputs().machine);
        assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "n1");
        assert_eq!(node["metadata"]["labels"]["a"], "b");
    }
}
