//! `apps/v1 StatefulSet`.

use serde_json::{Value, json};

use crate::apps::validate_workload;
use crate::core::podspec::set;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules};
use crate::{age, cells};

pub(crate) const RULES: Rules = Rules { default, validate: validate_workload, row, ..NO_RULES };

fn default(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "podManagementPolicy", "OrderedReady");
    for (field, value) in [("replicas", 1), ("revisionHistoryLimit", 10)] {
        if spec.get(field).is_none() {
            spec[field] = value.into();
        }
    }
    if !spec["updateStrategy"].is_object() {
        spec["updateStrategy"] = json!({});
    }
    set(&mut spec["updateStrategy"], "type", "RollingUpdate");
    if spec["updateStrategy"]["type"] == "RollingUpdate"
        && spec["updateStrategy"]["rollingUpdate"]["partition"].is_null()
    {
        spec["updateStrategy"]["rollingUpdate"]["partition"] = 0.into();
    }
    if spec.get("persistentVolumeClaimRetentionPolicy").is_none() {
        spec["persistentVolumeClaimRetentionPolicy"] = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    }
    default_template(&mut spec["template"]);
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let ready = object["status"]["readyReplicas"].as_i64().unwrap_or(0);
    let mut row = vec![
        object["metadata"]["name"].clone(),
        format!("{ready}/{}", object["spec"]["replicas"].as_i64().unwrap_or(0)).into(),
        age::since(&object["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(object).into_iter().take(2));
    row
}
