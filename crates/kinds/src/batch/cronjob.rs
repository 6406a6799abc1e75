//! `batch/v1 CronJob`.

mod schedule;

use object::Invalid;
use serde_json::Value;

use crate::batch::job;
use crate::core::podspec;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, list, set, text};
use crate::{age, cells, names};

pub(crate) const RULES: Rules = Rules { default, validate, name, row, warnings, ..NO_RULES };

/// Eleven characters are left for what the controller appends to the names of jobs.
fn name(name: &str) -> names::Problems {
    let mut problems = names::subdomain(name);
    if name.len() > 52 {
        problems.push("must be no more than 52 characters".into());
    }
    problems
}

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if text(&new["spec"]["schedule"]).contains("TZ") {
        found.push("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    found.extend(podspec::warnings::host_name(&new["metadata"]["name"], "Pod names and hostnames"));
    found.extend(job::of_spec(&new["spec"]["jobTemplate"]["spec"], "spec.jobTemplate.spec"));
    found
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
        let kept = old.is_some_and(|o| text(&o["spec"]["schedule"]).contains("TZ"));
        let detail = match (when.contains("TZ"), kept) {
            (true, true) if zone.is_string() => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
            (true, false) => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            _ => "",
        };
        if !detail.is_empty() {
            errors.push(Invalid::invalid("spec.schedule", &when.into(), detail));
        }
    }
    if old.is_none_or(|old| old["spec"]["timeZone"] != *zone) {
        time_zone(zone, errors);
    }
    let whole = Spot::new(spec, "spec");
    whole.at("startingDeadlineSeconds").not_negative(errors);
    whole.at("concurrencyPolicy").must_be_one_of(&["Allow", "Forbid", "Replace"], errors);
    let job = whole.at("jobTemplate");
    let job = job.at("spec");
    job::validate_spec(&job, errors);
    if job.at("selector").is_set() {
        job.at("selector").fail("`selector` will be auto-generated", errors);
    }
    if job.at("manualSelector").is_true() {
        errors.push(Invalid::unsupported(&job.at("manualSelector").path(), &true.into(), &["nil", "false"]));
    }
    whole.at("successfulJobsHistoryLimit").not_negative(errors);
    whole.at("failedJobsHistoryLimit").not_negative(errors);
}

fn time_zone(zone: &Value, errors: &mut Errors) {
    let Some(name) = zone.as_str() else { return };
    let mut fail = |detail: &str| errors.push(Invalid::invalid("spec.timeZone", zone, detail));
    if name.is_empty() {
        return fail("timeZone must be nil or non-empty string");
    }
    let fits = |part: &str| {
        (1..=14).contains(&part.len())
            && part != "."
            && part != ".."
            && !part.starts_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || ".-_+".contains(c))
    };
    if name.contains("..") || name.starts_with(['/', '\\']) {
        return fail("time: invalid location name");
    }
    if !name.split('/').all(fits) {
        return fail(&format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("local") {
        fail("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    if name != "Local" && jiff::tz::TimeZone::get(name).is_err() {
        fail(&format!("unknown time zone {name}"));
    }
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
