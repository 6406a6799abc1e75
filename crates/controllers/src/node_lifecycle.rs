//! Node lifecycle: nodes that fall silent become unknown, conditions become taints, and taints evict pods.
//!
//! A node lives as long as its lease is renewed or its Ready condition is reported. Whether it was is judged by when *we*
//! saw it change, so that clocks may differ.

use std::sync::Arc;

use client::{Change, DeleteOptions};
use object::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::diff::merge_diff;
use crate::kinds::{LEASES, NODES, PODS};
use crate::owner::key_of;
use crate::plan::Op;
use crate::views::{Condition, Meta, Taint, condition};
use crate::world::{World, node_and_phase};
use crate::{Controller, Event, Plan, Verb, Watch};

/// Conditions and taints.
pub static CONTROLLER: Controller = Controller {
    name: "node-controller",
    of: &NODES,
    owns: &[],
    watches: &[Watch { kind: &LEASES, wakes: node_of_lease }],
    reads: &[&PODS],
    workers: 2,
    reconcile,
    gone,
};

/// Eviction of pods that do not tolerate a `NoExecute` taint of their node.
pub static EVICTION: Controller = Controller {
    name: "node-controller",
    of: &PODS,
    owns: &[],
    watches: &[Watch { kind: &NODES, wakes: pods_of_node }],
    reads: &[],
    workers: 4,
    reconcile: evict,
    gone: crate::controller::nothing,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// How long a node that never reported may take to begin.
const STARTUP_SECONDS: i64 = 60;
/// Condition, the value that taints, the taint.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct View {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    unschedulable: bool,
    taints: Option<Vec<Taint>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<Condition>>,
}

fn node_of_lease(change: &Change, _: &World) -> Vec<String> {
    let head = &change.object().head;
    if head.namespace == "kube-node-lease" { vec![head.name.clone()] } else { Vec::new() }
}

fn pods_of_node(change: &Change, world: &World) -> Vec<String> {
    let taints = |node: &Object| node.view::<View>().unwrap_or_default().spec.taints.unwrap_or_default();
    let node = change.object();
    if matches!(change, Change::Deleted(_)) || change.old().is_some_and(|old| taints(old) == taints(node)) {
        return Vec::new();
    }
    world.pods_on(&node.head.name).iter().map(|pod| pod.head.key()).collect()
}

fn gone(name: &str, world: &World) -> Plan {
    for what in ["lease", "heartbeat", "node"] {
        world.forget(&format!("{what} {name}"));
    }
    Plan::none()
}

fn reconcile(node: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let view: View = node.view().unwrap_or_default();
    let old = view.status.conditions.clone().unwrap_or_default();
    let mut conditions = old.clone();
    let silent_at = silent_at(node, &view, world);
    if silent_at <= world.now() {
        mark_unknown(&view, &mut conditions, world);
    } else {
        plan.requeue_after(silent_at - world.now());
    }
    if world.is_new(&format!("node {}", node.head.name), &node.head.uid) {
        let message = format!("Node {name} event: Registered Node {name} in Controller", name = node.head.name);
        plan.events.push(Event::normal(node, "RegisteredNode", message));
    }
    let was_ready = condition(&old, "Ready").is_some_and(Condition::is_true);
    let ready = condition(&conditions, "Ready").map_or("Unknown", |c| c.status.as_str());
    if was_ready && ready != "True" {
        let message = format!("Node {} status is now: NodeNotReady", node.head.name);
        plan.events.push(Event::normal(node, "NodeNotReady", message));
    }
    if let Some(change) = merge_diff(&json!(old), &json!(conditions)) {
        plan.push(Op::status(&NODES, node, json!({"status": {"conditions": change}})));
    }
    let known = view.spec.taints.clone().unwrap_or_default();
    let taints = taints(&view, ready, &conditions, world);
    if ready != "True" && (ready == "Unknown" || !known.iter().any(is_lifecycle)) {
        plan.step(unready_pods(node, world));
    }
    if taints != known {
        plan.push(Op::update(&NODES, node, json!({"spec": {"taints": taints}})));
    }
    plan
}

/// When the node counts as silent if nothing more is heard of it.
fn silent_at(node: &Object, view: &View, world: &World) -> i64 {
    let name = &node.head.name;
    let lease = world.get(&LEASES, &key_of("kube-node-lease", name));
    let renewed = lease.map(|lease| client::lease::LeaseSpec::of(&lease).renew_time).filter(|time| !time.is_empty());
    let ready = condition(view.status.conditions.as_deref().unwrap_or_default(), "Ready");
    let beat = ready.and_then(|ready| ready.last_heartbeat_time.clone());
    if renewed.is_none() && ready.is_none() {
        return view.metadata.created().unwrap_or(world.now()) + STARTUP_SECONDS;
    }
    let heard = renewed.map(|time| world.first_seen(&format!("lease {name}"), &time));
    let reported = ready.map(|_| world.first_seen(&format!("heartbeat {name}"), beat.as_deref().unwrap_or_default()));
    heard.max(reported).unwrap_or(world.now()) + world.options().node_grace_seconds
}

/// Nothing is known of the node any more.
fn mark_unknown(view: &View, conditions: &mut Vec<Condition>, world: &World) {
    let stamp = world.stamp();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|c| c.r#type == kind) {
            Some(known) if known.status != "Unknown" => {
                known.status = "Unknown".into();
                known.reason = Some("NodeStatusUnknown".into());
                known.message = Some("Kubelet stopped posting node status.".into());
                known.last_transition_time = Some(stamp.clone());
            }
            Some(_) => {}
            None => {
                let message = "Kubelet never posted node status.";
                let mut made = Condition::new(kind, "Unknown", "NodeStatusNeverUpdated", message, &stamp);
                made.last_heartbeat_time = view.metadata.creation_timestamp.clone();
                conditions.push(made);
            }
        }
    }
}

/// The taints that this controller keeps.
fn is_lifecycle(taint: &Taint) -> bool {
    matches!(taint.key.as_str(), NOT_READY | UNREACHABLE) && taint.effect == "NoExecute"
}

fn is_ours(taint: &Taint) -> bool {
    let scheduling = taint.effect == "NoSchedule"
        && (matches!(taint.key.as_str(), NOT_READY | UNREACHABLE | UNSCHEDULABLE)
            || PRESSURES.iter().any(|(_, key)| *key == taint.key));
    scheduling || is_lifecycle(taint)
}

fn taints(view: &View, ready: &str, conditions: &[Condition], world: &World) -> Vec<Taint> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready {
        "True" => {}
        "False" => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        _ => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
    }
    for (kind, key) in PRESSURES {
        if condition(conditions, kind).is_some_and(Condition::is_true) {
            wanted.push((key, "NoSchedule"));
        }
    }
    if view.spec.unschedulable {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let known = view.spec.taints.clone().unwrap_or_default();
    let is_wanted = |taint: &Taint| wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut taints: Vec<Taint> = known.into_iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            taints.push(Taint {
                key: (*key).into(),
                effect: (*effect).into(),
                time_added: Some(world.stamp()),
                ..Taint::default()
            });
        }
    }
    taints
}

/// The pods of a node that is not ready are not ready either: no traffic goes to them.
fn unready_pods(node: &Object, world: &World) -> Vec<Op> {
    let mut ops = Vec::new();
    for object in world.pods_on(&node.head.name) {
        let pod = world.pod(&object);
        if !pod.is_ready() || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let mut conditions: Vec<Value> =
            object.value().unwrap_or_default()["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for ready in conditions.iter_mut().filter(|c| c["type"] == "Ready") {
            ready["status"] = json!("False");
            ready["lastTransitionTime"] = json!(world.stamp());
        }
        let op = Op::status(&PODS, &object, json!({"status": {"conditions": conditions}}));
        ops.push(op.on_done(Event::warning(&object, "NodeNotReady", "Node is not ready")));
    }
    ops
}

fn evict(object: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    // Every pod of the cluster comes by here: it is decoded only where there is something to tolerate.
    let (node, _) = node_and_phase(object);
    let Some(node) = world.get(&NODES, &node).filter(|_| !node.is_empty()) else { return plan };
    let taints = node.view::<View>().unwrap_or_default().spec.taints.unwrap_or_default();
    let taints: Vec<Taint> = taints.into_iter().filter(|taint| taint.effect == "NoExecute").collect();
    if taints.is_empty() {
        return plan;
    }
    let pod = world.pod(object);
    if !pod.is_active() {
        return plan;
    }
    let tolerations = pod.spec.tolerations.as_deref().unwrap_or_default();
    let used: Vec<_> = tolerations.iter().filter(|t| taints.iter().any(|taint| t.tolerates(taint))).collect();
    let all = taints.iter().all(|taint| used.iter().any(|t| t.tolerates(taint)));
    let wait = used.iter().filter_map(|t| t.toleration_seconds).min();
    match (all, wait) {
        (true, None) => return plan,
        (true, Some(seconds)) if seconds > 0 => {
            let added = taints.iter().filter_map(|taint| base::time::parse_seconds(taint.time_added.as_deref()?)).max();
            let due = added.unwrap_or_else(|| world.first_seen(&format!("evict {}", object.head.uid), "")) + seconds;
            if due > world.now() {
                plan.requeue_after(due - world.now());
                return plan;
            }
        }
        _ => {}
    }
    world.forget(&format!("evict {}", object.head.uid));
    let message = format!("Marking for deletion Pod {}", object.head.key());
    plan.events.push(Event::normal(object, "TaintManagerEviction", message));
    let target = Condition::new(
        "DisruptionTarget",
        "True",
        "DeletionByTaintManager",
        "Taint manager: deleting due to NoExecute taint",
        &world.stamp(),
    );
    plan.push(mark(object, target));
    let mut op = Op::delete(&PODS, object);
    op.verb = Verb::Delete(DeleteOptions { uid: Some(object.head.uid.clone()), ..DeleteOptions::default() });
    plan.push(op);
    plan
}

/// Adds a condition to a pod's status, by a patch: the kubelet writes there too.
pub(crate) fn mark(pod: &Object, condition: Condition) -> Op {
    let patch = json!({"metadata": {"uid": pod.head.uid}, "status": {"conditions": [condition]}});
    Op::patch(&PODS, pod, client::Patch::Strategic(patch)).sub("status")
}

#[cfg(test)]
mod tests;
