//! CEL in admission: match conditions, and the variables that they and policies see.

use std::collections::HashMap;
use std::sync::Arc;

use cel::{Budget, Expr, Failure, Host, Value as Cel, Variables, evaluate, from_json};
use kinds::Kind;
use serde_json::{Value, json};

use super::attributes::Attributes;
use crate::api::Api;
use crate::user::User;

/// What the conditions of one webhook or policy may cost for one request.
const MOST_COST: u64 = 2_500_000;

/// What one expression may cost.
const MOST_COST_OF_ONE: u64 = 1_000_000;

/// A match condition.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    source: String,
    expr: Result<Expr, String>,
}

impl Condition {
    /// Reads `matchConditions`.
    pub(crate) fn list(declared: &Value) -> Vec<Self> {
        let read = |condition: &Value| {
            let source = condition["expression"].as_str().unwrap_or("").trim();
            Self { source: source.into(), expr: cel::parse(source).map_err(|e| e.to_string()) }
        };
        declared.as_array().into_iter().flatten().map(read).collect()
    }
}

/// True when all conditions hold; the error says which could not be decided. One that does not hold outweighs those that fail.
pub(crate) fn all_hold(
    api: &Api,
    conditions: &[Condition],
    at: &Attributes<'_>,
    kind: &Kind,
    object: &Value,
    old: &Value,
) -> Result<bool, String> {
    if conditions.is_empty() {
        return Ok(true);
    }
    let mut variables = variables(api, at, kind, object, old);
    variables.insert("namespaceObject".into(), from_json(&namespace(api, at)));
    let mut left = MOST_COST;
    let mut failed: Vec<String> = Vec::new();
    for condition in conditions {
        let value = match &condition.expr {
            Ok(expr) => limited(expr, &variables, &mut left),
            Err(why) => Err(Failure::Failed(why.clone())),
        };
        match value {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => return Ok(false),
            Err(why) => failed.push(format!("expression '{}' resulted in error: {why}", condition.source)),
        }
    }
    match failed.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

/// The value of an expression, which may cost no more than one may, and no more than is left.
pub(crate) fn limited(expr: &Expr, variables: &dyn Variables, left: &mut u64) -> Result<Cel, Failure> {
    let most = MOST_COST_OF_ONE.min(*left);
    let mut budget = Budget::new(most);
    let value = evaluate(expr, variables, &mut budget);
    *left -= most - budget.left();
    value
}

/// The namespace of the request; `null` where it has none.
pub(crate) fn namespace(api: &Api, at: &Attributes<'_>) -> Value {
    if at.namespace.is_empty() {
        return Value::Null;
    }
    api.stored_value(&format!("/registry/namespaces/{}", at.namespace)).unwrap_or_default()
}

/// `object`, `oldObject`, `request`, `authorizer`. `kind` is the resource in the version that is looked at.
pub(crate) fn variables(
    api: &Api,
    at: &Attributes<'_>,
    kind: &Kind,
    object: &Value,
    old: &Value,
) -> HashMap<String, Cel> {
    let authorizer = Authorizer { rbac: api.rbac.load_full(), user: at.user.clone(), at: Question::default() };
    let own = at.gvk();
    let seen = if at.has_own_body() { own.clone() } else { kind.gvk() };
    let check = Question {
        group: at.kind.group.clone(),
        resource: at.kind.plural.clone(),
        subresource: at.subresource.into(),
        namespace: at.namespace.into(),
        name: at.name.into(),
        ..Question::default()
    };
    let of_request = Authorizer { at: check, ..authorizer.clone() };
    let mut request = json!({
        "kind": {"group": seen.group, "version": seen.version, "kind": seen.kind},
        "resource": {"group": kind.group, "version": kind.version, "resource": kind.plural},
        "requestKind": {"group": own.group, "version": own.version, "kind": own.kind},
        "requestResource": {"group": at.kind.group, "version": at.kind.version, "resource": at.kind.plural},
        "operation": at.operation.name(), "userInfo": at.user_info(), "dryRun": at.dry_run, "options": at.options(),
    });
    // As upstream: what is empty is not there.
    let given = [
        ("name", at.name),
        ("namespace", at.namespace),
        ("subResource", at.subresource),
        ("requestSubResource", at.subresource),
    ];
    for (key, value) in given.into_iter().filter(|(_, value)| !value.is_empty()) {
        request[key] = value.into();
    }
    HashMap::from([
        ("object".to_owned(), from_json(object)),
        ("oldObject".to_owned(), from_json(old)),
        ("request".to_owned(), from_json(&request)),
        ("authorizer".to_owned(), Cel::Host(Arc::new(authorizer))),
        ("authorizer.requestResource".to_owned(), Cel::Host(Arc::new(of_request))),
    ])
}

/// What is asked of the authorizer.
#[derive(Clone, Debug, Default)]
struct Question {
    path: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

/// `authorizer` and everything that comes of it: each method adds to the question, `check` asks it.
#[derive(Clone)]
struct Authorizer {
    rbac: Arc<rbac::Index>,
    user: User,
    at: Question,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").field("user", &self.user.name).field("at", &self.at).finish_non_exhaustive()
    }
}

/// The authorizer's answer.
#[derive(Debug)]
struct Decision {
    allowed: bool,
    reason: String,
}

impl Host for Decision {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.Decision"
    }
    fn call(&self, method: &str, args: &[Cel]) -> Option<Result<Cel, Failure>> {
        Some(Ok(match (method, args) {
            ("allowed", []) => Cel::Bool(self.allowed),
            ("errored", []) => Cel::Bool(false),
            ("error", []) => "".into(),
            ("reason", []) => self.reason.as_str().into(),
            _ => return None,
        }))
    }
}

impl Host for Authorizer {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.Authorizer"
    }

    fn call(&self, method: &str, args: &[Cel]) -> Option<Result<Cel, Failure>> {
        let texts: Vec<&str> =
            args.iter().map_while(|a| if let Cel::String(text) = a { Some(&**text) } else { None }).collect();
        if texts.len() != args.len() {
            return None;
        }
        let mut next = self.clone();
        match (method, texts.as_slice()) {
            ("path", [path]) => next.at.path = (*path).into(),
            ("group", [group]) => next.at.group = (*group).into(),
            ("resource", [resource]) => next.at.resource = (*resource).into(),
            ("subresource", [subresource]) => next.at.subresource = (*subresource).into(),
            ("namespace", [namespace]) => next.at.namespace = (*namespace).into(),
            ("name", [name]) => next.at.name = (*name).into(),
            ("fieldSelector" | "labelSelector", [_]) => {}
            ("serviceAccount", [namespace, name]) => next.user = User::service_account(namespace, name),
            ("check", [verb]) => {
                let wanted = rbac::Attributes {
                    fields: &[],
                    user: &self.user.name,
                    groups: &self.user.groups,
                    verb,
                    path: &self.at.path,
                    group: &self.at.group,
                    version: "",
                    resource: &self.at.resource,
                    subresource: &self.at.subresource,
                    namespace: &self.at.namespace,
                    name: &self.at.name,
                };
                let allowed = self.rbac.allows(&wanted);
                let reason = if allowed { String::new() } else { rbac::denial(&wanted) };
                return Some(Ok(Cel::Host(Arc::new(Decision { allowed, reason }))));
            }
            _ => return None,
        }
        Some(Ok(Cel::Host(Arc::new(next))))
    }
}

/// Variables with more on top; what is computed is computed when it is asked for.
pub(crate) struct Layered<'v> {
    pub(crate) base: &'v HashMap<String, Cel>,
    pub(crate) computed: &'v dyn Fn(&str) -> Option<Result<Cel, Failure>>,
}

impl Variables for Layered<'_> {
    fn get(&self, name: &str) -> Option<Result<Cel, Failure>> {
        self.base.get(name).cloned().map(Ok).or_else(|| (self.computed)(name))
    }
}
