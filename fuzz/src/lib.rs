//! What the targets share: objects of the kinds' types, grown from a fuzzer's bytes. Most are right in form, so that what is behind the
//! decoder is reached; some have a value of a wrong type.

use std::sync::Arc;

use kinds::Kind;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use schema::{Scalar, Type};
use serde_json::{Map, Value, json};

const DEEPEST: usize = 12;
const WORDS: &[&str] = &[
    "",
    "a",
    "b",
    "A_b",
    "web",
    "x-1",
    "0",
    "-1",
    "80",
    "http",
    "10.0.0.1",
    "10.0.0.0/8",
    "::1",
    "fd00::/64",
    "1Gi",
    "100m",
    "1e3",
    "0.5",
    "25%",
    "TCP",
    "UDP",
    "Always",
    "Never",
    "OnFailure",
    "RollingUpdate",
    "Recreate",
    "ClusterIP",
    "None",
    "NodePort",
    "LoadBalancer",
    "ExternalName",
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "Gt",
    "Equal",
    "NoSchedule",
    "NoExecute",
    "Resource",
    "Utilization",
    "AverageValue",
    "Pods",
    "External",
    "ReadWriteOnce",
    "Block",
    "Filesystem",
    "Immediate",
    "Prefix",
    "Exact",
    "IPv4",
    "IPv6",
    "DualStack",
    "Container",
    "PVC",
    "*",
    "a/b",
    "kubernetes.io/x",
    "example.com/a",
    "/x/../y",
    "$(x)",
    "{.spec.a}",
    "[",
    "\u{0}",
    "\u{e9}",
    "2020-01-01T00:00:00Z",
    "* * * * *",
    "@daily",
    "metadata.name",
    "spec.nodeName",
    "limits.cpu",
    "cpu",
    "memory",
    "pods",
    "system:masters",
    "v1",
    "apps/v1",
    "object.spec.a > 1",
    "self",
    "request.name",
    "aGVsbG8=",
    "-----BEGIN CERTIFICATE-----",
];
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    3,
    10,
    80,
    443,
    30_000,
    65_535,
    65_536,
    1 << 31,
    i64::MAX,
    i64::MIN,
    i32::MAX as i64,
    i32::MIN as i64,
];

/// A kind and an object of it.
pub fn object(u: &mut Unstructured<'_>) -> Result<(&'static Arc<Kind>, Value)> {
    let kind = kind(u)?;
    let object = object_of(u, kind)?;
    Ok((kind, object))
}

/// A built-in kind that has a type.
pub fn kind(u: &mut Unstructured<'_>) -> Result<&'static Arc<Kind>> {
    let all: Vec<_> = kinds::table().kinds().iter().filter(|kind| kind.schema.is_some()).collect();
    u.choose(&all).copied()
}

/// An object of a kind.
pub fn object_of(u: &mut Unstructured<'_>, kind: &Kind) -> Result<Value> {
    let mut object = structure(u, kind.schema.as_deref().unwrap_or(""), DEEPEST)?;
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.as_str().into();
    Ok(object)
}

fn structure(u: &mut Unstructured<'_>, name: &str, depth: usize) -> Result<Value> {
    let Some(declared) = schema::table().get(name).filter(|_| depth > 0) else { return any(u, depth) };
    let mut object = Map::new();
    for (name, field) in &declared.fields {
        // What must be there mostly is.
        if if field.required { u.ratio(9, 10)? } else { u.ratio(1, 4)? } {
            object.insert(name.clone(), value(u, &field.kind, depth)?);
        }
        if u.is_empty() {
            break;
        }
    }
    Ok(object.into())
}

fn value(u: &mut Unstructured<'_>, kind: &Type, depth: usize) -> Result<Value> {
    if u.ratio(1, 60)? {
        return any(u, depth);
    }
    let depth = depth.saturating_sub(1);
    Ok(match kind {
        Type::Struct(name) => structure(u, name, depth)?,
        Type::List(item) => {
            let count = u.int_in_range(0..=3)?;
            (0..count).map(|_| value(u, item, depth)).collect::<Result<Vec<_>>>()?.into()
        }
        Type::Map(item) => {
            let count = u.int_in_range(0..=3)?;
            (0..count).map(|_| Ok((text(u)?, value(u, item, depth)?))).collect::<Result<Map<_, _>>>()?.into()
        }
        Type::Any => any(u, depth)?,
        Type::Scalar(Scalar::Bool) => u.arbitrary::<bool>()?.into(),
        Type::Scalar(Scalar::Int32 | Scalar::Int64) => number(u)?.into(),
        Type::Scalar(Scalar::Double) => json!(u.arbitrary::<i32>()? as f64 / 7.0),
        Type::Scalar(Scalar::IntOrString) if u.arbitrary()? => number(u)?.into(),
        Type::Scalar(_) => text(u)?.into(),
    })
}

/// Any JSON.
pub fn any(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let depth = depth.saturating_sub(1);
    Ok(match u.int_in_range(0..=if depth == 0 { 4 } else { 6 })? {
        0 => Value::Null,
        1 => u.arbitrary::<bool>()?.into(),
        2 => number(u)?.into(),
        3 => json!(u.arbitrary::<i32>()? as f64 / 3.0),
        4 => text(u)?.into(),
        5 => {
            let count = u.int_in_range(0..=3)?;
            (0..count).map(|_| any(u, depth)).collect::<Result<Vec<_>>>()?.into()
        }
        _ => {
            let count = u.int_in_range(0..=3)?;
            (0..count).map(|_| Ok((text(u)?, any(u, depth)?))).collect::<Result<Map<_, _>>>()?.into()
        }
    })
}

fn number(u: &mut Unstructured<'_>) -> Result<i64> {
    if u.ratio(3, 4)? { u.choose(NUMBERS).copied() } else { Ok(u.arbitrary::<i16>()?.into()) }
}

/// A word that something may ask for, a long one, or any text.
pub fn text(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(match u.int_in_range(0..=15)? {
        0 => u.arbitrary()?,
        1 => "x".repeat(u.int_in_range(60..=300)?),
        _ => (*u.choose(WORDS)?).to_owned(),
    })
}

/// The object as the API has it before it fills in defaults; `None` when the decoder refuses it.
pub fn typed(kind: &Kind, value: Value) -> Option<Value> {
    let mut object = kind.decode(value, &mut Vec::new()).ok()?;
    if let Some(name) = &kind.schema {
        schema::complete(schema::table(), name, &mut object);
    }
    Some(object)
}
