//! `v1/ResourceQuota`.

use object::Invalid;
use serde_json::Value;

use crate::age;
use crate::core::podspec::{amount, resource_name};
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};

pub(crate) const RULES: Rules = Rules {
    validate: |new, old, errors| {
        validate(new, errors);
        if let Some(old) = old {
            same_scopes(new, old, errors);
        }
    },
    validate_status: |new, _, errors| amounts(&Spot::new(&new["status"], "status"), &["hard", "used"], errors),
    row,
    ..NO_RULES
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// True for names without a domain that quotas count.
fn is_counted(resource: &str) -> bool {
    resource != "storage" && !resource.starts_with("limits.hugepages-") && !resource.contains('/')
}

fn fits(scope: &str, resource: &str) -> bool {
    let compute =
        matches!(resource, "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory");
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => resource == "pods" || compute,
        _ => true,
    }
}

/// Names and amounts of maps of resources.
fn amounts(owner: &Spot, fields: &[&'static str], errors: &mut Errors) {
    for (name, spot) in fields.iter().flat_map(|field| owner.map(field)) {
        resource_name(name, &spot, errors);
        let known = is_known(name);
        if !name.contains('/') && !known {
            spot.fail_as(name.as_str(), "must be a standard resource for quota", errors);
        }
        amount(name, &spot, errors);
    }
}

fn is_known(resource: &str) -> bool {
    let mut none = Vec::new();
    let null = Value::Null;
    is_counted(resource) && resource_name(resource, &Spot::new(&null, ""), &mut none)
}

/// Scopes that an update may not change.
fn same_scopes(new: &Value, old: &Value, errors: &mut Errors) {
    let of = |quota: &Value| {
        let all = quota["spec"]["scopes"].as_array().into_iter().flatten();
        all.filter_map(|s| s.as_str().map(str::to_owned)).collect::<std::collections::BTreeSet<_>>()
    };
    if of(new) != of(old) {
        errors.push(Invalid::invalid("spec.scopes", &new["spec"]["scopes"], "field is immutable"));
    }
}

fn validate(new: &Value, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    amounts(&spec, &["hard"], errors);
    let hard: Vec<&str> = spec.map("hard").map(|(name, _)| name.as_str()).filter(|name| is_known(name)).collect();
    let scopes = spec.at("scopes");
    let mut used = Vec::new();
    for scope in spec.list("scopes") {
        if !SCOPES.contains(&scope.text()) {
            scopes.fail("unsupported scope", errors);
        }
        for _ in hard.iter().filter(|resource| !fits(scope.text(), resource)) {
            scopes.fail("unsupported scope applied to resource", errors);
        }
        used.push(scope.text());
    }
    conflicts(&used, &scopes, &scopes, errors);
    selector(&spec, &hard, errors);
}

fn conflicts(used: &[&str], at: &Spot, shown: &Spot, errors: &mut Errors) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| used.contains(scope)) {
            at.fail_as(shown.value.clone(), "conflicting scopes", errors);
        }
    }
}

fn selector(spec: &Spot, hard: &[&str], errors: &mut Errors) {
    let selector = spec.at("scopeSelector");
    let rules = selector.at("matchExpressions");
    let mut used = Vec::new();
    for rule in selector.list("matchExpressions") {
        let [scope, operator, values] = ["scopeName", "operator", "values"].map(|f| rule.at(f));
        // Upstream does not say which rule it is.
        if !SCOPES.contains(&scope.text()) {
            let at = format!("{}.scopeName", rules.path());
            errors.push(Invalid::invalid(&at, &scope.text().into(), "unsupported scope"));
        }
        for _ in hard.iter().filter(|resource| !fits(scope.text(), resource)) {
            let shown = crate::checks::shown("core.v1.ScopeSelector", selector.value);
            errors.push(Invalid::shown(&rules.path(), shown, "unsupported scope applied to resource"));
        }
        let mut fail = |name: &'static str, spot: &Spot, detail: &str| {
            let shown = if name == "operator" { Value::from(spot.text()) } else { spot.value.clone() };
            errors.push(Invalid::invalid(&format!("{}.{name}", rules.path()), &shown, detail));
        };
        let plain = matches!(
            scope.text(),
            "BestEffort" | "NotBestEffort" | "Terminating" | "NotTerminating" | "CrossNamespacePodAffinity"
        );
        if plain && operator.text() != "Exists" {
            fail(
                "operator",
                &operator,
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
            );
        }
        match operator.text() {
            "In" | "NotIn" if values.len() == 0 => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(Invalid::required(&format!("{}.values", rules.path()), detail));
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                fail(
                    "values",
                    &values,
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => fail("operator", &operator, "not a valid selector operator"),
        }
        used.push(scope.text());
    }
    conflicts(&used, &rules, &spec.at("scopes"), errors);
}

fn row(quota: &Value, now: i64) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
        let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
        let text = format!("{resource}: {used}/{}", hard.as_str().unwrap_or(""));
        if resource.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    vec![
        quota["metadata"]["name"].clone(),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age::since(&quota["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn scopes_and_resources_fit() {
        let case = Case::new("v1", "ResourceQuota");
        case.invalid(json!({"spec": {"hard": {"pods": "5", "cpu": "1", "a.b/c": "2"}}}), &[]);
        case.invalid(
            json!({"spec": {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}}),
            &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
        );
        case.invalid(
            json!({"spec": {"hard": {"tea": "1", "pods": "1500m"}}}),
            &[
                "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
                "spec.hard[tea]: Invalid value: \"tea\": must be a standard resource type or fully qualified",
                "spec.hard[tea]: Invalid value: \"tea\": must be a standard resource for quota",
            ],
        );
    }
}
