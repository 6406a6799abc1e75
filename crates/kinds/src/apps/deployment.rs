//! `apps/v1 Deployment`.

use object::Invalid;
use serde_json::{Value, json};

use crate::apps::validate_workload;
use crate::core::podspec::set;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules};
use crate::{age, cells, checks};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

fn default(deployment: &mut Value) {
    let spec = &mut deployment["spec"];
    for (field, value) in [("replicas", 1), ("revisionHistoryLimit", 10), ("progressDeadlineSeconds", 600)] {
        if spec.get(field).is_none() {
            spec[field] = value.into();
        }
    }
    if !spec["strategy"].is_object() {
        spec["strategy"] = json!({});
    }
    let strategy = &mut spec["strategy"];
    set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        for field in ["maxUnavailable", "maxSurge"] {
            if strategy["rollingUpdate"].get(field).is_none() {
                strategy["rollingUpdate"][field] = "25%".into();
            }
        }
    }
    default_template(&mut spec["template"]);
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    validate_workload(new, "deployment", "ReplicaSet", errors);
    let spec = &new["spec"];
    let strategy = &spec["strategy"];
    match strategy["type"].as_str() {
        Some("Recreate") if strategy["rollingUpdate"].is_object() => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Invalid::forbidden("spec.strategy.rollingUpdate", detail));
        }
        Some("Recreate") => {}
        Some("RollingUpdate") => rolling(&strategy["rollingUpdate"], errors),
        _ => {
            errors.push(Invalid::not_supported("spec.strategy.type", &strategy["type"], &["Recreate", "RollingUpdate"]))
        }
    }
    checks::non_negative(spec, "spec", &["revisionHistoryLimit", "progressDeadlineSeconds"], errors);
    let deadline = &spec["progressDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|d| d <= spec["minReadySeconds"].as_i64().unwrap_or(0)) {
        let detail = "must be greater than minReadySeconds";
        errors.push(Invalid::invalid("spec.progressDeadlineSeconds", deadline, detail));
    }
    checks::immutable(new, old, &["spec.selector"], errors);
}

fn rolling(rolling: &Value, errors: &mut Vec<Invalid>) {
    let path = "spec.strategy.rollingUpdate";
    for field in ["maxUnavailable", "maxSurge"] {
        checks::number_or_percent(&rolling[field], &format!("{path}.{field}"), errors);
    }
    let least = &rolling["maxUnavailable"];
    if checks::amount(least) == 0 && checks::amount(&rolling["maxSurge"]) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(Invalid::invalid(&format!("{path}.maxUnavailable"), least, detail));
    }
    checks::at_most_all(least, &format!("{path}.maxUnavailable"), errors);
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let number = |field: &str| object["status"][field].as_i64().unwrap_or(0);
    let mut row = vec![
        object["metadata"]["name"].clone(),
        format!("{}/{}", number("readyReplicas"), object["spec"]["replicas"].as_i64().unwrap_or(0)).into(),
        number("updatedReplicas").into(),
        number("availableReplicas").into(),
        age::since(&object["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(object));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_then_errors() {
        let mut deployment = json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "other"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}}});
        default(&mut deployment);
        assert_eq!(
            deployment["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
        );
        assert_eq!(deployment["spec"]["replicas"], 1);
        let mut errors = Vec::new();
        validate(&deployment, None, &mut errors);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"
            ]
        );
        let mut other = deployment.clone();
        other["spec"]["selector"]["matchLabels"]["app"] = "other".into();
        errors.clear();
        validate(&other, Some(&deployment), &mut errors);
        assert!(errors[0].to_string().ends_with("field is immutable"), "{errors:?}");
    }
}
