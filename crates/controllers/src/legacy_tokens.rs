//! Tokens in Secrets that the cluster once made for service accounts, and that nobody has used for a year: first marked invalid, and
//! a year later removed (KEP-2799). Secrets that somebody made by hand, or that a pod mounts, stay.

use std::sync::Arc;

use object::Object;
use serde_json::{Value, json};

use crate::kinds::{CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS};
use crate::owner::key_of;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "legacy-service-account-token-cleaner",
    of: &SECRETS,
    owns: &[],
    watches: &[],
    reads: &[&CONFIG_MAPS, &SERVICE_ACCOUNTS, &PODS],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Says since when uses are noted.
const TRACKING: &str = "kube-system/kube-apiserver-legacy-service-account-token-tracking";
/// `--legacy-service-account-token-clean-up-period`.
const PERIOD_SECONDS: i64 = 365 * DAY_SECONDS;
const DAY_SECONDS: i64 = 86_400;

/// The second when a day (`2026-11-25`) begins.
fn day(text: &str) -> Option<i64> {
    base::time::parse_seconds(&format!("{text}T00:00:00Z"))
}

/// True when the cluster made the secret itself: then the account lists it.
fn is_generated(account: &Object, secret: &str) -> bool {
    let value = account.value().unwrap_or_default();
    value["secrets"].as_array().is_some_and(|all| all.iter().any(|s| s["name"] == secret))
}

fn mounts(pod: &Object, secret: &str) -> bool {
    let value = pod.value().unwrap_or_default();
    value["spec"]["volumes"].as_array().is_some_and(|all| all.iter().any(|v| v["secret"]["secretName"] == secret))
}

fn reconcile(secret: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let value = secret.value().unwrap_or_default();
    if value["type"] != TYPE {
        return plan;
    }
    let (head, now) = (&secret.head, world.now());
    let tracked = world.get(&CONFIG_MAPS, TRACKING).and_then(|map| map.value().ok());
    let since = tracked.and_then(|map| map["data"]["since"].as_str().and_then(day));
    plan.requeue_after(DAY_SECONDS);
    if since.is_none_or(|since| now < since + PERIOD_SECONDS) {
        return plan;
    }
    let account = value["metadata"]["annotations"][ACCOUNT].as_str().unwrap_or("");
    let account = world.get(&SERVICE_ACCOUNTS, &key_of(&head.namespace, account));
    let is_kept = !account.is_some_and(|account| is_generated(&account, &head.name))
        || world.list(&PODS, Some(&head.namespace)).iter().any(|pod| mounts(pod, &head.name));
    let created = head.creation_timestamp.as_deref().and_then(base::time::parse_seconds);
    let used = head.labels.get(LAST_USED).and_then(day).or(created);
    if is_kept || used.is_none_or(|used| now < used + PERIOD_SECONDS) {
        return plan;
    }
    match head.labels.get(INVALID_SINCE).and_then(day) {
        None => {
            let today = &base::time::format_seconds(now)[..10];
            let marked: Value = json!({"metadata": {"labels": {(INVALID_SINCE): today}}});
            plan.push(Op::patch(&SECRETS, secret, client::Patch::Merge(marked)));
        }
        Some(since) if now >= since + PERIOD_SECONDS => plan.push(Op::delete(&SECRETS, secret)),
        Some(_) => {}
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Scene};

    #[test]
    fn unused_for_a_year_and_marked_for_another() {
        let check = |labels: Value, since: i64, is_listed: bool, pod_mounts: &str, wanted: &str| {
            let day = |ago: i64| base::time::format_seconds(NOW - ago * DAY_SECONDS)[..10].to_owned();
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"since": day(since)},
                "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"}});
            let mut labels = labels;
            for ago in labels.as_object_mut().unwrap().values_mut() {
                *ago = day(ago.as_i64().unwrap()).into();
            }
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": TYPE, "metadata": {"name": "s", "namespace": "ns",
                "labels": labels, "annotations": {(ACCOUNT): "bot"}, "creationTimestamp": "2020-01-01T00:00:00Z"}});
            let secrets = if is_listed { json!([{"name": "s"}]) } else { json!([]) };
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "secrets": secrets,
                "metadata": {"name": "bot", "namespace": "ns"}});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns"},
                "spec": {"volumes": [{"name": "v", "secret": {"secretName": pod_mounts}}]}});
            let plan = Scene::new(vec![map, secret, account, pod]).plan(&CONTROLLER, "ns/s").to_string();
            assert_eq!(plan.lines().next().unwrap_or(""), wanted, "{labels} {since} {is_listed} {pod_mounts}");
        };
        let marked =
            r#"patch secrets ns/s {"metadata":{"labels":{"kubernetes.io/legacy-token-invalid-since":"2026-02-01"}}}"#;
        let (nothing, gone) = ("requeue 86400 s", "delete secrets ns/s");
        check(json!({}), 400, true, "", marked);
        check(json!({}), 300, true, "", nothing);
        check(json!({}), 400, false, "", nothing);
        check(json!({}), 400, true, "s", nothing);
        check(json!({(LAST_USED): 100}), 400, true, "", nothing);
        check(json!({(LAST_USED): 800, (INVALID_SINCE): 366}), 800, true, "", gone);
        check(json!({(LAST_USED): 800, (INVALID_SINCE): 10}), 800, true, "", nothing);
    }
}
