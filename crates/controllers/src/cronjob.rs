//! CronJob: a job at each time of its schedule.

use std::sync::Arc;

use jiff::tz::TimeZone;
use object::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kinds::{CRON_JOBS, JOBS};
use crate::owner::key_of;
use crate::plan::Op;
use crate::views::{Condition, Meta};
use crate::world::World;
use crate::{Controller, Event, Plan, Verb};

mod schedule;

use schedule::Schedule;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    of: &CRON_JOBS,
    owns: &[&JOBS],
    watches: &[],
    reads: &[],
    workers: 5,
    reconcile,
    gone: crate::controller::nothing,
};

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    schedule: String,
    time_zone: Option<String>,
    starting_deadline_seconds: Option<i64>,
    concurrency_policy: String,
    suspend: bool,
    job_template: Value,
    successful_jobs_history_limit: Option<i64>,
    failed_jobs_history_limit: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    active: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_schedule_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_successful_time: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JobView {
    metadata: Meta,
    status: JobStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct JobStatus {
    conditions: Option<Vec<Condition>>,
    completion_time: Option<String>,
}

/// `Complete` or `Failed`, once a job is.
fn ended(job: &Object) -> Option<(String, JobStatus)> {
    let status = job.view::<JobView>().unwrap_or_default().status;
    let mut conditions = status.conditions.iter().flatten();
    let end = conditions.find(|c| c.is_true() && matches!(c.r#type.as_str(), "Complete" | "Failed"))?.r#type.clone();
    Some((end, status))
}

fn reconcile(cron: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let Ok(view) = cron.view::<View>() else { return plan };
    let is_ours = |job: &Arc<Object>| job.head.controller().is_some_and(|owner| owner.uid == cron.head.uid);
    let jobs: Vec<Arc<Object>> = world.owned(&JOBS, &cron.head.uid).into_iter().filter(is_ours).collect();
    plan.step(history(cron, &view, &jobs));
    let mut status = view.status.clone();
    track(cron, &jobs, &mut status, &mut plan, world);
    if !cron.head.is_terminating() && !view.spec.suspend {
        schedule_next(cron, &view, &jobs, &mut status, &mut plan, world);
    }
    plan.push_some(Op::status_to(&CRON_JOBS, cron, &status));
    plan
}

/// Deletes the oldest ended jobs beyond the limits.
fn history(cron: &Object, view: &View, jobs: &[Arc<Object>]) -> Vec<Op> {
    let limits = [
        ("Complete", view.spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", view.spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    let mut ops = Vec::new();
    for (end, limit) in limits {
        let mut of_end: Vec<_> = jobs.iter().filter(|job| ended(job).is_some_and(|(e, _)| e == end)).collect();
        of_end.sort_by_key(|job| (job.head.creation_timestamp.clone(), job.head.name.clone()));
        let surplus = of_end.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        ops.extend(of_end[..surplus].iter().filter(|job| !job.head.is_terminating()).map(|job| remove(cron, job)));
    }
    ops
}

fn remove(cron: &Object, job: &Object) -> Op {
    let mut op = Op::delete(&JOBS, job);
    if let Verb::Delete(options) = &mut op.verb {
        options.propagation = Some(client::Propagation::Background);
    }
    op.on_done(Event::normal(cron, "SuccessfulDelete", format!("Deleted job {}", job.head.name)))
        .on_failure(Event::warning(cron, "FailedDelete", "Deleted job: {error}"))
}

/// Brings the list of active jobs up to date.
fn track(cron: &Object, jobs: &[Arc<Object>], status: &mut Status, plan: &mut Plan, world: &World) {
    for job in jobs {
        let at = status.active.iter().position(|active| active["uid"] == job.head.uid.as_str());
        match (ended(job), at) {
            (Some((end, job_status)), Some(at)) => {
                status.active.remove(at);
                let message = format!("Saw completed job: {}, condition: {end}", job.head.name);
                plan.events.push(Event::normal(cron, "SawCompletedJob", message));
                if end == "Complete" {
                    status.last_successful_time = status.last_successful_time.take().max(job_status.completion_time);
                }
            }
            (None, None) if job.head.is_terminating() => {}
            (None, None) if is_scheduled(job) => status.active.push(reference(job)),
            (None, None) => {
                let message = format!("Saw a job that the controller did not create or forgot: {}", job.head.name);
                plan.events.push(Event::warning(cron, "UnexpectedJob", message));
            }
            _ => {}
        }
    }
    status.active.retain(|active| {
        let name = active["name"].as_str().unwrap_or_default();
        let there = world.get(&JOBS, &key_of(&cron.head.namespace, name)).is_some();
        if !there {
            let message = format!("Active job went missing: {name}");
            plan.events.push(Event::normal(cron, "MissingJob", message));
        }
        there
    });
}

/// When a job of ours was due.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// True for jobs that the schedule made, not somebody's hand (`kubectl create job --from`).
fn is_scheduled(job: &Object) -> bool {
    job.view::<JobView>().is_ok_and(|view| view.metadata.annotation(SCHEDULED).is_some())
}

fn reference(job: &Object) -> Value {
    json!({"kind": "Job", "apiVersion": "batch/v1", "namespace": job.head.namespace, "name": job.head.name,
        "uid": job.head.uid, "resourceVersion": job.head.resource_version.to_string()})
}

fn schedule_next(
    cron: &Arc<Object>,
    view: &View,
    jobs: &[Arc<Object>],
    status: &mut Status,
    plan: &mut Plan,
    world: &World,
) {
    let zone = match view.spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(_) => {
                let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
                plan.events.push(Event::warning(cron, "UnknownTimeZone", message));
                return;
            }
        },
    };
    let schedule = match Schedule::parse(&view.spec.schedule) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {:?} : {why}", view.spec.schedule);
            plan.events.push(Event::warning(cron, "UnparseableSchedule", message));
            return;
        }
    };
    let now = world.now();
    let last = status.last_schedule_time.as_deref().and_then(base::time::parse_seconds);
    let mut from = last.or_else(|| view.metadata.created()).unwrap_or(now);
    if let Some(deadline) = view.spec.starting_deadline_seconds {
        from = from.max(now - deadline);
    }
    let due = schedule.last_in(from, now, &zone);
    if let Some(next) = schedule.next_after(now, &zone) {
        plan.requeue_after(next - now);
    }
    let Some(due) = due else { return };
    let name = format!("{}-{}", cron.head.name, due / 60);
    let done = jobs.iter().any(|job| job.head.name == name);
    if done {
        status.last_schedule_time = Some(base::time::format_seconds(due));
        return;
    }
    if !status.active.is_empty() {
        match view.spec.concurrency_policy.as_str() {
            "Forbid" => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                plan.events.push(Event::normal(cron, "JobAlreadyActive", message));
                return;
            }
            "Replace" => {
                let active = jobs.iter().filter(|job| status.active.iter().any(|a| a["uid"] == job.head.uid.as_str()));
                plan.step(active.map(|job| remove(cron, job)).collect());
                status.active.clear();
            }
            _ => {}
        }
    }
    plan.push(create(cron, view, &name, due));
    // The job joins the active ones when it is seen; the time is kept now, or a job that is deleted would come again.
    status.last_schedule_time = Some(base::time::format_seconds(due));
}

fn create(cron: &Object, view: &View, name: &str, due: i64) -> Op {
    let template = &view.spec.job_template;
    let mut metadata = json!({
        "name": name, "namespace": cron.head.namespace,
        "ownerReferences": [CRON_JOBS.controller_reference(cron)],
    });
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field).filter(|v| v.is_object()) {
            metadata[field] = value.clone();
        }
    }
    metadata["annotations"][SCHEDULED] = json!(base::time::format_seconds(due));
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]});
    Op::create(&JOBS, &cron.head.namespace, job)
        .on_done(Event::normal(cron, "SuccessfulCreate", format!("Created job {name}")))
        .on_failure(Event::warning(cron, "FailedCreate", "Error creating job: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Scene};

    fn cron(change: impl FnOnce(&mut Value)) -> Value {
        let mut value = json!({"apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "c", "namespace": "ns", "uid": "c", "creationTimestamp": "2026-01-31T23:59:30Z"},
            "spec": {"schedule": "* * * * *", "concurrencyPolicy": "Allow", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}}});
        change(&mut value);
        value
    }

    fn job(name: &str, end: Option<&str>, created: &str) -> Value {
        let conditions: Vec<Value> = end.iter().map(|end| json!({"type": end, "status": "True"})).collect();
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "ns", "creationTimestamp": created,
            "annotations": {SCHEDULED: created}, "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "c", "controller": true}]},
            "status": {"conditions": conditions}})
    }

    fn text(objects: Vec<Value>) -> String {
        Scene::new(objects).plan(&CONTROLLER, "ns/c").to_string()
    }

    #[test]
    fn a_job_is_made_when_its_time_has_come() {
        let made = format!("create jobs ns/c-{}\n  event SuccessfulCreate Created job c-{}\n", NOW / 60, NOW / 60);
        let all = text(vec![cron(|_| {})]);
        assert!(all.starts_with(&made) && all.ends_with("requeue 60 s\n"), "{all}");
        assert!(all.contains(r#""lastScheduleTime":"2026-02-01T00:00:00Z""#), "{all}");
        let done = cron(|c| c["status"] = json!({"lastScheduleTime": "2026-02-01T00:00:00Z"}));
        assert_eq!(text(vec![done]), "requeue 60 s\n");
        assert_eq!(text(vec![cron(|c| c["spec"]["suspend"] = json!(true))]), "");
        let late = cron(|c| {
            c["spec"]["schedule"] = json!("58 23 * * *");
            c["spec"]["startingDeadlineSeconds"] = json!(60);
            c["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        });
        assert!(!text(vec![late]).contains("create"), "the deadline passed");
    }

    #[test]
    fn a_job_made_by_hand_is_not_active() {
        let mut by_hand = job("mine", None, "2026-01-31T00:00:00Z");
        by_hand["metadata"]["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
        let paused = cron(|c| c["spec"]["suspend"] = json!(true));
        let wanted = "event UnexpectedJob Saw a job that the controller did not create or forgot: mine\n";
        assert_eq!(text(vec![paused.clone(), by_hand]), wanted);
        assert!(text(vec![paused, job("c-1", None, "2026-01-31T00:00:00Z")]).contains(r#""active":[{"#));
    }

    #[test]
    fn concurrency_is_minded() {
        let running = || job("c-1", None, "2026-01-31T00:00:00Z");
        let with = |policy: &str| text(vec![cron(|c| c["spec"]["concurrencyPolicy"] = json!(policy)), running()]);
        assert!(with("Allow").contains("create jobs"));
        assert!(with("Forbid").contains("event JobAlreadyActive") && !with("Forbid").contains("create jobs"));
        assert!(with("Replace").contains("delete jobs ns/c-1") && with("Replace").contains("create jobs"));
    }

    #[test]
    fn ended_jobs_leave_and_the_oldest_are_removed() {
        let quiet = cron(|c| {
            c["spec"]["schedule"] = json!("0 0 1 1 *");
            c["spec"]["successfulJobsHistoryLimit"] = json!(1);
            c["status"] = json!({"active": [{"name": "c-2", "uid": "uid-c-2"}, {"name": "lost", "uid": "l"}]});
        });
        let objects = vec![
            quiet,
            job("c-1", Some("Complete"), "2026-01-01T00:00:00Z"),
            job("c-2", Some("Complete"), "2026-01-02T00:00:00Z"),
        ];
        let text = text(objects);
        assert!(text.starts_with("delete jobs ns/c-1\n"), "{text}");
        assert!(text.contains("Saw completed job: c-2, condition: Complete"), "{text}");
        assert!(text.contains("Active job went missing: lost"), "{text}");
        assert!(text.contains(r#"{"status":{"active":null}}"#), "{text}");
    }
}
