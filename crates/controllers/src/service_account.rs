//! Service accounts: each namespace has one named `default`.

use std::sync::Arc;

use client::Change;
use object::Object;
use serde_json::json;

use crate::kinds::{NAMESPACES, SERVICE_ACCOUNTS};
use crate::owner::key_of;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "service-account-controller",
    of: &NAMESPACES,
    owns: &[],
    watches: &[Watch { kind: &SERVICE_ACCOUNTS, wakes: namespace_of }],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

fn namespace_of(change: &Change, _: &World) -> Vec<String> {
    match change {
        Change::Deleted(account) if account.head.name == "default" => vec![account.head.namespace.clone()],
        _ => Vec::new(),
    }
}

fn reconcile(namespace: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let name = &namespace.head.name;
    if !namespace.head.is_terminating() && world.get(&SERVICE_ACCOUNTS, &key_of(name, "default")).is_none() {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
        plan.push(Op::create(&SERVICE_ACCOUNTS, name, account));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scene;

    #[test]
    fn a_namespace_gets_its_account_once_and_not_when_it_goes() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}});
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "ns"}});
        let plan = Scene::new(vec![namespace.clone()]).plan(&CONTROLLER, "ns");
        assert_eq!(plan.to_string(), "create serviceaccounts ns/default\n");
        assert!(Scene::new(vec![namespace.clone(), account]).plan(&CONTROLLER, "ns").is_empty());
        let mut going = namespace;
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(Scene::new(vec![going]).plan(&CONTROLLER, "ns").is_empty());
    }
}
