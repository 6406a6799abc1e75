//! Defaulting: what is absent, or null where null is no value, becomes the schema's default. Idempotent.

use serde_json::Value;

use super::Node;

fn is_void(value: &Value, node: Option<&Node>) -> bool {
    value.is_null() && node.is_some_and(|n| !n.nullable)
}

/// Fills in defaults at and below the value.
pub fn default(value: &mut Value, node: &Node) {
    match value {
        Value::Object(entries) => {
            for (key, below) in &node.properties {
                let Some(wanted) = &below.default else { continue };
                if entries.get(key).is_none_or(|value| is_void(value, Some(&**below))) {
                    entries.insert(key.clone(), wanted.clone());
                }
            }
            for (key, value) in entries.iter_mut() {
                match node.field(key) {
                    Some(below) => default(value, below),
                    None => replace(value, node.entry()),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, node.items.as_deref())),
        _ => {}
    }
}

fn replace(value: &mut Value, node: Option<&Node>) {
    let Some(node) = node else { return };
    if let Some(wanted) = node.default.as_ref().filter(|_| is_void(value, Some(node))) {
        *value = wanted.clone();
    }
    default(value, node);
}

/// Drops nulls of fields for which null is no value and that have no default.
pub fn drop_nulls(value: &mut Value, node: &Node) {
    match value {
        Value::Object(entries) => entries.retain(|key, value| {
            let Some(below) = node.field(key).or(node.entry()) else { return true };
            if is_void(value, Some(below)) && below.default.is_none() {
                return false;
            }
            drop_nulls(value, below);
            true
        }),
        Value::Array(items) => {
            if let Some(below) = &node.items {
                items.iter_mut().for_each(|item| drop_nulls(item, below));
            }
        }
        _ => {}
    }
}
