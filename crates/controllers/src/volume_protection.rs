//! Claims, volumes and attribute classes that are in use stay until they are free: admission gives each a finalizer, these take it away
//! again from what is deleted and used by nobody.

use std::sync::Arc;

use client::Change;
use object::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kinds::{Kind, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, VOLUME_ATTRIBUTES_CLASSES};
use crate::plan::Op;
use crate::world::{World, node_and_phase};
use crate::{Controller, Plan, Watch};

/// Of claims: a pod on a node uses them.
pub static CLAIMS: Controller = Controller {
    name: "pvc-protection-controller",
    of: &PERSISTENT_VOLUME_CLAIMS,
    owns: &[],
    watches: &[Watch { kind: &PODS, wakes: claims_of }],
    reads: &[],
    workers: 1,
    reconcile: claim,
    gone: crate::controller::nothing,
};

/// Of volumes: a claim is bound to them.
pub static VOLUMES: Controller = Controller {
    name: "pv-protection-controller",
    of: &PERSISTENT_VOLUMES,
    owns: &[],
    watches: &[],
    reads: &[],
    workers: 1,
    reconcile: volume,
    gone: crate::controller::nothing,
};

/// Of attribute classes: a claim or a volume has them.
pub static CLASSES: Controller = Controller {
    name: "volumeattributesclass-protection-controller",
    of: &VOLUME_ATTRIBUTES_CLASSES,
    owns: &[],
    watches: &[
        Watch { kind: &PERSISTENT_VOLUME_CLAIMS, wakes: deleted_classes },
        Watch { kind: &PERSISTENT_VOLUMES, wakes: deleted_classes },
    ],
    reads: &[],
    workers: 1,
    reconcile: class,
    gone: crate::controller::nothing,
};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Guarded {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    finalizers: Vec<String>,
}

/// Adds the finalizer to what lives without it, and takes it from what is deleted and free.
fn guard(kind: &'static Kind, object: &Arc<Object>, finalizer: &str, is_used: impl FnOnce() -> bool) -> Plan {
    let mut plan = Plan::none();
    let mut finalizers = object.view::<Guarded>().unwrap_or_default().metadata.finalizers;
    let guarded = finalizers.iter().any(|f| f == finalizer);
    if object.head.is_terminating() {
        if !guarded || is_used() {
            return plan;
        }
        finalizers.retain(|f| f != finalizer);
    } else if guarded {
        return plan;
    } else {
        finalizers.push(finalizer.into());
    }
    plan.push(Op::update(kind, object, json!({"metadata": {"finalizers": finalizers}})));
    plan
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Pod {
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: String,
    volumes: Vec<Volume>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodStatus {
    phase: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    persistent_volume_claim: Option<Source>,
    ephemeral: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Source {
    claim_name: String,
}

fn claims_of(change: &Change, _: &World) -> Vec<String> {
    let object = change.object();
    let key = |name: &str| format!("{}/{name}", object.head.namespace);
    // Only an end, of the pod or of its work, sets claims free.
    let ended = || matches!(node_and_phase(object).1.as_str(), "Succeeded" | "Failed");
    if !matches!(change, Change::Deleted(_)) && !ended() {
        return Vec::new();
    }
    let pod: Pod = object.view().unwrap_or_default();
    let volumes = pod.spec.volumes.iter().filter_map(|volume| {
        let claim = volume.persistent_volume_claim.as_ref().map(|claim| key(&claim.claim_name));
        claim.or(volume.ephemeral.as_ref().map(|_| key(&format!("{}-{}", object.head.name, volume.name))))
    });
    volumes.collect()
}

/// Whether the pod uses the claim. One that has no node yet will not start with a claim that is deleted.
fn uses(object: &Object, claim: &Object) -> bool {
    let pod: Pod = object.view().unwrap_or_default();
    if pod.spec.node_name.is_empty() {
        return false;
    }
    let over = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    let made_for = || claim.head.owners.iter().any(|owner| owner.uid == object.head.uid);
    pod.spec.volumes.iter().any(|volume| {
        let named = volume.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == claim.head.name);
        named
            || (volume.ephemeral.is_some()
                && !over
                && claim.head.name == format!("{}-{}", object.head.name, volume.name)
                && made_for())
    })
}

fn claim(claim: &Arc<Object>, world: &World) -> Plan {
    guard(&PERSISTENT_VOLUME_CLAIMS, claim, "kubernetes.io/pvc-protection", || {
        world.list(&PODS, Some(&claim.head.namespace)).iter().any(|pod| uses(pod, claim))
    })
}

fn volume(volume: &Arc<Object>, _: &World) -> Plan {
    guard(&PERSISTENT_VOLUMES, volume, "kubernetes.io/pv-protection", || {
        volume.value().is_ok_and(|volume| volume["status"]["phase"] == "Bound")
    })
}

/// The classes that a claim or a volume has, is to have, or is getting.
fn classes_of(object: &Object) -> Vec<String> {
    let value = object.value().unwrap_or_default();
    [
        &value["spec"]["volumeAttributesClassName"],
        &value["status"]["currentVolumeAttributesClassName"],
        &value["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ]
    .into_iter()
    .filter_map(|name| name.as_str().filter(|n| !n.is_empty()).map(str::to_owned))
    .collect()
}

fn deleted_classes(_: &Change, world: &World) -> Vec<String> {
    let classes = world.list(&VOLUME_ATTRIBUTES_CLASSES, None);
    classes.iter().filter(|class| class.head.is_terminating()).map(|class| class.head.key()).collect()
}

fn class(class: &Arc<Object>, world: &World) -> Plan {
    guard(&VOLUME_ATTRIBUTES_CLASSES, class, "kubernetes.io/vac-protection", || {
        let kinds = [&PERSISTENT_VOLUME_CLAIMS, &PERSISTENT_VOLUMES];
        kinds.into_iter().any(|kind| world.list(kind, None).iter().any(|o| classes_of(o).contains(&class.head.name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scene;

    fn claim(deleted: bool, finalizers: &[&str]) -> Value {
        let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "c", "namespace": "ns", "finalizers": finalizers}, "spec": {}});
        if deleted {
            claim["metadata"]["deletionTimestamp"] = "2026-01-31T23:58:00Z".into();
        }
        claim
    }

    fn pod(node: &str, phase: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"},
            "spec": {"nodeName": node, "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
            "status": {"phase": phase}})
    }

    #[test]
    fn claims_stay_while_a_pod_has_them() {
        let check = |objects: Vec<Value>, wanted: &str| {
            assert_eq!(Scene::new(objects).plan(&CLAIMS, "ns/c").to_string(), wanted);
        };
        let finalizer = "kubernetes.io/pvc-protection";
        let freed = "update persistentvolumeclaims ns/c {\"metadata\":{\"finalizers\":[\"other\"]}}\n";
        let guarded = claim(true, &[finalizer, "other"]);
        check(vec![guarded.clone()], freed);
        check(vec![guarded.clone(), pod("n", "Running")], "");
        check(vec![guarded.clone(), pod("n", "Succeeded")], "");
        check(vec![guarded, pod("", "Pending")], freed);
        check(vec![claim(false, &[finalizer])], "");
        let added =
            "update persistentvolumeclaims ns/c {\"metadata\":{\"finalizers\":[\"kubernetes.io/pvc-protection\"]}}\n";
        check(vec![claim(false, &[])], added);
    }

    #[test]
    fn volumes_stay_while_they_are_bound() {
        let check = |phase: &str, wanted: &str| {
            let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v",
                "finalizers": ["kubernetes.io/pv-protection"], "deletionTimestamp": "2026-01-31T23:58:00Z"}, "status": {"phase": phase}});
            assert_eq!(Scene::new(vec![volume]).plan(&VOLUMES, "v").to_string(), wanted);
        };
        check("Bound", "");
        check("Released", "update persistentvolumes v {\"metadata\":{\"finalizers\":[]}}\n");
    }

    #[test]
    fn classes_stay_while_something_has_them() {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "gold",
            "finalizers": ["kubernetes.io/vac-protection"], "deletionTimestamp": "2026-01-31T23:58:00Z"}});
        let mut claim = claim(false, &[]);
        claim["status"] = json!({"currentVolumeAttributesClassName": "gold"});
        let freed = "update volumeattributesclasses gold {\"metadata\":{\"finalizers\":[]}}\n";
        assert_eq!(Scene::new(vec![class.clone(), claim]).plan(&CLASSES, "gold").to_string(), "");
        assert_eq!(Scene::new(vec![class]).plan(&CLASSES, "gold").to_string(), freed);
    }
}
