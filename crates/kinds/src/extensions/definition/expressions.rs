//! Rules in CEL of a schema: whether they compile, and whether what they may cost is within upstream's limits.

use cel::{Environment, Type};
use object::Invalid;
use schema::structural::Node;
use serde_json::{Value, json};

use crate::custom::field_path;
use crate::custom::observed::{Work, observed};
use crate::tree::text;

/// What one expression, and all of a schema, may cost.
const MOST_COST: u64 = 10_000_000;
const MOST_TOTAL_COST: u64 = 100_000_000;
/// Of what makes the total too large so many are named, if they contribute a hundredth.
const NAMED: usize = 4;
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Where the rules are.
#[derive(Clone)]
pub(super) struct Place {
    /// Of a whole object.
    pub(super) root: bool,
    /// How many such values an object may have, if that is limited.
    pub(super) cardinality: Option<u64>,
    /// Where it is forgotten what a value was before.
    pub(super) uncorrelated: Option<String>,
    /// Rules may be here.
    pub(super) rules: bool,
}

/// What was found of all rules of a schema.
#[derive(Default)]
pub(super) struct Rules {
    errors: Vec<Invalid>,
    total: u64,
    expensive: Vec<(String, u64)>,
}

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// Adds what is wrong with rules before anybody looks at the expressions.
pub(super) fn declared(declared: &[Value], schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (index, rule) in declared.iter().enumerate() {
        let at = |field: &str| format!("{path}.x-kubernetes-validations[{index}].{field}");
        let (source, message) = (text(&rule["rule"]).trim(), text(&rule["message"]));
        if source.is_empty() {
            errors.push(Invalid::required(&at("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.push(Invalid::invalid(&at("message"), &rule["message"], "must be non-empty if specified"));
        } else if has_newlines(message.trim()) {
            errors.push(Invalid::invalid(&at("message"), &rule["message"], "must not contain line breaks"));
        } else if has_newlines(source) && message.trim().is_empty() {
            errors.push(Invalid::required(&at("message"), "message must be specified if rule contains line breaks"));
        }
        let expression = text(&rule["messageExpression"]);
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Invalid::required(&at("messageExpression"), why));
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.push(Invalid::not_supported(&at("reason"), &reason.into(), &REASONS));
        }
        let field = text(&rule["fieldPath"]);
        if !field.is_empty() {
            let mut wrong = |why: &str| errors.push(Invalid::invalid(&at("fieldPath"), &field.into(), why));
            if field.trim().is_empty() {
                wrong("must be non-empty if specified");
            }
            if has_newlines(field) {
                wrong("must not contain line breaks");
            }
            if field_path::follow(field, &Node::parse(schema), true).is_err() {
                wrong("must be a valid path");
            }
        }
    }
}

/// The rule as upstream's messages show it.
fn shown(rule: &Value) -> Value {
    // Its fields stand in the order of their declaration.
    let field = |name: &str| json!(text(&rule[name])).to_string();
    let pointer = |name: &str| rule[name].to_string();
    let whole = format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        field("rule"),
        field("message"),
        field("messageExpression"),
        pointer("reason"),
        field("fieldPath"),
        pointer("optionalOldSelf")
    );
    Value::String(whole)
}

fn invalid(field: &str, rule: &Value, why: String) -> Invalid {
    let mut error = Invalid::invalid(field, &Value::Null, why);
    error.value = text(&shown(rule)).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    error
}

/// How far over a limit a cost is.
fn excess(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

impl Rules {
    /// Looks at the rules of a schema.
    pub(super) fn check(&mut self, declared: &[Value], schema: &Value, path: &str, place: &Place) {
        if !declared.is_empty() {
            observed(Work::Compile, &mut || self.compile(declared, schema, path, place));
        }
    }

    fn compile(&mut self, declared: &[Value], schema: &Value, path: &str, place: &Place) {
        let node = Node::parse(schema);
        let Some(sizes) = cel::sizes_of(&node, place.root) else {
            let at = format!("{path}.x-kubernetes-validations");
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";
            self.errors.push(Invalid::internal(&at, why));
            return;
        };
        let this = cel::type_of(&node, place.root);
        for (index, rule) in declared.iter().enumerate() {
            let at = |field: &str| format!("{path}.x-kubernetes-validations[{index}].{field}");
            let old =
                if rule["optionalOldSelf"] == true { Type::Optional(Box::new(this.clone())) } else { this.clone() };
            let environment = Environment::from([("self".to_owned(), this.clone()), ("oldSelf".to_owned(), old)]);
            let compiled =
                compiled(text(&rule["rule"]), &environment, &sizes).map_err(|why| format!("compilation failed: {why}"));
            let compiled = compiled.and_then(|done| match (&done.found, &done.certain) {
                (Type::Bool, None) => Ok(done),
                (Type::Bool, Some(why)) => Err(format!("program instantiation failed: {why}")),
                _ => Err("cel expression must evaluate to a bool".to_owned()),
            });
            let cost = compiled.as_ref().map_or(0, |done| done.cost);
            let cost = cost.saturating_mul(place.cardinality.unwrap_or_else(|| sizes.most_in_a_request()));
            self.spend(&at("rule"), "estimated rule cost", cost);
            let uses_old = match compiled {
                Ok(done) => {
                    self.message(rule, &at("messageExpression"), &environment, &sizes);
                    done.uses_old
                }
                Err(why) => {
                    self.errors.push(invalid(&at("rule"), rule, why));
                    false
                }
            };
            if let Some(forgotten) = place.uncorrelated.as_ref().filter(|_| uses_old) {
                let why =
                    format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {forgotten}");
                self.errors.push(Invalid::invalid(&at("rule"), &text(&rule["rule"]).into(), why));
            }
            if !uses_old && rule["optionalOldSelf"].is_boolean() {
                let why = "may not be set if oldSelf is not used in rule";
                self.errors.push(Invalid::invalid(&at("optionalOldSelf"), &rule["optionalOldSelf"], why));
            }
        }
    }

    fn message(&mut self, rule: &Value, at: &str, environment: &Environment, sizes: &cel::Sizes) {
        let source = text(&rule["messageExpression"]);
        if source.is_empty() {
            return;
        }
        match compiled(source, environment, sizes) {
            Err(why) => {
                self.errors.push(invalid(at, rule, format!("messageExpression compilation failed: {why}")));
            }
            Ok(done) if done.found != Type::String => {
                self.errors.push(invalid(at, rule, "messageExpression must evaluate to a string".into()));
            }
            Ok(done) => match done.certain {
                Some(why) => {
                    let why = format!("messageExpression instantiation failed: {why}");
                    self.errors.push(invalid(at, rule, why));
                }
                None => self.spend(at, "estimated messageExpression cost", done.cost),
            },
        }
    }

    fn spend(&mut self, at: &str, what: &str, cost: u64) {
        if cost > MOST_COST {
            self.errors.push(Invalid::forbidden(at, excess(what, cost, MOST_COST)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= MOST_TOTAL_COST / 100 {
            self.expensive.push((at.to_owned(), cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(NAMED);
        }
    }

    /// Adds what was found, and whether all together is too much.
    pub(super) fn finish(self, path: &str, errors: &mut Vec<Invalid>) {
        errors.extend(self.errors);
        if self.total <= MOST_TOTAL_COST {
            return;
        }
        for (at, _) in &self.expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(Invalid::forbidden(at, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(Invalid::forbidden(path, excess(what, self.total, MOST_TOTAL_COST)));
    }
}

struct Compiled {
    found: Type,
    cost: u64,
    uses_old: bool,
    /// Why it fails whatever it is given.
    certain: Option<cel::Failure>,
}

fn compiled(source: &str, environment: &Environment, sizes: &cel::Sizes) -> Result<Compiled, String> {
    let expr = cel::parse(source).map_err(|e| e.to_string())?;
    let (found, types) = cel::check_typed(&expr, source, environment).map_err(|e| e.to_string())?;
    let cost = cel::most_cost(&expr, &types, sizes);
    Ok(Compiled { found, cost, uses_old: expr.uses("oldSelf"), certain: cel::instantiate(&expr).err() })
}
