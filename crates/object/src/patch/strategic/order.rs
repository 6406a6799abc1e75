//! The order of merged lists: `$setElementOrder` before the patch's order before the present order.

use serde_json::{Map, Value};

use super::{Result, StrategicError, go, merge_list, plain, unfit};
use crate::patch::shape::MergeInfo;

/// Merges `patch` into the list `name` of `target` and brings it into the order of `wanted`.
pub(super) fn apply<T: MergeInfo>(
    place: Option<T>,
    name: &str,
    wanted: &Value,
    target: &mut Map<String, Value>,
    patch: Option<&Value>,
) -> Result<()> {
    let Value::Array(wanted) = wanted else {
        return Err(StrategicError::Malformed("invalid patch format of setElementOrder list"));
    };
    let list = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        Some(other) => unfit(format!("expected a []interface {{}}, but received a {}", go(other))),
    };
    let (present, patch) = (list(target.get(name))?, list(patch)?);
    let key = place.as_ref().and_then(|p| p.strategy().merge_key.map(str::to_owned));
    check(patch.as_deref().unwrap_or(&[]), wanted, key.as_deref())?;
    let before = standing(present.as_deref().unwrap_or(&[]), patch.as_deref().unwrap_or(&[]), key.as_deref());
    let merged = match (present, patch) {
        (None, None) => return Ok(()),
        (Some(present), None) => present,
        (None, Some(patch)) => patch.iter().filter_map(plain).collect(),
        (Some(present), Some(patch)) => merge_list(place, name, present, &patch)?,
    };
    target.insert(name.into(), Value::Array(enforce(merged, wanted, &before, key.as_deref())));
    Ok(())
}

/// The order that the present list counts for. As upstream, new items stand in the places of deleted ones.
fn standing(present: &[Value], patch: &[Value], key: Option<&str>) -> Vec<Value> {
    let is = |item: &Value, directive: &str| item.get("$patch").is_some_and(|d| d == directive);
    if key.is_none() || patch.iter().any(|item| is(item, "replace")) {
        return present.to_vec();
    }
    let gone = |item: &&Value| patch.iter().any(|p| is(p, "delete") && same(p, item, key));
    let mut standing: Vec<Value> = present.iter().filter(|item| !gone(item)).cloned().collect();
    let free = present.len() - standing.len();
    let new = patch.iter().filter(|p| p.get("$patch").is_none() && !standing.iter().any(|s| same(s, p, key)));
    let new: Vec<Value> = new.take(free).cloned().collect();
    standing.extend(new);
    standing
}

/// The patch's items must be among the wanted ones, in the same order.
fn check(patch: &[Value], wanted: &[Value], key: Option<&str>) -> Result<()> {
    if wanted.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut rest = wanted.iter();
    for item in patch.iter().filter(|item| item.get("$patch").is_none()) {
        if !rest.any(|w| same(w, item, key)) {
            return unfit(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                go(&Value::Array(patch.to_vec())),
                go(&Value::Array(wanted.to_vec()))
            ));
        }
    }
    Ok(())
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        None => a == b,
    }
}

/// Items that `wanted` names come in its order. The others keep their order, and go before the first named item that they
/// stood before.
pub(super) fn enforce(items: Vec<Value>, wanted: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let mut named: Vec<(usize, Value)> = Vec::with_capacity(items.len());
    let mut others: Vec<(Option<usize>, Value)> = Vec::new();
    for item in items {
        match place(wanted, &item) {
            Some(at) => named.push((at, item)),
            None => others.push((place(before, &item), item)),
        }
    }
    named.sort_by_key(|(at, _)| *at);
    others.sort_by_key(|(at, _)| *at);
    let mut others = others.into_iter().peekable();
    let mut ordered = Vec::with_capacity(named.len() + others.len());
    for (_, item) in named {
        let stood = place(before, &item);
        while let Some((_, other)) =
            others.next_if(|(at, _)| matches!((at, stood), (Some(at), Some(stood)) if *at < stood))
        {
            ordered.push(other);
        }
        ordered.push(item);
    }
    ordered.extend(others.map(|(_, other)| other));
    ordered
}
