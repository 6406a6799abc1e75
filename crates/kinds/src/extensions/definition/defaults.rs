//! Defaults are values of their schema: pruned, valid, and in accord with its rules.

use std::sync::Arc;

use object::Invalid;
use schema::structural::{self, Node};
use serde_json::Value;

use crate::custom;
use crate::tree::entries;

/// Adds what is wrong with the defaults of a structural schema.
pub(super) fn check(schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    node(schema, path, true, errors);
}

fn node(schema: &Value, path: &str, root: bool, errors: &mut Vec<Invalid>) {
    let default = &schema["default"];
    if !default.is_null() {
        value(default, schema, &format!("{path}.default"), root, errors);
    }
    // Of what stands below `additionalProperties` defaults are forbidden where they would mean something.
    if schema["items"].is_object() {
        node(&schema["items"], &format!("{path}.items"), false, errors);
    }
    for (name, below) in entries(&schema["properties"]) {
        node(below, &format!("{path}.properties[{name}]"), false, errors);
    }
}

fn value(default: &Value, schema: &Value, at: &str, root: bool, errors: &mut Vec<Invalid>) {
    let mut node = Node::parse(schema);
    node.embedded |= root;
    let mut pruned = default.clone();
    if !structural::prune_value(&mut pruned, &node).is_empty() {
        errors.push(Invalid::invalid(at, default, "must not have unknown fields"));
    }
    let before = errors.len();
    custom::embedded::validate(default, &node, at, errors);
    if errors.len() > before {
        return;
    }
    let joined = |field: &str| match field {
        "" | "<nil>" => at.to_owned(),
        field if field.starts_with(['[', '.']) => format!("{at}{field}"),
        field => format!("{at}.{field}"),
    };
    let placed = |mut error: Invalid| {
        error.field = joined(&error.field);
        error
    };
    // As upstream: that a value is a number or text is not asked of a default.
    let mut loose = node.clone();
    loosen(&mut loose);
    errors.extend(structural::check(default, &loose, None).into_iter().map(placed));
    if errors.len() > before {
        return;
    }
    for old in [Some(default), None] {
        let mut found = Vec::new();
        custom::check_rules(default, old, &node, root, &mut found);
        if !found.is_empty() {
            errors.extend(found.into_iter().map(placed));
            return;
        }
    }
}

fn loosen(node: &mut Node) {
    node.int_or_string = false;
    let entry = match &mut node.additional {
        Some(structural::Additional::Schema(entry)) => Some(entry),
        _ => None,
    };
    let below = node.properties.values_mut().chain(&mut node.items).chain(entry);
    below.for_each(|below| loosen(Arc::make_mut(below)));
}
