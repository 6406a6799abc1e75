//! Expressions of policies and match conditions are compiled when they are written, so that what cannot work is told at once.

use cel::{Environment, Type};
use object::Invalid;
use serde_json::Value;

use crate::tree::{list, text};

/// What every expression of admission sees.
fn environment(with_authorizer: bool) -> Environment {
    let mut all = Environment::from(["object", "oldObject", "request"].map(|name| (name.to_owned(), Type::Dyn)));
    if with_authorizer {
        let host = Type::Host("kubernetes.authorization.Authorizer");
        all.extend(["authorizer", "authorizer.requestResource"].map(|name| (name.to_owned(), host.clone())));
    }
    all
}

fn compile(
    source: &Value,
    at: &str,
    environment: &Environment,
    wanted: Option<Type>,
    errors: &mut Vec<Invalid>,
) -> Type {
    let text = text(source);
    if text.trim().is_empty() {
        errors.push(Invalid::required(at, ""));
        return Type::Dyn;
    }
    let checked = cel::parse(text).and_then(|expr| cel::check(&expr, text, environment));
    match checked {
        Err(why) => {
            errors.push(Invalid::invalid(at, source, format!("compilation failed: {why}")));
            Type::Dyn
        }
        Ok(found) => {
            if let Some(wanted) = wanted.filter(|wanted| found != *wanted && found != Type::Dyn) {
                let detail = format!("must evaluate to {wanted}");
                errors.push(Invalid::invalid(at, source, detail));
            }
            found
        }
    }
}

/// Adds the errors of `matchConditions` at `path`.
pub(super) fn conditions(declared: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let environment = environment(true);
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in list(declared).iter().enumerate() {
        let at = |field: &str| format!("{path}[{index}].{field}");
        let name = text(&condition["name"]);
        if name.is_empty() {
            errors.push(Invalid::required(&at("name"), ""));
        } else if seen.contains(&name) {
            errors.push(Invalid::duplicate(&at("name"), &name.into()));
        }
        seen.push(name);
        compile(&condition["expression"], &at("expression"), &environment, Some(Type::Bool), errors);
    }
}

/// Adds the errors of a policy's expressions.
pub(super) fn policy(new: &Value, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    conditions(&spec["matchConditions"], "spec.matchConditions", errors);
    let mut all = environment(true);
    all.insert("namespaceObject".into(), Type::Dyn);
    if spec["paramKind"].is_object() {
        all.insert("params".into(), Type::Dyn);
    }
    // A variable sees those before it.
    all.insert("variables".into(), Type::Object(Default::default()));
    for (index, variable) in list(&spec["variables"]).iter().enumerate() {
        let at = format!("spec.variables[{index}].expression");
        let found = compile(&variable["expression"], &at, &all, None, errors);
        all.insert(format!("variables.{}", text(&variable["name"])), found);
    }
    for (index, rule) in list(&spec["validations"]).iter().enumerate() {
        let at = |field: &str| format!("spec.validations[{index}].{field}");
        compile(&rule["expression"], &at("expression"), &all, Some(Type::Bool), errors);
        if rule["messageExpression"].is_string() {
            compile(&rule["messageExpression"], &at("messageExpression"), &all, Some(Type::String), errors);
        }
    }
    for (index, mutation) in list(&spec["mutations"]).iter().enumerate() {
        let field = if mutation["patchType"] == "JSONPatch" { "jsonPatch" } else { "applyConfiguration" };
        let at = format!("spec.mutations[{index}].{field}.expression");
        compile(&mutation[field]["expression"], &at, &all, None, errors);
    }
}
