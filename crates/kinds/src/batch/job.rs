//! `batch/v1 Job`.

use object::Invalid;
use serde_json::{Value, json};

use crate::core::podspec::set;
use crate::core::podtemplate::{default_template, validate_template};
use crate::kind::{NO_RULES, Rules};
use crate::{age, cells};

pub(crate) const RULES: Rules =
    Rules { default: |job| default_spec(&mut job["spec"]), prepare_create, validate, row, ..NO_RULES };

pub(super) fn default_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    let none = |spec: &Value, field: &str| spec.get(field).is_none_or(Value::is_null);
    if none(spec, "completions") && none(spec, "parallelism") {
        spec["completions"] = 1.into();
    }
    for (field, value) in [
        ("parallelism", Value::from(1)),
        ("backoffLimit", 6.into()),
        ("suspend", false.into()),
        ("manualSelector", false.into()),
    ] {
        if none(spec, field) && field != "manualSelector" {
            spec[field] = value;
        }
    }
    set(spec, "completionMode", "NonIndexed");
    set(spec, "podReplacementPolicy", "TerminatingOrFailed");
    default_template(&mut spec["template"]);
}

/// A job selects its pods by its own uid, unless the user takes that on.
fn prepare_create(job: &mut Value) {
    crate::kind::drop_status(job);
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    if job["spec"].get("manualSelector").is_some_and(Value::is_null) {
        job["spec"].as_object_mut().and_then(|s| s.remove("manualSelector"));
    }
    let labels = &mut job["spec"]["template"]["metadata"]["labels"];
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
    ] {
        labels[key] = value.clone();
    }
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    for field in ["parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        if let Some(value) = spec[field].as_i64().filter(|v| *v < 0) {
            errors.push(Invalid::invalid(
                &format!("spec.{field}"),
                &value.into(),
                "must be greater than or equal to 0",
            ));
        }
    }
    validate_template(&spec["template"], "spec.template", errors);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    if policy == "Always" {
        let detail = "valid values: \"OnFailure\", \"Never\"";
        errors.push(Invalid::required("spec.template.spec.restartPolicy", detail));
    }
    let Some(old) = old else { return };
    for field in ["selector", "template", "completionMode", "completions"] {
        let elastic = field == "completions" && spec["completionMode"] == "Indexed";
        let suspended = field == "template" && old["spec"]["suspend"] == true;
        if old["spec"][field] != spec[field] && !elastic && !suspended {
            errors.push(Invalid::invalid(&format!("spec.{field}"), &spec[field], "field is immutable"));
        }
    }
}

fn row(job: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let has = |kind: &str| {
        let all = status["conditions"].as_array().into_iter().flatten();
        all.into_iter().any(|c| c["type"] == kind && c["status"] == "True")
    };
    let state = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job["metadata"]["deletionTimestamp"].is_string() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let succeeded = status["succeeded"].as_i64().unwrap_or(0);
    let completions = match (spec["completions"].as_i64(), spec["parallelism"].as_i64()) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallel)) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        _ => format!("{succeeded}/1"),
    };
    let seconds =
        |value: &Value| value.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second);
    let duration = match (seconds(&status["startTime"]), seconds(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), end) => age::human(end.unwrap_or(now) - start),
    };
    let mut row = vec![
        job["metadata"]["name"].clone(),
        state.into(),
        completions.into(),
        duration.into(),
        age::since(&job["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(job));
    row
}
