//! What remote servers serve, added to what this server says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kinds::custom::by_priority;
use serde_json::{Value, json};

use super::{Aggregation, Remote, Remotes, merged};
use crate::discovery::Document;

/// An APIResourceList's resources, as aggregated discovery lists them: subresources under their resource.
pub(super) fn resources(group: &str, version: &str, list: &Value) -> Value {
    let all = list["resources"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let kind_of = |entry: &Value| {
        let or = |field: &str, own: &str| entry[field].as_str().filter(|t| !t.is_empty()).unwrap_or(own).to_owned();
        json!({"group": or("group", group), "version": or("version", version), "kind": entry["kind"]})
    };
    let mut found: Vec<Value> = Vec::new();
    for entry in all.iter().filter(|e| !text(&e["name"]).contains('/')) {
        let mut resource = json!({
            "resource": entry["name"], "singularResource": text(&entry["singularName"]), "verbs": entry["verbs"],
            "responseKind": kind_of(entry), "scope": if entry["namespaced"] == true { "Namespaced" } else { "Cluster" },
        });
        for field in ["shortNames", "categories"] {
            if entry[field].is_array() {
                resource[field] = entry[field].clone();
            }
        }
        let prefix = format!("{}/", text(&entry["name"]));
        let subresources: Vec<Value> = all
            .iter()
            .filter_map(|sub| Some((sub, text(&sub["name"]).strip_prefix(&prefix)?.to_owned())))
            .map(|(sub, name)| json!({"subresource": name, "verbs": sub["verbs"], "responseKind": kind_of(sub)}))
            .collect();
        if !subresources.is_empty() {
            resource["subresources"] = subresources.into();
        }
        found.push(resource);
    }
    found.into()
}

impl Aggregation {
    /// The document at a path, with what remote servers add to it; `base` is this server's own.
    pub(super) fn merge(&self, remotes: &Remotes, path: &str, base: Option<&Document>) -> Option<Document> {
        let path = path.strip_suffix('/').filter(|p| !p.is_empty()).unwrap_or(path);
        let mut value = match base {
            Some(base) => serde_json::from_slice(&base.body).ok()?,
            None => Value::Null,
        };
        match path {
            "/apis" if value["kind"] == "APIGroupDiscoveryList" => self.add_aggregated(&mut value),
            "/apis" => self.add_groups(&mut value),
            "/openapi/v3" => {
                for remote in remotes.values().filter(|r| r.openapi.is_some()) {
                    let path = format!("apis/{}/{}", remote.group, remote.version);
                    let url = format!("/openapi/v3/{path}?hash={}", remote.openapi.as_deref().unwrap_or(""));
                    value["paths"][path] = json!({"serverRelativeURL": url});
                }
            }
            "/openapi/v2" => {
                for part in remotes.values().filter_map(|remote| remote.v2.as_deref()) {
                    merged::add_v2(&mut value, part);
                }
            }
            _ => {
                let group = path.strip_prefix("/apis/").filter(|g| !g.contains('/'))?;
                if !remotes.values().any(|r| r.group == group) {
                    return None;
                }
                let mut list = json!({"groups": if value.is_object() { vec![value.take()] } else { vec![] }});
                self.add_groups(&mut list);
                let groups = list["groups"].as_array_mut()?;
                value = groups.iter_mut().find(|g| g["name"] == group)?.take();
                value["kind"] = "APIGroup".into();
                value["apiVersion"] = "v1".into();
            }
        }
        let content_type = base.map_or("application/json", |base| base.content_type);
        Some(Document::of(Bytes::from(value.to_string()), content_type))
    }

    /// Remote versions of each group.
    fn groups(&self) -> BTreeMap<String, Vec<Arc<Remote>>> {
        let mut groups: BTreeMap<String, Vec<Arc<Remote>>> = BTreeMap::new();
        for remote in self.remotes.load().values() {
            groups.entry(remote.group.clone()).or_default().push(remote.clone());
        }
        groups
    }

    /// Puts groups, and the versions of each, into their order. `name` finds a group's.
    fn sort(&self, groups: &mut [Value], name: impl Fn(&Value) -> &str) {
        let order = self.order.load();
        let versions_of = |group: &str| order.iter().position(|(known, _)| known == group);
        for group in groups.iter_mut() {
            let Some((_, order)) = versions_of(name(group)).and_then(|at| order.get(at)) else { continue };
            if let Some(versions) = group["versions"].as_array_mut() {
                versions.sort_by_key(|v| order.iter().position(|known| v["version"] == known.as_str()));
            }
        }
        // The group of APIServices has none, and comes first; what has none yet comes last.
        groups.sort_by_key(|group| match name(group) {
            "apiregistration.k8s.io" => (0, 0),
            group => versions_of(group).map_or((2, 0), |at| (1, at)),
        });
    }

    fn add_groups(&self, list: &mut Value) {
        let Some(present) = list["groups"].as_array_mut() else { return };
        for (group, versions) in self.groups() {
            let entries = versions.iter().map(|remote| {
                json!({"groupVersion": object::names::api_version(&group, &remote.version), "version": remote.version})
            });
            match present.iter_mut().find(|g| g["name"] == group.as_str()) {
                Some(own) => {
                    if let Some(own) = own["versions"].as_array_mut() {
                        own.extend(entries);
                    }
                }
                None => present.push(json!({"name": group, "versions": entries.collect::<Vec<_>>()})),
            }
        }
        self.sort(present, |group| group["name"].as_str().unwrap_or(""));
        for group in present {
            group["preferredVersion"] = group["versions"][0].clone();
        }
    }

    fn add_aggregated(&self, list: &mut Value) {
        crate::metrics::DISCOVERY_AGGREGATIONS.inc();
        let Some(present) = list["items"].as_array_mut() else { return };
        for (group, versions) in self.groups() {
            let known = versions.iter().map(|remote| {
                let freshness = if remote.is_available && remote.is_current { "Current" } else { "Stale" };
                let mut version = json!({"version": remote.version, "freshness": freshness});
                if let Some(resources) = &remote.resources {
                    version["resources"] = resources.clone();
                }
                version
            });
            let known: Vec<Value> = known.collect();
            match present.iter_mut().find(|g| g["metadata"]["name"] == group.as_str()) {
                Some(own) => {
                    if let Some(own) = own["versions"].as_array_mut() {
                        own.extend(known);
                    }
                }
                None => present.push(json!({"metadata": {"name": group}, "versions": known})),
            }
        }
        self.sort(present, |group| group["metadata"]["name"].as_str().unwrap_or(""));
    }
}

/// The groups of APIServices, each with its versions, by their priorities.
pub(super) fn order<'v>(apiservices: impl IntoIterator<Item = &'v Value>) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut all: Vec<&Value> = apiservices.into_iter().collect();
    all.sort_by_key(|a| (-a["spec"]["groupPriorityMinimum"].as_i64().unwrap_or(0), text(&a["metadata"]["name"])));
    let mut groups: Vec<(String, Vec<(i64, String)>)> = Vec::new();
    for service in all {
        let (group, version) = (text(&service["spec"]["group"]), text(&service["spec"]["version"]));
        let entry = (-service["spec"]["versionPriority"].as_i64().unwrap_or(0), version);
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, versions)) => versions.push(entry),
            None => groups.push((group, vec![entry])),
        }
    }
    let sorted = |(group, mut versions): (String, Vec<(i64, String)>)| {
        versions.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| by_priority(&a.1, &b.1)));
        (group, versions.into_iter().map(|(_, version)| version).collect())
    };
    groups.into_iter().map(sorted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_stand_under_their_resource() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["patch"]}]});
        let kind = json!({"group": "g", "version": "v1", "kind": "Flunder"});
        assert_eq!(
            resources("g", "v1", &list),
            json!([{"resource": "flunders", "singularResource": "flunder", "verbs": ["get"], "responseKind": kind, "scope": "Namespaced",
                "shortNames": ["fl"], "subresources": [{"subresource": "status", "verbs": ["patch"], "responseKind": kind}]}])
        );
    }

    #[test]
    fn groups_and_versions_by_their_priorities() {
        let of = |group: &str, version: &str, group_priority: i64, priority: i64| {
            json!({"metadata": {"name": format!("{version}.{group}")}, "spec": {"group": group, "version": version,
                "groupPriorityMinimum": group_priority, "versionPriority": priority}})
        };
        let all = [
            of("b", "v1beta1", 100, 10),
            of("b", "v1", 100, 10),
            of("apps", "v1", 17_800, 15),
            of("a", "v1", 100, 1),
            of("c", "v1", 1, 20),
            of("c", "v2", 18_000, 10),
        ];
        let found = order(&all);
        let found: Vec<String> =
            found.iter().map(|(group, versions)| format!("{group}:{}", versions.join("+"))).collect();
        assert_eq!(found, ["c:v1+v2", "apps:v1", "a:v1", "b:v1+v1beta1"]);
    }
}
