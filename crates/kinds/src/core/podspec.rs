//! The pod spec, shared by pods and all workloads: defaults and checks.

mod containers;
mod placement;
mod security;
mod volumes;

use object::Invalid;
use serde_json::{Value, json};

use crate::core::service::is_port;
pub(crate) use crate::tree::set;
use crate::tree::{each, list, text};
use crate::{checks, names};

/// Defaults of a pod: those of every pod spec, and those that only a pod has, not the template that it came from.
pub(crate) fn default_pod(spec: &mut Value) {
    default(spec);
    set(spec, "enableServiceLinks", true);
    let host_network = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        each(spec, list, |container| containers::default_in_pod(container, host_network));
    }
}

/// Defaults of any pod spec, in a pod or a template.
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
    // The deprecated alias follows the name.
    if let Some(account) = spec["serviceAccountName"].as_str().filter(|a| !a.is_empty()).map(str::to_owned) {
        spec["serviceAccount"] = account.into();
    } else if let Some(account) = spec["serviceAccount"].as_str().map(str::to_owned) {
        spec["serviceAccountName"] = account.into();
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, containers::default);
    }
    each(spec, "volumes", volumes::default);
    for field in ["serviceAccount", "serviceAccountName"] {
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
    one_of(spec, path, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
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
    placement::validate(spec, path, errors);
    security::validate_pod(&spec["securityContext"], &format!("{path}.securityContext"), errors);
    dns(spec, path, errors);
    checks::one_of(spec, path, "preemptionPolicy", &["Never", "PreemptLowerPriority"], errors);
    checks::named(spec, path, "priorityClassName", names::subdomain, errors);
    checks::named(spec, path, "runtimeClassName", names::subdomain, errors);
    for (index, alias) in list(&spec["hostAliases"]).iter().enumerate() {
        if text(&alias["ip"]).parse::<std::net::IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(Invalid::invalid(
                &format!("{path}.hostAliases[{index}].ip"),
                &text(&alias["ip"]).into(),
                detail,
            ));
        }
        for (place, name) in list(&alias["hostnames"]).iter().enumerate() {
            if let Some(why) = names::subdomain(text(name)) {
                errors.push(Invalid::invalid(&format!("{path}.hostAliases[{index}].hostnames[{place}]"), name, why));
            }
        }
    }
}

/// Without a policy the pod must bring its own name servers.
fn dns(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let (config, at) = (&spec["dnsConfig"], format!("{path}.dnsConfig"));
    let servers = list(&config["nameservers"]);
    if spec["dnsPolicy"] == "None" {
        if !config.is_object() {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(Invalid::required(&at, detail));
        } else if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Invalid::required(&format!("{at}.nameservers"), detail));
        }
    }
    if servers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        errors.push(Invalid::invalid(&format!("{at}.nameservers"), &config["nameservers"], detail));
    }
    for (index, server) in servers.iter().enumerate() {
        if text(server).parse::<std::net::IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(Invalid::invalid(&format!("{at}.nameservers[{index}]"), server, detail));
        }
    }
    let searches = list(&config["searches"]);
    if searches.len() > 32 {
        let detail = "must not have more than 32 search paths";
        errors.push(Invalid::invalid(&format!("{at}.searches"), &config["searches"], detail));
    }
    for (index, option) in list(&config["options"]).iter().enumerate() {
        if text(&option["name"]).is_empty() {
            errors.push(Invalid::required(&format!("{at}.options[{index}]"), "must not be empty"));
        }
    }
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

#[cfg(test)]
mod tests;
