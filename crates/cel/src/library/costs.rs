//! What calls cost when they are evaluated: upstream's measure, by the sizes of what they are given. Of lists whose type is not
//! known, upstream takes one step for `in` and `sort`; here they cost their length, so that nobody gets much work for little.

use crate::cost::{NEW_LIST, REGEX, TRAVERSAL, times};
use crate::value::{Key, Value};

/// Two checks of authorization fit into an expression.
const CHECK: u64 = 350_000;
/// The patterns of named formats are no longer than this.
const MOST_FORMAT_REGEX: f64 = 128.0;

/// What a function costs that makes a list: the call, the list, and its work.
fn listed(work: u64) -> u64 {
    work.saturating_add(1 + NEW_LIST)
}

fn matching(text: &Value, pattern: &Value) -> u64 {
    times(text.size().saturating_add(1), TRAVERSAL).saturating_mul(times(pattern.size(), REGEX))
}

fn traversed(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 / 10,
        Value::Bytes(bytes) => bytes.len() as u64 / 10,
        Value::List(list) => list.items.iter().map(traversed).fold(0, u64::saturating_add),
        Value::Map(map) => {
            let entry = |(key, value): (&Key, &Value)| traversed(&key.value()).saturating_add(traversed(value));
            map.entries.iter().map(entry).fold(0, u64::saturating_add)
        }
        _ => 1,
    }
}

/// Each item compared with each.
pub(crate) fn compared(value: &Value) -> u64 {
    let size = value.size();
    let is_text = match value {
        Value::List(list) => matches!(list.items.first(), Some(Value::String(_) | Value::Bytes(_))),
        _ => false,
    };
    listed((size.saturating_mul(size) as f64 * if is_text { 2.0 + TRAVERSAL } else { 2.0 }) as u64)
}

/// Of a call of a function by its whole name; `args` begin with the target. What it gives is not known yet.
pub(crate) fn of(name: &str, args: &[&Value]) -> u64 {
    let size = |index: usize| args.get(index).map_or(0, |value| value.size());
    let text = |factor: f64| times(size(0), factor * TRAVERSAL);
    let is_text = |index: usize| matches!(args.get(index), Some(Value::String(_) | Value::Bytes(_)));
    match (name, args) {
        ("check", _) => CHECK,
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", [list, ..]) => traversed(list),
        (
            "url"
            | "lowerAscii"
            | "upperAscii"
            | "substring"
            | "trim"
            | "jsonpatch.escapeKey"
            | "cidr"
            | "isIP"
            | "isCIDR"
            | "quantity"
            | "isQuantity"
            | "semver"
            | "isSemver"
            | "startsWith"
            | "endsWith"
            | "strings.quote"
            | "format",
            _,
        ) => text(1.0),
        ("ip", [Value::String(_)]) => text(1.0),
        ("replace" | "split" | "ip.isCanonical", _) => text(2.0),
        ("join", [Value::List(list), rest @ ..]) => {
            let gaps = (list.items.len() as u64).saturating_sub(1) * rest.first().map_or(0, |by| by.size());
            times(list.items.iter().map(Value::size).sum::<u64>().saturating_add(gaps), 2.0 * TRAVERSAL)
        }
        ("matches" | "find" | "findAll", [text, pattern, ..]) => matching(text, pattern),
        ("contains", [text, part]) => times(text.size(), TRAVERSAL).saturating_mul(times(part.size(), TRAVERSAL)),
        ("containsIP" | "containsCIDR", [cidr, other]) => {
            let masks = if name == "containsCIDR" { times(cidr.size(), TRAVERSAL) + 1 } else { 0 };
            let parses = if is_text(1) { times(other.size(), TRAVERSAL) } else { 0 };
            times(2 * cidr.size(), TRAVERSAL) + masks + parses
        }
        ("validate", [_, text]) => {
            times(text.size().saturating_add(1), TRAVERSAL).saturating_mul(times(1, MOST_FORMAT_REGEX * REGEX))
        }
        ("bytes", [Value::String(_)]) | ("string", [Value::Bytes(_)]) => text(1.0),
        (
            "_==_",
            [
                Value::Quantity(_)
                | Value::Ip(_)
                | Value::Cidr(..)
                | Value::Format(_)
                | Value::Url(_)
                | Value::Semver(_)
                | Value::Host(_),
                _,
            ],
        ) => 1,
        ("_==_" | "_!=_", [a, b]) => times(a.size().min(b.size()), TRAVERSAL),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) if is_text(0) && is_text(1) => {
            times(a.size().min(b.size()), TRAVERSAL)
        }
        ("_+_", [a, b]) if is_text(0) && is_text(1) => times(a.size().saturating_add(b.size()), TRAVERSAL),
        ("@in", [_, list @ Value::List(_)]) => list.size(),
        ("sets.contains" | "sets.intersects", [a, b]) => a.size().saturating_mul(b.size()).saturating_add(1),
        ("sets.equivalent", [a, b]) => a.size().saturating_mul(b.size()).saturating_mul(2).saturating_add(1),
        ("lists.range", [Value::Int(count)]) => listed(u64::try_from(*count).unwrap_or(0)),
        ("slice", [_, Value::Int(from), Value::Int(to)]) => {
            listed(u64::try_from(to.saturating_sub(*from)).unwrap_or(0))
        }
        ("reverse" | "flatten", [list, ..]) => listed(list.size()),
        ("distinct" | "sort", [list]) => compared(list),
        _ => 1,
    }
}
