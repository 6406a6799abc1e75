//! Carries a preemption out: the victims are marked and deleted, the node is noted for the pod that they make room for.

use std::sync::Arc;

use client::{Client, DeleteOptions, Patch, Recorder, Resource};
use object::{Gvr, Status};
use serde_json::json;

use crate::run::reference;
use crate::snapshot::Pod;

/// Who evicts: `spec.schedulerName` of the pods that it schedules.
pub(crate) struct Evictor {
    pub(crate) scheduler: String,
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) pods: Gvr,
}

impl Evictor {
    /// Evicts all victims, at once. The first failure is returned after all were tried.
    pub(crate) async fn clear(&self, node: &str, pod: &Pod, victims: &[Arc<Pod>]) -> Result<(), Status> {
        let evictions = victims.iter().map(|victim| self.evict(node, pod, victim));
        futures::future::join_all(evictions).await.into_iter().collect()
    }

    async fn evict(&self, node: &str, pod: &Pod, victim: &Pod) -> Result<(), Status> {
        if victim.terminating {
            return Ok(());
        }
        let at = Resource::object(&self.pods, Some(&victim.namespace), &victim.name);
        // KEP-3329: what watches failed pods can tell a preemption from a failure.
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
            "message": format!("{}: preempting to accommodate a higher priority pod", self.scheduler),
            "observedGeneration": victim.generation, "lastTransitionTime": base::time::now()});
        let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [condition]}});
        let options = DeleteOptions { uid: Some(victim.uid.clone()), ..DeleteOptions::default() };
        let outcome = match self.client.patch(&at.clone().sub("status"), &Patch::Strategic(patch)).await {
            Ok(_) => self.client.delete(&at, &options).await.map(drop),
            Err(status) => Err(status),
        };
        match outcome {
            Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
            Err(status) => Err(status),
            Ok(()) => {
                let text = format!("Preempted by pod {} on node {node}", pod.uid);
                self.recorder.normal(reference(victim), "Preempted", text);
                Ok(())
            }
        }
    }

    /// Notes in the pod's status that it hopes for `node`; with `None` that it hopes for none.
    pub(crate) async fn nominate(&self, pod: &Pod, node: Option<&str>) {
        let at = Resource::object(&self.pods, Some(&pod.namespace), &pod.name).sub("status");
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "status": {"nominatedNodeName": node}}));
        if let Err(error) = self.client.patch(&at, &patch).await {
            tracing::debug!(%error, pod = pod.name, "cannot note the node that a pod hopes for");
        }
    }
}
