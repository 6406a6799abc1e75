//! The resources that the server in memory knows, and what discovery says of them.

use bytes::Bytes;
use object::Status;
use serde_json::json;

use crate::Result;

/// Group, version, plural, kind, namespaced.
const RESOURCES: &[(&str, &str, &str, &str, bool)] = &[
    ("", "v1", "configmaps", "ConfigMap", true),
    ("", "v1", "endpoints", "Endpoints", true),
    ("", "v1", "events", "Event", true),
    ("", "v1", "namespaces", "Namespace", false),
    ("", "v1", "nodes", "Node", false),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("", "v1", "persistentvolumes", "PersistentVolume", false),
    ("", "v1", "pods", "Pod", true),
    ("", "v1", "secrets", "Secret", true),
    ("", "v1", "serviceaccounts", "ServiceAccount", true),
    ("", "v1", "services", "Service", true),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", true),
    ("apps", "v1", "daemonsets", "DaemonSet", true),
    ("apps", "v1", "deployments", "Deployment", true),
    ("apps", "v1", "replicasets", "ReplicaSet", true),
    ("apps", "v1", "statefulsets", "StatefulSet", true),
    ("batch", "v1", "cronjobs", "CronJob", true),
    ("batch", "v1", "jobs", "Job", true),
    ("coordination.k8s.io", "v1", "leases", "Lease", true),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", false),
];

/// The plural of a kind.
pub(super) fn plural(kind: &str) -> String {
    match RESOURCES.iter().find(|r| r.3 == kind) {
        Some((_, _, plural, _, _)) => (*plural).into(),
        None if kind.ends_with('s') => format!("{}es", kind.to_lowercase()),
        None => format!("{}s", kind.to_lowercase()),
    }
}

/// `/api`, `/apis`, `/api/v1`, `/apis/<group>/<version>`.
pub(super) fn get(path: &str) -> Result<Bytes> {
    let body = match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"]}),
        ["apis"] => groups(),
        ["api", version] => resources("", version)?,
        ["apis", group, version] => resources(group, version)?,
        _ => return Err(Status::new(object::Reason::NotFound, "the server could not find the requested resource")),
    };
    Ok(body.to_string().into())
}

fn groups() -> serde_json::Value {
    let mut names: Vec<&str> = RESOURCES.iter().map(|r| r.0).filter(|g| !g.is_empty()).collect();
    names.dedup();
    let groups: Vec<_> = names
        .iter()
        .map(|name| {
            let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
            json!({"name": name, "versions": [version], "preferredVersion": version})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(group: &str, version: &str) -> Result<serde_json::Value> {
    let found: Vec<_> = RESOURCES
        .iter()
        .filter(|r| (r.0, r.1) == (group, version))
        .map(|(_, _, plural, kind, namespaced)| {
            json!({"name": plural, "kind": kind, "namespaced": namespaced, "singularName": "",
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]})
        })
        .collect();
    if found.is_empty() {
        return Err(Status::new(object::Reason::NotFound, "the server could not find the requested resource"));
    }
    let group_version = object::names::api_version(group, version);
    Ok(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}))
}
