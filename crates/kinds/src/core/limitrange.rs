//! `v1/LimitRange`.

use object::{Invalid, Quantity};
use serde_json::{Map, Value};

use crate::kind::{NO_RULES, Rules};
use crate::tree::{each, entries, list, text};

pub(crate) const RULES: Rules = Rules { default, validate, ..NO_RULES };

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

fn validate(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let mut seen = Vec::new();
    for (index, limit) in list(&new["spec"]["limits"]).iter().enumerate() {
        let path = format!("spec.limits[{index}]");
        let kind = text(&limit["type"]);
        if seen.contains(&kind) {
            errors.push(Invalid::duplicate(&format!("{path}.type"), &limit["type"]));
        }
        seen.push(kind);
        if kind == "Pod" {
            for field in ["default", "defaultRequest"].into_iter().filter(|f| entries(&limit[*f]).next().is_some()) {
                let detail = "may not be specified when `type` is 'Pod'";
                errors.push(Invalid::forbidden(&format!("{path}.{field}"), detail));
            }
        }
        for (small, large, at, words) in ORDER {
            let amount = |field: &str, resource: &str| limit[field][resource].as_str().and_then(Quantity::parse);
            for (resource, low) in entries(&limit[*small]) {
                if amount(small, resource) > amount(large, resource) && amount(large, resource).is_some() {
                    let (low, high) = (text(low), text(&limit[*large][resource]));
                    let detail = format!("{} value {low} is greater than {} value {high}", words[0], words[1]);
                    let shown = &limit[*at][resource];
                    errors.push(Invalid::invalid(&format!("{path}.{at}[{resource}]"), shown, detail));
                }
            }
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
