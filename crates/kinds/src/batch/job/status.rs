//! What may be said of a job through `status`. Much of it is looked at only where it changes: a job's spec may have changed under it.

use object::Invalid;
use serde_json::Value;

use super::policy::{count_indices, indices};
use crate::spot::{Errors, Spot};
use crate::tree::list;

const CONDITIONS: &str = "status.conditions";

fn is(job: &Value, kind: &str) -> bool {
    list(&job["status"]["conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True")
}

fn is_finished(job: &Value) -> bool {
    is(job, "Complete") || is(job, "Failed")
}

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    let changed = |field: &str| new["status"][field] != old["status"][field];
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        status.at(field).not_negative(errors);
    }
    uncounted(&status.at("uncountedTerminatedPods"), errors);
    let turned = |kind: &str| is(new, kind) != is(old, kind);
    let mut contradict = |when: bool, why: &str| {
        if when {
            errors.push(Invalid::unshown(CONDITIONS, why));
        }
    };
    contradict(
        (turned("Complete") || turned("Failed")) && is(new, "Complete") && is(new, "Failed"),
        "cannot set Complete=True and Failed=true conditions",
    );
    contradict(
        (turned("Complete") || turned("FailureTarget")) && is(new, "Complete") && is(new, "FailureTarget"),
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    times(&status, new, old, errors);
    let mut contradict = |when: bool, why: &str| {
        if when {
            errors.push(Invalid::unshown(CONDITIONS, why));
        }
    };
    contradict(
        (turned("Failed") || changed("failedIndexes")) && is(new, "Failed") && !is(new, "FailureTarget"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    contradict(
        (turned("Complete") || turned("SuccessCriteriaMet")) && is(new, "Complete") && !is(new, "SuccessCriteriaMet"),
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    finished(&status, new, old, errors);
    indexes(&status, new, old, errors);
    let (terminating, ready) = (status.at("terminating"), status.at("ready"));
    let ended = is_finished(new) != is_finished(old);
    if (ended || changed("terminating")) && terminating.count() > 0 && is_finished(new) {
        terminating.fail("terminating>0 is invalid for finished job", errors);
    }
    if (changed("ready") || changed("active")) && ready.count() > status.at("active").count() {
        ready.fail("cannot set more ready pods than active", errors);
    }
    conditions(new, old, errors);
    let indexed = new["spec"]["completionMode"] == "Indexed";
    let scaled = indexed && new["spec"]["completions"] == new["spec"]["parallelism"];
    for (field, may) in [("failed", false), ("succeeded", scaled)] {
        let (count, was) = (status.at(field), old["status"][field].as_i64().unwrap_or(0));
        if !may && count.count() < was {
            count.fail_as(count.count(), format!("cannot decrease the {field} counter"), errors);
        }
    }
    let kept = |field: &str| new["status"][field].is_string() && old["status"][field].is_string() && changed(field);
    if kept("completionTime") {
        status.at("completionTime").fail("field is immutable", errors);
    }
    let resuming = is(old, "Suspended")
        && list(&new["status"]["conditions"]).iter().any(|c| c["type"] == "Suspended" && c["status"] == "False");
    let began = old["status"]["startTime"].is_string() && changed("startTime");
    if began && !resuming && new["spec"]["suspend"] != true {
        status.at("startTime").fail("field is immutable for unsuspended job once set", errors);
    }
}

/// Pods that have ended and are not counted yet.
fn uncounted(pods: &Spot, errors: &mut Errors) {
    let mut seen = Vec::new();
    for field in ["succeeded", "failed"] {
        for pod in pods.list(field) {
            match pod.text() {
                "" => pod.fail_as("", "must not be empty", errors),
                uid if seen.contains(&uid) => pod.duplicate(errors),
                uid => seen.push(uid),
            }
        }
    }
}

fn times(status: &Spot, new: &Value, old: &Value, errors: &mut Errors) {
    let changed = |field: &str| new["status"][field] != old["status"][field];
    let (start, end) = (status.at("startTime"), status.at("completionTime"));
    if is(new, "Complete") != is(old, "Complete") || changed("completionTime") {
        match (end.is_set(), is(new, "Complete")) {
            (true, false) => end.fail("cannot set completionTime when there is no Complete=True condition", errors),
            (false, true) => end.missing("completionTime is required for Complete jobs", errors),
            _ => {}
        }
    }
    let both = start.is_set() && end.is_set();
    if both && (changed("startTime") || changed("completionTime")) && end.text() < start.text() {
        end.fail("must be equal to or after `startTime`", errors);
    }
}

/// What a job that has ended does not have.
fn finished(status: &Spot, new: &Value, old: &Value, errors: &mut Errors) {
    if !is_finished(new) {
        return;
    }
    let ended = !is_finished(old);
    let changed = |field: &str| ended || new["status"][field] != old["status"][field];
    let (active, start, uncounted) =
        (status.at("active"), status.at("startTime"), status.at("uncountedTerminatedPods"));
    if changed("active") && active.count() > 0 {
        active.fail("active>0 is invalid for finished job", errors);
    }
    let nothing = new["spec"]["suspend"] == true && new["spec"]["completions"] == 0;
    if changed("startTime") && !nothing && !start.is_set() {
        start.missing("startTime is required for finished job", errors);
    }
    if changed("uncountedTerminatedPods") && ["succeeded", "failed"].iter().any(|f| uncounted.at(f).len() > 0) {
        uncounted.fail("must be empty for finished job", errors);
    }
}

/// Which indices have succeeded, and which have failed.
fn indexes(status: &Spot, new: &Value, old: &Value, errors: &mut Errors) {
    let changed = |field: &str| new["status"][field] != old["status"][field];
    let spec = &new["spec"];
    let (done, failed) = (status.at("completedIndexes"), status.at("failedIndexes"));
    let completions = spec["completions"].as_i64();
    if let Some(completions) = completions {
        let limited = spec["backoffLimitPerIndex"].is_i64();
        for (field, looked_at) in [(&done, changed("completedIndexes")), (&failed, limited && changed("failedIndexes"))]
        {
            if let Err(why) = count_indices(field.text(), completions)
                && looked_at
            {
                let name = field.path().replace("status.", "");
                field.fail(format!("error parsing {name}: {why}"), errors);
            }
        }
    }
    if changed("completedIndexes") && !done.text().is_empty() && spec["completionMode"] != "Indexed" {
        done.fail("cannot set non-empty completedIndexes when non-indexed completion mode", errors);
    }
    if changed("failedIndexes") && failed.is_set() && spec["backoffLimitPerIndex"].is_null() {
        failed.fail("cannot set non-null failedIndexes when backoffLimitPerIndex is null", errors);
    }
    let Some(completions) = completions.filter(|_| failed.is_set()) else { return };
    if changed("completedIndexes") || changed("failedIndexes") {
        let (done, lost) = (indices(done.text(), completions), indices(failed.text(), completions));
        if let Some(both) = lost.iter().find(|index| done.contains(index)) {
            failed.fail(format!("failedIndexes and completedIndexes overlap at index: {both}"), errors);
        }
    }
}

fn conditions(new: &Value, old: &Value, errors: &mut Errors) {
    let met = is(new, "SuccessCriteriaMet");
    let mut told = |when: bool, why: String| {
        if when {
            errors.push(Invalid::unshown(CONDITIONS, why));
        }
    };
    told(met && is(new, "Failed"), "cannot set SuccessCriteriaMet=True and Failed=true conditions".into());
    told(
        met && is(new, "FailureTarget"),
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions".into(),
    );
    told(
        new["spec"]["successPolicy"].is_object() && !met && is(new, "Complete"),
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True".into(),
    );
    for kind in ["Failed", "Complete", "FailureTarget"] {
        told(is(old, kind) && !is(new, kind), format!("cannot disable the terminal {kind}=True condition"));
    }
    let was_met = is(old, "SuccessCriteriaMet");
    told(was_met && !met, "cannot disable the SuccessCriteriaMet=True condition".into());
    told(
        is(old, "Complete") && !was_met && met,
        "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions".into(),
    );
}
