//! Where a pod may run: tolerations, affinity, spreading, gates.

use object::Invalid;
use serde_json::Value;

use crate::tree::{list, text};
use crate::{checks, names};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    affinity(&spec["affinity"], &format!("{path}.affinity"), errors);
    tolerations(spec, path, errors);
    spreading(spec, path, errors);
    let gates = list(&spec["schedulingGates"]);
    for (index, gate) in gates.iter().enumerate() {
        let at = format!("{path}.schedulingGates[{index}]");
        if let Some(why) = names::qualified(text(&gate["name"])) {
            errors.push(Invalid::invalid(&at, &gate["name"], why));
        }
        if gates[..index].iter().any(|g| g["name"] == gate["name"]) {
            errors.push(Invalid::duplicate(&at, &gate["name"]));
        }
    }
}

fn affinity(affinity: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let node = &affinity["nodeAffinity"];
    let at = format!("{path}.nodeAffinity");
    if node[REQUIRED].is_object() {
        let terms = list(&node[REQUIRED]["nodeSelectorTerms"]);
        let at = format!("{at}.{REQUIRED}.nodeSelectorTerms");
        if terms.is_empty() {
            errors.push(Invalid::required(&at, "must have at least one node selector term"));
        }
        for (index, term) in terms.iter().enumerate() {
            node_term(term, &format!("{at}[{index}]"), errors);
        }
    }
    for (index, preferred) in list(&node[PREFERRED]).iter().enumerate() {
        let at = format!("{at}.{PREFERRED}[{index}]");
        weight(preferred, &at, errors);
        node_term(&preferred["preference"], &format!("{at}.preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (index, term) in list(&affinity[kind][REQUIRED]).iter().enumerate() {
            pod_term(term, &format!("{path}.{kind}.{REQUIRED}[{index}]"), errors);
        }
        for (index, preferred) in list(&affinity[kind][PREFERRED]).iter().enumerate() {
            let at = format!("{path}.{kind}.{PREFERRED}[{index}]");
            weight(preferred, &at, errors);
            pod_term(&preferred["podAffinityTerm"], &format!("{at}.podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let weight = preferred["weight"].as_i64().unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Invalid::invalid(&format!("{path}.weight"), &weight.into(), "must be in the range 1-100"));
    }
}

fn node_term(term: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (index, expression) in list(&term["matchExpressions"]).iter().enumerate() {
        let at = format!("{path}.matchExpressions[{index}]");
        let values = list(&expression["values"]);
        match text(&expression["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(Invalid::required(&format!("{at}.values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(Invalid::forbidden(&format!("{at}.values"), detail));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(Invalid::required(&format!("{at}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => {
                let detail = "not a valid selector operator";
                errors.push(Invalid::invalid(&format!("{at}.operator"), &other.into(), detail));
            }
        }
        if let Some(why) = names::qualified(text(&expression["key"])) {
            errors.push(Invalid::invalid(&format!("{at}.key"), &text(&expression["key"]).into(), why));
        }
    }
}

fn pod_term(term: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for selector in ["labelSelector", "namespaceSelector"] {
        checks::selector(&term[selector], &format!("{path}.{selector}"), errors);
    }
    for (index, namespace) in list(&term["namespaces"]).iter().enumerate() {
        if let Some(why) = names::label(text(namespace)) {
            errors.push(Invalid::invalid(&format!("{path}.namespace[{index}]"), namespace, why));
        }
    }
    topology_key(term, path, errors);
}

fn topology_key(object: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let key = text(&object["topologyKey"]);
    if key.is_empty() {
        errors.push(Invalid::required(&format!("{path}.topologyKey"), "can not be empty"));
    } else if let Some(why) = names::qualified(key) {
        errors.push(Invalid::invalid(&format!("{path}.topologyKey"), &key.into(), why));
    }
}

fn spreading(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let constraints = list(&spec["topologySpreadConstraints"]);
    for (index, constraint) in constraints.iter().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{index}]");
        let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
        if skew <= 0 {
            errors.push(Invalid::invalid(&format!("{at}.maxSkew"), &skew.into(), "must be greater than zero"));
        }
        topology_key(constraint, &at, errors);
        checks::exactly_one_of(constraint, &at, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"], errors);
        let same = |other: &Value| ["topologyKey", "whenUnsatisfiable"].iter().all(|f| other[*f] == constraint[*f]);
        if constraints[..index].iter().any(same) {
            let shown = format!("{{{}, {}}}", text(&constraint["topologyKey"]), text(&constraint["whenUnsatisfiable"]));
            errors.push(Invalid::duplicate(&format!("{at}.{{topologyKey, whenUnsatisfiable}}"), &shown.into()));
        }
        if constraint["minDomains"].as_i64().is_some_and(|n| n <= 0) {
            let at = format!("{at}.minDomains");
            errors.push(Invalid::invalid(&at, &constraint["minDomains"], "must be greater than zero"));
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            checks::one_of(constraint, &at, field, &["Honor", "Ignore"], errors);
        }
        checks::selector(&constraint["labelSelector"], &format!("{at}.labelSelector"), errors);
    }
}

fn tolerations(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (index, toleration) in list(&spec["tolerations"]).iter().enumerate() {
        let at = format!("{path}.tolerations[{index}]");
        let said = |field: &str| text(&toleration[field]);
        if let Some(why) = (!said("key").is_empty()).then(|| names::qualified(said("key"))).flatten() {
            errors.push(Invalid::invalid(&format!("{at}.key"), &toleration["key"], why));
        }
        if said("key").is_empty() && said("operator") != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Invalid::invalid(&format!("{at}.operator"), &said("operator").into(), detail));
        }
        if toleration["tolerationSeconds"].is_i64() && said("effect") != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Invalid::invalid(&format!("{at}.effect"), &said("effect").into(), detail));
        }
        match said("operator") {
            "" | "Equal" => {
                if let Some(why) = names::label_value(said("value")) {
                    errors.push(Invalid::invalid(&format!("{at}.operator"), &toleration["value"], why));
                }
            }
            "Exists" if !said("value").is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(Invalid::invalid(&format!("{at}.operator"), &toleration["operator"], detail));
            }
            "Exists" => {}
            _ => checks::one_of(toleration, &at, "operator", &["Equal", "Exists"], errors),
        }
        if !said("effect").is_empty() {
            checks::one_of(toleration, &at, "effect", &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
    }
}
