//! Strategic merge patch: lists merge by key where the type says so, and directives say the rest.
//!
//! Directives: `$patch: replace|delete`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
//! See the Kubernetes API conventions, "Strategic Merge Patch".

use serde_json::{Map, Value};

use super::shape::MergeInfo;
use crate::{Reason, Status};

mod order;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// A patch that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    /// A directive or the patch itself has the wrong form.
    #[error("{0}")]
    Malformed(&'static str),
    /// The patch does not fit the object.
    #[error("{0}")]
    Unfit(String),
}

impl From<StrategicError> for Status {
    fn from(error: StrategicError) -> Self {
        match error {
            StrategicError::Malformed(why) => Status::bad_request(why),
            StrategicError::Unfit(why) => {
                let mut status = Status::new(Reason::InternalError, why);
                status.reason = None; // as upstream: code 500, no reason
                status
            }
        }
    }
}

type Result<T> = std::result::Result<T, StrategicError>;

fn unfit<T>(why: impl Into<String>) -> Result<T> {
    Err(StrategicError::Unfit(why.into()))
}

/// Applies `patch` to `target`, which stands at `place`.
pub fn merge<T: MergeInfo>(place: T, target: &mut Value, patch: &Value) -> Result<()> {
    let Value::Object(patch) = patch else { return Err(StrategicError::Malformed("invalid JSON document")) };
    let Value::Object(object) = target else { return Err(StrategicError::Malformed("invalid JSON document")) };
    merge_map(Some(place), object, patch)
}

fn merge_map<T: MergeInfo>(
    place: Option<T>,
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<()> {
    match patch.get(PATCH) {
        None => {}
        Some(directive) if directive == "replace" => {
            *target = patch.iter().filter(|(k, _)| *k != PATCH).map(|(k, v)| (k.clone(), v.clone())).collect();
            return Ok(());
        }
        Some(directive) if directive == "delete" => {
            target.clear();
            return Ok(());
        }
        Some(other) => return unfit(format!("unknown patch type: {} in map: {}", go(other), go_map(patch))),
    }
    if let Some(retained) = patch.get(RETAIN_KEYS) {
        retain(target, patch, retained)?;
    }
    let mut ordered: Vec<&str> = Vec::new();
    for (key, wanted) in patch {
        if let Some(list) = key.strip_prefix(ELEMENT_ORDER) {
            ordered.push(list);
            order::apply(place.and_then(|p| p.field(list)), list, wanted, target, patch.get(list))?;
        }
    }
    for (key, value) in patch {
        if key == RETAIN_KEYS || key.starts_with(ELEMENT_ORDER) || ordered.contains(&key.as_str()) {
            continue;
        }
        if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
            let Value::Array(gone) = value else {
                return Err(StrategicError::Malformed("invalid patch format of primitive list"));
            };
            if let Some(Value::Array(items)) = target.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        merge_entry(place, target, key, value)?;
    }
    Ok(())
}

fn merge_entry<T: MergeInfo>(
    place: Option<T>,
    target: &mut Map<String, Value>,
    key: &str,
    patch: &Value,
) -> Result<()> {
    let below = place.and_then(|p| p.field(key));
    match (target.get_mut(key), patch) {
        (_, Value::Null) => drop(target.remove(key)),
        (Some(Value::Object(object)), Value::Object(patch)) => {
            if below.is_some_and(|b| b.strategy().replace) {
                *object = patch.clone();
            } else {
                merge_map(below, object, patch)?;
            }
        }
        (Some(Value::Array(items)), Value::Array(patch)) => {
            *items = merge_list(below, key, std::mem::take(items), patch)?
        }
        _ => match plain(patch) {
            Some(value) => drop(target.insert(key.into(), value)),
            None => drop(target.remove(key)),
        },
    }
    Ok(())
}

/// A new value: without nulls; `None` when it says `$patch`. Other directives stay, as upstream, for the decoder to warn about.
fn plain(patch: &Value) -> Option<Value> {
    match patch {
        Value::Object(entries) if entries.contains_key(PATCH) => None,
        Value::Object(entries) => {
            let kept = entries.iter().filter(|(_, value)| !value.is_null());
            Some(kept.filter_map(|(key, value)| Some((key.clone(), plain(value)?))).collect::<Map<_, _>>().into())
        }
        Value::Array(items) => Some(items.iter().filter_map(plain).collect()),
        scalar => Some(scalar.clone()),
    }
}

fn is_directive(key: &str) -> bool {
    key == RETAIN_KEYS || key.starts_with(ELEMENT_ORDER) || key.starts_with(DELETE_PRIMITIVES)
}

fn retain(target: &mut Map<String, Value>, patch: &Map<String, Value>, retained: &Value) -> Result<()> {
    let malformed = StrategicError::Malformed("invalid patch format of retainKeys");
    let Value::Array(retained) = retained else { return Err(malformed) };
    let named = |key: &str| retained.iter().any(|r| r == key);
    let set = patch.iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
    if set.into_iter().any(|(key, _)| !named(key)) {
        return Err(malformed);
    }
    target.retain(|key, _| named(key));
    Ok(())
}

/// Merges two lists of one field.
fn merge_list<T: MergeInfo>(
    place: Option<T>,
    name: &str,
    mut items: Vec<Value>,
    patch: &[Value],
) -> Result<Vec<Value>> {
    if !place.is_some_and(|p| p.strategy().merge) {
        return Ok(patch.to_vec());
    }
    if items.is_empty() && patch.is_empty() {
        return Ok(items);
    }
    let key = place.as_ref().and_then(|p| p.strategy().merge_key.map(str::to_owned));
    if !items.iter().chain(patch).any(Value::is_object) {
        let before = items.clone();
        items.extend(patch.iter().cloned());
        let mut seen: Vec<Value> = Vec::with_capacity(items.len());
        for item in items {
            if !seen.contains(&item) {
                seen.push(item);
            }
        }
        return Ok(order::enforce(seen, patch, &before, None));
    }
    let Some(key) = key else { return unfit(format!("cannot merge lists without merge key for {name}")) };
    let mut wanted: Vec<Value> = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Value::Object(map) = item else { return unfit(format!("value for key {name} is not a map")) };
        match map.get(PATCH) {
            None => wanted.push(item.clone()),
            Some(directive) if directive == "delete" => {
                let identity = identity(item, &key)?;
                items.retain(|i| i.get(&key) != Some(identity));
            }
            Some(directive) if directive == "replace" => replace = true,
            Some(directive) if directive == "merge" => {
                return unfit("merging lists cannot yet be specified in the patch");
            }
            Some(other) => return unfit(format!("unknown patch type: {} in map: {}", go(other), go_map(map))),
        }
    }
    if replace {
        return Ok(wanted);
    }
    let before = items.clone();
    let element = place.map(MergeInfo::element);
    for item in &wanted {
        let identity = identity(item, &key)?;
        match (items.iter_mut().find(|i| i.get(&key) == Some(identity)), item) {
            (Some(Value::Object(present)), Value::Object(patch)) => merge_map(element, present, patch)?,
            _ => items.push(item.clone()), // as it is: what is wrong in it the decoder sees
        }
    }
    for item in &items {
        identity(item, &key)?;
    }
    Ok(order::enforce(items, &wanted, &before, Some(&key)))
}

fn identity<'a>(item: &'a Value, key: &str) -> Result<&'a Value> {
    match item {
        Value::Object(map) => match map.get(key) {
            Some(identity) => Ok(identity),
            None => unfit(format!("map: {} does not contain declared merge key: {key}", go_map(map))),
        },
        _ => unfit(format!("value for key {key} is not a map")),
    }
}

/// A value as Go prints it (`%v`): `map[a:1 b:[x <nil>]]`.
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => go_map(map),
        other => other.to_string(),
    }
}

fn go_map(map: &Map<String, Value>) -> String {
    let mut pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect();
    pairs.sort();
    format!("map[{}]", pairs.join(" "))
}

#[cfg(test)]
mod tests;
