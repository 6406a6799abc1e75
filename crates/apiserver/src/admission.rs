//! Admission: what needs other objects or the cluster's state. One file per plugin, called here in upstream's order.

pub(crate) mod addresses;
pub(crate) mod attributes;
mod certificates;
mod escalation;
mod expressions;
mod hooks;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
pub(crate) mod node_restriction;
mod pod_defaults;
mod policies;
mod resource_quota;
mod runtime_class;
mod service_account;

use kinds::Kind;
use object::Status;
use serde_json::Value;

use crate::api::Api;
use crate::user::User;
use crate::write::Part;
use node_restriction::Write;

pub(crate) use addresses::Reserved;
pub(crate) use attributes::{Attributes, Operation};
pub(crate) use hooks::Hooks;
pub(crate) use policies::Policies;
pub(crate) use resource_quota::Charges;

fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.group == group && kind.kind == name
}

/// Changes a new object. What is reserved for it (addresses, ports) is freed unless the write succeeds.
pub(crate) async fn create(api: &Api, user: &User, kind: &Kind, object: &mut Value) -> Result<Reserved, Status> {
    namespace_lifecycle::check(api, kind, object).await?;
    limit_ranger::admit(api, kind, object)?;
    if is(kind, "certificates.k8s.io", "CertificateSigningRequest") {
        certificates::create(user, object)?;
    }
    if is(kind, "", "Pod") {
        service_account::admit(api, user, object)?;
        pod_defaults::admit(api, object)?;
        runtime_class::admit(api, object)?;
    }
    if is(kind, "", "Service") {
        return addresses::admit(api, object, None).await;
    }
    Ok(Reserved::default())
}

/// Has the last word on a new object: whether the user may make such a one, and what quotas are charged for it.
pub(crate) fn created(api: &Api, user: &User, kind: &Kind, object: &Value) -> Result<Charges, Status> {
    node_restriction::check(api, user, &about(kind, "", Some(object), None))?;
    escalation::check(api, user, kind, object, None)?;
    if is(kind, "certificates.k8s.io", "CertificateSigningRequest") {
        certificates::created(object)?;
    }
    limit_ranger::check(api, kind, object)?;
    resource_quota::charge(api, kind, object, None)
}

/// What quotas are charged for a changed object.
pub(crate) fn charged(api: &Api, kind: &Kind, new: &Value, old: &Value) -> Result<Charges, Status> {
    if new["metadata"]["deletionTimestamp"].is_string() {
        return Ok(Charges::default());
    }
    resource_quota::charge(api, kind, new, Some(old))
}

/// Has the last word on an update.
pub(crate) fn updated(api: &Api, user: &User, kind: &Kind, part: Part, new: &Value, old: &Value) -> Result<(), Status> {
    let subresource = match part {
        Part::Main => "",
        Part::Status => "status",
        Part::Approval => "approval",
        Part::Finalize => "finalize",
        Part::Binding => "binding",
        // Not a node's to change.
        Part::Special => "resize",
    };
    node_restriction::check(api, user, &about(kind, subresource, Some(new), Some(old)))?;
    escalation::check(api, user, kind, new, Some(old))
}

/// Has the last word on a delete.
pub(crate) fn deleted(api: &Api, user: &User, kind: &Kind, old: &Value) -> Result<(), Status> {
    node_restriction::check(api, user, &about(kind, "", None, Some(old)))
}

fn about<'a>(kind: &'a Kind, subresource: &'a str, new: Option<&'a Value>, old: Option<&'a Value>) -> Write<'a> {
    let metadata = new.or(old).map_or(&Value::Null, |object| &object["metadata"]);
    Write {
        group: &kind.group,
        resource: &kind.plural,
        subresource,
        name: metadata["name"].as_str().unwrap_or(""),
        namespace: metadata["namespace"].as_str().unwrap_or(""),
        new,
        old,
    }
}

/// Changes an object that is updated.
pub(crate) async fn update(
    api: &Api,
    user: &User,
    kind: &Kind,
    part: Part,
    new: &mut Value,
    old: &Value,
) -> Result<Reserved, Status> {
    if is(kind, "certificates.k8s.io", "CertificateSigningRequest") {
        certificates::update(api, user, part, new, old)?;
    }
    if is(kind, "", "Pod") && part == Part::Main {
        pod_defaults::tolerations(&mut new["spec"]);
    }
    if is(kind, "", "Service") && part == Part::Main {
        return addresses::admit(api, new, Some(old)).await;
    }
    Ok(Reserved::default())
}

/// Lets policies and webhooks change an object. `old` is `null` for a new one.
pub(crate) async fn mutate(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    policies::mutate(api, at, object, old)?;
    hooks::mutate(api, at, object, old, warnings).await
}

/// Lets policies and webhooks refuse an operation. `object` is `null` for a deletion.
pub(crate) async fn validate(
    api: &Api,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    policies::validate(api, at, object, old, warnings)?;
    hooks::validate(api, at, object, old, warnings).await
}
