//! Containers: defaults and checks.

mod env;
mod handlers;
mod mounts;
pub(crate) mod resources;

use serde_json::Value;

use super::{Pod, security};
use crate::names;
use crate::spot::{Errors, Spot};
use crate::tree::{child, each, made, set};

pub(super) use env::{file, file_volumes};
pub(crate) use resources::{amount, container_resource, overcommits, requirements, requirements_of_pod, resource_name};

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

/// True for an image without a tag or digest, and for the tag `latest`. What is no reference at all has no tag that is looked at.
pub(super) fn is_latest(image: &str) -> bool {
    if image.contains('@') || !is_reference(image) {
        return false;
    }
    match image.rsplit('/').next().unwrap_or(image).split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

/// The form of an image's name: `[host[:port]/]path[:tag]`, in lower case but for the host.
fn is_reference(image: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    if image.len() == 64 && image.chars().all(hex) {
        return false;
    }
    let (image, tag) = match image.rsplit_once(':') {
        Some((image, tag)) if !tag.contains('/') => (image, Some(tag)),
        _ => (image, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let tagged = tag.is_none_or(|tag| {
        tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
    });
    let mut parts: Vec<&str> = image.split('/').collect();
    let first = parts.first().copied().unwrap_or("");
    let is_host = first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase());
    if parts.len() > 1 && is_host {
        let (name, port) = first.split_once(':').map_or((first, None), |(name, port)| (name, Some(port)));
        let label = |part: &str| {
            let edge = |c: char| c.is_ascii_alphanumeric();
            part.starts_with(edge) && part.ends_with(edge) && part.chars().all(|c| edge(c) || c == '-')
        };
        let digits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if !name.split('.').all(label) || !port.is_none_or(digits) {
            return false;
        }
        parts.remove(0);
    }
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    // Parts of words are joined by one dot, one or two underscores, or any number of dashes.
    let component = |part: &&str| {
        let joined = |rest: &str| {
            rest.split(edge)
                .filter(|s| !s.is_empty())
                .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
        };
        part.starts_with(edge) && part.ends_with(edge) && joined(part)
    };
    tagged && parts.iter().map(|p| p.len() + 1).sum::<usize>() <= 256 && parts.iter().all(component)
}

/// What is wrong with a container of any list.
fn common(container: &Spot, pod: &Pod, errors: &mut Errors) {
    container.at("name").must_obey(names::label, errors);
    container.at("image").require(errors);
    container.at("terminationMessagePolicy").must_be_one_of(&["File", "FallbackToLogsOnError"], errors);
    ports(container, errors);
    env::validate(container, errors);
    mounts::validate(container, pod, errors);
    container.at("imagePullPolicy").must_be_one_of(&["Always", "IfNotPresent", "Never"], errors);
    requirements(&container.at("resources"), &pod.claims, errors);
    resize_policy(container, pod, errors);
    security::validate_container(&container.at("securityContext"), pod, errors);
}

/// The ordinary containers of a pod.
pub(super) fn validate(spec: &Spot, pod: &Pod, errors: &mut Errors) {
    let containers = spec.at("containers");
    if containers.len() == 0 {
        containers.missing("", errors);
        return;
    }
    let mut seen = Vec::new();
    for container in spec.list("containers") {
        common(&container, pod, errors);
        let name = container.at("name");
        match seen.contains(&name.text()) {
            true => name.duplicate(errors),
            false => seen.push(name.text()),
        }
        handlers::lifecycle(&container, pod, errors);
        handlers::probes(&container, pod, errors);
        restart_policy(&container, errors);
    }
    let mut taken = Vec::new();
    for container in spec.list("containers") {
        host_ports(&container, &mut taken, errors);
    }
}

/// The init containers, sidecars among them.
pub(super) fn validate_init(spec: &Spot, pod: &Pod, errors: &mut Errors) {
    let mut seen: Vec<&str> = spec.list("containers").map(|c| c.at("name").text()).collect();
    for container in spec.list("initContainers") {
        common(&container, pod, errors);
        let policy = container.at("restartPolicy");
        let sidecar = policy.text() == "Always";
        match policy.is_set() {
            true => restart_policy(&container, errors),
            false if container.at("restartPolicyRules").len() > 0 => {
                policy.missing("must specify restartPolicy when restart rules are used", errors);
            }
            false => {}
        }
        let name = container.at("name");
        match seen.contains(&name.text()) {
            true => name.duplicate(errors),
            false if !name.text().is_empty() => seen.push(name.text()),
            false => {}
        }
        // Upstream names the place as if the container stood alone.
        let mut taken = Vec::new();
        host_ports(&container, &mut taken, errors);
        if sidecar {
            handlers::lifecycle(&container, pod, errors);
            handlers::probes(&container, pod, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.at(field).is_set() {
                container.at(field).forbid("may not be set for init containers without restartPolicy=Always", errors);
            }
        }
        for rule in container.list("resizePolicy").filter(|r| r.at("restartPolicy").text() == "RestartContainer") {
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            rule.at("restartPolicy").fail(detail, errors);
        }
    }
}

/// What an ephemeral container may have; upstream names the rest in this order.
const NOT_EPHEMERAL: [&str; 8] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
];

/// Containers that are added to a running pod.
pub(super) fn validate_ephemeral(spec: &Spot, pod: &Pod, errors: &mut Errors) {
    let named = |list| spec.list(list).map(|c| c.at("name").text());
    let others: Vec<&str> = named("containers").chain(named("initContainers")).collect();
    let mut seen = others.clone();
    for container in spec.list("ephemeralContainers") {
        common(&container, pod, errors);
        trimmed(&container, errors);
        let (name, target) = (container.at("name"), container.at("targetContainerName"));
        match seen.contains(&name.text()) {
            true => name.duplicate(errors),
            false => seen.push(name.text()),
        }
        if !target.text().is_empty() && !others.contains(&target.text()) {
            errors.push(object::Invalid::not_found(&target.path(), target.value));
        }
        for field in NOT_EPHEMERAL.into_iter().chain(["lifecycle"]) {
            let empty = container.at(field).value.as_object().is_some_and(serde_json::Map::is_empty);
            if container.at(field).is_set() && !(empty && field == "resources") {
                container.at(field).forbid("cannot be set for an Ephemeral Container", errors);
            }
        }
        for mount in container.list("volumeMounts") {
            for field in ["subPath", "subPathExpr"].into_iter().filter(|f| !mount.at(f).text().is_empty()) {
                mount.at(field).forbid("cannot be set for an Ephemeral Container", errors);
            }
        }
    }
}

/// Pods' images, not templates', are without spaces around.
pub(crate) fn trimmed(container: &Spot, errors: &mut Errors) {
    let image = container.at("image");
    if image.text().trim() != image.text() {
        image.fail("must not have leading or trailing whitespace", errors);
    }
}

fn ports(container: &Spot, errors: &mut Errors) {
    let mut seen = Vec::new();
    for port in container.list("ports") {
        let name = port.at("name");
        let before = errors.len();
        name.named(names::port_name, errors);
        if errors.len() == before && !name.text().is_empty() {
            match seen.contains(&name.text()) {
                true => name.duplicate(errors),
                false => seen.push(name.text()),
            }
        }
        match port.at("containerPort").count() {
            0 => port.at("containerPort").missing("", errors),
            _ => port.at("containerPort").port_number(errors),
        }
        if port.at("hostPort").count() != 0 {
            port.at("hostPort").port_number(errors);
        }
        port.at("protocol").must_be_one_of(&["SCTP", "TCP", "UDP"], errors);
    }
}

/// Two containers cannot have the same port of the host.
fn host_ports(container: &Spot, taken: &mut Vec<String>, errors: &mut Errors) {
    for port in container.list("ports").filter(|p| p.at("hostPort").count() != 0) {
        let text =
            format!("{}/{}/{}", port.at("protocol").text(), port.at("hostIP").text(), port.at("hostPort").count());
        if taken.contains(&text) {
            errors.push(object::Invalid::duplicate(&port.at("hostPort").path(), &text.into()));
        } else {
            taken.push(text);
        }
    }
}

fn resize_policy(container: &Spot, pod: &Pod, errors: &mut Errors) {
    let all = container.at("resizePolicy");
    let mut seen = Vec::new();
    for rule in container.list("resizePolicy") {
        let (resource, policy) = (rule.at("resourceName"), rule.at("restartPolicy"));
        if seen.contains(&resource.text()) {
            errors.push(object::Invalid::duplicate(&rule.path(), resource.value));
        }
        seen.push(resource.text());
        for (text, allowed) in [(&resource, ["cpu", "memory"]), (&policy, ["NotRequired", "RestartContainer"])] {
            match text.text() {
                "" => all.missing("", errors),
                given if !allowed.contains(&given) => {
                    errors.push(object::Invalid::unsupported(&all.path(), text.value, &allowed));
                }
                _ => {}
            }
        }
        if pod.restart_policy == "Never" && policy.text() != "NotRequired" {
            all.fail_as(policy.text(), "must be 'NotRequired' when pod `restartPolicy` is 'Never'", errors);
        }
    }
}

/// The policy of a single container, and its rules.
fn restart_policy(container: &Spot, errors: &mut Errors) {
    let (policy, rules) = (container.at("restartPolicy"), container.at("restartPolicyRules"));
    if policy.is_set() {
        policy.exactly_one_of(&["Always", "Never", "OnFailure"], errors);
    } else if rules.len() > 0 {
        policy.missing("must specify restartPolicy when restart rules are used", errors);
    } else {
        return;
    }
    if rules.len() > 20 {
        errors.push(object::Invalid::too_many(&rules.path(), rules.len(), 20));
    }
    for rule in container.list("restartPolicyRules") {
        rule.at("action").exactly_one_of(&["Restart", "RestartAllContainers"], errors);
        let codes = rule.at("exitCodes");
        if !codes.is_set() {
            codes.missing("must be specified", errors);
            continue;
        }
        codes.at("operator").exactly_one_of(&["In", "NotIn"], errors);
        if codes.at("values").len() > 255 {
            errors.push(object::Invalid::too_many(&codes.at("values").path(), codes.at("values").len(), 255));
        }
    }
}
