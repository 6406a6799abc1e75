//! Admission: what needs other objects or the cluster's state. One file per plugin, called here in upstream's order.

pub(crate) mod addresses;
mod certificates;
mod limit_ranger;
mod namespace_lifecycle;
mod pod_defaults;
mod resource_quota;
mod runtime_class;
mod service_account;

use kinds::Kind;
use object::Status;
use serde_json::Value;

use crate::api::Api;
use crate::user::User;
use crate::write::Part;

pub(crate) use addresses::Reserved;
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

/// Has the last word on a new object: what quotas are charged for it.
pub(crate) fn created(api: &Api, kind: &Kind, object: &Value) -> Result<Charges, Status> {
    limit_ranger::check(api, kind, object)?;
    resource_quota::charge(api, kind, object, None)
}

/// Has the last word on a changed object.
pub(crate) fn updated(api: &Api, kind: &Kind, new: &Value, old: &Value) -> Result<Charges, Status> {
    if new["metadata"]["deletionTimestamp"].is_string() {
        return Ok(Charges::default());
    }
    resource_quota::charge(api, kind, new, Some(old))
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
