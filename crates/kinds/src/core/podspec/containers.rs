//! Containers: defaults and checks.

use object::{Invalid, Quantity};
use serde_json::Value;

use super::{one_of, security};
use crate::core::service::is_port;
use crate::tree::{child, each, made, set};
use crate::{checks, names};

/// Defaults of a container in a pod or a template.
pub(super) fn default(container: &mut Value) {
    let latest = container["image"].as_str().is_some_and(is_latest);
    set(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
    set(container, "terminationMessagePath", "/dev/termination-log");
    set(container, "terminationMessagePolicy", "File");
    made(container, "resources");
    each(container, "ports", |port| set(port, "protocol", "TCP"));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = child(container, probe) else { continue };
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            if probe.get(field).is_none_or(|v| v.is_null() || v == 0) {
                probe[field] = value.into();
            }
        }
        default_http(probe);
        if let Some(grpc) = child(probe, "grpc")
            && grpc["service"].is_null()
        {
            grpc["service"] = "".into();
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(hook) = child(container, hook) {
            default_http(hook);
        }
    }
    each(container, "env", |variable| {
        if let Some(reference) = child(variable, "valueFrom.fieldRef") {
            set(reference, "apiVersion", "v1");
        }
        if let Some(reference) = child(variable, "valueFrom.fileKeyRef") {
            set(reference, "optional", false);
        }
    });
}

/// Defaults that a container has only in a pod, not in a template: what is limited and not requested is requested as limited,
/// and on the host's network every port is a port of the host.
pub(super) fn default_in_pod(container: &mut Value, host_network: bool) {
    if let Some(resources) = child(container, "resources")
        && let Some(limits) = resources["limits"].as_object().cloned()
        && let Some(requests) = made(resources, "requests")
    {
        for (resource, limit) in limits {
            set(requests, &resource, limit);
        }
    }
    each(container, "ports", |port| {
        if host_network && port.get("hostPort").is_none_or(|p| p.is_null() || p == 0) {
            port["hostPort"] = port["containerPort"].clone();
        }
    });
}

fn default_http(handler: &mut Value) {
    if let Some(action) = child(handler, "httpGet") {
        set(action, "path", "/");
        set(action, "scheme", "HTTP");
    }
}

/// True for an image without a tag or digest, and for the tag `latest`.
pub(super) fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    match image.rsplit('/').next().unwrap_or(image).split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

/// `seen` collects container names over all lists of the pod.
pub(super) fn validate<'a>(
    container: &'a Value,
    path: &str,
    volumes: &[&str],
    seen: &mut Vec<&'a str>,
    errors: &mut Vec<Invalid>,
) {
    let name = container["name"].as_str().unwrap_or("");
    if name.is_empty() {
        errors.push(Invalid::required(&format!("{path}.name"), ""));
    } else if let Some(why) = names::label(name) {
        errors.push(Invalid::invalid(&format!("{path}.name"), &container["name"], why));
    } else if seen.contains(&name) {
        errors.push(Invalid::duplicate(&format!("{path}.name"), &container["name"]));
    } else {
        seen.push(name);
    }
    match container["image"].as_str() {
        None | Some("") => errors.push(Invalid::required(&format!("{path}.image"), "")),
        Some(image) if image.trim() != image => {
            errors.push(Invalid::invalid(
                &format!("{path}.image"),
                &container["image"],
                "must not have leading or trailing whitespace",
            ));
        }
        Some(_) => {}
    }
    one_of(container, path, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], errors);
    one_of(container, path, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], errors);
    ports(container, path, errors);
    env(container, path, errors);
    mounts(container, path, volumes, errors);
    for (probe, once) in [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)] {
        if container[probe].is_object() {
            validate_probe(&container[probe], &format!("{path}.{probe}"), once, errors);
        }
    }
    for hook in ["postStart", "preStop"] {
        let hook_value = &container["lifecycle"][hook];
        if hook_value.is_object() {
            handler(
                hook_value,
                &format!("{path}.lifecycle.{hook}"),
                &["exec", "httpGet", "tcpSocket", "sleep"],
                errors,
            );
        }
    }
    resources(&container["resources"], &format!("{path}.resources"), errors);
    security::validate_container(&container["securityContext"], &format!("{path}.securityContext"), errors);
}

fn ports(container: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let mut names_seen = Vec::new();
    for (index, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.ports[{index}]");
        if let Some(name) = port["name"].as_str().filter(|n| !n.is_empty()) {
            if let Some(why) = names::port_name(name) {
                errors.push(Invalid::invalid(&format!("{at}.name"), &port["name"], why));
            } else if names_seen.contains(&name) {
                errors.push(Invalid::duplicate(&format!("{at}.name"), &port["name"]));
            }
            names_seen.push(name);
        }
        let number = &port["containerPort"];
        if number.is_null() || *number == 0 {
            errors.push(Invalid::required(&format!("{at}.containerPort"), ""));
        } else if !is_port(number) {
            errors.push(Invalid::invalid(
                &format!("{at}.containerPort"),
                number,
                "must be between 1 and 65535, inclusive",
            ));
        }
        one_of(port, &at, "protocol", &["SCTP", "TCP", "UDP"], errors);
    }
}

const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

fn env(container: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (index, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.env[{index}]");
        let name = variable["name"].as_str().unwrap_or("");
        if name.is_empty() {
            errors.push(Invalid::required(&format!("{at}.name"), ""));
        } else if !name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
            let why =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            errors.push(Invalid::invalid(&format!("{at}.name"), &variable["name"], why));
        }
        let from = &variable["valueFrom"];
        if !from.is_object() {
            continue;
        }
        let sources: Vec<&str> = SOURCES.into_iter().filter(|s| from[*s].is_object()).collect();
        let place = format!("{at}.valueFrom");
        for source in &sources {
            let reference = &from[*source];
            if source.ends_with("KeyRef") && reference["key"].as_str().is_none_or(str::is_empty) {
                errors.push(Invalid::required(&format!("{place}.{source}.key"), ""));
            }
            if *source == "fieldRef" && reference["fieldPath"].as_str().is_none_or(str::is_empty) {
                errors.push(Invalid::required(&format!("{place}.fieldRef.fieldPath"), ""));
            }
        }
        if sources.is_empty() {
            errors.push(Invalid::invalid(&place, &"".into(), "must specify one of: `configMapKeyRef`, `fieldRef`, `fileKeyRef`, `resourceFieldRef` or `secretKeyRef`"));
        } else if variable["value"].as_str().is_some_and(|v| !v.is_empty()) {
            errors.push(Invalid::invalid(&place, &"".into(), "may not be specified when `value` is not empty"));
        } else if sources.len() > 1 {
            errors.push(Invalid::invalid(&place, &"".into(), "may not have more than one field specified at a time"));
        }
    }
    for (index, source) in container["envFrom"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.envFrom[{index}]");
        match (source["configMapRef"].is_object(), source["secretRef"].is_object()) {
            (false, false) => {
                errors.push(Invalid::invalid(&at, &"".into(), "must specify one of: `configMapRef` or `secretRef`"))
            }
            (true, true) => {
                errors.push(Invalid::invalid(&at, &"".into(), "may not have more than one field specified at a time"))
            }
            _ => {}
        }
    }
}

fn mounts(container: &Value, path: &str, volumes: &[&str], errors: &mut Vec<Invalid>) {
    let mut paths = Vec::new();
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.volumeMounts[{index}]");
        let name = mount["name"].as_str().unwrap_or("");
        if name.is_empty() {
            errors.push(Invalid::required(&format!("{at}.name"), ""));
        } else if !volumes.contains(&name) {
            errors.push(Invalid::not_found(&format!("{at}.name"), &mount["name"]));
        }
        match mount["mountPath"].as_str() {
            None | Some("") => errors.push(Invalid::required(&format!("{at}.mountPath"), "")),
            Some(target) if paths.contains(&target) => {
                errors.push(Invalid::invalid(&format!("{at}.mountPath"), &mount["mountPath"], "must be unique"));
            }
            Some(target) => paths.push(target),
        }
        if let Some(sub) = mount["subPath"].as_str().filter(|s| !s.is_empty()) {
            if sub.starts_with('/') {
                errors.push(Invalid::invalid(&format!("{at}.subPath"), &mount["subPath"], "must be a relative path"));
            } else if sub.split('/').any(|part| part == "..") {
                errors.push(Invalid::invalid(&format!("{at}.subPath"), &mount["subPath"], "must not contain '..'"));
            }
        }
    }
}

fn handler(action: &Value, path: &str, kinds: &[&str], errors: &mut Vec<Invalid>) {
    let set: Vec<&&str> = kinds.iter().filter(|k| action[**k].is_object()).collect();
    if set.is_empty() {
        errors.push(Invalid::required(path, "must specify a handler type"));
    }
    for extra in set.iter().skip(1) {
        errors.push(Invalid::forbidden(&format!("{path}.{extra}"), "may not specify more than 1 handler type"));
    }
    if action["exec"].is_object() && action["exec"]["command"].as_array().is_none_or(Vec::is_empty) {
        errors.push(Invalid::required(&format!("{path}.exec.command"), ""));
    }
    for kind in ["httpGet", "tcpSocket", "grpc"].into_iter().filter(|k| action[*k].is_object()) {
        checks::port(&action[kind]["port"], &format!("{path}.{kind}.port"), errors);
    }
    if action["httpGet"].is_object() {
        one_of(&action["httpGet"], &format!("{path}.httpGet"), "scheme", &["HTTP", "HTTPS"], errors);
    }
}

fn validate_probe(probe: &Value, path: &str, once: bool, errors: &mut Vec<Invalid>) {
    handler(probe, path, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        if let Some(value) = probe[field].as_i64().filter(|v| *v < 0) {
            errors.push(Invalid::invalid(
                &format!("{path}.{field}"),
                &value.into(),
                "must be greater than or equal to 0",
            ));
        }
    }
    if probe["terminationGracePeriodSeconds"].as_i64().is_some_and(|s| s <= 0) {
        let at = format!("{path}.terminationGracePeriodSeconds");
        errors.push(Invalid::invalid(&at, &probe["terminationGracePeriodSeconds"], "must be greater than 0"));
    }
    if once && probe["successThreshold"].as_i64().is_some_and(|s| s != 1) {
        errors.push(Invalid::invalid(&format!("{path}.successThreshold"), &probe["successThreshold"], "must be 1"));
    }
}

/// Resources that may be promised more often than they are there.
fn overcommits(resource: &str) -> bool {
    !resource.contains('/') && !resource.starts_with("hugepages-")
}

fn resources(resources: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let amount = |kind: &str, name: &str| resources[kind][name].as_str().and_then(Quantity::parse);
    for kind in ["limits", "requests"] {
        for (name, value) in resources[kind].as_object().into_iter().flatten() {
            let at = format!("{path}.{kind}[{name}]");
            if let Some(why) = names::qualified(name) {
                errors.push(Invalid::invalid(&at, &name.as_str().into(), why));
            } else if !name.contains('/')
                && !["cpu", "memory", "ephemeral-storage"].contains(&name.as_str())
                && !name.starts_with("hugepages-")
            {
                let detail = "must be a standard resource type or fully qualified";
                errors.push(Invalid::invalid(&at, &name.as_str().into(), detail));
                let detail = "must be a standard resource for containers";
                errors.push(Invalid::invalid(&at, &name.as_str().into(), detail));
            }
            if amount(kind, name).is_some_and(Quantity::is_negative) {
                errors.push(Invalid::invalid(&at, value, "must be greater than or equal to 0"));
            } else if name.contains('/') && amount(kind, name).is_some_and(|q| q != Quantity::from_units(q.units())) {
                errors.push(Invalid::invalid(&at, value, "must be an integer"));
            }
        }
    }
    for (name, value) in resources["requests"].as_object().into_iter().flatten() {
        let Some(request) = amount("requests", name) else { continue };
        let limited = resources["limits"][name].as_str().unwrap_or("");
        let relation = match amount("limits", name) {
            Some(limit) if request != limit && !overcommits(name) => "equal to",
            Some(limit) if request > limit => "less than or equal to",
            None if !overcommits(name) => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(Invalid::required(&format!("{path}.limits"), detail));
                continue;
            }
            _ => continue,
        };
        let detail = format!("must be {relation} {name} limit of {limited}");
        errors.push(Invalid::invalid(&format!("{path}.requests"), value, detail));
    }
}
