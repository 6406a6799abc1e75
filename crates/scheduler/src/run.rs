//! The loop: informers in, bindings out.

use std::collections::HashMap;
use std::sync::Arc;

use base::Tasks;
use client::{Change, Client, Informer, ListOptions, Patch, Recorder, Resource};
use object::{Gvr, Status};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::framework::{self, Placement};
use crate::queue::Queue;
use crate::snapshot::{Pod, Snapshot};

/// What the scheduler needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pods with this `spec.schedulerName` are ours.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { name: "default-scheduler".into() }
    }
}

/// Bindings and status writes under way at one time.
const MOST_WRITES: usize = 64;

struct Scheduler {
    options: Options,
    client: Client,
    recorder: Recorder,
    pods: Gvr,
    snapshot: Snapshot,
    queue: Queue,
    /// What refused pods were told last, by uid: the same words are not written again.
    told: HashMap<String, String>,
    writes: JoinSet<Outcome>,
}

/// How a write ended.
struct Outcome {
    uid: String,
    bound: Option<Result<(), Status>>,
}

/// Assigns pods until `token` is cancelled.
pub async fn run(client: Client, options: Options, token: CancellationToken) {
    let informer = |resource| {
        let gvr = Gvr::new("", "v1", resource);
        Informer::new(client.clone(), Resource::collection(&gvr, None), ListOptions::default())
    };
    let (mut pods, mut nodes) = (informer("pods"), informer("nodes"));
    let (pod_changes, node_changes) = (pods.subscribe(), nodes.subscribe());
    let synced = [pods.synced(), nodes.synced()];
    let (recorder, writer) = Recorder::new(client.clone(), &options.name, "");
    let mut tasks = Tasks::new(&token);
    let stop = tasks.token().clone();
    tasks.spawn("pods informer", pods.run(stop.clone()));
    tasks.spawn("nodes informer", nodes.run(stop.clone()));
    tasks.spawn("events", writer.run(stop.clone()));
    let scheduler = Scheduler {
        options,
        client,
        recorder,
        pods: Gvr::new("", "v1", "pods"),
        snapshot: Snapshot::default(),
        queue: Queue::default(),
        told: HashMap::new(),
        writes: JoinSet::new(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = scheduler.follow(pod_changes, node_changes, synced) => {}
    }
    tasks.shutdown().await;
}

impl Scheduler {
    async fn follow(
        mut self,
        mut pods: mpsc::Receiver<Change>,
        mut nodes: mpsc::Receiver<Change>,
        synced: [tokio::sync::watch::Receiver<bool>; 2],
    ) {
        let mut ready = false;
        loop {
            // Everything that is known comes before the next decision.
            while let Ok(change) = nodes.try_recv() {
                self.node_changed(&change);
            }
            while let Ok(change) = pods.try_recv() {
                self.pod_changed(&change);
            }
            ready = ready || synced.iter().all(|s| *s.borrow());
            let next = self.queue.tick(Instant::now());
            if ready
                && self.writes.len() < MOST_WRITES
                && let Some(pod) = self.queue.pop()
            {
                self.decide(pod);
                continue;
            }
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let not_ready = !ready;
            tokio::select! {
                change = nodes.recv() => match change { Some(change) => self.node_changed(&change), None => return },
                change = pods.recv() => match change { Some(change) => self.pod_changed(&change), None => return },
                Some(ended) = self.writes.join_next() => if let Ok(outcome) = ended { self.written(outcome) },
                () = due => {}
                // The informers say that they are synced on a channel of their own.
                () = tokio::time::sleep(std::time::Duration::from_millis(20)), if not_ready => {}
            }
        }
    }

    fn node_changed(&mut self, change: &Change) {
        match change {
            Change::Applied { new, .. } => self.snapshot.set_node(new),
            Change::Deleted(last) => self.snapshot.remove_node(&last.head.name),
        }
        self.queue.cluster_changed();
    }

    fn pod_changed(&mut self, change: &Change) {
        let object = change.object();
        let Some(pod) = Pod::of(object) else { return };
        let gone = matches!(change, Change::Deleted(_)) || pod.view.is_finished();
        if gone {
            self.snapshot.remove_pod(&pod.uid);
            self.queue.remove(&pod.uid);
            self.told.remove(&pod.uid);
            self.queue.cluster_changed();
        } else if !pod.view.spec.node_name.is_empty() {
            self.queue.remove(&pod.uid);
            self.told.remove(&pod.uid);
            let node = pod.view.spec.node_name.clone();
            self.snapshot.place(Arc::new(pod), &node);
            // A pod that others want to be near may have come to its place.
            self.queue.cluster_changed();
        } else if pod.view.spec.scheduler_name == self.options.name
            && pod.view.spec.scheduling_gates.is_empty()
            && !pod.terminating
        {
            let changed = match change {
                Change::Applied { old: Some(old), .. } => {
                    old.head.generation != object.head.generation || old.head.labels != object.head.labels
                }
                _ => true,
            };
            self.queue.set(pod, changed);
        }
    }

    fn decide(&mut self, pod: Arc<Pod>) {
        match framework::place(&pod, &self.snapshot) {
            Placement::On(node) => {
                // Counted there from now on; taken back if the binding fails.
                self.snapshot.place(pod.clone(), &node);
                let at = Resource::object(&self.pods, Some(&pod.namespace), &pod.name).sub("binding");
                let client = self.client.clone();
                let recorder = self.recorder.clone();
                self.writes.spawn(async move {
                    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                        "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
                    let bound = client.create(&at, &binding).await.map(drop);
                    if bound.is_ok() {
                        let text = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                        recorder.normal(reference(&pod), "Scheduled", text);
                    }
                    Outcome { uid: pod.uid.clone(), bound: Some(bound) }
                });
            }
            Placement::Nowhere(reasons) => {
                let sentence = framework::sentence(&reasons);
                self.queue.refused(&pod.uid, Instant::now());
                self.tell(pod, sentence);
            }
        }
    }

    fn written(&mut self, outcome: Outcome) {
        let Some(Err(status)) = outcome.bound else { return };
        tracing::debug!(uid = outcome.uid, error = %status, "a binding failed");
        self.snapshot.remove_pod(&outcome.uid);
        if status.is_not_found() || status.is_conflict() {
            // Gone, or assigned by someone else: the informer tells.
            self.queue.remove(&outcome.uid);
        } else {
            self.queue.refused(&outcome.uid, Instant::now());
            self.queue.cluster_changed();
        }
    }

    /// Says why no node took the pod: as an event, and as its `PodScheduled` condition.
    fn tell(&mut self, pod: Arc<Pod>, sentence: String) {
        let known = pod
            .view
            .status
            .conditions
            .iter()
            .any(|c| c.kind == "PodScheduled" && c.status == "False" && c.message == sentence);
        self.recorder.warning(reference(&pod), "FailedScheduling", sentence.clone());
        if known || self.told.insert(pod.uid.clone(), sentence.clone()).as_ref() == Some(&sentence) {
            return;
        }
        let at = Resource::object(&self.pods, Some(&pod.namespace), &pod.name).sub("status");
        let client = self.client.clone();
        self.writes.spawn(async move {
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": sentence,
                "lastProbeTime": null, "lastTransitionTime": base::time::now()});
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}));
            if let Err(error) = client.patch(&at, &patch).await {
                tracing::debug!(%error, pod = pod.name, "cannot say why a pod is not scheduled");
            }
            Outcome { uid: pod.uid.clone(), bound: None }
        });
    }
}

fn reference(pod: &Pod) -> client::ObjectReference {
    client::ObjectReference {
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        api_version: "v1".into(),
        ..Default::default()
    }
}
