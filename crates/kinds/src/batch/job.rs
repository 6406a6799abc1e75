//! `batch/v1 Job`.

use object::{Invalid, LabelSelector};
use serde_json::{Value, json};

use crate::core::podtemplate::{default_template, validate_template};
use crate::kind::{NO_RULES, Rules, keep};
use crate::tree::{child, each, entries, made, set, text};
use crate::{age, cells, checks};

pub(crate) const RULES: Rules = Rules { default, prepare_create, validate, row, ..NO_RULES };

fn default(job: &mut Value) {
    let Some(spec) = child(job, "spec") else { return };
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = 1.into();
    }
    // With a limit per index there is none for the whole.
    let tries = if spec["backoffLimitPerIndex"].is_null() { 6 } else { i64::from(i32::MAX) };
    let replacement = if spec["podFailurePolicy"].is_null() { "TerminatingOrFailed" } else { "Failed" };
    for (field, value) in [
        ("parallelism", json!(1)),
        ("backoffLimit", json!(tries)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!(replacement)),
        ("manualSelector", json!(false)),
    ] {
        set(spec, field, value);
    }
    each(spec, "podFailurePolicy.rules", |rule| {
        each(rule, "onPodConditions", |condition| set(condition, "status", "True"));
    });
    if let Some(template) = spec.get_mut("template") {
        default_template(template);
    }
    let labels = cells::at(spec, "template.metadata.labels").clone();
    if labels.is_object()
        && let Some(metadata) = made(job, "metadata")
        && entries(&metadata["labels"]).next().is_none()
    {
        metadata["labels"] = labels;
    }
}

/// A job selects its pods by its own uid, unless the user takes that on.
fn prepare_create(job: &mut Value) {
    crate::kind::drop_status(job);
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
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

/// Field errors of a job's spec but for its selector, at `path`: also of a cron job's template.
pub(super) fn validate_spec(spec: &Value, path: &str, errors: &mut Vec<Invalid>) {
    checks::non_negative(
        spec,
        path,
        &[
            "parallelism",
            "completions",
            "activeDeadlineSeconds",
            "backoffLimit",
            "ttlSecondsAfterFinished",
            "backoffLimitPerIndex",
            "maxFailedIndexes",
        ],
        errors,
    );
    let indexed = spec["completionMode"] == "Indexed";
    checks::one_of(spec, path, "completionMode", &["Indexed", "NonIndexed"], errors);
    if indexed && spec["completions"].is_null() {
        errors.push(Invalid::required(&format!("{path}.completions"), "when completion mode is Indexed"));
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"].into_iter().filter(|f| !indexed && !spec[*f].is_null()) {
        errors.push(Invalid::invalid(&format!("{path}.{field}"), &spec[field], "requires indexed completion mode"));
    }
    if spec["successPolicy"].is_object() && !indexed {
        let detail = "requires indexed completion mode";
        errors.push(Invalid::invalid(&format!("{path}.successPolicy"), &spec["successPolicy"], detail));
    }
    checks::one_of(spec, path, "podReplacementPolicy", &["Failed", "TerminatingOrFailed"], errors);
    let template = format!("{path}.template");
    validate_template(&spec["template"], &template, errors);
    let policy = &spec["template"]["spec"]["restartPolicy"];
    let at = format!("{template}.spec.restartPolicy");
    match text(policy) {
        "" | "Always" => errors.push(Invalid::required(&at, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if spec["podFailurePolicy"].is_object() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Invalid::invalid(&at, policy, detail));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(Invalid::not_supported(&at, policy, &["Never", "OnFailure"])),
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    validate_spec(spec, "spec", errors);
    let labels = &spec["template"]["metadata"]["labels"];
    if spec["selector"].is_null() {
        errors.push(Invalid::required("spec.selector", ""));
    } else {
        checks::selector(&spec["selector"], "spec.selector", errors);
        let map = serde_json::from_value(labels.clone()).unwrap_or_default();
        if !LabelSelector::from_object(&spec["selector"]).is_some_and(|s| s.matches(&map)) {
            let detail = "`selector` does not match template `labels`";
            errors.push(Invalid::invalid("spec.template.metadata.labels", labels, detail));
        }
    }
    let Some(old) = old else { return };
    // An indexed job may be made larger or smaller, its parallelism with it.
    let elastic = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    if !elastic {
        checks::immutable(new, Some(old), &["spec.completions"], errors);
    }
    checks::immutable(new, Some(old), &["spec.selector"], errors);
    let mut before = old.clone();
    if old["spec"]["suspend"] == true && old["status"]["startTime"].is_null() {
        // Where the pods go may change until the job starts.
        for (part, fields) in [
            ("spec", &["affinity", "nodeSelector", "tolerations", "schedulingGates"][..]),
            ("metadata", &["annotations", "labels"][..]),
        ] {
            for field in fields {
                keep(&mut before["spec"]["template"][part], &spec["template"][part], field);
            }
        }
    }
    let fields =
        ["template", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    checks::immutable(new, Some(&before), &fields.map(|f| format!("spec.{f}")).each_ref().map(String::as_str), errors);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::Case;

    fn job(extra: Value, policy: &str) -> Value {
        let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i:1"}]}}});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        json!({"spec": spec})
    }

    #[test]
    fn checks() {
        let case = Case::new("batch/v1", "Job");
        case.invalid(job(json!({}), "Never"), &[]);
        case.invalid(
            job(json!({"parallelism": -1, "completionMode": "Indexed"}), "Always"),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.completions: Required value: when completion mode is Indexed",
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            ],
        );
        case.update(
            job(json!({}), "Never"),
            job(json!({"completions": 4}), "Never"),
            &["spec.completions: Invalid value: 4: field is immutable"],
        );
        let placed = |suspend: bool, node: &str| {
            let mut made = job(json!({"suspend": suspend}), "Never");
            made["spec"]["template"]["spec"]["nodeSelector"] = json!({"node": node});
            made
        };
        case.update(placed(true, "a"), placed(true, "b"), &[]);
    }

    #[test]
    fn rows() {
        Case::new("batch/v1", "Job").row(
            json!({"spec": {"completions": 3}, "status": {"succeeded": 1, "startTime": "2023-11-14T22:13:25Z"}}),
            json!(["x", "Running", "1/3", "5s", "10s", "", "", "<none>"]),
        );
    }
}
