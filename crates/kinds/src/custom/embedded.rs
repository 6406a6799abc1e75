//! Resources within custom resources (`x-kubernetes-embedded-resource`): they say what they are, and their metadata is checked like any.

use object::Invalid;
use schema::structural::Node;
use serde_json::Value;

use crate::tree::text;
use crate::{metadata, names};

/// Adds the errors of resources below the root.
pub(crate) fn validate(value: &Value, node: &Node, path: &str, errors: &mut Vec<Invalid>) {
    match value {
        Value::Object(entries) => {
            if node.embedded {
                resource(value, path, errors);
            }
            for (key, value) in entries {
                if let Some(below) = node.properties.get(key) {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    validate(value, below, &path, errors);
                } else if let Some(below) = node.entry() {
                    validate(value, below, &format!("{path}[{key}]"), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    validate(item, below, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn resource(value: &Value, path: &str, errors: &mut Vec<Invalid>) {
    match value["apiVersion"].as_str() {
        None => errors.push(Invalid::required(&format!("{path}.apiVersion"), "")),
        Some("") => errors.push(Invalid::invalid(&format!("{path}.apiVersion"), &"".into(), "must not be empty")),
        Some(version) if version.matches('/').count() > 1 => {
            let detail = format!("unexpected GroupVersion string: {version}");
            errors.push(Invalid::invalid(&format!("{path}.apiVersion"), &version.into(), detail));
        }
        Some(_) => {}
    }
    match value["kind"].as_str() {
        None => errors.push(Invalid::required(&format!("{path}.kind"), "")),
        Some("") => errors.push(Invalid::invalid(&format!("{path}.kind"), &"".into(), "must not be empty")),
        Some(kind) => {
            if let Some(why) = names::joined(names::label_1035(&kind.to_lowercase())) {
                let detail = format!("may have mixed case, but should otherwise match: {why}");
                errors.push(Invalid::invalid(&format!("{path}.kind"), &kind.into(), detail));
            }
        }
    }
    let own = &value["metadata"];
    for (field, rule) in [("name", names::path_segment as names::Rule), ("namespace", names::label)] {
        let name = text(&own[field]);
        if !name.is_empty()
            && let Some(why) = names::joined(rule(name))
        {
            errors.push(Invalid::invalid(&format!("{path}.metadata.{field}"), &name.into(), why));
        }
    }
    metadata::labels(&own["labels"], &format!("{path}.metadata.labels"), errors);
    metadata::annotations(&own["annotations"], &format!("{path}.metadata.annotations"), errors);
}
