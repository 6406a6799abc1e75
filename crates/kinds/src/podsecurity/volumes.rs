//! Volumes: nothing of the node (baseline); only what is made for the pod, or claimed (restricted).

use std::collections::BTreeSet;

use super::{Pod, Violation, plural, quoted};
use crate::tree::{list, text};

const ALLOWED: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const KNOWN: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let bad = list(&pod.spec["volumes"]).iter().filter(|v| v["hostPath"].is_object());
    let bad: Vec<&str> = bad.map(|v| text(&v["name"])).collect();
    (!bad.is_empty()).then(|| Violation {
        reason: "hostPath volumes",
        detail: format!("{} {}", plural(bad.len(), "volume", "volumes"), quoted(bad)),
    })
}

pub(super) fn restricted(pod: &Pod<'_>) -> Option<Violation> {
    let mut types = BTreeSet::new();
    let mut bad = Vec::new();
    for volume in list(&pod.spec["volumes"]).iter().filter(|v| !ALLOWED.iter().any(|kind| v[*kind].is_object())) {
        bad.push(text(&volume["name"]));
        types.insert(KNOWN.into_iter().find(|kind| volume[*kind].is_object()).unwrap_or("unknown"));
    }
    if bad.is_empty() {
        return None;
    }
    let count = bad.len();
    Some(Violation {
        reason: "restricted volume types",
        detail: format!(
            "{} {} {} {} {}",
            plural(count, "volume", "volumes"),
            quoted(bad),
            plural(count, "uses", "use"),
            plural(types.len(), "restricted volume type", "restricted volume types"),
            quoted(types)
        ),
    })
}
