//! `scheduling.k8s.io/v1 PriorityClass`, `coordination.k8s.io/v1 Lease`, `node.k8s.io/v1 RuntimeClass`: small kinds that say who comes first, who
//! leads, and what runs.

use object::Invalid;
use serde_json::Value;

use crate::core::podspec;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, entries, list, remove, set, text};
use crate::{checks, names};

pub(crate) const PRIORITY_RULES: Rules = Rules { default, validate: validate_priority, ..NO_RULES };
pub(crate) const LEASE_RULES: Rules = Rules {
    prepare_create: prepare_lease,
    prepare_update: |new, _| prepare_lease(new),
    validate: validate_lease,
    ..NO_RULES
};
pub(crate) const RUNTIME_RULES: Rules = Rules { validate: validate_runtime, warnings: runtime_warnings, ..NO_RULES };

/// Larger values belong to the system.
const HIGHEST: i64 = 1_000_000_000;
const SYSTEM: &[(&str, i64)] = &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

fn default(class: &mut Value) {
    set(class, "preemptionPolicy", "PreemptLowerPriority");
}

fn validate_priority(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let (name, value) = (text(&new["metadata"]["name"]), new["value"].as_i64().unwrap_or(0));
    if let Some(old) = old {
        if old["value"].as_i64().unwrap_or(0) != value {
            errors.push(Invalid::forbidden("value", "may not be changed in an update."));
        }
        return checks::immutable(new, Some(old), &["preemptionPolicy"], errors);
    }
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None if name.starts_with("system-") => {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {name} is not a known system priority class"
            );
            errors.push(Invalid::forbidden("metadata.name", detail));
        }
        Some((_, wanted)) if *wanted != value => {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: value of {name} PriorityClass must be {wanted}"
            );
            errors.push(Invalid::forbidden("metadata.name", detail));
        }
        None if value > HIGHEST => {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(Invalid::forbidden("value", detail));
        }
        _ => {}
    }
    let policy = Spot::new(&new["preemptionPolicy"], "preemptionPolicy");
    policy.must_be_one_of(&["PreemptLowerPriority", "Never"], errors);
}

fn validate_lease(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let seconds = spec.at("leaseDurationSeconds");
    if seconds.number().is_some_and(|s| s <= 0) {
        seconds.fail("must be greater than 0", errors);
    }
    spec.at("leaseTransitions").not_negative(errors);
}

/// Drops what is not offered yet.
fn prepare_lease(lease: &mut Value) {
    if let Some(spec) = child(lease, "spec") {
        remove(spec, "strategy");
        remove(spec, "preferredHolder");
    }
}

fn validate_runtime(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let class = Spot::new(new, "");
    class.at("handler").must_obey(names::label, errors);
    checks::immutable(new, old, &["handler"], errors);
    let overhead = class.at("overhead");
    if overhead.at("podFixed").is_set() {
        // As upstream, which names the place as if it were a pod's.
        podspec::overhead(&class.alias("overhead", overhead.at("podFixed").value), errors);
    }
    let scheduling = class.at("scheduling");
    scheduling.at("nodeSelector").labels(errors);
    for (index, toleration) in list(&new["scheduling"]["tolerations"]).iter().enumerate() {
        let same = |other: &&Value| ["key", "operator", "effect", "value"].iter().all(|f| other[*f] == toleration[*f]);
        if list(&new["scheduling"]["tolerations"])[..index].iter().any(|other| same(&other)) {
            errors.push(Invalid::duplicate(&format!("scheduling.tolerations[{index}]"), toleration));
        }
    }
    podspec::tolerations(&scheduling, errors);
}

fn runtime_warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let selector = entries(&new["scheduling"]["nodeSelector"]);
    let told = selector.filter_map(|(key, _)| podspec::warnings::deprecated_label(key));
    told.map(|message| format!("scheduling.nodeSelector: {message}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn priorities() {
        let case = Case::new("scheduling.k8s.io/v1", "PriorityClass");
        case.defaulted(json!({"value": 5}), json!({"value": 5, "preemptionPolicy": "PreemptLowerPriority"}));
        case.invalid(
            json!({"value": 2_000_000_000}),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        );
        case.invalid(json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), &[]);
        case.update(json!({"value": 1}), json!({"value": 2}), &["value: Forbidden: may not be changed in an update."]);
        case.row(json!({"value": 7}), json!(["x", 7, false, "10s", ""]));
    }

    #[test]
    fn leases() {
        let case = Case::new("coordination.k8s.io/v1", "Lease");
        case.invalid(
            json!({"spec": {"leaseDurationSeconds": 0}}),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        );
        case.row(json!({"spec": {"holderIdentity": "n"}}), json!(["x", "n", "10s"]));
    }
}
