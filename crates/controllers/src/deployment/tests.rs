use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::Verb;
use crate::testing::Scene;

const HASH: fn(&str) -> String = |image| template::name(&template_of(image), None);

fn template_of(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn deployment(replicas: i64, image: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template_of(image),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600},
    });
    change(&mut value);
    value
}

/// A replica set of the deployment: its size, its available pods, its revision.
fn set(image: &str, replicas: i64, available: i64, revision: i64) -> Value {
    let mut template = template_of(image);
    template["metadata"]["labels"]["pod-template-hash"] = json!(HASH(image));
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("web-{image}"), "namespace": "ns", "labels": {"app": "web"}, "generation": 1,
            "creationTimestamp": format!("2026-01-0{revision}T00:00:00Z"),
            "annotations": {"deployment.kubernetes.io/revision": revision.to_string(),
                "deployment.kubernetes.io/desired-replicas": "10", "deployment.kubernetes.io/max-replicas": "13"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true}]},
        "spec": {"replicas": replicas, "template": template},
        "status": {"replicas": replicas, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 1,
            "terminatingReplicas": 0},
    })
}

fn plan(objects: Vec<Value>) -> Plan {
    Scene::new(objects).plan(&CONTROLLER, "ns/web")
}

/// The events of scaling: what is done to sizes.
fn scaling(objects: Vec<Value>, wanted: &[&str]) {
    let plan = plan(objects);
    let said: Vec<String> = plan.ops().filter_map(|op| op.done.as_ref()).map(|event| event.message.clone()).collect();
    let wanted: Vec<String> = wanted.iter().map(|w| format!("Scaled {w}")).collect();
    assert_eq!(said, wanted, "\n{plan}");
}

fn check(objects: Vec<Value>, wanted: Expect) {
    wanted.assert_eq(&plan(objects).to_string());
}

fn created(plan: &Plan) -> Value {
    let bodies = plan.ops().filter_map(|op| match &op.verb {
        Verb::Create(body) => Some((**body).clone()),
        _ => None,
    });
    bodies.last().unwrap_or_default()
}

#[test]
fn a_new_deployment_gets_its_first_set() {
    check(
        vec![deployment(3, "a", |_| {})],
        expect![[r#"
            create replicasets ns/web-7b575fc44
              event ScalingReplicaSet Scaled up replica set web-7b575fc44 from 0 to 3
            update deployments/status ns/web {"metadata":{"annotations":{"deployment.kubernetes.io/revision":"1"}}}
            update deployments/status ns/web {"status":{"conditions":[{"lastTransitionTime":"2026-02-01T00:00:00Z","lastUpdateTime":"2026-02-01T00:00:00Z","message":"Created new replica set \"web-7b575fc44\"","reason":"NewReplicaSetCreated","status":"True","type":"Progressing"},{"lastTransitionTime":"2026-02-01T00:00:00Z","lastUpdateTime":"2026-02-01T00:00:00Z","message":"Deployment does not have minimum availability.","reason":"MinimumReplicasUnavailable","status":"False","type":"Available"}],"observedGeneration":1,"terminatingReplicas":0,"unavailableReplicas":3}}
            requeue 601 s
        "#]],
    );
    let hash = HASH("a");
    let annotated = deployment(3, "a", |d| {
        d["metadata"]["annotations"] =
            json!({"kubernetes.io/change-cause": "x", "kubectl.kubernetes.io/last-applied-configuration": "{}"});
    });
    assert_eq!(
        created(&plan(vec![annotated])),
        json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": format!("web-{hash}"), "namespace": "ns", "labels": {"app": "web", "pod-template-hash": hash},
                "annotations": {"kubernetes.io/change-cause": "x", "deployment.kubernetes.io/revision": "1",
                    "deployment.kubernetes.io/desired-replicas": "3", "deployment.kubernetes.io/max-replicas": "4"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "d", "controller": true, "blockOwnerDeletion": true}]},
            "spec": {"replicas": 3, "minReadySeconds": 0, "selector": {"matchLabels": {"app": "web", "pod-template-hash": hash}},
                "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": hash}}, "spec": {"containers": [{"name": "c", "image": "a"}]}}},
        })
    );
}

#[test]
fn a_rollout_step_by_step() {
    let d = || deployment(10, "b", |_| {});
    let new = |replicas, available| set("b", replicas, available, 2);
    // Surge 3 (25 % up), unavailable 2 (25 % down).
    let first = plan(vec![d(), set("a", 10, 10, 1)]);
    assert_eq!(created(&first)["spec"]["replicas"], 3);
    assert_eq!(created(&first)["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    scaling(vec![d(), set("a", 10, 10, 1), new(3, 0)], &["down replica set web-a from 10 to 8"]);
    scaling(vec![d(), set("a", 8, 8, 1), new(3, 0)], &["up replica set web-b from 3 to 5"]);
    scaling(vec![d(), set("a", 8, 8, 1), new(5, 0)], &[]);
    scaling(vec![d(), set("a", 8, 8, 1), new(5, 2)], &["down replica set web-a from 8 to 6"]);
    scaling(vec![d(), set("a", 1, 1, 1), new(10, 9)], &["down replica set web-a from 1 to 0"]);
    scaling(vec![d(), set("a", 0, 0, 1), new(10, 10)], &[]);
}

#[test]
fn unhealthy_old_pods_go_first() {
    scaling(
        vec![deployment(10, "b", |_| {}), set("a", 8, 3, 1), set("b", 5, 5, 2)],
        &["down replica set web-a from 8 to 3"],
    );
}

#[test]
fn a_rollback_takes_the_old_set_as_the_new_one() {
    let objects = vec![deployment(10, "a", |_| {}), set("a", 0, 0, 1), set("b", 10, 10, 2)];
    let text = plan(objects).to_string();
    assert!(text.contains("Scaled up replica set web-a from 0 to 3"), "{text}");
    assert!(text.contains(r#""deployment.kubernetes.io/revision":"3""#), "{text}");
    assert!(text.contains(r#""deployment.kubernetes.io/revision-history":"1""#), "{text}");
}

#[test]
fn fence_posts() {
    let posts = |replicas, surge: Value, unavailable: Value| {
        let value = deployment(replicas, "a", |d| {
            d["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        });
        let view: View = Object::from_value(&value).unwrap().view().unwrap();
        (view.max_surge(), view.max_unavailable())
    };
    assert_eq!(posts(10, json!("25%"), json!("25%")), (3, 2));
    assert_eq!(posts(1, json!("25%"), json!("25%")), (1, 0));
    assert_eq!(posts(4, json!(0), json!(0)), (0, 1));
    assert_eq!(posts(4, json!("0%"), json!("10%")), (0, 1));
    assert_eq!(posts(3, json!(5), json!(7)), (5, 3));
    assert_eq!(posts(0, json!("50%"), json!("50%")), (0, 0));
}

#[test]
fn scaling_with_one_active_set_takes_all_there() {
    scaling(vec![deployment(3, "a", |_| {}), set("a", 10, 10, 1)], &["down replica set web-a from 10 to 3"]);
    scaling(
        vec![deployment(20, "a", |_| {}), set("a", 10, 10, 1), set("z", 0, 0, 2)],
        &["up replica set web-a from 10 to 20"],
    );
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_proportional() {
    // 13 of 10+3; now 20+5 = 25: 12 more, by size.
    scaling(
        vec![deployment(20, "b", |_| {}), set("a", 8, 8, 1), set("b", 5, 2, 2)],
        &["up replica set web-a from 8 to 15", "up replica set web-b from 5 to 10"],
    );
    scaling(
        vec![deployment(5, "b", |_| {}), set("a", 8, 8, 1), set("b", 5, 2, 2)],
        &["down replica set web-a from 8 to 4", "down replica set web-b from 5 to 3"],
    );
    scaling(
        vec![deployment(0, "b", |_| {}), set("a", 8, 8, 1), set("b", 5, 2, 2)],
        &["down replica set web-a from 8 to 0", "down replica set web-b from 5 to 0"],
    );
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let paused = |replicas| deployment(replicas, "c", |d| d["spec"]["paused"] = json!(true));
    let still = plan(vec![paused(10), set("a", 10, 10, 1)]);
    assert!(still.ops().all(|op| op.kind == &DEPLOYMENTS), "{still}");
    assert!(still.to_string().contains(r#""message":"Deployment is paused","reason":"DeploymentPaused""#), "{still}");
    scaling(vec![paused(4), set("a", 10, 10, 1)], &["down replica set web-a from 10 to 4"]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let d = || deployment(2, "b", |d| d["spec"]["strategy"] = json!({"type": "Recreate"}));
    let old = |replicas| {
        let mut old = set("a", replicas, replicas, 1);
        old["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"] = json!("2");
        old
    };
    scaling(vec![d(), old(2)], &["down replica set web-a from 2 to 0"]);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-a", "uid": "uid-web-a", "controller": true}]},
        "status": {"phase": "Running"}});
    scaling(vec![d(), old(0), pod], &[]);
    assert_eq!(created(&plan(vec![d(), old(0)]))["spec"]["replicas"], 2);
}

#[test]
fn old_sets_beyond_the_history_limit_go() {
    let done = deployment(1, "d", |d| {
        d["spec"]["revisionHistoryLimit"] = json!(1);
        d["status"] = json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1, "observedGeneration": 1});
    });
    let mut new = set("d", 1, 1, 4);
    new["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"] = json!("1");
    let text = plan(vec![done, set("a", 0, 0, 1), set("b", 0, 0, 2), set("c", 0, 0, 3), new]).to_string();
    let deleted: Vec<&str> = text.lines().filter(|line| line.starts_with("delete")).collect();
    assert_eq!(deleted, ["delete replicasets ns/web-a", "delete replicasets ns/web-b"]);
}

#[test]
fn progress_conditions_over_a_rollouts_life() {
    let reason = |status: Value, sets: Vec<Value>| {
        let mut objects = vec![deployment(10, "b", |d| d["status"] = status)];
        objects.extend(sets);
        let plan = plan(objects);
        let told = plan.ops().filter(|op| op.at.subresource.is_some()).map(ToString::to_string);
        let status = told.collect::<Vec<_>>().join("\n");
        let reasons = ["NewReplicaSetAvailable", "ReplicaSetUpdated", "ProgressDeadlineExceeded", "FoundNewReplicaSet"];
        reasons.into_iter().filter(|reason| status.contains(reason)).collect::<Vec<_>>().join(",")
    };
    let condition = |reason: &str, updated: &str| json!([{"type": "Progressing", "status": "True", "reason": reason, "lastUpdateTime": updated}]);
    // Progress: more is updated than before.
    let status = json!({"replicas": 10, "updatedReplicas": 0, "conditions": condition("NewReplicaSetCreated", "2026-01-31T23:00:00Z")});
    assert_eq!(reason(status, vec![set("a", 8, 8, 1), set("b", 5, 0, 2)]), "ReplicaSetUpdated");
    // All there.
    let status = json!({"replicas": 11, "updatedReplicas": 10, "availableReplicas": 9, "conditions": condition("ReplicaSetUpdated", "2026-01-31T23:00:00Z")});
    assert_eq!(reason(status, vec![set("a", 0, 0, 1), set("b", 10, 10, 2)]), "NewReplicaSetAvailable");
    // No progress for longer than the deadline.
    let stuck = |updated: &str| json!({"replicas": 13, "updatedReplicas": 5, "readyReplicas": 8, "availableReplicas": 8, "conditions": condition("ReplicaSetUpdated", updated)});
    assert_eq!(
        reason(stuck("2026-01-31T23:00:00Z"), vec![set("a", 8, 8, 1), set("b", 5, 0, 2)]),
        "ProgressDeadlineExceeded"
    );
    let waiting = plan(vec![
        deployment(10, "b", |d| d["status"] = stuck("2026-01-31T23:55:00Z")),
        set("a", 8, 8, 1),
        set("b", 5, 0, 2),
    ]);
    assert_eq!(waiting.requeue.unwrap().as_secs(), 301, "it looks again after the deadline");
}

#[test]
fn a_taken_name_counts_as_a_collision() {
    let mut taken = set("other", 1, 1, 1);
    taken["metadata"]["name"] = json!(format!("web-{}", HASH("a")));
    taken["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x", "controller": true}]);
    let text = plan(vec![deployment(1, "a", |_| {}), taken.clone()]).to_string();
    assert!(text.contains(r#""collisionCount":1"#) && !text.contains("create"), "{text}");
    let next = deployment(1, "a", |d| d["status"] = json!({"collisionCount": 1}));
    assert_ne!(created(&plan(vec![next, taken]))["metadata"]["name"], json!(format!("web-{}", HASH("a"))));
}

#[test]
fn templates_that_differ_in_nothing_are_the_same() {
    let mut same = template_of("a");
    same["metadata"]["creationTimestamp"] = Value::Null;
    same["metadata"]["annotations"] = json!({});
    same["spec"]["volumes"] = json!([]);
    same["metadata"]["labels"]["pod-template-hash"] = json!("x");
    assert_eq!(template::canonical(&same), template::canonical(&template_of("a")));
    assert_eq!(template::name(&same, None), HASH("a"));
    assert_ne!(HASH("a"), HASH("b"));
}

#[test]
fn a_selector_of_everything_is_refused() {
    let all = deployment(1, "a", |d| d["spec"]["selector"] = json!({}));
    check(
        vec![all],
        expect![[r#"
        event SelectingAll This deployment is selecting all pods. A non-empty selector is required.
    "#]],
    );
}

#[test]
fn a_deployment_that_goes_only_counts() {
    let going = deployment(10, "b", |d| d["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z"));
    let plan = plan(vec![going, set("a", 10, 10, 1)]);
    assert!(plan.ops().all(|op| op.at.subresource.as_deref() == Some("status")), "{plan}");
}
