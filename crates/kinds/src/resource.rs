//! Dynamic resource allocation (`resource.k8s.io/v1`): claims for devices.

mod claims;
mod policy;
mod slices;
mod status;

use serde_json::Value;

use crate::age;
use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, each, list, set};

pub(crate) const CLAIM_RULES: Rules = Rules {
    default: |claim| {
        default_spec(claim, "spec");
        each(claim, "status.allocation.devices.results", |result| each(result, "tolerations", tolerated));
    },
    validate: claims::validate,
    prepare_status: status::prepare,
    validate_status: status::validate,
    row,
    ..NO_RULES
};
pub(crate) const TEMPLATE_RULES: Rules =
    Rules { default: |template| default_spec(template, "spec.spec"), validate: claims::validate_template, ..NO_RULES };
pub(crate) const CLASS_RULES: Rules =
    Rules { validate: claims::validate_class, name: crate::names::subdomain_in_bytes, ..NO_RULES };
pub(crate) const SLICE_RULES: Rules = Rules {
    prepare_create: slices::drop_lists,
    prepare_update: |new, _| slices::drop_lists(new),
    validate: slices::validate,
    warnings: slices::warnings,
    ..NO_RULES
};

fn tolerated(toleration: &mut Value) {
    crate::tree::set_text(toleration, "operator", "Equal");
}

fn default_spec(object: &mut Value, path: &str) {
    let Some(spec) = child(object, path) else { return };
    let one = |request: &mut Value| {
        set(request, "allocationMode", "ExactCount");
        if request["allocationMode"] == "ExactCount" && request["count"].as_i64().unwrap_or(0) == 0 {
            request["count"] = 1.into();
        }
        each(request, "tolerations", tolerated);
    };
    each(spec, "devices.requests", |request| {
        if let Some(exactly) = child(request, "exactly") {
            one(exactly);
        }
        each(request, "firstAvailable", one);
    });
}

/// Devices of others are looked into from namespaces that say so.
pub fn validate_admin_access(claim: &Value, namespace: &Value, errors: &mut Vec<object::Invalid>) {
    const LABEL: &str = "resource.kubernetes.io/admin-access";
    if namespace["metadata"]["labels"][LABEL] == "true" {
        return;
    }
    let spec = if claim["spec"]["spec"].is_object() { &claim["spec"]["spec"] } else { &claim["spec"] };
    let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
    for (index, result) in list(&claim["status"]["allocation"]["devices"]["results"]).iter().enumerate() {
        if result["adminAccess"] == true {
            let at = format!("status.allocation.devices.results[{index}].adminAccess");
            errors.push(object::Invalid::forbidden(&at, detail.as_str()));
        }
    }
    if claim["status"]["allocation"].is_object() {
        return;
    }
    for (index, request) in list(&spec["devices"]["requests"]).iter().enumerate() {
        if request["exactly"]["adminAccess"] == true {
            // As upstream, where a request had it once.
            let at = format!("spec.devices.requests[{index}].adminAccess");
            errors.push(object::Invalid::forbidden(&at, detail.as_str()));
        }
    }
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
        case.invalid(
            json!({"spec": {"devices": {"requests": [{"name": "a"}, {"name": "b", "exactly": {"allocationMode": "Some", "selectors": [{}]}}],
                "constraints": [{"requests": ["c"], "matchAttribute": "m"}], "config": [{"opaque": {"driver": "d"}}]}}}),
            &[
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                "spec.devices.requests[1].exactly.deviceClassName: Required value",
                "spec.devices.requests[1].exactly.selectors[0].cel: Required value",
                "spec.devices.requests[1].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
                "spec.devices.constraints[0].requests[0]: Invalid value: \"c\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"m\": a fully qualified name must be a domain and a name separated by a slash",
                "spec.devices.config[0].opaque.parameters: Required value",
            ],
        );
        case.row(json!({"status": {"allocation": {}, "reservedFor": [{}]}}), json!(["x", "allocated,reserved", "10s"]));
    }
}
