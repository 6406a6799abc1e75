//! Who may do what: RBAC, and what a node may do to its own.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object::{Object, Status};
use rbac::Attributes;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::user::User;

/// Resources whose objects are the policy.
const POLICY: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// The pause before the policy is read again after its watch has ended.
const RETRY: Duration = Duration::from_secs(1);

/// What a node agent may do besides what RBAC gives to `system:nodes` (the Node authorizer's static part).
fn node_may(user: &User, wanted: &Attributes<'_>) -> bool {
    let Some(node) = user.name.strip_prefix("system:node:").filter(|_| user.groups.iter().any(|g| g == "system:nodes"))
    else {
        return false;
    };
    let read = matches!(wanted.verb, "get" | "list" | "watch");
    match (wanted.group, wanted.resource, wanted.subresource) {
        ("", "nodes", "" | "status") => {
            read || matches!(wanted.verb, "create" | "update" | "patch")
                && (wanted.name == node || wanted.verb == "create")
        }
        ("coordination.k8s.io", "leases", "") => {
            wanted.namespace == "kube-node-lease" && (wanted.name == node || wanted.name.is_empty())
        }
        ("", "pods", "" | "status") => read || matches!(wanted.verb, "update" | "patch" | "delete" | "create"),
        (
            "",
            "secrets"
            | "configmaps"
            | "services"
            | "endpoints"
            | "persistentvolumeclaims"
            | "persistentvolumes"
            | "serviceaccounts",
            "",
        ) => read,
        ("discovery.k8s.io", "endpointslices", "") | ("node.k8s.io", "runtimeclasses", "") => read,
        ("storage.k8s.io", "csinodes", "") => true,
        ("storage.k8s.io", "volumeattachments" | "csidrivers", "") => read,
        ("", "serviceaccounts", "token") => wanted.verb == "create",
        ("", "events", "") | ("events.k8s.io", "events", "") => matches!(wanted.verb, "create" | "patch" | "update"),
        ("authentication.k8s.io", "tokenreviews", "") | ("authorization.k8s.io", "subjectaccessreviews", "") => {
            wanted.verb == "create"
        }
        _ => false,
    }
}

impl Api {
    /// True when the user may.
    pub(crate) fn may(&self, user: &User, wanted: &Attributes<'_>) -> bool {
        let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
        self.rbac.load().allows(&wanted) || node_may(user, &wanted)
    }

    /// 403 in upstream's words unless the user may.
    pub(crate) fn authorize(&self, user: &User, wanted: &Attributes<'_>) -> Result<(), Status> {
        if self.may(user, wanted) {
            return Ok(());
        }
        let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
        Err(Status::forbidden(wanted.group, wanted.resource, wanted.name, &rbac::denial(&wanted)))
    }

    /// Reads the policy anew.
    pub(crate) fn reload_policy(&self) -> u64 {
        let mut objects: Vec<Arc<Object>> = Vec::new();
        let mut revision = u64::MAX;
        for resource in POLICY {
            if let Ok(page) = self.store.range(&format!("/registry/{resource}/"), None, 0, 0) {
                revision = revision.min(page.revision);
                objects.extend(page.items.into_iter().map(|v| v.object));
            }
        }
        self.rbac.store(Arc::new(rbac::Index::build(objects.iter().map(|o| &**o))));
        revision
    }

    /// Keeps the policy current until the token is cancelled.
    pub(crate) async fn follow_policy(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.reload_policy();
            let watches: Vec<_> =
                POLICY.iter().filter_map(|r| self.store.watch(&format!("/registry/{r}/"), revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            tokio::select! {
                () = token.cancelled() => return,
                // The streams end with the store, or when etcd has gone back in time.
                change = changes.next() => if change.is_none() { tokio::time::sleep(RETRY).await },
            }
        }
    }
}
