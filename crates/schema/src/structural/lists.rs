//! Lists that are sets or maps have no item twice.

use std::collections::HashSet;

use object::Invalid;
use serde_json::{Map, Value};

use super::Node;
use crate::types::ListType;

/// Adds an error for each item that a set or map has twice.
pub fn duplicates(value: &Value, node: &Node, path: &str, errors: &mut Vec<Invalid>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                if let Some(below) = node.properties.get(key) {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    duplicates(value, below, &path, errors);
                } else if let Some(below) = node.entry() {
                    duplicates(value, below, &format!("{path}[{key}]"), errors);
                }
            }
        }
        Value::Array(items) => {
            twice(items, node, path, errors);
            if let Some(below) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    duplicates(item, below, &format!("{path}[{index}]"), errors);
                }
            }
        }
        _ => {}
    }
}

fn twice(items: &[Value], node: &Node, path: &str, errors: &mut Vec<Invalid>) {
    let (mut seen, mut told) = (HashSet::new(), HashSet::new());
    for (index, item) in items.iter().enumerate() {
        let shown = match node.list {
            Some(ListType::Set) => item.clone(),
            Some(ListType::Map) => Value::Object(keys_of(item, node)),
            _ => return,
        };
        // What is there three times is told once.
        if !seen.insert(shown.to_string()) && told.insert(shown.to_string()) {
            errors.push(Invalid::duplicate(&format!("{path}[{index}]"), &shown));
        }
    }
}

/// True when two items of a list map have the same keys.
pub fn same_keys(one: &Value, other: &Value, node: &Node) -> bool {
    keys_of(one, node) == keys_of(other, node)
}

/// The key fields of a list map's item, with their defaults.
pub(super) fn keys_of(item: &Value, node: &Node) -> Map<String, Value> {
    let default = |key: &str| node.items.as_ref().and_then(|i| i.properties.get(key)).and_then(|p| p.default.clone());
    let key = |key: &String| Some((key.clone(), item.get(key).cloned().or_else(|| default(key))?));
    node.keys.iter().filter_map(key).collect()
}
