//! JSON patch (RFC 6902), as lenient as upstream is: `replace` of a missing key sets it, negative indices count from the end.

use serde_json::Value;

use crate::{Reason, Status};

/// More operations than this are refused.
pub const MOST_OPERATIONS: usize = 10_000;
/// `copy` operations may add this many bytes in all.
const MOST_COPIED: usize = 3 * 1024 * 1024;

/// Operations nest no deeper than documents may.
const MOST_DEPTH: usize = 120;

/// Why a JSON patch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// It is no list of operations.
    #[error("{0}")]
    Malformed(String),
    /// It has too many operations.
    #[error("The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {0}")]
    TooLong(usize),
    /// An operation does not fit the object.
    #[error("{0}")]
    Failed(String),
    /// A `test` of the value at this path does not hold.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
}

impl From<JsonPatchError> for Status {
    fn from(error: JsonPatchError) -> Self {
        match &error {
            JsonPatchError::Malformed(why) => Status::bad_request(why),
            JsonPatchError::TooLong(_) => {
                Status::new(Reason::RequestEntityTooLarge, format!("Request entity is too large: {error}"))
            }
            // Upstream does not tell the client which operation failed.
            JsonPatchError::Failed(_) | JsonPatchError::TestFailed(_) => {
                Status::new(Reason::Invalid, "the server rejected our request due to an error in our request")
            }
        }
    }
}

type Result<T> = std::result::Result<T, JsonPatchError>;

fn failed<T>(why: impl Into<String>) -> Result<T> {
    Err(JsonPatchError::Failed(why.into()))
}

/// A patch is a list of objects, or nothing.
pub fn check(patch: &Value) -> Result<()> {
    let kind = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let malformed = |value: &Value, wanted: &str| {
        JsonPatchError::Malformed(format!("json: cannot unmarshal {} into Go value of type {wanted}", kind(value)))
    };
    if patch.is_null() {
        return Ok(());
    }
    let operations = patch.as_array().ok_or_else(|| malformed(patch, "jsonpatch.Patch"))?;
    match operations.iter().find(|o| !o.is_object() && !o.is_null()) {
        Some(odd) => Err(malformed(odd, "jsonpatch.Operation")),
        None => Ok(()),
    }
}

/// Applies the operations in order. `target` is left half changed when one fails.
pub fn apply(target: &mut Value, patch: &Value) -> Result<()> {
    check(patch)?;
    let operations = patch.as_array().map(Vec::as_slice).unwrap_or_default();
    if operations.len() > MOST_OPERATIONS {
        return Err(JsonPatchError::TooLong(operations.len()));
    }
    let mut copied = 0;
    for operation in operations {
        let path = |field: &str| operation[field].as_str().ok_or_else(|| missing(operation, field));
        let value = || operation.get("value").cloned().unwrap_or(Value::Null);
        match operation["op"].as_str().unwrap_or("unknown") {
            "add" => put(target, path("path")?, value(), "add")?,
            "remove" => drop(take(target, path("path")?, "remove")?),
            "replace" => replace(target, path("path")?, value())?,
            "move" => {
                let moved = take(target, path("from")?, "move")?;
                put(target, path("path")?, moved, "move")?;
            }
            "copy" => {
                let from = path("from")?;
                // A key that is missing is copied as nothing.
                let copy = read(target, from, "copy")?.cloned().unwrap_or(Value::Null);
                copied += copy.to_string().len();
                if copied > MOST_COPIED {
                    return failed(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MOST_COPIED}"
                    ));
                }
                put(target, path("path")?, copy, "copy")?;
            }
            "test" => {
                let path = path("path")?;
                let found = if path.is_empty() { Some(&*target) } else { read(target, path, "test")? };
                if found.unwrap_or(&Value::Null) != &value() {
                    return Err(JsonPatchError::TestFailed(path.into()));
                }
            }
            other => return failed(format!("Unexpected kind: {other}")),
        }
    }
    Ok(())
}

fn missing(operation: &Value, field: &str) -> JsonPatchError {
    let verb = operation["op"].as_str().unwrap_or("unknown");
    let why = if field == "from" { "operation, missing from field: " } else { "" };
    JsonPatchError::Failed(format!("{verb} operation failed to decode {field}: {why}missing value"))
}

/// The container that a path ends in, and the last step of the path.
fn find<'a>(target: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let step = |text: &str| text.replace("~1", "/").replace("~0", "~");
    let (before, last) = path.rsplit_once('/')?;
    let mut at = target;
    for part in before.split('/').skip(1) {
        at = match at {
            Value::Object(map) => map.get_mut(&step(part))?,
            Value::Array(items) => {
                let index = index(part, items.len()).ok()?;
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    (at.is_object() || at.is_array()).then(|| (at, step(last)))
}

/// An index into a list of `len` items; negative ones count from the end.
fn index(text: &str, len: usize) -> std::result::Result<usize, String> {
    let number: i64 = text.parse().map_err(|_| {
        format!("value was not a proper array index: '{text}': strconv.Atoi: parsing {text:?}: invalid syntax")
    })?;
    let signed = i64::try_from(len).unwrap_or(i64::MAX);
    let at = if number < 0 { number + signed } else { number };
    match usize::try_from(at) {
        Ok(at) if at < len => Ok(at),
        _ => Err(format!("Unable to access invalid index: {number}: invalid index referenced")),
    }
}

/// `what`: how upstream's words call the path that is missing.
fn container<'a>(target: &'a mut Value, path: &str, what: &str) -> Result<(&'a mut Value, String)> {
    match find(target, path) {
        Some(found) => Ok(found),
        None => failed(format!("{}: missing value", what.replace("{}", path))),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn put(target: &mut Value, path: &str, value: Value, verb: &str) -> Result<()> {
    check_depth(path, &value)?;
    let (place, key) = match verb {
        "add" => container(target, path, "add operation does not apply: doc is missing path: \"{}\"")?,
        _ => {
            container(target, path, &format!("{verb} operation does not apply: doc is missing destination path: {{}}"))?
        }
    };
    match place {
        Value::Object(map) => drop(map.insert(key, value)),
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => match index(&key, items.len() + 1) {
            Ok(at) => items.insert(at, value),
            Err(why) => {
                return failed(match verb {
                    "copy" => format!("error while adding value during copy: {why}"),
                    _ => format!("error in {verb} for path: '{path}': {why}"),
                });
            }
        },
        _ => return failed("unknown object type"),
    }
    Ok(())
}

fn take(target: &mut Value, path: &str, verb: &str) -> Result<Value> {
    let (place, key) = match verb {
        "remove" => container(target, path, "remove operation does not apply: doc is missing path: \"{}\"")?,
        _ => container(target, path, "move operation does not apply: doc is missing from path: {}")?,
    };
    let why = match place {
        Value::Object(map) => match map.remove(&key) {
            Some(value) => return Ok(value),
            None => format!("Unable to remove nonexistent key: {key}: missing value"),
        },
        Value::Array(items) => match index(&key, items.len()) {
            Ok(at) => return Ok(items.remove(at)),
            Err(why) => why,
        },
        _ => "unknown object type".into(),
    };
    let shown = if verb == "remove" { path } else { &key };
    failed(format!("error in {verb} for path: '{shown}': {why}"))
}

fn read<'a>(target: &'a mut Value, path: &str, verb: &str) -> Result<Option<&'a Value>> {
    let (place, key) = match verb {
        "test" => container(target, path, "test operation does not apply: is missing path: {}")?,
        _ => container(target, path, "copy operation does not apply: doc is missing from path: {}")?,
    };
    match place {
        Value::Object(map) => Ok(map.get(&key)),
        Value::Array(items) => match index(&key, items.len()) {
            Ok(at) => Ok(items.get(at)),
            Err(why) if verb == "copy" => failed(format!("error in copy for from: '{path}': {why}")),
            Err(why) => failed(format!("error in {verb} for path: '{path}': {why}")),
        },
        _ => Ok(None),
    }
}

fn check_depth(path: &str, value: &Value) -> Result<()> {
    if path.matches('/').count() + depth(value) > MOST_DEPTH { failed("exceeded max depth") } else { Ok(()) }
}

fn replace(target: &mut Value, path: &str, value: Value) -> Result<()> {
    check_depth(path, &value)?;
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return failed("replace operation value must be object or array");
        }
        *target = value;
        return Ok(());
    }
    let (place, key) = container(target, path, "replace operation does not apply: doc is missing path: {}")?;
    match place {
        Value::Object(map) => drop(map.insert(key, value)),
        Value::Array(items) => match index(&key, items.len()) {
            Ok(at) => items[at] = value,
            Err(_) => {
                return failed(format!("replace operation does not apply: doc is missing key: {path}: missing value"));
            }
        },
        _ => return failed("unknown object type"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(patch: Value, wanted: std::result::Result<Value, &str>) {
        let mut target = json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "n": null});
        let outcome = apply(&mut target, &patch);
        match wanted {
            Ok(wanted) => {
                outcome.unwrap_or_else(|e| panic!("{patch}: {e}"));
                assert_eq!(target, wanted, "{patch}");
            }
            Err(text) => assert!(outcome.clone().unwrap_err().to_string().contains(text), "{patch}: {outcome:?}"),
        }
    }

    #[test]
    fn operations() {
        let with = |list: Value| Ok(json!({"a": {"b": list}, "x/y": 1, "n": null}));
        check(json!([{"op": "add", "path": "/a/b/-", "value": 4}]), with(json!([1, 2, 3, 4])));
        check(json!([{"op": "add", "path": "/a/b/0", "value": 0}]), with(json!([0, 1, 2, 3])));
        check(json!([{"op": "add", "path": "/a/b/-1", "value": 4}]), with(json!([1, 2, 3, 4])));
        check(json!([{"op": "remove", "path": "/a/b/-1"}]), with(json!([1, 2])));
        check(json!([{"op": "replace", "path": "/a/b/1", "value": 9}]), with(json!([1, 9, 3])));
        check(
            json!([{"op": "test", "path": "/x~1y", "value": 1}, {"op": "test", "path": "/none"}]),
            with(json!([1, 2, 3])),
        );
        check(
            json!([{"op": "move", "from": "/a/b/0", "path": "/a/c"}]),
            Ok(json!({"a": {"b": [2, 3], "c": 1}, "x/y": 1, "n": null})),
        );
        check(
            json!([{"op": "copy", "from": "/a", "path": "/n"}]),
            Ok(json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "n": {"b": [1, 2, 3]}})),
        );
        check(
            json!([{"op": "replace", "path": "/new", "value": 1}]),
            Ok(json!({"a": {"b": [1, 2, 3]}, "x/y": 1, "n": null, "new": 1})),
        );
    }

    #[test]
    fn failures() {
        check(json!({}), Err("json: cannot unmarshal object into Go value of type jsonpatch.Patch"));
        check(json!([1]), Err("json: cannot unmarshal number into Go value of type jsonpatch.Operation"));
        check(json!([{"op": "test", "path": "/x~1y", "value": 2}]), Err("testing value /x~1y failed"));
        check(json!([{"op": "remove", "path": "/none"}]), Err("Unable to remove nonexistent key: none"));
        check(json!([{"op": "remove", "path": "/a/b/7"}]), Err("Unable to access invalid index: 7"));
        check(json!([{"op": "add", "path": "/a/q/r", "value": 2}]), Err("doc is missing path: \"/a/q/r\""));
        check(json!([{"op": "add", "path": "a", "value": 2}]), Err("doc is missing path"));
        check(json!([{"op": "add", "value": 2}]), Err("failed to decode path"));
        check(json!([{"op": "jump", "path": "/a"}]), Err("Unexpected kind: jump"));
        check(vec![json!({"op": "test", "path": "/none"}); 10_001].into(), Err("The allowed maximum operations"));
    }

    #[test]
    fn depth_and_copies_have_a_limit() {
        let path = |n: usize| "/a".repeat(n);
        let nested: Vec<Value> = (1..200).map(|n| json!({"op": "add", "path": path(n), "value": {}})).collect();
        check(nested.into(), Err("exceeded max depth"));
        let doubling = vec![json!({"op": "copy", "from": "/a/b", "path": "/a/b/-"}); 64];
        check(doubling.into(), Err("exceeding the limit"));
    }

    #[test]
    fn statuses() {
        let status = |error: JsonPatchError| Status::from(error).code;
        assert_eq!(status(JsonPatchError::Malformed("x".into())), 400);
        assert_eq!(status(JsonPatchError::TooLong(1)), 413);
        assert_eq!(status(JsonPatchError::Failed("x".into())), 422);
    }
}
