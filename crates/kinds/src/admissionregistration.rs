//! Webhooks and policies of admission (`admissionregistration.k8s.io/v1`).

mod expressions;

use object::Invalid;
use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, each, list, made, set, text};
use crate::{age, cells, checks};

pub(crate) const WEBHOOK_RULES: Rules = Rules { default: default_webhooks, validate: validate_webhooks, ..NO_RULES };
pub(crate) const POLICY_RULES: Rules =
    Rules { default: default_policy, validate: validate_policy, row: policy_row, ..NO_RULES };
pub(crate) const BINDING_RULES: Rules =
    Rules { default: default_binding, validate: validate_binding, row: binding_row, ..NO_RULES };

/// What a webhook or policy matches.
fn default_match(object: &mut Value) {
    set(object, "matchPolicy", "Equivalent");
    for selector in ["namespaceSelector", "objectSelector"] {
        set(object, selector, json!({}));
    }
}

fn default_webhooks(configuration: &mut Value) {
    let mutating = configuration["kind"] == "MutatingWebhookConfiguration";
    each(configuration, "webhooks", |webhook| {
        set(webhook, "failurePolicy", "Fail");
        default_match(webhook);
        set(webhook, "timeoutSeconds", 10);
        if mutating {
            set(webhook, "reinvocationPolicy", "Never");
        }
        each(webhook, "rules", |rule| set(rule, "scope", "*"));
        if let Some(service) = child(webhook, "clientConfig.service") {
            set(service, "port", 443);
        }
    });
}

fn validate_webhooks(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let mut seen = Vec::new();
    for (index, webhook) in list(&new["webhooks"]).iter().enumerate() {
        let path = format!("webhooks[{index}]");
        let name = text(&webhook["name"]);
        if name.is_empty() {
            errors.push(Invalid::required(&format!("{path}.name"), ""));
        } else if name.split('.').count() < 3 {
            let detail = "should be a domain with at least three segments separated by dots";
            errors.push(Invalid::invalid(&format!("{path}.name"), &name.into(), detail));
        } else if seen.contains(&name) {
            errors.push(Invalid::duplicate(&format!("{path}.name"), &name.into()));
        }
        seen.push(name);
        checks::one_of(webhook, &path, "failurePolicy", &["Fail", "Ignore"], errors);
        checks::one_of(webhook, &path, "matchPolicy", &["Equivalent", "Exact"], errors);
        match text(&webhook["sideEffects"]) {
            "" => {
                errors.push(Invalid::required(&format!("{path}.sideEffects"), "must specify one of None, NoneOnDryRun"))
            }
            _ => checks::one_of(webhook, &path, "sideEffects", &["None", "NoneOnDryRun"], errors),
        }
        if webhook["timeoutSeconds"].as_i64().is_some_and(|t| !(1..=30).contains(&t)) {
            let detail = "the timeout value must be between 1 and 30 seconds";
            errors.push(Invalid::invalid(&format!("{path}.timeoutSeconds"), &webhook["timeoutSeconds"], detail));
        }
        for selector in ["namespaceSelector", "objectSelector"] {
            checks::selector(&webhook[selector], &format!("{path}.{selector}"), errors);
        }
        expressions::conditions(&webhook["matchConditions"], &format!("{path}.matchConditions"), errors);
        let client = &webhook["clientConfig"];
        if client["url"].is_string() == client["service"].is_object() {
            let detail = "exactly one of url or service is required";
            errors.push(Invalid::required(&format!("{path}.clientConfig"), detail));
        }
        let versions = list(&webhook["admissionReviewVersions"]);
        let at = format!("{path}.admissionReviewVersions");
        if versions.is_empty() {
            errors.push(Invalid::required(&at, "must specify one of v1, v1beta1"));
        } else if !versions.iter().any(|v| v == "v1" || v == "v1beta1") {
            let detail = "must include at least one of v1, v1beta1";
            errors.push(Invalid::invalid(&at, &webhook["admissionReviewVersions"], detail));
        }
    }
}

fn validate_policy(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    // What was accepted once is not looked at again.
    if old.is_none_or(|old| old["spec"] != new["spec"]) {
        expressions::policy(new, errors);
    }
}

fn default_policy(policy: &mut Value) {
    let Some(spec) = made(policy, "spec") else { return };
    set(spec, "failurePolicy", "Fail");
    if let Some(constraints) = child(spec, "matchConstraints") {
        default_constraints(constraints);
    }
}

fn default_constraints(constraints: &mut Value) {
    default_match(constraints);
    for list in ["resourceRules", "excludeResourceRules"] {
        each(constraints, list, |rule| set(rule, "scope", "*"));
    }
}

fn default_binding(binding: &mut Value) {
    if let Some(resources) = child(binding, "spec.matchResources") {
        default_constraints(resources);
    }
}

fn validate_binding(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    checks::required(new, "", "spec.policyName", errors);
    if new["kind"] == "ValidatingAdmissionPolicyBinding" && list(&new["spec"]["validationActions"]).is_empty() {
        errors.push(Invalid::required("spec.validationActions", "at least one validation action is required"));
    }
}

fn policy_row(policy: &Value, now: i64) -> Vec<Value> {
    let spec = &policy["spec"];
    let steps = if policy["kind"] == "MutatingAdmissionPolicy" { "mutations" } else { "validations" };
    let kind = &spec["paramKind"];
    let parameters = match kind.is_object() {
        true => format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])),
        false => "<unset>".into(),
    };
    vec![
        policy["metadata"]["name"].clone(),
        list(&spec[steps]).len().into(),
        parameters.into(),
        age::since(&policy["metadata"]["creationTimestamp"], now).into(),
    ]
}

fn binding_row(binding: &Value, now: i64) -> Vec<Value> {
    let reference = &binding["spec"]["paramRef"];
    let shown = match (text(&reference["name"]), text(&reference["namespace"])) {
        ("", _) if reference["selector"].is_object() => cells::selector(&reference["selector"]),
        ("", _) => "<unset>".into(),
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    };
    vec![
        binding["metadata"]["name"].clone(),
        text(&binding["spec"]["policyName"]).into(),
        shown.into(),
        age::since(&binding["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn webhooks() {
        let case = Case::new("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration");
        case.defaulted(
            json!({"webhooks": [{"name": "a.b.c", "rules": [{"operations": ["CREATE"]}], "clientConfig": {"service": {"name": "s"}}}]}),
            json!({"webhooks": [{"name": "a.b.c", "rules": [{"operations": ["CREATE"], "scope": "*"}],
                "clientConfig": {"service": {"name": "s", "port": 443}}, "failurePolicy": "Fail", "matchPolicy": "Equivalent",
                "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10, "reinvocationPolicy": "Never"}]}),
        );
        case.invalid(
            json!({"webhooks": [{"name": "a", "clientConfig": {}, "admissionReviewVersions": ["v1"]}]}),
            &[
                "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments separated by dots",
                "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
            ],
        );
        case.row(json!({"webhooks": [{}, {}]}), json!(["x", 2, "10s"]));
    }

    #[test]
    fn policies() {
        let group = "admissionregistration.k8s.io/v1";
        Case::new(group, "ValidatingAdmissionPolicy").row(
            json!({"spec": {"validations": [{}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}}),
            json!(["x", 1, "v1/ConfigMap", "10s"]),
        );
        Case::new(group, "ValidatingAdmissionPolicyBinding")
            .row(json!({"spec": {"policyName": "p", "paramRef": {"name": "c"}}}), json!(["x", "p", "*/c", "10s"]));
    }
}
