//! Times that a write sets where the user does not.

use kinds::Kind;
use serde_json::Value;

/// Since when a device is tainted, and a volume is in its phase.
pub(super) fn set(kind: &Kind, new: &mut Value, old: Option<&Value>) {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("resource.k8s.io", "ResourceSlice") => taints(new),
        ("", "PersistentVolume") => {
            let phase = |volume: &Value| volume["status"]["phase"].clone();
            let time = |volume: &Value| volume["status"]["lastPhaseTransitionTime"].clone();
            let given = time(new).is_string() && old.is_none_or(|old| time(old) != time(new));
            let same = old.is_some_and(|old| phase(old) == phase(new));
            if let Some(old) = old.filter(|old| same && time(new).is_null() && time(old).is_string()) {
                new["status"]["lastPhaseTransitionTime"] = time(old);
            }
            if !given && !same && (new["status"].is_object() || old.is_some()) {
                new["status"]["lastPhaseTransitionTime"] = base::time::now().into();
            }
        }
        _ => {}
    }
}

fn taints(slice: &mut Value) {
    let lists = slice["spec"].get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten();
    for taint in lists.filter_map(|device| device.get_mut("taints")?.as_array_mut()).flatten() {
        if taint["timeAdded"].is_null() {
            taint["timeAdded"] = base::time::now().into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_set_once() {
        let volume = kinds::table().by_gvk(&object::Gvk::new("", "v1", "PersistentVolume")).unwrap();
        let old = json!({"status": {"phase": "Pending"}});
        let mut new = json!({"status": {"phase": "Available"}});
        set(volume, &mut new, Some(&old));
        assert!(new["status"]["lastPhaseTransitionTime"].is_string());
        let mut same = old.clone();
        set(volume, &mut same, Some(&old));
        assert_eq!(same, old);
        let slices = kinds::table().by_gvk(&object::Gvk::new("resource.k8s.io", "v1", "ResourceSlice")).unwrap();
        let mut slice = json!({"spec": {"devices": [{"name": "a"}, {"taints": [{"key": "k"}]}]}});
        set(slices, &mut slice, None);
        assert!(slice["spec"]["devices"][1]["taints"][0]["timeAdded"].is_string());
    }
}
