//! `batch/v1 CronJob`.

use object::Invalid;
use serde_json::Value;

use crate::batch::job;
use crate::core::podspec::set;
use crate::core::podtemplate::validate_template;
use crate::kind::{NO_RULES, Rules};

pub(crate) const RULES: Rules = Rules { default, validate, ..NO_RULES };

fn default(cron: &mut Value) {
    let spec = &mut cron["spec"];
    set(spec, "concurrencyPolicy", "Allow");
    for (field, value) in [
        ("suspend", Value::from(false)),
        ("successfulJobsHistoryLimit", 3.into()),
        ("failedJobsHistoryLimit", 1.into()),
    ] {
        if spec.get(field).is_none() {
            spec[field] = value;
        }
    }
    if spec["jobTemplate"].is_object() {
        job::default_spec(&mut spec["jobTemplate"]["spec"]);
    }
}

fn validate(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    if spec["schedule"].as_str().is_none_or(str::is_empty) {
        errors.push(Invalid::required("spec.schedule", ""));
    }
    if !["Allow", "Forbid", "Replace"].contains(&spec["concurrencyPolicy"].as_str().unwrap_or("")) {
        errors.push(Invalid::not_supported(
            "spec.concurrencyPolicy",
            &spec["concurrencyPolicy"],
            &["Allow", "Forbid", "Replace"],
        ));
    }
    validate_template(&spec["jobTemplate"]["spec"]["template"], "spec.jobTemplate.spec.template", errors);
}
