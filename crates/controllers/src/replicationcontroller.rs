//! ReplicationController: what a ReplicaSet is, with a plain map as its selector.

use crate::Controller;
use crate::controller::nothing;
use crate::kinds::{PODS, REPLICATION_CONTROLLERS};
use crate::replicaset;

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "replication-controller",
    of: &REPLICATION_CONTROLLERS,
    owns: &[&PODS],
    watches: &[],
    reads: &[],
    workers: 5,
    reconcile: |rc, world| replicaset::reconcile(&REPLICATION_CONTROLLERS, rc, world),
    gone: nothing,
};

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::CONTROLLER;
    use crate::testing::Scene;

    #[test]
    fn its_selector_is_a_map_and_orphans_are_adopted() {
        let rc = json!({
            "apiVersion": "v1", "kind": "ReplicationController",
            "metadata": {"name": "web", "namespace": "ns", "uid": "rc", "generation": 2},
            "spec": {"replicas": 2, "selector": {"app": "web"},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        });
        let pod = |name: &str, app: &str| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": app}},
                "spec": {}, "status": {"phase": "Running"}})
        };
        let plan = Scene::new(vec![rc, pod("orphan", "web"), pod("other", "db")]).plan(&CONTROLLER, "ns/web");
        expect![[r#"
            patch pods ns/orphan {"metadata":{"ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"ReplicationController","name":"web","uid":"rc"}],"uid":"orphan"}}
            create pods ns/web-*
              event SuccessfulCreate Created pod: {name}
            update replicationcontrollers/status ns/web {"status":{"fullyLabeledReplicas":1,"observedGeneration":2,"replicas":1}}
        "#]].assert_eq(&plan.to_string());
    }
}
