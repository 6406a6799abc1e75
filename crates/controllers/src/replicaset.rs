//! ReplicaSet: as many pods as it says, no more and no fewer. A ReplicationController is the same under an older name.
//!
//! Pods that it selects and nobody controls are adopted; pods of its own that it no longer selects are released. Creation
//! is slow at the start and in bursts of 500; what goes first is in `ranking`.

use std::collections::BTreeMap;
use std::sync::Arc;

use object::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::controller::nothing;
use crate::kinds::{Kind, PODS, REPLICA_SETS};
use crate::owner;
use crate::plan::Op;
use crate::views::{Condition, condition, remove_condition, set_condition};
use crate::world::World;
use crate::{Controller, Plan, ranking};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "replicaset-controller",
    of: &REPLICA_SETS,
    owns: &[&PODS],
    watches: &[],
    reads: &[],
    workers: 5,
    reconcile: |set, world| reconcile(&REPLICA_SETS, set, world),
    gone: nothing,
};

/// Pods that are created or deleted in one go.
const BURST: usize = 500;

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i64>,
    min_ready_seconds: i64,
    template: Value,
}

/// `status` of a replica set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Active pods.
    pub replicas: i64,
    /// Those with all labels of the template.
    #[serde(skip_serializing_if = "is_zero")]
    pub fully_labeled_replicas: i64,
    /// Ready ones.
    #[serde(skip_serializing_if = "is_zero")]
    pub ready_replicas: i64,
    /// Those that have been ready for long enough.
    #[serde(skip_serializing_if = "is_zero")]
    pub available_replicas: i64,
    /// Those that are going (KEP-3973).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i64>,
    /// The generation that this status is of.
    #[serde(skip_serializing_if = "is_zero")]
    pub observed_generation: i64,
    /// Conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// For counters that are left out when they are zero.
pub(crate) fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What a set of pods of the kind `of` needs: a ReplicaSet, or something with the same spec and status.
pub(crate) fn reconcile(of: &'static Kind, rs: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let (Ok(view), Some(selector)) = (rs.view::<View>(), owner::selector_of(rs)) else {
        tracing::warn!(kind = of.kind, key = rs.head.key(), "cannot be read or selects nothing");
        return plan;
    };
    let claimed = owner::claim(world, &PODS, of, rs, &selector);
    plan.step(claimed.ops);
    let (active, inactive): (Vec<_>, Vec<_>) = claimed.objects.into_iter().partition(|o| world.pod(o).is_active());
    let terminating = inactive.iter().filter(|o| o.head.is_terminating() && !world.pod(o).is_finished()).count();
    if !rs.head.is_terminating() {
        plan.step(manage(of, rs, &view, &active, world));
    }
    let mut status = status(rs, &view, &active, world);
    // A ReplicationController's status has no such field.
    status.terminating_replicas = (of == &REPLICA_SETS).then_some(terminating as i64);
    if view.spec.min_ready_seconds > 0
        && status.ready_replicas == view.spec.replicas.unwrap_or(1)
        && status.available_replicas != status.ready_replicas
    {
        plan.requeue_after(next_available(&view, &active, world));
    }
    plan.push_some(Op::status_to(of, rs, &status));
    plan
}

/// Creates what is missing or deletes what is too much.
fn manage(of: &'static Kind, rs: &Arc<Object>, view: &View, active: &[Arc<Object>], world: &World) -> Vec<Op> {
    let wanted = usize::try_from(view.spec.replicas.unwrap_or(1)).unwrap_or(0);
    if active.len() < wanted {
        let pod = Arc::new(owner::pod_of(of, rs, &view.spec.template));
        let missing = (wanted - active.len()).min(BURST);
        return (0..missing).map(|_| owner::create_pod(rs, pod.clone())).collect();
    }
    let surplus = (active.len() - wanted).min(BURST);
    if surplus == 0 {
        return Vec::new();
    }
    let mut candidates = active.to_vec();
    if surplus < active.len() {
        ranking::sort(&mut candidates, &related(of, rs, active, world), world);
    }
    candidates[..surplus].iter().map(|pod| owner::delete_pod(rs, pod)).collect()
}

/// The active pods of all sets of this kind that have the same controller as this one.
fn related(of: &Kind, rs: &Object, own: &[Arc<Object>], world: &World) -> Vec<Arc<Object>> {
    let Some(controller) = rs.head.controller() else { return own.to_vec() };
    let siblings = world.owned(of, &controller.uid);
    let mut pods: BTreeMap<String, Arc<Object>> = own.iter().map(|pod| (pod.head.key(), pod.clone())).collect();
    for sibling in siblings {
        pods.extend(world.owned(&PODS, &sibling.head.uid).into_iter().map(|pod| (pod.head.key(), pod)));
    }
    pods.into_values().collect()
}

fn status(rs: &Object, view: &View, active: &[Arc<Object>], world: &World) -> Status {
    let count = |test: &dyn Fn(&Arc<Object>) -> bool| active.iter().filter(|pod| test(pod)).count() as i64;
    let labels = |pod: &Arc<Object>| {
        let wanted = view.spec.template["metadata"]["labels"].as_object();
        wanted.into_iter().flatten().all(|(key, value)| pod.head.labels.get(key) == value.as_str())
    };
    let mut conditions = view.status.conditions.clone();
    match world.failure().filter(|failure| failure.kind == &PODS && !failure.status.is_conflict()) {
        Some(failure) if condition(&conditions, "ReplicaFailure").is_none() => {
            let reason = if failure.create { "FailedCreate" } else { "FailedDelete" };
            let failed = Condition::new("ReplicaFailure", "True", reason, &failure.status.message, &world.stamp());
            set_condition(&mut conditions, failed);
        }
        Some(_) => {}
        None => remove_condition(&mut conditions, "ReplicaFailure"),
    }
    Status {
        replicas: active.len() as i64,
        fully_labeled_replicas: count(&labels),
        ready_replicas: count(&|pod| world.pod(pod).is_ready()),
        available_replicas: count(&|pod| world.pod(pod).is_available(view.spec.min_ready_seconds, world.now())),
        terminating_replicas: None,
        observed_generation: rs.head.generation,
        conditions,
    }
}

/// Seconds until the next ready pod has been ready for long enough.
fn next_available(view: &View, active: &[Arc<Object>], world: &World) -> i64 {
    let since = active.iter().filter_map(|pod| world.pod(pod).ready_since());
    let waits = since.map(|since| since + view.spec.min_ready_seconds - world.now()).filter(|wait| *wait > 0);
    waits.min().unwrap_or(view.spec.min_ready_seconds).max(1)
}

#[cfg(test)]
mod tests;
