//! What remote servers serve, added to what this server says of itself.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Aggregation;
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
    pub(crate) fn merge(&self, path: &str, base: Option<&Document>) -> Option<Document> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
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

    /// Remote versions of each group, the preferred one first; groups by their priority.
    fn groups(&self) -> Vec<(String, Vec<std::sync::Arc<super::Remote>>)> {
        let mut groups: Vec<(String, Vec<std::sync::Arc<super::Remote>>)> = Vec::new();
        for remote in self.remotes.load().values() {
            match groups.iter_mut().find(|(group, _)| *group == remote.group) {
                Some((_, versions)) => versions.push(remote.clone()),
                None => groups.push((remote.group.clone(), vec![remote.clone()])),
            }
        }
        for (_, versions) in &mut groups {
            versions.sort_by_key(|r| (-r.version_priority, r.version.clone()));
        }
        groups.sort_by_key(|(group, versions)| {
            (-versions.iter().map(|r| r.group_priority).max().unwrap_or(0), group.clone())
        });
        groups
    }

    fn add_groups(&self, list: &mut Value) {
        let Some(present) = list["groups"].as_array_mut() else { return };
        for (group, versions) in self.groups() {
            let entries = versions.iter().map(|remote| {
                json!({"groupVersion": object::names::api_version(&group, &remote.version), "version": remote.version})
            });
            let entries: Vec<Value> = entries.collect();
            match present.iter_mut().find(|g| g["name"] == group.as_str()) {
                Some(own) => {
                    if let Some(own) = own["versions"].as_array_mut() {
                        own.extend(entries);
                    }
                }
                None => present.push(json!({"name": group, "versions": entries, "preferredVersion": entries.first()})),
            }
        }
    }

    fn add_aggregated(&self, list: &mut Value) {
        let Some(present) = list["items"].as_array_mut() else { return };
        for (group, versions) in self.groups() {
            let known = versions.iter().filter_map(|remote| {
                let freshness = if remote.is_available { "Current" } else { "Stale" };
                let resources = remote.resources.as_ref()?;
                Some(json!({"version": remote.version, "freshness": freshness, "resources": resources}))
            });
            let known: Vec<Value> = known.collect();
            match present.iter_mut().find(|g| g["metadata"]["name"] == group.as_str()) {
                Some(own) => {
                    if let Some(own) = own["versions"].as_array_mut() {
                        own.extend(known);
                    }
                }
                None if known.is_empty() => {}
                None => present.push(json!({"metadata": {"name": group}, "versions": known})),
            }
        }
    }
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
}
