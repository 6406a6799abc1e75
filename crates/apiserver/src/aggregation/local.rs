//! APIServices of what this server serves itself: there for every group and version, as upstream has them.

use client::Resource;
use serde_json::{Value, json};

use super::apiservices;
use crate::api::Api;
use crate::delete::DeleteRequest;
use crate::user::User;
use crate::write::WriteQuery;

const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Priorities of a built-in group and version; those of custom resources have the last line's.
fn priorities(group: &str, version: &str) -> (i64, i64) {
    let of_group = match group {
        "" => 18_000,
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" | "resource.k8s.io" => 16_200,
        "flowcontrol.apiserver.k8s.io" => 16_100,
        _ => return (1000, 100),
    };
    let of_version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", "v1") => 21,
        (_, "v1") => 15,
        _ => 9,
    };
    (of_group, of_version)
}

fn name(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

fn object(group: &str, version: &str) -> Value {
    let (of_group, of_version) = priorities(group, version);
    let managed = if of_group == 1000 { "true" } else { "onstart" };
    let mut spec = json!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
    if !group.is_empty() {
        spec["group"] = group.into();
    }
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name(group, version), "labels": {(MANAGED): managed}}, "spec": spec})
}

impl Api {
    /// Makes what is missing of a group that is served in these versions, and removes what custom resources left behind. `present`: the
    /// names of its APIServices.
    pub(super) async fn keep_local_apiservices(&self, group: &str, versions: &[String], present: &[&str]) {
        // Its own group is there without saying so, as upstream.
        if group == "apiregistration.k8s.io" {
            return;
        }
        let Ok(kind) = self.stored_kind_of(&apiservices()) else { return };
        let kind = &*kind;
        let is_there = |name: &str| self.store.get(&format!("{}{name}", super::APISERVICES));
        let missing = versions.iter().filter(|version| is_there(&name(group, version)).is_none());
        let (user, query) =
            (User::superuser(), WriteQuery { manager: Some("kube-apiserver".into()), ..WriteQuery::default() });
        let at = Resource::collection(&apiservices(), None);
        let creates = missing.map(|v| self.create_value(&user, kind, &at, object(group, v), &query, Vec::new()));
        for created in futures::future::join_all(creates).await {
            if let Err(error) = created.map(drop)
                && !error.is_already_exists()
            {
                tracing::warn!(%error, "cannot create an APIService");
            }
        }
        for left in present.iter().filter(|present| !versions.iter().any(|version| name(group, version) == **present)) {
            let managed =
                is_there(left).is_some_and(|v| v.object.head.labels.get(MANAGED).is_some_and(|m| m == "true"));
            if !managed {
                continue;
            }
            let at = Resource::object(&apiservices(), None, left);
            if let Err(error) = self.delete(&user, &at, &DeleteRequest::default(), &mut Vec::new()).await.map(drop) {
                tracing::debug!(%error, "an APIService is gone already");
            }
        }
    }
}
