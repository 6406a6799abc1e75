//! DaemonSet: one pod on each node that it fits.
//!
//! The pods are bound by the scheduler: each has a node affinity for its one node. Which nodes are meant is in `nodes`.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Change;
use object::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::deployment::amount;
use crate::kinds::{CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS};
use crate::plan::Op;
use crate::replicaset::is_zero;
use crate::revisions::{self, POD_LABEL, Revisions};
use crate::views::Condition;
use crate::world::World;
use crate::{Controller, Event, Plan, Watch, owner};

mod nodes;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "daemon-set-controller",
    of: &DAEMON_SETS,
    owns: &[&PODS, &CONTROLLER_REVISIONS],
    watches: &[Watch { kind: &NODES, wakes: all_when_a_node_changes }],
    reads: &[],
    workers: 2,
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
    template: Value,
    min_ready_seconds: i64,
    revision_history_limit: Option<i64>,
    update_strategy: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    current_number_scheduled: i64,
    number_misscheduled: i64,
    desired_number_scheduled: i64,
    number_ready: i64,
    #[serde(skip_serializing_if = "is_zero")]
    observed_generation: i64,
    #[serde(skip_serializing_if = "is_zero")]
    updated_number_scheduled: i64,
    #[serde(skip_serializing_if = "is_zero")]
    number_available: i64,
    #[serde(skip_serializing_if = "is_zero")]
    number_unavailable: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    collision_count: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
}

/// A node's status changes every few seconds; what matters here is rare.
fn all_when_a_node_changes(change: &Change, world: &World) -> Vec<String> {
    if let Change::Applied { old: Some(old), new } = change
        && nodes::same(old, new)
    {
        return Vec::new();
    }
    world.list(&DAEMON_SETS, None).into_iter().map(|set| set.head.key()).collect()
}

fn reconcile(set: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let (Ok(view), Some(selector)) = (set.view::<View>(), owner::selector_of(set)) else {
        plan.events.push(Event::warning(
            set,
            "SelectingAll",
            "This daemon set is selecting all pods. A non-empty selector is required.",
        ));
        return plan;
    };
    if set.head.is_terminating() {
        return plan;
    }
    let revisions = revisions::of(&DAEMON_SETS, set, &view.spec.template, view.status.collision_count, world);
    let claimed = owner::claim(world, &PODS, &DAEMON_SETS, set, &selector);
    plan.step(claimed.ops);
    plan.step(revisions.ops.clone());
    let mut by_node: BTreeMap<String, Vec<Arc<Object>>> = BTreeMap::new();
    for pod in claimed.objects {
        by_node.entry(nodes::target(&pod, world)).or_default().push(pod);
    }
    let daemon = Daemon { set, view: &view, revisions: &revisions, by_node: &by_node, world };
    daemon.manage(&mut plan);
    let status = daemon.status(&mut plan);
    let used = |revision: &revisions::Revision| {
        by_node.values().flatten().any(|pod| pod.head.labels.get(POD_LABEL) == Some(&*revision.hash))
    };
    plan.step(revisions.clean_up(view.spec.revision_history_limit.unwrap_or(10), used));
    plan.push_some(Op::status_to(&DAEMON_SETS, set, &status));
    plan
}

/// A node with its pod of the present template and its pod of an older one.
type Rolling = (String, Option<Arc<Object>>, Option<Arc<Object>>);

struct Daemon<'a> {
    set: &'a Arc<Object>,
    view: &'a View,
    revisions: &'a Revisions,
    by_node: &'a BTreeMap<String, Vec<Arc<Object>>>,
    world: &'a World,
}

impl Daemon<'_> {
    fn is_new(&self, pod: &Object) -> bool {
        pod.head.labels.get(POD_LABEL) == Some(&*self.revisions.present.hash)
    }

    fn is_available(&self, pod: &Object) -> bool {
        self.world.pod(pod).is_available(self.view.spec.min_ready_seconds, self.world.now())
    }

    /// The pods of a node that count.
    fn alive(&self, node: &str) -> Vec<&Arc<Object>> {
        let pods = self.by_node.get(node).into_iter().flatten();
        pods.filter(|pod| !pod.head.is_terminating() && !self.world.pod(pod).is_finished()).collect()
    }

    fn manage(&self, plan: &mut Plan) {
        let (mut create, mut delete) = (Vec::new(), Vec::new());
        let nodes = self.world.list(&NODES, None);
        let mut rolling = Vec::new();
        for node in &nodes {
            let fits = nodes::fit(&self.view.spec.template, node);
            let name = &node.head.name;
            let pods = self.by_node.get(name).cloned().unwrap_or_default();
            for pod in
                pods.iter().filter(|pod| !pod.head.is_terminating() && self.world.pod(pod).status.phase == "Failed")
            {
                let message = format!("Found failed daemon pod {} on node {name}, will try to kill it", pod.head.key());
                plan.events.push(Event::warning(self.set, "FailedDaemonPod", message));
                delete.push(pod.clone());
            }
            if !fits.may_continue {
                delete.extend(self.alive(name).into_iter().cloned());
                continue;
            }
            // Until the pod before it is gone a node gets no other.
            let busy = pods.iter().any(|pod| pod.head.is_terminating());
            let mut alive = self.alive(name);
            match alive.len() {
                0 if fits.should_run && !busy => create.push(name.clone()),
                0 => {}
                _ => {
                    // Of several of one revision the oldest stays.
                    alive.sort_by_key(|pod| {
                        (self.is_new(pod), pod.head.creation_timestamp.clone(), pod.head.name.clone())
                    });
                    let (new, old): (Vec<_>, Vec<_>) = alive.into_iter().partition(|pod| self.is_new(pod));
                    delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|pod| Arc::clone(pod)));
                    rolling.push((
                        name.clone(),
                        new.first().map(|p| Arc::clone(p)),
                        old.first().map(|p| Arc::clone(p)),
                    ));
                }
            }
        }
        // Pods for nodes that are no more are the pod garbage collector's, once they have a node.
        let gone = |(name, _): &(&String, &Vec<Arc<Object>>)| !nodes.iter().any(|node| node.head.name == **name);
        let unbound = self.by_node.iter().filter(gone).flat_map(|(_, pods)| pods);
        delete.extend(
            unbound.filter(|pod| self.world.pod(pod).spec.node_name.is_empty() && !pod.head.is_terminating()).cloned(),
        );
        self.roll(&nodes, rolling, &mut create, &mut delete);
        plan.step(delete.iter().map(|pod| owner::delete_pod(self.set, pod)).collect());
        plan.step(create.iter().map(|node| owner::create_pod(self.set, self.pod(node).into())).collect());
    }

    /// Replaces pods of older templates, a few at a time.
    fn roll(
        &self,
        nodes: &[Arc<Object>],
        rolling: Vec<Rolling>,
        create: &mut Vec<String>,
        delete: &mut Vec<Arc<Object>>,
    ) {
        if self.view.spec.update_strategy["type"] == "OnDelete" {
            return;
        }
        let wanted = nodes.iter().filter(|node| nodes::fit(&self.view.spec.template, node).should_run).count() as i64;
        let rolling_update = &self.view.spec.update_strategy["rollingUpdate"];
        let surge = amount(&rolling_update["maxSurge"], wanted, true);
        let unavailable = match &rolling_update["maxUnavailable"] {
            Value::Null => 1,
            value => amount(value, wanted, true),
        };
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let available =
            rolling.iter().filter(|(_, new, old)| [new, old].into_iter().flatten().any(|pod| self.is_available(pod)));
        let mut spare = unavailable - (wanted - available.count() as i64);
        let mut extra = surge - rolling.iter().filter(|(_, new, old)| new.is_some() && old.is_some()).count() as i64;
        for (node, new, old) in rolling {
            let Some(old) = old else { continue };
            match new {
                // The new one took over.
                Some(new) if self.is_available(&new) => delete.push(old),
                Some(_) if !self.is_available(&old) => delete.push(old),
                Some(_) => {}
                // What is not available costs nothing.
                None if !self.is_available(&old) => delete.push(old),
                None if surge > 0 && extra > 0 => {
                    extra -= 1;
                    create.push(node);
                }
                None if surge == 0 && spare > 0 => {
                    spare -= 1;
                    delete.push(old);
                }
                None => {}
            }
        }
    }

    /// The pod for a node.
    fn pod(&self, node: &str) -> Value {
        let mut pod = owner::pod_of(&DAEMON_SETS, self.set, &self.view.spec.template);
        pod["metadata"]["labels"][POD_LABEL] = json!(self.revisions.present.hash);
        nodes::bind(&mut pod, node);
        pod
    }

    fn status(&self, plan: &mut Plan) -> Status {
        let mut status = Status {
            observed_generation: self.set.head.generation,
            collision_count: self.view.status.collision_count,
            conditions: self.view.status.conditions.clone(),
            ..Status::default()
        };
        let mut waits = false;
        for node in self.world.list(&NODES, None) {
            let pods = self.alive(&node.head.name);
            if !nodes::fit(&self.view.spec.template, &node).should_run {
                status.number_misscheduled += i64::from(!pods.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            // The oldest speaks for the node.
            let Some(pod) = pods.iter().min_by_key(|pod| &pod.head.creation_timestamp) else { continue };
            status.current_number_scheduled += 1;
            status.updated_number_scheduled += i64::from(pods.iter().any(|pod| self.is_new(pod)));
            if self.world.pod(pod).is_ready() {
                status.number_ready += 1;
                let available = self.is_available(pod);
                status.number_available += i64::from(available);
                waits |= !available;
            }
        }
        status.number_unavailable = status.desired_number_scheduled - status.number_available;
        if waits {
            plan.requeue_after(self.view.spec.min_ready_seconds.max(1));
        }
        status
    }
}

#[cfg(test)]
mod tests;
