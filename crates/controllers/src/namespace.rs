//! Namespace: when one is deleted, everything in it is, and then the namespace itself.
//!
//! What there is to delete is asked of discovery, so that custom resources go as well. Pods go first (KEP-5080): what they
//! use stays until they are gone. A namespace that does not empty says in its conditions what is in the way.

use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use client::{Change, Client, DeleteOptions, Informer, ListOptions, Propagation, Resource, WorkQueue};
use object::{Gvr, Object, Status};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::diff::merge_diff;
use crate::discovery::{ApiResource, discover};
use crate::kinds::NAMESPACES;

mod report;

use report::Report;

const WORKERS: usize = 5;
const FINALIZER: &str = "kubernetes";
/// The first and the longest wait before content that is on its way is looked at again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

struct Emptier {
    client: Client,
    queue: WorkQueue<String>,
}

/// Follows namespaces as `follow` and empties those that are deleted as `writer`, until `stop` is cancelled.
pub async fn run(follow: Client, writer: Client, stop: CancellationToken) {
    let at = Resource::collection(&NAMESPACES.gvr(), None);
    let mut informer = Informer::new(follow, at, ListOptions::default());
    let (mut changes, lister) = (informer.subscribe(), informer.lister());
    let emptier = Arc::new(Emptier { client: writer, queue: WorkQueue::named("namespace") });
    let mut tasks = Tasks::new(&stop);
    let token = tasks.token().clone();
    tasks.spawn("namespace-informer", informer.run(token));
    for _ in 0..WORKERS {
        let (emptier, lister) = (emptier.clone(), lister.clone());
        tasks.spawn("namespace-controller", async move {
            while let Some(name) = emptier.queue.get().await {
                if let Some(namespace) = lister.get(&name).filter(|n| n.head.is_terminating()) {
                    emptier.reconcile(&namespace).await;
                }
                emptier.queue.done(&name);
            }
        });
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            change = changes.recv() => match change {
                Some(Change::Applied { new, .. }) if new.head.is_terminating() => emptier.queue.add(new.head.name.clone()),
                Some(_) => {}
                None => break,
            },
        }
    }
    emptier.queue.shut_down();
    tasks.shutdown().await;
}

impl Emptier {
    async fn reconcile(&self, namespace: &Object) {
        let name = &namespace.head.name;
        match self.empty(namespace).await {
            Ok(true) => self.queue.forget(name),
            Ok(false) => {
                let attempts = self.queue.retries(name);
                let wait = AGAIN.0.saturating_mul(1 << attempts.min(8)).min(AGAIN.1);
                self.queue.add_after(name.clone(), wait);
                // Counts the attempt; the wait above is earlier or as late.
                self.queue.add_rate_limited(name.clone());
            }
            Err(status) => {
                tracing::debug!(namespace = name, error = %status, "the namespace is emptied again later");
                self.queue.add_rate_limited(name.clone());
            }
        }
    }

    /// One pass; true when nothing is left to do.
    async fn empty(&self, cached: &Object) -> client::Result<bool> {
        let at = NAMESPACES.at(cached);
        let namespace = match self.client.get(&at).await {
            Ok(live) if live.head.uid == cached.head.uid && live.head.is_terminating() => live,
            Ok(_) => return Ok(true),
            Err(status) if status.is_not_found() => return Ok(true),
            Err(status) => return Err(status),
        };
        let value = namespace.value().map_err(Status::internal)?;
        let finalizers = value["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(true);
        }
        let report = self.delete_content(&namespace.head.name).await?;
        let namespace = self.tell(&namespace, &report).await?;
        if !report.is_empty() {
            return Ok(false);
        }
        let mut value = namespace.value().map_err(Status::internal)?;
        let kept: Vec<_> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
        value["spec"]["finalizers"] = json!(kept);
        match self.client.update(&at.sub("finalize"), &value).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(true),
        }
    }

    async fn delete_content(&self, namespace: &str) -> client::Result<Report> {
        let found = discover(&self.client).await?;
        let mut report = Report { undiscovered: found.failed, ..Report::default() };
        let deletable = |r: &ApiResource| r.namespaced && r.can(&["list", "delete"]);
        let (pods, others): (Vec<_>, Vec<_>) = found
            .resources
            .into_iter()
            .filter(deletable)
            .partition(|r| r.gvr.group.is_empty() && r.gvr.resource == "pods");
        for resource in &pods {
            self.delete_all(namespace, resource, &mut report).await;
        }
        // While pods run, what they use stays.
        if report.is_empty_but_for_discovery() {
            for resource in &others {
                self.delete_all(namespace, resource, &mut report).await;
            }
        }
        Ok(report)
    }

    /// Deletes all objects of a resource and notes what is left.
    async fn delete_all(&self, namespace: &str, resource: &ApiResource, report: &mut Report) {
        if let Err(status) = self.try_delete_all(namespace, resource, report).await
            && !status.is_not_found()
            && status.code != 405
        {
            report.failed.push((resource.gvr.clone(), status));
        }
    }

    async fn try_delete_all(&self, namespace: &str, resource: &ApiResource, report: &mut Report) -> client::Result<()> {
        let at = Resource::collection(&resource.gvr, Some(namespace));
        let first = ListOptions { limit: 1, ..ListOptions::default() };
        if self.client.list(&at, &first).await?.items.is_empty() {
            return Ok(());
        }
        let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        let all = ListOptions::default();
        if resource.can(&["deletecollection"]) {
            self.client.delete_collection(&at, &options, &all).await?;
        } else {
            for object in self.client.list(&at, &all).await?.items {
                let one = Resource::object(&resource.gvr, Some(namespace), &object.head.name);
                match self.client.delete(&one, &options).await {
                    Err(status) if !status.is_not_found() => return Err(status),
                    _ => {}
                }
            }
        }
        let left = self.client.list(&at, &all).await?.items;
        report.note(&resource.gvr, &left);
        Ok(())
    }

    /// Writes what is in the way to the conditions.
    async fn tell(&self, namespace: &Arc<Object>, report: &Report) -> client::Result<Arc<Object>> {
        let mut value = namespace.value().map_err(Status::internal)?;
        let old = value["status"].clone();
        let conditions = serde_json::from_value(old["conditions"].clone()).unwrap_or_default();
        let conditions = report.conditions(conditions, &base::time::now());
        value["status"]["phase"] = json!("Terminating");
        value["status"]["conditions"] = json!(conditions);
        if merge_diff(&old, &value["status"]).is_none() {
            return Ok(namespace.clone());
        }
        match self.client.update(&NAMESPACES.at(namespace).sub("status"), &value).await {
            Ok(updated) => Ok(updated),
            // Content that goes quickly needs no report.
            Err(status) if status.is_conflict() && report.is_empty() => {
                self.client.get(&NAMESPACES.at(namespace)).await
            }
            Err(status) => Err(status),
        }
    }
}

/// The resource as messages name it.
fn named(gvr: &Gvr) -> String {
    format!("{}.{}", gvr.resource, gvr.group)
}

#[cfg(test)]
mod tests;
