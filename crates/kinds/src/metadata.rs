//! Checks of `metadata`, the same for every kind (apimachinery's `ValidateObjectMeta` and its update twin).

use object::Invalid;
use serde_json::Value;

use crate::kind::Kind;
use crate::names;

/// All annotations together.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;

/// Adds the field errors of `new`'s metadata; `old` is there for an update.
pub fn validate_metadata(kind: &Kind, new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let metadata = &new["metadata"];
    let name = metadata["name"].as_str().unwrap_or("");
    if let Some(generate) = metadata["generateName"].as_str().filter(|g| !g.is_empty()) {
        // What follows is at least five characters; a final dash or dot is fine.
        let stem = generate.trim_end_matches(['-', '.']);
        if let Some(why) = (kind.rules.name)(if stem.is_empty() { generate } else { stem }) {
            errors.push(Invalid::invalid("metadata.generateName", &metadata["generateName"], why));
        }
    }
    if name.is_empty() {
        errors.push(Invalid::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = (kind.rules.name)(name).or_else(|| names::path_segment(name)) {
        errors.push(Invalid::invalid("metadata.name", &metadata["name"], why));
    }
    let namespace = metadata["namespace"].as_str().unwrap_or("");
    match (kind.namespaced(), namespace.is_empty()) {
        (true, true) => errors.push(Invalid::required("metadata.namespace", "")),
        (true, false) => {
            if let Some(why) = names::label(namespace) {
                errors.push(Invalid::invalid("metadata.namespace", &metadata["namespace"], why));
            }
        }
        (false, false) => errors.push(Invalid::forbidden("metadata.namespace", "not allowed on this type")),
        (false, true) => {}
    }
    labels(&metadata["labels"], "metadata.labels", errors);
    annotations(&metadata["annotations"], "metadata.annotations", errors);
    for (index, finalizer) in metadata["finalizers"].as_array().into_iter().flatten().enumerate() {
        if let Some(why) = names::qualified(finalizer.as_str().unwrap_or("")) {
            errors.push(Invalid::invalid(&format!("metadata.finalizers[{index}]"), finalizer, why));
        }
    }
    owners(&metadata["ownerReferences"], errors);
    if let Some(old) = old {
        unchanged(metadata, &old["metadata"], errors);
    }
}

/// Checks a label map at `path`.
pub(crate) fn labels(labels: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if let Some(why) = names::qualified(key) {
            errors.push(Invalid::invalid(path, &key.as_str().into(), why));
        }
        if let Some(why) = names::label_value(value.as_str().unwrap_or("")) {
            errors.push(Invalid::invalid(path, value, why));
        }
    }
}

fn annotations(annotations: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        // Upstream checks annotation keys in lower case.
        if let Some(why) = names::qualified(&key.to_lowercase()) {
            errors.push(Invalid::invalid(path, &key.as_str().into(), why));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MOST_ANNOTATION_BYTES {
        errors.push(Invalid::too_long(path, MOST_ANNOTATION_BYTES));
    }
}

fn owners(owners: &Value, errors: &mut Vec<Invalid>) {
    let mut controllers = Vec::new();
    for (index, owner) in owners.as_array().into_iter().flatten().enumerate() {
        let path = format!("metadata.ownerReferences[{index}]");
        for (field, what) in [("apiVersion", "version"), ("kind", "kind"), ("name", "name"), ("uid", "uid")] {
            if owner[field].as_str().unwrap_or("").is_empty() {
                let detail = if field == "apiVersion" {
                    "version must not be empty".into()
                } else {
                    format!("{what} must not be empty")
                };
                errors.push(Invalid::invalid(&format!("{path}.{field}"), &"".into(), detail));
            }
        }
        if owner["controller"] == true {
            controllers.push(owner["name"].as_str().unwrap_or(""));
        }
    }
    if let [first, second, ..] = controllers[..] {
        let detail = format!(
            "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        errors.push(Invalid::invalid("metadata.ownerReferences", owners, detail));
    }
}

fn unchanged(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    for field in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if new[field] != old[field] {
            errors.push(Invalid::invalid(&format!("metadata.{field}"), &new[field], "field is immutable"));
        }
    }
    if old["deletionTimestamp"].is_string() {
        let had = |f: &Value| old["finalizers"].as_array().is_some_and(|o| o.contains(f));
        let added: Vec<&str> =
            new["finalizers"].as_array().into_iter().flatten().filter(|f| !had(f)).filter_map(Value::as_str).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
            );
            errors.push(Invalid::forbidden("metadata.finalizers", detail));
        }
    }
}
