//! `batch/v1 Job`.

use object::{Invalid, LabelSelector};
use serde_json::{Value, json};

mod policy;
mod status;

use crate::core::podspec;
use crate::core::podtemplate::{default_template, validate_template};
use crate::kind::{NO_RULES, Rules, keep};
use crate::spot::{Errors, Spot};
use crate::tree::{child, each, entries, list, made, set, set_text, text};
use crate::{age, cells, checks, names};

pub(crate) const RULES: Rules =
    Rules { default, prepare_create, validate, validate_status: status::validate, row, warnings, ..NO_RULES };

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
        each(rule, "onPodConditions", |condition| set_text(condition, "status", "True"));
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

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() {
        found.extend(podspec::warnings::host_name(&new["metadata"]["name"], "Pod names and hostnames"));
    }
    found.extend(of_spec(&new["spec"], "spec"));
    found
}

/// What to tell of a job's spec, also of a cron job's template.
pub(super) fn of_spec(spec: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let many = |field: &str, most: i64| spec[field].as_i64().is_some_and(|n| n > most);
    if spec["completionMode"] == "Indexed" && many("completions", 100_000) && many("parallelism", 10_000) {
        found.push(format!("{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    found.extend(podspec::warnings::warnings(&spec["template"], &format!("{path}.template")));
    found
}

/// A job selects its pods by its own uid, unless the user takes that on.
fn prepare_create(job: &mut Value) {
    crate::kind::drop_status(job);
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), Value::from(text(&job["metadata"]["name"])));
    // As upstream: labels that were taken from the template stay its labels.
    let (given, template) = (&job["metadata"]["labels"], cells::at(&job["spec"], "template.metadata.labels"));
    let shared = given.is_object() && given == template;
    let labels = &mut job["spec"]["template"]["metadata"]["labels"];
    if !labels.is_object() {
        *labels = json!({});
    }
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("job-name", &name),
    ] {
        set(labels, key, value.clone());
    }
    if shared {
        job["metadata"]["labels"] = labels.clone();
    }
    if let Some(selector) = made(&mut job["spec"], "selector").and_then(|s| made(s, "matchLabels")) {
        set(selector, "batch.kubernetes.io/controller-uid", uid);
    }
}

const INDEXED_ONLY: &str = "requires indexed completion mode";
/// What a job with indices may have most of, and from when on it may have less.
const MOST_PARALLEL: i64 = 100_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;

/// Adds what is wrong with a job's spec but for its selector: also of a cron job's template.
pub(super) fn validate_spec(spec: &Spot, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.at(field).not_negative(errors);
    }
    let (per_index, failed) = (spec.at("backoffLimitPerIndex"), spec.at("maxFailedIndexes"));
    if failed.is_set() && !per_index.is_set() {
        per_index.missing("when maxFailedIndexes is specified", errors);
    }
    if spec.at("managedBy").is_set() {
        checks::domain_path(&spec.at("managedBy"), errors);
        if spec.at("managedBy").text().len() > 63 {
            errors.push(Invalid::too_long(&spec.at("managedBy").path(), 63));
        }
    }
    spec.at("completionMode").one_of(&["NonIndexed", "Indexed"], errors);
    match spec.at("completionMode").text() {
        "Indexed" => indexed(spec, errors),
        _ if spec.at("completionMode").is_set() && spec.at("completionMode").text() != "NonIndexed" => {}
        _ => {
            for field in [&per_index, &failed].into_iter().filter(|f| f.is_set()) {
                field.fail(INDEXED_ONLY, errors);
            }
        }
    }
    policy::failure(spec, errors);
    if spec.at("successPolicy").is_set() {
        match spec.at("completionMode").text() {
            "Indexed" => policy::success(spec, errors),
            _ => spec.at("successPolicy").fail(INDEXED_ONLY, errors),
        }
    }
    let replacement: &[&str] = match spec.at("podFailurePolicy").is_set() {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    spec.at("podReplacementPolicy").one_of(replacement, errors);
    let template = spec.at("template");
    validate_template(&template, errors);
    let pod = template.at("spec");
    let restart = pod.at("restartPolicy");
    match restart.text() {
        "" | "Always" => restart.missing("valid values: \"OnFailure\", \"Never\"", errors),
        "OnFailure" if spec.at("podFailurePolicy").is_set() => {
            restart.fail("only \"Never\" is supported when podFailurePolicy is specified", errors);
        }
        "OnFailure" | "Never" => {}
        _ => restart.unsupported(&["OnFailure", "Never"], errors),
    }
}

fn indexed(spec: &Spot, errors: &mut Errors) {
    let [completions, parallelism, failed] = ["completions", "parallelism", "maxFailedIndexes"].map(|f| spec.at(f));
    if !completions.is_set() {
        completions.missing("when completion mode is Indexed", errors);
    }
    let at_most = |spot: &Spot, most: i64, when: &str, errors: &mut Errors| {
        if spot.number().is_some_and(|n| n > most) {
            spot.fail(format!("must be less than or equal to {most}{when}"), errors);
        }
    };
    at_most(&parallelism, MOST_PARALLEL, " when completion mode is Indexed", errors);
    if completions.is_set() && failed.number().is_some_and(|n| n > completions.count()) {
        failed.fail("must be less than or equal to completions", errors);
    }
    at_most(&failed, MOST_PARALLEL, "", errors);
    if completions.count() > MANY_COMPLETIONS && spec.at("backoffLimitPerIndex").is_set() {
        if !failed.is_set() {
            failed.missing(format!("must be specified when completions is above {MANY_COMPLETIONS}"), errors);
        }
        let when = format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        at_most(&parallelism, MOST_OF_MANY, &when, errors);
        at_most(&failed, MOST_OF_MANY, &when, errors);
    }
}

/// Labels that a job gives its pods, unless the user takes that on.
fn generated(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (metadata, spec) = (&new["metadata"], &new["spec"]);
    if spec["manualSelector"] == true || spec["selector"].is_null() || !metadata["uid"].is_string() {
        return;
    }
    let (uid, name) = (text(&metadata["uid"]), text(&metadata["name"]));
    let labels = &spec["template"]["metadata"]["labels"];
    let wanted = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    // Jobs that were made without these labels need not have them.
    let had = |old: &Value| {
        let labels = &old["spec"]["template"]["metadata"]["labels"];
        wanted[2..].iter().all(|(key, _)| labels[*key].is_string())
    };
    let asked = if old.is_none_or(had) { &wanted[..] } else { &wanted[..2] };
    for &(key, value) in asked {
        match labels[key].as_str() {
            Some(given) if given == value => {}
            Some(_) => {
                let at = format!("spec.template.metadata.labels[{key}]");
                errors.push(Invalid::invalid(&at, labels, format!("must be '{value}'")));
            }
            None => {
                let at = format!("spec.template.metadata.labels[{key}]");
                errors.push(Invalid::required(&at, format!("must be '{value}'")));
            }
        }
    }
    let map: object::Texts = wanted.iter().map(|(k, v)| (*k, *v)).collect();
    let mut wrong = Vec::new();
    Spot::new(&spec["selector"], "").selector(&mut wrong);
    if wrong.is_empty() && LabelSelector::from_object(&spec["selector"]).is_some_and(|s| !s.matches(&map)) {
        errors.push(Invalid::invalid("spec.selector", &spec["selector"], "`selector` not auto-generated"));
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    generated(new, old, errors);
    validate_whole(new, errors);
    match old {
        Some(old) => {
            // As upstream, which looks at an update's whole spec twice.
            validate_whole(new, errors);
            update(new, old, errors);
        }
        None => host_names(new, errors),
    }
}

fn validate_whole(new: &Value, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    validate_spec(&spec, errors);
    let (selector, labels) = (spec.at("selector"), &new["spec"]["template"]["metadata"]["labels"]);
    if !selector.is_set() {
        selector.missing("", errors);
    }
    let before = errors.len();
    selector.selector(errors);
    let good = errors.len() == before;
    let map: object::Texts = serde_json::from_value(labels.clone()).unwrap_or_default();
    if !selector.is_set() || good && LabelSelector::from_object(selector.value).is_some_and(|s| !s.matches(&map)) {
        let detail = "`selector` does not match template `labels`";
        errors.push(Invalid::invalid("spec.template.metadata.labels", labels, detail));
    }
}

/// Pods of a job with indices are called by them.
fn host_names(new: &Value, errors: &mut Errors) {
    let completions = new["spec"]["completions"].as_i64().filter(|n| *n > 0);
    if let Some(last) = completions.filter(|_| new["spec"]["completionMode"] == "Indexed") {
        let longest = format!("{}-{}", text(&new["metadata"]["name"]), last - 1);
        if !names::label(&longest).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {longest}");
            errors.push(Invalid::invalid("metadata.name", &text(&new["metadata"]["name"]).into(), detail));
        }
    }
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let spec = &new["spec"];
    // A job with indices may be made larger or smaller, its parallelism with it.
    if spec["completionMode"] != "Indexed" {
        checks::immutable(new, Some(old), &["spec.completions"], errors);
    } else if spec["completions"].is_i64()
        && spec["completions"] != old["spec"]["completions"]
        && spec["completions"] != spec["parallelism"]
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(Invalid::invalid("spec.completions", &spec["completions"], detail));
    }
    checks::immutable(new, Some(old), &["spec.selector"], errors);
    template_update(spec, old, errors);
    let fields = ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"];
    checks::immutable(new, Some(old), &fields.map(|f| format!("spec.{f}")).each_ref().map(String::as_str), errors);
}

/// Where the pods go and what they ask for may change until the job starts.
fn template_update(spec: &Value, old: &Value, errors: &mut Errors) {
    let suspended = old["spec"]["suspend"] == true;
    let stopped = list(&old["status"]["conditions"]).iter().any(|c| c["type"] == "Suspended" && c["status"] == "True");
    let mut before = old["spec"]["template"].clone();
    if suspended && (stopped || old["status"]["startTime"].is_null()) {
        for (part, fields) in [
            ("spec", &["nodeSelector", "tolerations", "schedulingGates"][..]),
            ("metadata", &["annotations", "labels"][..]),
        ] {
            for field in fields {
                keep(&mut before[part], &spec["template"][part], field);
            }
        }
        let wanted = &spec["template"]["spec"]["affinity"];
        if wanted.is_object() || before["spec"]["affinity"].is_object() {
            let mut affinity = before["spec"]["affinity"].clone();
            if !affinity.is_object() {
                affinity = json!({});
            }
            keep(&mut affinity, wanted, "nodeAffinity");
            before["spec"]["affinity"] = affinity;
            if wanted.is_null() && before["spec"]["affinity"] == json!({}) {
                crate::tree::remove(&mut before["spec"], "affinity");
            }
        }
        for list in ["containers", "initContainers"] {
            let now = spec["template"]["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
            let Some(was) = before["spec"][list].as_array_mut().filter(|was| was.len() == now.len()) else { continue };
            for (was, now) in was.iter_mut().zip(now).filter(|(was, now)| was["name"] == now["name"]) {
                keep(was, now, "resources");
            }
        }
        if before["spec"]["initContainers"].is_null() {
            crate::tree::remove(&mut before["spec"], "initContainers");
        }
    }
    // As upstream: of a job that is suspended, only the pods' spec is compared.
    let (path, before, now) = match suspended {
        true => ("spec.template.spec", &before["spec"], &spec["template"]["spec"]),
        false => ("spec.template", &before, &spec["template"]),
    };
    if before != now {
        errors.push(Invalid::invalid(path, now, "field is immutable"));
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
