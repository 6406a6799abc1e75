//! The roles and bindings of every new cluster: upstream v1.36's, as data.

use serde_json::Value;

const OBJECTS: &str = include_str!("../data/bootstrap.json");

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings, in the order in which they should be created.
pub fn bootstrap_objects() -> Vec<Value> {
    serde_json::from_str(OBJECTS).expect("data/bootstrap.json is part of the source and covered by a test")
}
