//! `v1/Namespace`: has a finalizer of its own in `spec`, emptied through the `finalize` subresource.

use object::Invalid;
use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules, keep};
use crate::{cells, names};

pub(crate) const RULES: Rules =
    Rules { default, prepare_create, prepare_update, validate, name: names::label, row, ..NO_RULES };

/// Every namespace has its name as a label (KEP-2161).
fn default(namespace: &mut Value) {
    if let Some(name) = namespace["metadata"]["name"].as_str().filter(|n| !n.is_empty()).map(str::to_owned) {
        namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.into();
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
