//! The pod spec, shared by pods and all workloads: defaults and checks.

mod containers;
mod volumes;

use object::Invalid;
use serde_json::{Value, json};

use crate::core::service::is_port;
use crate::names;

/// Sets `object[key]` unless it is there.
pub(crate) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    if object.get(key).is_none_or(|v| v == "") {
        object[key] = value.into();
    }
}

/// Upstream's defaults of a pod spec.
pub(crate) fn default(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "restartPolicy", "Always");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "schedulerName", "default-scheduler");
    if !spec["securityContext"].is_object() {
        spec["securityContext"] = json!({});
    }
    if spec.get("enableServiceLinks").is_none() {
        spec["enableServiceLinks"] = true.into();
    }
    // The deprecated alias follows the name.
    if let Some(account) = spec["serviceAccountName"].as_str().filter(|a| !a.is_empty()).map(str::to_owned) {
        spec["serviceAccount"] = account.into();
    } else if let Some(account) = spec["serviceAccount"].as_str().map(str::to_owned) {
        spec["serviceAccountName"] = account.into();
    }
    let host_network = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            containers::default(container, host_network);
        }
        remove_if_null(spec, list);
    }
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        volumes::default(volume);
    }
    for constraint in spec["topologySpreadConstraints"].as_array_mut().into_iter().flatten() {
        set(constraint, "whenUnsatisfiable", "DoNotSchedule");
    }
    for field in ["volumes", "topologySpreadConstraints", "serviceAccount", "serviceAccountName", "hostNetwork"] {
        remove_if_null(spec, field);
    }
}

/// Indexing a missing key of a mutable tree makes it; this takes such a `null` away again.
pub(crate) fn remove_if_null(object: &mut Value, key: &str) {
    if object.get(key).is_some_and(Value::is_null) {
        object.as_object_mut().and_then(|o| o.remove(key));
    }
}

/// Field errors of the spec at `path`.
pub(crate) fn validate(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let volume_names = volumes::validate(spec, path, errors);
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        errors.push(Invalid::required(&format!("{path}.containers"), ""));
    }
    let mut seen = Vec::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("{path}.{list}[{index}]");
            containers::validate(container, &at, &volume_names, &mut seen, errors);
            let policy = container["restartPolicy"].as_str();
            if list == "initContainers" && policy.is_some_and(|p| !["Always", "OnFailure", "Never"].contains(&p)) {
                errors.push(Invalid::not_supported(
                    &format!("{at}.restartPolicy"),
                    &container["restartPolicy"],
                    &["Always"],
                ));
            }
        }
    }
    host_ports(spec, path, errors);
    one_of(spec, path, "restartPolicy", &["Always", "OnFailure", "Never"], errors);
    one_of(spec, path, "dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"], errors);
    if let Some(grace) = spec["terminationGracePeriodSeconds"].as_i64().filter(|g| *g < 0) {
        errors.push(Invalid::invalid(
            &format!("{path}.terminationGracePeriodSeconds"),
            &grace.into(),
            "must be greater than or equal to 0",
        ));
    }
    if let Some(deadline) = spec["activeDeadlineSeconds"].as_i64().filter(|d| *d < 1) {
        errors.push(Invalid::invalid(
            &format!("{path}.activeDeadlineSeconds"),
            &deadline.into(),
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for (field, rule) in [
        ("hostname", names::label as fn(&str) -> Option<String>),
        ("subdomain", names::label),
        ("nodeName", names::subdomain),
        ("serviceAccountName", names::subdomain),
    ] {
        if let Some(name) = spec[field].as_str().filter(|n| !n.is_empty())
            && let Some(why) = rule(name)
        {
            errors.push(Invalid::invalid(&format!("{path}.{field}"), &spec[field], why));
        }
    }
    crate::metadata::labels(&spec["nodeSelector"], &format!("{path}.nodeSelector"), errors);
    tolerations(spec, path, errors);
}

/// An enumeration that must be set.
fn one_of(object: &Value, path: &str, field: &str, allowed: &[&str], errors: &mut Vec<Invalid>) {
    match object[field].as_str() {
        None | Some("") => errors.push(Invalid::required(&format!("{path}.{field}"), "")),
        Some(value) if !allowed.contains(&value) => {
            errors.push(Invalid::not_supported(&format!("{path}.{field}"), &object[field], allowed));
        }
        Some(_) => {}
    }
}

/// Two containers of a pod cannot have the same host port; on the host's network ports are host ports.
fn host_ports(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let mut taken = Vec::new();
    for (index, container) in spec["containers"].as_array().into_iter().flatten().enumerate() {
        for (at, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
            let host = &port["hostPort"];
            if host.is_null() || *host == 0 {
                continue;
            }
            let field = format!("{path}.containers[{index}].ports[{at}].hostPort");
            if !is_port(host) {
                errors.push(Invalid::invalid(&field, host, "must be between 1 and 65535, inclusive"));
            } else if spec["hostNetwork"] == true && port["containerPort"] != *host {
                errors.push(Invalid::invalid(&field, host, "must match `containerPort` when `hostNetwork` is true"));
            }
            let key = (port["protocol"].clone(), port["hostIP"].clone(), host.clone());
            if taken.contains(&key) {
                errors.push(Invalid::duplicate(&field, host));
            }
            taken.push(key);
        }
    }
}

fn tolerations(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (index, toleration) in spec["tolerations"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.tolerations[{index}]");
        let text = |field: &str| toleration[field].as_str().unwrap_or("");
        if !text("key").is_empty() {
            if let Some(why) = names::qualified(text("key")) {
                errors.push(Invalid::invalid(&format!("{at}.key"), &toleration["key"], why));
            }
        } else if text("operator") != "Exists" {
            errors.push(Invalid::invalid(
                &format!("{at}.operator"),
                &text("operator").into(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if text("operator") == "Exists" && !text("value").is_empty() {
            errors.push(Invalid::invalid(
                &format!("{at}.operator"),
                &toleration["operator"],
                "value must be empty when `operator` is 'Exists'",
            ));
        }
        if !["", "Equal", "Exists", "Lt", "Gt"].contains(&text("operator")) {
            errors.push(Invalid::not_supported(
                &format!("{at}.operator"),
                &toleration["operator"],
                &["Equal", "Exists"],
            ));
        }
        if !["", "NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&text("effect")) {
            errors.push(Invalid::not_supported(
                &format!("{at}.effect"),
                &toleration["effect"],
                &["NoExecute", "NoSchedule", "PreferNoSchedule"],
            ));
        }
    }
}

#[cfg(test)]
mod tests;
