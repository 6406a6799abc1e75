//! `v1/Node`.

use object::Invalid;
use serde_json::Value;

use crate::core::podspec::amount;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, entries, list, text};
use crate::{addresses, age, cells, names};

pub(crate) const RULES: Rules = Rules {
    default,
    prepare_create: drop_source,
    prepare_update,
    prepare_status,
    validate,
    validate_status,
    row,
    warnings,
    ..NO_RULES
};

/// Configuration by the API is gone.
fn drop_source(node: &mut Value) {
    if let Some(spec) = child(node, "spec") {
        crate::tree::remove(spec, "configSource");
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    crate::kind::keep_status(new, old);
    drop_source(new);
}

fn prepare_status(new: &mut Value, old: &Value) {
    crate::kind::keep_all_but_status(new, old);
    if let Some(status) = child(new, "status").filter(|_| old["status"]["config"].is_null()) {
        crate::tree::remove(status, "config");
    }
}

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    match text(&new["spec"]["externalID"]).is_empty() {
        true => Vec::new(),
        false => vec!["spec.externalID: this field is deprecated, and is unused by Kubernetes".into()],
    }
}

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
        (Some(one), first) if !one.is_empty() && first.as_ref().is_none_or(|f| f != one) => {
            spec["podCIDRs"] = vec![one].into();
        }
        (None | Some(""), Some(first)) => spec["podCIDR"] = first,
        _ => {}
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    amounts(new, errors);
    taints(&spec, errors);
    networks(&spec, errors);
    let Some(old) = old else { return };
    let (now, was) = (list(&new["spec"]["podCIDRs"]), list(&old["spec"]["podCIDRs"]));
    let changed = if now.len() == was.len() { now.iter().zip(was).filter(|(n, w)| n != w).count() } else { 1 };
    for _ in (0..changed).filter(|_| !was.is_empty()) {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Invalid::forbidden("spec.podCIDRs", detail));
    }
    let provider = text(&old["spec"]["providerID"]);
    if !provider.is_empty() && provider != text(&new["spec"]["providerID"]) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(Invalid::forbidden("spec.providerID", detail));
    }
    taints(&spec, errors);
    if text(&old["spec"]["externalID"]) != text(&new["spec"]["externalID"]) {
        errors.push(Invalid::forbidden("spec.externalID", "may not be updated"));
    }
}

/// The networks of its pods.
fn networks(spec: &Spot, errors: &mut Errors) {
    for network in spec.list("podCIDRs") {
        network.obey(addresses::network, errors);
    }
    let all = spec.at("podCIDRs");
    let broken = spec.list("podCIDRs").enumerate().find(|(_, c)| !addresses::network(c.text()).is_empty());
    if let Some((index, network)) = broken.as_ref().filter(|_| all.len() > 1) {
        errors.push(Invalid {
            kind: object::InvalidKind::Internal,
            field: all.path(),
            value: String::new(),
            detail: format!(
                "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{index}]: <nil> (invalid CIDR address: {})",
                network.text()
            ),
            shown: true,
        });
    }
    let sixths = spec.list("podCIDRs").filter(|c| c.text().contains(':')).count();
    if all.len() > 1 && (sixths != 1 || all.len() > 2) {
        all.fail("may specify no more than one CIDR for each IP family", errors);
    }
}

/// What a node has and gives away is not negative.
fn amounts(new: &Value, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        for (name, value) in entries(&new["status"][field]) {
            amount(name, &Spot::new(value, &format!("status.{field}.{name}")), errors);
        }
    }
}

fn taints(spec: &Spot, errors: &mut Errors) {
    let mut seen = Vec::new();
    // Upstream takes taints for a part of the metadata.
    for (index, given) in list(spec.at("taints").value).iter().enumerate() {
        let path = format!("metadata.taints[{index}]");
        let taint = Spot::new(given, &path);
        let [key, value, effect] = ["key", "value", "effect"].map(|f| taint.at(f));
        key.obey(names::qualified, errors);
        let problems = names::label_value(value.text());
        if !problems.is_empty() {
            value.fail_as(value.text(), problems.join(";"), errors);
        }
        effect.must_be_one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        let pair = (key.text(), effect.text());
        if seen.contains(&pair) {
            let mut error = Invalid::duplicate(&path, &Value::Null);
            error.value = crate::checks::shown("core.v1.Taint", taint.value);
            error.detail = "taints must be unique by key and effect pair".into();
            errors.push(error);
        }
        seen.push(pair);
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    amounts(new, errors);
    features(&Spot::new(&new["status"], "status"), errors);
    let mut seen = Vec::new();
    for (index, address) in list(&new["status"]["addresses"]).iter().enumerate() {
        if seen.contains(&address) {
            errors.push(Invalid::duplicate(&format!("status.addresses[{index}]"), address));
        }
        seen.push(address);
    }
}

/// What a node says that it can: names in order, each once.
fn features(status: &Spot, errors: &mut Errors) {
    let mut before: Option<&str> = None;
    for name in status.list("declaredFeatures") {
        let text = name.text();
        let word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(|c| c.is_ascii_alphanumeric())
        };
        let fits = text.starts_with(|c: char| c.is_ascii_uppercase()) && text.split('/').all(word);
        let shown = object::quoted(text);
        if text.len() > 253 {
            name.fail(format!("invalid feature name {shown}: must be no more than 253 characters"), errors);
        } else if !fits {
            let detail = format!(
                "invalid feature name {shown}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            name.fail(detail, errors);
        }
        match before {
            Some(before) if before == text => name.duplicate(errors),
            Some(before) if before > text => name.fail("list must be sorted alphabetically", errors),
            _ => {}
        }
        before = Some(text);
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
            &["metadata.taints[0].effect: Unsupported value: \"Some\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""],
        );
        case.update(
            json!({"spec": {"podCIDRs": ["10.0.0.0/24"]}}),
            json!({"spec": {"podCIDRs": ["10.0.1.0/24"]}}),
            &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
        );
    }
}
