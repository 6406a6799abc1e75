//! `x-kubernetes-validations`: rules in CEL over a value and what it was before.

use std::collections::BTreeMap;

use cel::{Budget, Expr, Failure, Value as Cel, evaluate, from_schema};
use object::{Invalid, InvalidKind, quoted};
use schema::ListType;
use schema::structural::{self, Node};
use serde_json::Value;

use super::field_path;
use super::observed::{Work, observed};
use crate::tree::text;

/// What all rules of an object may cost, and one call of a rule.
const MOST_COST: u64 = 10_000_000;
const MOST_COST_OF_CALL: u64 = 1_000_000;
/// Messages that expressions make are no longer than this.
const MOST_MESSAGE: usize = 5 * 1024;

/// The rules of a schema, laid out as it is; only what has rules at or below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    own: Vec<Rule>,
    properties: BTreeMap<String, Rules>,
    entry: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
}

#[derive(Clone, Debug)]
struct Rule {
    text: String,
    expr: Result<Expr, String>,
    transition: bool,
    optional_old: bool,
    message: String,
    message_expression: Option<Expr>,
    field_path: String,
    reason: InvalidKind,
}

impl Rules {
    /// Compiles the rules of a schema; `None` when there are none.
    pub(crate) fn of(node: &Node) -> Option<Self> {
        if !node.any(&|n| !n.rules.is_empty()) {
            return None;
        }
        let below = |node: &Node| Self::of(node).map(Box::new);
        Some(Self {
            own: node.rules.iter().map(Rule::of).collect(),
            properties: node.properties.iter().filter_map(|(name, n)| Some((name.clone(), Self::of(n)?))).collect(),
            entry: node.entry().and_then(below),
            items: node.items.as_deref().and_then(below),
        })
    }
}

impl Rule {
    fn of(declared: &Value) -> Self {
        let source = text(&declared["rule"]);
        let expr = cel::parse(source).map_err(|e| e.to_string());
        let message_expression =
            Some(text(&declared["messageExpression"])).filter(|t| !t.is_empty()).and_then(|t| cel::parse(t).ok());
        Self {
            transition: expr.as_ref().is_ok_and(|e| e.uses("oldSelf")),
            text: source.trim().into(),
            expr,
            optional_old: declared["optionalOldSelf"] == true,
            message: text(&declared["message"]).trim().into(),
            message_expression,
            field_path: text(&declared["fieldPath"]).into(),
            reason: match text(&declared["reason"]) {
                "FieldValueForbidden" => InvalidKind::Forbidden,
                "FieldValueRequired" => InvalidKind::Required,
                "FieldValueDuplicate" => InvalidKind::Duplicate,
                _ => InvalidKind::Invalid,
            },
        }
    }

    fn named(&self) -> &str {
        if self.message.is_empty() { &self.text } else { &self.message }
    }
}

/// Adds the errors of a whole object's rules; what clients are told of values that no rule would take, but that were there before.
pub(super) fn validate(
    new: &Value,
    old: Option<&Value>,
    node: &Node,
    rules: &Rules,
    root: bool,
    errors: &mut Vec<Invalid>,
) -> Vec<String> {
    let mut run = Run { budget: MOST_COST, errors, told: Vec::new() };
    run.value(Pair { new, old, above: None }, node, rules, "", root);
    run.told
}

struct Run<'e> {
    budget: u64,
    errors: &'e mut Vec<Invalid>,
    told: Vec<String>,
}

/// A value and what it was before.
#[derive(Clone, Copy)]
struct Pair<'v> {
    new: &'v Value,
    old: Option<&'v Value>,
    /// Where nothing is known of the value before: the nearest around it of which something is.
    above: Option<(&'v Value, &'v Value)>,
}

impl<'v> Pair<'v> {
    fn below(self, new: &'v Value, old: Option<&'v Value>) -> Self {
        let above = self.old.map(|old| (self.new, old)).or(self.above);
        Self { new, old, above }
    }

    /// Nothing has changed here.
    fn is_same(self) -> bool {
        let pair = self.old.map(|old| (self.new, old)).or(self.above);
        pair.is_some_and(|(new, old)| structural::equal(old, new))
    }
}

impl Run<'_> {
    fn value(&mut self, pair: Pair<'_>, node: &Node, rules: &Rules, path: &str, root: bool) {
        let Pair { new, old, .. } = pair;
        if new.is_null() || self.budget == 0 {
            return;
        }
        if !rules.own.is_empty() {
            observed(Work::Evaluate, &mut || self.own(pair, node, rules, path, root));
        }
        match new {
            Value::Object(entries) => {
                for (key, value) in entries {
                    let (below, path) = match node.field(key) {
                        Some(below) if path.is_empty() => (Some(below).zip(rules.properties.get(key)), key.clone()),
                        Some(below) => (Some(below).zip(rules.properties.get(key)), format!("{path}.{key}")),
                        None => (node.entry().zip(rules.entry.as_deref()), format!("{path}[{key}]")),
                    };
                    if let Some((node, rules)) = below {
                        self.value(pair.below(value, old.and_then(|o| o.get(key))), node, rules, &path, false);
                    }
                }
            }
            Value::Array(items) => {
                let Some((below, rules)) = node.items.as_deref().zip(rules.items.as_deref()) else { return };
                for (index, item) in items.iter().enumerate() {
                    let was = old.and_then(Value::as_array).filter(|_| node.list == Some(ListType::Map));
                    let was = was.and_then(|olds| olds.iter().find(|o| structural::same_keys(o, item, node)));
                    self.value(pair.below(item, was), below, rules, &format!("{path}[{index}]"), false);
                }
            }
            _ => {}
        }
    }

    fn own(&mut self, pair: Pair<'_>, node: &Node, rules: &Rules, path: &str, root: bool) {
        let Pair { new, old, .. } = pair;
        let this = from_schema(new, node, root);
        let was = old.filter(|o| !o.is_null()).map(|old| from_schema(old, node, root));
        let same = std::cell::LazyCell::new(|| pair.is_same());
        for rule in &rules.own {
            let mut variables = std::collections::HashMap::from([("self".to_owned(), this.clone())]);
            match (&was, rule.optional_old) {
                (was, true) => {
                    let optional = was.clone().map_or(Cel::Optional(None), Cel::some);
                    variables.insert("oldSelf".into(), optional);
                }
                (Some(was), false) => drop(variables.insert("oldSelf".into(), was.clone())),
                // Nothing changed here.
                (None, false) if rule.transition => continue,
                (None, false) => {}
            }
            let place = if rule.field_path.is_empty() {
                path.to_owned()
            } else {
                field_path::join(path, &rule.field_path, node)
            };
            let kind = node.kind.map_or("", structural::Kind::name);
            match self.spend(|budget| match &rule.expr {
                Ok(expr) => evaluate(expr, &variables, budget),
                Err(why) => Err(Failure::Failed(why.clone())),
            }) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let detail = self.message(rule, &variables);
                    let shown = match new {
                        Value::Object(_) | Value::Array(_) => String::new(),
                        Value::String(text) => quoted(text),
                        new => new.to_string(),
                    };
                    let found = error(rule.reason, &place, shown, detail);
                    // What was wrong before may stay so.
                    match *same && !rule.transition {
                        true => self.told.push(found.to_string()),
                        false => self.errors.push(found),
                    }
                }
                Err(Failure::OverBudget) => {
                    let words = match self.budget {
                        0 => "validation failed due to running out of cost budget, no further validation rules will be run".to_owned(),
                        _ => format!("call cost exceeds limit for rule: {}", rule.named()),
                    };
                    self.errors.push(error(InvalidKind::Invalid, path, quoted(kind), words));
                    if self.budget == 0 {
                        return;
                    }
                }
                Err(Failure::Failed(why)) => {
                    let words = format!("{why} evaluating rule: {}", rule.named());
                    self.errors.push(error(InvalidKind::Invalid, path, quoted(kind), words));
                }
            }
        }
    }

    fn spend(&mut self, run: impl FnOnce(&mut Budget) -> Result<Cel, Failure>) -> Result<Cel, Failure> {
        let most = self.budget.min(MOST_COST_OF_CALL);
        let mut budget = Budget::new(most);
        let outcome = run(&mut budget);
        self.budget -= most - budget.left();
        outcome
    }

    fn message(&mut self, rule: &Rule, variables: &std::collections::HashMap<String, Cel>) -> String {
        if let Some(expr) = &rule.message_expression
            && let Ok(Cel::String(made)) = self.spend(|budget| evaluate(expr, variables, budget))
        {
            let made = made.trim();
            if !made.is_empty() && made.len() <= MOST_MESSAGE && !made.contains('\n') {
                return made.into();
            }
        }
        if rule.message.is_empty() { format!("failed rule: {}", rule.text) } else { rule.message.clone() }
    }
}

/// `shown`: the value as messages show it, if they do.
fn error(reason: InvalidKind, field: &str, shown: String, detail: String) -> Invalid {
    let value = match reason {
        InvalidKind::Forbidden | InvalidKind::Required => String::new(),
        _ => shown,
    };
    // A duplicate has no detail of its own in messages.
    let detail = if reason == InvalidKind::Duplicate { String::new() } else { detail };
    let field = if field.is_empty() { "<nil>" } else { field };
    Invalid { kind: reason, field: field.into(), value, detail, shown: false }
}
