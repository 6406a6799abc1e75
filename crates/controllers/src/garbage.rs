//! The garbage collector: what has owners goes when the last of them is gone.
//!
//! ```text
//! informers of all resources -> Graph (uid -> owners, dependents) -> queue of uids -> look at the live object -> Verdict
//! ```
//! - *Background*: the owner is deleted at once; its dependents follow when it is gone.
//! - *Foreground* (finalizer `foregroundDeletion`): the dependents go first, those that block the owner before it.
//! - *Orphan* (finalizer `orphan`): the dependents lose the reference, then the owner goes.
//!
//! Nothing is deleted on the word of a cache: the object and each owner that seems absent are looked up live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use client::{Change, Client, DeleteOptions, Informer, ListOptions, Patch, Propagation, Resource, WorkQueue};
use object::{Object, OwnerReference, Status};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::discovery::{ApiResource, Changes, discover};

mod graph;
mod verdict;

use graph::{Graph, Identity};
use verdict::{Owner, Verdict};

const WORKERS: usize = 8;
/// How long to wait for the first lists.
const SYNC: Duration = Duration::from_secs(30);
/// How often discovery is asked for new resources when nothing tells of any.
const DISCOVERY: Duration = Duration::from_secs(30);

/// An object of the graph to look at.
type Uid = String;

struct Collector {
    client: Client,
    graph: Mutex<Graph>,
    queue: WorkQueue<Uid>,
    resources: Mutex<Vec<ApiResource>>,
    /// Objects whose owners are of kinds that are not known (yet).
    puzzling: Mutex<HashSet<Uid>>,
}

/// Follows everything that `follow` can list and deletes what is garbage as `writer`, until `stop` is cancelled.
pub async fn run(follow: Client, writer: Client, stop: CancellationToken) {
    let collector = Arc::new(Collector {
        client: writer,
        graph: Mutex::default(),
        queue: WorkQueue::named("garbage_collector_attempt_to_delete"),
        resources: Mutex::default(),
        puzzling: Mutex::default(),
    });
    let mut tasks = Tasks::new(&stop);
    let changes = Changes::follow(&follow, &mut tasks);
    let mut followed: HashMap<String, CancellationToken> = HashMap::new();
    let mut started = false;
    loop {
        let mut wait = DISCOVERY;
        match discover(&follow).await {
            Ok(found) => {
                let wanted: Vec<ApiResource> = found.resources.into_iter().filter(is_collected).collect();
                // A group that does not answer keeps its informers.
                let unknown: Vec<&str> =
                    found.failed.iter().map(|(version, _)| object::names::split_api_version(version).0).collect();
                followed.retain(|name, token| {
                    let group = name.split_once('/').map_or("", |(group, _)| group);
                    let keep = unknown.contains(&group) || wanted.iter().any(|r| name_of(r) == *name);
                    if !keep {
                        token.cancel();
                    }
                    keep
                });
                let fresh: Vec<&ApiResource> = wanted.iter().filter(|r| !followed.contains_key(&name_of(r))).collect();
                let (mut synced, has_fresh) = (Vec::new(), !fresh.is_empty());
                for resource in fresh {
                    let token = tasks.token().child_token();
                    followed.insert(name_of(resource), token.clone());
                    synced.push(collector.follow(&follow, resource, token, &mut tasks));
                }
                *collector.resources.lock() = wanted;
                if has_fresh {
                    let puzzling = std::mem::take(&mut *collector.puzzling.lock());
                    puzzling.into_iter().for_each(|uid| collector.queue.add(uid));
                }
                if !started {
                    started = true;
                    for _ in 0..WORKERS {
                        tasks.spawn("garbage-collector", collector.clone().work(synced.clone()));
                    }
                }
            }
            Err(status) => {
                tracing::debug!(error = %status, "discovery failed");
                wait = Duration::from_secs(1);
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
            () = changes.next() => {}
        }
    }
    collector.queue.shut_down();
    tasks.shutdown().await;
}

/// Events own nothing and are many.
fn is_collected(resource: &ApiResource) -> bool {
    resource.can(&["delete", "list", "watch"]) && resource.gvr.resource != "events"
}

fn name_of(resource: &ApiResource) -> String {
    format!("{}/{}", resource.gvr.group, resource.gvr.resource)
}

impl Collector {
    /// Follows a resource into the graph.
    fn follow(
        self: &Arc<Self>,
        client: &Client,
        resource: &ApiResource,
        token: CancellationToken,
        tasks: &mut Tasks,
    ) -> watch::Receiver<bool> {
        let at = Resource::collection(&resource.gvr, None);
        let mut informer = Informer::new(client.clone(), at, ListOptions::default());
        let (mut changes, synced) = (informer.subscribe(), informer.synced());
        tasks.spawn("garbage-informer", informer.run(token));
        let (collector, resource) = (self.clone(), Arc::new(resource.clone()));
        tasks.spawn("garbage-graph", async move {
            // Ends with the informer, which holds the other end.
            while let Some(change) = changes.recv().await {
                collector.apply(&resource, &change);
            }
        });
        synced
    }

    fn apply(&self, resource: &Arc<ApiResource>, change: &Change) {
        let due = {
            let mut graph = self.graph.lock();
            match change {
                Change::Applied { new, .. } => graph.observe(resource, new),
                Change::Deleted(last) => graph.forget(&last.head.uid),
            }
        };
        due.into_iter().for_each(|uid| self.queue.add(uid));
    }

    async fn work(self: Arc<Self>, synced: Vec<watch::Receiver<bool>>) {
        let all = async {
            for mut one in synced {
                let _ = one.wait_for(|synced| *synced).await;
            }
        };
        // A resource that cannot be listed must not stop the others: what is decided is checked live anyway.
        if tokio::time::timeout(SYNC, all).await.is_err() {
            tracing::warn!("not all resources could be listed: collecting without them");
        }
        while let Some(uid) = self.queue.get().await {
            match self.look_at(&uid).await {
                Ok(()) => {
                    self.queue.forget(&uid);
                    self.puzzling.lock().remove(&uid);
                }
                Err(status) => {
                    tracing::debug!(uid, error = %status, "not collected: tried again");
                    self.queue.add_rate_limited(uid.clone());
                }
            }
            self.queue.done(&uid);
        }
    }

    async fn look_at(&self, uid: &str) -> client::Result<()> {
        let Some(identity) = self.graph.lock().identity(uid) else { return Ok(()) };
        let Some(live) = self.live(&identity, uid).await? else {
            // It is gone, or never was: a virtual node that only its dependents know of.
            let due = self.graph.lock().forget(uid);
            due.into_iter().for_each(|uid| self.queue.add(uid));
            return Ok(());
        };
        if live.head.finalizers.iter().any(|f| f == graph::ORPHAN) && live.head.is_terminating() {
            return self.orphan(&identity, &live).await;
        }
        let mut owners = Vec::new();
        for reference in &live.head.owners {
            owners.push((reference.clone(), self.owner(reference, &live).await?));
        }
        let verdict = {
            let graph = self.graph.lock();
            verdict::judge(&live, &owners, &graph)
        };
        self.carry_out(&identity, &live, verdict).await
    }

    /// The live object, if it is still the one with this uid.
    async fn live(&self, identity: &Identity, uid: &str) -> client::Result<Option<Arc<Object>>> {
        let gvr = match &identity.gvr {
            Some(gvr) => gvr.clone(),
            None => match self.resource_of(&identity.api_version, &identity.kind) {
                Some(resource) => resource.gvr,
                None => return Err(self.unknown_kind(uid, &identity.api_version, &identity.kind)),
            },
        };
        let at = Resource::object(&gvr, Some(&identity.namespace), &identity.name);
        match self.client.get(&at).await {
            Ok(object) if object.head.uid == uid => Ok(Some(object)),
            Ok(_) => Ok(None),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// What became of an owner that `dependent` names.
    async fn owner(&self, reference: &OwnerReference, dependent: &Object) -> client::Result<Owner> {
        if let Some(owner) = self.graph.lock().owner(reference, &dependent.head.namespace) {
            return Ok(owner);
        }
        let Some(resource) = self.resource_of(&reference.api_version, &reference.kind) else {
            return Err(self.unknown_kind(&dependent.head.uid, &reference.api_version, &reference.kind));
        };
        if resource.namespaced && dependent.head.namespace.is_empty() {
            // Not allowed; upstream leaves such objects alone.
            tracing::warn!(
                dependent = dependent.head.name,
                owner = reference.name.as_str(),
                "a cluster-scoped object names a namespaced owner"
            );
            return Ok(Owner::Solid);
        }
        let namespace = if resource.namespaced { dependent.head.namespace.clone() } else { String::new() };
        let identity = Identity {
            gvr: Some(resource.gvr),
            api_version: reference.api_version.to_string(),
            kind: reference.kind.to_string(),
            namespace,
            name: reference.name.to_string(),
        };
        Ok(match self.live(&identity, &reference.uid).await? {
            None => Owner::Absent,
            Some(owner) if graph::waits_for_dependents(&owner) => Owner::Waiting,
            Some(_) => Owner::Solid,
        })
    }

    /// An owner of a kind that is not served is not known to be absent: its kind may be served later.
    fn unknown_kind(&self, uid: &str, api_version: &str, kind: &str) -> Status {
        self.puzzling.lock().insert(uid.to_owned());
        Status::internal(format!("no resource is known for {kind} in {api_version}"))
    }

    fn resource_of(&self, api_version: &str, kind: &str) -> Option<ApiResource> {
        let group = object::names::split_api_version(api_version).0;
        self.resources.lock().iter().find(|r| r.gvr.group == group && r.kind == kind).cloned()
    }

    async fn carry_out(&self, identity: &Identity, live: &Object, verdict: Verdict) -> client::Result<()> {
        let Some(gvr) = identity.gvr.as_ref() else { return Ok(()) };
        let at = Resource::object(gvr, Some(&live.head.namespace), &live.head.name);
        let done = match verdict {
            Verdict::Keep => return Ok(()),
            Verdict::DeleteFirst(dependents) => {
                dependents.into_iter().for_each(|uid| self.queue.add(uid));
                return Ok(());
            }
            Verdict::Delete(propagation) => {
                tracing::info!(resource = %gvr.group_resource(), object = live.head.key(), "garbage: deleted");
                let options = DeleteOptions {
                    uid: Some(live.head.uid.clone()),
                    resource_version: Some(live.head.resource_version),
                    propagation: Some(propagation),
                    ..DeleteOptions::default()
                };
                self.client.delete(&at, &options).await.map(drop)
            }
            Verdict::Unblock => {
                let owners: Vec<_> = live
                    .head
                    .owners
                    .iter()
                    .map(|owner| OwnerReference { block_owner_deletion: false, ..owner.clone() })
                    .collect();
                self.set_owners(&at, live, &owners).await?;
                let options = DeleteOptions {
                    uid: Some(live.head.uid.clone()),
                    propagation: Some(Propagation::Foreground),
                    ..DeleteOptions::default()
                };
                self.client.delete(&at, &options).await.map(drop)
            }
            Verdict::Disown(uids) => {
                let kept: Vec<_> =
                    live.head.owners.iter().filter(|o| !uids.iter().any(|uid| *uid == o.uid)).cloned().collect();
                self.set_owners(&at, live, &kept).await
            }
            Verdict::Release => self.drop_finalizer(&at, live, graph::FOREGROUND).await,
        };
        match done {
            Err(status) if status.is_not_found() => Ok(()),
            done => done,
        }
    }

    /// The dependents lose the owner, then the owner its finalizer.
    async fn orphan(&self, identity: &Identity, live: &Object) -> client::Result<()> {
        let dependents = self.graph.lock().dependents(&live.head.uid);
        for (dependent, uid) in dependents {
            let Some(gvr) = dependent.gvr.as_ref() else { continue };
            let at = Resource::object(gvr, Some(&dependent.namespace), &dependent.name);
            let Some(object) = self.live(&dependent, &uid).await? else { continue };
            let kept: Vec<_> = object.head.owners.iter().filter(|o| *o.uid != *live.head.uid).cloned().collect();
            match self.set_owners(&at, &object, &kept).await {
                Err(status) if status.is_not_found() => {}
                done => done?,
            }
        }
        let Some(gvr) = identity.gvr.as_ref() else { return Ok(()) };
        let at = Resource::object(gvr, Some(&live.head.namespace), &live.head.name);
        match self.drop_finalizer(&at, live, graph::ORPHAN).await {
            Err(status) if status.is_not_found() => Ok(()),
            done => done,
        }
    }

    async fn set_owners(&self, at: &Resource, live: &Object, owners: &[OwnerReference]) -> client::Result<()> {
        if live.head.owners == owners {
            return Ok(());
        }
        // The tree's own references keep what our view of them does not have.
        let all = live.value().map_err(Status::internal)?["metadata"]["ownerReferences"].take();
        let mut kept = all.as_array().cloned().unwrap_or_default();
        kept.retain(|raw| owners.iter().any(|o| raw["uid"] == o.uid));
        for raw in &mut kept {
            let blocks = owners.iter().any(|o| raw["uid"] == o.uid && o.block_owner_deletion);
            if raw["blockOwnerDeletion"] == true && !blocks {
                raw["blockOwnerDeletion"] = json!(false);
            }
        }
        let owners = if kept.is_empty() { serde_json::Value::Null } else { json!(kept) };
        self.patch(at, live, json!({"ownerReferences": owners})).await
    }

    async fn drop_finalizer(&self, at: &Resource, live: &Object, finalizer: &str) -> client::Result<()> {
        let kept: Vec<_> = live.head.finalizers.iter().filter(|f| *f != finalizer).collect();
        if kept.len() == live.head.finalizers.len() {
            return Ok(());
        }
        let kept = if kept.is_empty() { serde_json::Value::Null } else { json!(kept) };
        self.patch(at, live, json!({"finalizers": kept})).await
    }

    /// A merge patch of metadata that fails if the object changed since it was looked at.
    async fn patch(&self, at: &Resource, live: &Object, metadata: serde_json::Value) -> client::Result<()> {
        let mut metadata = metadata;
        metadata["uid"] = json!(live.head.uid);
        metadata["resourceVersion"] = json!(live.head.resource_version.to_string());
        self.client.patch(at, &Patch::Merge(json!({"metadata": metadata}))).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
