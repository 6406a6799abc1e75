//! Counts for quotas of `count/<resource>.<group>` what the controller of this room does not follow: any other kind that the server has,
//! custom resources among them. A kind is followed while some quota counts it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use client::{Change, Client, Informer, ListOptions, Lister, Resource, WorkQueue};
use object::{Object, Status};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::is_counted_here;
use crate::discovery::{Changes, discover};
use crate::kinds::RESOURCE_QUOTAS;

/// How often discovery is asked for the kinds that are missing, when nothing tells of any.
const AGAIN: Duration = Duration::from_secs(30);

/// A kind that is followed.
struct Followed {
    lister: Lister,
    synced: watch::Receiver<bool>,
    token: CancellationToken,
}

struct Counter {
    client: Client,
    quotas: Lister,
    queue: WorkQueue<String>,
    /// By what a quota calls it.
    followed: Mutex<HashMap<String, Followed>>,
}

/// What the quota counts and nobody else does.
fn names(quota: &Value) -> BTreeSet<String> {
    let hard = quota["spec"]["hard"].as_object().into_iter().flatten();
    hard.map(|(name, _)| name.clone()).filter(|name| name.starts_with("count/") && !is_counted_here(name)).collect()
}

/// Follows quotas and what they count as `follow`, and writes the counts as `writer`, until `stop` is cancelled.
pub async fn run(follow: Client, writer: Client, stop: CancellationToken) {
    let mut tasks = Tasks::new(&stop);
    let at = Resource::collection(&RESOURCE_QUOTAS.gvr(), None);
    let mut informer = Informer::new(follow.clone(), at, ListOptions::default());
    let (mut changes, quotas) = (informer.subscribe(), informer.lister());
    let token = tasks.token().clone();
    tasks.spawn("quota-informer", informer.run(token));
    let served = Changes::follow(&follow, &mut tasks);
    let counter = Arc::new(Counter { client: writer, quotas, queue: WorkQueue::new(), followed: Mutex::default() });
    tasks.spawn("quota-counts", counter.clone().work());
    let mut missing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            change = changes.recv() => {
                let Some(change) = change else { break };
                counter.queue.add(change.object().head.key());
            }
            () = served.next(), if missing => {}
            () = tokio::time::sleep(AGAIN), if missing => {}
        }
        missing = counter.follow(&follow, &mut tasks).await;
    }
    counter.queue.shut_down();
    tasks.shutdown().await;
}

impl Counter {
    /// Follows what the quotas count, and nothing else; true when the server does not have all of it.
    async fn follow(self: &Arc<Self>, client: &Client, tasks: &mut Tasks) -> bool {
        let wanted: BTreeSet<String> =
            self.quotas.list().iter().filter_map(|q| q.value().ok()).flat_map(|q| names(&q)).collect();
        let fresh: Vec<String> = {
            let mut followed = self.followed.lock();
            followed.retain(|name, kind| {
                let keep = wanted.contains(name);
                if !keep {
                    kind.token.cancel();
                }
                keep
            });
            wanted.into_iter().filter(|name| !followed.contains_key(name)).collect()
        };
        if fresh.is_empty() {
            return false;
        }
        let Ok(found) = discover(client).await else { return true };
        let mut missing = false;
        for name in fresh {
            let is = |gvr: &object::Gvr| name.strip_prefix("count/") == Some(&gvr.group_resource());
            let resource = found.resources.iter().find(|r| is(&r.gvr) && r.namespaced && r.can(&["list", "watch"]));
            let Some(resource) = resource else {
                missing = true;
                continue;
            };
            let at = Resource::collection(&resource.gvr, None);
            let mut informer = Informer::new(client.clone(), at, ListOptions::default());
            let (mut changes, lister, synced) = (informer.subscribe(), informer.lister(), informer.synced());
            let token = tasks.token().child_token();
            tasks.spawn("quota-kind-informer", informer.run(token.clone()));
            let (counter, first) = (self.clone(), synced.clone());
            tasks.spawn("quota-kind-changes", async move {
                counter.first(first).await;
                while let Some(change) = changes.recv().await {
                    // What is created was charged by admission.
                    if let Change::Deleted(object) = change {
                        counter.wake(Some(&object.head.namespace));
                    }
                }
            });
            self.followed.lock().insert(name, Followed { lister, synced, token });
        }
        missing
    }

    /// The first count of a kind is for all quotas.
    async fn first(&self, mut synced: watch::Receiver<bool>) {
        if synced.wait_for(|synced| *synced).await.is_ok() {
            self.wake(None);
        }
    }

    fn wake(&self, namespace: Option<&str>) {
        let quotas = match namespace {
            Some(namespace) => self.quotas.list_namespace(namespace),
            None => self.quotas.list(),
        };
        quotas.iter().for_each(|quota| self.queue.add(quota.head.key()));
    }

    async fn work(self: Arc<Self>) {
        while let Some(key) = self.queue.get().await {
            let done = match self.quotas.get(&key) {
                Some(quota) => self.count(&quota).await,
                None => Ok(()),
            };
            match done {
                Err(status) if !status.is_not_found() => self.queue.add_rate_limited(key.clone()),
                _ => self.queue.forget(&key),
            }
            self.queue.done(&key);
        }
    }

    /// Writes what there is into a quota's status.
    async fn count(&self, quota: &Object) -> client::Result<()> {
        let value = quota.value().map_err(Status::internal)?;
        let counts: BTreeMap<String, usize> = {
            let followed = self.followed.lock();
            let known = |name: &String| followed.get(name).filter(|kind| *kind.synced.borrow());
            let count = |lister: &Lister| lister.list_namespace(&quota.head.namespace).len();
            names(&value)
                .into_iter()
                .filter_map(|name| Some((known(&name)?.lister.clone(), name)))
                .map(|(l, n)| (n, count(&l)))
                .collect()
        };
        let mut changed = value.clone();
        for (name, count) in counts {
            changed["status"]["hard"][&name] = value["spec"]["hard"][&name].clone();
            changed["status"]["used"][&name] = count.to_string().into();
        }
        if changed == value {
            return Ok(());
        }
        self.client.update(&RESOURCE_QUOTAS.at(quota).sub("status"), &changed).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use client::testing::FakeServer;
    use object::Gvr;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn any_kind_is_counted() {
        let server = FakeServer::new();
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(&stop);
        tasks.spawn("counts", run(server.client("informers"), server.client("quota"), stop.clone()));
        let leases = Gvr::new("coordination.k8s.io", "v1", "leases");
        let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": "ns"}});
        server.seed(lease("a"));
        server.seed(lease("b"));
        server.seed(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "ns"},
            "spec": {"hard": {"count/leases.coordination.k8s.io": "5", "count/crontabs.stable.example.com": "1", "pods": "1"}}}));
        let used = |wanted: Value| server.value(&RESOURCE_QUOTAS.gvr(), "ns", "q")["status"]["used"] == wanted;
        server.until(|| used(json!({"count/leases.coordination.k8s.io": "2"}))).await;
        server.remove(&leases, "ns", "a");
        server.until(|| used(json!({"count/leases.coordination.k8s.io": "1"}))).await;
        stop.cancel();
        tasks.shutdown().await;
    }
}
