//! Admission policies in CEL: those that change objects and those that refuse them, each put to work by its bindings.

mod evaluation;
mod mutation;
mod typing;

use std::collections::HashMap;
use std::sync::Arc;

use cel::Expr;
use client::Resource;
use futures::StreamExt;
use kinds::Kind;
use object::{Gvk, Gvr, LabelSelector, Reason, Status};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::expressions::Condition;
use super::rounds::Rounds;
use super::versions::{self, Seen};
use super::{cause, internal, matching};
use crate::api::Api;
use crate::audit;
use crate::metrics::extensions;
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

/// Policies do not judge policies and their bindings, nor reviews, without which nothing works.
fn is_exempt(at: &Attributes<'_>) -> bool {
    match at.kind.group.as_str() {
        "admissionregistration.k8s.io" => at.kind.kind.contains("AdmissionPolicy"),
        "authentication.k8s.io" | "authorization.k8s.io" => at.subresource.is_empty(),
        _ => false,
    }
}

/// The resource through which the constraints are about the request.
fn matched(api: &Api, constraints: &Value, at: &Attributes<'_>, object: &Value, old: &Value) -> Option<Gvr> {
    let equivalent = constraints["matchPolicy"] != "Exact";
    let rules = &constraints["resourceRules"];
    let found = match rules.as_array().is_none_or(Vec::is_empty) {
        true => at.gvr(),
        false => matching::by_rules(api, rules, at, equivalent)?,
    };
    let is_meant = matching::by_rules(api, &constraints["excludeResourceRules"], at, equivalent).is_none()
        && matching::by_namespace(api, &constraints["namespaceSelector"], at, object, old)
        && matching::by_object(&constraints["objectSelector"], object, old);
    is_meant.then_some(found)
}

/// Why a policy cannot be evaluated.
enum Trouble {
    /// Its declaration cannot be followed, whatever the binding.
    Policy(String),
    /// The binding's cannot.
    Binding(String),
    /// A match condition has no value.
    Condition(String),
}

impl Trouble {
    /// What of a policy and a binding the request is refused by, and why.
    fn words(&self, binding: &str, quote: char, policy: &str) -> String {
        match self {
            Self::Policy(why) => format!("{quote}{policy}{quote} denied request: failed to configure policy: {why}"),
            Self::Binding(why) => {
                format!("'{policy}' with binding '{binding}' denied request: failed to configure binding: {why}")
            }
            Self::Condition(why) => format!("'{policy}' with binding '{binding}' denied request: {why}"),
        }
    }
}

/// The objects that a binding gives to its policy; one `null` when the policy takes none. The error says why there are none.
fn params(api: &Api, policy: &Policy, binding: &Value, at: &Attributes<'_>) -> Result<Vec<Value>, Trouble> {
    let wanted = &policy.spec["paramKind"];
    let reference = &binding["paramRef"];
    if !wanted.is_object() {
        return Ok(vec![Value::Null]);
    }
    let gvk = Gvk::from_api_version(text(&wanted["apiVersion"]), text(&wanted["kind"]));
    let kind = api.registry.by_gvk(&gvk).ok_or_else(|| {
        Trouble::Policy(format!(
            "failed to find resource referenced by paramKind: '{}, Kind={}'",
            gvk.api_version(),
            gvk.kind
        ))
    })?;
    if !reference.is_object() {
        return Ok(vec![Value::Null]);
    }
    let told = |why: &str| Trouble::Binding(why.into());
    let given = text(&reference["namespace"]);
    let namespace = match (kind.namespaced(), given.is_empty()) {
        (false, false) => {
            return Err(told("paramRef.namespace must not be provided for a cluster-scoped `paramKind`"));
        }
        (false, true) => None,
        (true, false) => Some(given),
        (true, true) if at.namespace.is_empty() => {
            return Err(told("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"));
        }
        (true, true) => Some(at.namespace),
    };
    let name = text(&reference["name"]);
    let mut found = Vec::new();
    if name.is_empty() {
        let listing = api
            .list(&Resource::collection(&kind.gvr(), namespace), &Default::default())
            .map_err(|e| told(&e.message))?;
        let selector = LabelSelector::from_object(&reference["selector"]).unwrap_or_default();
        let chosen = listing.items.iter().filter(|object| selector.matches(&object.head.labels));
        found.extend(chosen.filter_map(|object| object.value().ok()));
    } else if let Ok(object) = api.get(&Resource::object(&kind.gvr(), namespace, name)) {
        found.extend(object.value().ok());
    }
    if found.is_empty() && reference["parameterNotFoundAction"] == "Deny" {
        return Err(told("no params found for policy binding with `Deny` parameterNotFoundAction"));
    }
    Ok(found)
}

/// One policy under one binding with one set of parameters; or why it cannot be evaluated.
struct Work<'p> {
    policy: &'p Policy,
    binding: &'p str,
    declared: &'p Value,
    seen: Arc<Seen>,
    params: Result<Value, Trouble>,
}

/// What there is to evaluate for a request.
async fn work<'p>(
    api: &Api,
    policies: &'p [Policy],
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
) -> Result<Vec<Work<'p>>, Status> {
    let mut all = Vec::new();
    for policy in policies {
        let Some(gvr) = matched(api, &policy.spec["matchConstraints"], at, object, old) else { continue };
        let limits = |(_, binding): &&(String, Value)| {
            let limits = &binding["matchResources"];
            !limits.is_object() || matched(api, limits, at, object, old).is_some()
        };
        let bindings: Vec<_> = policy.bindings.iter().filter(limits).collect();
        if bindings.is_empty() {
            continue;
        }
        let seen = Arc::new(Seen::new(api, at, object, old, &gvr).await?);
        let (object, old) = seen.objects(object, old);
        let holds = super::expressions::all_hold(api, &policy.conditions, at, &seen.kind, object, old);
        if holds == Ok(false) {
            continue;
        }
        for (binding, declared) in bindings {
            let params = match &holds {
                Err(why) => Err(Trouble::Condition(why.clone())),
                Ok(_) => params(api, policy, declared, at),
            };
            let params = match params {
                Ok(params) => params.into_iter().map(Ok).collect(),
                Err(why) => vec![Err(why)],
            };
            let work = |params| Work { policy, binding, declared, seen: seen.clone(), params };
            all.extend(params.into_iter().map(work));
        }
    }
    Ok(all)
}

/// Lets the mutating policies change the object.
pub(super) async fn mutate(
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
    // As upstream: what the policies did themselves counts, too.
    let entered = object.clone();
    for Work { policy, binding, seen, params, .. } in work(api, &policies.mutating, at, object, old).await? {
        let param = params.as_ref().map_or("", |params| text(&params["metadata"]["name"]));
        let key = format!("{}/{binding}/{param}", policy.name);
        if !rounds.concerns(&key) {
            continue;
        }
        let params = match params {
            Ok(params) => params,
            Err(_) if policy.ignores_failures() => continue,
            Err(why) => {
                let reason = if matches!(why, Trouble::Condition(_)) { Reason::Invalid } else { Reason::Forbidden };
                return Err(refused_mutation(at, why.words(binding, '"', &policy.name), reason));
            }
        };
        let [now, _] = versions::convert(api, at, [object, &Value::Null], &seen.kind).await?;
        let (_, was) = seen.objects(object, old);
        let began = Instant::now();
        let made = mutated(api, policy, at, &seen.kind, now, was, &params);
        extensions::mutated(made.is_err(), &policy.name, binding, began.elapsed());
        match made {
            Ok(changed) => {
                let changed = versions::back(api, at, changed, &seen.kind).await?;
                let differs = changed != *object;
                *object = changed;
                rounds.done(key, differs, policy.spec["reinvocationPolicy"] == "IfNeeded");
            }
            Err(mutation::Failed::Server(why)) => return Err(internal(why)),
            Err(mutation::Failed::Policy(_)) if policy.ignores_failures() => {}
            Err(mutation::Failed::Policy(why)) => {
                let text = format!("'{}' with binding '{binding}' denied request: {why}", policy.name);
                return Err(refused_mutation(at, text, Reason::Invalid));
            }
        }
    }
    rounds.leave(&entered);
    Ok(())
}

/// The object after all mutations of a policy.
fn mutated(
    api: &Api,
    policy: &Policy,
    at: &Attributes<'_>,
    kind: &Kind,
    mut now: Value,
    old: &Value,
    params: &Value,
) -> Result<Value, mutation::Failed> {
    for rule in &policy.rules {
        let evaluation = Evaluation::new(api, policy, at, kind, (&now, old), params);
        now = mutation::apply(kind, rule, &evaluation, &now)?;
    }
    Ok(now)
}

/// A mutating policy's refusal: what it says stands alone.
fn refused_mutation(at: &Attributes<'_>, words: String, reason: Reason) -> Status {
    let words = format!("policy {words}");
    Status { causes: cause(&words), message: words, reason: Some(reason), code: 403, ..at.forbidden("") }
}

/// Lets the validating policies refuse the object, or warn of it.
pub(super) async fn validate(
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
    for work in work(api, &policies.validating, at, object, old).await? {
        let Work { policy, binding: name, declared: binding, seen, params } = work;
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
                let words = format!("ValidatingAdmissionPolicy {}", why.words(name, '\'', &policy.name));
                first.get_or_insert_with(|| refused(at, &words, ""));
                continue;
            }
        };
        let began = Instant::now();
        let evaluation = Evaluation::new(api, policy, at, &seen.kind, seen.objects(object, old), &params);
        let findings = evaluation.failures(policy);
        let took = began.elapsed();
        if findings.is_empty() {
            extensions::validated("allow", "no_error", &policy.name, name, took);
        }
        for finding in findings {
            let has = |action: &str| {
                let is_one = items(&binding["validationActions"]).any(|a| a == action);
                if is_one {
                    let action = action.to_ascii_lowercase();
                    extensions::validated(&action, "invalid_error", &policy.name, name, took);
                }
                is_one
            };
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
    status.causes = cause(words);
    status
}
