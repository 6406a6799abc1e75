//! Decoding into a type, as Go's typed decoder does it: unknown fields are dropped (and reported), `null` is absent, a
//! value of the wrong type is an error in Go's words, quantities become canonical.

use std::sync::Arc;

use object::Quantity;
use serde_json::{Map, Value};

use crate::types::{Scalar, Struct, Table, Type};

/// A field that strict decoding objects to. Displayed as upstream does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// The type has no such field.
    Unknown(String),
    /// The object has the field twice.
    Duplicate(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Unknown(path) => write!(f, "unknown field {path:?}"),
            Problem::Duplicate(path) => write!(f, "duplicate field {path:?}"),
        }
    }
}

/// A value that does not fit its type: the whole object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// Where the decoder is.
struct Place<'a> {
    /// With indices: `spec.containers[0].image`.
    path: String,
    /// Without: Go's field path.
    fields: String,
    /// The structure around.
    structure: &'a str,
}

impl Place<'_> {
    fn error(&self, value: &Value, wanted: &str) -> DecodeError {
        let what = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".into(),
            Value::Number(n) if wanted.starts_with("int") => format!("number {n}"),
            Value::Number(_) => "number".into(),
            Value::String(_) => "string".into(),
            Value::Array(_) => "array".into(),
            Value::Object(_) => "object".into(),
        };
        if self.fields.is_empty() {
            return DecodeError(format!("json: cannot unmarshal {what} into Go value of type {wanted}"));
        }
        let at = format!("{}.{}", self.structure, self.fields);
        DecodeError(format!("json: cannot unmarshal {what} into Go struct field {at} of type {wanted}"))
    }
}

/// Decodes `value` as the structure `name` of `table`. What strict decoding objects to is added to `problems`.
pub fn decode(table: &Table, name: &str, value: Value, problems: &mut Vec<Problem>) -> Result<Value, DecodeError> {
    let place = Place { path: String::new(), fields: String::new(), structure: "" };
    Ok(structure(table, name, value, &place, problems)?.unwrap_or_else(|| Value::Object(Map::new())))
}

/// Go's name of a type, for messages.
fn go_type(kind: &Type) -> String {
    match kind {
        Type::Scalar(scalar) => match scalar {
            Scalar::Int32 => "int32".into(),
            Scalar::Int64 => "int64".into(),
            Scalar::Bool => "bool".into(),
            Scalar::Double => "float64".into(),
            Scalar::Bytes => "[]uint8".into(),
            _ => "string".into(),
        },
        Type::List(inner) => format!("[]{}", go_type(inner)),
        Type::Map(inner) => format!("map[string]{}", go_type(inner)),
        Type::Struct(name) => {
            let mut parts = name.rsplit('.');
            let (short, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{version}.{short}")
        }
        Type::Any => "runtime.RawExtension".into(),
    }
}

fn any(
    table: &Table,
    kind: &Type,
    value: Value,
    place: &Place<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Value>, DecodeError> {
    if value.is_null() {
        return Ok(None);
    }
    match kind {
        Type::Any => Ok(Some(value)),
        Type::Scalar(kind) => scalar(*kind, value, place).map(Some),
        Type::Struct(name) => structure(table, name, value, place, problems),
        Type::List(element) => {
            let Value::Array(items) = value else { return Err(place.error(&value, &go_type(kind))) };
            let mut decoded = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                let path = format!("{}[{index}]", place.path);
                let at = Place { path, fields: place.fields.clone(), structure: place.structure };
                decoded.push(any(table, element, item, &at, problems)?.unwrap_or_else(|| zero(element)));
            }
            Ok(Some(Value::Array(decoded)))
        }
        Type::Map(element) => {
            let Value::Object(entries) = value else { return Err(place.error(&value, &go_type(kind))) };
            let mut decoded = Map::new();
            for (key, item) in entries {
                let join = |before: &str| if before.is_empty() { key.clone() } else { format!("{before}.{key}") };
                let at = Place { path: join(&place.path), fields: place.fields.clone(), structure: place.structure };
                let item = any(table, element, item, &at, problems)?.unwrap_or_else(|| zero(element));
                decoded.insert(key, item);
            }
            Ok(Some(Value::Object(decoded)))
        }
    }
}

/// What Go leaves where a list or map holds `null`.
fn zero(kind: &Type) -> Value {
    match kind {
        Type::Scalar(Scalar::Bool) => false.into(),
        Type::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString) => 0.into(),
        Type::Scalar(Scalar::Quantity) => "0".into(),
        Type::Scalar(_) => "".into(),
        Type::List(_) | Type::Any => Value::Null,
        Type::Map(_) | Type::Struct(_) => Value::Object(Map::new()),
    }
}

fn structure(
    table: &Table,
    name: &str,
    value: Value,
    place: &Place<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Option<Value>, DecodeError> {
    let Some(declared): Option<&Arc<Struct>> = table.get(name) else { return Ok(Some(value)) };
    let Value::Object(entries) = value else {
        return if value.is_null() { Ok(None) } else { Err(place.error(&value, &go_type(&Type::Struct(name.into())))) };
    };
    let mut decoded = Map::new();
    for (key, item) in entries {
        let join = |before: &str| if before.is_empty() { key.clone() } else { format!("{before}.{key}") };
        let Some(field) = declared.fields.get(&key) else {
            problems.push(Problem::Unknown(join(&place.path)));
            continue;
        };
        let at = Place { path: join(&place.path), fields: join(&place.fields), structure: declared.short_name() };
        if let Some(item) = any(table, &field.kind, item, &at, problems)? {
            decoded.insert(key, item);
        }
    }
    Ok(Some(Value::Object(decoded)))
}

fn scalar(kind: Scalar, value: Value, place: &Place<'_>) -> Result<Value, DecodeError> {
    let wanted = go_type(&Type::Scalar(kind));
    let fits = match kind {
        Scalar::String => value.is_string(),
        Scalar::Bool => value.is_boolean(),
        Scalar::Double => value.is_number(),
        Scalar::Int64 => value.is_i64(),
        Scalar::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Scalar::IntOrString => {
            if value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) {
                return Ok(value);
            }
            return Err(place.error(&value, "int32"));
        }
        Scalar::Bytes => {
            use base64::Engine;
            let Some(text) = value.as_str() else { return Err(place.error(&value, &wanted)) };
            if let Err(error) = base64::engine::general_purpose::STANDARD.decode(text.replace(['\n', '\r'], "")) {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                    _ => text.len(),
                };
                return Err(DecodeError(format!("illegal base64 data at input byte {at}")));
            }
            true
        }
        Scalar::Quantity => {
            let text = match &value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                other => return Err(place.error(other, "resource.Quantity")),
            };
            let canonical = Quantity::canonical(&text).ok_or_else(|| {
                let pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$";
                DecodeError(format!("quantities must match the regular expression '{pattern}'"))
            })?;
            return Ok(canonical.into());
        }
        Scalar::Time | Scalar::MicroTime => {
            let Some(text) = value.as_str() else { return Err(place.error(&value, "string")) };
            if !text.is_empty() && text.parse::<jiff::Timestamp>().is_err() {
                let layout = "2006-01-02T15:04:05Z07:00";
                return Err(DecodeError(format!(
                    "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
                )));
            }
            true
        }
        Scalar::Duration => value.is_string() || value.is_number(),
    };
    if fits { Ok(value) } else { Err(place.error(&value, &wanted)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::table;
    use serde_json::json;

    fn deployment(value: Value) -> (Result<Value, String>, Vec<String>) {
        let mut problems = Vec::new();
        let decoded = decode(table(), "io.k8s.api.apps.v1.Deployment", value, &mut problems).map_err(|e| e.0);
        (decoded, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn unknown_fields_are_reported_and_dropped() {
        let (decoded, problems) = deployment(json!({"spec": {"foo": 1, "replicas": null,
            "template": {"spec": {"containers": [{"name": "a", "imagePullPolcy": "x"}]}}}}));
        assert_eq!(decoded.unwrap(), json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}}));
        assert_eq!(
            problems,
            [r#"unknown field "spec.foo""#, r#"unknown field "spec.template.spec.containers[0].imagePullPolcy""#]
        );
    }

    #[test]
    fn wrong_types_are_refused_in_gos_words() {
        let check = |value, wanted: &str| assert_eq!(deployment(value).0.unwrap_err(), wanted);
        check(
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        );
        check(
            json!({"spec": {"template": {"spec": {"containers": [{"image": 7}]}}}}),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
        );
        check(
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        );
        check(
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        );
    }

    #[test]
    fn quantities_become_canonical() {
        let limits = |memory: &str| json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"memory": memory}}}]}}}});
        let (decoded, _) = deployment(limits("0.5Gi"));
        assert_eq!(
            decoded.unwrap()["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"],
            "512Mi"
        );
        assert!(deployment(limits("lots")).0.unwrap_err().starts_with("quantities must match the regular expression"));
    }
}
