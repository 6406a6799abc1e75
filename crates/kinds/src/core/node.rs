//! `v1/Node`.

use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::{age, cells};

pub(crate) const RULES: Rules = Rules { prepare_create: |_| {}, row, ..NO_RULES };

const ROLE: &str = "node-role.kubernetes.io/";

fn row(node: &Value, now: i64) -> Vec<Value> {
    let conditions = node["status"]["conditions"].as_array();
    let ready = conditions.into_iter().flatten().find(|c| c["type"] == "Ready").map(|c| &c["status"]);
    let mut status = match ready.and_then(Value::as_str) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".into(),
        None => "Unknown".into(),
    };
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str(),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    let address = |kind: &str| {
        let all = node["status"]["addresses"].as_array().into_iter().flatten();
        Value::from(all.into_iter().find(|a| a["type"] == kind).and_then(|a| a["address"].as_str()).unwrap_or("<none>"))
    };
    let info = |field: &str| {
        let text = cells::at(node, ".status.nodeInfo")[field].as_str().filter(|t| !t.is_empty());
        Value::from(text.unwrap_or("<unknown>"))
    };
    vec![
        node["metadata"]["name"].clone(),
        status.into(),
        roles.into(),
        age::since(&node["metadata"]["creationTimestamp"], now).into(),
        node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or("").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}
