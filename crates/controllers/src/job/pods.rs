//! Which pods of a job there are, and which are missing.

use std::sync::Arc;

use object::Object;
use serde_json::{Value, json};

use super::indexes::{self, INDEX, Indexes};
use super::policy::{self, FAILURES};
use super::{Status, TRACKING, View, is_tracked, untrack};
use crate::kinds::JOBS;
use crate::views::Pod;
use crate::world::World;
use crate::{Plan, owner, ranking};

/// Pods that are made in one go.
const BURST: i64 = 500;
/// The first and the longest pause after a failure.
const BACKOFF: (i64, i64) = (10, 600);

/// The pods of a job by what became of them.
#[derive(Default)]
pub(super) struct Pods {
    pub active: Vec<Arc<Object>>,
    pub terminating: Vec<Arc<Object>>,
    pub succeeded: Vec<Arc<Object>>,
    pub failed: Vec<Arc<Object>>,
}

impl Pods {
    pub fn sort(view: &View, objects: &[Arc<Object>], world: &World) -> Self {
        let only_failed = view.spec.pod_replacement_policy == "Failed" || view.spec.pod_failure_policy.is_some();
        let mut pods = Self::default();
        for object in objects {
            let pod = world.pod(object);
            let terminating = object.head.is_terminating();
            match pod.status.phase.as_str() {
                "Succeeded" => pods.succeeded.push(object.clone()),
                "Failed" => pods.failed.push(object.clone()),
                _ if terminating => {
                    pods.terminating.push(object.clone());
                    // It has failed for us, unless failing in fact is asked for.
                    if !only_failed {
                        pods.failed.push(object.clone());
                    }
                }
                _ => pods.active.push(object.clone()),
            }
        }
        pods
    }

    pub fn all(&self) -> impl Iterator<Item = &Object> {
        [&self.active, &self.terminating, &self.succeeded, &self.failed].into_iter().flatten().map(|pod| &**pod)
    }

    /// All successes, counted or not.
    pub fn succeeded(&self, view: &View, status: &Status) -> i64 {
        if view.is_indexed() {
            return indexes::parse(&status.completed_indexes).len() as i64;
        }
        status.succeeded + status.uncounted_terminated_pods.succeeded.len() as i64
    }
}

/// Makes the pods that are missing, or deletes those that are too many. `due`: the status is behind what pods say, so
/// only what is surely right is done.
pub(super) fn manage(job: &Arc<Object>, view: &View, found: &Pods, due: bool, plan: &mut Plan, world: &World) {
    let mut status = view.status.clone();
    super::counting::count(view, found, &mut status, world);
    let (active, succeeded) = (found.active.len() as i64, found.succeeded(view, &status));
    let lost = indexes::parse(status.failed_indexes.as_deref().unwrap_or_default());
    let wanted = match view.spec.completions {
        None if succeeded > 0 => active,
        None => view.parallelism(),
        Some(completions) => (completions - succeeded - lost.len() as i64).clamp(0, view.parallelism()),
    };
    if active > wanted {
        let mut surplus = found.active.clone();
        ranking::sort(&mut surplus, &found.active, world);
        surplus.truncate(usize::try_from(active - wanted).unwrap_or(0));
        plan.step(surplus.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack(pod)).collect());
        plan.step(surplus.iter().map(|pod| owner::delete_pod(job, pod)).collect());
        return;
    }
    let held = if view.spec.pod_replacement_policy == "Failed" { found.terminating.len() as i64 } else { 0 };
    let missing = (wanted - active - held).min(BURST);
    if missing <= 0 || due {
        return;
    }
    // With a limit per index, an index that failed does not hold up the others.
    let by_index = view.spec.backoff_limit_per_index.is_some();
    let wait = if by_index { 0 } else { pause(&found.succeeded, &found.failed, world) };
    if wait > 0 {
        plan.requeue_after(wait);
        return;
    }
    let template = job_pod(job, view);
    if !view.is_indexed() {
        let template = Arc::new(template);
        plan.step((0..missing).map(|_| owner::create_pod(job, template.clone())).collect());
        return;
    }
    let mut done = indexes::parse(&status.completed_indexes);
    done.extend(&lost);
    let mut creates = Vec::new();
    for index in free_indexes(view, found, &done) {
        if creates.len() as i64 >= missing {
            break;
        }
        let mut pod = indexed(job, &template, index);
        if by_index {
            let failed: Vec<_> = found.failed.iter().filter(|p| indexes::of_pod(p) == Some(index)).cloned().collect();
            let wait = pause(&[], &failed, world);
            if wait > 0 {
                plan.requeue_after(wait);
                continue;
            }
            let failures = policy::failures_of(view, found, index, world);
            pod["metadata"]["annotations"][FAILURES] = json!(failures.to_string());
        }
        creates.push(owner::create_pod(job, pod.into()));
    }
    plan.step(creates);
}

/// Seconds to wait after failures: 10, doubled with each since the last success.
fn pause(succeeded: &[Arc<Object>], failed: &[Arc<Object>], world: &World) -> i64 {
    let ended = |pod: &Arc<Object>| finish_time(&world.pod(pod));
    let success = succeeded.iter().filter_map(ended).max().unwrap_or(0);
    let failures: Vec<i64> = failed.iter().filter_map(ended).filter(|at| *at >= success).collect();
    let Some(last) = failures.iter().max() else { return 0 };
    let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(10);
    let pause = (BACKOFF.0 << doublings).min(BACKOFF.1);
    last + pause - world.now()
}

/// When the last container ended; the pod's own times if that is not told.
fn finish_time(pod: &Pod) -> Option<i64> {
    let ended = pod.status.container_statuses.iter().flatten();
    let ended = ended.filter_map(|c| base::time::parse_seconds(c.state["terminated"]["finishedAt"].as_str()?)).max();
    let unready = || pod.condition("Ready").and_then(|c| base::time::parse_seconds(c.last_transition_time.as_deref()?));
    let deleted = || {
        let at = pod.metadata.deletion_timestamp.as_deref().and_then(base::time::parse_seconds)?;
        Some(at - pod.metadata.deletion_grace_period_seconds.unwrap_or(0))
    };
    ended.or_else(unready).or_else(deleted).or_else(|| pod.metadata.created())
}

/// The indexes that are neither done with nor being worked on, the lowest first.
fn free_indexes(view: &View, found: &Pods, done: &Indexes) -> Vec<i64> {
    let busy: Indexes = found.active.iter().filter_map(|pod| indexes::of_pod(pod)).collect();
    let all = 0..view.spec.completions.unwrap_or(0);
    all.filter(|index| !busy.contains(index) && !done.contains(index)).collect()
}

fn job_pod(job: &Object, view: &View) -> Value {
    let mut pod = owner::pod_of(&JOBS, job, &view.spec.template);
    let mut finalizers = pod["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    finalizers.push(json!(TRACKING));
    pod["metadata"]["finalizers"] = json!(finalizers);
    pod
}

/// The pod for an index: name, host name, annotation, label, environment.
fn indexed(job: &Object, template: &Value, index: i64) -> Value {
    let mut pod = template.clone();
    let text = index.to_string();
    let name = &job.head.name;
    pod["metadata"]["generateName"] = json!(format!("{name}-{index}-"));
    pod["metadata"]["annotations"][INDEX] = json!(text);
    pod["metadata"]["labels"][INDEX] = json!(text);
    let hostname = format!("{name}-{index}");
    pod["spec"]["hostname"] = json!(&hostname[..hostname.len().min(63)]);
    let source = json!({"fieldRef": {"fieldPath": format!("metadata.labels['{INDEX}']")}});
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let mut env = container["env"].as_array().cloned().unwrap_or_default();
            if !env.iter().any(|e| e["name"] == "JOB_COMPLETION_INDEX") {
                env.push(json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": source}));
                container["env"] = json!(env);
            }
        }
    }
    pod
}
