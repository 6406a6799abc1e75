//! `apps/v1 DaemonSet`.

use serde_json::{Value, json};

use crate::apps::validate_workload;
use crate::core::podspec::set;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules};
use crate::{age, cells};

pub(crate) const RULES: Rules = Rules { default, validate: validate_workload, row, ..NO_RULES };

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
