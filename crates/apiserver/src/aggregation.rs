//! API aggregation: an APIService says that a group and version is served by somebody else's server, behind a Service of the cluster.
//!
//! ```text
//! APIServices, Services, EndpointSlices --follow: one loop--> remotes (who, where, available) --> status of the APIServices
//! request --authenticated, authorized--> proxy: endpoint of the Service, front-proxy certificate, X-Remote-* headers
//! ```
//! Where a request goes is decided by ready endpoints of a Service alone; redirects are not followed, external names not resolved.

mod check;
mod discovery;
mod local;
mod proxy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use client::Resource;
use futures::StreamExt;
use object::{Gvr, Object};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::user::User;
use crate::write::{Part, WriteQuery};
use check::Condition;

const APISERVICES: &str = "/registry/apiregistration.k8s.io/apiservices/";
const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// Remote servers are asked again so often; sooner while one does not answer.
const AGAIN: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const PAUSE: Duration = Duration::from_millis(50);

/// A group and version that another server serves.
pub(crate) struct Remote {
    group: String,
    version: String,
    service: Service,
    tls: Result<Arc<rustls::ClientConfig>, String>,
    is_available: bool,
    /// Its resources, as aggregated discovery lists them; from the last time that it answered.
    resources: Option<Value>,
    /// The hash of its OpenAPI document.
    openapi: Option<String>,
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
    /// Keeps local APIServices there, remote ones checked, and their conditions true, until the token is cancelled.
    pub(crate) async fn follow_apiservices(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.store.revision();
            let prefixes = [APISERVICES, "/registry/services/specs/", "/registry/endpointslices/", DEFINITIONS];
            let watches: Vec<_> = prefixes.iter().filter_map(|p| self.store.watch(p, revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            let Some(settled) = token.run_until_cancelled(self.sync_apiservices()).await else { return };
            let wait = tokio::time::sleep(if settled { AGAIN } else { SOON });
            tokio::pin!(wait);
            loop {
                let has_remotes = !self.aggregation.remotes.load().is_empty();
                tokio::select! {
                    () = token.cancelled() => return,
                    () = &mut wait => break,
                    change = changes.next() => match change {
                        // Services matter only to those who are behind one.
                        Some(Ok(events)) if has_remotes || events.iter().any(|e| is_ours(&e.key)) => {
                            tokio::time::sleep(PAUSE).await;
                            break;
                        }
                        Some(Ok(_)) => {}
                        Some(Err(_)) => break,
                        None => return,
                    },
                }
            }
        }
    }

    /// One look at everything; true when all is as it should be.
    async fn sync_apiservices(&self) -> bool {
        self.keep_local_apiservices().await;
        let Ok(page) = self.store.range(APISERVICES, None, 0, 0) else { return false };
        let before = self.aggregation.remotes.load_full();
        let mut remotes = Remotes::new();
        let mut settled = true;
        let objects: Vec<Arc<Object>> = page.items.into_iter().map(|v| v.object).collect();
        let before = &*before;
        let values: Vec<Value> = objects.iter().map(|object| object.value().unwrap_or_default()).collect();
        self.aggregation.order.store(Arc::new(discovery::order(&values)));
        let looks = objects.iter().zip(&values).map(|(object, value)| async move {
            let (remote, condition) = self.look(value, before).await;
            self.tell_condition(object, value, &condition).await;
            (remote, condition)
        });
        for (remote, condition) in futures::future::join_all(looks).await {
            settled &= condition.is_true;
            if let Some(remote) = remote {
                remotes.insert((remote.group.clone(), remote.version.clone()), Arc::new(remote));
            }
        }
        self.aggregation.remotes.store(Arc::new(remotes));
        settled
    }

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
            openapi: known.and_then(|known| known.openapi.clone()),
            group,
            version,
            service,
        };
        let condition = self.check_remote(&mut remote).await;
        remote.is_available = condition.is_true;
        (Some(remote), condition)
    }

    /// Writes the condition down when it is another one.
    async fn tell_condition(&self, object: &Object, value: &Value, condition: &Condition) {
        let present = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let old = present.iter().find(|c| c["type"] == "Available");
        let status = if condition.is_true { "True" } else { "False" };
        let same = |old: &Value| {
            old["status"] == status && old["reason"] == condition.reason && old["message"] == condition.message.as_str()
        };
        if old.is_some_and(same) {
            return;
        }
        let since = old.filter(|old| old["status"] == status).map(|old| old["lastTransitionTime"].clone());
        let since = since.unwrap_or_else(|| base::time::now().into());
        let new = json!({"type": "Available", "status": status, "reason": condition.reason, "message": condition.message,
            "lastTransitionTime": since});
        let at = Resource::object(&apiservices(), None, &object.head.name);
        let change = |old: &Value| {
            let mut changed = old.clone();
            let mut conditions = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.retain(|c| c["type"] != "Available");
            conditions.push(new.clone());
            changed["status"] = json!({"conditions": conditions});
            Ok(changed)
        };
        let Ok(kind) = self.stored_kind_of(&at.gvr) else { return };
        let query = WriteQuery { manager: Some("kube-apiserver".into()), ..WriteQuery::default() };
        let written = self.change(&User::superuser(), &kind, &at, Part::Status, &query, change).await;
        if let Err(error) = written.map(drop)
            && !error.is_not_found()
        {
            tracing::warn!(%error, apiservice = object.head.name, "cannot write a condition");
        }
    }
}

/// True for keys whose objects are APIServices, or make some.
fn is_ours(key: &str) -> bool {
    key.starts_with(APISERVICES) || key.starts_with(DEFINITIONS)
}
