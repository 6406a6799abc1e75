//! Signs approved requests.

use std::sync::Arc;
use std::time::Duration;

use object::Object;
use serde_json::{Value, json};

use super::{KUBELET_SERVING, NAME, View, check};
use crate::kinds::CERTIFICATE_REQUESTS;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: NAME,
    of: &CERTIFICATE_REQUESTS,
    owns: &[],
    watches: &[],
    reads: &[],
    workers: 2,
    reconcile,
    gone: crate::controller::nothing,
};

/// As long as certificates last at most; at least ten minutes.
const MOST_SECONDS: u64 = 365 * 86_400;
const LEAST_SECONDS: u64 = 600;

fn reconcile(request: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let view: View = request.view().unwrap_or_default();
    let is_approved = view.condition("Approved").is_some() && view.condition("Denied").is_none();
    let has_failed = view.condition("Failed").is_some_and(|c| c.status == "True");
    if !is_approved || has_failed || view.is_issued() {
        return plan;
    }
    let Some(keys) = &world.options().keys else { return plan };
    let spec = &view.spec;
    let asked = pki::csr::parse(&spec.request).unwrap_or_default();
    let Some(verdict) = check(&spec.signer_name, &asked, &spec.usages) else { return plan };
    let authority = if spec.signer_name == KUBELET_SERVING { &keys.0.server_ca } else { &keys.0.client_ca };
    let seconds = spec.expiration_seconds.unwrap_or(MOST_SECONDS).clamp(LEAST_SECONDS, MOST_SECONDS);
    let signed = verdict.and_then(|()| {
        authority.sign(&spec.request, &spec.usages, Duration::from_secs(seconds)).map_err(|e| e.to_string())
    });
    let status = match signed {
        Ok(certificate) => json!({"certificate": crate::secrets::encoded(&certificate)}),
        Err(why) => {
            let mut conditions = match request.value().unwrap_or_default()["status"]["conditions"].take() {
                Value::Array(conditions) => conditions,
                _ => Vec::new(),
            };
            conditions
                .push(json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": world.stamp(), "lastTransitionTime": world.stamp()}));
            json!({"conditions": conditions})
        }
    };
    plan.push(Op::status(&CERTIFICATE_REQUESTS, request, json!({"status": status})));
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verb;
    use crate::testing::Scene;

    #[test]
    fn approved_requests_are_signed_or_fail() {
        let dir = std::env::temp_dir().join(format!("signing-{}", std::process::id()));
        let pki = Arc::new(pki::Pki::load_or_create(&dir).unwrap());
        std::fs::remove_dir_all(dir).unwrap();
        let (asked, _) = pki::csr::request("jane", "dev", &[]).unwrap();
        let change = |usages: &[&str], conditions: Value| {
            let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "r"},
                "spec": {"request": asked, "signerName": super::super::CLIENT, "usages": usages}, "status": {"conditions": conditions}});
            let mut scene = Scene::new(vec![request]);
            scene.options.keys = Some(crate::Keys(pki.clone()));
            let plan = scene.plan(&CONTROLLER, "r");
            plan.ops().next().map(|op| match &op.verb {
                Verb::Update(_, change) => change["status"].clone(),
                _ => panic!("{plan}"),
            })
        };
        let approved = json!([{"type": "Approved", "status": "True"}]);
        let signed = change(&["client auth"], approved.clone()).unwrap();
        let pem = crate::secrets::data(&json!({"data": signed}), "certificate").unwrap();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
        let failed = change(&["cert sign"], approved).unwrap();
        assert_eq!(failed["conditions"][1]["message"], "invalid usage for client certificate: cert sign");
        assert!(change(&["client auth"], json!([])).is_none());
        let both = json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]);
        assert!(change(&["client auth"], both).is_none());
    }
}
