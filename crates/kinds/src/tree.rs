//! Small steps through a JSON tree that rooms share: reading lists and texts, setting what is absent.

use serde_json::{Map, Value};

/// The items of a list; none for anything else.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A text; empty for anything else.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// The entries of a map; none for anything else.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Sets `object[key]` when it is absent or null. Nothing happens to what is no map.
pub(crate) fn set(object: &mut Value, key: &str, value: impl Into<Value>) {
    let Some(map) = object.as_object_mut() else { return };
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.into(), value.into());
    }
}

/// Sets a text that is absent or empty.
pub(crate) fn set_text(object: &mut Value, key: &str, value: &str) {
    let Some(map) = object.as_object_mut() else { return };
    if map.get(key).is_none_or(|v| v.is_null() || v == "") {
        map.insert(key.into(), value.into());
    }
}

/// The map at a dotted path, if there is one. Nothing is made on the way.
pub(crate) fn child<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |v, key| v.get_mut(key)).filter(|v| v.is_object())
}

/// The map at `key`, made when it is absent. `None` when `object` is no map.
pub(crate) fn made<'a>(object: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let entry = object.as_object_mut()?.entry(key).or_insert(Value::Null);
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    Some(entry)
}

/// Does something to every item of the list at a dotted path, if there is one.
pub(crate) fn each(value: &mut Value, path: &str, mut act: impl FnMut(&mut Value)) {
    let found = path.split('.').try_fold(value, |v, key| v.get_mut(key));
    for item in found.and_then(Value::as_array_mut).into_iter().flatten() {
        act(item);
    }
}

/// Takes `object[key]` away.
pub(crate) fn remove(object: &mut Value, key: &str) -> Option<Value> {
    object.as_object_mut().and_then(|o| o.remove(key))
}
