//! Certificate signing requests: who asks stands in them, and only those who may decide (CertificateApproval), sign (CertificateSigning)
//! or become superusers (CertificateSubjectRestriction) do.

use object::{Invalid, Status};
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::api::Api;
use crate::user::User;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

/// Writes into a new request who asks.
pub(crate) fn identify(user: &User, request: &mut Value) {
    let spec = &mut request["spec"];
    spec["username"] = user.name.as_str().into();
    spec["groups"] = json!(user.groups);
    for (field, value) in [("uid", json!(user.uid)), ("extra", json!(user.extra))] {
        let empty = value.as_str().is_some_and(str::is_empty) || value.as_object().is_some_and(|o| o.is_empty());
        match empty {
            true => drop(spec.as_object_mut().and_then(|s| s.remove(field))),
            false => spec[field] = value,
        }
    }
}

/// CertificateSubjectRestriction.
pub(super) fn subject(at: &Attributes<'_>, request: &Value) -> Result<(), Status> {
    let spec = &request["spec"];
    if !at.is(GROUP, RESOURCE)
        || !at.subresource.is_empty()
        || at.operation != Operation::Create
        || spec["signerName"] != "kubernetes.io/kube-apiserver-client"
    {
        return Ok(());
    }
    let asked = pki::csr::parse(spec["request"].as_str().unwrap_or(""));
    let asked = asked.map_err(|error| at.forbidden(&format!("failed to parse CSR: {error}")))?;
    if asked.organizations.iter().any(|g| g == "system:masters") {
        let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        return Err(at.forbidden(why));
    }
    Ok(())
}

/// Checks a new request: it must be one, and signed by the key that it is for.
pub(crate) fn created(request: &Value) -> Result<(), Status> {
    let asked = &request["spec"]["request"];
    let Err(error) = pki::csr::parse(asked.as_str().unwrap_or("")) else { return Ok(()) };
    let name = request["metadata"]["name"].as_str().unwrap_or("");
    let error = Invalid::invalid("spec.request", asked, error.to_string());
    Err(Status::invalid(GROUP, "CertificateSigningRequest", name, &[error]))
}

/// CertificateApproval: only who may approve for the signer decides.
pub(super) async fn approval(api: &Api, at: &Attributes<'_>, old: &Value) -> Result<(), Status> {
    let concerned = at.is(GROUP, RESOURCE) && at.operation == Operation::Update && at.subresource == "approval";
    if concerned { permitted(api, at, "approve", old).await } else { Ok(()) }
}

/// CertificateSigning: only who may sign for the signer issues and fails.
pub(super) async fn signing(api: &Api, at: &Attributes<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    let changes = |field: &str| new["status"].get(field) != old["status"].get(field);
    let concerned = at.is(GROUP, RESOURCE)
        && at.operation == Operation::Update
        && at.subresource == "status"
        && (changes("certificate") || changes("conditions"));
    if concerned { permitted(api, at, "sign", old).await } else { Ok(()) }
}

async fn permitted(api: &Api, at: &Attributes<'_>, verb: &str, old: &Value) -> Result<(), Status> {
    let signer = old["spec"]["signerName"].as_str().unwrap_or("");
    let any = format!("{}/*", signer.split('/').next().unwrap_or(""));
    for name in [signer, &any] {
        let wanted = rbac::Attributes { verb, group: GROUP, resource: "signers", name, ..Default::default() };
        if api.may(at.user, &wanted).await {
            return Ok(());
        }
    }
    Err(at.forbidden(&format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

/// Dates conditions that are new or change.
pub(crate) fn date(new: &mut Value, old: &Value) {
    let before = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in new["status"].get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let was = before.iter().find(|b| b["type"] == condition["type"]);
        if !condition["lastUpdateTime"].is_string() {
            condition["lastUpdateTime"] = base::time::now().into();
        }
        if !condition["lastTransitionTime"].is_string() {
            let kept = was.filter(|b| b["status"] == condition["status"]).map(|b| b["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = kept.filter(Value::is_string).unwrap_or_else(|| base::time::now().into());
        }
    }
}
