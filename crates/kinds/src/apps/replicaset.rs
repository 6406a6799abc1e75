//! `apps/v1 ReplicaSet` and `v1/ReplicationController`.

use object::Invalid;
use serde_json::Value;

use crate::apps::{validate_template, validate_workload};
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules};
use crate::{age, cells, checks};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };
pub(crate) const CONTROLLER_RULES: Rules =
    Rules { default: default_controller, validate: validate_controller, row, ..NO_RULES };

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

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    validate_workload(new, "deployment", "ReplicaSet", errors);
    checks::immutable(new, old, &["spec.selector"], errors);
}

fn validate_controller(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    checks::non_negative(&new["spec"], "spec", &["minReadySeconds"], errors);
    let selector = &new["spec"]["selector"];
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(Invalid::required("spec.selector", ""));
    }
    checks::non_negative(&new["spec"], "spec", &["replicas"], errors);
    if new["spec"]["template"].is_null() {
        errors.push(Invalid::required("spec.template", ""));
        return;
    }
    let labels = &new["spec"]["template"]["metadata"]["labels"];
    if selector.as_object().into_iter().flatten().any(|(k, v)| labels.get(k) != Some(v)) {
        errors.push(Invalid::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
    validate_template(&new["spec"]["template"], "spec.template", "ReplicationController", errors);
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
