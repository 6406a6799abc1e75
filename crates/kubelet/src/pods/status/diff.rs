//! From an old status and a new one to the smallest patch, or none.
//!
//! The patch is a strategic merge: conditions are merged by type, so that others' conditions are never touched;
//! container statuses are replaced as whole lists.

use serde_json::{Map, Value, json};

use super::conditions::OWNED;
use crate::api::{Condition, PodStatus, strip_nulls};

/// What to send to `pods/status`; `None` when nothing changed.
pub(crate) fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let before = fields(old);
    let after = fields(new);
    let mut status = Map::new();
    for (key, value) in &after {
        if key != "conditions" && before.get(key) != Some(value) {
            status.insert(key.clone(), replacing(key, value, before.contains_key(key)));
        }
    }
    for key in before.keys().filter(|k| *k != "conditions" && !after.contains_key(*k)) {
        status.insert(key.clone(), Value::Null);
    }
    let conditions: Vec<Value> = new.conditions.iter().filter_map(|c| condition(old, c)).collect();
    if !conditions.is_empty() {
        status.insert("conditions".into(), Value::Array(conditions));
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

fn fields(status: &PodStatus) -> Map<String, Value> {
    let mut tree = serde_json::to_value(status).unwrap_or_default();
    strip_nulls(&mut tree);
    match tree {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// `podIPs` would be merged by address: a changed address must replace the list.
fn replacing(key: &str, value: &Value, existed: bool) -> Value {
    match value {
        Value::Array(items) if existed && key == "podIPs" => {
            let mut out = vec![json!({"$patch": "replace"})];
            out.extend(items.iter().cloned());
            Value::Array(out)
        }
        value => value.clone(),
    }
}

fn condition(old: &PodStatus, new: &Condition) -> Option<Value> {
    if !OWNED.contains(&new.r#type.as_str()) {
        return None;
    }
    let before = old.condition(&new.r#type);
    if before == Some(new) {
        return None;
    }
    let mut tree = serde_json::to_value(new).unwrap_or_default();
    strip_nulls(&mut tree);
    if let Some(before) = before {
        for (key, had, has) in [("reason", &before.reason, &new.reason), ("message", &before.message, &new.message)] {
            if !had.is_empty() && has.is_empty() {
                tree[key] = Value::Null;
            }
        }
    }
    Some(tree)
}
