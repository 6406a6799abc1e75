//! Labels and annotations by which sandboxes and containers in the runtime are known again after a restart.

use std::collections::HashMap;

use crate::api::{Container, Pod};

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub(crate) const HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub(crate) const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
const PORTS: &str = "io.kubernetes.container.ports";
const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Labels of a sandbox: the pod's own, and who the pod is.
pub(crate) fn of_sandbox(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = pod.metadata.labels.clone().into_iter().collect();
    labels.extend(identity(pod));
    labels
}

/// Labels of a container.
pub(crate) fn of_container(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels = identity(pod);
    labels.insert(CONTAINER_NAME.into(), container.name.clone());
    labels
}

fn identity(pod: &Pod) -> HashMap<String, String> {
    let m = &pod.metadata;
    [(POD_NAME, &m.name), (POD_NAMESPACE, &m.namespace), (POD_UID, &m.uid)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}

/// Annotations of a container: what is needed to judge and stop it when the pod's object is gone.
pub(crate) fn annotations(pod: &Pod, container: &Container, restart_count: i32) -> HashMap<String, String> {
    let mut out = HashMap::new();
    let mut set = |key: &str, value: String| drop(out.insert(key.to_owned(), value));
    set(HASH, format!("{:x}", hash(container)));
    set(RESTART_COUNT, restart_count.to_string());
    set(TERMINATION_MESSAGE_PATH, container.termination_message_path.clone().unwrap_or_default());
    set(TERMINATION_MESSAGE_POLICY, container.termination_message_policy.clone());
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        set(DELETION_GRACE, seconds.to_string());
    }
    if let Some(seconds) = pod.spec.termination_grace_period_seconds {
        set(TERMINATION_GRACE, seconds.to_string());
    }
    if let Some(hook) = &container.lifecycle.pre_stop {
        set(PRE_STOP, serde_json::to_string(hook).unwrap_or_default());
    }
    if !container.ports.is_empty() {
        set(PORTS, serde_json::to_string(&container.ports).unwrap_or_default());
    }
    out
}

/// The grace that an orphan's annotations ask for.
pub(crate) fn grace_of(annotations: &HashMap<String, String>) -> Option<i64> {
    let read = |key: &str| annotations.get(key).and_then(|s| s.parse().ok());
    read(DELETION_GRACE).or_else(|| read(TERMINATION_GRACE))
}

/// Changes when a running container no longer is what the spec asks for: its image changed.
pub(crate) fn hash(container: &Container) -> u64 {
    let text = format!("{{\"name\":{:?},\"image\":{:?}}}", container.name, container.image);
    let fnv = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(fnv)
}
