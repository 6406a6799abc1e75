//! Bootstrap tokens whose time is over are removed.

use std::sync::Arc;

use object::Object;

use crate::kinds::SECRETS;
use crate::plan::Op;
use crate::secrets::{expiration, is_bootstrap_token};
use crate::world::World;
use crate::{Controller, Plan};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "token-cleaner",
    of: &SECRETS,
    owns: &[],
    watches: &[],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

fn reconcile(secret: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let value = secret.value().unwrap_or_default();
    let Some(ends) = expiration(&value).filter(|_| is_bootstrap_token(&value)) else { return plan };
    if ends <= world.now() {
        plan.push(Op::delete(&SECRETS, secret));
    } else {
        plan.requeue_after(ends - world.now());
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secrets::encoded;
    use crate::testing::{NOW, Scene};

    #[test]
    fn removed_when_its_time_is_over() {
        let check = |namespace: &str, kind: &str, expiration: &str, wanted: &str| {
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "data": {"expiration": encoded(expiration)},
                "metadata": {"name": "bootstrap-token-abcdef", "namespace": namespace}});
            let key = format!("{namespace}/bootstrap-token-abcdef");
            assert_eq!(
                Scene::new(vec![secret]).plan(&CONTROLLER, &key).to_string(),
                wanted,
                "{namespace} {kind} {expiration}"
            );
        };
        let (kind, past, soon) =
            ("bootstrap.kubernetes.io/token", "2026-01-31T00:00:00Z", &base::time::format_seconds(NOW + 60));
        check("kube-system", kind, past, "delete secrets kube-system/bootstrap-token-abcdef\n");
        check("kube-system", kind, "never", "delete secrets kube-system/bootstrap-token-abcdef\n");
        check("kube-system", kind, soon, "requeue 60 s\n");
        check("kube-system", kind, "", "");
        check("default", kind, past, "");
        check("kube-system", "Opaque", past, "");
    }
}
