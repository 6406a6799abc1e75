//! ResourceQuota: counts what there is into `status.used`. Admission charges what is created; this takes off again what is gone, and begins
//! the count of a new quota.

pub(crate) mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::kinds::quota::concerns;
use client::Change;
use object::Object;
use serde_json::{Value, json};

use crate::kinds::{
    CONFIG_MAPS, CRON_JOBS, DAEMON_SETS, DEPLOYMENTS, JOBS, Kind, PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_QUOTAS, SECRETS, SERVICES, STATEFUL_SETS,
};
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "resourcequota-controller",
    of: &RESOURCE_QUOTAS,
    owns: &[],
    watches: &[
        Watch { kind: &CONFIG_MAPS, wakes: deleted },
        Watch { kind: &CRON_JOBS, wakes: deleted },
        Watch { kind: &DAEMON_SETS, wakes: deleted },
        Watch { kind: &DEPLOYMENTS, wakes: deleted },
        Watch { kind: &JOBS, wakes: deleted },
        Watch { kind: &PERSISTENT_VOLUME_CLAIMS, wakes: changed },
        Watch { kind: &PODS, wakes: changed },
        Watch { kind: &REPLICA_SETS, wakes: deleted },
        Watch { kind: &REPLICATION_CONTROLLERS, wakes: deleted },
        Watch { kind: &SECRETS, wakes: deleted },
        Watch { kind: &SERVICES, wakes: changed },
        Watch { kind: &STATEFUL_SETS, wakes: deleted },
    ],
    reads: &[],
    workers: 2,
    reconcile,
    gone,
};

/// Everything that is counted.
static COUNTED: [&Kind; 13] = [
    &CONFIG_MAPS,
    &CRON_JOBS,
    &DAEMON_SETS,
    &DEPLOYMENTS,
    &JOBS,
    &PERSISTENT_VOLUME_CLAIMS,
    &PODS,
    &REPLICA_SETS,
    &REPLICATION_CONTROLLERS,
    &RESOURCE_QUOTAS,
    &SECRETS,
    &SERVICES,
    &STATEFUL_SETS,
];

fn quotas(namespace: &str, world: &World) -> Vec<String> {
    world.list(&RESOURCE_QUOTAS, Some(namespace)).iter().map(|q| q.head.key()).collect()
}

fn deleted(change: &Change, world: &World) -> Vec<String> {
    match change {
        Change::Deleted(object) => quotas(&object.head.namespace, world),
        _ => Vec::new(),
    }
}

/// Pods end, and services change their type, without going away.
fn changed(change: &Change, world: &World) -> Vec<String> {
    match change {
        Change::Applied { old: None, .. } => Vec::new(),
        other => quotas(&other.object().head.namespace, world),
    }
}

/// Seconds after which the caches are taken to have seen what was written with a quota.
const SETTLED_SECONDS: i64 = 2;

fn seen(quota: &str) -> String {
    format!("quota {quota}")
}

fn gone(key: &str, world: &World) -> Plan {
    world.forget(&seen(key));
    Plan::none()
}

/// Counts. Admission charges a quota in the same transaction that writes an object, and the cache of the object's kind may hear of that
/// later than the quota's: a count below what is charged holds only if that cache is as new as the quota, or has had time.
fn reconcile(quota: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let value = quota.value().unwrap_or_default();
    let hard = value["spec"]["hard"].clone();
    let Some(limited) = hard.as_object() else { return plan };
    let amount = |of: &str, name: &str| value["status"][of][name].as_str().and_then(object::Quantity::parse);
    let revision = quota.head.resource_version;
    let first = world.first_seen(&seen(&quota.head.key()), &revision.to_string());
    let settled = first + SETTLED_SECONDS <= world.now();
    let mut used: BTreeMap<&str, object::Quantity> =
        limited.keys().map(|name| (name.as_str(), object::Quantity::default())).collect();
    let mut behind: BTreeSet<&str> = BTreeSet::new();
    for kind in COUNTED {
        let Some(declared) = ::kinds::table().by_gvr(&kind.gvr()) else { continue };
        let mut names = limited.keys().map(String::as_str).filter(|name| concerns(declared, name)).peekable();
        if names.peek().is_none() {
            continue;
        }
        if !settled && world.revision(kind) < revision {
            behind.extend(names);
        }
        for object in world.list(kind, Some(&quota.head.namespace)) {
            let object = object.value().unwrap_or_default();
            if !::kinds::quota::matches(&value, declared, &object) {
                continue;
            }
            for (name, amount) in ::kinds::quota::usage(declared, &object, world.now()) {
                if let Some(sum) = used.get_mut(name.as_str()) {
                    *sum = sum.plus(amount);
                }
            }
        }
    }
    for name in &behind {
        if let (Some(sum), Some(charged)) = (used.get_mut(name), amount("used", name)) {
            *sum = (*sum).max(charged);
        }
    }
    if !behind.is_empty() {
        plan.requeue_after(SETTLED_SECONDS);
    }
    let counts_elsewhere = |name: &str| name.starts_with("count/") && !is_counted_here(name);
    let mut hard = hard.clone();
    if let Some(hard) = hard.as_object_mut() {
        hard.retain(|name, _| !counts_elsewhere(name) || value["status"]["used"][name].is_string());
    }
    let used: BTreeMap<&str, object::Quantity> = used
        .into_iter()
        .filter_map(
            |(name, sum)| {
                if counts_elsewhere(name) { Some((name, amount("used", name)?)) } else { Some((name, sum)) }
            },
        )
        .collect();
    let used: Value =
        used.iter().map(|(name, sum)| ((*name).to_owned(), json!(::kinds::quota::shown(name, *sum)))).collect();
    plan.push_some(Op::status_to(&RESOURCE_QUOTAS, quota, &json!({"hard": hard, "used": used})));
    plan
}

/// True for what a quota calls `count/...` and this controller counts; `others` counts the rest.
fn is_counted_here(name: &str) -> bool {
    COUNTED.iter().filter_map(|kind| ::kinds::table().by_gvr(&kind.gvr())).any(|kind| concerns(kind, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scene;

    #[test]
    fn a_charge_stays_until_the_cache_is_as_new() {
        let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "ns", "resourceVersion": "10"},
            "spec": {"hard": {"pods": "2"}}, "status": {"hard": {"pods": "2"}, "used": {"pods": "1"}}});
        let pod = |revision: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "other", "resourceVersion": revision}});
        let lowered = "update resourcequotas/status ns/q {\"status\":{\"used\":{\"pods\":\"0\"}}}\n";
        let mut scene = Scene::new(vec![quota.clone(), pod("9")]);
        assert_eq!(scene.plan(&CONTROLLER, "ns/q").to_string(), "requeue 2 s\n", "a pod may have been written with it");
        scene.now += SETTLED_SECONDS;
        assert_eq!(scene.plan(&CONTROLLER, "ns/q").to_string(), lowered, "it would be known by now");
        assert_eq!(Scene::new(vec![quota, pod("11")]).plan(&CONTROLLER, "ns/q").to_string(), lowered);
    }
}
