//! What a pod's node says about it: PodTopologyLabels, PodResizeValidator.

use object::{Cause, Quantity, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::api::Api;

const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// PodTopologyLabels: pods know where they are. `object` is a pod with a node, or a binding to one.
pub(super) fn topology(api: &Api, at: &Attributes<'_>, object: &mut Value) {
    if !at.is("", "pods") || at.operation != Operation::Create {
        return;
    }
    let node = match at.subresource {
        "" => object["spec"].get("nodeName"),
        "binding" if object["target"]["kind"] == "Node" => object["target"].get("name"),
        _ => None,
    };
    let Some(node) = node.and_then(Value::as_str).filter(|n| !n.is_empty()) else { return };
    let Some(node) = api.store.get(&format!("/registry/minions/{node}")) else { return };
    for key in TOPOLOGY {
        if let Some(value) = node.object.head.labels.get(key) {
            object["metadata"]["labels"][key] = value.into();
        }
    }
}

/// PodResizeValidator: a pod does not grow beyond its node.
pub(super) fn resize(api: &Api, at: &Attributes<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let node = new["spec"]["nodeName"].as_str().unwrap_or("");
    if !at.is("", "pods") || at.subresource != "resize" || node.is_empty() || new["spec"] == old["spec"] {
        return Ok(());
    }
    let Some(found) = api.stored_value(&format!("/registry/minions/{node}")) else {
        return Err(at.forbidden(&format!("node {node:?} not found")));
    };
    let refused = |why: &str, reason: &str| {
        let mut status = at.forbidden(why);
        status.causes.push(Cause { reason: reason.into(), message: String::new(), field: String::new() });
        Err(status)
    };
    if let Some(os) = found["metadata"]["labels"]["kubernetes.io/os"].as_str().filter(|os| *os != "linux") {
        let why = format!("pod resize is only supported on linux nodes, node {node:?} is {os:?}");
        return refused(&why, "UnsupportedPlatform");
    }
    let asked = kinds::quota::amounts(&new["spec"], "requests", true);
    let parts: Vec<String> = ["cpu", "memory"]
        .into_iter()
        .filter_map(|resource| {
            let most = found["status"]["allocatable"][resource].as_str().and_then(Quantity::parse).unwrap_or_default();
            let request = asked.get(resource).copied().unwrap_or_default();
            let shown = |q: Quantity| if resource == "cpu" { q.millis() } else { q.units() };
            let text = || format!("{resource}, requested: {}, allocatable: {}", shown(request), shown(most));
            (request > most).then(text)
        })
        .collect();
    if !parts.is_empty() {
        let why = format!("node didn't have enough allocatable resources: {}", parts.join("; "));
        return refused(&why, "NodeCapacity");
    }
    Ok(())
}
