//! `v1/Namespace`: has a finalizer of its own in `spec`, emptied through the `finalize` subresource.

use object::Invalid;
use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules, keep};
use crate::{cells, names};

pub(crate) const RULES: Rules =
    Rules { default, prepare_create, prepare_update, validate, validate_status, name: names::label, row, ..NO_RULES };

/// Whether it goes away is not for its status to say.
fn validate_status(new: &Value, _: &Value, errors: &mut Vec<Invalid>) {
    let phase = new["status"]["phase"].as_str().unwrap_or("");
    let (wanted, when) = match new["metadata"]["deletionTimestamp"].is_string() {
        false => ("Active", "empty"),
        true => ("Terminating", "not empty"),
    };
    if phase != wanted {
        let detail = format!("may only be '{wanted}' if `deletionTimestamp` is {when}");
        errors.push(Invalid::invalid("status.Phase", &phase.into(), detail));
    }
}

/// Every namespace has its name as a label (KEP-2161).
fn default(namespace: &mut Value) {
    if let Some(name) = namespace["metadata"]["name"].as_str().filter(|n| !n.is_empty()).map(str::to_owned) {
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
    }
    if let Some(status) = crate::tree::made(namespace, "status") {
        crate::tree::set(status, "phase", "Active");
    }
}

fn prepare_create(new: &mut Value) {
    let mut finalizers = new["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|f| f == "kubernetes") {
        finalizers.push("kubernetes".into());
    }
    new["spec"] = json!({"finalizers": finalizers});
    new["status"] = json!({"phase": "Active"});
}

fn prepare_update(new: &mut Value, old: &Value) {
    keep(new, old, "spec");
    keep(new, old, "status");
}

fn validate(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    for finalizer in new["spec"]["finalizers"].as_array().into_iter().flatten() {
        crate::metadata::validate_finalizer(finalizer, "spec.finalizers", errors);
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    cells::row(object, now, &[".metadata.name", ".status.phase", "@age"])
}
