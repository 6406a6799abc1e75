//! What resources a server has, by its discovery.

use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Tasks};
use client::{Client, ListOptions, Result};
use futures::StreamExt;
use object::{Gvr, Status};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;

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

/// What decides on what a server serves beside its own kinds.
const DECIDING: [(&str, &str); 2] =
    [("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")];
/// Changes that come together are looked at together: after so much quiet, or so much time.
const QUIET: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// Hears when what a server serves may have changed.
pub(crate) struct Changes(Arc<Notify>);

impl Changes {
    /// Begins to listen; the tasks that do end with `tasks`.
    pub fn follow(client: &Client, tasks: &mut Tasks) -> Self {
        let changed = Arc::new(Notify::new());
        for (group, resource) in DECIDING {
            let at = client::Resource::collection(&Gvr::new(group, "v1", resource), None);
            let (client, changed, stop) = (client.clone(), changed.clone(), tasks.token().clone());
            tasks.spawn("discovery-watch", async move {
                let _ = stop.run_until_cancelled(listen(client, at, changed)).await;
            });
        }
        Self(changed)
    }

    /// Waits for a change, and for what comes with it.
    pub async fn next(&self) {
        self.0.notified().await;
        let settled = async { while tokio::time::timeout(QUIET, self.0.notified()).await.is_ok() {} };
        let _ = tokio::time::timeout(LONGEST, settled).await;
    }
}

async fn listen(client: Client, at: client::Resource, changed: Arc<Notify>) {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        // It begins with what there is: nothing that happened between two watches is missed.
        if let Ok(mut events) = client.watch(&at, &ListOptions::default()).await {
            while let Some(Ok(event)) = events.next().await {
                if !matches!(event, client::WatchEvent::Bookmark(_)) {
                    changed.notify_one();
                }
                backoff.reset();
            }
        }
        tokio::time::sleep(backoff.next_wait()).await;
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
