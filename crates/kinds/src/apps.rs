//! Rooms of the apps group.

pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod replicaset;
pub(crate) mod revision;
pub(crate) mod statefulset;

use object::{Invalid, LabelSelector};
use serde_json::Value;

use crate::checks;
use crate::core::podtemplate;

/// Checks that all workloads share: the selector matches the template, which always restarts. `named` is how messages call an
/// empty selector's owner, `kind` the kind whose pods have no deadline.
pub(crate) fn validate_workload(new: &Value, named: &str, kind: &str, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    checks::non_negative(spec, "spec", &["replicas", "minReadySeconds"], errors);
    validate_selector(new, named, errors);
    validate_template(&spec["template"], "spec.template", kind, errors);
}

/// A template whose pods always restart.
pub(crate) fn validate_template(template: &Value, path: &str, kind: &str, errors: &mut Vec<Invalid>) {
    podtemplate::validate_template(template, path, errors);
    let policy = &template["spec"]["restartPolicy"];
    if policy != "Always" {
        errors.push(Invalid::not_supported(&format!("{path}.spec.restartPolicy"), policy, &["Always"]));
    }
    if !template["spec"]["activeDeadlineSeconds"].is_null() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Invalid::forbidden(&format!("{path}.spec.activeDeadlineSeconds"), detail));
    }
}

fn validate_selector(new: &Value, named: &str, errors: &mut Vec<Invalid>) {
    let selector = &new["spec"]["selector"];
    if selector.is_null() {
        errors.push(Invalid::required("spec.selector", ""));
        return;
    }
    checks::selector(selector, "spec.selector", errors);
    if checks::is_empty_selector(selector) {
        let detail = format!("empty selector is invalid for {named}");
        errors.push(Invalid::invalid("spec.selector", selector, detail));
        return;
    }
    let labels = &new["spec"]["template"]["metadata"]["labels"];
    let map = serde_json::from_value(labels.clone()).unwrap_or_default();
    match LabelSelector::from_object(selector) {
        None => errors.push(Invalid::invalid("spec.selector", selector, "invalid label selector")),
        Some(parsed) if !parsed.matches(&map) => errors.push(Invalid::invalid(
            "spec.template.metadata.labels",
            labels,
            "`selector` does not match template `labels`",
        )),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests;
