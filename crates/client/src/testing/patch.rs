//! Patches of the server in memory.

use object::Status;
use serde_json::Value;

use crate::{Patch, Result};

/// Keys by which lists of maps are merged, in the order in which they are looked for.
const MERGE_KEYS: [&str; 8] = ["uid", "name", "type", "containerPort", "port", "ip", "mountPath", "key"];

/// Lists that are replaced as a whole although their items have names.
const ATOMIC: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

/// Applies a patch to a tree.
pub(super) fn apply(target: &mut Value, patch: &Patch) -> Result<()> {
    match patch {
        Patch::Merge(patch) => object::patch::merge(target, patch),
        Patch::Strategic(patch) | Patch::Apply(patch, _) => strategic_merge(target, patch),
        Patch::Json(operations) => {
            let operations = operations.as_array().ok_or_else(|| Status::bad_request("a JSON patch is a list"))?;
            for operation in operations {
                json_operation(target, operation)?;
            }
        }
    }
    Ok(())
}

/// A strategic merge without a schema: lists of maps merge by the first usual key that all their items have, other lists
/// are replaced; `$patch: delete` and `replace`, `$deleteFromPrimitiveList/` work.
pub fn strategic_merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if fields.get("$patch").and_then(Value::as_str) == Some("replace") {
        let mut fields = fields.clone();
        fields.remove("$patch");
        *target = Value::Object(fields);
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Default::default());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in fields {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(kept)), Some(gone)) = (target.get_mut(list), value.as_array()) {
                kept.retain(|item| !gone.contains(item));
            }
        } else if name.starts_with('$') {
            continue;
        } else if value.is_null() {
            target.remove(name);
        } else if let Value::Array(items) = value {
            merge_list(target.entry(name.clone()).or_insert(Value::Null), name, items);
        } else {
            strategic_merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn merge_list(target: &mut Value, name: &str, items: &[Value]) {
    if name == "finalizers" {
        let mut all = target.as_array().cloned().unwrap_or_default();
        all.extend(items.iter().filter(|item| !target.as_array().is_some_and(|old| old.contains(item))).cloned());
        *target = Value::Array(all);
        return;
    }
    if items.iter().any(|item| item["$patch"] == "replace") {
        *target = Value::Array(items.iter().filter(|item| item["$patch"] != "replace").cloned().collect());
        return;
    }
    if ATOMIC.contains(&name) {
        *target = Value::Array(items.to_vec());
        return;
    }
    let key = MERGE_KEYS.iter().find(|key| !items.is_empty() && items.iter().all(|item| item.get(**key).is_some()));
    let Some(key) = key else {
        *target = Value::Array(items.to_vec());
        return;
    };
    let mut merged = target.as_array().cloned().unwrap_or_default();
    for item in items {
        let at = merged.iter().position(|old| old[*key] == item[*key]);
        match (item["$patch"].as_str(), at) {
            (Some("delete"), Some(at)) => drop(merged.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => strategic_merge(&mut merged[at], item),
            (_, None) => merged.push(item.clone()),
        }
    }
    *target = Value::Array(merged);
}

fn json_operation(target: &mut Value, operation: &Value) -> Result<()> {
    let path = operation["path"].as_str().unwrap_or_default();
    let broken = || Status::bad_request(format!("the JSON patch operation {operation} does not apply"));
    let (parent, last) = path.rsplit_once('/').ok_or_else(broken)?;
    let last = last.replace("~1", "/").replace("~0", "~");
    if operation["op"] == "test" {
        let equal = target.pointer(path) == Some(&operation["value"]);
        return if equal { Ok(()) } else { Err(Status::new(object::Reason::Invalid, "testing value failed")) };
    }
    let value = operation["value"].clone();
    match (operation["op"].as_str(), target.pointer_mut(parent).ok_or_else(broken)?) {
        (Some("add" | "replace"), Value::Object(map)) => drop(map.insert(last, value)),
        (Some("remove"), Value::Object(map)) => drop(map.remove(&last).ok_or_else(broken)?),
        (Some("add"), Value::Array(list)) if last == "-" => list.push(value),
        (Some(op), Value::Array(list)) => {
            let index: usize = last.parse().map_err(|_| broken())?;
            match op {
                "add" if index <= list.len() => list.insert(index, value),
                "replace" if index < list.len() => list[index] = value,
                "remove" if index < list.len() => drop(list.remove(index)),
                _ => return Err(broken()),
            }
        }
        _ => return Err(broken()),
    }
    Ok(())
}
