//! Where a pod may run: tolerations, affinity, spreading, gates.

use object::Invalid;

use crate::names;
use crate::spot::{Errors, Spot};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(affinity: &Spot, errors: &mut Errors) {
    let node = affinity.at("nodeAffinity");
    if node.at(REQUIRED).is_set() {
        node_selector(&node.at(REQUIRED), errors);
    }
    for preferred in node.list(PREFERRED) {
        weight(&preferred, errors);
        node_term(&preferred.at("preference"), false, errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(kind);
        for term in pods.list(REQUIRED) {
            pod_term(&term, errors);
        }
        for preferred in pods.list(PREFERRED) {
            weight(&preferred, errors);
            pod_term(&preferred.at("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Spot, errors: &mut Errors) {
    let weight = preferred.at("weight");
    if !(1..=100).contains(&weight.count()) {
        weight.fail_as(weight.count(), "must be in the range 1-100", errors);
    }
}

/// A `NodeSelector`.
pub(crate) fn node_selector(selector: &Spot, errors: &mut Errors) {
    if selector.at("nodeSelectorTerms").len() == 0 {
        selector.at("nodeSelectorTerms").missing("must have at least one node selector term", errors);
    }
    for term in selector.list("nodeSelectorTerms") {
        node_term(&term, true, errors);
    }
}

fn node_term(term: &Spot, check_values: bool, errors: &mut Errors) {
    for rule in term.list("matchExpressions") {
        let (operator, values) = (rule.at("operator"), rule.at("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() == 0 => {
                values.missing("must be specified when `operator` is 'In' or 'NotIn'", errors);
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                values.forbid("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", errors);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                values.missing("must be specified single value when `operator` is 'Lt' or 'Gt'", errors);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => operator.fail_as(other, "not a valid selector operator", errors),
        }
        rule.at("key").obey(names::qualified, errors);
        if check_values {
            rule.list("values").for_each(|value| value.obey(names::label_value, errors));
        }
    }
    for rule in term.list("matchFields") {
        let (operator, values, key) = (rule.at("operator"), rule.at("values"), rule.at("key"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                values.missing(detail, errors);
            }
            "In" | "NotIn" => {}
            other => operator.fail_as(other, "not a valid selector operator", errors),
        }
        match key.text() {
            "metadata.name" => rule.list("values").for_each(|value| value.obey(names::subdomain, errors)),
            other => key.fail_as(other, "not a valid field selector key", errors),
        }
    }
}

fn pod_term(term: &Spot, errors: &mut Errors) {
    term.at("labelSelector").selector(errors);
    term.at("namespaceSelector").selector(errors);
    let namespace = term.at("namespace");
    for name in term.list("namespaces") {
        names::label(name.text()).into_iter().for_each(|why| namespace.fail_as(name.text(), why, errors));
    }
    label_keys(term, errors);
    let key = term.at("topologyKey");
    if key.text().is_empty() {
        key.missing("can not be empty", errors);
    }
    key.obey(names::qualified, errors);
}

/// Keys of the pod's own labels that are merged into a selector.
fn label_keys(term: &Spot, errors: &mut Errors) {
    let selector = term.at("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"].into_iter().filter(|f| term.at(f).len() > 0) {
        if !selector.is_set() {
            term.at(field).forbid("must not be specified when labelSelector is not set", errors);
            continue;
        }
        term.list(field).for_each(|key| key.obey(names::qualified, errors));
    }
    let keys: Vec<&str> = term.list("matchLabelKeys").map(|k| k.text()).collect();
    let mut selected: Vec<&str> = selector.map("matchLabels").map(|(key, _)| key.as_str()).collect();
    for rule in selector.list("matchExpressions") {
        let key = rule.at("key").text();
        let place = keys.iter().rposition(|k| *k == key).filter(|_| selected.contains(&key));
        if let Some(place) = place {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Invalid::invalid(&format!("{}[{place}]", term.path()), &key.into(), detail));
        }
        selected.push(key);
    }
    for key in term.list("matchLabelKeys") {
        if term.list("mismatchLabelKeys").any(|other| other.text() == key.text()) {
            key.fail("exists in both matchLabelKeys and mismatchLabelKeys", errors);
        }
    }
}

/// What a pod tolerates; a template of pods of a runtime class does, too.
pub(crate) fn tolerations(spec: &Spot, errors: &mut Errors) {
    for toleration in spec.list("tolerations") {
        let [key, operator, value, effect] = ["key", "operator", "value", "effect"].map(|f| toleration.at(f));
        key.named(names::qualified, errors);
        if key.text().is_empty() && operator.text() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            operator.fail_as(operator.text(), detail, errors);
        }
        if toleration.at("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            effect.fail_as(effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set", errors);
        }
        match operator.text() {
            "Equal" | "" => {
                let problems = names::label_value(value.text());
                if !problems.is_empty() {
                    operator.fail_as(value.text(), problems.join(";"), errors);
                }
            }
            "Exists" if !value.text().is_empty() => {
                operator.fail_as(value.text(), "value must be empty when `operator` is 'Exists'", errors);
            }
            "Exists" => {}
            "Lt" | "Gt" => operator.unsupported(&["Equal", "Exists", "Lt", "Gt"], errors),
            _ => operator.unsupported(&["Equal", "Exists"], errors),
        }
        if !effect.text().is_empty() {
            effect.exactly_one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
    }
}

pub(super) fn gates(spec: &Spot, errors: &mut Errors) {
    let mut seen = Vec::new();
    for gate in spec.list("schedulingGates") {
        let name = gate.at("name").text();
        names::qualified(name).into_iter().for_each(|why| gate.fail_as(name, why, errors));
        if seen.contains(&name) {
            errors.push(Invalid::duplicate(&gate.path(), &name.into()));
        }
        seen.push(name);
    }
}

pub(super) fn spreading(spec: &Spot, errors: &mut Errors) {
    let all: Vec<Spot> = spec.list("topologySpreadConstraints").collect();
    for (index, rule) in all.iter().enumerate() {
        let [skew, key, action] = ["maxSkew", "topologyKey", "whenUnsatisfiable"].map(|f| rule.at(f));
        skew.positive(errors);
        if key.text().is_empty() {
            key.missing("can not be empty", errors);
        }
        action.exactly_one_of(&["DoNotSchedule", "ScheduleAnyway"], errors);
        let same = |other: &Spot| {
            other.at("topologyKey").text() == key.text() && other.at("whenUnsatisfiable").text() == action.text()
        };
        if all[index + 1..].iter().any(same) {
            let shown = format!("{{{}, {}}}", key.text(), action.text());
            let at = rule.at("{topologyKey, whenUnsatisfiable}");
            errors.push(Invalid::duplicate(&at.path(), &shown.into()));
        }
        let domains = rule.at("minDomains");
        if domains.is_set() {
            domains.positive(errors);
            if action.text() != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
                domains.fail(detail, errors);
            }
        }
        rule.at("nodeAffinityPolicy").one_of(&["Honor", "Ignore"], errors);
        rule.at("nodeTaintsPolicy").one_of(&["Honor", "Ignore"], errors);
        label_keys(rule, errors);
        rule.at("labelSelector").selector(errors);
    }
}
