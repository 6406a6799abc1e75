//! `v1/PersistentVolumeClaim`: immutable once made, but for growing.

use object::{Invalid, Quantity};
use serde_json::{Value, json};

use crate::core::podspec;
use crate::core::volume::{access_modes, class, validate_modes};
use crate::kind::{NO_RULES, Rules, keep};
use crate::spot::{Errors, Spot};
use crate::tree::{child, made, set, text};
use crate::{age, names};

pub(crate) const RULES: Rules =
    Rules { default, prepare_create, prepare_update, validate, validate_status, row, warnings, ..NO_RULES };

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    podspec::warnings::claim_spec(&Spot::new(&new["spec"], "spec"), &mut found);
    found
}

fn default(claim: &mut Value) {
    if let Some(status) = made(claim, "status") {
        set(status, "phase", "Pending");
    }
    if let Some(spec) = child(claim, "spec") {
        default_spec(spec);
    }
}

/// Also of the claim templates of StatefulSets and of ephemeral volumes.
pub(crate) fn default_spec(spec: &mut Value) {
    set(spec, "volumeMode", "Filesystem");
}

fn prepare_create(claim: &mut Value) {
    claim["status"] = json!({"phase": "Pending"});
    drop_source(claim);
    both_sources(claim);
}

/// What is not offered goes: sources in other namespaces, and of old, all but claims and snapshots.
fn drop_source(claim: &mut Value) {
    let Some(spec) = child(claim, "spec") else { return };
    if !text(&spec["dataSourceRef"]["namespace"]).is_empty() {
        crate::tree::remove(spec, "dataSourceRef");
    }
    let source = &spec["dataSource"];
    let known = matches!(
        (text(&source["apiGroup"]), text(&source["kind"])),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    );
    if !known && spec["dataSourceRef"].is_null() {
        crate::tree::remove(spec, "dataSource");
    }
}

/// Clients that know one of the two sources only may write it back so.
fn prepare_update(new: &mut Value, old: &Value) {
    crate::kind::keep_status(new, old);
    if old["spec"]["dataSource"].is_null() && old["spec"]["dataSourceRef"].is_null() {
        drop_source(new);
    }
    both_sources(new);
}

/// Either of the two sources stands for both, but for sources in other namespaces.
fn both_sources(claim: &mut Value) {
    let Some(spec) = child(claim, "spec") else { return };
    let (source, reference) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    if source.is_object() && reference.is_null() {
        spec["dataSourceRef"] = source;
    } else if reference.is_object() && source.is_null() && text(&reference["namespace"]).is_empty() {
        spec["dataSource"] = reference;
    }
    for field in ["dataSource", "dataSourceRef"] {
        if spec[field].is_null() {
            crate::tree::remove(spec, field);
        }
    }
}

/// Adds what is wrong with a claim's spec.
pub(crate) fn validate_spec(spec: &Spot, errors: &mut Errors) {
    validate_spec_of(spec, false, errors);
}

/// The same; `lenient`: groups of sources have been accepted already.
fn validate_spec_of(spec: &Spot, lenient: bool, errors: &mut Errors) {
    validate_modes(spec, "at least 1 access mode is required", errors);
    spec.at("selector").selector(errors);
    let resources = spec.at("resources");
    let requests = resources.at("requests");
    let amount = requests.at("storage");
    let at = format!("{}[storage]", resources.path());
    match amount.quantity() {
        None => errors.push(Invalid::required(&at, "")),
        Some(asked) if asked.is_negative() || asked.is_zero() => {
            errors.push(Invalid::invalid(&at, amount.value, "must be greater than zero"));
        }
        Some(_) => {}
    }
    spec.at("storageClassName").named(names::subdomain, errors);
    spec.at("volumeMode").one_of(&["Block", "Filesystem"], errors);
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    for source in [&source, &reference].into_iter().filter(|s| s.is_set()) {
        data_source(source, lenient, errors);
    }
    if source.is_set() && reference.is_set() {
        let alone = reference.at("namespace").text().is_empty();
        let why = match alone {
            true => "must match dataSourceRef",
            false => "may not be specified when dataSourceRef.namespace is specified",
        };
        if !alone || !same_source(spec.value) {
            // Upstream shows the path, of which nothing is seen.
            errors.push(Invalid::shown(&spec.path(), "{}".into(), why));
        }
    }
    let class = spec.at("volumeAttributesClassName");
    class.named(names::subdomain, errors);
}

fn same_source(spec: &Value) -> bool {
    let field = |name: &str, field: &str| text(&spec[name][field]).to_owned();
    ["apiGroup", "kind", "name"].iter().all(|f| field("dataSource", f) == field("dataSourceRef", f))
}

/// Where the data of a new volume comes from.
fn data_source(source: &Spot, lenient: bool, errors: &mut Errors) {
    source.at("name").require(errors);
    source.at("kind").require(errors);
    let group = source.at("apiGroup").text();
    if group.is_empty() && source.at("kind").text() != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        source.fail_as(source.at("kind").text(), detail, errors);
    }
    if !group.is_empty() && !lenient {
        source.at("apiGroup").obey(names::subdomain, errors);
    }
}

const FIXED: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let grouped = |field: &str| old.is_some_and(|old| old["spec"][field]["apiGroup"].is_string());
    let lenient = grouped("dataSource") || grouped("dataSourceRef");
    validate_spec_of(&Spot::new(&new["spec"], "spec"), lenient, errors);
    let Some(old) = old else { return };
    let bound = new["status"]["phase"] == "Bound";
    let (mut evened, mut before) = (new["spec"].clone(), old["spec"].clone());
    if text(&old["spec"]["volumeName"]).is_empty() {
        keep(&mut before, &new["spec"], "volumeName");
    }
    if bound {
        if let Some(requests) = evened["resources"]["requests"].as_object_mut() {
            requests.insert("storage".into(), old["spec"]["resources"]["requests"]["storage"].clone());
        }
        keep(&mut evened, &old["spec"], "volumeAttributesClassName");
    }
    const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let class = |object: &Value| object["metadata"]["annotations"][CLASS].clone();
    let (is, was, named) = (class(new), class(old), &new["spec"]["storageClassName"]);
    let unnamed = old["spec"]["storageClassName"].is_null() && named.is_string();
    if unnamed && was == *named && (is.is_null() || is == was) {
        crate::tree::remove(&mut evened, "storageClassName");
    } else {
        if text(&is) != text(&was) {
            let at = format!("metadata.annotations[{CLASS}]");
            errors.push(Invalid::invalid(&at, &text(&is).into(), "field is immutable"));
        }
        if unnamed && (was.is_null() || was == *named) {
            keep(&mut evened, &old["spec"], "storageClassName");
        }
    }
    if evened != before {
        let changes = crate::diff::diff("io.k8s.api.core.v1.PersistentVolumeClaimSpec", &before, &evened);
        errors.push(Invalid::forbidden("spec", format!("{FIXED}\n{changes}")));
    }
    let size = |value: &Value| value.as_str().and_then(Quantity::parse).unwrap_or_default();
    let asked = size(&new["spec"]["resources"]["requests"]["storage"]);
    if asked < size(&old["spec"]["resources"]["requests"]["storage"])
        && asked <= size(&old["status"]["capacity"]["storage"])
    {
        let detail = "field can not be less than status.capacity";
        errors.push(Invalid::forbidden("spec.resources.requests.storage", detail));
    }
    if new["spec"]["volumeMode"] != old["spec"]["volumeMode"] {
        errors.push(Invalid::invalid("volumeMode", &new["spec"]["volumeMode"], "field is immutable"));
    }
    let attributes = |object: &Value| object["spec"]["volumeAttributesClassName"].clone();
    if attributes(new) != attributes(old) && old["status"]["currentVolumeAttributesClassName"].is_string() {
        let to = match attributes(new).as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let detail = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(Invalid::forbidden("spec.volumeAttributesClassName", detail));
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Vec<Invalid>) {
    let status = Spot::new(&new["status"], "status");
    let basic = |amount: &Spot, errors: &mut Errors| {
        let negative = amount.quantity().filter(|quantity| quantity.is_negative());
        if let Some(quantity) = negative {
            amount.fail_as(quantity.units(), "must be a valid resource quantity", errors);
        }
        negative.is_none()
    };
    for (_, amount) in status.map("capacity") {
        basic(&amount, errors);
    }
    let states = status.at("allocatedResourceStatuses");
    for (name, state) in status.map("allocatedResourceStatuses") {
        resource_key(name, &states, errors);
        let known = [
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ];
        if !known.contains(&state.text()) {
            // As upstream, which shows the resource.
            errors.push(Invalid::unsupported(&states.path(), &name.as_str().into(), &known));
        }
    }
    for (name, amount) in status.map("allocatedResources") {
        if resource_key(name, &status.at("allocatedResources"), errors) {
            basic(&amount, errors);
        }
    }
}

/// The name of a resource of which a claim is given more. True when it is good.
fn resource_key(name: &str, at: &Spot, errors: &mut Errors) -> bool {
    let before = errors.len();
    names::qualified(name).into_iter().for_each(|why| at.fail_as(name, why, errors));
    if errors.len() == before && !name.contains('/') && name != "storage" {
        errors.push(Invalid::unsupported(&at.path(), &name.into(), &["storage"]));
    }
    errors.len() == before
}

fn row(claim: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&claim["spec"], &claim["status"]);
    let terminating = claim["metadata"]["deletionTimestamp"].is_string();
    let bound = !text(&spec["volumeName"]).is_empty();
    let or = |value: &Value, none: &str| Value::from(value.as_str().unwrap_or(none));
    vec![
        claim["metadata"]["name"].clone(),
        if terminating { "Terminating".into() } else { or(&status["phase"], "") },
        or(&spec["volumeName"], ""),
        if bound { or(&status["capacity"]["storage"], "0") } else { "".into() },
        if bound { access_modes(&status["accessModes"]).into() } else { "".into() },
        class(claim).into(),
        or(&spec["volumeAttributesClassName"], "<unset>"),
        age::since(&claim["metadata"]["creationTimestamp"], now).into(),
        or(&spec["volumeMode"], "<unset>"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::prepare_update;
    use crate::testing::Case;

    #[test]
    fn claim() {
        let case = Case::new("v1", "PersistentVolumeClaim");
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        let mut full = spec.clone();
        full["volumeMode"] = "Filesystem".into();
        case.defaulted(json!({"spec": spec}), json!({"spec": full, "status": {"phase": "Pending"}}));
        case.invalid(
            json!({"spec": {"accessModes": ["Some"]}}),
            &[
                "spec.accessModes: Unsupported value: \"Some\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.resources[storage]: Required value",
            ],
        );
        let mut other = spec.clone();
        other["accessModes"] = json!(["ReadWriteMany"]);
        let source = json!({"kind": "PersistentVolumeClaim", "name": "a"});
        let stored = json!({"spec": {"dataSource": source, "dataSourceRef": source}});
        let mut written = json!({"spec": {"dataSource": source}});
        prepare_update(&mut written, &stored);
        assert_eq!(written, stored, "what an old client leaves out stays");
        case.update(
            json!({"spec": spec}),
            json!({"spec": other}),
            &[
                "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n@@ -1,6 +1,6 @@\n {\n  \"AccessModes\": [\n-  \"ReadWriteOnce\"\n+  \"ReadWriteMany\"\n  ],\n  \"Selector\": null,\n  \"Resources\": {\n",
            ],
        );
        let mut bound = spec.clone();
        bound["volumeName"] = "pv".into();
        bound["storageClassName"] = "fast".into();
        case.row(
            json!({"spec": bound, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}}),
            json!(["x", "Bound", "pv", "1Gi", "RWO,ROX", "fast", "<unset>", "10s", "<unset>"]),
        );
    }
}
