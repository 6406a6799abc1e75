use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::CONTROLLER;
use crate::kinds::PODS;
use crate::testing::Scene;
use crate::world::Failure;

fn replica_set(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "ns", "uid": "rs", "generation": 3},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web", "v": "1"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
    })
}

fn pod(name: &str, owner: Option<&str>, ready: bool) -> Value {
    let owners: Vec<Value> = owner
        .into_iter()
        .map(|uid| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}))
        .collect();
    let ready = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-31T23:59:50Z"}]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web", "v": "1"}, "ownerReferences": owners},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "conditions": ready},
    })
}

fn check(objects: Vec<Value>, wanted: Expect) {
    wanted.assert_eq(&Scene::new(objects).plan(&CONTROLLER, "ns/web").to_string());
}

#[test]
fn missing_pods_are_created_in_one_step() {
    check(
        vec![replica_set(2), pod("a", Some("rs"), true)],
        expect![[r#"
            create pods ns/web-*
              event SuccessfulCreate Created pod: {name}
            update replicasets/status ns/web {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":3,"readyReplicas":1,"replicas":1,"terminatingReplicas":0}}
        "#]],
    );
    let plan = Scene::new(vec![replica_set(9999)]).plan(&CONTROLLER, "ns/web");
    assert_eq!(plan.steps[0].len(), 500, "a burst has its limit");
}

#[test]
fn a_created_pod_has_the_template_and_its_owner() {
    let plan = Scene::new(vec![replica_set(1)]).plan(&CONTROLLER, "ns/web");
    let crate::Verb::Create(pod) = &plan.steps[0][0].verb else { panic!() };
    assert_eq!(
        **pod,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "web-", "namespace": "ns", "labels": {"app": "web", "v": "1"}, "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true, "blockOwnerDeletion": true}]},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        })
    );
}

#[test]
fn surplus_pods_go_the_unready_first() {
    check(
        vec![replica_set(1), pod("a", Some("rs"), true), pod("b", Some("rs"), false), pod("c", Some("rs"), true)],
        expect![[r#"
            delete pods ns/b
              event SuccessfulDelete Deleted pod: b
            delete pods ns/a
              event SuccessfulDelete Deleted pod: a
            update replicasets/status ns/web {"status":{"availableReplicas":2,"fullyLabeledReplicas":3,"observedGeneration":3,"readyReplicas":2,"replicas":3,"terminatingReplicas":0}}
        "#]],
    );
}

#[test]
fn orphans_are_adopted_and_strangers_left_alone() {
    let mut other = pod("theirs", Some("other"), true);
    other["metadata"]["labels"] = json!({"app": "web"});
    check(
        vec![replica_set(1), pod("orphan", None, true), other],
        expect![[r#"
            patch pods ns/orphan {"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicaSet","name":"web","uid":"rs"}],"uid":"uid-orphan"}}
            update replicasets/status ns/web {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":3,"readyReplicas":1,"replicas":1,"terminatingReplicas":0}}
        "#]],
    );
}

#[test]
fn a_pod_that_is_no_longer_selected_is_released_and_replaced() {
    let mut gone = pod("a", Some("rs"), true);
    gone["metadata"]["labels"] = json!({"app": "debug"});
    check(
        vec![replica_set(1), gone],
        expect![[r#"
            patch pods ns/a {"metadata":{"ownerReferences":[{"$patch":"delete","uid":"rs"}],"uid":"uid-a"}}
            create pods ns/web-*
              event SuccessfulCreate Created pod: {name}
            update replicasets/status ns/web {"status":{"observedGeneration":3,"replicas":0,"terminatingReplicas":0}}
        "#]],
    );
}

#[test]
fn finished_and_terminating_pods_are_replaced() {
    let mut failed = pod("failed", Some("rs"), false);
    failed["status"]["phase"] = json!("Failed");
    let mut going = pod("going", Some("rs"), true);
    going["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
    check(
        vec![replica_set(1), failed, going],
        expect![[r#"
            create pods ns/web-*
              event SuccessfulCreate Created pod: {name}
            update replicasets/status ns/web {"status":{"observedGeneration":3,"replicas":0,"terminatingReplicas":1}}
        "#]],
    );
}

#[test]
fn a_replica_set_that_goes_manages_nothing() {
    let mut rs = replica_set(5);
    rs["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
    check(
        vec![rs, pod("a", Some("rs"), true), pod("orphan", None, true)],
        expect![[r#"
            update replicasets/status ns/web {"status":{"availableReplicas":1,"fullyLabeledReplicas":1,"observedGeneration":3,"readyReplicas":1,"replicas":1,"terminatingReplicas":0}}
        "#]],
    );
}

#[test]
fn all_as_it_should_be_is_no_plan() {
    let mut rs = replica_set(1);
    rs["status"] = json!({"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "terminatingReplicas": 0, "observedGeneration": 3});
    check(vec![rs, pod("a", Some("rs"), true)], expect![""]);
}

#[test]
fn availability_waits_for_min_ready_seconds() {
    let mut rs = replica_set(1);
    rs["spec"]["minReadySeconds"] = json!(30);
    check(
        vec![rs, pod("a", Some("rs"), true)],
        expect![[r#"
            update replicasets/status ns/web {"status":{"fullyLabeledReplicas":1,"observedGeneration":3,"readyReplicas":1,"replicas":1,"terminatingReplicas":0}}
            requeue 20 s
        "#]],
    );
}

#[test]
fn a_failure_shows_in_the_status_until_it_is_over() {
    let status = object::Status::forbidden("", "pods", "web-1", "exceeded quota");
    let scene = Scene::new(vec![replica_set(1)]);
    let plan = scene.plan_after(&CONTROLLER, "ns/web", Some(Failure { kind: &PODS, create: true, status }));
    let text = plan.to_string();
    assert!(text.contains(r#""reason":"FailedCreate","status":"True","type":"ReplicaFailure""#), "{text}");
    let mut failing = replica_set(1);
    failing["status"] = json!({"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "terminatingReplicas": 0, "observedGeneration": 3, "conditions": [{"type": "ReplicaFailure", "status": "True"}]});
    check(
        vec![failing, pod("a", Some("rs"), true)],
        expect![[r#"
            update replicasets/status ns/web {"status":{"conditions":null}}
        "#]],
    );
}
