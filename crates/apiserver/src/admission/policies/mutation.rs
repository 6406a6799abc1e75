//! What a mutating policy's expression does to the object: an apply configuration merged into it, or a JSON patch.

use cel::{Value as Cel, to_json};
use object::patch::{self, FieldSet};
use serde_json::Value;

use super::Rule;
use super::evaluation::Evaluation;
use crate::admission::attributes::Attributes;

/// The object after the mutation.
pub(super) fn apply(
    at: &Attributes<'_>,
    rule: &Rule,
    evaluation: &Evaluation<'_>,
    object: &Value,
) -> Result<Value, String> {
    let expr = rule.expr.as_ref().map_err(Clone::clone)?;
    let made = evaluation.value(expr).map_err(|e| format!("expression '{}' resulted in error: {e}", rule.text))?;
    let mut changed = match rule.declared["patchType"].as_str() {
        Some("JSONPatch") => patched(&made, object)?,
        _ => merged(at, &made, object)?,
    };
    let mut problems = Vec::new();
    changed = at.kind.decode(changed, &mut problems).map_err(|e| e.to_string())?;
    changed["apiVersion"] = at.kind.api_version().into();
    changed["kind"] = at.kind.kind.as_str().into();
    at.kind.default(&mut changed);
    Ok(changed)
}

fn patched(made: &Cel, object: &Value) -> Result<Value, String> {
    let json = to_json(made).ok_or("JSONPatch expression must evaluate to array of JSONPatch values")?;
    let mut changed = object.clone();
    patch::json::apply(&mut changed, &json).map_err(|e| e.to_string())?;
    Ok(changed)
}

fn merged(at: &Attributes<'_>, made: &Cel, object: &Value) -> Result<Value, String> {
    let mut config = to_json(made).filter(Value::is_object).ok_or("must evaluate to object")?;
    for field in ["apiVersion", "kind"] {
        if !config[field].is_string() {
            config[field] = object[field].clone();
        }
    }
    config["metadata"]["name"] = object["metadata"]["name"].clone();
    // Nobody owns what a policy does: the merge is that of an apply, its book-keeping is not wanted.
    let mut live = object.clone();
    let managed = live["metadata"].as_object_mut().and_then(|m| m.remove("managedFields"));
    let (version, time, ignored) = (at.kind.api_version(), base::time::now(), FieldSet::default());
    let write = patch::Write {
        manager: "admission-policy",
        api_version: &version,
        subresource: "",
        time: &time,
        ignored: &ignored,
    };
    let mut merged = patch::apply(at.kind.place(), Some(&live), &config, &write, true)
        .map_err(|e| object::Status::from(e).message)?;
    if let Some(metadata) = merged["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        metadata.extend(managed.map(|m| ("managedFields".to_owned(), m)));
    }
    Ok(merged)
}
