//! The merge patch (RFC 7386) that makes one tree another.

use serde_json::{Map, Value};

/// The patch; `None` when nothing differs.
pub fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(before), Value::Object(after)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        match before.get(key) {
            Some(old) => drop(merge_diff(old, value).map(|change| patch.insert(key.clone(), change))),
            None => drop(patch.insert(key.clone(), value.clone())),
        }
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_patch_makes_the_one_the_other() {
        let (old, new) =
            (json!({"a": 1, "b": {"c": [1], "d": 2}, "e": 3}), json!({"a": 1, "b": {"c": [1, 2]}, "f": {}}));
        let patch = merge_diff(&old, &new).unwrap();
        assert_eq!(patch, json!({"b": {"c": [1, 2], "d": null}, "e": null, "f": {}}));
        let mut patched = old;
        object::patch::merge(&mut patched, &patch);
        assert_eq!(patched, new);
        assert_eq!(merge_diff(&new, &new), None);
    }
}
