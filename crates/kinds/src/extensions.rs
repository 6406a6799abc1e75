//! What extends the API: custom resource definitions and API services.

pub(crate) mod definition;

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, list, set, text};
use crate::{age, checks, names};

/// `apiregistration.k8s.io/v1 APIService`: named after its group and version.
pub(crate) const SERVICE_RULES: Rules = Rules {
    default,
    prepare_status: crate::kind::keep_most_metadata,
    validate,
    validate_status,
    name: names::path_segment,
    row,
    ..NO_RULES
};

fn default(service: &mut Value) {
    if let Some(reference) = child(service, "spec.service") {
        set(reference, "port", 443);
    }
}

fn validate(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let (group, version) = (text(&spec["group"]), text(&spec["version"]));
    let wanted = format!("{version}.{group}");
    let name = text(&new["metadata"]["name"]);
    if !name.is_empty() && names::path_segment(name).is_empty() && text(&new["metadata"]["name"]) != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(Invalid::invalid("metadata.name", &new["metadata"]["name"], detail));
    }
    if group.is_empty() && version != "v1" {
        errors.push(Invalid::required("spec.group", "only v1 may have an empty group and it better be legacy kube"));
    }
    let rules: [(&str, &str, names::Rule); 2] =
        [("group", group, names::subdomain), ("version", version, names::label_1035)];
    for (field, name, rule) in rules {
        if let Some(why) = names::joined(rule(name)).filter(|_| field == "version" || !name.is_empty()) {
            errors.push(Invalid::invalid(&format!("spec.{field}"), &name.into(), why));
        }
    }
    for field in ["groupPriorityMinimum", "versionPriority"] {
        let most = if field == "versionPriority" { 1000 } else { 20_000 };
        let value = spec[field].as_i64().unwrap_or(0);
        if !(1..=most).contains(&value) {
            let detail = format!("must be positive and less than {most}");
            errors.push(Invalid::invalid(&format!("spec.{field}"), &value.into(), detail));
        }
    }
    let service = &spec["service"];
    if !service.is_object() {
        if !text(&spec["caBundle"]).is_empty() {
            let detail = "local APIServices may not have a caBundle";
            errors.push(Invalid::invalid(
                "spec.caBundle",
                &format!("{} bytes", text(&spec["caBundle"]).len()).into(),
                detail,
            ));
        }
        if spec["insecureSkipTLSVerify"] == true {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Invalid::invalid("spec.insecureSkipTLSVerify", &true.into(), detail));
        }
        return;
    }
    for field in ["namespace", "name"] {
        checks::required(service, "spec.service", field, errors);
    }
    let port = service["port"].as_i64().unwrap_or(0);
    if !(1..=65_535).contains(&port) {
        let detail = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(Invalid::invalid("spec.service.port", &port.into(), detail));
    }
    if spec["insecureSkipTLSVerify"] == true && !text(&spec["caBundle"]).is_empty() {
        let detail = "may not be true if caBundle is present";
        errors.push(Invalid::invalid("spec.insecureSkipTLSVerify", &true.into(), detail));
    }
}

fn validate_status(new: &Value, _: &Value, errors: &mut Vec<Invalid>) {
    for (index, condition) in list(&new["status"]["conditions"]).iter().enumerate() {
        let at = format!("status.conditions[{index}]");
        let status = text(&condition["status"]);
        if !["True", "False", "Unknown"].contains(&status) {
            let known = ["True", "False", "Unknown"];
            errors.push(Invalid::unsupported(&format!("{at}.status"), &status.into(), &known));
        }
    }
}

fn row(service: &Value, now: i64) -> Vec<Value> {
    let reference = &service["spec"]["service"];
    let place = match reference.is_object() {
        true => format!("{}/{}", text(&reference["namespace"]), text(&reference["name"])),
        false => "Local".into(),
    };
    let condition = list(&service["status"]["conditions"]).iter().find(|c| c["type"] == "Available");
    let available = match condition.map(|c| (text(&c["status"]), text(&c["reason"]))) {
        None => "Unknown".into(),
        Some((status, reason)) if status != "True" && !reason.is_empty() => format!("{status} ({reason})"),
        Some((status, _)) => status.to_owned(),
    };
    vec![
        service["metadata"]["name"].clone(),
        place.into(),
        available.into(),
        age::since(&service["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn service() {
        let case = Case::new("apiregistration.k8s.io/v1", "APIService");
        case.invalid(
            json!({"metadata": {"name": "v1.g"}, "spec": {"group": "g", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1001}}),
            &["spec.versionPriority: Invalid value: 1001: must be positive and less than 1000"],
        );
        case.row(
            json!({"spec": {"service": {"namespace": "n", "name": "s"}}, "status": {"conditions": [{"type": "Available", "status": "False", "reason": "Gone"}]}}),
            json!(["x", "n/s", "False (Gone)", "10s"]),
        );
    }
}
