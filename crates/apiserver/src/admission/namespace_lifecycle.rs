//! NamespaceLifecycle: nothing is created in a namespace that does not exist or goes away.

use std::time::Duration;

use kinds::Kind;
use object::Status;
use serde_json::Value;

use crate::api::Api;

/// A namespace that was created a moment ago may not be visible yet to whoever uses it; upstream waits so, too.
const PATIENCE: Duration = Duration::from_millis(50);

pub(super) async fn check(api: &Api, kind: &Kind, object: &Value) -> Result<(), Status> {
    let Some(namespace) = object["metadata"]["namespace"].as_str().filter(|_| kind.namespaced()) else { return Ok(()) };
    let key = format!("/registry/namespaces/{namespace}");
    let mut found = api.store.get(&key);
    if found.is_none() {
        tokio::time::sleep(PATIENCE).await;
        found = api.store.get(&key);
    }
    let Some(found) = found else { return Err(Status::not_found("", "namespaces", namespace)) };
    if found.object.head.is_terminating() {
        let name = object["metadata"]["name"].as_str().unwrap_or("");
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = Status::forbidden(&kind.group, &kind.plural, name, &why);
        status.causes = vec![object::Cause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        }];
        return Err(status);
    }
    Ok(())
}
