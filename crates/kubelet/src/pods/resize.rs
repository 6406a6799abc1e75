//! Resources that were changed while their container runs (KEP-1287): what the runtime must be told. Pure.

use protos::cri::v1::LinuxContainerResources;

use super::observed::{Limits, Observed};
use super::plan::{Kill, KillReason};
use crate::api::{Container, Pod, Role};
use crate::config::container::resources;

/// What a running container needs for its new resources.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// The runtime changes them in place.
    Update { id: String, resources: LinuxContainerResources },
    /// The container wants to start anew with them.
    Restart(Kill),
}

/// True while the container has other limits than its spec says.
pub(crate) fn is_due(pod: &Pod, container: &Container, has: &Limits) -> bool {
    let (cpu, memory) = difference(&resources(pod, container, 0), has);
    cpu || memory
}

/// Whether CPU, and whether memory differ. What the spec does not limit stays as it is.
fn difference(wanted: &LinuxContainerResources, has: &Limits) -> (bool, bool) {
    let quota = wanted.cpu_quota != 0 && wanted.cpu_quota != has.cpu_quota;
    let cpu = wanted.cpu_shares != has.cpu_shares || quota;
    (cpu, wanted.memory_limit_in_bytes != 0 && wanted.memory_limit_in_bytes != has.memory)
}

/// The changes that are due in a pod.
pub(crate) fn changes(pod: &Pod, observed: &Observed, node_memory: i64) -> Vec<Change> {
    let mut out = Vec::new();
    for (role, container) in pod.all_containers() {
        if role == Role::Ephemeral || (role == Role::Init && !container.is_sidecar()) {
            continue;
        }
        let Some(record) = observed.running().find(|r| r.name == container.name) else { continue };
        let Some(has) = record.limits else { continue };
        let wanted = resources(pod, container, node_memory);
        let (cpu, memory) = difference(&wanted, &has);
        let restarts = |name: &str| {
            container.resize_policy.iter().any(|p| p.resource_name == name && p.restart_policy == "RestartContainer")
        };
        if (cpu && restarts("cpu")) || (memory && restarts("memory")) {
            let message = format!("Container {} resize requires restart", container.name);
            let (id, name) = (record.id.clone(), record.name.clone());
            out.push(Change::Restart(Kill { id, name, message, reason: KillReason::Replaced }));
        } else if cpu || memory {
            out.push(Change::Update { id: record.id.clone(), resources: wanted });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::observed::{Record, RunState};

    #[test]
    fn in_place_or_anew() {
        let check = |policy: Value, requests: Value| {
            let container = json!({"name": "c", "resizePolicy": policy, "resources": {"requests": requests, "limits": {"memory": "64Mi"}}});
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [container]}})).unwrap();
            let has = Limits { cpu_shares: 512, cpu_quota: 0, memory: 64 << 20 };
            let record = Record {
                id: "1".into(),
                name: "c".into(),
                state: RunState::Running,
                limits: Some(has),
                ..Record::default()
            };
            let observed = Observed { containers: vec![record], ..Observed::default() };
            changes(&pod, &observed, 1 << 30)
        };
        let anew = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        assert_eq!(check(anew.clone(), json!({"cpu": "500m"})), []);
        let more = check(json!([]), json!({"cpu": "1"}));
        assert!(matches!(&more[..], [Change::Update { id, resources }] if id == "1" && resources.cpu_shares == 1024));
        assert!(matches!(&check(anew, json!({"cpu": "1"}))[..], [Change::Restart(kill)] if kill.name == "c"));
    }
}
