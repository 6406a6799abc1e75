//! Reading a custom resource: its metadata by the built-in type, the rest by its schema.

use serde_json::Value;

use super::{Node, drop_nulls, prune};
use crate::decode::{DecodeError, Problem, decode};
use crate::types::Table;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Decodes a tree as a custom resource with the schema `root`: metadata by its type of `table`, the rest is pruned. Nulls go where null
/// is no value.
pub fn decode_custom(
    table: &Table,
    root: &Node,
    mut value: Value,
    problems: &mut Vec<Problem>,
) -> Result<Value, DecodeError> {
    metadata(table, &mut value, "", problems)?;
    problems.extend(prune(&mut value, root).into_iter().map(Problem::Unknown));
    drop_nulls(&mut value, root);
    whole_numbers(&mut value);
    embedded(table, &mut value, root, "", problems)?;
    Ok(value)
}

/// `1.0` is `1`, as Go writes it.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(n) if n.is_f64() => {
            // Above that, Go writes an exponent.
            if let Some(whole) = n.as_f64().filter(|n| *n == n.trunc() && n.abs() < 9e18) {
                *value = (whole as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(entries) => entries.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// Decodes the metadata of a resource at `path`.
fn metadata(table: &Table, value: &mut Value, path: &str, problems: &mut Vec<Problem>) -> Result<(), DecodeError> {
    let Some(own) = value.get_mut("metadata") else { return Ok(()) };
    let mut found = Vec::new();
    let decoded = decode(table, OBJECT_META, own.take(), &mut found)?;
    *own = decoded;
    let prefix = if path.is_empty() { "metadata".to_owned() } else { format!("{path}.metadata") };
    problems.extend(found.into_iter().map(|problem| match problem {
        Problem::Unknown(field) => Problem::Unknown(format!("{prefix}.{field}")),
        Problem::Duplicate(field) => Problem::Duplicate(format!("{prefix}.{field}")),
        other => other,
    }));
    Ok(())
}

/// Decodes the metadata of resources below the root.
fn embedded(
    table: &Table,
    value: &mut Value,
    node: &Node,
    path: &str,
    problems: &mut Vec<Problem>,
) -> Result<(), DecodeError> {
    if !path.is_empty() && node.embedded && value.is_object() {
        metadata(table, value, path, problems)?;
    }
    match value {
        Value::Object(entries) => entries.iter_mut().try_for_each(|(key, value)| {
            let Some(below) = node.field(key).or(node.entry()) else { return Ok(()) };
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            embedded(table, value, below, &path, problems)
        }),
        Value::Array(items) => items.iter_mut().enumerate().try_for_each(|(index, item)| {
            let Some(below) = &node.items else { return Ok(()) };
            embedded(table, item, below, &format!("{path}[{index}]"), problems)
        }),
        _ => Ok(()),
    }
}
