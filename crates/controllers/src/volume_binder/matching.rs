//! Which volume is for a claim.

use object::{LabelSelector, Quantity};
use serde_json::Value;

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"].get(name).and_then(Value::as_str)
}

/// The storage class of a claim or a volume.
pub(super) fn class_of<'a>(object: &'a Value, field: &str) -> &'a str {
    annotation(object, BETA_CLASS).unwrap_or(text(&object["spec"][field]))
}

/// True when the volume is for this claim: by name, and by uid if it has one.
pub(super) fn is_bound_to(volume: &Value, claim: &Value) -> bool {
    let (reference, metadata) = (&volume["spec"]["claimRef"], &claim["metadata"]);
    reference.is_object()
        && reference["name"] == metadata["name"]
        && reference["namespace"] == metadata["namespace"]
        && (text(&reference["uid"]).is_empty() || reference["uid"] == metadata["uid"])
}

/// Both are file systems, or both are devices.
pub(super) fn same_mode(volume: &Value, claim: &Value) -> bool {
    let mode = |of: &Value| of["spec"]["volumeMode"].as_str().unwrap_or("Filesystem").to_owned();
    mode(volume) == mode(claim)
}

fn modes(object: &Value) -> Vec<&str> {
    object["spec"]["accessModes"].as_array().into_iter().flatten().map(text).collect()
}

fn has_modes(volume: &Value, claim: &Value) -> bool {
    let has = modes(volume);
    modes(claim).iter().all(|mode| has.contains(mode))
}

fn size(amount: &Value) -> Quantity {
    Quantity::parse(text(amount)).unwrap_or_default()
}

fn is_large_enough(volume: &Value, claim: &Value) -> bool {
    size(&volume["spec"]["capacity"]["storage"]) >= size(&claim["spec"]["resources"]["requests"]["storage"])
}

fn same_attributes(volume: &Value, claim: &Value) -> bool {
    let of = |object: &Value| text(&object["spec"]["volumeAttributesClassName"]).to_owned();
    of(volume) == of(claim)
}

fn same_class(volume: &Value, claim: &Value) -> bool {
    class_of(volume, "storageClassName") == class_of(claim, "storageClassName")
}

/// Why a volume that the claim names is not for it.
pub(super) fn unfit(volume: &Value, claim: &Value) -> Option<&'static str> {
    if !is_large_enough(volume, claim) {
        Some("requested PV is too small")
    } else if !same_class(volume, claim) {
        Some("storageClassName does not match")
    } else if !same_attributes(volume, claim) {
        Some("volumeAttributesClassName does not match")
    } else if !same_mode(volume, claim) {
        Some("incompatible volumeMode")
    } else if !has_modes(volume, claim) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

/// The volume that was made for the claim, or else the smallest that fits, with as few access modes as may be. With `delayed` only the
/// former: the scheduler chooses.
pub(super) fn best(volumes: &[Value], claim: &Value, delayed: bool) -> Option<usize> {
    let selector = &claim["spec"]["selector"];
    let selector = if selector.is_object() { Some(LabelSelector::from_object(selector)?) } else { None };
    let labels = |volume: &Value| -> object::Texts {
        serde_json::from_value(volume["metadata"]["labels"].clone()).unwrap_or_default()
    };
    let possible = volumes.iter().enumerate().filter(|(_, v)| {
        has_modes(v, claim)
            && (!v["spec"]["claimRef"].is_object() || is_bound_to(v, claim))
            && is_large_enough(v, claim)
            && same_mode(v, claim)
            && same_attributes(v, claim)
            && !v["metadata"]["deletionTimestamp"].is_string()
    });
    let fits = |v: &Value| {
        !delayed
            && v["status"]["phase"] == "Available"
            && same_class(v, claim)
            && selector.as_ref().is_none_or(|s| s.matches(&labels(v)))
    };
    let chosen = possible.filter(|(_, v)| is_bound_to(v, claim) || fits(v));
    let order = |v: &Value| {
        let capacity = size(&v["spec"]["capacity"]["storage"]);
        (modes(v).len(), !is_bound_to(v, claim), capacity)
    };
    chosen.min_by_key(|(_, v)| order(v)).map(|(index, _)| index)
}
