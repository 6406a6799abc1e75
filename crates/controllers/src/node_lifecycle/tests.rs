use expect_test::expect;

use super::*;
use crate::testing::{NOW, Scene};

fn node(ready: &str, taints: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "spec": {"taints": taints},
        "status": {"conditions": [
            {"type": "Ready", "status": ready, "reason": "x", "lastHeartbeatTime": "2026-01-31T23:59:59Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
}

fn lease(renewed: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "n1", "renewTime": renewed}})
}

fn pod(tolerations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"nodeName": "n1", "tolerations": tolerations},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
}

#[test]
fn a_silent_node_becomes_unknown_and_its_pods_unready() {
    let mut scene = Scene::new(vec![node("True", json!([])), lease("2026-01-31T23:59:58Z"), pod(json!([]))]);
    expect![[r#"
        event RegisteredNode Node n1 event: Registered Node n1 in Controller
        requeue 50 s
    "#]]
    .assert_eq(&scene.plan(&CONTROLLER, "n1").to_string());
    scene.now = NOW + 49;
    assert!(scene.plan(&CONTROLLER, "n1").is_empty());
    scene.now = NOW + 50;
    expect![[r#"
        update nodes/status n1 {"status":{"conditions":[{"lastHeartbeatTime":"2026-01-31T23:59:59Z","lastTransitionTime":"2026-02-01T00:00:50Z","message":"Kubelet stopped posting node status.","reason":"NodeStatusUnknown","status":"Unknown","type":"Ready"},{"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-02-01T00:00:50Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"MemoryPressure"},{"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-02-01T00:00:50Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"DiskPressure"},{"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-02-01T00:00:50Z","message":"Kubelet never posted node status.","reason":"NodeStatusNeverUpdated","status":"Unknown","type":"PIDPressure"}]}}
        update pods/status ns/p {"status":{"conditions":[{"lastTransitionTime":"2026-02-01T00:00:50Z","status":"False","type":"Ready"}]}}
          event NodeNotReady Node is not ready
        update nodes n1 {"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/unreachable","timeAdded":"2026-02-01T00:00:50Z"},{"effect":"NoExecute","key":"node.kubernetes.io/unreachable","timeAdded":"2026-02-01T00:00:50Z"}]}}
        event NodeNotReady Node n1 status is now: NodeNotReady
    "#]]
    .assert_eq(&scene.plan(&CONTROLLER, "n1").to_string());
}

#[test]
fn a_node_that_recovers_loses_our_taints_only() {
    let taints = json!([
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
        {"key": "mine", "effect": "NoSchedule", "value": "x"},
    ]);
    let plan = Scene::new(vec![node("True", taints), lease("x")]).plan(&CONTROLLER, "n1");
    expect![[r#"
        update nodes n1 {"spec":{"taints":[{"effect":"NoSchedule","key":"mine","value":"x"}]}}
        event RegisteredNode Node n1 event: Registered Node n1 in Controller
        requeue 50 s
    "#]]
    .assert_eq(&plan.to_string());
}

#[test]
fn conditions_and_cordon_are_taints() {
    let keys = |change: fn(&mut Value)| {
        let mut one = node("True", json!([]));
        change(&mut one);
        let world = Scene::new(vec![one]);
        let object = world.world().get(&NODES, "n1").unwrap();
        let view: View = object.view().unwrap();
        let conditions = view.status.conditions.clone().unwrap();
        let ready = condition(&conditions, "Ready").unwrap().status.clone();
        let taints = taints(&view, &ready, &conditions, &world.world());
        taints
            .iter()
            .map(|t| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect))
            .collect::<Vec<_>>()
    };
    assert!(keys(|_| {}).is_empty());
    assert_eq!(keys(|n| n["spec"]["unschedulable"] = json!(true)), ["unschedulable:NoSchedule"]);
    assert_eq!(
        keys(|n| n["status"]["conditions"][0]["status"] = json!("False")),
        ["not-ready:NoSchedule", "not-ready:NoExecute"]
    );
    let pressed: fn(&mut Value) =
        |n| n["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "DiskPressure", "status": "True"}));
    assert_eq!(keys(pressed), ["disk-pressure:NoSchedule"]);
}

#[test]
fn eviction_waits_as_long_as_is_tolerated() {
    let taint =
        json!([{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-31T23:59:00Z"}]);
    let check = |tolerations: Value, wanted: &str| {
        let plan = Scene::new(vec![node("Unknown", taint.clone()), pod(tolerations)]).plan(&EVICTION, "ns/p");
        let text = plan.to_string();
        let text: Vec<&str> = text.lines().filter(|line| !line.starts_with("patch")).collect();
        assert_eq!(text.join("|"), wanted);
    };
    let exists = |seconds: Value| json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
    let gone = "delete pods ns/p|event TaintManagerEviction Marking for deletion Pod ns/p";
    check(json!([]), gone);
    check(exists(json!(300)), "requeue 240 s");
    check(exists(json!(30)), gone);
    check(exists(json!(0)), gone);
    check(exists(Value::Null), "");
    check(json!([{"operator": "Exists"}]), "");
}
