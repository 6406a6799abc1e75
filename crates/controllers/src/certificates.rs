//! Certificate signing requests that were approved are signed, for upstream's own signers.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object::Object;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kinds::CERTIFICATE_SIGNING_REQUESTS;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan, Signing};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "certificate-controller",
    of: &CERTIFICATE_SIGNING_REQUESTS,
    owns: &[],
    watches: &[],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

/// A year, unless the request asks for less.
const SECONDS: u64 = 365 * 86_400;

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    request: String,
    signer_name: String,
    usages: Vec<String>,
    expiration_seconds: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    certificate: String,
    conditions: Vec<Value>,
}

/// The usages that a signer allows, and the one that it insists on; none for signers that are not ours.
fn allowed(signer: &str) -> Option<(&'static [&'static str], &'static str)> {
    const CLIENT: &[&str] = &["digital signature", "key encipherment", "client auth"];
    const SERVER: &[&str] = &["digital signature", "key encipherment", "server auth"];
    match signer {
        "kubernetes.io/kube-apiserver-client" | "kubernetes.io/kube-apiserver-client-kubelet" => {
            Some((CLIENT, "client auth"))
        }
        "kubernetes.io/kubelet-serving" => Some((SERVER, "server auth")),
        _ => None,
    }
}

fn reconcile(object: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let Ok(view) = object.view::<View>() else { return plan };
    let has = |kind: &str| view.status.conditions.iter().any(|c| c["type"] == kind);
    let waits = has("Approved") && !has("Denied") && !has("Failed") && view.status.certificate.is_empty();
    let Some((usages, needed)) = allowed(&view.spec.signer_name).filter(|_| waits) else { return plan };
    let Some(sign) = &world.options().sign else { return plan };
    let asked = &view.spec.usages;
    let outcome = if !asked.iter().all(|u| usages.contains(&u.as_str())) || !asked.iter().any(|u| u == needed) {
        Err("the usages do not fit the signer".to_owned())
    } else {
        let pem = STANDARD.decode(&view.spec.request).unwrap_or_default();
        sign(&Signing {
            signer: &view.spec.signer_name,
            request: &String::from_utf8_lossy(&pem),
            usages: asked,
            seconds: view.spec.expiration_seconds.unwrap_or(SECONDS).min(SECONDS),
        })
    };
    let status = match outcome {
        Ok(certificate) => json!({"certificate": STANDARD.encode(certificate)}),
        Err(why) => {
            let mut conditions = view.status.conditions.clone();
            conditions
                .push(json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": world.stamp(), "lastTransitionTime": world.stamp()}));
            json!({"conditions": conditions})
        }
    };
    plan.push(Op::status(&CERTIFICATE_SIGNING_REQUESTS, object, json!({"status": status})));
    plan
}
