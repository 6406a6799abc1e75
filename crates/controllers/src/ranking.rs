//! Which pods go first when there are too many, as upstream's `ActivePodsWithRanks`.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use object::Object;

use crate::views::Pod;
use crate::world::World;

/// Sorts pods so that those to delete first come first. `related` are all active pods that share the purpose (the pods of
/// all replica sets of one deployment): a pod on a node with many ready ones of them goes before one that is alone.
pub fn sort(pods: &mut [Arc<Object>], related: &[Arc<Object>], world: &World) {
    let mut ready_on: HashMap<String, usize> = HashMap::new();
    for pod in related.iter().map(|object| world.pod(object)).filter(|pod| pod.is_active() && pod.is_ready()) {
        *ready_on.entry(pod.spec.node_name.clone()).or_default() += 1;
    }
    let rank = |pod: &Pod| ready_on.get(&pod.spec.node_name).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        let (x, y) = (world.pod(a), world.pod(b));
        order(&x, &y, rank(&x), rank(&y), world.now()).then_with(|| a.head.uid.cmp(&b.head.uid))
    });
}

fn order(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: i64) -> Ordering {
    let assigned = |pod: &Pod| !pod.spec.node_name.is_empty();
    let phase = |pod: &Pod| match pod.status.phase.as_str() {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = |pod: &Pod| {
        let cost = pod.metadata.annotation("controller.kubernetes.io/pod-deletion-cost");
        cost.and_then(|cost| cost.parse::<i32>().ok()).unwrap_or(0)
    };
    assigned(a)
        .cmp(&assigned(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| a.is_ready().cmp(&b.is_ready()))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| match a.is_ready() && b.is_ready() {
            true => younger(a.ready_since(), b.ready_since(), now),
            false => Ordering::Equal,
        })
        .then_with(|| b.restarts().cmp(&a.restarts()))
        .then_with(|| younger(a.metadata.created(), b.metadata.created(), now))
}

/// The one whose time is unknown or later is less; times of the same order of magnitude of age are equal (KEP-2185: scale
/// down spreads over pods of about the same age).
fn younger(a: Option<i64>, b: Option<i64>, now: i64) -> Ordering {
    let magnitude = |time: i64| (now - time).max(0).checked_ilog2().map_or(-1, i64::from);
    match (a, b) {
        (Some(a), Some(b)) => magnitude(a).cmp(&magnitude(b)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Scene;

    fn pod(name: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "ns", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        change(&mut pod);
        pod
    }

    fn check(pods: Vec<Value>, wanted: &[&str]) {
        let scene = Scene::new(pods);
        let world = scene.world();
        let mut found = world.list(&crate::kinds::PODS, None);
        let related = found.clone();
        sort(&mut found, &related, &world);
        let names: Vec<&str> = found.iter().map(|o| o.head.name.as_str()).collect();
        assert_eq!(names, wanted);
    }

    #[test]
    fn the_least_useful_go_first() {
        check(
            vec![
                pod("a-running", |_| {}),
                pod("b-unassigned", |p| p["spec"] = json!({})),
                pod("c-pending", |p| p["status"]["phase"] = json!("Pending")),
                pod("d-unready", |p| p["status"]["conditions"] = json!([])),
                pod("e-cheap", |p| {
                    p["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-5"})
                }),
            ],
            &["b-unassigned", "c-pending", "d-unready", "e-cheap", "a-running"],
        );
    }

    #[test]
    fn crowded_nodes_then_restarts_then_youth() {
        check(
            vec![
                pod("alone", |p| p["spec"]["nodeName"] = json!("n2")),
                pod("crowd-1", |_| {}),
                pod("crowd-2", |p| p["status"]["containerStatuses"] = json!([{"restartCount": 3}])),
            ],
            &["crowd-2", "crowd-1", "alone"],
        );
        check(
            vec![
                pod("old", |p| p["spec"]["nodeName"] = json!("n2")),
                pod("young", |p| {
                    p["status"]["conditions"][0]["lastTransitionTime"] = json!("2026-01-31T23:59:50Z");
                    p["metadata"]["creationTimestamp"] = json!("2026-01-31T23:59:50Z");
                }),
            ],
            &["young", "old"],
        );
    }
}
