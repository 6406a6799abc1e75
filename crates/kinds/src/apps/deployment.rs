//! `apps/v1 Deployment`.

use object::Invalid;
use serde_json::{Value, json};

use crate::apps::{validate_collisions, validate_counts, validate_selected_template, validate_selector};
use crate::core::podspec::{self, set};
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules, keep, keep_all_but_status};
use crate::spot::{Errors, Spot};
use crate::{age, cells, checks};

pub(crate) const RULES: Rules = Rules {
    default,
    prepare_status,
    validate,
    validate_status,
    row,
    warnings: podspec::warnings::workload,
    ..NO_RULES
};

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

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    spec.at("replicas").not_negative(errors);
    validate_selector(&spec, "deployment", errors);
    validate_selected_template(&spec, "ReplicaSet", errors);
    let strategy = spec.at("strategy");
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "Recreate" if rolling.is_set() => {
            rolling.forbid("may not be specified when strategy `type` is 'Recreate'", errors);
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => {
            rolling.missing("this should be defaulted and never be nil", errors);
        }
        "RollingUpdate" => validate_rolling(&rolling, errors),
        _ => errors.push(Invalid::unsupported(&strategy.path(), strategy.value, &["Recreate", "RollingUpdate"])),
    }
    spec.at("minReadySeconds").not_negative(errors);
    spec.at("revisionHistoryLimit").not_negative(errors);
    let deadline = spec.at("progressDeadlineSeconds");
    deadline.not_negative(errors);
    if deadline.number().is_some_and(|d| d <= spec.at("minReadySeconds").count()) {
        deadline.fail("must be greater than minReadySeconds", errors);
    }
    checks::immutable(new, old, &["spec.selector"], errors);
}

fn validate_rolling(rolling: &Spot, errors: &mut Errors) {
    let (least, most) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    for field in [&least, &most] {
        checks::number_or_percent(field.value, &field.path(), errors);
    }
    if checks::amount(least.value) == 0 && checks::amount(most.value) == 0 {
        least.fail("may not be 0 when `maxSurge` is 0", errors);
    }
    checks::at_most_all(least.value, &least.path(), errors);
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    let counts = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    validate_counts(&status, &counts, &["updatedReplicas", "readyReplicas", "availableReplicas"], errors);
    let available = status.at("availableReplicas");
    if available.count() > status.at("readyReplicas").count() {
        available.fail("cannot be greater than readyReplicas", errors);
    }
    validate_collisions(new, old, errors);
}

/// A status that is written leaves the labels alone, too.
fn prepare_status(new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    keep(&mut new["metadata"], &old["metadata"], "labels");
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
