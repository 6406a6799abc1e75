//! Scopes: which objects a quota is about.

use std::collections::BTreeSet;

use object::Quantity;
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::tree::{entries, list, text};

/// The scopes of a quota, or of another that has some, as `scopeSelector` writes them.
pub fn scopes(spec: &Value) -> Vec<Value> {
    let plain = list(&spec["scopes"]).iter().map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    plain.chain(list(&spec["scopeSelector"]["matchExpressions"]).iter().cloned()).collect()
}

/// True when the quota is about the object: all its scopes hold.
pub fn matches(quota: &Value, kind: &Kind, object: &Value) -> bool {
    scopes(&quota["spec"]).iter().all(|scope| matches_scope(scope, kind, object))
}

/// True when a scope holds for the object. Only pods and claims have scopes.
pub fn matches_scope(scope: &Value, kind: &Kind, object: &Value) -> bool {
    if !kind.group.is_empty() {
        return false;
    }
    let classes: BTreeSet<&str> = match (kind.plural.as_str(), text(&scope["scopeName"])) {
        ("pods", "PriorityClass") => [text(&object["spec"]["priorityClassName"])].into(),
        ("persistentvolumeclaims", "VolumeAttributesClass") => [
            text(&object["spec"]["volumeAttributesClassName"]),
            text(&object["status"]["currentVolumeAttributesClassName"]),
            text(&object["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"]),
        ]
        .into(),
        ("pods", name) => return pod_in_scope(&object["spec"], name),
        _ => return false,
    };
    let classes: Vec<&str> = classes.into_iter().filter(|class| !class.is_empty()).collect();
    let values = list(&scope["values"]);
    let listed = |class: &&str| values.iter().any(|v| v == *class);
    match text(&scope["operator"]) {
        "In" => classes.iter().any(listed),
        "NotIn" => classes.is_empty() || !classes.iter().all(listed),
        "DoesNotExist" => classes.is_empty(),
        _ => !classes.is_empty(),
    }
}

fn pod_in_scope(spec: &Value, scope: &str) -> bool {
    let terminating = spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "CrossNamespacePodAffinity" => crosses(&spec["affinity"]),
        _ => false,
    }
}

/// No container asks for cpu or memory, nor does the pod.
fn is_best_effort(spec: &Value) -> bool {
    let holders = list(&spec["containers"]).iter().chain(list(&spec["initContainers"])).chain([spec]);
    let mut asked = holders.flat_map(|h| ["requests", "limits"].map(|w| &h["resources"][w]));
    !asked.any(|amounts| {
        entries(amounts).any(|(name, amount)| {
            matches!(name.as_str(), "cpu" | "memory") && Quantity::parse(text(amount)).is_some_and(|q| !q.is_zero())
        })
    })
}

fn crosses(affinity: &Value) -> bool {
    let terms = ["podAffinity", "podAntiAffinity"].into_iter().flat_map(|which| {
        let required = list(&affinity[which]["requiredDuringSchedulingIgnoredDuringExecution"]).iter();
        let preferred = list(&affinity[which]["preferredDuringSchedulingIgnoredDuringExecution"]).iter();
        required.chain(preferred.map(|weighted| &weighted["podAffinityTerm"]))
    });
    terms.into_iter().any(|term| !list(&term["namespaces"]).is_empty() || term["namespaceSelector"].is_object())
}
