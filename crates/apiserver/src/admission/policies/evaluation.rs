//! A policy's expressions over a request.

use std::cell::RefCell;
use std::collections::HashMap;

use cel::{Expr, Failure, Value as Cel, from_json};
use kinds::Kind;
use serde_json::Value;

use super::Policy;
use crate::admission::attributes::Attributes;
use crate::admission::expressions::{Layered, limited, namespace, variables};
use crate::api::Api;

/// What all expressions of a policy may cost for one request.
const MOST_COST: u64 = 10_000_000;
/// Messages are no longer than this.
const MOST_MESSAGE: usize = 5 * 1024;

/// A validation that does not hold.
pub(super) struct Finding {
    pub(super) message: String,
    pub(super) reason: String,
    /// Which of the validations.
    pub(super) index: usize,
}

/// The variables of a policy for one request. `variables.x` is computed when it is asked for, and once.
pub(super) struct Evaluation<'p> {
    policy: &'p Policy,
    base: HashMap<String, Cel>,
    computed: RefCell<HashMap<String, Result<Cel, Failure>>>,
    left: RefCell<u64>,
}

impl<'p> Evaluation<'p> {
    pub(super) fn new(
        api: &Api,
        policy: &'p Policy,
        at: &Attributes<'_>,
        kind: &Kind,
        (object, old): (&Value, &Value),
        params: &Value,
    ) -> Self {
        let mut base = variables(api, at, kind, object, old);
        base.insert("params".into(), from_json(params));
        base.insert("namespaceObject".into(), from_json(&namespace(api, at)));
        Self { policy, base, computed: RefCell::default(), left: RefCell::new(MOST_COST) }
    }

    pub(super) fn value(&self, expr: &Expr) -> Result<Cel, Failure> {
        let computed = |name: &str| self.computed(name);
        let layered = Layered { base: &self.base, computed: &computed };
        // Variables that it asks for spend of the same.
        let mut left = *self.left.borrow();
        let value = limited(expr, &layered, &mut left);
        let mut total = self.left.borrow_mut();
        *total = (*total).min(left);
        value
    }

    fn computed(&self, name: &str) -> Option<Result<Cel, Failure>> {
        let name = name.strip_prefix("variables.")?;
        if let Some(known) = self.computed.borrow().get(name) {
            return Some(known.clone());
        }
        let (_, expr) = self.policy.variables.iter().find(|(n, _)| n == name)?;
        // One that asks for itself finds this.
        let circle = Failure::Failed(format!("variable {name:?} refers to itself"));
        self.computed.borrow_mut().insert(name.into(), Err(circle));
        let value = match expr {
            Ok(expr) => self.value(expr),
            Err(why) => Err(Failure::Failed(why.clone())),
        };
        let value = value.map_err(|why| match why {
            Failure::Failed(why) => Failure::Failed(format!("composited variable {name:?} fails to evaluate: {why}")),
            over => over,
        });
        self.computed.borrow_mut().insert(name.into(), value.clone());
        Some(value)
    }

    /// What the validations find.
    pub(super) fn failures(&self, policy: &Policy) -> Vec<Finding> {
        let mut found = Vec::new();
        for (index, rule) in policy.rules.iter().enumerate() {
            let value = match &rule.expr {
                Ok(expr) => self.value(expr).map_err(|e| e.to_string()),
                Err(why) => Err(why.clone()),
            };
            let reason = rule.declared["reason"].as_str().unwrap_or("").to_owned();
            match value {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let made = rule.message.as_ref().and_then(|expr| self.message(expr));
                    let given = rule.declared["message"].as_str().map(str::trim).filter(|m| !m.is_empty());
                    let message = made.or(given.map(Into::into));
                    let message = message.unwrap_or_else(|| format!("failed expression: {}", rule.text));
                    found.push(Finding { message, reason, index });
                }
                Err(_) if policy.ignores_failures() => {}
                Err(why) => {
                    let message = format!("expression '{}' resulted in error: {why}", rule.text);
                    // What cannot be said is invalid, whatever it would be called otherwise.
                    let reason = String::new();
                    found.push(Finding { message, reason, index });
                }
            }
        }
        found
    }

    /// What the policy wants in the audit log; `null` is nothing.
    pub(super) fn annotations(&self, policy: &Policy) -> Vec<(String, Result<String, String>)> {
        let value = |expr: &Result<Expr, String>| match expr {
            Ok(expr) => match self.value(expr) {
                Ok(Cel::String(text)) => Some(Ok(text.to_string())),
                Ok(Cel::Null) => None,
                Ok(_) => Some(Err("valueExpression must evaluate to a string or null".to_owned())),
                Err(why) => Some(Err(why.to_string())),
            },
            Err(why) => Some(Err(why.clone())),
        };
        policy.annotations.iter().filter_map(|(key, expr)| Some((key.clone(), value(expr)?))).collect()
    }

    fn message(&self, expr: &Expr) -> Option<String> {
        match self.value(expr) {
            Ok(Cel::String(made)) => {
                let made = made.trim();
                (!made.is_empty() && made.len() <= MOST_MESSAGE && !made.contains('\n')).then(|| made.to_owned())
            }
            _ => None,
        }
    }
}
