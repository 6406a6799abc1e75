//! `autoscaling HorizontalPodAutoscaler`, v1 and v2 (stored as v2; see `convert`).

mod metrics;

use object::{Gvk, Invalid};
use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, entries, made, set, text};
use crate::{age, checks, convert, names};

pub(crate) const RULES: Rules = Rules { default, validate, validate_status, row, ..NO_RULES };

/// The object in v2's form, whichever version it came in.
fn newest(hpa: &Value) -> Value {
    let version = |version: &str| Gvk::new("autoscaling", version, "HorizontalPodAutoscaler");
    let from = if hpa["apiVersion"] == "autoscaling/v1" { "v1" } else { "v2" };
    convert::convert(hpa.clone(), &version(from), &version("v2"))
}

fn default(hpa: &mut Value) {
    let older = hpa["apiVersion"] == "autoscaling/v1";
    let measured = !hpa["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].is_null();
    let Some(spec) = child(hpa, "spec") else { return };
    set(spec, "minReplicas", 1);
    if older {
        if spec["targetCPUUtilizationPercentage"].is_null() && !measured {
            spec["targetCPUUtilizationPercentage"] = 80.into();
        }
        return;
    }
    if crate::tree::list(&spec["metrics"]).is_empty() {
        spec["metrics"] = json!([{"type": "Resource", "resource":
            {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    }
    let Some(behavior) = child(spec, "behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = made(behavior, "scaleUp") {
        for (field, value) in [
            ("stabilizationWindowSeconds", json!(0)),
            ("selectPolicy", json!("Max")),
            ("policies", json!([pods, percent])),
        ] {
            set(up, field, value);
        }
    }
    if let Some(down) = made(behavior, "scaleDown") {
        set(down, "selectPolicy", "Max");
        set(down, "policies", json!([percent]));
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let (given, before) = (newest(new), old.map(newest));
    let spec = &given["spec"];
    let least = spec["minReplicas"].as_i64();
    if let Some(least) = least.filter(|n| *n < 1) {
        errors.push(Invalid::invalid("spec.minReplicas", &least.into(), "must be greater than or equal to 1"));
    }
    let most = spec["maxReplicas"].as_i64().unwrap_or(0);
    if most == 0 {
        errors.push(Invalid::required("spec.maxReplicas", "must be set and greater than 0"));
    } else if most < 0 {
        errors.push(Invalid::invalid("spec.maxReplicas", &most.into(), "must be greater than or equal to 1"));
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(Invalid::invalid("spec.maxReplicas", &most.into(), detail));
    }
    // What was accepted once is not looked at again.
    let target = &spec["scaleTargetRef"];
    let known = before.is_some_and(|old| {
        ["apiVersion", "kind"].iter().all(|field| old["spec"]["scaleTargetRef"][field] == target[field])
    });
    reference(target, "spec.scaleTargetRef", !known, errors);
    metrics::validate(&spec["metrics"], "spec.metrics", errors);
    let idle = |metric: &Value| matches!(text(&metric["type"]), "Object" | "External");
    if least == Some(0) && !crate::tree::list(&spec["metrics"]).iter().any(idle) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Invalid::forbidden("spec.metrics", detail));
    }
    behavior(&spec["behavior"], errors);
}

fn validate_status(new: &Value, _: &Value, errors: &mut Vec<Invalid>) {
    checks::non_negative(new, "", &["status.currentReplicas", "status.desiredReplicas"], errors);
}

fn reference(reference: &Value, path: &str, grouped: bool, errors: &mut Vec<Invalid>) {
    for field in ["kind", "name"] {
        checks::required(reference, path, field, errors);
        checks::named(reference, path, field, names::path_segment, errors);
    }
    let version = text(&reference["apiVersion"]);
    let why = match version.matches('/').count() {
        2.. => format!("unexpected GroupVersion string: {version}"),
        // Only replication controllers have no group.
        0 if grouped && reference["kind"] != "ReplicationController" => "apiVersion must specify API group".to_owned(),
        _ => return,
    };
    errors.push(Invalid::invalid(&format!("{path}.apiVersion"), &version.into(), why));
}

fn behavior(behavior: &Value, errors: &mut Vec<Invalid>) {
    for (direction, rules) in entries(behavior) {
        let path = format!("spec.behavior.{direction}");
        if let Some(window) = rules["stabilizationWindowSeconds"].as_i64() {
            let at = format!("{path}.stabilizationWindowSeconds");
            if window < 0 {
                errors.push(Invalid::invalid(&at, &window.into(), "must be greater than or equal to zero"));
            } else if window > 3600 {
                errors.push(Invalid::invalid(&at, &window.into(), "must be less than or equal to 3600"));
            }
        }
        let tolerance = text(&rules["tolerance"]);
        if object::Quantity::parse(tolerance).is_some_and(object::Quantity::is_negative) {
            let at = format!("{path}.tolerance");
            errors.push(Invalid::invalid(&at, &tolerance.into(), "must be greater than or equal to 0"));
        }
        checks::one_of(rules, &path, "selectPolicy", &["Disabled", "Max", "Min"], errors);
        if crate::tree::list(&rules["policies"]).is_empty() {
            errors.push(Invalid::required(&format!("{path}.policies"), "must specify at least one Policy"));
        }
        for (index, policy) in crate::tree::list(&rules["policies"]).iter().enumerate() {
            let at = format!("{path}.policies[{index}]");
            checks::exactly_one_of(policy, &at, "type", &["Percent", "Pods"], errors);
            for field in ["value", "periodSeconds"] {
                if policy[field].as_i64().is_none_or(|n| n <= 0) {
                    let shown = policy[field].as_i64().unwrap_or(0);
                    errors.push(Invalid::invalid(&format!("{at}.{field}"), &shown.into(), "must be greater than zero"));
                }
            }
            if policy["periodSeconds"].as_i64().is_some_and(|n| n > 1800) {
                let detail = "must be less than or equal to 1800";
                errors.push(Invalid::invalid(&format!("{at}.periodSeconds"), &policy["periodSeconds"], detail));
            }
        }
    }
}

fn row(hpa: &Value, now: i64) -> Vec<Value> {
    let newest = newest(hpa);
    let (spec, status) = (&newest["spec"], &newest["status"]);
    let target = &spec["scaleTargetRef"];
    let least = spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |n| n.to_string());
    vec![
        hpa["metadata"]["name"].clone(),
        format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
        metrics::print(&spec["metrics"], &status["currentMetrics"]).into(),
        least.into(),
        spec["maxReplicas"].as_i64().unwrap_or(0).into(),
        status["currentReplicas"].as_i64().unwrap_or(0).into(),
        age::since(&hpa["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests;
