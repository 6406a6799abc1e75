//! Conversions between types, `size`, `type`, optional values, mathematics, semantic versions.

use std::sync::Arc;

use super::times::{go_duration, parse_duration};
use super::{Answer, Outcome};
use crate::error::Failure;
use crate::value::{Semver, Value};

fn range() -> Failure {
    Failure::new("integer overflow")
}

pub(super) fn call(method: bool, name: &str, args: &[&Value]) -> Answer {
    Some(match (name, args) {
        ("size", [value]) => match value {
            Value::String(text) => Ok(count(text.chars().count())),
            Value::Bytes(_) | Value::List(_) | Value::Map(_) => {
                Ok(count(usize::try_from(value.size()).unwrap_or(usize::MAX)))
            }
            _ => return None,
        },
        ("optional.of", [value]) => Ok(Value::some((*value).clone())),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", [value]) => {
            Ok(if is_zero(value) { Value::Optional(None) } else { Value::some((*value).clone()) })
        }
        ("hasValue", [Value::Optional(inner)]) if method => Ok(Value::Bool(inner.is_some())),
        ("value", [Value::Optional(inner)]) if method => {
            inner.as_ref().map(|v| (**v).clone()).ok_or_else(|| Failure::new("optional.none() dereference"))
        }
        (_, [Value::Semver(version)]) if method => match name {
            "major" => Ok(Value::Int(version.major)),
            "minor" => Ok(Value::Int(version.minor)),
            "patch" => Ok(Value::Int(version.patch)),
            _ => return None,
        },
        (_, [Value::Semver(a), Value::Semver(b)]) if method => {
            let order = order(a, b);
            match name {
                "compareTo" => Ok(Value::Int(order as i64)),
                "isLessThan" => Ok(Value::Bool(order.is_lt())),
                "isGreaterThan" => Ok(Value::Bool(order.is_gt())),
                _ => return None,
            }
        }
        _ if method => return None,
        ("type", [value]) => Ok(Value::Type(value.type_name().into())),
        ("dyn", [value]) => Ok((*value).clone()),
        ("int", [value]) => int(value)?,
        ("uint", [value]) => uint(value)?,
        ("double", [value]) => double(value)?,
        ("bool", [Value::Bool(b)]) => Ok(Value::Bool(*b)),
        ("bool", [Value::String(text)]) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(Failure::new("type conversion error from 'string' to 'bool'")),
        },
        ("string", [value]) => string(value)?,
        ("bytes", [Value::String(text)]) => Ok(Value::Bytes(text.as_bytes().into())),
        ("bytes", [Value::Bytes(bytes)]) => Ok(Value::Bytes(bytes.clone())),
        ("semver", [Value::String(text)]) => {
            let parsed = parse_semver(text).map(|v| Value::Semver(Arc::new(v)));
            parsed.ok_or_else(|| {
                Failure::new(match text.split('.').count() {
                    0..3 => "No Major.Minor.Patch elements found".to_owned(),
                    _ => format!("invalid semantic version: {text}"),
                })
            })
        }
        ("isSemver", [Value::String(text)]) => Ok(Value::Bool(parse_semver(text).is_some())),
        _ => return None,
    })
}

fn count(n: usize) -> Value {
    Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) => true,
        Value::Double(n) => *n == 0.0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        _ => false,
    }
}

fn int(value: &Value) -> Answer {
    Some(match value {
        Value::Int(n) => Ok(Value::Int(*n)),
        Value::Uint(n) => i64::try_from(*n).map(Value::Int).map_err(|_| range()),
        Value::Double(n) if n.is_finite() && n.abs() < 9.2e18 => Ok(Value::Int(n.trunc() as i64)),
        Value::Double(_) => Err(range()),
        Value::String(text) => {
            text.parse().map(Value::Int).map_err(|_| Failure::new("type conversion error from 'string' to 'int'"))
        }
        Value::Timestamp(time) => Ok(Value::Int(time.as_second())),
        Value::Duration(nanos) => Ok(Value::Int(*nanos)),
        _ => return None,
    })
}

fn uint(value: &Value) -> Answer {
    let over = || Failure::new("unsigned integer overflow");
    Some(match value {
        Value::Uint(n) => Ok(Value::Uint(*n)),
        Value::Int(n) => u64::try_from(*n).map(Value::Uint).map_err(|_| over()),
        Value::Double(n) if *n >= 0.0 && *n < 1.8e19 => Ok(Value::Uint(n.trunc() as u64)),
        Value::Double(_) => Err(over()),
        Value::String(text) => {
            text.parse().map(Value::Uint).map_err(|_| Failure::new("type conversion error from 'string' to 'uint'"))
        }
        _ => return None,
    })
}

fn double(value: &Value) -> Answer {
    Some(match value {
        Value::Double(n) => Ok(Value::Double(*n)),
        Value::Int(n) => Ok(Value::Double(*n as f64)),
        Value::Uint(n) => Ok(Value::Double(*n as f64)),
        Value::String(text) => {
            text.parse().map(Value::Double).map_err(|_| Failure::new("type conversion error from 'string' to 'double'"))
        }
        _ => return None,
    })
}

fn string(value: &Value) -> Answer {
    Some(Ok(match value {
        Value::String(text) => Value::String(text.clone()),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => return Some(Err(Failure::new("invalid UTF-8 in bytes, cannot convert to string"))),
        },
        Value::Duration(nanos) => Value::String(go_duration(*nanos).into()),
        Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Timestamp(_) => {
            value.to_string().as_str().into()
        }
        Value::Ip(_) | Value::Cidr(..) => value.to_string().as_str().into(),
        _ => return None,
    }))
}

/// Reads `1.2.3-rc.1+build`.
pub(crate) fn parse_semver(text: &str) -> Option<Semver> {
    let text = text.split('+').next()?;
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        let plain =
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'));
        if plain { part.parse::<i64>().ok() } else { None }
    };
    let parts = core.split('.').map(number).collect::<Option<Vec<i64>>>()?;
    let &[major, minor, patch] = parts.as_slice() else { return None };
    let pre: Vec<String> = pre.map(|p| p.split('.').map(Into::into).collect()).unwrap_or_default();
    let fits = |p: &String| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    pre.iter().all(fits).then_some(Semver { major, minor, patch, pre })
}

fn order(a: &Semver, b: &Semver) -> std::cmp::Ordering {
    let core = (a.major, a.minor, a.patch).cmp(&(b.major, b.minor, b.patch));
    core.then_with(|| match (a.pre.is_empty(), b.pre.is_empty()) {
        (true, true) => std::cmp::Ordering::Equal,
        // A release is after what led to it.
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        (false, false) => {
            let number = |text: &String| text.parse::<u64>().ok();
            let part = |(a, b): (&String, &String)| match (number(a), number(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => a.cmp(b),
            };
            let differing = a.pre.iter().zip(&b.pre).map(part).find(|o| o.is_ne());
            differing.unwrap_or_else(|| a.pre.len().cmp(&b.pre.len()))
        }
    })
}

/// For `duration("1h")`.
pub(super) fn duration(text: &str) -> Outcome {
    parse_duration(text).map(Value::Duration).ok_or_else(|| Failure::new(format!("time: invalid duration {text:?}")))
}
