//! Priority and fairness (`flowcontrol.apiserver.k8s.io/v1`).

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, list, text};
use crate::{age, checks, names};

const ANY: Rules = Rules { name: names::path_segment, ..NO_RULES };
pub(crate) const SCHEMA_RULES: Rules = Rules { default: default_schema, validate: validate_schema, row, ..ANY };
pub(crate) const LEVEL_RULES: Rules = Rules { default: default_level, validate: validate_level, ..ANY };

fn default_schema(schema: &mut Value) {
    let Some(spec) = child(schema, "spec") else { return };
    if spec["matchingPrecedence"].as_i64().unwrap_or(0) == 0 {
        spec["matchingPrecedence"] = 1000.into();
    }
}

fn validate_schema(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    if spec["matchingPrecedence"].as_i64().is_none_or(|p| !(1..=10_000).contains(&p)) {
        let detail = "must be a value between 1 and 10000, inclusive";
        errors.push(Invalid::invalid("spec.matchingPrecedence", &spec["matchingPrecedence"], detail));
    }
    checks::required(spec, "spec", "priorityLevelConfiguration.name", errors);
    checks::one_of(spec, "spec", "distinguisherMethod.type", &["ByNamespace", "ByUser"], errors);
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        if list(&rule["subjects"]).is_empty() {
            errors.push(Invalid::required(&format!("{path}.subjects"), "subjects must contain at least one value"));
        }
        if list(&rule["resourceRules"]).is_empty() && list(&rule["nonResourceRules"]).is_empty() {
            errors.push(Invalid::required(
                &path,
                "at least one of resourceRules and nonResourceRules has to be non-empty",
            ));
        }
    }
}

fn default_level(level: &mut Value) {
    let number = |object: &mut Value, field: &str, value: i64| {
        if object[field].is_null() {
            object[field] = value.into();
        }
    };
    if let Some(exempt) = child(level, "spec.exempt") {
        number(exempt, "nominalConcurrencyShares", 0);
        number(exempt, "lendablePercent", 0);
    }
    let Some(limited) = child(level, "spec.limited") else { return };
    number(limited, "nominalConcurrencyShares", 30);
    number(limited, "lendablePercent", 0);
    if let Some(queuing) = child(limited, "limitResponse.queuing") {
        for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
            if queuing[field].as_i64().unwrap_or(0) == 0 {
                queuing[field] = value.into();
            }
        }
    }
}

fn validate_level(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    match text(&spec["type"]) {
        "Limited" if !spec["limited"].is_object() => {
            errors.push(Invalid::required("spec.limited", "must not be empty when type is Limited"));
        }
        "Exempt" if spec["limited"].is_object() => {
            errors.push(Invalid::forbidden("spec.limited", "must be nil if the type is not Limited"));
        }
        "Limited" | "Exempt" => {}
        _ => checks::exactly_one_of(spec, "spec", "type", &["Exempt", "Limited"], errors),
    }
    checks::one_of(&spec["limited"], "spec.limited", "limitResponse.type", &["Queue", "Reject"], errors);
    let response = &spec["limited"]["limitResponse"];
    if response["type"] == "Queue" && !response["queuing"].is_object() {
        let detail = "must not be empty if limited.limitResponse.type is Limited";
        errors.push(Invalid::required("spec.limited.limitResponse.queuing", detail));
    }
}

fn row(schema: &Value, now: i64) -> Vec<Value> {
    let spec = &schema["spec"];
    let dangling = list(&schema["status"]["conditions"]).iter().find(|c| c["type"] == "Dangling");
    let method = &spec["distinguisherMethod"];
    vec![
        schema["metadata"]["name"].clone(),
        text(&spec["priorityLevelConfiguration"]["name"]).into(),
        spec["matchingPrecedence"].as_i64().unwrap_or(0).into(),
        method["type"].as_str().unwrap_or("<none>").into(),
        age::since(&schema["metadata"]["creationTimestamp"], now).into(),
        dangling.map_or("?", |c| text(&c["status"])).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn schema_and_level() {
        let group = "flowcontrol.apiserver.k8s.io/v1";
        Case::new(group, "FlowSchema").row(
            json!({"spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 5}, "status": {"conditions": [{"type": "Dangling", "status": "False"}]}}),
            json!(["x", "l", 5, "<none>", "10s", "False"]),
        );
        Case::new(group, "PriorityLevelConfiguration").defaulted(
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
            json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 30, "lendablePercent": 0,
                "limitResponse": {"type": "Queue", "queuing": {"handSize": 8, "queues": 64, "queueLengthLimit": 50}}}}}),
        );
    }
}
