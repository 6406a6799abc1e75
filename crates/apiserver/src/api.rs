//! What the server is made of, and where objects are kept.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use client::Resource;
use kinds::{Kind, Scope};
use object::{Gvk, Gvr, Object, Status};
use store::{Backend, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::addresses::Addresses;
use crate::admission::{Hooks, Policies, Settled};
use crate::aggregation::Aggregation;
use crate::audit::Audit;
use crate::authn::Authenticators;
use crate::authz::Authorizers;
use crate::connection::Limits;
use crate::conversion::Conversions;
use crate::discovery::Documents;
use crate::egress::Egress;
use crate::flow::Flow;
use crate::metrics::lists;
use crate::registry::Registry;

/// The API, whatever transport a request came by. Methods are spread over the files named after what they do.
pub struct Api {
    pub(crate) store: Arc<dyn Backend>,
    pub(crate) pki: Arc<pki::Pki>,
    /// The RBAC rules, rebuilt when one of its objects changes.
    pub(crate) rbac: ArcSwap<rbac::Index>,
    pub(crate) addresses: Addresses,
    /// Which admission plugins run, and how.
    pub(crate) admission: Settled,
    /// The admission webhooks, and the policies in CEL.
    pub(crate) hooks: ArcSwap<Hooks>,
    /// See `hooks`.
    pub(crate) policies: ArcSwap<Policies>,
    /// The kinds of custom resources.
    pub(crate) registry: Registry,
    /// What discovery and OpenAPI say.
    pub(crate) documents: Documents,
    pub(crate) authn: Authenticators,
    pub(crate) authorizers: Authorizers,
    pub(crate) egress: Egress,
    /// Custom resources between their versions.
    pub(crate) conversions: Arc<Conversions>,
    pub(crate) aggregation: Aggregation,
    pub(crate) audit: Option<Audit>,
    pub(crate) flow: Flow,
    pub(crate) limits: Limits,
    /// `https://kubernetes.default.svc.<cluster domain>`: issuer and default audience of tokens.
    pub(crate) issuer: String,
    pub(crate) advertise: Ipv4Addr,
    pub(crate) port: u16,
    /// Is cancelled when the server is on its way out.
    pub(crate) stop: CancellationToken,
}

/// Storage key of an object of the kind.
pub(crate) fn key(kind: &Kind, namespace: Option<&str>, name: &str) -> Arc<str> {
    match namespace {
        Some(namespace) => format!("{}{namespace}/{name}", root(kind)).into(),
        None => format!("{}{name}", root(kind)).into(),
    }
}

/// Prefix of the kind's keys in a namespace, or everywhere.
pub(crate) fn prefix(kind: &Kind, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("{}{namespace}/", root(kind)),
        None => root(kind),
    }
}

fn root(kind: &Kind) -> String {
    format!("/registry/{}/", kind.storage_prefix.as_deref().unwrap_or("-"))
}

impl Api {
    /// The kind of a resource; 404 as upstream words it.
    pub(crate) fn kind_of(&self, gvr: &Gvr) -> Result<Arc<Kind>, Status> {
        let found = self.registry.by_gvr(gvr).or_else(|| self.newly_established(gvr));
        found.ok_or_else(|| Status::new(object::Reason::NotFound, "the server could not find the requested resource"))
    }

    /// The kind, if it is stored: listed, watched, created.
    pub(crate) fn stored_kind_of(&self, gvr: &Gvr) -> Result<Arc<Kind>, Status> {
        self.kind_of(gvr).and_then(|k| if k.storage_prefix.is_some() { Ok(k) } else { Err(not_allowed()) })
    }
}

/// 405.
pub(crate) fn not_allowed() -> Status {
    Status::new(object::Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}

/// The object in the version that the kind serves. In a storage that versions share (autoscaling v1 and v2, events) objects keep the form
/// that they were last written in. Custom resources that were written before their definition changed lack its defaults, and may have what
/// it does not know any more; those written since cost nothing.
pub(crate) fn served(kind: &Kind, object: Arc<Object>) -> Arc<Object> {
    if !kind.is_converted() {
        return object;
    }
    let is_current = kind.custom.as_ref().is_none_or(|custom| object.head.resource_version >= custom.since);
    if is_current && object.head.api_version == kind.api_version() {
        return object;
    }
    // What a webhook converts is converted where there is time to wait for it.
    let by_webhook = kind.custom.as_ref().is_some_and(|custom| custom.webhook.is_some());
    if by_webhook && object.head.api_version != kind.api_version() {
        return object;
    }
    let Ok(mut value) = object.value() else { return object };
    let from = Gvk::from_api_version(&object.head.api_version, &object.head.kind);
    let value = match &kind.custom {
        Some(custom) => {
            custom.adapt(kind, &mut value);
            value
        }
        None => kinds::convert(value, &from, &kind.gvk()),
    };
    match Object::from_value(&value) {
        Ok(mut converted) => {
            converted.head.fields = object.head.fields.clone();
            Arc::new(converted)
        }
        Err(_) => object,
    }
}

/// The namespace that a request is about, checked against the kind's scope.
pub(crate) fn namespace_of<'a>(kind: &Kind, at: &'a Resource) -> Result<Option<&'a str>, Status> {
    match (kind.scope, at.namespace.as_deref()) {
        (Scope::Namespaced, namespace) => Ok(namespace),
        (Scope::Cluster, None) => Ok(None),
        (Scope::Cluster, Some(_)) => {
            Err(Status::new(object::Reason::NotFound, "the server could not find the requested resource"))
        }
    }
}

impl Api {
    /// Before a read: everything that was acknowledged so far, by whichever server, is seen by it. With a revision, as
    /// much as that revision holds is enough; 0: whatever is there.
    pub(crate) async fn fresh(&self, revision: Option<u64>) -> Result<(), Status> {
        let outcome = match revision {
            Some(revision) if revision > self.store.revision() => self.store.wait(revision).await,
            Some(_) => Ok(()),
            None => match self.store.sync() {
                Some(sync) => sync.await,
                None => Ok(()),
            },
        };
        outcome.map_err(|e| store_status(&e))
    }
}

impl Api {
    /// Before a list: [`Self::fresh`], counted unless there is nothing to wait for.
    pub(crate) async fn fresh_for(&self, kind: &Kind, revision: Option<u64>) -> Result<(), Status> {
        if revision == Some(0) {
            return self.fresh(revision).await;
        }
        let began = Instant::now();
        let outcome = self.fresh(revision).await;
        lists::waited(kind, revision.is_none(), outcome.is_ok(), began.elapsed());
        outcome
    }
}

/// A store error as the API words it. Conflicts are the callers' business.
pub(crate) fn store_status(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { wanted, oldest } => {
            let text = format!("too old resource version: {wanted} ({oldest})");
            Status::new(object::Reason::Expired, text)
        }
        StoreError::Future { wanted, newest } => {
            let mut status = Status::new(
                object::Reason::Timeout,
                format!("Timeout: Too large resource version: {wanted}, current: {newest}"),
            );
            status.retry_after_seconds = 1;
            status.causes = vec![object::Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            }];
            status
        }
        StoreError::Unavailable(_) => {
            tracing::warn!(error = %base::Chain(error), "a request is refused");
            let mut status = Status::new(object::Reason::ServiceUnavailable, error.to_string());
            status.retry_after_seconds = 1;
            status
        }
        StoreError::TimedOut(_) => {
            tracing::warn!(error = %base::Chain(error), "a request takes too long");
            let text = "Timeout: request did not complete within the allotted timeout";
            Status::new(object::Reason::Timeout, text)
        }
        StoreError::Closed => Status::new(object::Reason::ServiceUnavailable, "the server is shutting down"),
        other => Status::internal(base::Chain(other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_served_in_the_version_that_was_asked_for() {
        let hpa = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "resourceVersion": "7"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}});
        let object = Arc::new(Object::from_value(&hpa).unwrap());
        let of = |version: &str| {
            kinds::table().by_gvr(&Gvr::new("autoscaling", version, "horizontalpodautoscalers")).unwrap()
        };
        let newer = served(of("v2"), object.clone());
        assert_eq!(newer.value().unwrap()["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);
        assert_eq!((newer.head.resource_version, newer.head.api_version.as_str()), (7, "autoscaling/v2"));
        assert!(Arc::ptr_eq(&served(of("v1"), object.clone()), &object), "its own version costs nothing");
    }
}
