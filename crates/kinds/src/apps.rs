//! Rooms of the apps group.

pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod replicaset;
pub(crate) mod statefulset;

use object::{Invalid, LabelSelector};
use serde_json::Value;

use crate::core::podtemplate;

/// Checks that all workloads share: the selector matches the template, which always restarts; neither selector changes.
pub(crate) fn validate_workload(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    if let Some(replicas) = spec["replicas"].as_i64().filter(|r| *r < 0) {
        errors.push(Invalid::invalid("spec.replicas", &replicas.into(), "must be greater than or equal to 0"));
    }
    validate_selector(new, errors);
    podtemplate::validate_template(&spec["template"], "spec.template", errors);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if policy != "Always" {
        errors.push(Invalid::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if let Some(old) = old
        && old["spec"]["selector"] != spec["selector"]
    {
        errors.push(Invalid::invalid("spec.selector", &spec["selector"], "field is immutable"));
    }
}

fn validate_selector(new: &Value, errors: &mut Vec<Invalid>) {
    let selector = &new["spec"]["selector"];
    if selector.is_null() {
        errors.push(Invalid::required("spec.selector", ""));
        return;
    }
    let parsed = LabelSelector::from_object(selector);
    if parsed.as_ref().is_some_and(LabelSelector::is_empty) {
        errors.push(Invalid::invalid("spec.selector", selector, "empty selector is invalid for deployment"));
        return;
    }
    let labels = &new["spec"]["template"]["metadata"]["labels"];
    let map = serde_json::from_value(labels.clone()).unwrap_or_default();
    if !parsed.is_some_and(|s| s.matches(&map)) {
        errors.push(Invalid::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        ));
    }
}
