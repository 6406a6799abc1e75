//! `certificates.k8s.io/v1 CertificateSigningRequest`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{list, text};
use crate::{age, names};

pub(crate) const RULES: Rules =
    Rules { name: |_| Vec::new(), prepare_update, prepare_status, validate, validate_status, row, ..NO_RULES };

/// Conditions that are decisions: only the `approval` subresource makes them.
fn is_decision(condition: &Value) -> bool {
    matches!(text(&condition["type"]), "Approved" | "Denied")
}

/// An update through `approval` changes conditions, and nothing else.
pub fn prepare_approval(new: &mut Value, old: &Value) {
    let conditions = new["status"].get("conditions").cloned();
    let metadata = new["metadata"].clone();
    *new = old.clone();
    new["metadata"] = metadata;
    if !new["status"].is_object() {
        new["status"] = serde_json::json!({});
    }
    match conditions {
        Some(conditions) => new["status"]["conditions"] = conditions,
        None => drop(crate::tree::remove(&mut new["status"], "conditions")),
    }
}

/// An update through `status` neither makes nor takes back a decision.
fn prepare_status(new: &mut Value, old: &Value) {
    crate::kind::keep_all_but_status(new, old);
    let decisions = list(&old["status"]["conditions"]).iter().filter(|c| is_decision(c));
    let others = list(&new["status"]["conditions"]).iter().filter(|c| !is_decision(c));
    let conditions: Vec<Value> = decisions.chain(others).cloned().collect();
    if !conditions.is_empty() {
        new["status"]["conditions"] = conditions.into();
    }
}

const CONDITIONS: &str = "status.conditions";

/// What an update through `approval` or `status` must not do.
pub fn validate_status(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    let of =
        |object: &Value, kind: &str| list(&object["status"]["conditions"]).iter().filter(|c| c["type"] == kind).count();
    conditions(new, old, errors);
    for kind in ["Approved", "Denied", "Failed"] {
        if of(new, kind) < of(old, kind) {
            let why = format!("updates may not remove a condition of type {kind:?}");
            errors.push(Invalid::forbidden(CONDITIONS, why));
        }
    }
    let (is, was) = (text(&new["status"]["certificate"]), text(&old["status"]["certificate"]));
    if let Some(why) = Some(is).filter(|is| *is != was).and_then(no_certificate) {
        errors.push(Invalid::invalid("status.certificate", &"<certificate data>".into(), why));
    }
    if !was.is_empty() && is != was {
        errors.push(Invalid::forbidden("status.certificate", "updates may not modify existing certificate content"));
    }
}

/// Why that is no certificate, in base64.
fn no_certificate(data: &str) -> Option<String> {
    let pem = STANDARD.decode(data).ok().filter(|pem| !pem.is_empty())?;
    let pem = String::from_utf8_lossy(&pem);
    let blocks: Vec<&str> =
        pem.split("-----BEGIN ").skip(1).filter_map(|b| b.split_once("-----").map(|b| b.0)).collect();
    match blocks.iter().find(|block| **block != "CERTIFICATE") {
        Some(other) => Some(format!("only CERTIFICATE PEM blocks are allowed, found {}", object::quoted(other))),
        None if blocks.is_empty() => Some("must contain at least one CERTIFICATE PEM block".into()),
        None => None,
    }
}

/// What conditions must be like, but for what is wrong with them already.
fn conditions(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    let before = list(&old["status"]["conditions"]);
    let had = |kind: &str| before.iter().any(|c| text(&c["type"]) == kind);
    let mut twice = before.iter().enumerate().map(|(i, c)| before[..i].iter().any(|b| b["type"] == c["type"]));
    let (contradicted, repeated, unnamed) = (had("Approved") && had("Denied"), twice.any(|t| t), had(""));
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in list(&new["status"]["conditions"]).iter().enumerate() {
        let (kind, status) = (text(&condition["type"]), text(&condition["status"]));
        let at = |field: &str| format!("{CONDITIONS}[{index}].{field}");
        if kind.is_empty() && !unnamed {
            errors.push(Invalid::required(&at("type"), ""));
        }
        let allowed: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        if status.is_empty() {
            errors.push(Invalid::required(&at("status"), ""));
        } else if !allowed.contains(&status) {
            errors.push(Invalid::unsupported(&at("status"), &status.into(), allowed));
        }
        let opposite = if kind == "Approved" { "Denied" } else { "Approved" };
        if is_decision(condition) && seen.contains(&opposite) && !contradicted {
            let why = "Approved and Denied conditions are mutually exclusive";
            errors.push(Invalid::invalid(CONDITIONS, &kind.into(), why));
        }
        if seen.contains(&kind) && !repeated {
            errors.push(Invalid::duplicate(&at("type"), &kind.into()));
        }
        seen.push(kind);
    }
}

/// The request never changes; approvals and certificates come through subresources.
fn prepare_update(new: &mut Value, old: &Value) {
    for field in ["spec", "status"] {
        crate::kind::keep(new, old, field);
    }
}

/// What a certificate may be for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

const SIGNER: &str = "spec.signerName";

/// Tells what is wrong with the first label that breaks a rule.
fn signer_labels(part: &str, rule: names::Rule, errors: &mut Vec<Invalid>) {
    let wrong = part.split('.').map(|label| (label, rule(label))).find(|(_, problems)| !problems.is_empty());
    let Some((label, problems)) = wrong else { return };
    for why in problems {
        let detail = format!("validating label {}: {why}", object::quoted(label));
        errors.push(Invalid::invalid(SIGNER, &part.into(), detail));
    }
}

/// `example.com/signer-name`
fn validate_signer(signer: &str, errors: &mut Vec<Invalid>) {
    let [domain, path] = signer.split('/').collect::<Vec<_>>()[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.push(Invalid::invalid(SIGNER, &signer.into(), detail));
    };
    if domain.len() > 253 {
        errors.push(Invalid::too_long(SIGNER, 253));
    }
    signer_labels(domain, names::label, errors);
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(Invalid::invalid(SIGNER, &domain.into(), detail));
    }
    signer_labels(path, names::subdomain, errors);
    if signer.len() > 571 {
        errors.push(Invalid::too_long(SIGNER, 571));
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    if old.is_some() {
        return;
    }
    let spec = &new["spec"];
    if text(&spec["request"]).is_empty() {
        errors.push(Invalid::invalid("spec.request", &spec["request"], "PEM block type must be CERTIFICATE REQUEST"));
    }
    let usages = list(&spec["usages"]);
    if usages.is_empty() {
        errors.push(Invalid::required("spec.usages", ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        if !USAGES.contains(&text(usage)) {
            errors.push(Invalid::unsupported(&format!("spec.usages[{index}]"), usage, &USAGES));
        }
        if usages[..index].contains(usage) {
            errors.push(Invalid::duplicate(&format!("spec.usages[{index}]"), usage));
        }
    }
    let signer = text(&spec["signerName"]);
    if signer == "kubernetes.io/legacy-unknown" {
        let detail = "the legacy signerName is not allowed via this API version";
        errors.push(Invalid::invalid("spec.signerName", &signer.into(), detail));
    } else if signer.is_empty() {
        errors.push(Invalid::required("spec.signerName", ""));
    } else {
        validate_signer(signer, errors);
    }
    if spec["expirationSeconds"].as_i64().is_some_and(|s| s < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(Invalid::invalid("spec.expirationSeconds", &spec["expirationSeconds"], detail));
    }
}

fn row(request: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&request["spec"], &request["status"]);
    let has = |kind: &str| list(&status["conditions"]).iter().any(|c| c["type"] == kind);
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(&status["certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    let signer = Some(text(&spec["signerName"])).filter(|s| !s.is_empty());
    vec![
        request["metadata"]["name"].clone(),
        age::since(&request["metadata"]["creationTimestamp"], now).into(),
        signer.unwrap_or("<none>").into(),
        text(&spec["username"]).into(),
        spec["expirationSeconds"].as_i64().map_or("<none>".to_owned(), age::human).into(),
        state.into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn request() {
        let case = Case::new("certificates.k8s.io/v1", "CertificateSigningRequest");
        case.invalid(
            json!({"spec": {"request": "eA==", "signerName": "x", "expirationSeconds": 5}}),
            &[
                "spec.usages: Required value",
                "spec.signerName: Invalid value: \"x\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
                "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)",
            ],
        );
        case.row(
            json!({"spec": {"signerName": "a/b", "username": "u", "expirationSeconds": 3600}, "status": {"certificate": "eA==", "conditions": [{"type": "Approved"}]}}),
            json!(["x", "10s", "a/b", "u", "60m", "Approved,Issued"]),
        );
    }
}
