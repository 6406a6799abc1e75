//! What a mutating policy's expression does to the object: an apply configuration merged into it, or a JSON patch.

mod typed;

use cel::{Value as Cel, to_json};
use kinds::Kind;
use object::patch::json::JsonPatchError;
use object::patch::{self, ApplyError, FieldSet};
use serde_json::Value;

use super::Rule;
use super::evaluation::Evaluation;

/// Why there is no mutation.
pub(super) enum Failed {
    /// The policy's failure policy says what that means.
    Policy(String),
    /// It is the server's.
    Server(String),
}

/// The object after the mutation; `kind` is the version that it is in.
pub(super) fn apply(kind: &Kind, rule: &Rule, evaluation: &Evaluation<'_>, object: &Value) -> Result<Value, Failed> {
    let expr = rule.expr.as_ref().map_err(|why| Failed::Policy(why.clone()))?;
    let made = evaluation.value(expr);
    let made = made.map_err(|e| Failed::Policy(format!("expression '{}' resulted in error: {e}", rule.text)))?;
    let is_patch = rule.declared["patchType"] == "JSONPatch";
    let mut changed = match is_patch {
        true => match patched(&made, object).map_err(Failed::Policy)? {
            Some(changed) => changed,
            None => return Ok(object.clone()),
        },
        false => merged(kind, &made, object).map_err(Failed::Policy)?,
    };
    let mut problems = Vec::new();
    changed = kind.decode(changed, &mut problems).map_err(|e| match is_patch {
        true => Failed::Server(e.to_string()),
        false => Failed::Policy(unconverted(kind, &e.to_string())),
    })?;
    if is_patch && !problems.is_empty() {
        return Err(Failed::Server(schema::strict_error(&problems)));
    }
    changed["apiVersion"] = kind.api_version().into();
    changed["kind"] = kind.kind.as_str().into();
    kind.default(&mut changed);
    Ok(changed)
}

/// The object after the patch; `None` where a test in it fails, which means that there is nothing to do.
fn patched(made: &Cel, object: &Value) -> Result<Option<Value>, String> {
    let mut steps = to_json(made).ok_or("JSONPatch expression must evaluate to array of JSONPatch values")?;
    // Steps are structures: what they do not say is empty.
    for step in steps.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        step.entry("path").or_insert_with(|| "".into());
    }
    let mut changed = object.clone();
    match patch::json::apply(&mut changed, &steps) {
        Ok(()) => Ok(Some(changed)),
        Err(JsonPatchError::TestFailed(_)) => Ok(None),
        Err(error) => Err(format!("JSON Patch: {error}")),
    }
}

/// Why the merged object cannot be read, in upstream's words.
fn unconverted(kind: &Kind, why: &str) -> String {
    let why = match why.strip_prefix("json: cannot unmarshal number ").and_then(|rest| rest.split_once(' ')) {
        Some((number, rest)) if number.contains('.') => {
            format!("cannot convert float64 to {}", rest.rsplit(' ').next().unwrap_or_default())
        }
        _ => why.to_owned(),
    };
    format!("unable to convert unstructured object to {}, Kind={}: {why}", kind.api_version(), kind.kind)
}

fn merged(kind: &Kind, made: &Cel, object: &Value) -> Result<Value, String> {
    typed::names(made)?;
    let refused = |why: String| format!("error applying patch: {why}");
    let untyped = |why: String| refused(format!("failed to convert patch object to typed object: {why}"));
    typed::values(made, kind.place(), "").map_err(untyped)?;
    let mut config = to_json(made).filter(Value::is_object).ok_or("must evaluate to object")?;
    for field in ["apiVersion", "kind"] {
        config[field] = object[field].clone();
    }
    if config["metadata"].is_null() {
        config["metadata"] = serde_json::json!({});
    }
    // An apply says whom it is about; a policy need not.
    if config["metadata"].is_object() && !config["metadata"]["name"].is_string() {
        config["metadata"]["name"] = object["metadata"]["name"].clone();
    }
    // Nobody owns what a policy does: the merge is that of an apply, its book-keeping is not wanted.
    let mut live = object.clone();
    let managed = live["metadata"].as_object_mut().and_then(|m| m.remove("managedFields"));
    let (version, time, ignored) = (kind.api_version(), base::time::now(), FieldSet::default());
    let write = patch::Write {
        manager: "admission-policy",
        api_version: &version,
        subresource: "",
        time: &time,
        ignored: &ignored,
    };
    let applied = patch::apply(kind.place(), Some(&live), &config, &write, true, &patch::one_version);
    let mut merged = applied.map_err(|error| match error {
        ApplyError::Misfit { source, .. } => untyped(source.to_string()),
        other => refused(object::Status::from(other).message),
    })?;
    typed::atomics(&config, kind.place()).map_err(refused)?;
    typed::whole(&mut merged);
    if let Some(metadata) = merged["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        metadata.extend(managed.map(|m| ("managedFields".to_owned(), m)));
    }
    Ok(merged)
}
