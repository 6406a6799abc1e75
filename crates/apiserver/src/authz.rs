//! Who may do what: RBAC, and what a node may read of what its pods refer to.

mod node;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object::{Object, Status};
use rbac::Attributes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::metrics;
use crate::user::User;

pub(crate) use node::node_of;

/// Resources whose objects are the policy.
const POLICY: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// The pause before the policy is read again after its watch has ended.
const RETRY: Duration = Duration::from_secs(1);

impl Api {
    /// True when the user may.
    pub(crate) fn may(&self, user: &User, wanted: &Attributes<'_>) -> bool {
        self.decide(user, wanted).is_ok()
    }

    /// Whether the user may; why not, where there is more to say than that no rule allows it.
    pub(crate) fn decide(&self, user: &User, wanted: &Attributes<'_>) -> Result<(), String> {
        let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
        if self.rbac.load().allows(&wanted) {
            return Ok(());
        }
        node_of(user).map_or_else(|| Err(String::new()), |node| self.node_may(node, &wanted))
    }

    /// What the audit log says of a decision: whether, and why.
    pub(crate) fn explain(&self, user: &User, wanted: &Attributes<'_>) -> (bool, String) {
        match self.decide(user, wanted) {
            Ok(()) => {
                let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
                (true, self.rbac.load().reason(&wanted))
            }
            Err(why) => (false, why),
        }
    }

    /// 403 in upstream's words unless the user may.
    pub(crate) fn authorize(&self, user: &User, wanted: &Attributes<'_>) -> Result<(), Status> {
        let began = Instant::now();
        let decision = self.decide(user, wanted);
        metrics::authorized(decision.is_ok(), node_of(user).is_some(), began.elapsed());
        let Err(reason) = decision else { return Ok(()) };
        let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
        let mut why = rbac::denial(&wanted);
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Err(Status::forbidden(wanted.group, wanted.resource, wanted.name, &why))
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
