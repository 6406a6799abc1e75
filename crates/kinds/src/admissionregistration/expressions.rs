//! Expressions of policies and match conditions are compiled when they are written, so that what cannot work is told at once.

use std::sync::Arc;

use cel::{Environment, Type};
use object::{Invalid, quoted};
use serde_json::Value;

use crate::names;
use crate::spot::Spot;
use crate::tree::{list, text};

const MOST_CONDITIONS: usize = 64;
const MOST_ANNOTATIONS: usize = 20;

/// What every expression of admission sees.
fn environment(with_authorizer: bool) -> Environment {
    let mut all = Environment::from(["object", "oldObject"].map(|name| (name.to_owned(), Type::Dyn)));
    all.insert("request".into(), request());
    all.insert("namespaceObject".into(), namespace());
    if with_authorizer {
        let host = Type::Host("kubernetes.authorization.Authorizer");
        all.extend(["authorizer", "authorizer.requestResource"].map(|name| (name.to_owned(), host.clone())));
    }
    all
}

fn structure(fields: &[(&str, Type)]) -> Type {
    let fields = fields.iter().map(|(name, of)| ((*name).to_owned(), of.clone()));
    Type::Object(Arc::new(fields.collect()))
}

/// A Namespace, as far as expressions see it.
fn namespace() -> Type {
    let without = |of: Type, hidden: &[&str]| match of {
        Type::Object(fields) => {
            let seen = fields.iter().filter(|(name, _)| !hidden.contains(&name.as_str()));
            Type::Object(Arc::new(seen.map(|(name, of)| (name.clone(), of.clone())).collect()))
        }
        other => other,
    };
    let whole = cel::type_named(schema::table(), "io.k8s.api.core.v1.Namespace");
    let metadata = cel::type_named(schema::table(), "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let metadata = without(metadata, &["uid", "managedFields", "ownerReferences", "selfLink"]);
    cel::with_field(without(whole, &["apiVersion", "kind"]), "metadata", metadata)
}

/// The request, as admission reviews show it but for its objects.
fn request() -> Type {
    let list = || Type::List(Box::new(Type::String));
    let name = |last| structure(&[("group", Type::String), ("version", Type::String), (last, Type::String)]);
    let user = structure(&[
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", list()),
        ("extra", Type::Map(Box::new(Type::String), Box::new(list()))),
    ]);
    structure(&[
        ("kind", name("kind")),
        ("resource", name("resource")),
        ("subResource", Type::String),
        ("requestKind", name("kind")),
        ("requestResource", name("resource")),
        ("requestSubResource", Type::String),
        ("name", Type::String),
        ("namespace", Type::String),
        ("operation", Type::String),
        ("userInfo", user),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ])
}

/// A type as messages about results have it.
fn shown(found: &Type) -> String {
    if *found == Type::Null { "null_type".into() } else { found.to_string() }
}

fn compile(
    source: &Value,
    at: &str,
    environment: &Environment,
    wanted: Option<Type>,
    missing: &str,
    errors: &mut Vec<Invalid>,
) -> Type {
    let text = text(source);
    if text.trim().is_empty() {
        errors.push(Invalid::required(at, missing));
        return Type::Dyn;
    }
    let checked = cel::parse(text).and_then(|expr| Ok((cel::check(&expr, text, environment)?, expr)));
    match checked {
        Err(why) => {
            errors.push(Invalid::invalid(at, source, format!("compilation failed: {why}")));
            Type::Dyn
        }
        Ok((found, expr)) => {
            if let Some(wanted) = wanted.filter(|wanted| found != *wanted) {
                let detail = format!("must evaluate to {wanted} but got {}", shown(&found));
                errors.push(Invalid::invalid(at, source, detail));
            } else if let Err(why) = cel::instantiate(&expr) {
                errors.push(Invalid::internal(at, format!("program instantiation failed: {why}")));
            }
            found
        }
    }
}

/// Adds the errors of `matchConditions` at `path`.
pub(super) fn conditions(declared: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let environment = environment(true);
    let mut seen: Vec<&str> = Vec::new();
    if list(declared).len() > MOST_CONDITIONS {
        errors.push(Invalid::too_many(path, list(declared).len(), MOST_CONDITIONS));
    }
    for (index, condition) in list(declared).iter().enumerate() {
        let at = |field: &str| format!("{path}[{index}].{field}");
        // As upstream: without the space around it.
        let source = Value::from(text(&condition["expression"]).trim());
        compile(&source, &at("expression"), &environment, Some(Type::Bool), "", errors);
        let name = text(&condition["name"]);
        if name.is_empty() {
            errors.push(Invalid::required(&at("name"), ""));
            continue;
        }
        for why in names::qualified(name) {
            errors.push(Invalid::invalid(&at("name"), &name.into(), why));
        }
        match seen.contains(&name) {
            true => errors.push(Invalid::duplicate(&at("name"), &name.into())),
            false => seen.push(name),
        }
    }
}

/// Adds the errors of a policy's expressions.
pub(super) fn policy(new: &Value, errors: &mut Vec<Invalid>) {
    let spec = Spot::new(&new["spec"], "spec");
    conditions(spec.at("matchConditions").value, "spec.matchConditions", errors);
    let mut all = environment(true);
    if spec.at("paramKind").is_set() {
        all.insert("params".into(), Type::Dyn);
    }
    // A variable sees those before it.
    if spec.at("variables").len() > 0 {
        all.insert("variables".into(), Type::Object(Default::default()));
    }
    for variable in spec.list("variables") {
        let (name, source) = (variable.at("name"), variable.at("expression"));
        if name.text().trim().is_empty() {
            name.missing("name is not specified", errors);
        } else if !is_identifier(name.text()) {
            name.fail("must be a valid CEL identifier", errors);
        }
        let found = compile(source.value, &source.path(), &all, None, "expression is not specified", errors);
        // What is none of CEL's own types is looked at when there is a value.
        let found = if matches!(found, Type::Host(_) | Type::Object(_)) { Type::Dyn } else { found };
        all.insert(format!("variables.{}", name.text()), found);
    }
    match new["kind"] == "MutatingAdmissionPolicy" {
        true => {
            // Only what changes an object makes configurations and patches.
            all.insert("Object{}".into(), cel::CONFIGURATION);
            all.insert("JSONPatch{}".into(), cel::JSON_PATCH);
            mutations(&spec, &all, errors);
        }
        false => validations(new, &spec, &all, errors),
    }
}

fn is_identifier(name: &str) -> bool {
    let reserved = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    let good = |(index, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (index > 0 && b.is_ascii_digit());
    name.bytes().enumerate().all(good) && !reserved.contains(&name)
}

fn mutations(spec: &Spot, all: &Environment, errors: &mut Vec<Invalid>) {
    if spec.at("mutations").len() == 0 {
        spec.at("mutations").missing("mutations must contain at least one item", errors);
    }
    for mutation in spec.list("mutations") {
        let kind = mutation.at("patchType");
        let (used, other) = match kind.text() {
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            _ => {
                kind.must_be_one_of(&["ApplyConfiguration", "JSONPatch"], errors);
                continue;
            }
        };
        let (used, unused) = (mutation.at(used), mutation.at(other));
        match used.is_set() {
            false => used.missing(format!("must be specified when patchType is {}", kind.text()), errors),
            true => {
                let source = used.at("expression");
                let trimmed = Value::from(source.text().trim());
                let before = errors.len();
                let found = compile(&trimmed, &source.path(), all, None, "", errors);
                let wanted = match kind.text() {
                    "JSONPatch" => Type::List(Box::new(cel::JSON_PATCH)),
                    _ => cel::CONFIGURATION,
                };
                // What does not compile has been told.
                if errors.len() == before && found != wanted {
                    source.fail(format!("must evaluate to {wanted} but got {}", shown(&found)), errors);
                }
            }
        }
        if unused.is_set() {
            let why = format!("must not be specified when patchType is {}", kind.text());
            unused.fail_as(format!("{{{other}}}"), why, errors);
        }
    }
}

fn validations(new: &Value, spec: &Spot, all: &Environment, errors: &mut Vec<Invalid>) {
    let (rules, annotations) = (spec.at("validations"), spec.at("auditAnnotations"));
    if rules.len() == 0 && annotations.len() == 0 {
        for list in [&rules, &annotations] {
            list.missing("validations or auditAnnotations must contain at least one item", errors);
        }
        return;
    }
    // Messages are made without the authorizer.
    let mut told_by = all.clone();
    told_by.retain(|name, _| !name.starts_with("authorizer"));
    for rule in spec.list("validations") {
        let [source, told, message] = ["expression", "messageExpression", "message"].map(|field| rule.at(field));
        compile(source.value, &source.path(), all, Some(Type::Bool), "expression is not specified", errors);
        if !told.text().is_empty() {
            match told.text().trim().is_empty() {
                true => told.fail("must be non-empty if specified", errors),
                false => drop(compile(told.value, &told.path(), &told_by, Some(Type::String), "", errors)),
            }
        }
        if !message.text().is_empty() && message.text().trim().is_empty() {
            message.fail("must be non-empty if specified", errors);
        } else if message.text().trim().contains(['\n', '\r']) {
            message.fail("must not contain line breaks", errors);
        }
        rule.at("reason").one_of(&["Forbidden", "Invalid", "RequestEntityTooLarge"], errors);
    }
    if annotations.len() > MOST_ANNOTATIONS {
        annotations.fail(format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations"), errors);
    }
    let (policy, mut seen) = (text(&new["metadata"]["name"]), Vec::new());
    for annotation in spec.list("auditAnnotations") {
        let (key, source) = (annotation.at("key"), annotation.at("valueExpression"));
        let whole = format!("{policy}/{}", key.text());
        for why in names::qualified(&whole) {
            let why = match policy {
                "" if why.starts_with("prefix part") => "requires metadata.name be non-empty".into(),
                _ => why.replace("no more than 253 characters", "no more than 253 bytes"),
            };
            key.fail_as(if policy.is_empty() { key.text() } else { &whole }, why, errors);
        }
        let trimmed = Value::from(source.text().trim());
        let before = errors.len();
        let found = compile(&trimmed, &source.path(), all, None, "valueExpression is not specified", errors);
        // What is compiled is trimmed, what is shown is not.
        errors[before..].iter_mut().filter(|e| !e.value.is_empty()).for_each(|e| e.value = quoted(source.text()));
        if errors.len() == before && !matches!(found, Type::String | Type::Null) {
            source.fail(format!("must evaluate to one of [string null_type] but got {}", shown(&found)), errors);
        }
        match seen.contains(&key.text()) {
            true => key.duplicate(errors),
            false => seen.push(key.text()),
        }
    }
}
