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
use crate::spot::{Errors, Spot};

/// A template whose pods always restart. `kind` is the kind whose pods have no deadline.
pub(crate) fn validate_template(template: &Spot, kind: &str, errors: &mut Errors) {
    podtemplate::validate_template(template, errors);
    always(template, kind, errors);
}

/// Pods of workloads always restart, and run on.
fn always(template: &Spot, kind: &str, errors: &mut Errors) {
    let spec = template.at("spec");
    spec.at("restartPolicy").exactly_one_of(&["Always"], errors);
    if spec.at("activeDeadlineSeconds").is_set() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        spec.at("activeDeadlineSeconds").forbid(detail, errors);
    }
}

/// A selector that must be there and select something. `named` is how messages call its owner.
fn validate_selector(spec: &Spot, named: &str, errors: &mut Errors) {
    let selector = spec.at("selector");
    if !selector.is_set() {
        selector.missing("", errors);
        return;
    }
    selector.selector(errors);
    if checks::is_empty_selector(selector.value) {
        selector.fail(format!("empty selector is invalid for {named}"), errors);
    }
}

/// The selector matches the template. `false` when it cannot be read.
fn validate_match(spec: &Spot, errors: &mut Errors) -> bool {
    let (selector, template) = (spec.at("selector"), spec.at("template"));
    let labels = &template.value["metadata"]["labels"];
    let map: object::Texts = serde_json::from_value(labels.clone()).unwrap_or_default();
    let mut wrong = Vec::new();
    selector.selector(&mut wrong);
    // Without a selector nothing matches.
    let matched = match LabelSelector::from_object(selector.value).filter(|_| wrong.is_empty()) {
        _ if !selector.is_set() => false,
        Some(parsed) => checks::is_empty_selector(selector.value) || parsed.matches(&map),
        None => return false,
    };
    if !matched {
        let at = format!("{}.metadata.labels", template.path());
        errors.push(Invalid::invalid(&at, labels, "`selector` does not match template `labels`"));
    }
    true
}

/// A template that its selector matches, as replica sets have it. What is wrong with its metadata upstream says twice.
fn validate_selected_template(spec: &Spot, kind: &str, errors: &mut Errors) {
    if !validate_match(spec, errors) {
        let detail = if kind == "StatefulSet" { "" } else { "invalid label selector" };
        spec.at("selector").fail(detail, errors);
        return;
    }
    let template = spec.at("template");
    podtemplate::validate_template(&template, errors);
    if kind == "StatefulSet" {
        podtemplate::validate_metadata(&template, errors);
    }
    always(&template, kind, errors);
}

/// Numbers of a status: not negative, and of the replicas.
pub(crate) fn validate_counts(
    status: &Spot,
    counts: &[&'static str],
    of_replicas: &[&'static str],
    errors: &mut Errors,
) {
    counts.iter().for_each(|count| status.at(count).not_negative(errors));
    let all = status.at("replicas").count();
    for count in of_replicas.iter().map(|c| status.at(c)).filter(|c| c.count() > all) {
        count.fail("cannot be greater than status.replicas", errors);
    }
}

/// How often names of what a workload made were taken; that only grows.
fn validate_collisions(new: &Value, old: &Value, errors: &mut Errors) {
    let count = |object: &Value| object["status"]["collisionCount"].as_i64();
    if count(old).is_some_and(|old| count(new).is_none_or(|new| new < old)) {
        let shown = count(new).unwrap_or(0);
        errors.push(Invalid::invalid("status.collisionCount", &shown.into(), "cannot be decremented"));
    }
}

#[cfg(test)]
mod tests;
