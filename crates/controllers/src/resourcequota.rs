//! ResourceQuota: counts what there is into `status.used`. Admission charges what is created; this takes off again what is gone, and begins
//! the count of a new quota.

pub(crate) mod others;

use std::collections::BTreeMap;
use std::sync::Arc;

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
        Watch { kind: &PERSISTENT_VOLUME_CLAIMS, wakes: deleted },
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
    gone: crate::controller::nothing,
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

fn reconcile(quota: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let value = quota.value().unwrap_or_default();
    let hard = value["spec"]["hard"].clone();
    let Some(limited) = hard.as_object() else { return plan };
    let mut used: BTreeMap<&str, object::Quantity> =
        limited.keys().map(|name| (name.as_str(), object::Quantity::default())).collect();
    for kind in COUNTED {
        let counted = object::names::group_resource(kind.group, kind.resource);
        let concerned = used.keys().any(|name| is_about(name, kind, &counted));
        let Some(declared) = ::kinds::table().by_gvr(&kind.gvr()).filter(|_| concerned) else { continue };
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
    let counts_elsewhere = |name: &str| name.starts_with("count/") && !is_counted_here(name);
    let mut hard = hard.clone();
    if let Some(hard) = hard.as_object_mut() {
        hard.retain(|name, _| !counts_elsewhere(name) || value["status"]["used"][name].is_string());
    }
    let kept = |name: &str| value["status"]["used"][name].as_str().and_then(object::Quantity::parse);
    let used: BTreeMap<&str, object::Quantity> = used
        .into_iter()
        .filter_map(|(name, sum)| if counts_elsewhere(name) { Some((name, kept(name)?)) } else { Some((name, sum)) })
        .collect();
    let used: Value =
        used.iter().map(|(name, sum)| ((*name).to_owned(), json!(::kinds::quota::shown(name, *sum)))).collect();
    plan.push_some(Op::status_to(&RESOURCE_QUOTAS, quota, &json!({"hard": hard, "used": used})));
    plan
}

/// True for what a quota calls `count/...` and this controller counts; `others` counts the rest.
fn is_counted_here(name: &str) -> bool {
    COUNTED.iter().any(|kind| is_about(name, kind, &object::names::group_resource(kind.group, kind.resource)))
}

/// True when objects of the kind may cost what a quota calls `name`.
fn is_about(name: &str, kind: &Kind, counted: &str) -> bool {
    if name.strip_prefix("count/") == Some(counted) {
        return true;
    }
    match kind.resource {
        "pods" => !name.contains('/') && !name.ends_with("requests.storage"),
        "services" => name.starts_with("services"),
        "persistentvolumeclaims" => name.contains("storage") || name == kind.resource,
        resource => name == resource && kind.group.is_empty(),
    }
}
