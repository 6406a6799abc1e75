//! PodDisruptionBudget: how many of its pods may be evicted now.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Change;
use object::{LabelSelector, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::deployment::amount;
use crate::kinds::{DEPLOYMENTS, DISRUPTION_BUDGETS, Kind, PODS, REPLICA_SETS, STATEFUL_SETS};
use crate::owner::key_of;
use crate::plan::Op;
use crate::views::{Condition, condition, remove_condition};
use crate::world::World;
use crate::{Controller, Event, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "disruption-controller",
    of: &DISRUPTION_BUDGETS,
    owns: &[],
    watches: &[Watch { kind: &PODS, wakes: budgets_of }],
    reads: &[&DEPLOYMENTS, &REPLICA_SETS, &STATEFUL_SETS],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

/// A pod that was to be evicted and is still there after this time was not.
const DELETION_SECONDS: i64 = 120;

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    min_available: Value,
    max_unavailable: Value,
    selector: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    disrupted_pods: BTreeMap<String, String>,
    disruptions_allowed: i64,
    current_healthy: i64,
    desired_healthy: i64,
    expected_pods: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Scaled {
    spec: ScaledSpec,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ScaledSpec {
    replicas: Option<i64>,
}

fn selector_of(view: &View) -> Option<LabelSelector> {
    LabelSelector::from_object(&view.spec.selector).filter(|_| !view.spec.selector.is_null())
}

fn budgets_of(change: &Change, world: &World) -> Vec<String> {
    let selects = |budget: &Arc<Object>| {
        let Some(selector) = budget.view::<View>().ok().and_then(|view| selector_of(&view)) else { return false };
        change.old().into_iter().chain([change.object()]).any(|pod| selector.matches(&pod.head.labels))
    };
    let budgets = world.list(&DISRUPTION_BUDGETS, Some(&change.object().head.namespace));
    budgets.into_iter().filter(selects).map(|budget| budget.head.key()).collect()
}

fn reconcile(budget: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let Ok(view) = budget.view::<View>() else { return plan };
    let pods = match selector_of(&view) {
        Some(selector) => world.select(&PODS, &budget.head.namespace, &selector),
        None => Vec::new(),
    };
    if pods.is_empty() {
        plan.events.push(Event::normal(budget, "NoPods", "No matching pods found"));
    }
    let mut status = Status {
        observed_generation: budget.head.generation,
        conditions: view.status.conditions.clone(),
        ..Status::default()
    };
    let disrupted = still_disrupted(&view, &pods, world);
    plan.requeue = disrupted
        .values()
        .filter_map(|at| base::time::parse_seconds(at))
        .min()
        .map(|at| std::time::Duration::from_secs((at + DELETION_SECONDS - world.now()).max(1).unsigned_abs()));
    let healthy = |pod: &&Arc<Object>| {
        world.pod(pod).is_ready() && !pod.head.is_terminating() && !disrupted.contains_key(&pod.head.name)
    };
    status.current_healthy = pods.iter().filter(healthy).count() as i64;
    let outcome = expected(&view, &pods, world);
    match outcome {
        Ok((expected, desired)) => {
            status.expected_pods = expected;
            status.desired_healthy = desired;
            let allowed = status.current_healthy - desired;
            status.disruptions_allowed = if expected <= 0 || allowed <= 0 { 0 } else { allowed };
        }
        Err(ref why) => plan.events.push(Event::warning(
            budget,
            "CalculateExpectedPodCountFailed",
            format!("Failed to calculate the number of expected pods: {why}"),
        )),
    }
    status.disrupted_pods = disrupted;
    let (value, reason, message) = match outcome {
        Err(why) => ("False", "SyncFailed", why),
        Ok(_) if status.disruptions_allowed > 0 => ("True", "SufficientPods", String::new()),
        Ok(_) => ("False", "InsufficientPods", String::new()),
    };
    let mut new = Condition::new("DisruptionAllowed", value, reason, message, &world.stamp());
    new.observed_generation = Some(budget.head.generation);
    if let Some(old) = condition(&status.conditions, "DisruptionAllowed").filter(|old| old.status == new.status) {
        new.last_transition_time.clone_from(&old.last_transition_time);
    }
    remove_condition(&mut status.conditions, "DisruptionAllowed");
    status.conditions.push(new);
    plan.push_some(Op::status_to(&DISRUPTION_BUDGETS, budget, &status));
    if plan.steps.is_empty() {
        plan.events.clear();
    }
    plan
}

/// Pods whose eviction was granted and is under way.
fn still_disrupted(view: &View, pods: &[Arc<Object>], world: &World) -> BTreeMap<String, String> {
    let mut disrupted = view.status.disrupted_pods.clone();
    disrupted.retain(|name, at| {
        let there = pods.iter().any(|pod| pod.head.name == *name && !pod.head.is_terminating());
        there && base::time::parse_seconds(at).is_some_and(|at| at + DELETION_SECONDS > world.now())
    });
    disrupted
}

/// How many pods there should be, and how many of them healthy.
fn expected(view: &View, pods: &[Arc<Object>], world: &World) -> Result<(i64, i64), String> {
    if !view.spec.max_unavailable.is_null() {
        let expected = scale_of(pods, world)?;
        let desired = (expected - amount(&view.spec.max_unavailable, expected, true)).max(0);
        return Ok((expected, desired));
    }
    match &view.spec.min_available {
        Value::Null => Ok((0, 0)),
        Value::Number(number) => Ok((pods.len() as i64, number.as_i64().unwrap_or(0))),
        percent => {
            let expected = scale_of(pods, world)?;
            Ok((expected, amount(percent, expected, true)))
        }
    }
}

/// The sum of the sizes of the pods' controllers.
fn scale_of(pods: &[Arc<Object>], world: &World) -> Result<i64, String> {
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    for pod in pods {
        let controller = pod.head.controller();
        let Some(owner) = controller else {
            return Err(format!("found no controller ref for pod {:?}", pod.head.name));
        };
        if sizes.contains_key(&*owner.uid) {
            continue;
        }
        let find = |kind: &'static Kind, owner: &object::OwnerReference| {
            let found = kind.is(owner).then(|| world.get(kind, &key_of(&pod.head.namespace, &owner.name))).flatten();
            found.filter(|object| object.head.uid == owner.uid)
        };
        let set = find(&REPLICA_SETS, owner).or_else(|| find(&STATEFUL_SETS, owner));
        let Some(set) = set else {
            return Err(format!("{} does not implement the scale subresource", owner.kind));
        };
        // A deployment's size counts, not that of one of its sets.
        let top = set.head.controller().and_then(|owner| find(&DEPLOYMENTS, owner)).unwrap_or(set);
        let size = top.view::<Scaled>().unwrap_or_default().spec.replicas.unwrap_or(1);
        sizes.insert(top.head.uid.clone(), size);
    }
    Ok(sizes.values().sum())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Scene;

    fn status(spec: Value, ready: &[bool], replicas: i64) -> Value {
        let mut objects = vec![
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b", "namespace": "ns"}, "spec": spec}),
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "rs", "namespace": "ns", "uid": "rs"}, "spec": {"replicas": replicas}}),
        ];
        objects[0]["spec"]["selector"] = json!({"matchLabels": {"app": "x"}});
        for (at, ready) in ready.iter().enumerate() {
            objects.push(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{at}"), "namespace": "ns", "labels": {"app": "x"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "rs", "controller": true}]},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if *ready { "True" } else { "False" }}]}}));
        }
        let plan = Scene::new(objects).plan(&CONTROLLER, "ns/b");
        let crate::Verb::Update(_, change) = &plan.steps[0][0].verb else { panic!("{plan}") };
        change["status"].clone()
    }

    fn check(spec: Value, ready: &[bool], replicas: i64, wanted: [i64; 4], reason: &str) {
        let status = status(spec, ready, replicas);
        let fields = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        assert_eq!(fields.map(|field| status[field].as_i64().unwrap_or(0)), wanted, "{status}");
        assert_eq!(status["conditions"][0]["reason"], reason);
    }

    #[test]
    fn what_is_allowed() {
        check(json!({"minAvailable": 2}), &[true, true, true], 3, [1, 3, 2, 3], "SufficientPods");
        check(json!({"minAvailable": 2}), &[true, true, false], 3, [0, 2, 2, 3], "InsufficientPods");
        check(json!({"maxUnavailable": 1}), &[true, true], 3, [0, 2, 2, 3], "InsufficientPods");
        check(json!({"maxUnavailable": "50%"}), &[true, true, true], 3, [2, 3, 1, 3], "SufficientPods");
        check(json!({"minAvailable": "50%"}), &[true, true, true], 3, [1, 3, 2, 3], "SufficientPods");
        check(json!({"minAvailable": 1}), &[], 0, [0, 0, 1, 0], "InsufficientPods");
    }
}
