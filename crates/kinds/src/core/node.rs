//! `v1/Node`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, entries, list, text};
use crate::{age, cells, checks, names};

pub(crate) const RULES: Rules = Rules { default, prepare_create: |_| {}, validate, row, ..NO_RULES };

/// What a node has is what it may give away, unless it says otherwise.
fn default(node: &mut Value) {
    if let Some(status) = child(node, "status")
        && status["allocatable"].is_null()
        && status["capacity"].is_object()
    {
        status["allocatable"] = status["capacity"].clone();
    }
    // The first of the CIDRs is also the one of old.
    let Some(spec) = child(node, "spec") else { return };
    match (spec["podCIDR"].as_str(), list(&spec["podCIDRs"]).first().cloned()) {
        (Some(one), None) if !one.is_empty() => spec["podCIDRs"] = vec![one].into(),
        (None, Some(first)) => spec["podCIDR"] = first,
        _ => {}
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    for (index, taint) in list(&new["spec"]["taints"]).iter().enumerate() {
        let path = format!("spec.taints[{index}]");
        if let Some(why) = names::qualified(text(&taint["key"])) {
            errors.push(Invalid::invalid(&format!("{path}.key"), &text(&taint["key"]).into(), why));
        }
        checks::named(taint, &path, "value", names::label_value, errors);
        match text(&taint["effect"]) {
            "" => errors.push(Invalid::required(&format!("{path}.effect"), "")),
            _ => checks::one_of(taint, &path, "effect", &["NoExecute", "NoSchedule", "PreferNoSchedule"], errors),
        }
        let same = |other: &&Value| ["key", "effect"].iter().all(|f| other[*f] == taint[*f]);
        if list(&new["spec"]["taints"])[..index].iter().find(same).is_some() {
            let mut error = Invalid::duplicate(&path, taint);
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
    }
    let Some(old) = old else { return };
    if !list(&old["spec"]["podCIDRs"]).is_empty() && old["spec"]["podCIDRs"] != new["spec"]["podCIDRs"] {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Invalid::forbidden("spec.podCIDRs", detail));
    }
    let provider = text(&old["spec"]["providerID"]);
    if !provider.is_empty() && provider != text(&new["spec"]["providerID"]) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(Invalid::forbidden("spec.providerID", detail));
    }
}

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
    let mut roles: Vec<&str> = entries(&node["metadata"]["labels"])
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str().filter(|v| !v.is_empty()),
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
    let kernel = match (info("kernelVersion").as_str(), text(&node["status"]["nodeInfo"]["architecture"])) {
        (kernel, "") => kernel.unwrap_or("").to_owned(),
        (kernel, architecture) => format!("{} ({architecture})", kernel.unwrap_or("")),
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
        kernel.into(),
        info("containerRuntimeVersion"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn node() {
        let case = Case::new("v1", "Node");
        case.row(
            json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "true"}},
                "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64"}}}),
            json!(["x", "Ready,SchedulingDisabled", "control-plane,worker", "10s", "v1.36.2", "10.0.0.1", "<none>", "Debian", "6.1 (amd64)", "<unknown>"]),
        );
        case.invalid(
            json!({"spec": {"taints": [{"key": "a", "effect": "Some"}]}}),
            &["spec.taints[0].effect: Unsupported value: \"Some\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\""],
        );
        case.update(
            json!({"spec": {"podCIDRs": ["10.0.0.0/24"]}}),
            json!({"spec": {"podCIDRs": ["10.0.1.0/24"]}}),
            &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
        );
    }
}
