//! OwnerReferencesPermissionEnforcement: only who may delete an object changes its owners, and only who may set finalizers on an
//! owner makes its deletion wait. Runs only where it is asked for.

use object::{Gvk, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::api::Api;
use crate::authz::Denial;

fn owners(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map_or(&[], Vec::as_slice)
}

fn blocks(reference: &Value) -> bool {
    reference["blockOwnerDeletion"] == true
}

/// References that block now and did not before.
fn newly_blocking<'a>(new: &'a Value, old: &Value) -> Vec<&'a Value> {
    let blocked = |uid: &Value| owners(old).iter().any(|r| r["uid"] == *uid && blocks(r));
    owners(new).iter().filter(|r| blocks(r) && !blocked(&r["uid"])).collect()
}

fn words(denial: &Denial) -> String {
    format!("{}, {}", denial.reason, denial.error.as_deref().unwrap_or("<nil>"))
}

pub(super) async fn check(api: &Api, at: &Attributes<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    // Whoever writes a pod's status cannot change its owners.
    if !at.writes() || (at.is("", "pods") && at.subresource == "status") || owners(new) == owners(old) {
        return Ok(());
    }
    if at.operation != Operation::Create {
        let wanted = rbac::Attributes {
            verb: "delete",
            group: &at.kind.group,
            version: &at.kind.version,
            resource: &at.kind.plural,
            subresource: at.subresource,
            namespace: at.namespace,
            name: at.name,
            ..Default::default()
        };
        if let Err(denial) = api.decide(at.user, &wanted).await {
            let why = format!("cannot set an ownerRef on a resource you can't delete: {}", words(&denial));
            return Err(at.forbidden(&why));
        }
    }
    let blocking = newly_blocking(new, old);
    if blocking.is_empty() {
        return Ok(());
    }
    let finalize = rbac::Attributes { verb: "update", subresource: "finalizers", ..Default::default() };
    let anything = rbac::Attributes { group: "*", version: "*", resource: "*", name: "*", ..finalize.clone() };
    if api.may(at.user, &anything).await {
        return Ok(());
    }
    for reference in blocking {
        let text = |field: &str| reference[field].as_str().unwrap_or("");
        let gvk = Gvk::from_api_version(text("apiVersion"), text("kind"));
        let Some(owner) = api.registry.by_gvk(&gvk) else {
            let (version, kind) = (text("apiVersion"), text("kind"));
            return Err(at.forbidden(&format!(
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {version} Kind {kind}: no matches for kind {kind:?} in version {version:?}"
            )));
        };
        let wanted = rbac::Attributes {
            group: &owner.group,
            version: &owner.version,
            resource: &owner.plural,
            namespace: if owner.namespaced() { at.namespace } else { "" },
            name: text("name"),
            ..finalize.clone()
        };
        if let Err(denial) = api.decide(at.user, &wanted).await {
            let why = format!(
                "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {}",
                words(&denial)
            );
            return Err(at.forbidden(&why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_new_blocks_count() {
        let of = |refs: Value| json!({"metadata": {"ownerReferences": refs}});
        let (a, b) = (json!({"uid": "a", "blockOwnerDeletion": true}), json!({"uid": "b"}));
        let blocked = json!({"uid": "b", "blockOwnerDeletion": true});
        assert_eq!(newly_blocking(&of(json!([a, b])), &Value::Null), [&a]);
        assert_eq!(newly_blocking(&of(json!([a, blocked])), &of(json!([a, b]))), [&blocked]);
    }
}
