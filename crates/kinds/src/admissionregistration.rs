//! Webhooks and policies of admission (`admissionregistration.k8s.io/v1`).

mod expressions;
mod matching;

use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, each, entries, list, made, set, text};
use crate::{age, cells, names};

pub(crate) const WEBHOOK_RULES: Rules = Rules { default: default_webhooks, validate: validate_webhooks, ..NO_RULES };
pub(crate) const POLICY_RULES: Rules = Rules {
    default: default_policy,
    validate: validate_policy,
    row: policy_row,
    validate_status: validate_policy_status,
    prepare_status: crate::kind::keep_most_metadata,
    ..NO_RULES
};
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

fn validate_webhooks(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    let whole = Spot::new(new, "");
    let mut seen = Vec::new();
    for webhook in whole.list("webhooks") {
        let name = webhook.at("name");
        domain(&name, errors);
        webhook.list("rules").for_each(|rule| matching::rule(&rule, errors));
        webhook.at("failurePolicy").one_of(&["Fail", "Ignore"], errors);
        webhook.at("matchPolicy").one_of(&["Equivalent", "Exact"], errors);
        let effects = webhook.at("sideEffects");
        match effects.is_set() {
            false => effects.missing("must specify one of None, NoneOnDryRun", errors),
            true => effects.exactly_one_of(&["None", "NoneOnDryRun"], errors),
        }
        let timeout = webhook.at("timeoutSeconds");
        if timeout.number().is_some_and(|t| !(1..=30).contains(&t)) {
            timeout.fail("the timeout value must be between 1 and 30 seconds", errors);
        }
        for selector in ["namespaceSelector", "objectSelector"] {
            webhook.at(selector).selector(errors);
        }
        webhook.at("reinvocationPolicy").one_of(&["IfNeeded", "Never"], errors);
        matching::client(&webhook.at("clientConfig"), errors);
        let conditions = webhook.at("matchConditions");
        expressions::conditions(conditions.value, &conditions.path(), errors);
        versions(&webhook, errors);
        if seen.contains(&name.text()) {
            name.duplicate(errors);
        } else if !name.text().is_empty() {
            seen.push(name.text());
        }
    }
}

/// A domain of at least three parts.
fn domain(name: &Spot, errors: &mut Errors) {
    if !name.require(errors) {
        return;
    }
    match names::joined(names::subdomain(name.text())) {
        Some(why) => name.fail(why, errors),
        None if name.text().split('.').count() < 3 => {
            name.fail("should be a domain with at least three segments separated by dots", errors);
        }
        None => {}
    }
}

/// The versions of reviews that a webhook understands.
fn versions(webhook: &Spot, errors: &mut Errors) {
    let all = webhook.at("admissionReviewVersions");
    if all.len() == 0 {
        return all.missing("must specify one of v1, v1beta1", errors);
    }
    let mut seen = Vec::new();
    for version in webhook.list("admissionReviewVersions") {
        match seen.contains(&version.text()) {
            true => version.fail("duplicate version", errors),
            false => version.obey(names::label_1035, errors),
        }
        seen.push(version.text());
    }
    if !seen.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        all.fail("must include at least one of v1, v1beta1", errors);
    }
}

fn validate_policy(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let mutating = new["kind"] == "MutatingAdmissionPolicy";
    spec.at("failurePolicy").one_of(&["Fail", "Ignore"], errors);
    if spec.at("paramKind").is_set() {
        matching::parameters(&spec.at("paramKind"), errors);
    }
    let constraints = spec.at("matchConstraints");
    if constraints.is_set() {
        matching::resources(&constraints, errors);
        constraints.at("resourceRules").require(errors);
        if mutating {
            matching::mutable(&constraints, errors);
        }
    } else {
        constraints.missing("", errors);
    }
    // What was accepted once is not looked at again.
    if old.is_none_or(|old| old["spec"] != new["spec"]) {
        expressions::policy(new, errors);
    }
    if mutating {
        spec.at("reinvocationPolicy").must_be_one_of(&["IfNeeded", "Never"], errors);
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

fn validate_binding(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let mutating = new["kind"] == "MutatingAdmissionPolicyBinding";
    spec.at("policyName").must_obey(names::subdomain, errors);
    if spec.at("paramRef").is_set() {
        matching::reference(&spec.at("paramRef"), errors);
    }
    if spec.at("matchResources").is_set() {
        matching::resources(&spec.at("matchResources"), errors);
        if mutating {
            matching::mutable(&spec.at("matchResources"), errors);
        }
    }
    if !mutating {
        actions(&spec, errors);
    }
}

/// What a failed validation leads to.
fn actions(spec: &Spot, errors: &mut Errors) {
    let all = spec.at("validationActions");
    let mut seen = Vec::new();
    for action in spec.list("validationActions") {
        action.exactly_one_of(&["Audit", "Deny", "Warn"], errors);
        if seen.contains(&action.text()) {
            action.duplicate(errors);
        }
        seen.push(action.text());
    }
    if ["Deny", "Warn"].iter().all(|action| seen.contains(action)) {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        all.fail(detail, errors);
    }
    if seen.is_empty() {
        all.missing("at least one validation action is required", errors);
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
        ("", _) if reference["selector"].is_object() => match text(&binding["kind"]) {
            "MutatingAdmissionPolicyBinding" => in_go(&reference["selector"]),
            _ => cells::selector(&reference["selector"]),
        },
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

/// A selector as Go's structures show themselves: upstream's table of mutating bindings has that.
fn in_go(selector: &Value) -> String {
    let labels: String =
        entries(&selector["matchLabels"]).map(|(key, value)| format!("{key}: {},", text(value))).collect();
    let one = |rule: &Value| {
        let values: Vec<&str> = list(&rule["values"]).iter().map(text).collect();
        let (key, operator) = (text(&rule["key"]), text(&rule["operator"]));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
    };
    let rules: String = list(&selector["matchExpressions"]).iter().map(one).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{rules}}},}}"
    )
}

/// What was found out about a policy's expressions.
fn validate_policy_status(new: &Value, _: &Value, errors: &mut Vec<object::Invalid>) {
    let status = crate::spot::Spot::new(&new["status"], "status");
    let checked = status.at("typeChecking");
    for warning in checked.list("expressionWarnings") {
        warning.at("warning").require(errors);
        warning.at("fieldRef").require(errors);
    }
    crate::checks::conditions(&status, errors);
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
        case.invalid(
            json!({"webhooks": [{"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [{"operations": ["MAKE"]}],
                "clientConfig": {"service": {"name": "s", "port": 0, "path": "a//b"}}}]}),
            &[
                "webhooks[0].rules[0].operations[0]: Unsupported value: \"MAKE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                "webhooks[0].rules[0].apiGroups: Required value",
                "webhooks[0].rules[0].apiVersions: Required value",
                "webhooks[0].rules[0].resources: Required value",
                "webhooks[0].clientConfig.service.name: Required value",
                "webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[0] may not be empty",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[1] may not be empty",
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
