//! Secrets with a service account's token (`kubernetes.io/service-account-token`): filled in, and gone with their account.

use std::sync::Arc;

use client::Change;
use object::Object;
use serde_json::{Value, json};

use crate::kinds::{SECRETS, SERVICE_ACCOUNTS};
use crate::owner::key_of;
use crate::plan::Op;
use crate::secrets::{data, encoded};
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "tokens-controller",
    of: &SECRETS,
    owns: &[],
    watches: &[Watch { kind: &SERVICE_ACCOUNTS, wakes: tokens_of }],
    reads: &[],
    workers: 2,
    reconcile,
    gone: crate::controller::nothing,
};

const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// How long a secret may be ahead of the cache of accounts before its account counts as gone.
const PATIENCE_SECONDS: i64 = 5;

fn account_of(secret: &Value) -> Option<&str> {
    if secret["type"] == TYPE { secret["metadata"]["annotations"][ACCOUNT].as_str() } else { None }
}

fn tokens_of(change: &Change, world: &World) -> Vec<String> {
    let account = &change.object().head;
    let secrets = world.list(&SECRETS, Some(&account.namespace)).into_iter();
    let named = |secret: &Arc<Object>| secret.value().is_ok_and(|v| account_of(&v) == Some(account.name.as_str()));
    secrets.filter(named).map(|secret| secret.head.key()).collect()
}

fn reconcile(secret: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let value = secret.value().unwrap_or_default();
    let Some(name) = account_of(&value).filter(|_| !secret.head.is_terminating()) else { return plan };
    let annotations = &value["metadata"]["annotations"];
    let namespace = &secret.head.namespace;
    let account = world.get(&SERVICE_ACCOUNTS, &key_of(namespace, name));
    let wanted = annotations[UID].as_str().filter(|uid| !uid.is_empty());
    let account = account.filter(|a| wanted.is_none_or(|uid| uid == a.head.uid));
    let what = format!("token secret {}", secret.head.key());
    let Some(account) = account else {
        let waited = world.now() - world.first_seen(&what, &secret.head.uid);
        if waited < PATIENCE_SECONDS {
            plan.requeue_after(PATIENCE_SECONDS - waited);
        } else {
            world.forget(&what);
            plan.push(Op::delete(&SECRETS, secret));
        }
        return plan;
    };
    world.forget(&what);
    let Some(keys) = &world.options().keys else { return plan };
    let mut filled = json!({});
    let ca = &world.options().ca_pem;
    if !ca.is_empty() && data(&value, "ca.crt").as_deref() != Some(ca.as_str()) {
        filled["ca.crt"] = encoded(ca);
    }
    if data(&value, "namespace").is_none_or(|n| n.is_empty()) {
        filled["namespace"] = encoded(namespace);
    }
    if data(&value, "token").is_none_or(|t| t.is_empty()) {
        let token = keys.0.tokens.sign(&claims(secret, &account));
        let Some(token) = token else { return plan };
        filled["token"] = encoded(&token);
    }
    if filled.as_object().is_some_and(|f| !f.is_empty()) {
        let annotations = json!({(ACCOUNT): account.head.name, (UID): account.head.uid});
        plan.push(Op::update(&SECRETS, secret, json!({"data": filled, "metadata": {"annotations": annotations}})));
    }
    plan
}

/// What such a token says: it does not expire; the Secret's life is its life.
fn claims(secret: &Object, account: &Object) -> Value {
    let claim = |name: &str| format!("kubernetes.io/serviceaccount/{name}");
    json!({
        "iss": "kubernetes/serviceaccount",
        "sub": format!("system:serviceaccount:{}:{}", account.head.namespace, account.head.name),
        (claim("namespace")): account.head.namespace,
        (claim("secret.name")): secret.head.name,
        (claim("service-account.name")): account.head.name,
        (claim("service-account.uid")): account.head.uid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scene;

    #[test]
    fn filled_while_the_account_lives() {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot", "namespace": "ns"}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": TYPE,
            "metadata": {"name": "s", "namespace": "ns", "annotations": {(ACCOUNT): "bot"}}});
        let dir = std::env::temp_dir().join(format!("tokens-{}", std::process::id()));
        let pki = Arc::new(pki::Pki::load_or_create(&dir).unwrap());
        let mut scene = Scene::new(vec![account, secret.clone()]);
        scene.options.keys = Some(crate::Keys(pki.clone()));
        scene.options.ca_pem = "PEM".into();
        let plan = scene.plan(&CONTROLLER, "ns/s");
        let crate::Verb::Update(_, change) = &plan.ops().next().unwrap().verb else { panic!("{plan}") };
        assert_eq!(change["metadata"]["annotations"], json!({(ACCOUNT): "bot", (UID): "uid-bot"}));
        let claims = pki.tokens.verify(&data(change, "token").unwrap()).unwrap();
        assert_eq!(claims["kubernetes.io/serviceaccount/secret.name"], "s");
        assert_eq!((data(change, "namespace").unwrap(), data(change, "ca.crt").unwrap()), ("ns".into(), "PEM".into()));
        std::fs::remove_dir_all(dir).unwrap();

        let mut alone = Scene::new(vec![secret]);
        assert_eq!(alone.plan(&CONTROLLER, "ns/s").to_string(), "requeue 5 s\n");
        alone.now += 6;
        assert_eq!(alone.plan(&CONTROLLER, "ns/s").to_string(), "delete secrets ns/s\n");
    }
}
