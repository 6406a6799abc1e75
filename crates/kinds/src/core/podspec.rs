//! The pod spec, shared by pods and all workloads: defaults and checks.

pub(crate) mod containers;
mod paths;
mod placement;
mod pod_resources;
mod security;
mod volumes;
pub(crate) mod warnings;

use object::Invalid;
use serde_json::{Value, json};

use crate::names;
use crate::spot::{Errors, Spot};
use crate::tree::each;
pub(crate) use crate::tree::set;

use containers::requirements;
pub(crate) use containers::{amount, container_resource, overcommits, resource_name, trimmed};
pub(crate) use placement::{node_selector, tolerations};
pub(crate) use volumes::{default_source, persistent, validate_csi_driver};

/// The lists of containers that a pod has, in upstream's order.
pub(crate) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What the checks of containers know of their pod.
struct Pod<'v> {
    volumes: Vec<(&'v str, &'v Value)>,
    claims: Vec<&'v str>,
    grace: Option<i64>,
    restart_policy: &'v str,
    host_users: bool,
}

/// Defaults of a pod: those of every pod spec, and those that only a pod has, not the template that it came from.
pub(crate) fn default_pod(spec: &mut Value) {
    default(spec);
    set(spec, "enableServiceLinks", true);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    let host_network = spec["hostNetwork"] == true;
    for list in ["initContainers", "containers"] {
        each(spec, list, |container| containers::default_in_pod(container, host_network));
    }
    pod_resources::default(spec);
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

/// Drops what is not offered yet: fields behind gates that are shut.
pub(crate) fn drop_disabled(spec: &mut Value) {
    for list in LISTS {
        each(spec, list, |container| {
            if let Some(lifecycle) = crate::tree::child(container, "lifecycle") {
                crate::tree::remove(lifecycle, "stopSignal");
            }
        });
    }
    each(spec, "volumes", |volume| {
        each(volume, "projected.sources", |source| {
            for field in ["clusterTrustBundle", "podCertificate"] {
                crate::tree::remove(source, field);
            }
        });
    });
    crate::tree::remove(spec, "schedulingGroup");
}

/// Adds what is wrong with a pod's spec, or that of a template (`metadata` is `null`).
pub(crate) fn validate(spec: &Spot, metadata: &Value, errors: &mut Errors) {
    let volumes = volumes::validate(spec, metadata["name"].as_str(), errors);
    let pod = Pod {
        volumes,
        claims: spec.list("resourceClaims").map(|c| c.at("name").text()).filter(|n| !n.is_empty()).collect(),
        grace: spec.at("terminationGracePeriodSeconds").number(),
        restart_policy: spec.at("restartPolicy").text(),
        host_users: *spec.at("hostUsers").value != false,
    };
    claims(spec, metadata, errors);
    containers::validate(spec, &pod, errors);
    containers::validate_init(spec, &pod, errors);
    containers::validate_ephemeral(spec, &pod, errors);
    pod_resources::validate(spec, &pod, errors);
    host_network(spec, errors);
    spec.at("restartPolicy").must_be_one_of(&["Always", "OnFailure", "Never"], errors);
    spec.at("dnsPolicy").must_be_one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    spec.at("nodeSelector").labels(errors);
    security::validate_pod(spec, errors);
    placement::affinity(&spec.at("affinity"), errors);
    dns(spec, errors);
    for gate in spec.list("readinessGates") {
        gate.at("conditionType").obey(names::qualified, errors);
    }
    placement::gates(spec, errors);
    placement::spreading(spec, errors);
    security::host_processes(spec, errors);
    security::host_users(spec, errors);
    host_name_override(spec, errors);
    spec.at("serviceAccountName").named(names::subdomain, errors);
    spec.at("nodeName").named(names::subdomain, errors);
    spec.at("activeDeadlineSeconds").within(1, i32::MAX.into(), errors);
    spec.at("hostname").named(names::label, errors);
    spec.at("subdomain").named(names::label, errors);
    placement::tolerations(spec, errors);
    for alias in spec.list("hostAliases") {
        alias.at("ip").ip(errors);
        alias.list("hostnames").for_each(|name| name.obey(names::subdomain, errors));
    }
    spec.at("priorityClassName").named(names::subdomain, errors);
    if spec.at("runtimeClassName").is_set() {
        spec.at("runtimeClassName").obey(names::subdomain, errors);
    }
    let preemption = spec.at("preemptionPolicy");
    if preemption.is_set() {
        preemption.must_be_one_of(&["PreemptLowerPriority", "Never"], errors);
    }
    overhead(&spec.at("overhead"), errors);
    security::operating_system(spec, errors);
    containers::file_volumes(spec, errors);
}

/// Adds what is wrong with a pod, but not with a template.
pub(crate) fn validate_of_pod(spec: &Spot, errors: &mut Errors) {
    if spec.at("serviceAccountName").text().is_empty() {
        for volume in spec.list("volumes") {
            let projected = volume.at("projected");
            for source in projected.list("sources").filter(|s| s.at("serviceAccountToken").is_set()) {
                let detail = "must not be specified when serviceAccountName is not set";
                source.at("serviceAccountToken").forbid(detail, errors);
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.list(list).for_each(|container| containers::trimmed(&container, errors));
    }
}

/// What a runtime needs beside the containers.
pub(crate) fn overhead(overhead: &Spot, errors: &mut Errors) {
    if overhead.is_set() {
        let limits = json!({"limits": overhead.value});
        let mut found = Vec::new();
        requirements(&Spot::new(&limits, &overhead.path()), &[], &mut found);
        errors.append(&mut found);
    }
}

/// Claims of devices.
fn claims(spec: &Spot, metadata: &Value, errors: &mut Errors) {
    let mirrored = metadata["annotations"].get("kubernetes.io/config.mirror").is_some();
    let mut seen = Vec::new();
    for claim in spec.list("resourceClaims") {
        if mirrored {
            errors.push(Invalid::forbidden("", "static pods do not support resource claims"));
            continue;
        }
        let (name, claimed, template) =
            (claim.at("name"), claim.at("resourceClaimName"), claim.at("resourceClaimTemplateName"));
        if name.text().is_empty() {
            name.missing("", errors);
        } else if seen.contains(&name.text()) {
            name.duplicate(errors);
        } else {
            name.obey(names::label, errors);
            seen.push(name.text());
        }
        match (claimed.is_set(), template.is_set()) {
            (true, true) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                claim.fail(detail, errors);
            }
            (false, false) => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                claim.fail(detail, errors);
            }
            _ => {}
        }
        for name in [&claimed, &template].into_iter().filter(|n| n.is_set()) {
            name.obey(names::subdomain, errors);
        }
    }
}

/// On the host's network every port is a port of the host.
fn host_network(spec: &Spot, errors: &mut Errors) {
    if !spec.at("hostNetwork").is_true() {
        return;
    }
    for list in ["containers", "initContainers"] {
        for container in spec.list(list) {
            for port in container.list("ports") {
                let host = port.at("hostPort");
                if host.count() != port.at("containerPort").count() {
                    host.fail_as(host.count(), "must match `containerPort` when `hostNetwork` is true", errors);
                }
            }
        }
    }
}

fn host_name_override(spec: &Spot, errors: &mut Errors) {
    let name = spec.at("hostnameOverride");
    if !name.is_set() {
        return;
    }
    for field in ["setHostnameAsFQDN", "hostNetwork"].into_iter().filter(|f| spec.at(f).is_true()) {
        name.forbid(format!("may not be specified when {field} is true"), errors);
    }
    if name.text().len() > 64 {
        errors.push(Invalid::too_long(&name.path(), 64));
    }
    name.obey(names::subdomain, errors);
}

/// Without a policy the pod must bring its own name servers.
fn dns(spec: &Spot, errors: &mut Errors) {
    let config = spec.at("dnsConfig");
    let (servers, searches) = (config.at("nameservers"), config.at("searches"));
    if spec.at("dnsPolicy").text() == "None" {
        if !config.is_set() {
            return config.missing("must provide `dnsConfig` when `dnsPolicy` is None", errors);
        }
        if servers.len() == 0 {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return servers.missing(detail, errors);
        }
    }
    if servers.len() > 3 {
        servers.fail("must not have more than 3 nameservers", errors);
    }
    config.list("nameservers").for_each(|server| server.ip(errors));
    if searches.len() > 32 {
        searches.fail("must not have more than 32 search paths", errors);
    }
    let whole: usize = config.list("searches").map(|s| s.text().len() + 1).sum::<usize>().saturating_sub(1);
    if whole > 2048 {
        let detail = "must not have more than 2048 characters (including spaces) in the search list";
        searches.fail(detail, errors);
    }
    for search in config.list("searches") {
        // A lone dot is the root; names may end in one.
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        if search.text() != "." {
            names::subdomain_with_underscore(name).into_iter().for_each(|why| search.fail_as(name, why, errors));
        }
    }
    for option in config.list("options").filter(|o| o.at("name").text().is_empty()) {
        option.missing("must not be empty", errors);
    }
}

#[cfg(test)]
mod tests;
