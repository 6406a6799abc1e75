//! ClusterRole aggregation: the rules of a role with an `aggregationRule` are those of the roles that it selects.

use std::sync::Arc;

use client::Change;
use object::{LabelSelector, Object};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kinds::CLUSTER_ROLES;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan, Watch};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    of: &CLUSTER_ROLES,
    owns: &[],
    watches: &[Watch { kind: &CLUSTER_ROLES, wakes: aggregating }],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct View {
    aggregation_rule: Option<Aggregation>,
    rules: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Aggregation {
    cluster_role_selectors: Option<Vec<Value>>,
}

/// Any role may be selected by any that aggregates.
fn aggregating(_: &Change, world: &World) -> Vec<String> {
    let aggregates = |role: &Arc<Object>| role.view::<View>().is_ok_and(|view| view.aggregation_rule.is_some());
    world.list(&CLUSTER_ROLES, None).into_iter().filter(aggregates).map(|role| role.head.key()).collect()
}

fn reconcile(role: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let view: View = role.view().unwrap_or_default();
    let Some(aggregation) = view.aggregation_rule else { return plan };
    let mut rules: Vec<Value> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten().filter_map(LabelSelector::from_object) {
        for other in world.list(&CLUSTER_ROLES, None) {
            if other.head.name == role.head.name || !selector.matches(&other.head.labels) {
                continue;
            }
            for rule in other.view::<View>().unwrap_or_default().rules.unwrap_or_default() {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    if view.rules.unwrap_or_default() != rules {
        plan.push(Op::update(&CLUSTER_ROLES, role, json!({"rules": rules})));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scene;

    #[test]
    fn rules_are_collected_once_and_in_order() {
        let role = |name: &str, rules: Value| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": name, "labels": {"to-view": "true"}}, "rules": rules})
        };
        let mut view = role("view", Value::Null);
        view["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"to-view": "true"}}]});
        let (a, b) = (json!({"verbs": ["get"]}), json!({"verbs": ["list"]}));
        let mut objects = vec![view, role("x", json!([a, b])), role("y", json!([b]))];
        let plan = Scene::new(objects.clone()).plan(&CONTROLLER, "view");
        assert_eq!(
            plan.to_string(),
            "update clusterroles view {\"rules\":[{\"verbs\":[\"get\"]},{\"verbs\":[\"list\"]}]}\n"
        );
        objects[0]["rules"] = json!([a, b]);
        assert!(Scene::new(objects).plan(&CONTROLLER, "view").is_empty());
    }
}
