//! Who writes roles and bindings gives away only what they have, or what they may `escalate` and `bind`. Upstream's RBAC storage.

use kinds::Kind;
use object::Status;
use rbac::{Attributes, Rule};
use serde_json::Value;

use crate::api::Api;
use crate::user::User;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Everything: what an aggregating role may come to be.
fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// 403 when the write would give away what the user does not have.
pub(crate) async fn check(api: &Api, user: &User, kind: &Kind, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let is_role = matches!(kind.kind.as_str(), "Role" | "ClusterRole");
    let is_binding = matches!(kind.kind.as_str(), "RoleBinding" | "ClusterRoleBinding");
    if kind.group != GROUP || !(is_role || is_binding) || user.groups.iter().any(|g| g == "system:masters") {
        return Ok(());
    }
    if old.is_some_and(|old| only_garbage_collection(new, old)) {
        return Ok(());
    }
    let (namespace, name) = (text(&new["metadata"]["namespace"]), text(&new["metadata"]["name"]));
    let forbidden = |why: &str| Status::forbidden(GROUP, &kind.plural, name, why);
    let owned = || api.rbac.load().rules_for(&user.name, &user.groups, namespace);
    let covered = |rules: &[Rule]| {
        let mut missing: Vec<String> = rbac::missing(&owned(), rules).iter().map(rbac::describe).collect();
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            return Ok(());
        }
        let groups: Vec<String> = user.groups.iter().map(|g| format!("{g:?}")).collect();
        Err(forbidden(&format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            groups.join(" "),
            missing.join("\n")
        )))
    };
    if is_role {
        // The name of a new object is not in its URL, as upstream sees it.
        let name = if old.is_some() { name } else { "" };
        let escalate = Attributes {
            verb: "escalate",
            group: GROUP,
            resource: &kind.plural,
            namespace,
            name,
            ..Attributes::default()
        };
        if api.may(user, &escalate).await {
            return Ok(());
        }
        let rules: Vec<Rule> = serde_json::from_value(new["rules"].clone()).unwrap_or_default();
        covered(&rules)?;
        let aggregates =
            |role: &Value| role["aggregationRule"]["clusterRoleSelectors"].as_array().is_some_and(|s| !s.is_empty());
        if (aggregates(new) || old.is_some_and(aggregates)) && !rbac::missing(&owned(), &everything()).is_empty() {
            return Err(forbidden("must have cluster-admin privileges to use the aggregationRule"));
        }
        return Ok(());
    }
    let reference = &new["roleRef"];
    let (of, role) = (text(&reference["kind"]), text(&reference["name"]));
    let (resource, home) = if of == "ClusterRole" { ("clusterroles", "") } else { ("roles", namespace) };
    let bind = Attributes {
        verb: "bind",
        group: text(&reference["apiGroup"]),
        resource,
        namespace,
        name: role,
        ..Attributes::default()
    };
    if api.may(user, &bind).await {
        return Ok(());
    }
    // Read from the state itself: the index follows it with a delay.
    let key = if home.is_empty() { role.to_owned() } else { format!("{home}/{role}") };
    let found = api.stored_value(&format!("/registry/{resource}/{key}"));
    let mut found = found.ok_or_else(|| Status::not_found(GROUP, resource, role))?;
    covered(&serde_json::from_value::<Vec<Rule>>(found["rules"].take()).unwrap_or_default())
}

/// True when nothing changes but what the garbage collector sets.
fn only_garbage_collection(new: &Value, old: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        if let Some(metadata) = value["metadata"].as_object_mut() {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"] {
                metadata.remove(field);
            }
        }
        value
    };
    bare(new) == bare(old)
}
