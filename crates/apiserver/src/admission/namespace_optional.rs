//! NamespaceAutoProvision makes namespaces that somebody writes in; NamespaceExists refuses writes, deletions too, in those that
//! do not exist. Both run only where they are asked for.

use futures::FutureExt;
use futures::future::BoxFuture;
use object::Status;
use serde_json::json;

use super::{Attributes, Operation};
use crate::api::Api;

fn concerns(at: &Attributes<'_>) -> bool {
    !at.namespace.is_empty() && !at.is("", "namespaces")
}

fn exists(api: &Api, at: &Attributes<'_>) -> bool {
    api.store.get(&format!("/registry/namespaces/{}", at.namespace)).is_some()
}

/// NamespaceAutoProvision. Boxed: making the namespace is itself a write that is admitted.
pub(super) fn provision<'a>(api: &'a Api, at: &'a Attributes<'a>) -> BoxFuture<'a, Result<(), Status>> {
    async move {
        if at.operation != Operation::Create || at.dry_run || !concerns(at) || exists(api, at) {
            return Ok(());
        }
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": at.namespace}});
        let made = crate::bootstrap::ensure(api, namespace).await;
        made.map_err(|status| at.forbidden(&status.message))
    }
    .boxed()
}

/// NamespaceExists.
pub(super) fn check(api: &Api, at: &Attributes<'_>) -> Result<(), Status> {
    if at.operation == Operation::Connect || !concerns(at) || exists(api, at) {
        return Ok(());
    }
    Err(Status::not_found("", "namespaces", at.namespace))
}
