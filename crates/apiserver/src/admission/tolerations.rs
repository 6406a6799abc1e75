//! Tolerations that pods and nodes get: DefaultTolerationSeconds, TaintNodesByCondition; how a class's are merged with a pod's.

use serde_json::{Value, json};

use super::{Attributes, Operation};

/// Seconds for which a pod stays on a node that is not ready or not reachable.
const TOLERATION_SECONDS: i64 = 300;
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// DefaultTolerationSeconds. Also when a pod is updated: its tolerations may have been replaced.
pub(super) fn of_pod(at: &Attributes<'_>, pod: &mut Value) {
    if !at.is("", "pods") || !at.subresource.is_empty() || !at.writes() {
        return;
    }
    let spec = &mut pod["spec"];
    let mut all = spec.get("tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = all.len();
    for key in [NOT_READY, "node.kubernetes.io/unreachable"] {
        let tolerated = all[..before].iter().any(|t| {
            (t["key"] == key || t["key"].as_str().is_none_or(str::is_empty))
                && (t["effect"] == "NoExecute" || t["effect"].as_str().is_none_or(str::is_empty))
        });
        if !tolerated {
            all.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}));
        }
    }
    if all.len() > before {
        spec["tolerations"] = all.into();
    }
}

/// TaintNodesByCondition: nothing is scheduled to a new node before it says that it is ready.
pub(super) fn of_node(at: &Attributes<'_>, node: &mut Value) {
    if !at.is("", "nodes") || !at.subresource.is_empty() || at.operation != Operation::Create {
        return;
    }
    let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    if !taints.iter().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule") {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
        node["spec"]["taints"] = taints.into();
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("")
}

/// Whether whatever `narrow` tolerates `wide` tolerates, too.
pub(super) fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let same = |key: &str| text(wide, key) == text(narrow, key);
    let exists = text(wide, "operator") == "Exists";
    let any_key = exists && text(wide, "key").is_empty();
    let any_effect = text(wide, "effect").is_empty();
    if !(same("key") || any_key) || !(same("effect") || any_effect) {
        return false;
    }
    let seconds = |of: &Value| of["tolerationSeconds"].as_i64();
    if text(wide, "effect") == "NoExecute"
        && let Some(most) = seconds(wide)
        && seconds(narrow).is_none_or(|s| s > most)
    {
        return false;
    }
    match text(wide, "operator") {
        "Exists" => true,
        "" | "Equal" => text(narrow, "operator") == "Equal" && same("value"),
        _ => false,
    }
}

/// All of both but those that another covers; of equal ones the first stays.
pub(super) fn merge(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let before = merged.iter().any(|wide| covers(wide, one));
        let after = all[index + 1..].iter().any(|wide| wide != one && covers(wide, one));
        if !before && !after {
            merged.push((*one).clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_tolerations_cover_narrower_ones() {
        let all = json!({"operator": "Exists"});
        let one = json!({"key": "a", "operator": "Equal", "value": "v", "effect": "NoSchedule"});
        let any_value = json!({"key": "a", "operator": "Exists"});
        let other = json!({"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let of = |given: &[&Value]| given.iter().map(|t| (*t).clone()).collect::<Vec<_>>();
        let check = |first: &[&Value], second: &[&Value], wanted: &[&Value]| {
            assert_eq!(merge(&of(first), &of(second)), of(wanted));
        };
        check(&[&one], &[&any_value, &other], &[&any_value, &other]);
        check(&[&one, &one], &[], &[&one]);
        check(&[&one, &any_value, &other], &[&all], &[&all]);
    }
}
