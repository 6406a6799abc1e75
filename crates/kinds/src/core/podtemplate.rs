//! `v1/PodTemplate`, and the template that every workload has.

use serde_json::Value;

use crate::core::podspec;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::{cells, metadata};

pub(crate) const RULES: Rules =
    Rules { default: |object| default_template(&mut object["template"]), validate, row, warnings, ..NO_RULES };

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    match podspec::warnings::is_changed(new, old) {
        true => podspec::warnings::warnings(&new["template"], "template"),
        false => Vec::new(),
    }
}

fn validate(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    validate_template(&Spot::new(&new["template"], "template"), errors);
}

/// Defaults of a workload's template.
pub(crate) fn default_template(template: &mut Value) {
    if template.is_object() {
        if template.get("metadata").is_none() {
            template["metadata"] = Value::Object(Default::default());
        }
        podspec::default(&mut template["spec"]);
        podspec::drop_disabled(&mut template["spec"]);
        if crate::tree::entries(&template["spec"]["overhead"]).next().is_none() {
            crate::tree::remove(&mut template["spec"], "overhead");
        }
    }
}

/// Adds what is wrong with a workload's template.
pub(crate) fn validate_template(template: &Spot, errors: &mut Errors) {
    validate_metadata(template, errors);
    let spec = template.at("spec");
    podspec::validate(&spec, &Value::Null, errors);
    if spec.at("ephemeralContainers").len() > 0 {
        spec.at("ephemeralContainers").forbid("ephemeral containers not allowed in pod template", errors);
    }
}

/// Labels and annotations of a template, where upstream names them.
pub(crate) fn validate_metadata(template: &Spot, errors: &mut Errors) {
    let given = template.at("metadata");
    let (labels, annotations) = (given.at("labels"), given.at("annotations"));
    template.alias("labels", labels.value).labels(errors);
    let at = template.alias("annotations", annotations.value);
    metadata::annotations(annotations.value, &at.path(), errors);
}

fn row(object: &Value, _: i64) -> Vec<Value> {
    let containers = object["template"]["spec"]["containers"].as_array();
    let join = |field: &str| {
        Value::from(containers.into_iter().flatten().filter_map(|c| c[field].as_str()).collect::<Vec<_>>().join(","))
    };
    let labels = cells::selector(&object["template"]["metadata"]["labels"]);
    vec![object["metadata"]["name"].clone(), join("name"), join("image"), labels.into()]
}
