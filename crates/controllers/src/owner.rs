//! Whom an object belongs to: controller references, adoption, release, and the pods of a template.

use std::sync::Arc;

use client::{Change, Patch};
use object::{LabelSelector, Object};
use serde_json::{Value, json};

use crate::kinds::{Kind, PODS};
use crate::plan::{Event, Op};
use crate::world::World;

/// What a controller found of its own.
#[derive(Default)]
pub struct Claimed {
    /// What it controls, adopted objects included.
    pub objects: Vec<Arc<Object>>,
    /// Patches that adopt and release.
    pub ops: Vec<Op>,
}

/// The objects of `kind` that `owner` (of `owner_kind`) controls and selects. Orphans that it selects are adopted, what it
/// controls and no longer selects is released; neither when the owner goes away.
pub fn claim(
    world: &World,
    kind: &'static Kind,
    owner_kind: &'static Kind,
    owner: &Object,
    selector: &LabelSelector,
) -> Claimed {
    let mut claimed = Claimed::default();
    for object in world.owned(kind, &owner.head.uid) {
        if object.head.controller().is_none_or(|c| c.uid != owner.head.uid) {
            continue;
        }
        if selector.matches(&object.head.labels) {
            claimed.objects.push(object);
        } else if !owner.head.is_terminating() {
            claimed.ops.push(release(kind, owner, &object));
        }
    }
    if !owner.head.is_terminating() {
        for object in world.select(kind, &owner.head.namespace, selector) {
            if object.head.controller().is_none() && !object.head.is_terminating() {
                claimed.ops.push(adopt(kind, owner_kind, owner, &object));
                claimed.objects.push(object);
            }
        }
    }
    claimed
}

fn adopt(kind: &'static Kind, owner_kind: &Kind, owner: &Object, object: &Object) -> Op {
    let reference = owner_kind.controller_reference(owner);
    let patch = json!({"metadata": {"ownerReferences": [reference], "uid": object.head.uid}});
    Op::patch(kind, object, Patch::Strategic(patch))
}

fn release(kind: &'static Kind, owner: &Object, object: &Object) -> Op {
    let reference = json!({"$patch": "delete", "uid": owner.head.uid});
    let patch = json!({"metadata": {"ownerReferences": [reference], "uid": object.head.uid}});
    Op::patch(kind, object, Patch::Strategic(patch))
}

/// The keys of the objects of `of` that a change to something they control (or might adopt) wakes.
pub fn owners(of: &'static Kind, change: &Change, world: &World) -> Vec<String> {
    let mut keys = Vec::new();
    for object in change.old().into_iter().chain([change.object()]) {
        if let Some(owner) = object.head.controller().filter(|owner| of.is(owner)) {
            keys.push(key_of(&object.head.namespace, &owner.name));
        }
    }
    let orphan = matches!(change, Change::Applied { .. }) && change.object().head.controller().is_none();
    if orphan && !change.object().head.is_terminating() {
        let object = change.object();
        let might_adopt = |owner: &Arc<Object>| selector_of(owner).is_some_and(|s| s.matches(&object.head.labels));
        let all = world.list(of, Some(&object.head.namespace));
        keys.extend(all.into_iter().filter(might_adopt).map(|owner| owner.head.key()));
    }
    keys.sort();
    keys.dedup();
    keys
}

/// `spec.selector` of an object (a plain map in core/v1, a LabelSelector elsewhere); `None` when it has none or an empty one (which would select everything).
pub fn selector_of(object: &Object) -> Option<LabelSelector> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct View {
        spec: Spec,
    }
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Spec {
        selector: Value,
    }
    let selector = object.view::<View>().ok()?.spec.selector;
    if selector.is_null() {
        return None;
    }
    let selector = if object.head.api_version == "v1" { json!({"matchLabels": selector}) } else { selector };
    LabelSelector::from_object(&selector).filter(|selector| !selector.is_empty())
}

/// `namespace/name`, or the name alone.
pub fn key_of(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}") }
}

/// A pod of `template` that `owner` controls, with a name that the server makes up.
pub fn pod_of(owner_kind: &Kind, owner: &Object, template: &Value) -> Value {
    let mut metadata = json!({
        "namespace": owner.head.namespace,
        "generateName": generate_name(&owner.head.name),
        "ownerReferences": [owner_kind.controller_reference(owner)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field).filter(|v| !v.is_null()) {
            metadata[field] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// The prefix of the names of an owner's pods.
fn generate_name(owner: &str) -> String {
    let fits = owner.len() < 253;
    if fits { format!("{owner}-") } else { owner.to_owned() }
}

/// Creates a pod and says so in upstream's words.
pub fn create_pod(owner: &Object, pod: Arc<Value>) -> Op {
    Op::create(&PODS, &owner.head.namespace, pod)
        .on_done(Event::normal(owner, "SuccessfulCreate", "Created pod: {name}"))
        .on_failure(Event::warning(owner, "FailedCreate", "Error creating: {error}"))
}

/// Deletes a pod and says so in upstream's words.
pub fn delete_pod(owner: &Object, pod: &Object) -> Op {
    Op::delete(&PODS, pod)
        .on_done(Event::normal(owner, "SuccessfulDelete", format!("Deleted pod: {}", pod.head.name)))
        .on_failure(Event::warning(owner, "FailedDelete", "Error deleting: {error}"))
}
