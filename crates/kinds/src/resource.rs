//! Dynamic resource allocation (`resource.k8s.io/v1`): claims for devices.

use serde_json::Value;

use crate::age;
use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, each, list, set};

pub(crate) const CLAIM_RULES: Rules = Rules { default: |claim| default_spec(claim, "spec"), row, ..NO_RULES };
pub(crate) const TEMPLATE_RULES: Rules = Rules { default: |template| default_spec(template, "spec.spec"), ..NO_RULES };

fn default_spec(object: &mut Value, path: &str) {
    let Some(spec) = child(object, path) else { return };
    let one = |request: &mut Value| {
        set(request, "allocationMode", "ExactCount");
        if request["allocationMode"] == "ExactCount" && request["count"].as_i64().unwrap_or(0) == 0 {
            request["count"] = 1.into();
        }
    };
    each(spec, "devices.requests", |request| {
        if let Some(exactly) = child(request, "exactly") {
            one(exactly);
        }
        each(request, "firstAvailable", one);
    });
}

fn row(claim: &Value, now: i64) -> Vec<Value> {
    let (deleted, status) = (claim["metadata"]["deletionTimestamp"].is_string(), &claim["status"]);
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if status["allocation"].is_object() {
        states.push("allocated");
        if !list(&status["reservedFor"]).is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    vec![
        claim["metadata"]["name"].clone(),
        states.join(",").into(),
        age::since(&claim["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn claim() {
        let case = Case::new("resource.k8s.io/v1", "ResourceClaim");
        case.defaulted(
            json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c"}}]}}}),
            json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}}]}}}),
        );
        case.row(json!({"status": {"allocation": {}, "reservedFor": [{}]}}), json!(["x", "allocated,reserved", "10s"]));
    }
}
