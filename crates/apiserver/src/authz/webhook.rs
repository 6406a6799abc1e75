//! An authorizer that is another server: it is sent a SubjectAccessReview, and believed for a while.

use std::collections::HashMap;
use std::time::Duration;

use cel::{Budget, Expr, Type, evaluate, from_json};
use object::Invalid;
use rbac::Attributes;
use serde_json::{Value, json};

use super::Opinion;
use crate::answers::{self, Answers};
use crate::user::User;

/// Answers that are remembered.
const MOST_KNOWN: usize = 8192;
/// Longer questions are not.
const MOST_BYTES: usize = 10_000;
/// More conditions are refused.
const MOST_CONDITIONS: usize = 64;
/// What the conditions of one request may cost.
const MOST_COST: u64 = 2_500_000;

/// A server that decides.
pub(super) struct Webhook {
    pub(super) name: String,
    pub(super) server: client::Https,
    pub(super) version: &'static str,
    pub(super) timeout: Duration,
    /// How long an answer that allows is believed, and another.
    pub(super) ttls: (Duration, Duration),
    /// Whether such answers are remembered at all.
    pub(super) caches: (bool, bool),
    pub(super) denies_on_failure: bool,
    pub(super) conditions: Vec<(String, Expr)>,
    pub(super) known: Answers<String, Value, MOST_KNOWN>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads match conditions: expressions over `request`, the review's spec.
pub(super) fn conditions<'s>(
    sources: impl ExactSizeIterator<Item = &'s str>,
    at: &str,
    errors: &mut Vec<Invalid>,
) -> Vec<(String, Expr)> {
    if sources.len() > MOST_CONDITIONS {
        errors.push(Invalid::too_many(at, sources.len(), MOST_CONDITIONS));
        return Vec::new();
    }
    let spec = cel::type_named(schema::table(), "io.k8s.api.authorization.v1.SubjectAccessReviewSpec");
    let environment = [("request".to_owned(), spec)].into();
    let mut all: Vec<(String, Expr)> = Vec::new();
    for (index, source) in sources.enumerate() {
        let at = format!("{at}[{index}].expression");
        if source.trim().is_empty() {
            errors.push(Invalid::required(&at, ""));
        } else if all.iter().any(|(known, _)| known == source) {
            errors.push(Invalid::duplicate(&at, &source.into()));
        } else {
            let compiled = cel::parse(source).and_then(|expr| Ok((cel::check(&expr, source, &environment)?, expr)));
            match compiled {
                Ok((Type::Bool, expr)) => match cel::instantiate(&expr) {
                    Ok(()) => all.push((source.to_owned(), expr)),
                    Err(why) => {
                        let why = format!("program instantiation failed: {why}");
                        errors.push(Invalid::invalid(&at, &source.into(), why));
                    }
                },
                Ok(_) => errors.push(Invalid::invalid(&at, &source.into(), "must evaluate to bool")),
                Err(why) => errors.push(Invalid::invalid(&at, &source.into(), format!("compilation failed: {why}"))),
            }
        }
    }
    all
}

/// What the selector of a request demands, as reviews have it.
fn requirements(fields: &[(String, bool, String)]) -> Vec<Value> {
    let one = |(key, equals, value): &(String, bool, String)| json!({"key": key, "operator": if *equals { "In" } else { "NotIn" }, "values": [value]});
    fields.iter().map(one).collect()
}

/// The spec of a review. `whole`: with fields that are empty, as conditions see it.
fn spec(user: &User, wanted: &Attributes<'_>, version: &str, whole: bool) -> Value {
    let given = |pairs: &[(&str, &str)]| -> Value {
        let pairs = pairs.iter().filter(|(_, value)| whole || !value.is_empty());
        pairs.map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
    };
    let mut spec = given(&[("user", &user.name), ("uid", &user.uid)]);
    if whole || !user.groups.is_empty() {
        // The first version had the groups' name in the singular.
        spec[if version == "v1beta1" { "group" } else { "groups" }] = json!(user.groups);
    }
    if whole || !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    if wanted.resource.is_empty() {
        spec["nonResourceAttributes"] = given(&[("path", wanted.path), ("verb", wanted.verb)]);
        return spec;
    }
    spec["resourceAttributes"] = given(&[
        ("namespace", wanted.namespace),
        ("verb", wanted.verb),
        ("group", wanted.group),
        ("version", wanted.version),
        ("resource", wanted.resource),
        ("subresource", wanted.subresource),
        ("name", wanted.name),
    ]);
    if !wanted.fields.is_empty() {
        spec["resourceAttributes"]["fieldSelector"] = json!({"requirements": requirements(wanted.fields)});
    }
    spec
}

impl Webhook {
    /// What the server thinks of a request.
    pub(super) async fn opinion(&self, user: &User, wanted: &Attributes<'_>) -> Opinion {
        let failed = |why: String| {
            tracing::warn!(webhook = self.name, why, "an authorization webhook failed");
            if self.denies_on_failure {
                Opinion::Denied(String::new(), Some(why))
            } else {
                Opinion::None(String::new(), Some(why))
            }
        };
        match self.concerns(user, wanted) {
            Ok(true) => {}
            Ok(false) => return Opinion::None(String::new(), None),
            Err(why) => return failed(why),
        }
        let question = spec(user, wanted, self.version, false);
        let key = question.to_string();
        let status = match self.known.get(&key) {
            Some(status) => status,
            None => match self.ask(question).await {
                Ok(status) => {
                    self.remember(key, &status);
                    status
                }
                Err(why) => return failed(why),
            },
        };
        let reason = status["reason"].as_str().unwrap_or("").to_owned();
        match (status["allowed"] == true, status["denied"] == true) {
            (true, true) => {
                let why = "webhook subject access review returned both allow and deny response";
                Opinion::Denied(reason, Some(why.into()))
            }
            (_, true) => Opinion::Denied(reason, None),
            (true, _) => Opinion::Allowed(reason),
            _ => Opinion::None(reason, None),
        }
    }

    /// False when a condition does not hold; that outweighs those that fail.
    fn concerns(&self, user: &User, wanted: &Attributes<'_>) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let variables = HashMap::from([("request".to_owned(), from_json(&spec(user, wanted, "v1", true)))]);
        let mut budget = Budget::new(MOST_COST);
        let mut failed = Vec::new();
        for (source, expr) in &self.conditions {
            match evaluate(expr, &variables, &mut budget) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(why) => {
                    failed.push(format!("cel evaluation error: expression '{source}' resulted in error: {why}"));
                }
            }
        }
        if failed.is_empty() { Ok(true) } else { Err(failed.join(", ")) }
    }

    async fn ask(&self, spec: Value) -> Result<Value, String> {
        let version = format!("authorization.k8s.io/{}", self.version);
        let review = json!({"apiVersion": version, "kind": "SubjectAccessReview", "metadata": {}, "spec": spec});
        answers::ask(&self.server, &review, self.timeout).await
    }

    fn remember(&self, key: String, status: &Value) {
        let is_allowed = status["allowed"] == true;
        let (ttl, caches) = if is_allowed { (self.ttls.0, self.caches.0) } else { (self.ttls.1, self.caches.1) };
        if !caches || key.len() > MOST_BYTES {
            return;
        }
        self.known.remember(key, status.clone(), ttl);
    }
}
