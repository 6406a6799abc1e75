use serde_json::{Value, json};

use crate::testing::Case;

fn workload(extra: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

#[test]
fn a_plain_workload_is_fine() {
    for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        Case::new("apps/v1", kind).invalid(workload(json!({})), &[]);
    }
}

#[test]
fn selectors() {
    let empty = workload(json!({"selector": {}}));
    for (kind, named) in [
        ("Deployment", "deployment"),
        ("ReplicaSet", "deployment"),
        ("StatefulSet", "statefulset"),
        ("DaemonSet", "daemonset"),
    ] {
        let wanted = format!("spec.selector: Invalid value: {{}}: empty selector is invalid for {named}");
        Case::new("apps/v1", kind).invalid(empty.clone(), &[&wanted]);
    }
    for kind in ["Deployment", "ReplicaSet", "DaemonSet"] {
        let other = workload(json!({"selector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}));
        Case::new("apps/v1", kind).update(
            workload(json!({})),
            other,
            &["spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]}: field is immutable"],
        );
    }
}

#[test]
fn little_of_a_stateful_set_may_change() {
    let case = Case::new("apps/v1", "StatefulSet");
    case.update(workload(json!({})), workload(json!({"replicas": 5, "minReadySeconds": 3})), &[]);
    case.update(
        workload(json!({"serviceName": "a"})),
        workload(json!({"serviceName": "b"})),
        &["spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"],
    );
    case.invalid(
        workload(json!({"podManagementPolicy": "Some"})),
        &["spec.podManagementPolicy: Invalid value: \"Some\": must be 'OrderedReady' or 'Parallel'"],
    );
}

#[test]
fn a_daemon_set_surges_or_yields() {
    Case::new("apps/v1", "DaemonSet").invalid(
        workload(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}})),
        &["spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"],
    );
}

#[test]
fn a_deployment_makes_progress_in_time() {
    Case::new("apps/v1", "Deployment").invalid(
        workload(json!({"minReadySeconds": 700, "replicas": -1})),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ],
    );
}

#[test]
fn a_replication_controller_takes_labels_from_its_template() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
        "containers": [], "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "securityContext": {}}});
    Case::new("v1", "ReplicationController").defaulted(
        json!({"spec": {"template": template}}),
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1, "selector": {"a": "b"}, "template": template}}),
    );
}
