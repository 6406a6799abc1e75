//! Pod garbage: pods on nodes that are no more, pods that were deleted before they had a node, and finished pods beyond
//! the limit.

use std::sync::Arc;

use client::{Change, DeleteOptions};
use object::Object;
use serde_json::json;

use crate::kinds::{NODES, PODS};
use crate::node_lifecycle::mark;
use crate::plan::Op;
use crate::views::Condition;
use crate::world::{World, node_and_phase};
use crate::{Controller, Plan, Verb, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector",
    of: &PODS,
    owns: &[],
    watches: &[Watch { kind: &NODES, wakes: pods_of_lost_node }],
    reads: &[],
    workers: 2,
    reconcile,
    gone: crate::controller::nothing,
};

/// How long a node must be missing before its pods are: it may only be made anew.
const QUARANTINE_SECONDS: i64 = 40;

fn pods_of_lost_node(change: &Change, world: &World) -> Vec<String> {
    let Change::Deleted(node) = change else {
        world.forget(&lost(&change.object().head.name));
        return Vec::new();
    };
    world.pods_on(&node.head.name).iter().map(|pod| pod.head.key()).collect()
}

fn lost(node: &str) -> String {
    format!("lost {node}")
}

fn reconcile(object: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    // Every pod of the cluster comes by here: what is looked at is in its head.
    let (node, phase) = node_and_phase(object);
    let is_finished = matches!(phase.as_str(), "Succeeded" | "Failed");
    if !node.is_empty() && world.get(&NODES, &node).is_none() {
        let wait = world.first_seen(&lost(&node), "") + QUARANTINE_SECONDS - world.now();
        if wait > 0 {
            plan.requeue_after(wait);
            return plan;
        }
        if !is_finished {
            let message = "PodGC: node no longer exists";
            let target = Condition::new("DisruptionTarget", "True", "DeletionByPodGC", message, &world.stamp());
            let mut op = mark(object, target);
            if let Verb::Patch(client::Patch::Strategic(patch)) = &mut op.verb {
                patch["status"]["phase"] = json!("Failed");
            }
            plan.push(op);
        }
        plan.push(at_once(object));
        return plan;
    }
    if node.is_empty() && object.head.is_terminating() {
        plan.push(at_once(object));
        return plan;
    }
    if is_finished {
        plan.step(surplus(world));
    }
    plan
}

/// The oldest finished pods beyond the limit.
fn surplus(world: &World) -> Vec<Op> {
    let mut finished = world.finished_pods();
    let limit = world.options().terminated_pods;
    if limit == 0 || finished.len() <= limit {
        return Vec::new();
    }
    finished.retain(|pod| !pod.head.is_terminating());
    finished
        .sort_by(|a, b| (&a.head.creation_timestamp, &a.head.name).cmp(&(&b.head.creation_timestamp, &b.head.name)));
    let surplus = finished.len().saturating_sub(limit);
    finished[..surplus].iter().map(at_once).collect()
}

fn at_once(pod: &Arc<Object>) -> Op {
    let mut op = Op::delete(&PODS, pod);
    let uid = Some(pod.head.uid.clone());
    op.verb = Verb::Delete(DeleteOptions { uid, grace_period_seconds: Some(0), ..DeleteOptions::default() });
    op
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{NOW, Scene};

    fn pod(name: &str, node: &str, phase: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns"},
            "spec": {"nodeName": node}, "status": {"phase": phase}})
    }

    #[test]
    fn pods_of_a_lost_node_fail_and_go_after_a_while() {
        let mut scene = Scene::new(vec![pod("p", "lost", "Running")]);
        assert_eq!(scene.plan(&CONTROLLER, "ns/p").to_string(), "requeue 40 s\n");
        scene.now = NOW + 40;
        let text = scene.plan(&CONTROLLER, "ns/p").to_string();
        assert!(text.contains(r#""phase":"Failed""#) && text.ends_with("delete pods ns/p\n"), "{text}");
    }

    #[test]
    fn a_pod_without_a_node_that_is_deleted_goes_at_once() {
        let mut one = pod("p", "", "Pending");
        assert!(Scene::new(vec![one.clone()]).plan(&CONTROLLER, "ns/p").is_empty());
        one["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
        assert_eq!(Scene::new(vec![one]).plan(&CONTROLLER, "ns/p").to_string(), "delete pods ns/p\n");
    }

    #[test]
    fn the_oldest_finished_pods_go_beyond_the_limit() {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        let mut objects = vec![
            node,
            pod("a", "n", "Succeeded"),
            pod("b", "n", "Failed"),
            pod("c", "n", "Running"),
            pod("d", "n", "Failed"),
        ];
        objects[2]["metadata"]["creationTimestamp"] = json!("2025-01-01T00:00:00Z");
        let mut scene = Scene::new(objects);
        assert!(scene.plan(&CONTROLLER, "ns/a").is_empty());
        scene.options.terminated_pods = 2;
        assert_eq!(scene.plan(&CONTROLLER, "ns/a").to_string(), "delete pods ns/b\n");
    }
}
