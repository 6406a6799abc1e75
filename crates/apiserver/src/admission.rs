//! Admission: what needs other objects or the cluster's state. One file per plugin, called here in upstream's order.

pub(crate) mod addresses;
mod namespace_lifecycle;
mod pod_defaults;
mod runtime_class;
mod service_account;

use kinds::Kind;
use object::Status;
use serde_json::Value;

use crate::api::Api;
use crate::user::User;

pub(crate) use addresses::Reserved;

fn is(kind: &Kind, group: &str, name: &str) -> bool {
    kind.group == group && kind.kind == name
}

/// Changes a new object. What is reserved for it (addresses, ports) is freed unless the write succeeds.
pub(crate) async fn create(api: &Api, user: &User, kind: &Kind, object: &mut Value) -> Result<Reserved, Status> {
    namespace_lifecycle::check(api, kind, object).await?;
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

/// Has the last word on a new object.
pub(crate) fn created(_api: &Api, _user: &User, _kind: &Kind, _object: &Value) -> Result<(), Status> {
    Ok(())
}

/// Changes an object that is updated.
pub(crate) async fn update(
    api: &Api,
    _user: &User,
    kind: &Kind,
    new: &mut Value,
    old: &Value,
) -> Result<Reserved, Status> {
    if is(kind, "", "Service") {
        return addresses::admit(api, new, Some(old)).await;
    }
    Ok(Reserved::default())
}
