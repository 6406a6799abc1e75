//! `apps/v1 DaemonSet`.

use object::Invalid;
use serde_json::{Value, json};

use crate::apps::validate_workload;
use crate::core::podspec::set;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules, drop_status, keep_status};
use crate::{age, cells, checks};

pub(crate) const RULES: Rules = Rules { default, prepare_create, prepare_update, validate, row, ..NO_RULES };

/// Counts changes of the template, for clients of old.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn prepare_create(new: &mut Value) {
    drop_status(new);
    new["metadata"]["annotations"][TEMPLATE_GENERATION] = "1".into();
}

fn prepare_update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    let before = old["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|n| n.parse::<i64>().ok());
    let Some(before) = before else { return };
    let changed = new["spec"]["template"] != old["spec"]["template"];
    let count = before + i64::from(changed);
    new["metadata"]["annotations"][TEMPLATE_GENERATION] = count.to_string().into();
}

fn default(object: &mut Value) {
    let spec = &mut object["spec"];
    if spec.get("revisionHistoryLimit").is_none() {
        spec["revisionHistoryLimit"] = 10.into();
    }
    if !spec["updateStrategy"].is_object() {
        spec["updateStrategy"] = json!({});
    }
    let strategy = &mut spec["updateStrategy"];
    set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        for (field, value) in [("maxUnavailable", 1), ("maxSurge", 0)] {
            if strategy["rollingUpdate"].get(field).is_none() {
                strategy["rollingUpdate"][field] = value.into();
            }
        }
    }
    default_template(&mut spec["template"]);
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    validate_workload(new, "daemonset", "DaemonSet", errors);
    let spec = &new["spec"];
    let (strategy, path) = (&spec["updateStrategy"], "spec.updateStrategy");
    match strategy["type"].as_str() {
        Some("OnDelete") => {}
        Some("RollingUpdate") => rolling(&strategy["rollingUpdate"], &format!("{path}.rollingUpdate"), errors),
        _ => checks::exactly_one_of(strategy, path, "type", &["OnDelete", "RollingUpdate"], errors),
    }
    checks::non_negative(spec, "spec", &["revisionHistoryLimit"], errors);
    checks::immutable(new, old, &["spec.selector"], errors);
}

fn rolling(rolling: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let fields = ["maxUnavailable", "maxSurge"];
    for check in [checks::number_or_percent, checks::at_most_all] {
        for field in fields {
            check(&rolling[field], &format!("{path}.{field}"), errors);
        }
    }
    match fields.map(|f| checks::amount(&rolling[f]) != 0) {
        [true, true] => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(Invalid::invalid(&format!("{path}.maxSurge"), &rolling["maxSurge"], detail));
        }
        [false, false] => {
            errors.push(Invalid::required(&format!("{path}.maxUnavailable"), "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let number = |field: &str| Value::from(object["status"][field].as_i64().unwrap_or(0));
    let mut row = vec![
        object["metadata"]["name"].clone(),
        number("desiredNumberScheduled"),
        number("currentNumberScheduled"),
        number("numberReady"),
        number("updatedNumberScheduled"),
        number("numberAvailable"),
        cells::selector(&object["spec"]["template"]["spec"]["nodeSelector"]).into(),
        age::since(&object["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(object));
    row
}
