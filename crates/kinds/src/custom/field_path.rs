//! `fieldPath` of rules: `.spec.a`, `['x']['y.z']`.

use object::JsonPath;
use schema::structural::{Kind, Node};

fn keys(path: &str) -> Option<Vec<String>> {
    let parsed = JsonPath::parse(path).ok()?;
    Some(parsed.keys()?.into_iter().map(Into::into).collect())
}

/// Why the path does not lead from the schema to a field.
pub(super) fn check(path: &str, node: &Node) -> Result<(), String> {
    if path.is_empty() {
        return Err("fieldPath must be non-empty if specified".into());
    }
    if path.contains('\n') {
        return Err("fieldPath must not contain line breaks".into());
    }
    let keys = keys(path).filter(|k| !k.is_empty()).ok_or_else(|| format!("invalid path {path:?}"))?;
    let mut at = node;
    for key in keys {
        let next = at.properties.get(&key).or(at.entry().filter(|_| at.kind == Some(Kind::Object)));
        at = next.ok_or("does not refer to a valid field")?;
    }
    Ok(())
}

/// The path below another.
pub(super) fn join(base: &str, path: &str) -> String {
    keys(path).unwrap_or_default().into_iter().fold(base.to_owned(), |whole, key| match whole.as_str() {
        "" => key,
        whole => format!("{whole}.{key}"),
    })
}
