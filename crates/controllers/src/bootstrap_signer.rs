//! The signatures of `kube-public/cluster-info`: who knows a bootstrap token can tell by them that the cluster is the right one.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Change;
use object::Object;
use serde_json::{Value, json};

use crate::kinds::{CONFIG_MAPS, SECRETS};
use crate::plan::Op;
use crate::secrets::{data, expiration, is_bootstrap_token};
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "bootstrap-signer",
    of: &CONFIG_MAPS,
    owns: &[],
    watches: &[Watch { kind: &SECRETS, wakes: signed_by }],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const PREFIX: &str = "jws-kubeconfig-";

fn signed_by(change: &Change, _: &World) -> Vec<String> {
    let is_token = change.object().value().is_ok_and(|value| is_bootstrap_token(&value));
    if is_token { vec![format!("{NAMESPACE}/{NAME}")] } else { Vec::new() }
}

/// Id and secret of a token that signs.
fn signing(secret: &Object, now: i64) -> Option<(String, String)> {
    let value = secret.value().ok()?;
    let id = data(&value, "token-id")?;
    let good = is_bootstrap_token(&value)
        && secret.head.name == format!("bootstrap-token-{id}")
        && data(&value, "usage-bootstrap-signing").as_deref() == Some("true")
        && expiration(&value).is_none_or(|ends| now < ends);
    let token = data(&value, "token-secret").filter(|token| !token.is_empty())?;
    good.then_some((id, token))
}

fn reconcile(map: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    if map.head.namespace != NAMESPACE || map.head.name != NAME {
        return plan;
    }
    let value = map.value().unwrap_or_default();
    let Some(content) = value["data"]["kubeconfig"].as_str() else { return plan };
    let mut wanted = BTreeMap::new();
    for secret in world.list(&SECRETS, Some("kube-system")) {
        if let Some((id, token)) = signing(&secret, world.now()) {
            wanted.insert(format!("{PREFIX}{id}"), Value::from(pki::jwt::detached(content, &id, &token)));
        }
    }
    let present = value["data"].as_object().into_iter().flatten();
    let present: BTreeMap<String, Value> =
        present.filter(|(key, _)| key.starts_with(PREFIX)).map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some(change) = crate::diff::merge_diff(&json!(present), &json!(wanted)) {
        plan.push(Op::update(&CONFIG_MAPS, map, json!({"data": change})));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::encoded;
    use crate::testing::Scene;

    #[test]
    fn tokens_that_may_sign_do() {
        let map = |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data});
        let token = |signing: &str| {
            json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "data": {"token-id": encoded("abcdef"), "token-secret": encoded("s"), "usage-bootstrap-signing": encoded(signing)}})
        };
        let signature = pki::jwt::detached("C", "abcdef", "s");
        let check = |objects: Vec<Value>, wanted: &str| {
            let plan = Scene::new(objects).plan(&CONTROLLER, "kube-public/cluster-info");
            assert_eq!(plan.to_string(), wanted);
        };
        let made = format!(
            "update configmaps kube-public/cluster-info {{\"data\":{{\"jws-kubeconfig-abcdef\":\"{signature}\"}}}}\n"
        );
        check(vec![map(json!({"kubeconfig": "C"})), token("true")], &made);
        let signed = map(json!({"kubeconfig": "C", "jws-kubeconfig-abcdef": signature}));
        check(vec![signed.clone(), token("true")], "");
        check(
            vec![signed, token("false")],
            "update configmaps kube-public/cluster-info {\"data\":{\"jws-kubeconfig-abcdef\":null}}\n",
        );
        check(vec![map(json!({})), token("true")], "");
    }
}
