//! `batch/v1 CronJob`.

mod schedule;

use object::Invalid;
use serde_json::Value;

use crate::batch::job;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, list, set, text};
use crate::{age, cells, checks, names};

pub(crate) const RULES: Rules = Rules { default, validate, name, row, ..NO_RULES };

/// Eleven characters are left for what the controller appends to the names of jobs.
fn name(name: &str) -> Option<String> {
    names::subdomain(name).or_else(|| (name.len() > 52).then(|| "must be no more than 52 characters".into()))
}

fn default(cron: &mut Value) {
    let Some(spec) = child(cron, "spec") else { return };
    set(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", false);
    set(spec, "successfulJobsHistoryLimit", 3);
    set(spec, "failedJobsHistoryLimit", 1);
    if let Some(template) = child(spec, "jobTemplate.spec.template") {
        default_template(template);
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let (when, zone) = (text(&spec["schedule"]), &spec["timeZone"]);
    if when.is_empty() {
        errors.push(Invalid::required("spec.schedule", ""));
    } else {
        if let Some(why) = schedule::problem(when) {
            errors.push(Invalid::invalid("spec.schedule", &when.into(), why));
        }
        let kept = old.is_some_and(|o| o["spec"]["schedule"] == spec["schedule"]);
        if when.contains("TZ") && !kept {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(Invalid::invalid("spec.schedule", &when.into(), detail));
        }
    }
    match zone.as_str() {
        Some("") => errors.push(Invalid::invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")),
        Some("local" | "Local") => {
            let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
            errors.push(Invalid::invalid("spec.timeZone", zone, detail));
        }
        _ => {}
    }
    checks::non_negative(spec, "spec", &["startingDeadlineSeconds"], errors);
    match text(&spec["concurrencyPolicy"]) {
        "" => errors.push(Invalid::required("spec.concurrencyPolicy", "")),
        _ => checks::one_of(spec, "spec", "concurrencyPolicy", &["Allow", "Forbid", "Replace"], errors),
    }
    let limits = ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    checks::non_negative(spec, "spec", &limits, errors);
    job::validate_spec(&spec["jobTemplate"]["spec"], "spec.jobTemplate.spec", errors);
}

fn row(cron: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&cron["spec"], &cron["status"]);
    let last = match &status["lastScheduleTime"] {
        Value::Null => "<none>".into(),
        time => age::since(time, now),
    };
    let suspended = match spec["suspend"].as_bool() {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    let mut row = vec![
        cron["metadata"]["name"].clone(),
        text(&spec["schedule"]).into(),
        spec["timeZone"].as_str().unwrap_or("<none>").into(),
        suspended.into(),
        list(&status["active"]).len().into(),
        last.into(),
        age::since(&cron["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(&spec["jobTemplate"]));
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn cron() {
        let case = Case::new("batch/v1", "CronJob");
        let template = json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}}}});
        case.invalid(json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": template}}), &[]);
        case.invalid(
            json!({"spec": {"schedule": "* * *", "timeZone": "Local", "concurrencyPolicy": "Some", "jobTemplate": template}}),
            &[
                "spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]",
                "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                "spec.concurrencyPolicy: Unsupported value: \"Some\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            ],
        );
        case.row(
            json!({"spec": {"schedule": "@daily", "suspend": false, "jobTemplate": template}, "status": {"active": [{}], "lastScheduleTime": "2023-11-14T22:13:29Z"}}),
            json!(["x", "@daily", "<none>", "False", 1, "1s", "10s", "c", "i:1", "<none>"]),
        );
    }
}
