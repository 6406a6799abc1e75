//! Certificate signing requests: who asks stands in them, and only those who may decide (CertificateApproval), sign (CertificateSigning)
//! or become superusers (CertificateSubjectRestriction) do.

use object::{Invalid, Status};
use rbac::Attributes;
use serde_json::{Value, json};

use crate::api::Api;
use crate::user::User;
use crate::write::Part;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

/// Writes into a new request who asks.
pub(super) fn create(user: &User, request: &mut Value) -> Result<(), Status> {
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
    if spec["signerName"] != "kubernetes.io/kube-apiserver-client" {
        return Ok(());
    }
    let asked = pki::csr::parse(spec["request"].as_str().unwrap_or("")).unwrap_or_default();
    let superuser = asked.organizations.iter().any(|g| g == "system:masters");
    let name = request["metadata"]["name"].as_str().unwrap_or("");
    if superuser {
        let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        return Err(Status::forbidden(GROUP, RESOURCE, name, why));
    }
    Ok(())
}

/// Checks a new request: it must be one, and signed by the key that it is for.
pub(super) fn created(request: &Value) -> Result<(), Status> {
    let asked = &request["spec"]["request"];
    let Err(error) = pki::csr::parse(asked.as_str().unwrap_or("")) else { return Ok(()) };
    let name = request["metadata"]["name"].as_str().unwrap_or("");
    let error = Invalid::invalid("spec.request", asked, error.to_string());
    Err(Status::invalid(GROUP, "CertificateSigningRequest", name, &[error]))
}

/// Checks that the user may decide or sign, where an update does that; dates conditions.
pub(super) fn update(api: &Api, user: &User, part: Part, new: &mut Value, old: &Value) -> Result<(), Status> {
    let verb = match part {
        Part::Approval => "approve",
        Part::Status => "sign",
        _ => return Ok(()),
    };
    let status = |of: &Value, field: &str| of["status"].get(field).cloned().unwrap_or_default();
    let signs = ["certificate", "conditions"].iter().any(|f| status(new, f) != status(old, f));
    let signer = old["spec"]["signerName"].as_str().unwrap_or("").to_owned();
    let any = format!("{}/*", signer.split('/').next().unwrap_or(""));
    let may = |name: &str| {
        api.may(user, &Attributes { verb, group: GROUP, resource: "signers", name, ..Attributes::default() })
    };
    if (part == Part::Approval || signs) && !may(&signer) && !may(&any) {
        let name = old["metadata"]["name"].as_str().unwrap_or("");
        let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
        return Err(Status::forbidden(GROUP, RESOURCE, name, &why));
    }
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
    Ok(())
}
