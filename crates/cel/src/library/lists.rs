//! Lists and sets.

use super::{Answer, Outcome};
use crate::error::Failure;
use crate::value::Value;

pub(super) fn call(method: bool, name: &str, args: &[&Value]) -> Answer {
    if let ("sets.contains" | "sets.equivalent" | "sets.intersects", [Value::List(a), Value::List(b)]) = (name, args) {
        let covers = |a: &[Value], b: &[Value]| b.iter().all(|item| a.contains(item));
        return Some(Ok(Value::Bool(match name {
            "sets.contains" => covers(&a.items, &b.items),
            "sets.equivalent" => covers(&a.items, &b.items) && covers(&b.items, &a.items),
            _ => a.items.iter().any(|item| b.items.contains(item)),
        })));
    }
    if let ("lists.range", [Value::Int(count)]) = (name, args) {
        return Some(Ok(Value::list((0..*count).map(Value::Int).collect())));
    }
    if !method {
        return None;
    }
    let [Value::List(list), rest @ ..] = args else { return None };
    let items = &list.items;
    let position = |at: Option<usize>| Ok(Value::Int(at.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1)));
    Some(match (name, rest) {
        ("isSorted", []) => Ok(Value::Bool(items.windows(2).all(|w| w[0].order(&w[1]).is_some_and(|o| o.is_le())))),
        ("sum", []) => sum(items),
        ("min" | "max", []) => extreme(name, items),
        ("indexOf", [item]) => position(items.iter().position(|i| i == *item)),
        ("lastIndexOf", [item]) => position(items.iter().rposition(|i| i == *item)),
        ("join", []) => join(items, ""),
        ("join", [Value::String(by)]) => join(items, by),
        ("reverse", []) => Ok(Value::list(items.iter().rev().cloned().collect())),
        ("sort", []) => {
            let mut sorted = items.clone();
            sorted.sort_by(|a, b| a.order(b).unwrap_or(std::cmp::Ordering::Equal));
            Ok(Value::list(sorted))
        }
        ("distinct", []) => {
            let mut seen: Vec<Value> = Vec::new();
            for item in items {
                if !seen.contains(item) {
                    seen.push(item.clone());
                }
            }
            Ok(Value::list(seen))
        }
        ("slice", [Value::Int(from), Value::Int(to)]) => {
            let part = usize::try_from(*from).ok().zip(usize::try_from(*to).ok()).and_then(|(a, b)| items.get(a..b));
            part.map(|p| Value::list(p.to_vec()))
                .ok_or_else(|| Failure::new(format!("cannot slice({from}, {to}), list is length {}", items.len())))
        }
        ("flatten", []) => Ok(flatten(items, 1)),
        ("flatten", [Value::Int(depth)]) => Ok(flatten(items, usize::try_from(*depth).unwrap_or(0))),
        ("first", []) => Ok(items.first().map_or(Value::Optional(None), |v| Value::some(v.clone()))),
        ("last", []) => Ok(items.last().map_or(Value::Optional(None), |v| Value::some(v.clone()))),
        _ => return None,
    })
}

fn flatten(items: &[Value], depth: usize) -> Value {
    let mut flat = Vec::new();
    for item in items {
        match item {
            Value::List(inner) if depth > 0 => match flatten(&inner.items, depth - 1) {
                Value::List(inner) => flat.extend(inner.items.iter().cloned()),
                other => flat.push(other),
            },
            other => flat.push(other.clone()),
        }
    }
    Value::list(flat)
}

fn sum(items: &[Value]) -> Outcome {
    let mut items = items.iter();
    let Some(first) = items.next() else { return Ok(Value::Int(0)) };
    items.try_fold(first.clone(), |total, item| {
        crate::operators::call("_+_", &[total, item.clone()]).unwrap_or_else(|| Err(Failure::no_overload()))
    })
}

fn extreme(name: &str, items: &[Value]) -> Outcome {
    let better = |a: &Value, b: &Value| b.order(a).is_some_and(|o| if name == "min" { o.is_lt() } else { o.is_gt() });
    let best = items.iter().reduce(|best, item| if better(best, item) { item } else { best });
    best.cloned().ok_or_else(|| Failure::new(format!("{name} called on empty list")))
}

fn join(items: &[Value], by: &str) -> Outcome {
    let text = |item: &Value| if let Value::String(text) = item { Some(text.to_string()) } else { None };
    let texts = items.iter().map(text).collect::<Option<Vec<_>>>();
    texts.map(|t| t.join(by).as_str().into()).ok_or_else(Failure::no_overload)
}
