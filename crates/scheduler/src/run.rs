//! The loop: informers in, bindings out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::Poll;

use base::Tasks;
use client::{Change, Client, Informer, ListOptions, Patch, Recorder, Resource};
use object::{Gvr, Status};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::evict::Evictor;
use crate::framework::{self, Placement, Refused};
use crate::metrics;
use crate::preemption::{self, Budget, Plan};
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
    evictor: Arc<Evictor>,
    snapshot: Snapshot,
    /// By namespace and name.
    budgets: BTreeMap<String, Budget>,
    queue: Queue,
    /// What refused pods were told last, by uid: the same words are not written again.
    told: HashMap<String, String>,
    writes: JoinSet<Outcome>,
}

/// How a write about the pod `uid` ended.
struct Outcome {
    uid: String,
    wrote: Wrote,
}

enum Wrote {
    Binding(Result<(), Status>),
    Evictions(Result<(), Status>),
    Words,
}

/// What the scheduler follows.
#[derive(Clone, Copy)]
enum Followed {
    Pods,
    Nodes,
    Namespaces,
    Budgets,
}

/// Assigns pods until `token` is cancelled.
pub async fn run(client: Client, options: Options, token: CancellationToken) {
    let mut tasks = Tasks::new(&token);
    let stop = tasks.token().clone();
    let (mut changes, mut synced) = (Vec::new(), Vec::new());
    // In this order they are asked for changes: what pods depend on comes first.
    let followed = [
        (Followed::Nodes, "", "nodes"),
        (Followed::Namespaces, "", "namespaces"),
        (Followed::Budgets, "policy", "poddisruptionbudgets"),
        (Followed::Pods, "", "pods"),
    ];
    for (what, group, resource) in followed {
        let at = Resource::collection(&Gvr::new(group, "v1", resource), None);
        let mut informer = Informer::new(client.clone(), at, ListOptions::default());
        changes.push((what, informer.subscribe()));
        synced.push(informer.synced());
        tasks.spawn("informer", informer.run(stop.clone()));
    }
    let (recorder, writer) = Recorder::new(client.clone(), &options.name, "");
    tasks.spawn("events", writer.run(stop.clone()));
    let pods = Gvr::new("", "v1", "pods");
    let evictor = Evictor {
        scheduler: options.name.clone(),
        client: client.clone(),
        recorder: recorder.clone(),
        pods: pods.clone(),
    };
    let scheduler = Scheduler {
        options,
        client,
        recorder,
        pods,
        evictor: Arc::new(evictor),
        snapshot: Snapshot::default(),
        budgets: BTreeMap::new(),
        queue: Queue::default(),
        told: HashMap::new(),
        writes: JoinSet::new(),
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = scheduler.follow(changes, synced) => {}
    }
    tasks.shutdown().await;
}

impl Scheduler {
    async fn follow(
        mut self,
        mut changes: Vec<(Followed, mpsc::Receiver<Change>)>,
        synced: Vec<tokio::sync::watch::Receiver<bool>>,
    ) {
        let mut ready = false;
        loop {
            // Everything that is known comes before the next decision.
            for (what, receiver) in &mut changes {
                while let Ok(change) = receiver.try_recv() {
                    self.changed(*what, &change);
                }
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
            let change = std::future::poll_fn(|cx| {
                let mut next =
                    changes.iter_mut().map(|(what, receiver)| receiver.poll_recv(cx).map(|change| (*what, change)));
                next.find(Poll::is_ready).unwrap_or(Poll::Pending)
            });
            tokio::select! {
                (what, change) = change => match change { Some(change) => self.changed(what, &change), None => return },
                Some(ended) = self.writes.join_next() => if let Ok(outcome) = ended { self.written(outcome) },
                () = due => {}
                // The informers say that they are synced on a channel of their own.
                () = tokio::time::sleep(std::time::Duration::from_millis(20)), if not_ready => {}
            }
        }
    }

    fn changed(&mut self, what: Followed, change: &Change) {
        match (what, change) {
            (Followed::Pods, change) => return self.pod_changed(change),
            (Followed::Nodes, Change::Applied { new, .. }) => self.snapshot.set_node(new),
            (Followed::Nodes, Change::Deleted(last)) => self.snapshot.remove_node(&last.head.name),
            (Followed::Namespaces, Change::Applied { new, .. }) => self.snapshot.set_namespace(new),
            (Followed::Namespaces, Change::Deleted(last)) => self.snapshot.remove_namespace(&last.head.name),
            (Followed::Budgets, change) => {
                let object = change.object();
                match Budget::of(object).filter(|_| matches!(change, Change::Applied { .. })) {
                    Some(budget) => drop(self.budgets.insert(object.head.key(), budget)),
                    None => drop(self.budgets.remove(&object.head.key())),
                }
                return;
            }
        }
        self.queue.cluster_changed();
    }

    fn pod_changed(&mut self, change: &Change) {
        let object = change.object();
        // What another scheduler is to place is none of ours as long as it has no node.
        let fields = &object.head.fields;
        if matches!(change, Change::Applied { .. })
            && fields.get("spec.nodeName").is_none()
            && fields.get("spec.schedulerName").is_some_and(|name| name != self.options.name)
        {
            return;
        }
        let Some(pod) = Pod::of(object) else { return };
        let gone = matches!(change, Change::Deleted(_)) || pod.view.is_finished();
        if gone {
            self.snapshot.remove_pod(&pod.uid);
            self.forget(&pod.uid);
            self.queue.cluster_changed();
        } else if !pod.view.spec.node_name.is_empty() {
            self.forget(&pod.uid);
            let node = pod.view.spec.node_name.clone();
            self.snapshot.place(Arc::new(pod), &node);
            // A pod that others want to be near may have come to its place.
            self.queue.cluster_changed();
        } else if pod.view.spec.scheduler_name == self.options.name
            && pod.view.spec.scheduling_gates.is_empty()
            && !pod.terminating
        {
            let nominated = pod.view.status.nominated_node_name.as_str();
            if !nominated.is_empty() && self.snapshot.nominated_node(&pod.uid).is_none() {
                self.snapshot.nominate(Arc::new(pod.clone()), nominated, Vec::new());
            }
            let changed = match change {
                Change::Applied { old: Some(old), .. } => {
                    old.head.generation != object.head.generation || old.head.labels != object.head.labels
                }
                _ => true,
            };
            self.queue.set(pod, changed);
        }
    }

    /// A pod that is placed or gone is nobody's to place.
    fn forget(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.told.remove(uid);
        self.snapshot.forget_nomination(uid);
    }

    fn decide(&mut self, pod: Arc<Pod>) {
        let began = Instant::now();
        match self.snapshot.with_nominated(&pod, |snapshot| framework::place(&pod, snapshot)) {
            Placement::On(node) => {
                // Counted there from now on; taken back if the binding fails.
                self.snapshot.place(pod.clone(), &node);
                let at = Resource::object(&self.pods, Some(&pod.namespace), &pod.name).sub("binding");
                let client = self.client.clone();
                let (recorder, profile) = (self.recorder.clone(), self.options.name.clone());
                self.writes.spawn(async move {
                    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                        "target": {"apiVersion": "v1", "kind": "Node", "name": node}});
                    let bound = client.create(&at, &binding).await.map(drop);
                    metrics::attempted(&profile, if bound.is_ok() { "scheduled" } else { "error" }, began);
                    if bound.is_ok() {
                        let text = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                        recorder.normal(reference(&pod), "Scheduled", text);
                    }
                    Outcome { uid: pod.uid.clone(), wrote: Wrote::Binding(bound) }
                });
            }
            Placement::Nowhere(refused) => {
                metrics::attempted(&self.options.name, "unschedulable", began);
                let mut sentence = framework::sentence(&refused);
                self.queue.refused(&pod.uid, Instant::now());
                if !refused.is_empty() {
                    sentence.push_str(&self.preempt(&pod, &refused));
                }
                self.tell(pod, sentence);
            }
        }
    }

    /// Makes room for a pod that no node took, at the cost of others. What is to be said of it follows the reasons.
    fn preempt(&mut self, pod: &Arc<Pod>, refused: &Refused) -> String {
        let budgets: Vec<Budget> = self.budgets.values().cloned().collect();
        let plan = self.snapshot.with_nominated(pod, |s| preemption::plan(pod, s, refused, &budgets));
        let (node, victims) = match plan {
            Plan::Evict { node, victims } => (node, victims),
            // Upstream's sentence names its other plugin of this kind, that of devices, first.
            Plan::Nothing(why) => return format!(" no new claims to deallocate, preemption: {why}"),
        };
        tracing::info!(pod = pod.name, node, victims = victims.len(), "pods of less priority are preempted");
        let displaced = self.snapshot.nominated_below(&node, pod.view.spec.priority);
        for other in &displaced {
            self.snapshot.forget_nomination(&other.uid);
        }
        self.snapshot.nominate(pod.clone(), &node, victims.iter().map(|v| v.uid.clone()).collect());
        let (evictor, pod) = (self.evictor.clone(), pod.clone());
        self.writes.spawn(async move {
            for other in displaced {
                evictor.nominate(&other, None).await;
            }
            evictor.nominate(&pod, Some(&node)).await;
            let cleared = evictor.clear(&node, &pod, &victims).await;
            Outcome { uid: pod.uid.clone(), wrote: Wrote::Evictions(cleared) }
        });
        String::new()
    }

    fn written(&mut self, outcome: Outcome) {
        let status = match outcome.wrote {
            Wrote::Binding(Err(status)) => status,
            Wrote::Evictions(Err(status)) => {
                tracing::warn!(uid = outcome.uid, error = %status, "a preemption failed");
                self.snapshot.forget_nomination(&outcome.uid);
                return self.queue.cluster_changed();
            }
            _ => return,
        };
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
                "observedGeneration": pod.generation, "lastProbeTime": null, "lastTransitionTime": base::time::now()});
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}));
            if let Err(error) = client.patch(&at, &patch).await {
                tracing::debug!(%error, pod = pod.name, "cannot say why a pod is not scheduled");
            }
            Outcome { uid: pod.uid.clone(), wrote: Wrote::Words }
        });
    }
}

/// What events about a pod refer to.
pub(crate) fn reference(pod: &Pod) -> client::ObjectReference {
    client::ObjectReference {
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        api_version: "v1".into(),
        ..Default::default()
    }
}
