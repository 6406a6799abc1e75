//! What a pod's failure means for its job, and which successes suffice: pod failure policy (KEP-3329), back-off limit per index
//! (KEP-3850), success policy (KEP-3998).

use std::sync::Arc;

use object::Object;
use serde::Deserialize;

use super::indexes::{self, Indexes};
use super::pods::Pods;
use super::{Status, View};
use crate::views::{ContainerStatus, Pod};
use crate::world::World;

/// Failures of the index before this pod, on the pod.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FailurePolicy {
    rules: Vec<FailureRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FailureRule {
    action: String,
    on_exit_codes: Option<ExitCodes>,
    on_pod_conditions: Option<Vec<ConditionPattern>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExitCodes {
    container_name: Option<String>,
    operator: String,
    values: Vec<i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ConditionPattern {
    r#type: String,
    status: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SuccessPolicy {
    rules: Vec<SuccessRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SuccessRule {
    succeeded_indexes: Option<String>,
    succeeded_count: Option<i64>,
}

/// What follows from a pod's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It counts towards the limits.
    Counted,
    /// As if it had not been.
    Ignored,
    /// Its index has failed for good.
    Index,
    /// The job has failed, for this reason.
    Job(String),
}

/// What the policy says of a pod that failed.
pub(super) fn failure(view: &View, pod: &Pod) -> Failure {
    let Some(policy) = &view.spec.pod_failure_policy else { return Failure::Counted };
    for (at, rule) in policy.rules.iter().enumerate() {
        let Some(why) = matches(rule, pod, at) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Failure::Ignored,
            "FailJob" => Failure::Job(why),
            "FailIndex" if view.spec.backoff_limit_per_index.is_some() => Failure::Index,
            "FailIndex" => continue,
            _ => Failure::Counted,
        };
    }
    Failure::Counted
}

fn matches(rule: &FailureRule, pod: &Pod, at: usize) -> Option<String> {
    let action = &rule.action;
    if let Some(wanted) = &rule.on_exit_codes {
        let of = |list: &Option<Vec<ContainerStatus>>| list.clone().unwrap_or_default();
        let all = of(&pod.status.container_statuses).into_iter().chain(of(&pod.status.init_container_statuses));
        for container in all.filter(|c| wanted.container_name.as_ref().is_none_or(|name| *name == c.name)) {
            let Some(code) = container.state["terminated"]["exitCode"].as_i64().filter(|code| *code != 0) else {
                continue;
            };
            if wanted.values.contains(&code) == (wanted.operator == "In") {
                return Some(format!(
                    "Container {} for pod {}/{} failed with exit code {code} matching {action} rule at index {at}",
                    container.name, pod.metadata.namespace, pod.metadata.name
                ));
            }
        }
    }
    for wanted in rule.on_pod_conditions.iter().flatten() {
        let status = wanted.status.as_deref().unwrap_or("True");
        if pod.condition(&wanted.r#type).is_some_and(|c| c.status == status) {
            return Some(format!(
                "Pod {}/{} has condition {} matching {action} rule at index {at}",
                pod.metadata.namespace, pod.metadata.name, wanted.r#type
            ));
        }
    }
    None
}

/// Failures of an index, as its newest failed pod tells them: those before it and itself.
pub(super) fn failures_of(view: &View, found: &Pods, index: i64, world: &World) -> i64 {
    let of_index = found.failed.iter().filter(|pod| indexes::of_pod(pod) == Some(index)).map(|pod| world.pod(pod));
    of_index.map(|pod| failures(view, &pod)).max().unwrap_or(0)
}

fn failures(view: &View, pod: &Pod) -> i64 {
    let before = pod.metadata.annotation(FAILURES).and_then(|n| n.parse::<i64>().ok()).unwrap_or(0);
    before + i64::from(failure(view, pod) != Failure::Ignored)
}

/// The indexes that are not tried again; `None` when failures are not counted by index.
pub(super) fn failed_indexes(view: &View, found: &Pods, status: &Status, world: &World) -> Option<Indexes> {
    let limit = view.spec.backoff_limit_per_index?;
    let completed = indexes::parse(&status.completed_indexes);
    let mut failed = indexes::parse(status.failed_indexes.as_deref().unwrap_or_default());
    for object in &found.failed {
        let Some(index) = indexes::of_pod(object).filter(|index| !completed.contains(index)) else { continue };
        let pod = world.pod(object);
        if failure(view, &pod) == Failure::Index || failures(view, &pod) > limit {
            failed.insert(index);
        }
    }
    Some(failed)
}

/// Why the completed indexes are enough, if they are.
pub(super) fn success(view: &View, completed: &Indexes) -> Option<String> {
    let policy = view.spec.success_policy.as_ref().filter(|_| view.is_indexed())?;
    let met = |rule: &SuccessRule| {
        let wanted = rule.succeeded_indexes.as_deref().map(indexes::parse);
        let there = match &wanted {
            Some(wanted) => wanted.intersection(completed).count(),
            None => completed.len(),
        };
        let least = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        least.or(wanted.map(|w| w.len())).is_some_and(|least| there >= least)
    };
    policy.rules.iter().position(met).map(|at| format!("Matched rules at index {at}"))
}

/// The first failure that fails the job.
pub(super) fn job_failure(view: &View, found: &Pods, world: &World) -> Option<String> {
    let pod = |object: &Arc<Object>| match failure(view, &world.pod(object)) {
        Failure::Job(why) => Some(why),
        _ => None,
    };
    found.failed.iter().find_map(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn view(spec: Value) -> View {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let spec = json!({"podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}, "backoffLimitPerIndex": 1});
        let check = |status: Value, wanted: Failure| {
            let pod = json!({"metadata": {"name": "p", "namespace": "ns"}, "status": status});
            assert_eq!(failure(&view(spec.clone()), &serde_json::from_value(pod).unwrap()), wanted, "{status}");
        };
        let ended = |name: &str, code: i64| json!([{"name": name, "state": {"terminated": {"exitCode": code}}}]);
        check(json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}]}), Failure::Ignored);
        let why = "Container main for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        check(json!({"containerStatuses": ended("main", 42)}), Failure::Job(why.into()));
        check(json!({"containerStatuses": ended("other", 42)}), Failure::Index);
        check(json!({"containerStatuses": ended("main", 1)}), Failure::Counted);
        check(json!({"containerStatuses": ended("main", 0)}), Failure::Counted);
    }

    #[test]
    fn some_successes_are_enough() {
        let check = |rules: Value, completed: &str| {
            let spec = json!({"completionMode": "Indexed", "completions": 9, "successPolicy": {"rules": rules}});
            success(&view(spec), &indexes::parse(completed))
        };
        assert_eq!(check(json!([{"succeededIndexes": "0,2"}]), "0,1"), None);
        let all = Some("Matched rules at index 0".to_owned());
        assert_eq!(check(json!([{"succeededIndexes": "0,2"}]), "0-2"), all);
        assert_eq!(check(json!([{"succeededIndexes": "0-3", "succeededCount": 1}]), "3"), all);
        assert_eq!(check(json!([{"succeededCount": 2}]), "3"), None);
        assert_eq!(
            check(json!([{"succeededIndexes": "7"}, {"succeededCount": 1}]), "3").as_deref(),
            Some("Matched rules at index 1")
        );
    }
}
