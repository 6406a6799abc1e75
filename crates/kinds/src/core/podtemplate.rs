//! `v1/PodTemplate`, and the template that every workload has.

use object::Invalid;
use serde_json::Value;

use crate::core::podspec;
use crate::kind::{NO_RULES, Rules};
use crate::{cells, metadata};

pub(crate) const RULES: Rules =
    Rules { default: |object| default_template(&mut object["template"]), validate, row, ..NO_RULES };

fn validate(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    validate_template(&new["template"], "template", errors);
}

/// Defaults of a workload's template.
pub(crate) fn default_template(template: &mut Value) {
    if template.is_object() {
        if template.get("metadata").is_none() {
            template["metadata"] = Value::Object(Default::default());
        }
        podspec::default(&mut template["spec"]);
    }
}

/// Field errors of the template at `path` (`spec.template`).
pub(crate) fn validate_template(template: &Value, path: &str, errors: &mut Vec<Invalid>) {
    metadata::labels(&template["metadata"]["labels"], &format!("{path}.labels"), errors);
    podspec::validate(&template["spec"], &format!("{path}.spec"), errors);
}

fn row(object: &Value, _: i64) -> Vec<Value> {
    let containers = object["template"]["spec"]["containers"].as_array();
    let join = |field: &str| {
        Value::from(containers.into_iter().flatten().filter_map(|c| c[field].as_str()).collect::<Vec<_>>().join(","))
    };
    let labels = cells::selector(&object["template"]["metadata"]["labels"]);
    vec![object["metadata"]["name"].clone(), join("name"), join("image"), labels.into()]
}
