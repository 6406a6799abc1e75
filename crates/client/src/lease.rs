//! Leases: a record that is renewed, by one holder (a node's heartbeat) or by whoever leads ([`crate::leader`]).

use std::sync::Arc;
use std::time::Duration;

use object::{Gvr, Object};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Client, Patch, Resource, Result};

/// `coordination.k8s.io/v1 leases`.
pub fn leases() -> Gvr {
    Gvr::new("coordination.k8s.io", "v1", "leases")
}

/// What is read of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who holds it; empty when it was given up.
    pub holder_identity: String,
    /// For how long it is held after a renewal.
    pub lease_duration_seconds: i64,
    /// When the holder took it.
    pub acquire_time: String,
    /// When the holder renewed it last.
    pub renew_time: String,
    /// How often it changed hands.
    pub lease_transitions: i64,
}

impl LeaseSpec {
    /// The spec of a Lease object.
    pub fn of(lease: &Object) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct View {
            spec: LeaseSpec,
        }
        lease.view::<View>().unwrap_or_default().spec
    }
}

/// A node's heartbeat: its Lease in `kube-node-lease`.
pub struct Heartbeat {
    /// Under whose rights.
    pub client: Client,
    /// The node's name, which is the lease's name and holder.
    pub node: String,
    /// The Node's uid, for the owner reference; a lease that is created before it is known has none.
    pub node_uid: Option<String>,
    /// For how long the node counts as alive after a renewal: 40 s as upstream.
    pub duration: Duration,
}

impl Heartbeat {
    /// Renews every quarter of the duration until cancelled. A renewal that fails is tried again sooner.
    pub async fn run(self, token: CancellationToken) {
        let interval = self.duration / 4;
        let mut backoff = base::Backoff::new(Duration::from_millis(200), interval.min(Duration::from_secs(7)));
        loop {
            let wait = match self.renew().await {
                Ok(_) => {
                    backoff.reset();
                    interval
                }
                Err(status) => {
                    tracing::warn!(error = %status, node = self.node, "the node's lease could not be renewed");
                    backoff.next_wait()
                }
            };
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Renews once; creates the lease when there is none.
    pub async fn renew(&self) -> Result<Arc<Object>> {
        const NAMESPACE: Option<&str> = Some("kube-node-lease");
        let spec = json!({
            "holderIdentity": self.node,
            "leaseDurationSeconds": self.duration.as_secs(),
            "renewTime": base::time::now_micros(),
        });
        let owners = self
            .node_uid
            .as_ref()
            .map(|uid| json!([{"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": uid}]));
        let at = Resource::object(&leases(), NAMESPACE, &self.node);
        let mut patch = json!({"spec": spec});
        if let Some(owners) = &owners {
            patch["metadata"] = json!({"ownerReferences": owners});
        }
        match self.client.patch(&at, &Patch::Merge(patch)).await {
            Err(status) if status.is_not_found() => {}
            done => return done,
        }
        let mut metadata = json!({"name": self.node, "namespace": "kube-node-lease"});
        if let Some(owners) = owners {
            metadata["ownerReferences"] = owners;
        }
        let lease: Value =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
        self.client.create(&Resource::collection(&leases(), NAMESPACE), &lease).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeServer;

    #[tokio::test]
    async fn a_heartbeat_creates_then_renews() {
        let server = FakeServer::new();
        let mut heartbeat = Heartbeat {
            client: server.client("kubelet"),
            node: "n1".into(),
            node_uid: None,
            duration: Duration::from_secs(40),
        };
        let first = heartbeat.renew().await.unwrap();
        heartbeat.node_uid = Some("u1".into());
        let second = heartbeat.renew().await.unwrap();
        let spec = LeaseSpec::of(&second);
        assert_eq!((spec.holder_identity.as_str(), spec.lease_duration_seconds), ("n1", 40));
        assert!(spec.renew_time > LeaseSpec::of(&first).renew_time);
        assert_eq!(second.head.owners[0].uid, "u1");
        assert_eq!(second.head.uid, first.head.uid);
    }
}
