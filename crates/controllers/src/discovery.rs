//! What resources a server has, by its discovery.

use client::{Client, Result};
use object::{Gvr, Status};
use serde::Deserialize;
use serde_json::Value;

/// A resource as discovery tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiResource {
    pub gvr: Gvr,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl ApiResource {
    /// True when it can do all of these.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|v| v == verb))
    }
}

/// All resources, each group in its preferred version (and what only other versions have).
#[derive(Default)]
pub(crate) struct Discovered {
    pub resources: Vec<ApiResource>,
    /// Group versions that could not be asked: an aggregated server that is down hides what it serves.
    pub failed: Vec<(String, Status)>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Group {
    preferred_version: Version,
    versions: Vec<Version>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Version {
    group_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    resources: Vec<Resource>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resource {
    name: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
}

/// Asks the server.
pub(crate) async fn discover(client: &Client) -> Result<Discovered> {
    let core: Value = read(client, "/api").await?;
    let mut versions: Vec<String> =
        core["versions"].as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect();
    let groups: Groups = read(client, "/apis").await?;
    for mut group in groups.groups {
        // The preferred one first: it decides where a resource is that several have.
        let preferred = group.preferred_version.group_version.clone();
        group.versions.sort_by_key(|v| v.group_version != preferred);
        versions.extend(group.versions.into_iter().map(|v| v.group_version));
    }
    let mut found = Discovered::default();
    for version in versions {
        let path = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        match read::<Resources>(client, &path).await {
            Ok(list) => found.add(&version, list.resources),
            Err(status) => found.failed.push((version, status)),
        }
    }
    Ok(found)
}

impl Discovered {
    fn add(&mut self, group_version: &str, resources: Vec<Resource>) {
        let (group, version) = object::names::split_api_version(group_version);
        for resource in resources.into_iter().filter(|resource| !resource.name.contains('/')) {
            let known = |r: &ApiResource| r.gvr.group == group && r.gvr.resource == resource.name;
            if !self.resources.iter().any(known) {
                self.resources.push(ApiResource {
                    gvr: Gvr::new(group, version, &resource.name),
                    kind: resource.kind,
                    namespaced: resource.namespaced,
                    verbs: resource.verbs,
                });
            }
        }
    }
}

async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T> {
    let body = client.raw_get(path).await?;
    serde_json::from_slice(&body).map_err(|e| Status::internal(format!("discovery of {path}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn resources_of_all_groups() {
        let server = client::testing::FakeServer::new();
        let found = discover(&server.client("test")).await.unwrap();
        assert!(found.failed.is_empty());
        let pods = found.resources.iter().find(|r| r.gvr.resource == "pods").unwrap();
        assert!(pods.namespaced && pods.can(&["list", "watch", "delete"]) && !pods.can(&["fly"]));
        assert!(
            found.resources.iter().any(|r| r.gvr == Gvr::new("apps", "v1", "deployments") && r.kind == "Deployment")
        );
    }
}
