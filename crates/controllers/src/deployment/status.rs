//! The status of a deployment: counters, and what `kubectl rollout status` waits for.

use object::Object;
use serde::{Deserialize, Serialize};

use super::View;
use super::sets::Sets;
use crate::Plan;
use crate::replicaset::is_zero;
use crate::views::{Condition, condition, remove_condition, set_condition};
use crate::world::World;

/// `status` of a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    #[serde(skip_serializing_if = "is_zero")]
    pub observed_generation: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub updated_replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub ready_replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub available_replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub unavailable_replicas: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Sets a condition that changes now.
pub(super) fn set(
    status: &mut Status,
    kind: &str,
    value: &str,
    reason: &str,
    message: impl Into<String>,
    world: &World,
) {
    set_condition(&mut status.conditions, made(kind, value, reason, message, world));
}

fn made(kind: &str, value: &str, reason: &str, message: impl Into<String>, world: &World) -> Condition {
    let stamp = world.stamp();
    Condition { last_update_time: Some(stamp.clone()), ..Condition::new(kind, value, reason, message, &stamp) }
}

fn progressing(status: &Status) -> Option<&Condition> {
    condition(&status.conditions, "Progressing")
}

/// Says in the condition that the deployment is paused, or no longer: a pause is no lack of progress.
pub(super) fn mark_paused(view: &View, status: &mut Status, world: &World) {
    let reason = progressing(status).map(|c| c.reason().to_owned()).unwrap_or_default();
    if view.progress_deadline().is_none() || reason == "ProgressDeadlineExceeded" {
        return;
    }
    match (view.spec.paused, reason == "DeploymentPaused") {
        (true, false) => set(status, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", world),
        (false, true) => set(status, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", world),
        _ => {}
    }
}

/// The counters and `Available`, over the conditions of `before`.
pub(super) fn counts(deployment: &Object, view: &View, sets: &Sets, before: &Status, world: &World) -> Status {
    let available = sets.available();
    let sum = |of: fn(&crate::replicaset::Status) -> i64| sets.all().map(|set| of(&set.status)).sum::<i64>();
    let known: Option<Vec<i64>> =
        sets.all().filter(|set| set.object.is_some()).map(|set| set.status.terminating_replicas).collect();
    let mut status = Status {
        observed_generation: deployment.head.generation,
        replicas: sum(|s| s.replicas),
        updated_replicas: sets.new.as_ref().map_or(0, |set| set.status.replicas),
        ready_replicas: sum(|s| s.ready_replicas),
        available_replicas: available,
        unavailable_replicas: (sets.total() - available).max(0),
        terminating_replicas: known.map(|counts| counts.iter().sum()),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    if available >= view.replicas() - view.max_unavailable() {
        let message = "Deployment has minimum availability.";
        set(&mut status, "Available", "True", "MinimumReplicasAvailable", message, world);
    } else {
        let message = "Deployment does not have minimum availability.";
        set(&mut status, "Available", "False", "MinimumReplicasUnavailable", message, world);
    }
    status
}

/// True when all wanted pods are of the new template and available, and no others are left.
pub(super) fn is_complete(deployment: &Object, view: &View, status: &Status) -> bool {
    let size = view.replicas();
    status.updated_replicas == size
        && status.replicas == size
        && status.available_replicas == size
        && status.observed_generation >= deployment.head.generation
}

fn progressed(old: &Status, new: &Status) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// When a deployment that makes no progress counts as stuck.
fn deadline(view: &View, condition: &Condition) -> Option<i64> {
    let updated = condition.last_update_time.as_deref().and_then(base::time::parse_seconds)?;
    Some(updated + view.progress_deadline()?)
}

/// The status during and after a rollout.
pub(super) fn of_rollout(
    deployment: &Object,
    view: &View,
    sets: &Sets,
    before: &Status,
    world: &World,
    plan: &mut Plan,
) -> Status {
    let mut status = counts(deployment, view, sets, before, world);
    if view.progress_deadline().is_none() {
        remove_condition(&mut status.conditions, "Progressing");
    }
    let current = progressing(before).cloned();
    let reason = current.as_ref().map(Condition::reason).unwrap_or_default();
    let was_complete = status.replicas == status.updated_replicas && reason == "NewReplicaSetAvailable";
    let what = match &sets.new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name),
        None => format!("Deployment \"{}\"", deployment.head.name),
    };
    if view.progress_deadline().is_some() && !was_complete {
        if is_complete(deployment, view, &status) {
            let message = format!("{what} has successfully progressed.");
            set(&mut status, "Progressing", "True", "NewReplicaSetAvailable", message, world);
        } else if progressed(&view.status, &status) {
            let mut made = made("Progressing", "True", "ReplicaSetUpdated", format!("{what} is progressing."), world);
            if let Some(current) = current.as_ref().filter(|c| c.is_true()) {
                made.last_transition_time = current.last_transition_time.clone();
            }
            remove_condition(&mut status.conditions, "Progressing");
            status.conditions.push(made);
        } else if timed_out(view, current.as_ref(), world) {
            let message = format!("{what} has timed out progressing.");
            set(&mut status, "Progressing", "False", "ProgressDeadlineExceeded", message, world);
        }
    }
    match replica_failure(sets) {
        Some(failure) => {
            let Condition { status: value, reason, message, last_transition_time, .. } = failure;
            let failure = Condition {
                r#type: "ReplicaFailure".into(),
                status: value,
                reason,
                message,
                last_update_time: last_transition_time.clone(),
                last_transition_time,
                ..Condition::default()
            };
            set_condition(&mut status.conditions, failure);
        }
        None => remove_condition(&mut status.conditions, "ReplicaFailure"),
    }
    look_again(deployment, view, &status, world, plan);
    status
}

fn timed_out(view: &View, current: Option<&Condition>, world: &World) -> bool {
    let Some(current) = current.filter(|c| c.reason() != "NewReplicaSetAvailable") else { return false };
    current.reason() == "ProgressDeadlineExceeded" || deadline(view, current).is_some_and(|at| at < world.now())
}

/// The failure of the new set, or of any.
fn replica_failure(sets: &Sets) -> Option<Condition> {
    let all = sets.new.iter().chain(&sets.old);
    all.filter_map(|set| condition(&set.status.conditions, "ReplicaFailure")).next().cloned()
}

/// Nothing may happen any more that would wake us before the deadline.
fn look_again(deployment: &Object, view: &View, status: &Status, world: &World, plan: &mut Plan) {
    let Some(current) = progressing(status) else { return };
    let over = matches!(current.reason(), "ProgressDeadlineExceeded" | "NewReplicaSetAvailable");
    if over || is_complete(deployment, view, status) {
        return;
    }
    if let Some(at) = deadline(view, current) {
        plan.requeue_after((at - world.now()).max(0) + 1);
    }
}
