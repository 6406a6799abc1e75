use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::Verb;
use crate::testing::Scene;

/// Pods made by all tests: each has a name of its own.
static MADE: AtomicUsize = AtomicUsize::new(0);

fn node(name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"os": "linux"}}, "spec": {}});
    change(&mut node);
    node
}

fn set(image: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "ds", "namespace": "ns", "uid": "ds", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "ds"}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": {"app": "ds"}}, "spec": {"nodeSelector": {"os": "linux"}, "containers": [{"name": "c", "image": image}]}}}})
}

/// Carries a plan out on the objects; pods become ready, deleted ones are gone.
fn apply(plan: &Plan, objects: &mut Vec<Value>) {
    for op in plan.ops() {
        match &op.verb {
            Verb::Create(body) => {
                let mut body = (**body).clone();
                if body["kind"] == "Pod" {
                    let node = body.pointer("/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchFields/0/values/0").unwrap().clone();
                    let name = format!("pod-{}", MADE.fetch_add(1, Ordering::Relaxed));
                    body["metadata"]["name"] = json!(name);
                    body["metadata"]["uid"] = json!(name);
                    body["spec"]["nodeName"] = node;
                    body["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
                }
                objects.push(body);
            }
            Verb::Update(base, change) => {
                let object = objects
                    .iter_mut()
                    .find(|o| o["metadata"]["name"] == base.head.name && o["kind"] == base.head.kind)
                    .unwrap();
                object::patch::merge(object, change);
            }
            Verb::Delete(_) => objects.retain(|o| o["metadata"]["name"] != op.at.name.as_deref().unwrap_or_default()),
            Verb::Patch(_) => {}
        }
    }
}

fn step(objects: &mut Vec<Value>) -> String {
    let plan = Scene::new(objects.clone()).plan(&CONTROLLER, "ns/ds");
    apply(&plan, objects);
    let words = plan.ops().filter(|op| op.kind == &PODS).map(|op| match op.verb {
        Verb::Create(_) => "create",
        Verb::Delete(_) => "delete",
        _ => "other",
    });
    words.collect::<Vec<_>>().join(" ")
}

fn status(objects: &[Value]) -> Value {
    objects.iter().find(|o| o["kind"] == "DaemonSet").unwrap()["status"].clone()
}

#[test]
fn one_pod_on_each_node_that_fits() {
    let tainted = |key: &'static str, effect: &'static str| {
        move |n: &mut Value| n["spec"]["taints"] = json!([{"key": key, "effect": effect}])
    };
    let mut objects = vec![
        set("a"),
        node("plain", |_| {}),
        node("windows", |n| n["metadata"]["labels"]["os"] = json!("windows")),
        node("dedicated", tainted("mine", "NoSchedule")),
        node("cordoned", tainted("node.kubernetes.io/unschedulable", "NoSchedule")),
        node("lost", tainted("node.kubernetes.io/unreachable", "NoExecute")),
    ];
    assert_eq!(step(&mut objects), "create create create");
    let mut nodes: Vec<_> =
        objects.iter().filter(|o| o["kind"] == "Pod").map(|p| p["spec"]["nodeName"].as_str().unwrap()).collect();
    nodes.sort_unstable();
    assert_eq!(nodes, ["cordoned", "lost", "plain"]);
    assert_eq!(step(&mut objects), "");
    let status = status(&objects);
    assert_eq!(
        (&status["desiredNumberScheduled"], &status["numberReady"], &status["updatedNumberScheduled"]),
        (&json!(3), &json!(3), &json!(3))
    );
    assert_eq!(Scene::new(objects).plan(&CONTROLLER, "ns/ds").to_string(), "");
}

#[test]
fn a_node_that_no_longer_fits_loses_its_pod() {
    let mut objects = vec![set("a"), node("n", |_| {})];
    step(&mut objects);
    objects[1]["spec"]["taints"] = json!([{"key": "mine", "effect": "NoSchedule"}]);
    assert_eq!(step(&mut objects), "", "it may stay");
    assert_eq!(status(&objects)["numberMisscheduled"], 1);
    objects[1]["spec"]["taints"] = json!([{"key": "mine", "effect": "NoExecute"}]);
    assert_eq!(step(&mut objects), "delete");
}

#[test]
fn a_new_template_rolls_node_by_node() {
    let mut objects = vec![set("a"), node("n1", |_| {}), node("n2", |_| {})];
    step(&mut objects);
    step(&mut objects);
    objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
    assert_eq!(step(&mut objects), "delete");
    assert_eq!(step(&mut objects), "create", "none more while one is missing");
    assert_eq!(step(&mut objects), "delete");
    assert_eq!(step(&mut objects), "create");
    assert_eq!(step(&mut objects), "");
    let revisions: Vec<_> =
        objects.iter().filter(|o| o["kind"] == "ControllerRevision").map(|r| r["revision"].clone()).collect();
    assert_eq!(revisions, [1, 2]);
}

#[test]
fn surge_makes_the_new_one_first() {
    let mut objects = vec![set("a"), node("n1", |_| {}), node("n2", |_| {})];
    objects[0]["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxSurge": 1, "maxUnavailable": 0});
    step(&mut objects);
    objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
    assert_eq!(step(&mut objects), "create");
    assert_eq!(step(&mut objects), "delete", "its turn is over before the next one's begins");
    assert_eq!(step(&mut objects), "create");
    assert_eq!(step(&mut objects), "delete");
    assert_eq!(step(&mut objects), "");
}

#[test]
fn a_failed_pod_is_replaced() {
    let mut objects = vec![set("a"), node("n1", |_| {})];
    step(&mut objects);
    let pod = objects.iter_mut().find(|o| o["kind"] == "Pod").unwrap();
    pod["status"]["phase"] = json!("Failed");
    assert_eq!(step(&mut objects), "delete create");
}
