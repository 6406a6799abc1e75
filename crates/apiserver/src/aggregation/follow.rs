//! Follows what availability depends on: APIServices, the Services that they name and their endpoints, and the definitions of custom
//! resources, whose groups have APIServices of their own. A change costs what it concerns, not what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object::Object;
use serde_json::Value;
use store::{Event, EventKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{APISERVICES, Remotes, discovery};
use crate::api::Api;

const SERVICES: &str = "/registry/services/specs/";
const SLICES: &str = "/registry/endpointslices/";
const DEFINITIONS: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// Remote servers are asked again so often; sooner while one does not answer.
const AGAIN: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(1);
/// Changes that come together are looked at together.
const PAUSE: Duration = Duration::from_millis(50);

/// The APIServices as they were last seen, and what is to be done about them.
#[derive(Default)]
struct Known {
    services: BTreeMap<String, Value>,
    /// APIServices to look at.
    due: BTreeSet<String>,
    /// Groups whose local APIServices are to be there, or not.
    groups: BTreeSet<String>,
    /// Priorities may be others.
    reordered: bool,
    /// Those whose servers do not answer.
    failing: BTreeSet<String>,
}

impl Known {
    fn put(&mut self, name: &str, object: &Object) {
        let value = object.value().unwrap_or_default();
        let old = self.services.get(name);
        let same = |field: &str| old.is_some_and(|old| old[field] == value[field]);
        // Its status is ours: another one is looked at again.
        if !same("spec") || !same("status") {
            self.due.insert(name.to_owned());
        }
        self.reordered |= !same("spec");
        self.services.insert(name.to_owned(), value);
    }

    fn note(&mut self, event: &Event) {
        if let Some(name) = event.key.strip_prefix(APISERVICES) {
            match event.kind {
                EventKind::Put => self.put(name, &event.object),
                EventKind::Delete => {
                    if let Some(old) = self.services.remove(name) {
                        self.groups.insert(old["spec"]["group"].as_str().unwrap_or("").to_owned());
                    }
                    self.due.insert(name.to_owned());
                    self.reordered = true;
                }
            }
        } else if let Some(name) = event.key.strip_prefix(DEFINITIONS) {
            self.groups.extend(name.split_once('.').map(|(_, group)| group.to_owned()));
        } else {
            let head = &event.object.head;
            let service = match event.key.starts_with(SERVICES) {
                true => Some(head.name.as_str()),
                false => head.labels.get("kubernetes.io/service-name"),
            };
            let is_behind = |value: &Value| {
                let behind = &value["spec"]["service"];
                behind["name"].as_str() == service && behind["namespace"] == head.namespace.as_str()
            };
            if service.is_some() {
                let behind = self.services.iter().filter(|(_, value)| is_behind(value));
                self.due.extend(behind.map(|(name, _)| name.clone()));
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.due.is_empty() && self.groups.is_empty() && !self.reordered
    }

    /// Those behind which there is a Service.
    fn remote(&self) -> impl Iterator<Item = &String> {
        self.services.iter().filter(|(_, value)| value["spec"]["service"].is_object()).map(|(name, _)| name)
    }
}

impl Api {
    /// Keeps local APIServices there, remote ones checked, and their conditions true, until the token is cancelled.
    pub(crate) async fn follow_apiservices(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.store.revision();
            let prefixes = [APISERVICES, SERVICES, SLICES, DEFINITIONS];
            let watches: Vec<_> = prefixes.iter().filter_map(|p| self.store.watch(p, revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            let mut known = Known::default();
            let page = self.store.range(APISERVICES, None, 0, 0);
            for item in page.into_iter().flat_map(|page| page.items) {
                known.put(&item.object.head.name, &item.object);
            }
            known.groups.extend(self.registry.groups().into_iter().map(|(group, _)| group));
            known.reordered = true;
            let mut again = Instant::now() + AGAIN;
            loop {
                if token.run_until_cancelled(self.settle_apiservices(&mut known)).await.is_none() {
                    return;
                }
                let wake = if known.failing.is_empty() { again } else { again.min(Instant::now() + SOON) };
                tokio::select! {
                    () = token.cancelled() => return,
                    () = tokio::time::sleep_until(wake) => {
                        known.due.extend(known.failing.iter().cloned());
                        if Instant::now() >= again {
                            known.due.extend(known.remote().cloned().collect::<Vec<_>>());
                            again = Instant::now() + AGAIN;
                        }
                    }
                    change = changes.next() => match change {
                        Some(Ok(events)) => {
                            events.iter().for_each(|event| known.note(event));
                            if known.is_idle() {
                                continue;
                            }
                            // Kinds come to be served, and endpoints ready, a moment later.
                            tokio::time::sleep(PAUSE).await;
                            while let Some(Some(Ok(more))) = futures::FutureExt::now_or_never(changes.next()) {
                                more.iter().for_each(|event| known.note(event));
                            }
                        }
                        // The window has passed: begin with what there is now.
                        Some(Err(_)) => break,
                        None => return,
                    },
                }
            }
        }
    }

    /// Does what is due.
    async fn settle_apiservices(&self, known: &mut Known) {
        let served = if known.groups.is_empty() { Vec::new() } else { self.registry.groups() };
        for group in std::mem::take(&mut known.groups) {
            let of_group =
                known.services.iter().filter(|(_, value)| value["spec"]["group"].as_str().unwrap_or("") == group);
            let names: Vec<&str> = of_group.map(|(name, _)| name.as_str()).collect();
            let versions = served.iter().find(|(served, _)| *served == group).map_or(&[][..], |(_, versions)| versions);
            self.keep_local_apiservices(&group, versions, &names).await;
        }
        if std::mem::take(&mut known.reordered) {
            self.aggregation.order.store(Arc::new(discovery::order(known.services.values())));
        }
        let due = std::mem::take(&mut known.due);
        if due.is_empty() {
            return;
        }
        let before = self.aggregation.remotes.load_full();
        let looks = due.iter().map(|name| {
            let (before, value) = (&*before, known.services.get(name));
            async move {
                let value = value?;
                let (remote, condition) = self.look(value, before).await;
                let told = self.tell_condition(name, value, &condition).await;
                Some((remote, condition.is_true, told))
            }
        });
        let looked = futures::future::join_all(looks).await;
        let mut remotes = Remotes::clone(&before);
        for (name, found) in due.iter().zip(looked) {
            let is_failing = found.as_ref().is_some_and(|(_, is_true, _)| !is_true);
            match is_failing {
                true => drop(known.failing.insert(name.clone())),
                false => drop(known.failing.remove(name)),
            }
            let (remote, told) = found.map_or((None, None), |(remote, _, told)| (remote, told));
            // What was told just now is no news.
            if let (Some(value), Some(told)) = (known.services.get_mut(name), told) {
                value["status"] = told;
            }
            match remote {
                Some(remote) => drop(remotes.insert((remote.group.clone(), remote.version.clone()), Arc::new(remote))),
                None => {
                    if let Some((version, group)) = name.split_once('.') {
                        remotes.remove(&(group.to_owned(), version.to_owned()));
                    }
                }
            }
        }
        self.aggregation.remotes.store(Arc::new(remotes));
    }
}
