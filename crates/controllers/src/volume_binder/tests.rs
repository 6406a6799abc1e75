use serde_json::{Value, json};

use super::*;
use crate::testing::Scene;

fn volume(name: &str, size: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "uid": format!("uid-{name}")},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"}})
}

fn claim(size: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "ns", "uid": "uid-c", "resourceVersion": "7"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}, "status": {"phase": "Pending"}})
}

fn with(mut object: Value, patch: Value) -> Value {
    object::patch::merge(&mut object, &patch);
    object
}

fn of_claim<const N: usize>(objects: [Value; N]) -> String {
    Scene::new(objects.to_vec()).plan(&CLAIMS, "ns/c").to_string()
}

fn of_volume<const N: usize>(objects: [Value; N]) -> String {
    Scene::new(objects.to_vec()).plan(&VOLUMES, "v").to_string()
}

fn reference(uid: &str) -> Value {
    json!({"spec": {"claimRef": {"kind": "PersistentVolumeClaim", "name": "c", "namespace": "ns", "uid": uid}}})
}

#[test]
fn a_claim_and_a_volume_are_bound_in_steps() {
    let (v, c) = (volume("v", "2Gi"), claim("1Gi"));
    let first = "update persistentvolumes v {\"metadata\":{\"annotations\":{\"pv.kubernetes.io/bound-by-controller\":\"yes\"}},\"spec\":{\"claimRef\":{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolumeClaim\",\"name\":\"c\",\"namespace\":\"ns\",\"resourceVersion\":\"7\",\"uid\":\"uid-c\"}}}\n";
    assert_eq!(of_claim([volume("w", "3Gi"), v.clone(), c.clone()]), first, "the smallest that fits");
    let v = with(v, reference("uid-c"));
    let second = "update persistentvolumes/status v {\"status\":{\"message\":null,\"phase\":\"Bound\"}}\nupdate persistentvolumeclaims ns/c {\"metadata\":{\"annotations\":{\"pv.kubernetes.io/bind-completed\":\"yes\",\"pv.kubernetes.io/bound-by-controller\":\"yes\"}},\"spec\":{\"volumeName\":\"v\"}}\n";
    assert_eq!(of_claim([v.clone(), c.clone()]), second);
    let v = with(v, json!({"status": {"phase": "Bound"}}));
    let c = with(c, json!({"metadata": {"annotations": {COMPLETED: "yes"}}, "spec": {"volumeName": "v"}}));
    let third = "update persistentvolumeclaims/status ns/c {\"status\":{\"accessModes\":[\"ReadWriteOnce\"],\"capacity\":{\"storage\":\"2Gi\"},\"phase\":\"Bound\"}}\n";
    assert_eq!(of_claim([v.clone(), c.clone()]), third);
    let c = with(
        c,
        json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}}}),
    );
    assert_eq!((of_claim([v.clone(), c.clone()]), of_volume([v, c.clone()])), (String::new(), String::new()));
    let lost = of_claim([c]);
    assert!(lost.contains("\"phase\":\"Lost\"") && lost.contains("event ClaimLost"), "{lost}");
}

#[test]
fn a_claim_without_a_volume_waits() {
    let failed = "event FailedBinding no persistent volumes available for this claim and no storage class is set\n";
    assert_eq!(of_claim([volume("v", "500Mi"), claim("1Gi")]), failed);
    let taken = with(volume("v", "2Gi"), reference("other"));
    assert_eq!(of_claim([taken.clone(), claim("1Gi")]), failed);
    let named = with(claim("1Gi"), json!({"spec": {"volumeName": "v"}}));
    assert_eq!(
        of_claim([taken, named.clone()]),
        "event FailedBinding volume \"v\" already bound to a different claim.\n"
    );
    assert_eq!(
        of_claim([volume("v", "500Mi"), named.clone()]),
        "event VolumeMismatch Cannot bind to requested volume \"v\": requested PV is too small\n"
    );
    assert_eq!(of_claim([named]), "");
    let class = |extra: Value| {
        with(
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "s"}, "provisioner": "p"}),
            extra,
        )
    };
    let of_class = with(claim("1Gi"), json!({"spec": {"storageClassName": "s"}}));
    assert_eq!(of_claim([of_class.clone()]), "event ProvisioningFailed storageclass.storage.k8s.io \"s\" not found\n");
    let asked = of_claim([class(json!({})), of_class.clone()]);
    assert!(asked.starts_with("update persistentvolumeclaims ns/c {\"metadata\":{\"annotations\":{\"volume.beta.kubernetes.io/storage-provisioner\":\"p\""), "{asked}");
    assert!(asked.contains("event ExternalProvisioning Waiting for a volume"), "{asked}");
    let late = class(json!({"volumeBindingMode": "WaitForFirstConsumer"}));
    let fit = with(volume("v", "2Gi"), json!({"spec": {"storageClassName": "s"}}));
    assert_eq!(
        of_claim([late, fit, of_class]),
        "event WaitForFirstConsumer waiting for first consumer to be created before binding\n"
    );
    let default = class(json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}));
    assert_eq!(
        of_claim([default, claim("1Gi")]),
        "update persistentvolumeclaims ns/c {\"spec\":{\"storageClassName\":\"s\"}}\n"
    );
}

#[test]
fn a_volume_follows_its_claim() {
    let fresh = with(volume("v", "1Gi"), json!({"status": null}));
    assert_eq!(
        of_volume([fresh]),
        "update persistentvolumes/status v {\"status\":{\"message\":null,\"phase\":\"Available\"}}\n"
    );
    let bound = with(with(volume("v", "1Gi"), reference("uid-c")), json!({"status": {"phase": "Bound"}}));
    let released = "update persistentvolumes/status v {\"status\":{\"message\":null,\"phase\":\"Released\"}}\n";
    assert_eq!(of_volume([bound.clone()]), released);
    let other = with(claim("1Gi"), json!({"metadata": {"uid": "other"}}));
    assert_eq!(of_volume([bound.clone(), other]), released, "a claim of the same name is another");
    let kept = with(bound.clone(), json!({"status": {"phase": "Released"}}));
    assert_eq!(of_volume([kept.clone()]), "");
    let deleted = with(kept, json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}));
    assert!(of_volume([deleted.clone()]).contains("event VolumeFailedDelete"), "nobody can delete it");
    assert_eq!(
        of_volume([with(deleted, json!({"metadata": {"annotations": {PROVISIONED_BY: "csi.example.com"}}}))]),
        ""
    );
    let elsewhere = with(claim("1Gi"), json!({"spec": {"volumeName": "w"}}));
    assert_eq!(of_volume([bound, elsewhere]), "update persistentvolumes v {\"spec\":{\"claimRef\":{\"uid\":null}}}\n");
}
