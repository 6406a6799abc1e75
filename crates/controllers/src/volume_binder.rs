//! Binds claims to volumes that there are, and follows both through their life. Volumes are not made here: a claim of a class waits for
//! the class's provisioner, which hears of it by an annotation.
//!
//! A reconciliation writes each object once at most; what it wrote wakes it for the next step.

mod matching;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::Change;
use object::Object;
use serde_json::{Value, json};

use crate::kinds::{Kind, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES};
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Event, Plan, Watch};
use matching::{annotation, best, class_of, is_bound_to, same_mode, text, unfit};

const NAME: &str = "persistent-volume-binder";
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Of claims.
pub static CLAIMS: Controller = Controller {
    name: NAME,
    of: &PERSISTENT_VOLUME_CLAIMS,
    owns: &[],
    watches: &[
        Watch { kind: &PERSISTENT_VOLUMES, wakes: claims_for },
        Watch { kind: &STORAGE_CLASSES, wakes: |_, world| waiting(world) },
    ],
    reads: &[&PODS],
    workers: 1,
    reconcile: claim,
    gone: crate::controller::nothing,
};

/// Of volumes.
pub static VOLUMES: Controller = Controller {
    name: NAME,
    of: &PERSISTENT_VOLUMES,
    owns: &[],
    watches: &[Watch { kind: &PERSISTENT_VOLUME_CLAIMS, wakes: volumes_for }],
    reads: &[],
    workers: 1,
    reconcile: volume,
    gone: crate::controller::nothing,
};

fn value(object: &Object) -> Value {
    object.value().unwrap_or_default()
}

fn key(of: &Value) -> String {
    format!("{}/{}", text(&of["namespace"]), text(&of["name"]))
}

/// Claims that have no volume yet.
fn waiting(world: &World) -> Vec<String> {
    let claims = world.list(&PERSISTENT_VOLUME_CLAIMS, None);
    claims.iter().filter(|c| annotation(&value(c), COMPLETED).is_none()).map(|c| c.head.key()).collect()
}

fn claims_for(change: &Change, world: &World) -> Vec<String> {
    let volume = value(change.object());
    let reference = &volume["spec"]["claimRef"];
    let mut keys = if text(&reference["uid"]).is_empty() { waiting(world) } else { vec![key(reference)] };
    let name = change.object().head.name.as_str();
    let claims = world.list(&PERSISTENT_VOLUME_CLAIMS, None);
    keys.extend(claims.iter().filter(|c| value(c)["spec"]["volumeName"] == name).map(|c| c.head.key()));
    keys
}

fn volumes_for(change: &Change, world: &World) -> Vec<String> {
    let claim = change.object();
    let named = value(claim)["spec"]["volumeName"].as_str().map(str::to_owned);
    let volumes = world.list(&PERSISTENT_VOLUMES, None);
    let referring = volumes.iter().filter(|v| key(&value(v)["spec"]["claimRef"]) == claim.head.key());
    referring.map(|v| v.head.key()).chain(named.filter(|n| !n.is_empty())).collect()
}

/// A phase, where it is another.
fn phase(kind: &'static Kind, object: &Arc<Object>, wanted: &str) -> Option<Op> {
    let status = &value(object)["status"];
    (status["phase"] != wanted).then(|| Op::status(kind, object, json!({"status": {"phase": wanted, "message": null}})))
}

/// The claim waits, without what it had of a volume.
fn pending(plan: &mut Plan, object: &Arc<Object>, claim: &Value) {
    let status = &claim["status"];
    let bare = ["accessModes", "capacity", "currentVolumeAttributesClassName"].iter().all(|f| status[*f].is_null());
    if status["phase"] != "Pending" || !bare {
        let none = json!({"status": {"phase": "Pending", "accessModes": null, "capacity": null, "currentVolumeAttributesClassName": null}});
        plan.push(Op::status(&PERSISTENT_VOLUME_CLAIMS, object, none));
    }
}

fn claim(object: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let claim = value(object);
    let name = text(&claim["spec"]["volumeName"]);
    let named = if name.is_empty() { None } else { world.get(&PERSISTENT_VOLUMES, name) };
    if annotation(&claim, COMPLETED).is_some() {
        bound(&mut plan, object, &claim, named);
    } else if name.is_empty() {
        unbound(&mut plan, object, &claim, world);
    } else {
        let Some(volume) = named else {
            pending(&mut plan, object, &claim);
            return plan;
        };
        let found = value(&volume);
        if is_bound_to(&found, &claim) {
            bind(&mut plan, &volume, object);
        } else if found["spec"]["claimRef"].is_object() {
            let message = format!("volume {name:?} already bound to a different claim.");
            plan.events.push(Event::warning(object, "FailedBinding", message));
            pending(&mut plan, object, &claim);
        } else if let Some(why) = unfit(&found, &claim) {
            let message = format!("Cannot bind to requested volume {name:?}: {why}");
            plan.events.push(Event::warning(object, "VolumeMismatch", message));
            pending(&mut plan, object, &claim);
        } else {
            bind(&mut plan, &volume, object);
        }
    }
    plan
}

/// A claim that had a volume keeps it, or has lost it for good.
fn bound(plan: &mut Plan, object: &Arc<Object>, claim: &Value, volume: Option<Arc<Object>>) {
    let (reason, message) = match volume {
        Some(volume) => {
            let reference = value(&volume)["spec"]["claimRef"].take();
            if reference.is_null() || reference["uid"] == object.head.uid.as_str() {
                return bind(plan, &volume, object);
            }
            ("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly")
        }
        None if text(&claim["spec"]["volumeName"]).is_empty() => {
            ("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!")
        }
        None => ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
    };
    if claim["status"]["phase"] != "Lost" {
        let lost = json!({"status": {"phase": "Lost", "accessModes": null, "capacity": null, "currentVolumeAttributesClassName": null}});
        let op = Op::status(&PERSISTENT_VOLUME_CLAIMS, object, lost);
        plan.push(op.on_done(Event::warning(object, reason, message)));
    }
}

/// A claim of any volume that fits.
fn unbound(plan: &mut Plan, object: &Arc<Object>, claim: &Value, world: &World) {
    let class_name = class_of(claim, "storageClassName");
    let class = world.get(&STORAGE_CLASSES, class_name).map(|class| value(&class));
    let delayed = class.as_ref().is_some_and(|c| c["volumeBindingMode"] == "WaitForFirstConsumer");
    let volumes = world.list(&PERSISTENT_VOLUMES, None);
    let trees: Vec<Value> = volumes.iter().map(|v| value(v)).collect();
    if let Some(index) = best(&trees, claim, delayed) {
        return bind(plan, &volumes[index], object);
    }
    let has_class = !claim["spec"]["storageClassName"].is_null() || !class_name.is_empty();
    if !has_class && let Some(name) = default_class(world) {
        let change = json!({"spec": {"storageClassName": name}});
        return plan.push(Op::update(&PERSISTENT_VOLUME_CLAIMS, object, change));
    }
    if delayed && annotation(claim, SELECTED_NODE).is_none() {
        plan.events.push(consumers(object, world));
    } else if class_name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        plan.events.push(Event::normal(object, "FailedBinding", message));
    } else {
        return provision(plan, object, claim, class_name, class);
    }
    pending(plan, object, claim);
}

/// The newest class that is marked as the default; of several that are as old the first by name.
fn default_class(world: &World) -> Option<String> {
    let classes = world.list(&STORAGE_CLASSES, None);
    let marked = classes.iter().filter_map(|class| {
        let tree = value(class);
        let is_default = DEFAULT_CLASS.iter().any(|mark| annotation(&tree, mark) == Some("true"));
        let created = text(&tree["metadata"]["creationTimestamp"]).to_owned();
        is_default.then(|| (std::cmp::Reverse(created), class.head.name.clone()))
    });
    marked.min().map(|(_, name)| name)
}

/// Whom a claim waits for that is bound where its first pod goes.
fn consumers(object: &Arc<Object>, world: &World) -> Event {
    let pods = world.list(&PODS, Some(&object.head.namespace));
    let uses = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes.into_iter().any(|v| v["persistentVolumeClaim"]["claimName"] == object.head.name.as_str())
    };
    let names: Vec<String> = pods
        .iter()
        .filter(|pod| {
            let pod = value(pod);
            text(&pod["spec"]["nodeName"]).is_empty() && uses(&pod)
        })
        .map(|pod| pod.head.name.clone())
        .collect();
    match names.as_slice() {
        [] => Event::normal(object, "WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        [one] => Event::normal(object, "WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
        all => {
            Event::normal(object, "WaitForPodScheduled", format!("waiting for pods {} to be scheduled", all.join(",")))
        }
    }
}

/// Asks the class's provisioner for a volume.
fn provision(plan: &mut Plan, object: &Arc<Object>, claim: &Value, name: &str, class: Option<Value>) {
    let failed = |why: String| Event::warning(object, "ProvisioningFailed", why);
    let Some(class) = class else {
        return plan.events.push(failed(format!("storageclass.storage.k8s.io {name:?} not found")));
    };
    let provisioner = text(&class["provisioner"]);
    if provisioner.starts_with("kubernetes.io/") {
        return plan.events.push(failed(format!("no volume plugin matched name: {provisioner}")));
    }
    if PROVISIONER.iter().any(|mark| annotation(claim, mark) != Some(provisioner)) {
        let marks: Value = PROVISIONER.iter().map(|mark| ((*mark).to_owned(), json!(provisioner))).collect();
        plan.push(Op::update(&PERSISTENT_VOLUME_CLAIMS, object, json!({"metadata": {"annotations": marks}})));
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    plan.events.push(Event::normal(object, "ExternalProvisioning", message));
}

/// The next step of binding both: the volume to the claim, the claim to the volume, then the claim's status.
fn bind(plan: &mut Plan, volume: &Arc<Object>, claim: &Arc<Object>) {
    let (v, c) = (value(volume), value(claim));
    let reference = &v["spec"]["claimRef"];
    if !is_bound_to(&v, &c) || reference["uid"] != claim.head.uid.as_str() {
        let mut change = json!({"spec": {"claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "name": claim.head.name,
            "namespace": claim.head.namespace, "uid": claim.head.uid, "resourceVersion": claim.head.resource_version.to_string()}}});
        if !is_bound_to(&v, &c) {
            change["metadata"]["annotations"][BY_CONTROLLER] = "yes".into();
        }
        return plan.push(Op::update(&PERSISTENT_VOLUMES, volume, change));
    }
    plan.push_some(phase(&PERSISTENT_VOLUMES, volume, "Bound"));
    let named = c["spec"]["volumeName"] == volume.head.name.as_str();
    if !named || annotation(&c, COMPLETED).is_none() {
        let mut change = json!({"metadata": {"annotations": {COMPLETED: "yes"}}});
        if !named {
            change["spec"]["volumeName"] = volume.head.name.as_str().into();
            change["metadata"]["annotations"][BY_CONTROLLER] = "yes".into();
        }
        return plan.push(Op::update(&PERSISTENT_VOLUME_CLAIMS, claim, change));
    }
    let status = &c["status"];
    let mut change = json!({});
    if status["accessModes"] != v["spec"]["accessModes"] {
        change["accessModes"] = v["spec"]["accessModes"].clone();
    }
    if status["phase"] != "Bound" {
        change["phase"] = "Bound".into();
        change["capacity"] = v["spec"]["capacity"].clone();
        let attributes = &v["spec"]["volumeAttributesClassName"];
        if status["phase"] == "Pending" && status["currentVolumeAttributesClassName"] != *attributes {
            change["currentVolumeAttributesClassName"] = attributes.clone();
        }
    }
    if change != json!({}) {
        plan.push(Op::status(&PERSISTENT_VOLUME_CLAIMS, claim, json!({"status": change})));
    }
}

fn volume(object: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let volume = value(object);
    let reference = &volume["spec"]["claimRef"];
    if text(&reference["uid"]).is_empty() {
        plan.push_some(phase(&PERSISTENT_VOLUMES, object, "Available"));
        return plan;
    }
    let claim = world.get(&PERSISTENT_VOLUME_CLAIMS, &key(reference));
    let Some(claim) = claim.filter(|c| reference["uid"] == c.head.uid.as_str()) else {
        release(&mut plan, object, &volume);
        return plan;
    };
    let tree = value(&claim);
    let named = text(&tree["spec"]["volumeName"]);
    if named.is_empty() {
        if !same_mode(&volume, &tree) {
            let (v, c) = (&object.head.name, &claim.head.name);
            plan.events.push(Event::warning(object, "VolumeMismatch", format!("Cannot bind PersistentVolume to requested PersistentVolumeClaim {c:?} due to incompatible volumeMode.")));
            plan.events.push(Event::warning(&claim, "VolumeMismatch", format!("Cannot bind PersistentVolume {v:?} to requested PersistentVolumeClaim due to incompatible volumeMode.")));
        }
    } else if named == object.head.name {
        plan.push_some(phase(&PERSISTENT_VOLUMES, object, "Bound"));
    } else if annotation(&volume, PROVISIONED_BY).is_some() && reclaims(&volume) == "Delete" {
        release(&mut plan, object, &volume);
    } else if annotation(&volume, BY_CONTROLLER).is_some() {
        // The claim took another: this one is free again.
        let free = json!({"spec": {"claimRef": null}, "metadata": {"annotations": {BY_CONTROLLER: null}}});
        plan.push(Op::update(&PERSISTENT_VOLUMES, object, free));
    } else {
        // It was made for a claim of this name: of whatever uid.
        plan.push(Op::update(&PERSISTENT_VOLUMES, object, json!({"spec": {"claimRef": {"uid": null}}})));
    }
    plan
}

fn reclaims(volume: &Value) -> &str {
    text(&volume["spec"]["persistentVolumeReclaimPolicy"])
}

/// A volume whose claim is gone. What a provisioner made the provisioner deletes; what nobody can delete has failed.
fn release(plan: &mut Plan, object: &Arc<Object>, volume: &Value) {
    let phase = text(&volume["status"]["phase"]);
    if !matches!(phase, "Released" | "Failed") {
        return plan.push(Op::status(
            &PERSISTENT_VOLUMES,
            object,
            json!({"status": {"phase": "Released", "message": null}}),
        ));
    }
    let elsewhere = annotation(volume, PROVISIONED_BY).is_some_and(|by| !by.starts_with("kubernetes.io/"));
    if phase == "Released" && reclaims(volume) == "Delete" && !elsewhere && !object.head.is_terminating() {
        let name = &object.head.name;
        let why =
            format!("error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched");
        let failed = json!({"status": {"phase": "Failed"}});
        let op = Op::status(&PERSISTENT_VOLUMES, object, failed);
        plan.push(op.on_done(Event::warning(object, "VolumeFailedDelete", why)));
    }
}
