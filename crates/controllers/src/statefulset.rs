//! StatefulSet: pods with a name, a place in line, and claims of their own.
//!
//! Pods come in order and go in reverse, each when those before it are healthy (`OrderedReady`), or all at once
//! (`Parallel`); a new template is rolled out from the highest ordinal down to the partition. The pod of an ordinal is in
//! `identity`. Claims are kept when pods go.

use std::collections::BTreeMap;
use std::sync::Arc;

use object::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kinds::{CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use crate::owner::key_of;
use crate::plan::Op;
use crate::replicaset::is_zero;
use crate::revisions::{self, POD_LABEL, Revision, Revisions};
use crate::views::Condition;
use crate::world::World;
use crate::{Controller, Event, Plan, owner};

mod identity;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    of: &STATEFUL_SETS,
    owns: &[&PODS, &CONTROLLER_REVISIONS],
    watches: &[],
    reads: &[&PERSISTENT_VOLUME_CLAIMS],
    workers: 5,
    reconcile,
    gone: crate::controller::nothing,
};

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
    service_name: String,
    template: Value,
    volume_claim_templates: Option<Vec<Value>>,
    pod_management_policy: String,
    update_strategy: Value,
    revision_history_limit: Option<i64>,
    min_ready_seconds: i64,
    ordinals: Option<Ordinals>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Ordinals {
    start: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(skip_serializing_if = "is_zero")]
    observed_generation: i64,
    replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    ready_replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    current_replicas: i64,
    #[serde(skip_serializing_if = "is_zero")]
    updated_replicas: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    current_revision: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    update_revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    collision_count: Option<i64>,
    available_replicas: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
}

impl View {
    fn start(&self) -> i64 {
        self.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start)
    }
    fn end(&self) -> i64 {
        self.start() + self.spec.replicas.unwrap_or(1)
    }
    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy != "Parallel"
    }
    fn partition(&self) -> Option<i64> {
        self.spec.update_strategy["rollingUpdate"]["partition"].as_i64()
    }
    fn rolls(&self) -> bool {
        self.spec.update_strategy["type"] != "OnDelete"
    }
}

fn reconcile(set: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let (Ok(view), Some(selector)) = (set.view::<View>(), owner::selector_of(set)) else { return plan };
    let claimed = owner::claim(world, &PODS, &STATEFUL_SETS, set, &selector);
    plan.step(claimed.ops);
    let revisions = revisions::of(&STATEFUL_SETS, set, &view.spec.template, view.status.collision_count, world);
    plan.step(revisions.ops.clone());
    let mut pods: BTreeMap<i64, Arc<Object>> = BTreeMap::new();
    for pod in claimed.objects {
        if let Some(ordinal) = identity::ordinal(&set.head.name, &pod.head.name) {
            pods.insert(ordinal, pod);
        }
    }
    // The template that is being replaced; none is at first.
    let current = revisions.named(&view.status.current_revision).unwrap_or(&revisions.present).clone();
    let members = Members { set, view: &view, revisions: &revisions, current: &current, pods: &pods, world };
    if !set.head.is_terminating() {
        members.manage(&mut plan);
    }
    let status = members.status(&mut plan);
    let used = |revision: &Revision| {
        revision.name == current.name
            || pods.values().any(|pod| pod.head.labels.get(POD_LABEL) == Some(&*revision.name))
    };
    plan.step(revisions.clean_up(view.spec.revision_history_limit.unwrap_or(10), used));
    plan.push_some(Op::status_to(&STATEFUL_SETS, set, &status));
    plan
}

struct Members<'a> {
    set: &'a Arc<Object>,
    view: &'a View,
    revisions: &'a Revisions,
    current: &'a Revision,
    pods: &'a BTreeMap<i64, Arc<Object>>,
    world: &'a World,
}

impl Members<'_> {
    fn is_healthy(&self, pod: &Object) -> bool {
        let view = self.world.pod(pod);
        !pod.head.is_terminating()
            && view.status.phase == "Running"
            && view.is_available(self.view.spec.min_ready_seconds, self.world.now())
    }

    fn revision_of<'p>(&self, pod: &'p Object) -> &'p str {
        pod.head.labels.get(POD_LABEL).unwrap_or_default()
    }

    /// The template for a pod that is to be made.
    fn revision_for(&self, ordinal: i64) -> &Revision {
        let below = match self.view.partition() {
            _ if !self.view.rolls() => false,
            Some(partition) => ordinal < self.view.start() + partition,
            None => ordinal < self.view.start() + self.view.status.current_replicas,
        };
        if below { self.current } else { &self.revisions.present }
    }

    fn manage(&self, plan: &mut Plan) {
        if self.fill(plan) && self.condemn(plan) && self.view.rolls() {
            self.roll(plan);
        }
    }

    /// Makes what is missing, in order; true when nothing is in the way of going on.
    fn fill(&self, plan: &mut Plan) -> bool {
        let mut free = true;
        for ordinal in self.view.start()..self.view.end() {
            match self.pods.get(&ordinal) {
                None => {
                    self.create(ordinal, plan);
                    free = false;
                }
                Some(pod) if self.world.pod(pod).is_finished() && !pod.head.is_terminating() => {
                    self.delete(pod, plan);
                    free = false;
                }
                Some(pod) if self.is_healthy(pod) => continue,
                Some(_) => free &= !self.view.is_ordered(),
            }
            if self.view.is_ordered() {
                return false;
            }
        }
        free
    }

    /// Deletes what is too much, from the top.
    fn condemn(&self, plan: &mut Plan) -> bool {
        let range = self.view.start()..self.view.end();
        let condemned: Vec<_> = self.pods.iter().rev().filter(|(ordinal, _)| !range.contains(ordinal)).collect();
        let first_unwell = condemned.iter().rev().find(|(_, pod)| !self.is_healthy(pod)).map(|(ordinal, _)| **ordinal);
        for (ordinal, pod) in &condemned {
            // In order means: no pod goes that is not well, while another below it is not well either.
            let is_unwell = !pod.head.is_terminating() && !self.is_healthy(pod);
            if self.view.is_ordered() && is_unwell && first_unwell != Some(**ordinal) {
                return false;
            }
            if pod.head.is_terminating() {
                if self.view.is_ordered() {
                    return false;
                }
                continue;
            }
            self.delete(pod, plan);
            if self.view.is_ordered() {
                return false;
            }
        }
        condemned.is_empty()
    }

    /// Replaces one pod of an older template, the highest first, when those above it are healthy.
    fn roll(&self, plan: &mut Plan) {
        let least = self.view.start() + self.view.partition().unwrap_or(0);
        for (_, pod) in self.pods.range(least..self.view.end().max(least)).rev() {
            if self.revision_of(pod) != self.revisions.present.name && !pod.head.is_terminating() {
                self.delete(pod, plan);
                return;
            }
            if !self.is_healthy(pod) {
                return;
            }
        }
    }

    fn create(&self, ordinal: i64, plan: &mut Plan) {
        let revision = self.revision_for(ordinal);
        let (name, set) = (format!("{}-{ordinal}", self.set.head.name), &self.set.head.name);
        let namespace = &self.set.head.namespace;
        for claim in
            identity::claims(self.set, self.view.spec.volume_claim_templates.as_deref().unwrap_or_default(), ordinal)
        {
            let claim_name = claim["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if self.world.get(&PERSISTENT_VOLUME_CLAIMS, &key_of(namespace, &claim_name)).is_none() {
                let what = format!("create Claim {claim_name} Pod {name} in StatefulSet {set}");
                let op = Op::create(&PERSISTENT_VOLUME_CLAIMS, namespace, claim)
                    .on_done(Event::normal(self.set, "SuccessfulCreate", format!("{what} success")))
                    .on_failure(Event::warning(self.set, "FailedCreate", format!("{what} failed error: {{error}}")));
                plan.push(op);
            }
        }
        let pod = identity::pod(
            self.set,
            revision,
            &self.view.spec.service_name,
            &self.view.spec.volume_claim_templates,
            ordinal,
        );
        let what = format!("create Pod {name} in StatefulSet {set}");
        let op = Op::create(&PODS, namespace, pod)
            .on_done(Event::normal(self.set, "SuccessfulCreate", format!("{what} successful")))
            .on_failure(Event::warning(self.set, "FailedCreate", format!("{what} failed error: {{error}}")));
        plan.push(op);
    }

    fn delete(&self, pod: &Object, plan: &mut Plan) {
        let what = format!("delete Pod {} in StatefulSet {}", pod.head.name, self.set.head.name);
        let op = Op::delete(&PODS, pod)
            .on_done(Event::normal(self.set, "SuccessfulDelete", format!("{what} successful")))
            .on_failure(Event::warning(self.set, "FailedDelete", format!("{what} failed error: {{error}}")));
        plan.push(op);
    }

    fn status(&self, plan: &mut Plan) -> Status {
        let (current, update) = (&self.current.name, &self.revisions.present.name);
        let mut status = Status {
            observed_generation: self.set.head.generation,
            current_revision: current.clone(),
            update_revision: update.clone(),
            collision_count: self.view.status.collision_count,
            conditions: self.view.status.conditions.clone(),
            ..Status::default()
        };
        for pod in self.pods.values() {
            let view = self.world.pod(pod);
            status.replicas += 1;
            if pod.head.is_terminating() {
                continue;
            }
            let ready = view.status.phase == "Running" && view.is_ready();
            let available = self.is_healthy(pod);
            status.ready_replicas += i64::from(ready);
            status.available_replicas += i64::from(available);
            if ready && !available {
                plan.requeue_after(self.view.spec.min_ready_seconds.max(1));
            }
            status.current_replicas += i64::from(self.revision_of(pod) == current);
            status.updated_replicas += i64::from(self.revision_of(pod) == update);
        }
        // The rollout is over: what was new is current.
        let all = status.replicas;
        if self.view.rolls() && status.updated_replicas == all && status.ready_replicas == all && current != update {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(update);
        }
        status
    }
}

#[cfg(test)]
mod tests;
