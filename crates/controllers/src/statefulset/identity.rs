//! The pod of an ordinal: its name, labels, host name, and claims.

use object::Object;
use serde_json::{Value, json};

use crate::kinds::STATEFUL_SETS;
use crate::owner;
use crate::revisions::{POD_LABEL, Revision};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i64> {
    pod.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

fn claim_name(template: &Value, set: &str, ordinal: i64) -> String {
    format!("{}-{set}-{ordinal}", template["metadata"]["name"].as_str().unwrap_or_default())
}

/// The claims of an ordinal.
pub(super) fn claims(set: &Object, templates: &[Value], ordinal: i64) -> Vec<Value> {
    let selector = set.value().unwrap_or_default()["spec"]["selector"]["matchLabels"].take();
    let claim = |template: &Value| {
        let mut claim = template.clone();
        claim["apiVersion"] = json!("v1");
        claim["kind"] = json!("PersistentVolumeClaim");
        claim["metadata"]["name"] = json!(claim_name(template, &set.head.name, ordinal));
        claim["metadata"]["namespace"] = json!(set.head.namespace);
        for (key, value) in selector.as_object().into_iter().flatten() {
            claim["metadata"]["labels"][key] = value.clone();
        }
        if let Some(top) = claim.as_object_mut() {
            top.remove("status");
        }
        claim
    };
    templates.iter().map(claim).collect()
}

/// The pod of an ordinal in a revision.
pub(super) fn pod(
    set: &Object,
    revision: &Revision,
    service: &str,
    claims: &Option<Vec<Value>>,
    ordinal: i64,
) -> Value {
    let name = format!("{}-{ordinal}", set.head.name);
    let mut pod = owner::pod_of(&STATEFUL_SETS, set, &revision.template);
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("generateName");
    }
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"][POD_NAME] = json!(name);
    pod["metadata"]["labels"][POD_INDEX] = json!(ordinal.to_string());
    pod["metadata"]["labels"][POD_LABEL] = json!(revision.name);
    pod["spec"]["hostname"] = json!(name);
    pod["spec"]["subdomain"] = json!(service);
    let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    for template in claims.iter().flatten() {
        let volume = &template["metadata"]["name"];
        volumes.retain(|v| v["name"] != *volume);
        let claim = claim_name(template, &set.head.name, ordinal);
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
    }
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = json!(volumes);
    }
    pod
}
