//! `v1/LimitRange`.

use object::{Invalid, Quantity};
use serde_json::{Map, Value};

use crate::core::podspec;
use crate::kind::{NO_RULES, Rules};
use crate::names;
use crate::spot::{Errors, Spot};
use crate::tree::each;

pub(crate) const RULES: Rules = Rules { default, prepare_create, validate, ..NO_RULES };

/// One without a name is called by its uid.
fn prepare_create(range: &mut Value) {
    if range["metadata"]["name"].as_str().unwrap_or("").is_empty() {
        range["metadata"]["name"] = range["metadata"]["uid"].clone();
    }
}

/// For containers: the largest is the default, the default is the request, and the smallest is requested failing both.
fn default(range: &mut Value) {
    each(range, "spec.limits", |item| {
        if item["type"] != "Container" {
            return;
        }
        let map = |field: &str| item[field].as_object().cloned().unwrap_or_default();
        let (max, min) = (map("max"), map("min"));
        let (mut limit, mut request) = (map("default"), map("defaultRequest"));
        let fill = |target: &mut Map<String, Value>, from: &Map<String, Value>| {
            for (resource, amount) in from {
                target.entry(resource).or_insert_with(|| amount.clone());
            }
        };
        fill(&mut limit, &max);
        fill(&mut request, &limit);
        fill(&mut request, &min);
        for (field, value) in [("default", limit), ("defaultRequest", request)] {
            if !value.is_empty() {
                item[field] = value.into();
            }
        }
    });
}

/// What must not be larger than what, the field that is blamed, and how both are called.
const ORDER: &[(&str, &str, &str, [&str; 2])] = &[
    ("min", "max", "min", ["min", "max"]),
    ("min", "defaultRequest", "defaultRequest", ["min", "default request"]),
    ("defaultRequest", "max", "defaultRequest", ["default request", "max"]),
    ("defaultRequest", "default", "defaultRequest", ["default request", "default limit"]),
    ("min", "default", "default", ["min", "default"]),
    ("default", "max", "default", ["default", "max"]),
];

fn validate(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for limit in Spot::new(&new["spec"], "spec").list("limits") {
        let kind = limit.at("type");
        limit_type(&kind, errors);
        if seen.contains(&kind.text()) {
            errors.push(Invalid::duplicate(&kind.path(), &kind.text().into()));
        }
        seen.push(kind.text());
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if kind.text() == "Pod" && field.starts_with("default") {
                if limit.at(field).len() > 0 {
                    limit.at(field).forbid("may not be specified when `type` is 'Pod'", errors);
                }
                continue;
            }
            if field == "maxLimitRequestRatio" && kind.text() == "PersistentVolumeClaim" {
                let given = |bound: &str| limit.at(bound).at("storage").is_set();
                if !given("min") && !given("max") {
                    let detail = "either minimum or maximum storage value is required, but neither was provided";
                    limit.at("limits").missing(detail, errors);
                }
            }
            for (name, spot) in limit.map(field) {
                match kind.text() {
                    "Pod" | "Container" => podspec::container_resource(name, &spot, errors),
                    _ => drop(podspec::resource_name(name, &spot, errors)),
                }
            }
        }
        amounts(&limit, errors);
    }
}

fn limit_type(kind: &Spot, errors: &mut Errors) {
    let before = errors.len();
    kind.obey(names::qualified, errors);
    let known = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind.text());
    if errors.len() == before && !kind.text().contains('/') && !known {
        kind.fail("must be a standard limit type or fully qualified", errors);
    }
}

/// How the bounds of a resource stand to each other.
fn amounts(limit: &Spot, errors: &mut Errors) {
    let fields = ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"];
    let resources: std::collections::BTreeSet<&String> =
        fields.iter().flat_map(|field| limit.map(field)).map(|(name, _)| name).collect();
    let pod = limit.at("type").text() == "Pod";
    for resource in resources {
        let text = |field: &str| limit.value[field][resource.as_str()].as_str().unwrap_or("");
        let amount = |field: &str| {
            let hidden = pod && field.starts_with("default");
            Quantity::parse(text(field)).filter(|_| !hidden && !text(field).is_empty())
        };
        let mut fail = |field: &str, shown: &str, detail: String| {
            let at = format!("{}[{resource}]", limit.at(field).path());
            errors.push(Invalid::invalid(&at, &shown.into(), detail));
        };
        for (small, large, at, words) in ORDER {
            let (Some(low), Some(high)) = (amount(small), amount(large)) else { continue };
            if low > high {
                let (low, high) = (text(small), text(large));
                // Where a default is too small, upstream shows what it is compared with.
                let shown = match (*small, *large) {
                    ("min", "default") => low,
                    ("default", "max") => high,
                    _ => text(at),
                };
                fail(at, shown, format!("{} value {low} is greater than {} value {high}", words[0], words[1]));
            }
        }
        const RATIO: &str = "maxLimitRequestRatio";
        if let Some(ratio) = amount(RATIO) {
            if ratio < Quantity::from_units(1) {
                fail(RATIO, text(RATIO), format!("ratio {} is less than 1", text(RATIO)));
            }
            if let (Some(min), Some(max)) = (amount("min"), amount("max")) {
                let number = |q: Quantity| q.millis() as f64;
                let most = number(max) / number(min);
                if number(ratio) / 1000.0 > most {
                    fail(RATIO, text(RATIO), format!("ratio {} is greater than max/min = {most:.6}", text(RATIO)));
                }
            }
        }
        if let (Some(limit), Some(request)) = (amount("default"), amount("defaultRequest"))
            && limit != request
            && !podspec::overcommits(resource)
        {
            let detail = format!(
                "default value {} must equal to defaultRequest value {} in {resource}",
                text("default"),
                text("defaultRequest")
            );
            fail("defaultRequest", text("defaultRequest"), detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn range() {
        let case = Case::new("v1", "LimitRange");
        case.defaulted(
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}]}}),
            json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}, "default": {"cpu": "1"},
                "defaultRequest": {"cpu": "1", "memory": "1Mi"}}, {"type": "Pod", "max": {"cpu": "2"}}]}}),
        );
        case.invalid(
            json!({"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}]}}),
            &["spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1"],
        );
        case.row(json!({}), json!(["x", "2023-11-14T22:13:20Z"]));
    }
}
