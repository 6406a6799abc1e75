//! `apps/v1 ReplicaSet` and `v1/ReplicationController`.

use object::Invalid;
use serde_json::Value;

use crate::apps::{validate_counts, validate_selected_template, validate_selector, validate_template};
use crate::core::podspec;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::{age, cells, checks};

pub(crate) const RULES: Rules =
    Rules { default, validate, validate_status, row, warnings: podspec::warnings::workload, ..NO_RULES };
pub(crate) const CONTROLLER_RULES: Rules = Rules {
    default: default_controller,
    validate: validate_controller,
    validate_status,
    row,
    warnings: |new, old| if old.is_some() { Vec::new() } else { podspec::warnings::workload(new, old) },
    name: crate::names::subdomain_in_bytes,
    ..NO_RULES
};

fn default(set: &mut Value) {
    if set["spec"].get("replicas").is_none() {
        set["spec"]["replicas"] = 1.into();
    }
    default_template(&mut set["spec"]["template"]);
}

/// A replication controller selects, without a word, what its template makes.
fn default_controller(controller: &mut Value) {
    default(controller);
    let labels = cells::at(controller, "spec.template.metadata.labels").clone();
    if !labels.is_object() {
        return;
    }
    for owner in ["spec", "metadata"] {
        let field = if owner == "spec" { "selector" } else { "labels" };
        if controller[owner].get(field).and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
            controller[owner][field] = labels.clone();
        }
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    spec.at("replicas").not_negative(errors);
    spec.at("minReadySeconds").not_negative(errors);
    // Upstream says so.
    validate_selector(&spec, "deployment", errors);
    validate_selected_template(&spec, "ReplicaSet", errors);
    checks::immutable(new, old, &["spec.selector"], errors);
}

fn validate_controller(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    spec.at("minReadySeconds").not_negative(errors);
    let (selector, template) = (spec.at("selector"), spec.at("template"));
    selector.require(errors);
    spec.at("replicas").not_negative(errors);
    if !template.is_set() {
        template.missing("", errors);
        return;
    }
    let labels = &template.value["metadata"]["labels"];
    if selector.value.as_object().into_iter().flatten().any(|(k, v)| labels.get(k) != Some(v)) {
        let detail = "`selector` does not match template `labels`";
        errors.push(Invalid::invalid("spec.template.metadata.labels", labels, detail));
    }
    validate_template(&template, "ReplicationController", errors);
}

fn validate_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    let counts = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    validate_counts(&status, &counts, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
    let available = status.at("availableReplicas");
    if available.count() > status.at("readyReplicas").count() {
        available.fail("cannot be greater than readyReplicas", errors);
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let number = |field: &str| Value::from(object["status"][field].as_i64().unwrap_or(0));
    let mut row = vec![
        object["metadata"]["name"].clone(),
        object["spec"]["replicas"].as_i64().unwrap_or(0).into(),
        number("replicas"),
        number("readyReplicas"),
        age::since(&object["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(object));
    row
}
