//! `policy/v1 PodDisruptionBudget`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::{age, checks};

pub(crate) const RULES: Rules = Rules { validate, row, ..NO_RULES };

fn validate(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let bounds = ["minAvailable", "maxUnavailable"];
    if bounds.iter().all(|b| !spec[*b].is_null()) {
        errors.push(Invalid::invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"));
    }
    for bound in bounds {
        checks::number_or_percent(&spec[bound], &format!("spec.{bound}"), errors);
        checks::at_most_all(&spec[bound], &format!("spec.{bound}"), errors);
    }
    checks::selector(&spec["selector"], "spec.selector", errors);
    checks::one_of(spec, "spec", "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"], errors);
}

fn row(budget: &Value, now: i64) -> Vec<Value> {
    let bound = |field: &str| match &budget["spec"][field] {
        Value::Null => Value::from("N/A"),
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into(),
    };
    vec![
        budget["metadata"]["name"].clone(),
        bound("minAvailable"),
        bound("maxUnavailable"),
        budget["status"]["disruptionsAllowed"].as_i64().unwrap_or(0).into(),
        age::since(&budget["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn budget() {
        let case = Case::new("policy/v1", "PodDisruptionBudget");
        case.invalid(
            json!({"spec": {"minAvailable": "120%"}}),
            &["spec.minAvailable: Invalid value: \"120%\": must not be greater than 100%"],
        );
        case.invalid(
            json!({"spec": {"maxUnavailable": -1}}),
            &["spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0"],
        );
        case.row(json!({"spec": {"minAvailable": 1}}), json!(["x", "1", "N/A", 0, "10s"]));
    }
}
