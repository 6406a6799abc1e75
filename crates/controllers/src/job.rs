//! Job: pods that run to their end, until enough of them did.
//!
//! A pod that ended is counted exactly once, even across restarts, by three steps that each leave a trace: its uid goes to
//! `status.uncountedTerminatedPods`; then the pod loses the finalizer `batch.kubernetes.io/job-tracking`; then its uid goes
//! and a counter goes up (`counting`, KEP-2307). Which pods are missing is in `pods`, indexes in `indexes`.
//! What failures mean and which successes suffice is in `policy`.

use std::sync::Arc;

use object::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kinds::{JOBS, PODS};
use crate::owner;
use crate::plan::Op;
use crate::replicaset::is_zero;
use crate::views::{Condition, condition, set_condition};
use crate::world::World;
use crate::{Controller, Event, Plan};

mod counting;
mod indexes;
mod pods;
mod policy;

use pods::Pods;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "job-controller",
    of: &JOBS,
    owns: &[&PODS],
    watches: &[],
    reads: &[],
    workers: 5,
    reconcile,
    gone,
};

/// Keeps a pod until it is counted.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    parallelism: Option<i64>,
    completions: Option<i64>,
    completion_mode: String,
    backoff_limit: Option<i64>,
    active_deadline_seconds: Option<i64>,
    suspend: bool,
    pod_replacement_policy: String,
    managed_by: Option<String>,
    pod_failure_policy: Option<policy::FailurePolicy>,
    backoff_limit_per_index: Option<i64>,
    max_failed_indexes: Option<i64>,
    success_policy: Option<policy::SuccessPolicy>,
    template: Value,
}

/// `status` of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Status {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub active: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub succeeded: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: i64,
    pub terminating: i64,
    pub ready: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub completed_indexes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_indexes: Option<String>,
    pub uncounted_terminated_pods: Uncounted,
}

/// Uids of pods that ended and are not counted yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Uncounted {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub succeeded: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

impl View {
    fn is_indexed(&self) -> bool {
        self.spec.completion_mode == "Indexed"
    }
    fn parallelism(&self) -> i64 {
        self.spec.parallelism.unwrap_or(1)
    }
    fn has(&self, kind: &str) -> bool {
        condition(&self.status.conditions, kind).is_some_and(Condition::is_true)
    }
    fn is_finished(&self) -> bool {
        self.has("Complete") || self.has("Failed")
    }
}

/// A job that is gone keeps no pod.
fn gone(key: &str, world: &World) -> Plan {
    let mut plan = Plan::none();
    let Some((namespace, name)) = key.split_once('/') else { return plan };
    // Also those that were orphaned with it: nobody else would let them go.
    let of_job = |pod: &Arc<Object>| pod.head.controller().is_none_or(|owner| JOBS.is(owner) && owner.name == name);
    let pods = world.list(&PODS, Some(namespace)).into_iter().filter(of_job);
    plan.step(pods.filter(|pod| is_tracked(pod)).map(|pod| untrack(&pod)).collect());
    plan
}

fn is_tracked(pod: &Object) -> bool {
    pod.head.finalizers.iter().any(|finalizer| finalizer == TRACKING)
}

/// Lets a pod go.
fn untrack(pod: &Object) -> Op {
    let patch = json!({"metadata": {"uid": pod.head.uid, "$deleteFromPrimitiveList/finalizers": [TRACKING]}});
    Op::patch(&PODS, pod, client::Patch::Strategic(patch))
}

fn reconcile(job: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let (Ok(view), Some(selector)) = (job.view::<View>(), owner::selector_of(job)) else {
        tracing::warn!(job = job.head.key(), "cannot be read or selects nothing");
        return plan;
    };
    if view.spec.managed_by.as_deref().is_some_and(|by| by != "kubernetes.io/job-controller") {
        return plan;
    }
    let claimed = owner::claim(world, &PODS, &JOBS, job, &selector);
    plan.step(claimed.ops);
    // Who does not belong to the job any more is not held for its counts.
    let strays = world.owned(&PODS, &job.head.uid).into_iter().filter(|pod| !selector.matches(&pod.head.labels));
    plan.step(strays.filter(|pod| is_tracked(pod)).map(|pod| untrack(&pod)).collect());
    if view.is_finished() || job.head.is_terminating() {
        plan.step(claimed.objects.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack(pod)).collect());
        return plan;
    }
    let found = Pods::sort(&view, &claimed.objects, world);
    let mut status = view.status.clone();
    let (due, mut released) = counting::count(&view, &found, &mut status, world);
    start(job, &view, &mut status, &mut plan, world);
    judge(&view, &found, &mut status, &mut plan, world);
    let ending = ["SuccessCriteriaMet", "FailureTarget"];
    let ending = ending.iter().any(|kind| condition(&status.conditions, kind).is_some_and(Condition::is_true));
    // Pods are made and deleted only from a state in which all that ended are noted.
    if ending {
        plan.step(found.active.iter().map(|pod| owner::delete_pod(job, pod)).collect());
    } else if view.spec.suspend {
        released.extend(found.active.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack(pod)));
        plan.step(released.split_off(0));
        plan.step(found.active.iter().map(|pod| owner::delete_pod(job, pod)).collect());
    } else {
        pods::manage(job, &view, &found, due, &mut plan, world);
    }
    plan.step(released);
    status.active = found.active.len() as i64;
    status.ready = found.active.iter().filter(|pod| world.pod(pod).is_ready()).count() as i64;
    status.terminating = found.terminating.len() as i64;
    finish(job, &found, &mut status, &mut plan, world);
    plan.push_some(Op::status_to(&JOBS, job, &status));
    plan
}

/// When it starts, is suspended and resumed.
fn start(job: &Object, view: &View, status: &mut Status, plan: &mut Plan, world: &World) {
    let suspended = view.has("Suspended");
    if view.spec.suspend && !suspended {
        status.start_time = None;
        let stamp = world.stamp();
        set_condition(&mut status.conditions, made("Suspended", "True", "JobSuspended", "Job suspended", &stamp));
        plan.events.push(Event::normal(job, "Suspended", "Job suspended"));
    } else if !view.spec.suspend {
        if suspended {
            let stamp = world.stamp();
            set_condition(&mut status.conditions, made("Suspended", "False", "JobResumed", "Job resumed", &stamp));
            plan.events.push(Event::normal(job, "Resumed", "Job resumed"));
            status.start_time = Some(stamp);
        }
        status.start_time.get_or_insert_with(|| world.stamp());
    }
}

fn made(kind: &str, value: &str, reason: &str, message: &str, stamp: &str) -> Condition {
    Condition { last_probe_time: Some(stamp.into()), ..Condition::new(kind, value, reason, message, stamp) }
}

/// Decides whether the job is to end, and how.
fn judge(view: &View, found: &Pods, status: &mut Status, plan: &mut Plan, world: &World) {
    if view.has("FailureTarget") || view.has("SuccessCriteriaMet") {
        return;
    }
    let limit = view.spec.backoff_limit.unwrap_or(6);
    let failed = status.failed + status.uncounted_terminated_pods.failed.len() as i64;
    let started = status.start_time.as_deref().and_then(base::time::parse_seconds).unwrap_or(world.now());
    let deadline = view.spec.active_deadline_seconds.filter(|_| !view.spec.suspend).map(|seconds| started + seconds);
    let succeeded = found.succeeded(view, status);
    let enough = match view.spec.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && found.active.is_empty(),
    };
    let stamp = world.stamp();
    let completed = indexes::parse(&status.completed_indexes);
    let failed_indexes = status.failed_indexes.as_deref().map(indexes::parse).unwrap_or_default();
    let lost = failed_indexes.len() as i64;
    let all_tried = view.spec.completions.is_some_and(|all| lost > 0 && succeeded + lost >= all);
    let mut end = |kind: &str, reason: &str, message: &str| {
        set_condition(&mut status.conditions, made(kind, "True", reason, message, &stamp));
    };
    let (fail, succeed) = ("FailureTarget", "SuccessCriteriaMet");
    if let Some(why) = policy::job_failure(view, found, world) {
        end(fail, "PodFailurePolicy", &why);
    } else if failed > limit || restarts_exceed(view, found, limit, world) {
        end(fail, "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    } else if deadline.is_some_and(|at| at <= world.now()) {
        end(fail, "DeadlineExceeded", "Job was active longer than specified deadline");
    } else if view.spec.max_failed_indexes.is_some_and(|most| lost > most) {
        end(fail, "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes");
    } else if let Some(why) = policy::success(view, &completed) {
        end(succeed, "SuccessPolicy", &why);
    } else if enough {
        end(succeed, "CompletionsReached", "Reached expected number of succeeded pods");
    } else if all_tried {
        end(fail, "FailedIndexes", "Job has failed indexes");
    } else if let Some(at) = deadline {
        plan.requeue_after(at - world.now());
    }
}

/// Containers that are restarted in their pods count as failures, too.
fn restarts_exceed(view: &View, found: &Pods, limit: i64, world: &World) -> bool {
    if view.spec.template["spec"]["restartPolicy"] != "OnFailure" {
        return false;
    }
    let pods = found.active.iter().map(|pod| world.pod(pod));
    let of = |pod: &crate::views::Pod| {
        let inits = pod.status.init_container_statuses.iter().flatten();
        let all = inits.chain(pod.status.container_statuses.iter().flatten());
        all.map(|container| container.restart_count).sum::<i64>()
    };
    let restarts: i64 = pods.map(|pod| of(&pod)).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

/// The last condition comes when no pod is left that might change the counts.
fn finish(job: &Object, found: &Pods, status: &mut Status, plan: &mut Plan, world: &World) {
    let quiet = found.active.is_empty()
        && found.terminating.is_empty()
        && status.uncounted_terminated_pods == Uncounted::default();
    if !quiet {
        return;
    }
    let stamp = world.stamp();
    let target = |kind: &str| condition(&status.conditions, kind).filter(|c| c.is_true()).cloned();
    let end = |kind: &str, target: Condition| {
        made(kind, "True", target.reason(), target.message.as_deref().unwrap_or_default(), &stamp)
    };
    if let Some(target) = target("FailureTarget") {
        let failed = end("Failed", target);
        let message = failed.message.clone().unwrap_or_default();
        let reason = match failed.reason() {
            "DeadlineExceeded" => "DeadlineExceeded",
            "PodFailurePolicy" => "PodFailurePolicy",
            "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
            "FailedIndexes" => "FailedIndexes",
            _ => "BackoffLimitExceeded",
        };
        plan.events.push(Event::warning(job, reason, message));
        set_condition(&mut status.conditions, failed);
    } else if let Some(target) = target("SuccessCriteriaMet") {
        set_condition(&mut status.conditions, end("Complete", target));
        status.completion_time = Some(stamp);
        plan.events.push(Event::normal(job, "Completed", "Job completed"));
    }
}

#[cfg(test)]
mod tests;
