//! Admission policies in CEL: those that change objects and those that refuse them, each put to work by its bindings.

mod evaluation;
mod mutation;
mod typing;

use std::collections::HashMap;
use std::sync::Arc;

use cel::Expr;
use client::Resource;
use futures::StreamExt;
use object::{Cause, Gvk, LabelSelector, Reason, Status};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::expressions::Condition;
use super::matching;
use super::rounds::Rounds;
use crate::api::Api;
use crate::audit;
use evaluation::{Evaluation, Finding};

/// The policies of one sort, with their bindings.
const SORTS: [(&str, &str); 2] = [
    ("/registry/mutatingadmissionpolicies/", "/registry/mutatingadmissionpolicybindings/"),
    ("/registry/validatingadmissionpolicies/", "/registry/validatingadmissionpolicybindings/"),
];

/// All policies that have bindings.
#[derive(Default)]
pub(crate) struct Policies {
    mutating: Vec<Policy>,
    validating: Vec<Policy>,
}

/// A policy, compiled.
struct Policy {
    name: String,
    spec: Value,
    conditions: Vec<Condition>,
    variables: Vec<(String, Result<Expr, String>)>,
    rules: Vec<Rule>,
    annotations: Vec<(String, Result<Expr, String>)>,
    bindings: Vec<(String, Value)>,
}

/// A validation, or a mutation.
struct Rule {
    declared: Value,
    text: String,
    expr: Result<Expr, String>,
    message: Option<Expr>,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn compiled(source: &Value) -> Result<Expr, String> {
    cel::parse(text(source)).map_err(|e| e.to_string())
}

impl Policy {
    fn new(policy: &Value, bindings: Vec<(String, Value)>) -> Self {
        let spec = &policy["spec"];
        let rules = items(&spec["validations"]).chain(items(&spec["mutations"])).map(|declared| {
            let source = match text(&declared["patchType"]) {
                "ApplyConfiguration" => &declared["applyConfiguration"]["expression"],
                "JSONPatch" => &declared["jsonPatch"]["expression"],
                _ => &declared["expression"],
            };
            Rule {
                text: text(source).trim().into(),
                expr: compiled(source),
                message: declared["messageExpression"].as_str().and_then(|t| cel::parse(t).ok()),
                declared: declared.clone(),
            }
        });
        Self {
            name: text(&policy["metadata"]["name"]).into(),
            conditions: Condition::list(&spec["matchConditions"]),
            variables: items(&spec["variables"])
                .map(|v| (text(&v["name"]).to_owned(), compiled(&v["expression"])))
                .collect(),
            rules: rules.collect(),
            annotations: items(&spec["auditAnnotations"])
                .map(|a| (text(&a["key"]).to_owned(), compiled(&a["valueExpression"])))
                .collect(),
            spec: spec.clone(),
            bindings,
        }
    }

    fn ignores_failures(&self) -> bool {
        self.spec["failurePolicy"] == "Ignore"
    }
}

impl Api {
    fn policies_of(&self, (policies, bindings): (&str, &str)) -> Vec<Policy> {
        let all = |prefix: &str| -> Vec<Value> {
            let page = self.store.range(prefix, None, 0, 0);
            page.into_iter().flat_map(|page| page.items).filter_map(|item| item.object.value().ok()).collect()
        };
        let mut bound: HashMap<String, Vec<(String, Value)>> = HashMap::new();
        for binding in all(bindings) {
            let entry = (text(&binding["metadata"]["name"]).to_owned(), binding["spec"].clone());
            bound.entry(text(&binding["spec"]["policyName"]).into()).or_default().push(entry);
        }
        let mut found = Vec::new();
        for policy in all(policies) {
            if let Some(bindings) = bound.remove(text(&policy["metadata"]["name"])) {
                found.push(Policy::new(&policy, bindings));
            }
        }
        found
    }

    /// Reads the policies anew; returns the revision that they are of at least.
    pub(crate) fn reload_policies(&self) -> u64 {
        let revision = self.store.revision();
        let [mutating, validating] = SORTS.map(|sort| self.policies_of(sort));
        self.policies.store(Arc::new(Policies { mutating, validating }));
        revision
    }

    /// Keeps the policies current until the token is cancelled.
    pub(crate) async fn follow_policies(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.reload_policies();
            let prefixes = SORTS.iter().flat_map(|(policies, bindings)| [policies, bindings]);
            let watches: Vec<_> = prefixes.filter_map(|p| self.store.watch(p, revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            if token.run_until_cancelled(self.check_types()).await.is_none() {
                return;
            }
            tokio::select! {
                () = token.cancelled() => return,
                // The streams end only with the store.
                change = changes.next() => if change.is_none() { return },
            }
        }
    }
}

/// Policies do not judge policies and their bindings.
fn is_exempt(at: &Attributes<'_>) -> bool {
    at.kind.group == "admissionregistration.k8s.io" && at.kind.kind.contains("AdmissionPolicy")
}

fn is_about(api: &Api, constraints: &Value, at: &Attributes<'_>, object: &Value, old: &Value) -> bool {
    let equivalent = constraints["matchPolicy"] != "Exact";
    let rules = &constraints["resourceRules"];
    let included =
        rules.as_array().is_none_or(Vec::is_empty) || matching::by_rules(api, rules, at, equivalent).is_some();
    included
        && matching::by_rules(api, &constraints["excludeResourceRules"], at, equivalent).is_none()
        && matching::by_namespace(api, &constraints["namespaceSelector"], at, object, old)
        && matching::by_object(&constraints["objectSelector"], object, old)
}

/// The objects that a binding gives to its policy; one `null` when the policy takes none. The error says why there are none.
fn params(api: &Api, policy: &Policy, binding: &Value, at: &Attributes<'_>) -> Result<Vec<Value>, String> {
    let wanted = &policy.spec["paramKind"];
    let reference = &binding["paramRef"];
    if !wanted.is_object() || !reference.is_object() {
        return Ok(vec![Value::Null]);
    }
    let gvk = Gvk::from_api_version(text(&wanted["apiVersion"]), text(&wanted["kind"]));
    let kind = api.registry.by_gvk(&gvk).ok_or_else(|| {
        format!("failed to find resource referenced by paramKind: '{}, Kind={}'", gvk.api_version(), gvk.kind)
    })?;
    let given = text(&reference["namespace"]);
    let namespace = match (kind.namespaced(), given.is_empty()) {
        (false, _) => None,
        (true, false) => Some(given),
        (true, true) if at.namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, true) => Some(at.namespace),
    };
    let name = text(&reference["name"]);
    let mut found = Vec::new();
    if name.is_empty() {
        let listing =
            api.list(&Resource::collection(&kind.gvr(), namespace), &Default::default()).map_err(|e| e.to_string())?;
        let selector = LabelSelector::from_object(&reference["selector"]).unwrap_or_default();
        let chosen = listing.items.iter().filter(|object| selector.matches(&object.head.labels));
        found.extend(chosen.filter_map(|object| object.value().ok()));
    } else if let Ok(object) = api.get(&Resource::object(&kind.gvr(), namespace, name)) {
        found.extend(object.value().ok());
    }
    if found.is_empty() && reference["parameterNotFoundAction"] == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}

/// One policy under one binding with one set of parameters; or why it cannot be evaluated.
type Work<'p> = (&'p Policy, &'p str, &'p Value, Result<Value, String>);

/// What there is to evaluate for a request.
fn work<'p>(api: &Api, policies: &'p [Policy], at: &Attributes<'_>, object: &Value, old: &Value) -> Vec<Work<'p>> {
    let mut all = Vec::new();
    for policy in policies.iter().filter(|p| is_about(api, &p.spec["matchConstraints"], at, object, old)) {
        for (name, binding) in &policy.bindings {
            let limits = &binding["matchResources"];
            if limits.is_object() && !is_about(api, limits, at, object, old) {
                continue;
            }
            match super::expressions::all_hold(api, &policy.conditions, at, object, old) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    all.push((policy, name.as_str(), binding, Err(why)));
                    continue;
                }
            }
            match params(api, policy, binding, at) {
                Ok(params) => all.extend(params.into_iter().map(|p| (policy, name.as_str(), binding, Ok(p)))),
                Err(why) => all.push((policy, name.as_str(), binding, Err(why))),
            }
        }
    }
    all
}

/// Lets the mutating policies change the object.
pub(super) fn mutate(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    rounds: &mut Rounds<String>,
) -> Result<(), Status> {
    let policies = api.policies.load_full();
    if policies.mutating.is_empty() || is_exempt(at) || object.is_null() {
        return Ok(());
    }
    rounds.enter(object);
    for (policy, binding, _, params) in work(api, &policies.mutating, at, object, old) {
        let param = params.as_ref().map_or("", |params| text(&params["metadata"]["name"]));
        let key = format!("{}/{binding}/{param}", policy.name);
        if !rounds.concerns(&key) {
            continue;
        }
        let changed = params.and_then(|params| {
            let mut now = object.clone();
            for rule in &policy.rules {
                let evaluation = Evaluation::new(api, policy, at, &now, old, &params);
                now = mutation::apply(at, rule, &evaluation, &now)?;
            }
            Ok(now)
        });
        match changed {
            Ok(changed) => {
                let differs = changed != *object;
                *object = changed;
                rounds.done(key, differs, policy.spec["reinvocationPolicy"] == "IfNeeded");
            }
            Err(_) if policy.ignores_failures() => {}
            Err(why) => {
                let text = format!("policy '{}' with binding '{binding}' denied request: {why}", policy.name);
                return Err(refused(at, &text, ""));
            }
        }
    }
    rounds.leave(object);
    Ok(())
}

/// Lets the validating policies refuse the object, or warn of it.
pub(super) fn validate(
    api: &Api,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let policies = api.policies.load_full();
    if policies.validating.is_empty() || is_exempt(at) {
        return Ok(());
    }
    let mut first: Option<Status> = None;
    let mut audited: Vec<Value> = Vec::new();
    for (policy, name, binding, params) in work(api, &policies.validating, at, object, old) {
        let deny = |finding: &Finding| {
            let text = format!(
                "ValidatingAdmissionPolicy '{}' with binding '{name}' denied request: {}",
                policy.name, finding.message
            );
            refused(at, &text, &finding.reason)
        };
        let params = match params {
            Ok(params) => params,
            Err(_) if policy.ignores_failures() => continue,
            // Whatever the binding's actions are.
            Err(why) => {
                let message = format!("failed to configure binding: {why}");
                first.get_or_insert_with(|| deny(&Finding { message, reason: String::new(), index: 0 }));
                continue;
            }
        };
        let evaluation = Evaluation::new(api, policy, at, object, old, &params);
        for finding in evaluation.failures(policy) {
            let has = |action: &str| items(&binding["validationActions"]).any(|a| a == action);
            if has("Deny") {
                first.get_or_insert_with(|| deny(&finding));
            }
            if has("Audit") {
                audited.push(json!({"message": finding.message, "policy": policy.name, "binding": name,
                    "expressionIndex": finding.index, "validationActions": binding["validationActions"]}));
            }
            if has("Warn") {
                warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{name}': {}",
                    policy.name, finding.message
                ));
            }
        }
        for (key, value) in evaluation.annotations(policy) {
            match value {
                Ok(value) => audit::annotate(format!("{}/{key}", policy.name), value),
                Err(_) if policy.ignores_failures() => {}
                Err(message) => {
                    first.get_or_insert_with(|| deny(&Finding { message, reason: String::new(), index: 0 }));
                }
            }
        }
    }
    if !audited.is_empty() {
        audit::annotate(
            "validation.policy.admission.k8s.io/validation_failure".into(),
            Value::from(audited).to_string(),
        );
    }
    first.map_or(Ok(()), Err)
}

fn refused(at: &Attributes<'_>, words: &str, reason: &str) -> Status {
    let mut status = at.forbidden(words);
    let reason = match reason {
        "Unauthorized" => Reason::Unauthorized,
        "Forbidden" => Reason::Forbidden,
        "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
        _ => Reason::Invalid,
    };
    (status.reason, status.code) = (Some(reason), reason.code());
    status.causes = vec![Cause { reason: String::new(), message: words.into(), field: String::new() }];
    status
}
