//! Operators.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;

use crate::error::Failure;
use crate::value::{List, ListKind, Value};

type Outcome = Result<Value, Failure>;

fn overflow() -> Failure {
    Failure::new("integer overflow")
}

/// True for the name of an operator.
pub(crate) fn is_one(function: &str) -> bool {
    function.starts_with('_') || matches!(function, "!_" | "-_" | "@in")
}

/// Applies an operator; `None` when `function` is none.
pub(crate) fn call(function: &str, args: &[Value]) -> Option<Outcome> {
    Some(match (function, args) {
        ("!_", [Value::Bool(b)]) => Ok(Value::Bool(!b)),
        ("-_", [Value::Int(n)]) => n.checked_neg().map(Value::Int).ok_or_else(overflow),
        ("-_", [Value::Double(n)]) => Ok(Value::Double(-n)),
        ("-_", [Value::Duration(n)]) => n.checked_neg().map(Value::Duration).ok_or_else(overflow),
        ("_==_", [a, b]) => Ok(Value::Bool(a == b)),
        ("_!=_", [a, b]) => Ok(Value::Bool(a != b)),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => compared(function, a, b),
        ("@in", [item, Value::List(list)]) => Ok(Value::Bool(list.items.contains(item))),
        ("@in", [key, Value::Map(map)]) => Ok(Value::Bool(key.key().is_some_and(|key| map.get(&key).is_some()))),
        ("_+_", [a, b]) => sum(a, b),
        ("_-_", [a, b]) => difference(a, b),
        ("_*_", [a, b]) => product(a, b),
        ("_/_", [a, b]) => quotient(a, b),
        ("_%_", [a, b]) => remainder(a, b),
        _ => return None,
    })
}

fn compared(function: &str, a: &Value, b: &Value) -> Outcome {
    let Some(order) = a.order(b) else {
        // Not a number compares with nothing.
        return match (a, b) {
            (Value::Double(_), Value::Int(_) | Value::Uint(_) | Value::Double(_))
            | (Value::Int(_) | Value::Uint(_), Value::Double(_)) => Ok(Value::Bool(false)),
            _ => Err(Failure::no_overload()),
        };
    };
    Ok(Value::Bool(match function {
        "_<_" => order == Ordering::Less,
        "_<=_" => order != Ordering::Greater,
        "_>_" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

fn moved(time: &Timestamp, nanos: i64) -> Outcome {
    let moved = time.checked_add(jiff::SignedDuration::from_nanos(nanos));
    moved.map(Value::Timestamp).map_err(|_| Failure::new("timestamp overflow"))
}

fn sum(a: &Value, b: &Value) -> Outcome {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => {
            a.checked_add(*b).map(Value::Uint).ok_or_else(|| Failure::new("unsigned integer overflow"))
        }
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => Ok(Value::String(format!("{a}{b}").into())),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes([&a[..], &b[..]].concat().into())),
        (Value::Duration(a), Value::Duration(b)) => a.checked_add(*b).map(Value::Duration).ok_or_else(overflow),
        (Value::Timestamp(time), Value::Duration(nanos)) | (Value::Duration(nanos), Value::Timestamp(time)) => {
            moved(time, *nanos)
        }
        (Value::List(a), Value::List(b)) => Ok(Value::List(Arc::new(joined(a, b)))),
        _ => Err(Failure::no_overload()),
    }
}

/// Sets are united; of a map's items with the same key the later ones stay, in the place of the earlier.
fn joined(a: &List, b: &List) -> List {
    let mut items = a.items.clone();
    match &a.kind {
        ListKind::Atomic => items.extend(b.items.iter().cloned()),
        ListKind::Set => {
            for item in &b.items {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
        }
        ListKind::Map(keys) => {
            let key = |item: &Value| -> Vec<Option<Value>> {
                keys.iter().map(|k| if let Value::Map(map) = item { map.field(k).cloned() } else { None }).collect()
            };
            for item in &b.items {
                match items.iter().position(|had| key(had) == key(item)) {
                    Some(place) => items[place] = item.clone(),
                    None => items.push(item.clone()),
                }
            }
        }
    }
    List { items, kind: a.kind.clone() }
}

fn difference(a: &Value, b: &Value) -> Outcome {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_sub(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => {
            a.checked_sub(*b).map(Value::Uint).ok_or_else(|| Failure::new("unsigned integer overflow"))
        }
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => a.checked_sub(*b).map(Value::Duration).ok_or_else(overflow),
        (Value::Timestamp(time), Value::Duration(nanos)) => moved(time, nanos.checked_neg().ok_or_else(overflow)?),
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = a.as_nanosecond() - b.as_nanosecond();
            i64::try_from(nanos).map(Value::Duration).map_err(|_| overflow())
        }
        _ => Err(Failure::no_overload()),
    }
}

fn product(a: &Value, b: &Value) -> Outcome {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.checked_mul(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => {
            a.checked_mul(*b).map(Value::Uint).ok_or_else(|| Failure::new("unsigned integer overflow"))
        }
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        _ => Err(Failure::no_overload()),
    }
}

fn quotient(a: &Value, b: &Value) -> Outcome {
    let zero = || Failure::new("division by zero");
    match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(zero()),
        (Value::Int(a), Value::Int(b)) => a.checked_div(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a / b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        _ => Err(Failure::no_overload()),
    }
}

fn remainder(a: &Value, b: &Value) -> Outcome {
    let zero = || Failure::new("modulus by zero");
    match (a, b) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(zero()),
        (Value::Int(a), Value::Int(b)) => a.checked_rem(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a % b)),
        _ => Err(Failure::no_overload()),
    }
}
