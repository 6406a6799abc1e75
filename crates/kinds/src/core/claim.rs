//! `v1/PersistentVolumeClaim`: immutable once made, but for growing.

use object::{Invalid, Quantity};
use serde_json::{Value, json};

use crate::core::podspec;
use crate::core::volume::{access_modes, class, validate_modes};
use crate::kind::{NO_RULES, Rules, keep};
use crate::spot::{Errors, Spot};
use crate::tree::{child, made, set, text};
use crate::{age, names};

pub(crate) const RULES: Rules = Rules { default, prepare_create, prepare_update, validate, row, warnings, ..NO_RULES };

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
    both_sources(claim);
}

/// Clients that know one of the two sources only may write it back so.
fn prepare_update(new: &mut Value, old: &Value) {
    crate::kind::keep_status(new, old);
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
        data_source(source, errors);
    }
    if source.is_set() && reference.is_set() && reference.at("namespace").text().is_empty() && !same_source(spec.value)
    {
        // Upstream shows the path, of which nothing is seen.
        spec.fail_as(json!({}), "must match dataSourceRef", errors);
    }
    let class = spec.at("volumeAttributesClassName");
    class.named(names::subdomain, errors);
}

fn same_source(spec: &Value) -> bool {
    let field = |name: &str, field: &str| text(&spec[name][field]).to_owned();
    ["apiGroup", "kind", "name"].iter().all(|f| field("dataSource", f) == field("dataSourceRef", f))
}

/// Where the data of a new volume comes from.
fn data_source(source: &Spot, errors: &mut Errors) {
    source.at("name").require(errors);
    source.at("kind").require(errors);
    let group = source.at("apiGroup").text();
    if group.is_empty() && source.at("kind").text() != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        source.fail_as(source.at("kind").text(), detail, errors);
    }
    if !group.is_empty() {
        source.at("apiGroup").obey(names::subdomain, errors);
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    validate_spec(&Spot::new(&new["spec"], "spec"), errors);
    let Some(old) = old else { return };
    let bound = new["status"]["phase"] == "Bound";
    let mut evened = new["spec"].clone();
    if text(&old["spec"]["volumeName"]).is_empty() {
        keep(&mut evened, &old["spec"], "volumeName");
    }
    if bound {
        if let Some(requests) = evened["resources"]["requests"].as_object_mut() {
            requests.insert("storage".into(), old["spec"]["resources"]["requests"]["storage"].clone());
        }
        keep(&mut evened, &old["spec"], "volumeAttributesClassName");
    }
    if old["spec"]["storageClassName"].is_null() {
        keep(&mut evened, &old["spec"], "storageClassName");
    }
    if evened != old["spec"] {
        let detail =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(Invalid::forbidden("spec", detail));
    }
    let size = |value: &Value| value.as_str().and_then(Quantity::parse).unwrap_or_default();
    let asked = size(&new["spec"]["resources"]["requests"]["storage"]);
    if asked < size(&old["spec"]["resources"]["requests"]["storage"])
        && asked <= size(&old["status"]["capacity"]["storage"])
    {
        let detail = "field can not be less than status.capacity";
        errors.push(Invalid::forbidden("spec.resources.requests.storage", detail));
    }
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
                "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
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
