//! Deployment: replica sets by revision, rolled over from the old ones to the new one.
//!
//! One reconciliation: claim the replica sets, find the one of the present template, then one of
//! - *sync* (paused, or the size changed): scale in proportion, no rollout;
//! - *rollout* (`rollout`): create the new one, grow it and shrink the old ones within `maxSurge` and `maxUnavailable`,
//!   or remove all old pods first (`Recreate`);
//!
//! and in any case the status and its conditions (`status`).

use std::sync::Arc;

use client::Change;
use object::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::controller::nothing;
use crate::kinds::{DEPLOYMENTS, PODS, REPLICA_SETS};
use crate::owner;
use crate::plan::Op;
use crate::views::Meta;
use crate::world::World;
use crate::{Controller, Event, Plan, Watch};

mod rollout;
mod scale;
mod sets;
mod status;
mod template;

pub(crate) use scale::amount;
use sets::Sets;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    of: &DEPLOYMENTS,
    owns: &[&REPLICA_SETS],
    watches: &[Watch { kind: &PODS, wakes: pod_is_gone }],
    reads: &[],
    workers: 5,
    reconcile,
    gone: nothing,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct View {
    metadata: Meta,
    spec: Spec,
    status: status::Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i64>,
    selector: Value,
    template: Value,
    strategy: Strategy,
    min_ready_seconds: i64,
    revision_history_limit: Option<i64>,
    paused: bool,
    progress_deadline_seconds: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    r#type: String,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RollingUpdate {
    max_surge: Value,
    max_unavailable: Value,
}

impl View {
    fn replicas(&self) -> i64 {
        self.spec.replicas.unwrap_or(1)
    }
    fn is_rolling(&self) -> bool {
        self.spec.strategy.r#type != "Recreate"
    }
    /// `maxSurge` and `maxUnavailable` as numbers: the one rounds up, the other down, and both are never zero.
    fn fence_posts(&self) -> (i64, i64) {
        let rolling = self.spec.strategy.rolling_update.clone().unwrap_or_default();
        let surge = scale::amount(&rolling.max_surge, self.replicas(), true);
        let unavailable = scale::amount(&rolling.max_unavailable, self.replicas(), false);
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }
    fn max_surge(&self) -> i64 {
        if self.is_rolling() { self.fence_posts().0 } else { 0 }
    }
    fn max_unavailable(&self) -> i64 {
        if !self.is_rolling() || self.replicas() == 0 { 0 } else { self.fence_posts().1.min(self.replicas()) }
    }
    /// `None` stands for no deadline, as does upstream's largest number.
    fn progress_deadline(&self) -> Option<i64> {
        self.spec.progress_deadline_seconds.filter(|seconds| *seconds != i64::from(i32::MAX))
    }
}

/// `Recreate` goes on when the last old pod is gone.
fn pod_is_gone(change: &Change, world: &World) -> Vec<String> {
    let Change::Deleted(pod) = change else { return Vec::new() };
    let set = pod.head.controller().filter(|owner| REPLICA_SETS.is(owner));
    let set = set.and_then(|owner| world.get(&REPLICA_SETS, &owner::key_of(&pod.head.namespace, &owner.name)));
    let owner = set.as_ref().and_then(|set| set.head.controller()).filter(|owner| DEPLOYMENTS.is(owner));
    owner.map(|owner| owner::key_of(&pod.head.namespace, &owner.name)).into_iter().collect()
}

fn reconcile(deployment: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let view = match deployment.view::<View>() {
        Ok(view) => view,
        Err(error) => {
            tracing::warn!(deployment = deployment.head.key(), %error, "cannot be read");
            return plan;
        }
    };
    let Some(selector) = owner::selector_of(deployment) else {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.events.push(Event::warning(deployment, "SelectingAll", message));
        return plan;
    };
    let claimed = owner::claim(world, &REPLICA_SETS, &DEPLOYMENTS, deployment, &selector);
    plan.step(claimed.ops);
    let mut sets = Sets::new(deployment, &view, &claimed.objects);
    let mut status = view.status.clone();
    let mut revision = None;
    if deployment.head.is_terminating() {
        status = status::counts(deployment, &view, &sets, &status, world);
    } else {
        status::mark_paused(&view, &mut status, world);
        if view.spec.paused || sets.is_scaling_event(&view) {
            revision = sets.refresh_new(&view, &mut status, world);
            scale::proportionally(&mut sets, &view);
            if view.spec.paused {
                sets.clean_up(&view);
            }
            status = status::counts(deployment, &view, &sets, &status, world);
        } else {
            revision = rollout::advance(deployment, &mut sets, &view, &mut status, world);
            status = status::of_rollout(deployment, &view, &sets, &status, world, &mut plan);
        }
    }
    sets.write(deployment, &view, &mut plan);
    write_revision(deployment, &view, revision, &mut plan);
    plan.push_some(Op::status_to(&DEPLOYMENTS, deployment, &status));
    plan
}

/// The deployment bears the revision of its new replica set. That is status, not what somebody wants: it makes no new generation.
fn write_revision(deployment: &Arc<Object>, view: &View, revision: Option<String>, plan: &mut Plan) {
    let Some(revision) = revision else { return };
    if view.metadata.annotation(sets::REVISION) != Some(revision.as_str()) {
        let change = json!({"metadata": {"annotations": {sets::REVISION: revision}}});
        plan.push(Op::update(&DEPLOYMENTS, deployment, change).sub("status"));
    }
}

#[cfg(test)]
mod tests;
