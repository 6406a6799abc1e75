//! The certificate authority of the API server, as the ConfigMap `kube-root-ca.crt` in each namespace.

use std::sync::Arc;

use client::Change;
use object::Object;
use serde_json::json;

use crate::kinds::{CONFIG_MAPS, NAMESPACES};
use crate::owner::key_of;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "root-ca-cert-publisher",
    of: &NAMESPACES,
    owns: &[],
    watches: &[Watch { kind: &CONFIG_MAPS, wakes: namespace_of }],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

fn namespace_of(change: &Change, _: &World) -> Vec<String> {
    let head = &change.object().head;
    if head.name == NAME { vec![head.namespace.clone()] } else { Vec::new() }
}

fn reconcile(namespace: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let ca = &world.options().ca_pem;
    if ca.is_empty() || namespace.head.is_terminating() {
        return plan;
    }
    let name = &namespace.head.name;
    let data = json!({"ca.crt": ca});
    match world.get(&CONFIG_MAPS, &key_of(name, NAME)) {
        None => {
            let metadata =
                json!({"name": NAME, "namespace": name, "annotations": {"kubernetes.io/description": DESCRIPTION}});
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            plan.push(Op::create(&CONFIG_MAPS, name, map));
        }
        Some(map) => {
            let current = map.value().unwrap_or_default()["data"].clone();
            if let Some(change) = crate::diff::merge_diff(&current, &data) {
                plan.push(Op::update(&CONFIG_MAPS, &map, json!({"data": change})));
            }
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scene;

    #[test]
    fn the_map_is_made_and_kept_right() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}});
        let map = |data: serde_json::Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": "ns"}, "data": data});
        let check = |objects: Vec<serde_json::Value>, wanted: &str| {
            let mut scene = Scene::new(objects);
            scene.options.ca_pem = "PEM".into();
            assert_eq!(scene.plan(&CONTROLLER, "ns").to_string(), wanted);
        };
        check(vec![namespace.clone()], "create configmaps ns/kube-root-ca.crt\n");
        check(vec![namespace.clone(), map(json!({"ca.crt": "PEM"}))], "");
        check(
            vec![namespace, map(json!({"ca.crt": "old", "more": "x"}))],
            "update configmaps ns/kube-root-ca.crt {\"data\":{\"ca.crt\":\"PEM\",\"more\":null}}\n",
        );
    }
}
