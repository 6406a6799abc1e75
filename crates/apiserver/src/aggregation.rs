//! API aggregation: an APIService says that a group and version is served by somebody else's server, behind a Service of the cluster.
//!
//! ```text
//! APIServices, Services, EndpointSlices --follow: one loop--> remotes (who, where, available) --> status of the APIServices
//! request --authenticated, authorized--> proxy: endpoint of the Service, front-proxy certificate, X-Remote-* headers
//! ```
//! Where a request goes is decided by ready endpoints of a Service alone; redirects are not followed, external names not resolved.

mod check;
mod discovery;
mod follow;
mod local;
mod merged;
mod proxy;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use client::Resource;
use object::Gvr;
use serde_json::{Value, json};

use crate::api::Api;
use crate::user::User;
use crate::write::{Part, WriteQuery};
use check::Condition;

const APISERVICES: &str = "/registry/apiregistration.k8s.io/apiservices/";

/// A group and version that another server serves.
pub(crate) struct Remote {
    group: String,
    version: String,
    service: Service,
    tls: Result<Arc<rustls::ClientConfig>, String>,
    is_available: bool,
    /// Its resources, as aggregated discovery lists them; from the last time that it told them.
    resources: Option<Value>,
    /// It told them when it was last asked.
    is_current: bool,
    /// The hash of its OpenAPI document.
    openapi: Option<String>,
    /// What its OpenAPI v2 document says of this group and version.
    v2: Option<Arc<Value>>,
}

/// A Service that an APIService names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    namespace: String,
    name: String,
    port: i64,
}

/// Group and version -> server.
type Remotes = BTreeMap<(String, String), Arc<Remote>>;

/// Who serves what this server does not.
#[derive(Default)]
pub(crate) struct Aggregation {
    remotes: ArcSwap<Remotes>,
    /// The groups of all APIServices, local and remote, each with its versions, by their priorities.
    order: ArcSwap<Vec<(String, Vec<String>)>>,
    merged: merged::Cache,
}

fn apiservices() -> Gvr {
    Gvr::new("apiregistration.k8s.io", "v1", "apiservices")
}

impl Aggregation {
    /// The names of all APIServices.
    pub(crate) fn services(&self, api: &Api) -> Vec<String> {
        let page = api.store.range(APISERVICES, None, 0, 0).map(|page| page.items).unwrap_or_default();
        page.into_iter().map(|item| item.object.head.name.clone()).collect()
    }

    /// True when the server of an APIService (`v1.example.com`) does not answer.
    pub(crate) fn is_unavailable(&self, name: &str) -> bool {
        let Some((version, group)) = name.split_once('.') else { return false };
        let remotes = self.remotes.load();
        remotes.get(&(group.to_owned(), version.to_owned())).is_some_and(|remote| !remote.is_available)
    }

    /// The server of a path, if it is another one: `/apis/<group>/<version>` and what is below, or its OpenAPI document.
    pub(crate) fn of(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        if remotes.is_empty() {
            return None;
        }
        let rest = path.strip_prefix("/openapi/v3").unwrap_or(path).strip_prefix("/apis/")?;
        let mut parts = rest.splitn(3, '/');
        let key = (parts.next()?.to_owned(), parts.next()?.to_owned());
        remotes.get(&key).cloned()
    }
}

impl Api {
    /// An APIService's server, if it has one, and whether it can be used.
    async fn look(&self, apiservice: &Value, before: &Remotes) -> (Option<Remote>, Condition) {
        let spec = &apiservice["spec"];
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        if !spec["service"].is_object() {
            return (None, Condition::local());
        }
        let service = Service {
            namespace: text(&spec["service"]["namespace"]),
            name: text(&spec["service"]["name"]),
            port: spec["service"]["port"].as_i64().unwrap_or(443),
        };
        let (group, version) = (text(&spec["group"]), text(&spec["version"]));
        let known = before.get(&(group.clone(), version.clone())).filter(|known| known.service == service);
        let mut remote = Remote {
            tls: proxy::tls(&self.pki, spec),
            is_available: false,
            resources: known.and_then(|known| known.resources.clone()),
            is_current: false,
            v2: known.and_then(|known| known.v2.clone()),
            openapi: known.and_then(|known| known.openapi.clone()),
            group,
            version,
            service,
        };
        let condition = self.check_remote(&mut remote).await;
        remote.is_available = condition.is_true;
        (Some(remote), condition)
    }

    /// Writes the condition down when it is another one; the status then.
    async fn tell_condition(&self, name: &str, value: &Value, condition: &Condition) -> Option<Value> {
        let present = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let old = present.iter().find(|c| c["type"] == "Available");
        let status = if condition.is_true { "True" } else { "False" };
        let same = |old: &Value| {
            old["status"] == status && old["reason"] == condition.reason && old["message"] == condition.message.as_str()
        };
        if old.is_some_and(same) {
            return None;
        }
        let since = old.filter(|old| old["status"] == status).map(|old| old["lastTransitionTime"].clone());
        let since = since.unwrap_or_else(|| base::time::now().into());
        let new = json!({"type": "Available", "status": status, "reason": condition.reason, "message": condition.message,
            "lastTransitionTime": since});
        let at = Resource::object(&apiservices(), None, name);
        let change = |old: &Value| {
            let mut changed = old.clone();
            let mut conditions = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.retain(|c| c["type"] != "Available");
            conditions.push(new.clone());
            changed["status"] = json!({"conditions": conditions});
            Ok(changed)
        };
        let kind = self.stored_kind_of(&at.gvr).ok()?;
        let query = WriteQuery { manager: Some("kube-apiserver".into()), ..WriteQuery::default() };
        let written = self.change(&User::superuser(), &kind, &at, Part::Status, &query, change).await;
        match written {
            Ok(written) => written.object.value().ok().map(|mut value| value["status"].take()),
            Err(error) => {
                if !error.is_not_found() {
                    tracing::warn!(%error, apiservice = name, "cannot write a condition");
                }
                None
            }
        }
    }
}
