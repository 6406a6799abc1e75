//! Pod templates: when two are the same, and what they are called.

use serde_json::Value;

use crate::hash;

/// The label that tells the pods of one template from those of another.
pub(super) const HASH_LABEL: &str = "pod-template-hash";

/// The template without what is empty or only ours, for comparison.
pub(super) fn canonical(template: &Value) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH_LABEL);
    }
    if let Some(metadata) = template["metadata"].as_object_mut() {
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    strip(&mut template);
    template
}

/// Takes out nulls and empty lists, which mean the same as nothing at all.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(strip);
            map.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// The template's name: stable over time, other for each collision count.
pub(super) fn name(template: &Value, collisions: Option<i64>) -> String {
    hash::label(&canonical(template), collisions)
}
