use object::patch::{self, FieldSet, Write};
use serde_json::json;

use super::*;
use crate::types::table;

fn deployment() -> Place<'static> {
    place(table(), "io.k8s.api.apps.v1.Deployment")
}

fn pod_spec() -> Place<'static> {
    place(table(), "io.k8s.api.core.v1.PodSpec")
}

fn paths(kind: Place<'_>, value: &Value) -> Vec<String> {
    patch::field_set(kind, value).paths().iter().map(ToString::to_string).collect()
}

#[test]
fn the_paths_that_upstream_finds() {
    let spec = json!({
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "x"}],
        "containers": [{"name": "c", "ports": [{"containerPort": 80}], "resources": {"limits": {"cpu": "1"}}, "command": ["a"]}],
    });
    let container = ".containers[name=\"c\"]";
    let port = format!("{container}.ports[containerPort=80,protocol=\"TCP\"]");
    let mut wanted = vec![
        ".nodeSelector".to_owned(),
        ".tolerations".into(),
        container.to_owned(),
        format!("{container}.command"),
        format!("{container}.name"),
        port.clone(),
        format!("{port}.containerPort"),
        format!("{container}.resources.limits.cpu"),
    ];
    let mut found = paths(pod_spec(), &spec);
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

#[test]
fn lists_of_references_merge_by_their_keys() {
    let meta = place(table(), "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let value = json!({"finalizers": ["f"], "ownerReferences": [{"uid": "u", "name": "n"}], "labels": {"a": "b"}});
    let mut found = paths(meta, &value);
    found.sort();
    // Owner references are atomic maps: owned whole, found by uid.
    assert_eq!(found, [".finalizers[=\"f\"]", ".labels.a", ".ownerReferences[uid=\"u\"]"]);
    let mut service = paths(
        place(table(), "io.k8s.api.core.v1.ServiceSpec"),
        &json!({"ports": [{"port": 80, "protocol": "UDP"}, {"port": 81}]}),
    );
    service.sort();
    assert_eq!(service[0], ".ports[port=80,protocol=\"UDP\"]");
    assert!(service.contains(&".ports[port=81,protocol=\"TCP\"]".into()), "{service:?}");
}

#[test]
fn a_deployment_is_applied_and_conflicts() {
    let none = FieldSet::default();
    let write = |manager| Write {
        manager,
        api_version: "apps/v1",
        subresource: "",
        time: "2026-01-01T00:00:00Z",
        ignored: &none,
    };
    let config = |replicas: u32, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": replicas,
            "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
    };
    let first = patch::apply(deployment(), None, &config(1, "a"), &write("one"), false, &patch::one_version).unwrap();
    let error = patch::apply(deployment(), Some(&first), &config(2, "a"), &write("two"), false, &patch::one_version)
        .unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    let error = patch::apply(
        deployment(),
        None,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": "x", "foo": 1}}),
        &write("two"),
        false,
        &patch::one_version,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "failed to create typed patch object (/; apps/v1, Kind=Deployment): errors:\n  .spec.foo: field not declared in schema\n  .spec.replicas: expected numeric (int or float), got string"
    );
}

#[test]
fn free_form_data() {
    let revision = place(table(), "io.k8s.api.apps.v1.ControllerRevision");
    assert_eq!(paths(revision, &json!({"data": {"a": {"b": 1}}})), [".data"]);
    let unknown = place(table(), "no.such.Type");
    assert_eq!(paths(unknown, &json!({"a": {"b": [1]}})), [".a", ".a.b"]);
}

/// What `kubectl create deployment` leaves in `managedFields` of an upstream cluster.
#[test]
fn a_created_deployment_is_owned_as_upstream_has_it() {
    let mut new = json!({"apiVersion": "apps/v1", "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1,
        "labels": {"app": "d"}},
    "spec": {
        "progressDeadlineSeconds": 600, "replicas": 1, "revisionHistoryLimit": 10, "selector": {"matchLabels": {"app": "d"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": {"metadata": {"labels": {"app": "d"}}, "spec": {
            "containers": [{"name": "nginx", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {}}}},
    "status": {}});
    let ignored = FieldSet::of(&[&["status"]]);
    let write = Write {
        manager: "kubectl-create",
        api_version: "apps/v1",
        subresource: "",
        time: "2026-01-01T00:00:00Z",
        ignored: &ignored,
    };
    patch::track(deployment(), None, &mut new, &write, &patch::one_version);
    assert_eq!(
        new["metadata"]["managedFields"],
        json!([{"apiVersion": "apps/v1", "fieldsType": "FieldsV1", "manager": "kubectl-create", "operation": "Update",
        "time": "2026-01-01T00:00:00Z",
        "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {
                "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:containers": {"k:{\"name\":\"nginx\"}": {
                            ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}}}}},
                        "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:securityContext": {}}}}}}])
    );
}
