//! How the claims of a token become a user: pure. Settings say it by names of claims or in CEL.

use std::collections::HashMap;

use cel::{Budget, Expr, Value as Cel, evaluate, from_json, to_json};
use serde_json::{Map, Value, json};

use super::CREDENTIAL;
use crate::user::{AUTHENTICATED, User};

/// What the expressions of one token may cost.
const MOST_COST: u64 = 10_000_000;
const LEEWAY_SECONDS: i64 = 10;

/// An expression and its text.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    pub(super) source: String,
    pub(super) expr: Expr,
}

/// Where something of a user comes from.
#[derive(Clone, Debug)]
pub(super) enum Mapping {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

/// What must hold, and what is said when it does not.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) expression: Expression,
    pub(super) message: String,
}

/// How one issuer's claims are read.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) issuer: String,
    /// A token must be for one of them.
    pub(super) audiences: Vec<String>,
    pub(super) required: Vec<(String, String)>,
    /// Of `claims`.
    pub(super) conditions: Vec<Condition>,
    pub(super) username: Mapping,
    pub(super) groups: Option<Mapping>,
    pub(super) uid: Option<Mapping>,
    pub(super) extra: Vec<(String, Expression)>,
    /// Of `user`.
    pub(super) user_conditions: Vec<Condition>,
}

/// Values for CEL: what is no name in it can be selected by its escaped form, too.
fn selectable(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut all = Map::new();
            for (name, field) in fields {
                let field = selectable(field);
                if let Some(escaped) = cel::escape(name).filter(|escaped| escaped != name) {
                    all.insert(escaped, field.clone());
                }
                all.insert(name.clone(), field);
            }
            all.into()
        }
        Value::Array(items) => items.iter().map(selectable).collect(),
        other => other.clone(),
    }
}

/// Evaluates expressions over one variable.
struct Scope {
    variables: HashMap<String, Cel>,
    budget: Budget,
}

impl Scope {
    fn new(name: &str, value: &Value) -> Self {
        let variables = HashMap::from([(name.to_owned(), from_json(&selectable(value)))]);
        Self { variables, budget: Budget::new(MOST_COST) }
    }

    fn value(&mut self, what: &str, expression: &Expression) -> Result<Value, String> {
        let value = evaluate(&expression.expr, &self.variables, &mut self.budget);
        let value = value.map_err(|why| format!("{what}: expression '{}' resulted in error: {why}", expression.source));
        to_json(&value?).ok_or_else(|| format!("{what}: expression '{}' has no plain value", expression.source))
    }

    fn check(&mut self, conditions: &[Condition]) -> Result<(), String> {
        for Condition { expression, message } in conditions {
            match self.value("validation", expression)? {
                Value::Bool(true) => {}
                Value::Bool(false) => {
                    return Err(format!("validation expression '{}' failed: {message}", expression.source));
                }
                _ => return Err("validation expression must return a boolean".into()),
            }
        }
        Ok(())
    }
}

/// One text or several; empty ones do not count.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::String(one) if one.is_empty() => Some(Vec::new()),
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => {
            let all = all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
            Some(all.into_iter().filter(|one| !one.is_empty()).collect())
        }
        _ => None,
    }
}

impl Rules {
    /// The user of a token with these claims, whose signature holds; the error says what does not fit.
    pub(super) fn user(&self, claims: &Value, now: i64) -> Result<User, String> {
        self.check(claims, now)?;
        let mut scope = Scope::new("claims", claims);
        let name = match &self.username {
            Mapping::Claim { name, prefix } => {
                let given = claims[name].as_str().ok_or_else(|| format!("claim {name:?} is missing"))?;
                if name == "email" && claims.get("email_verified").is_some_and(|v| v != true) {
                    return Err("email not verified".into());
                }
                format!("{prefix}{given}")
            }
            Mapping::Expression(expression) => match scope.value("username", expression)? {
                Value::String(name) if !name.is_empty() => name,
                Value::String(_) => return Err("empty username via CEL expression is not allowed".into()),
                _ => return Err("username claim expression must return a string".into()),
            },
        };
        let groups = match &self.groups {
            None => Vec::new(),
            Some(Mapping::Claim { name, prefix }) => {
                let groups = match &claims[name] {
                    Value::String(one) => Some(vec![one.clone()]),
                    Value::Null => Some(Vec::new()),
                    Value::Array(all) => all.iter().map(|g| g.as_str().map(str::to_owned)).collect(),
                    _ => None,
                };
                let groups = groups.ok_or_else(|| format!("claim {name:?} is no list of groups"))?;
                groups.into_iter().map(|group| format!("{prefix}{group}")).collect()
            }
            Some(Mapping::Expression(expression)) => texts(&scope.value("groups", expression)?)
                .ok_or("groups: expression must return a string or a list of strings")?,
        };
        let uid = match &self.uid {
            None => String::new(),
            Some(Mapping::Claim { name, .. }) => {
                claims[name].as_str().ok_or_else(|| format!("uid claim {name:?} is no string"))?.to_owned()
            }
            Some(Mapping::Expression(expression)) => match scope.value("uid", expression)? {
                Value::String(uid) => uid,
                _ => return Err("uid claim expression must return a string".into()),
            },
        };
        let mut user = User { name, groups, uid, ..User::default() };
        if let Some(id) = claims["jti"].as_str() {
            user.extra.insert(CREDENTIAL.into(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = texts(&scope.value("extra", expression)?)
                .ok_or_else(|| format!("extra {key:?}: expression must return a string or a list of strings"))?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        for (claim, wanted) in &self.required {
            if claims[claim] != wanted.as_str() {
                return Err(format!("required claim {claim} is not {wanted:?}"));
            }
        }
        scope.check(&self.conditions)?;
        if !self.user_conditions.is_empty() {
            let told = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
            Scope::new("user", &told).check(&self.user_conditions)?;
        }
        user.groups.push(AUTHENTICATED.into());
        Ok(user)
    }

    /// For whom, from whom, until when.
    fn check(&self, claims: &Value, now: i64) -> Result<(), String> {
        if claims["iss"] != self.issuer.as_str() {
            return Err("another issuer".into());
        }
        let is_for = |audience: &Value| self.audiences.iter().any(|wanted| audience == wanted.as_str());
        if !is_for(&claims["aud"]) && !claims["aud"].as_array().is_some_and(|all| all.iter().any(is_for)) {
            return Err(format!("expected audience in {:?} got {}", self.audiences, claims["aud"]));
        }
        let seconds = |name: &str| claims[name].as_f64().map(|s| s as i64);
        if seconds("exp").is_none_or(|exp| now > exp) {
            return Err("token is expired".into());
        }
        if seconds("nbf").is_some_and(|nbf| nbf > now + LEEWAY_SECONDS) {
            return Err("token is not valid yet".into());
        }
        Ok(())
    }
}
