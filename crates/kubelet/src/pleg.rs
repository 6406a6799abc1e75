//! Pod lifecycle events: the runtime's stream wakes the workers; a relist finds what the stream missed, and orphans.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use protos::cri::v1::{
    ContainerEventResponse, ListContainersRequest, ListPodSandboxRequest, RemovePodSandboxRequest,
    StopContainerRequest, StopPodSandboxRequest,
};
use protos::cri::{Error, RuntimeService};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::labels;
use crate::pods::manager::Wakers;

/// How often the runtime is listed.
const RELIST_EVERY: Duration = Duration::from_secs(5);
/// How often a broken event stream is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// An orphan is one that was seen without a worker this many times.
const SEEN_ALONE: u32 = 2;

/// Watches the runtime.
pub(crate) struct Pleg {
    pub(crate) runtime: Arc<dyn RuntimeService>,
    pub(crate) wakers: Wakers,
    /// True once all pods of the API are known: only then is a pod without a worker an orphan.
    pub(crate) pods_synced: watch::Receiver<bool>,
}

/// Fingerprint of a pod in the runtime: ids and states.
type Seen = Vec<(String, i32)>;

impl Pleg {
    /// Runs until cancelled.
    pub(crate) async fn run(self, token: CancellationToken) {
        let work = futures::future::join(self.follow(), self.relist());
        tokio::select! {
            () = token.cancelled() => {}
            _ = work => {}
        }
    }

    async fn follow(&self) {
        loop {
            match self.runtime.get_container_events().await {
                Ok(mut events) => {
                    while let Some(event) = events.next().await {
                        if let Some(uid) = uid_of(&event) {
                            self.wakers.wake(&uid);
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "the runtime has no events for us"),
            }
            tokio::time::sleep(REOPEN_AFTER).await;
        }
    }

    async fn relist(&self) {
        let mut before: HashMap<String, Seen> = HashMap::new();
        let mut alone: HashMap<String, u32> = HashMap::new();
        let mut ends = JoinSet::new();
        let mut ending: HashSet<String> = HashSet::new();
        loop {
            tokio::time::sleep(RELIST_EVERY).await;
            while let Some(ended) = ends.try_join_next() {
                if let Ok(uid) = ended {
                    ending.remove(&uid);
                }
            }
            let now = match self.list().await {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!(%error, "the runtime cannot be listed");
                    continue;
                }
            };
            for (uid, seen) in &now {
                if before.get(uid) != Some(seen) {
                    self.wakers.wake(uid);
                }
            }
            before.keys().filter(|uid| !now.contains_key(*uid)).for_each(|uid| self.wakers.wake(uid));
            if *self.pods_synced.borrow() {
                alone.retain(|uid, _| now.contains_key(uid) && !self.wakers.has(uid));
                for uid in now.keys().filter(|uid| !self.wakers.has(uid)) {
                    let times = alone.entry(uid.clone()).or_default();
                    *times += 1;
                    if *times >= SEEN_ALONE && ending.insert(uid.clone()) {
                        ends.spawn(end_orphan(self.runtime.clone(), uid.clone()));
                    }
                }
            }
            before = now;
        }
    }

    async fn list(&self) -> Result<HashMap<String, Seen>, Error> {
        let sandboxes = self.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?;
        let containers = self.runtime.list_containers(ListContainersRequest::default()).await?;
        let mut out: HashMap<String, Seen> = HashMap::new();
        let of_sandboxes = sandboxes.items.into_iter().map(|s| (s.labels, s.id, s.state));
        let of_containers = containers.containers.into_iter().map(|c| (c.labels, c.id, c.state));
        for (labels, id, state) in of_sandboxes.chain(of_containers) {
            // What others run through the same runtime is none of ours.
            if let Some(uid) = labels.get(labels::POD_UID) {
                out.entry(uid.clone()).or_default().push((id, state));
            }
        }
        out.values_mut().for_each(|seen| seen.sort());
        Ok(out)
    }
}

fn uid_of(event: &ContainerEventResponse) -> Option<String> {
    let status = event.pod_sandbox_status.as_ref();
    let of_sandbox = status.and_then(|s| s.metadata.as_ref()).map(|m| m.uid.clone());
    let of_container = || event.containers_statuses.iter().find_map(|c| c.labels.get(labels::POD_UID).cloned());
    of_sandbox.filter(|uid| !uid.is_empty()).or_else(of_container)
}

/// Stops and removes a pod that the API no longer knows; the grace is what its containers were created with.
async fn end_orphan(runtime: Arc<dyn RuntimeService>, uid: String) -> String {
    tracing::info!(uid, "ending a pod that the API no longer knows");
    if let Err(error) = try_end_orphan(&runtime, &uid).await {
        tracing::warn!(uid, %error, "the orphaned pod could not be ended; trying again");
    }
    uid
}

async fn try_end_orphan(runtime: &Arc<dyn RuntimeService>, uid: &str) -> Result<(), Error> {
    let containers = runtime.list_containers(ListContainersRequest::default()).await?;
    let is_its = |labels: &HashMap<String, String>| labels.get(labels::POD_UID).is_some_and(|of| of == uid);
    let stops = containers.containers.iter().filter(|c| is_its(&c.labels)).map(|c| {
        let timeout = labels::grace_of(&c.annotations).unwrap_or(2).max(2);
        runtime.stop_container(StopContainerRequest { container_id: c.id.clone(), timeout })
    });
    for stopped in futures::future::join_all(stops).await {
        stopped?;
    }
    let sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?;
    for sandbox in sandboxes.items.into_iter().filter(|s| is_its(&s.labels)) {
        runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() }).await?;
        runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.id }).await?;
    }
    Ok(())
}
