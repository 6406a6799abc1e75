//! NamespaceLifecycle: nothing is written in a namespace that does not exist, nothing new in one that goes away, and three stay.

use std::time::Duration;

use object::Status;

use super::{Attributes, Operation};
use crate::api::Api;

/// A namespace that was created a moment ago may not be visible yet to whoever uses it; upstream waits so, too.
const PATIENCE: Duration = Duration::from_millis(50);
/// Namespaces that stay.
const KEPT: [&str; 3] = ["default", "kube-public", "kube-system"];

pub(super) async fn admit(api: &Api, at: &Attributes<'_>) -> Result<(), Status> {
    if at.is("", "namespaces") {
        let stays = at.operation == Operation::Delete && KEPT.contains(&at.name);
        return if stays { Err(at.forbidden("this namespace may not be deleted")) } else { Ok(()) };
    }
    if at.namespace.is_empty()
        || !matches!(at.operation, Operation::Create | Operation::Update)
        || at.is("authorization.k8s.io", "localsubjectaccessreviews")
    {
        return Ok(());
    }
    let namespace = at.namespace;
    let key = format!("/registry/namespaces/{namespace}");
    let mut found = api.store.get(&key);
    if found.is_none() && at.operation == Operation::Create {
        tokio::time::sleep(PATIENCE).await;
        found = api.store.get(&key);
    }
    let Some(found) = found else { return Err(Status::not_found("", "namespaces", namespace)) };
    if at.operation == Operation::Create && found.object.head.is_terminating() {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = at.forbidden(&why);
        status.causes = vec![object::Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        }];
        return Err(status);
    }
    Ok(())
}
