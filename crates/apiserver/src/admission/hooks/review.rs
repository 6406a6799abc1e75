//! `admission.k8s.io/v1 AdmissionReview`: the question and the answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::Kind;
use object::patch::json;
use object::{Gvk, Gvr, Status};
use serde_json::{Value, json};

use crate::admission::attributes::Attributes;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn kind_json(gvk: &Gvk) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

fn resource_json(gvr: &Gvr) -> Value {
    json!({"group": gvr.group, "version": gvr.version, "resource": gvr.resource})
}

/// A review of the request, asked in the version `kind`; and the uid that the answer must have.
pub(super) fn request(at: &Attributes<'_>, kind: &Kind, object: &Value, old: &Value) -> (Value, String) {
    let uid = uuid::Uuid::new_v4().to_string();
    let gvk = if at.has_own_body() { at.gvk() } else { kind.gvk() };
    let mut request = json!({
        "uid": uid, "kind": kind_json(&gvk), "resource": resource_json(&kind.gvr()),
        "requestKind": kind_json(&at.gvk()), "requestResource": resource_json(&at.gvr()),
        "operation": at.operation.name(), "userInfo": at.user_info(), "object": object, "oldObject": old,
        "dryRun": at.dry_run, "options": at.options(),
    });
    for (key, value) in [
        ("subResource", at.subresource),
        ("requestSubResource", at.subresource),
        ("name", at.name),
        ("namespace", at.namespace),
    ] {
        if !value.is_empty() {
            request[key] = value.into();
        }
    }
    (json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}), uid)
}

/// An answer.
pub(crate) struct Response {
    /// The `status` of a refusal.
    pub(crate) denied: Option<Value>,
    pub(crate) patch: Option<Value>,
    pub(super) warnings: Vec<String>,
    /// For the audit log.
    pub(super) annotations: Vec<(String, String)>,
}

/// Reads an answer; what is wrong with it is said as upstream does.
pub(crate) fn response(answer: Value, uid: &str, declared: &Value) -> Result<Response, String> {
    let version = text(&answer["apiVersion"]);
    let known = declared["admissionReviewVersions"].as_array().is_none_or(|versions| {
        versions.is_empty() || versions.iter().any(|v| format!("admission.k8s.io/{}", text(v)) == version)
    });
    if text(&answer["kind"]) != "AdmissionReview" || !known {
        let kind = text(&answer["kind"]);
        return Err(match version.strip_prefix("admission.k8s.io/").filter(|_| kind == "AdmissionReview") {
            Some(version) => format!(
                "failed to call webhook: converting ({version}.AdmissionReview) to (v1.AdmissionReview): unknown conversion"
            ),
            None => format!(
                "failed to call webhook: no kind {kind:?} is registered for version {version:?} in scheme \"pkg/util/webhook/client.go:71\""
            ),
        });
    }
    let response = &answer["response"];
    if !response.is_object() {
        return Err("received invalid webhook response: webhook response was absent".into());
    }
    if text(&response["uid"]) != uid {
        let given = text(&response["uid"]);
        return Err(format!("received invalid webhook response: expected response.uid={uid:?}, got {given:?}"));
    }
    let warnings = response["warnings"].as_array().into_iter().flatten().map(|w| text(w).to_owned()).collect();
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    let annotations = annotations.map(|(key, value)| (key.clone(), text(value).to_owned())).collect();
    if response["allowed"] != true {
        let denied = if response["status"].is_object() { response["status"].clone() } else { json!({}) };
        return Ok(Response { denied: Some(denied), patch: None, warnings, annotations });
    }
    let patch = match text(&response["patch"]) {
        "" => None,
        packed => {
            let kind = text(&response["patchType"]);
            let at =
                packed.bytes().position(|b| !b.is_ascii_alphanumeric() && !b"+/=".contains(&b)).unwrap_or(packed.len());
            let bytes = STANDARD
                .decode(packed)
                .map_err(|_| format!("failed to call webhook: illegal base64 data at input byte {at}"))?;
            if kind.is_empty() {
                let why = "webhook returned response.patch but not response.patchType";
                return Err(format!("received invalid webhook response: {why}"));
            }
            let patch = patch(&bytes)?;
            if patch.as_array().is_some_and(|steps| !steps.is_empty()) && kind != "JSONPatch" {
                return Err(format!("unsupported patch type {kind:?}"));
            }
            Some(patch)
        }
    };
    Ok(Response { denied: None, patch, warnings, annotations })
}

/// A list of operations, or nothing.
fn patch(bytes: &[u8]) -> Result<Value, String> {
    let patch: Result<Value, String> =
        serde_json::from_slice(bytes).map_err(|error| schema::json::go_words(bytes, &error));
    let why = match patch {
        Ok(patch) => match json::check(&patch) {
            Ok(()) => return Ok(patch),
            Err(error) => error.to_string(),
        },
        Err(why) => why,
    };
    Err(format!("received undecodable patch in webhook response: {why}"))
}

/// The refusal of a webhook.
pub(crate) fn denial(name: &str, result: &Value) -> Status {
    let by = format!("admission webhook {name:?} denied the request");
    let message = match (text(&result["message"]), text(&result["reason"])) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let mut status = Status::bad_request(message);
    status.code = result["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(400).max(400);
    status.reason = serde_json::from_value(result["reason"].clone()).ok();
    let details = &result["details"];
    status.causes = serde_json::from_value(details["causes"].clone()).unwrap_or_default();
    for (field, given) in [(&mut status.group, "group"), (&mut status.kind, "kind"), (&mut status.name, "name")] {
        *field = text(&details[given]).into();
    }
    status
}
