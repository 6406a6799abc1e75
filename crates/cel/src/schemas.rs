//! JSON as values: by a schema, or as it comes.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::ListType;
use schema::structural::{Kind, META_FIELDS, Node};
use serde_json::Value as Json;

use crate::check::Type;
use crate::library::parse_duration;
use crate::names::escape;
use crate::value::{Key, List, ListKind, Map, Value};

/// JSON as it comes: numbers by their form, maps by their keys.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => number(n),
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::list(items.iter().map(from_json).collect()),
        Json::Object(entries) => Value::map(entries.iter().map(|(key, value)| (key.clone(), from_json(value)))),
    }
}

fn number(n: &serde_json::Number) -> Value {
    match (n.as_i64(), n.as_u64()) {
        (Some(n), _) => Value::Int(n),
        (None, Some(n)) => Value::Uint(n),
        _ => Value::Double(n.as_f64().unwrap_or(0.0)),
    }
}

/// JSON by its schema: fields under the names that expressions have for them, times and durations as such; what the schema does not
/// declare cannot be seen. `root`: of a whole object.
pub fn from_schema(json: &Json, node: &Node, root: bool) -> Value {
    match (json, node.kind) {
        (Json::Object(entries), _) if !node.properties.is_empty() || root || node.embedded => {
            let mut fields = BTreeMap::new();
            for (name, value) in entries {
                let value = match node.properties.get(name) {
                    _ if (root || node.embedded) && name == "metadata" => metadata(value),
                    Some(below) => from_schema(value, below, false),
                    None if (root || node.embedded) && META_FIELDS.contains(&name.as_str()) => from_json(value),
                    None => continue,
                };
                if let Some(name) = escape(name) {
                    fields.insert(Key::String(name.into()), value);
                }
            }
            Value::Map(Arc::new(Map { name: Some("object".into()), entries: fields }))
        }
        (Json::Object(entries), _) => match node.entry() {
            Some(below) => {
                Value::map(entries.iter().map(|(key, value)| (key.clone(), from_schema(value, below, false))))
            }
            None => from_json(json),
        },
        (Json::Array(items), _) => {
            let item = |json: &Json| {
                node.items.as_ref().map_or_else(|| from_json(json), |below| from_schema(json, below, false))
            };
            let kind = match node.list {
                Some(ListType::Set) => ListKind::Set,
                Some(ListType::Map) => ListKind::Map(node.keys.iter().filter_map(|k| escape(k)).collect()),
                _ => ListKind::Atomic,
            };
            Value::List(Arc::new(List { items: items.iter().map(item).collect(), kind }))
        }
        (Json::Number(n), Some(Kind::Number)) => Value::Double(n.as_f64().unwrap_or(0.0)),
        (Json::Number(n), Some(Kind::Integer)) => {
            n.as_i64().map_or_else(|| Value::Int(n.as_f64().unwrap_or(0.0) as i64), Value::Int)
        }
        (Json::String(text), Some(Kind::String)) => string(text, node.limits.format.as_deref().unwrap_or("")),
        (json, _) => from_json(json),
    }
}

/// Of metadata only the name can be seen.
fn metadata(json: &Json) -> Value {
    let entries =
        json.as_object().into_iter().flatten().filter(|(key, _)| matches!(key.as_str(), "name" | "generateName"));
    Value::map(entries.map(|(key, value)| (key.clone(), from_json(value))))
}

fn string(text: &str, format: &str) -> Value {
    let parsed = match format {
        "date-time" => text.parse().ok().map(Value::Timestamp),
        "date" => format!("{text}T00:00:00Z").parse().ok().map(Value::Timestamp),
        "duration" => parse_duration(text).map(Value::Duration),
        "byte" => STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into())),
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

/// True when expressions can see values of the schema: not those of which it says nothing.
fn is_seen(node: &Node) -> bool {
    node.int_or_string
        || match node.kind {
            None => false,
            Some(Kind::Array) => node.items.as_deref().is_some_and(is_seen),
            Some(Kind::Object) => node.entry().is_none_or(is_seen),
            Some(_) => true,
        }
}

/// The type of a schema's values.
pub fn type_of(node: &Node, root: bool) -> Type {
    if node.int_or_string || node.kind.is_none() {
        return Type::Dyn;
    }
    match node.kind {
        Some(Kind::Boolean) => Type::Bool,
        Some(Kind::Integer) => Type::Int,
        Some(Kind::Number) => Type::Double,
        Some(Kind::String) => match node.limits.format.as_deref() {
            Some("date-time" | "date") => Type::Timestamp,
            Some("duration") => Type::Duration,
            Some("byte") => Type::Bytes,
            _ => Type::String,
        },
        Some(Kind::Array) => Type::List(Box::new(node.items.as_ref().map_or(Type::Dyn, |items| type_of(items, false)))),
        Some(Kind::Object) | None => {
            if let Some(entry) = node.entry() {
                return Type::Map(Box::new(Type::String), Box::new(type_of(entry, false)));
            }
            let resource = root || node.embedded;
            if node.properties.is_empty() && !resource {
                // Nothing of it can be seen, but that it is there.
                return Type::Object(Arc::default());
            }
            let declared =
                node.properties.iter().filter(|(name, _)| !(resource && META_FIELDS.contains(&name.as_str())));
            let mut fields: BTreeMap<String, Type> = declared
                .filter(|(_, below)| is_seen(below))
                .filter_map(|(name, below)| Some((escape(name)?, type_of(below, false))))
                .collect();
            if resource {
                let named = BTreeMap::from(["name", "generateName"].map(|field| (field.to_owned(), Type::String)));
                fields.insert("metadata".into(), Type::Object(Arc::new(named)));
                fields.extend(["apiVersion", "kind"].map(|field| (field.to_owned(), Type::String)));
            }
            Type::Object(Arc::new(fields))
        }
    }
}

/// Structures nest no deeper than this in types; what is below may be anything.
const MOST_DEPTH: usize = 24;

/// The type of a structure of the table of types.
pub fn type_named(table: &schema::Table, name: &str) -> Type {
    structure(table, name, 0)
}

fn structure(table: &schema::Table, name: &str, depth: usize) -> Type {
    let Some(declared) = table.get(name).filter(|declared| depth < MOST_DEPTH && !declared.open) else {
        return Type::Dyn;
    };
    let fields = declared
        .fields
        .iter()
        .filter_map(|(name, field)| Some((escape(name)?, field_type(table, &field.kind, depth + 1))));
    Type::Object(Arc::new(fields.collect()))
}

fn field_type(table: &schema::Table, kind: &schema::Type, depth: usize) -> Type {
    use schema::{Scalar, Type as Declared};
    match kind {
        Declared::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Duration => Type::String,
            Scalar::Int32 | Scalar::Int64 => Type::Int,
            Scalar::Bool => Type::Bool,
            Scalar::Double => Type::Double,
            Scalar::Bytes => Type::Bytes,
            Scalar::Time | Scalar::MicroTime => Type::Timestamp,
            Scalar::Quantity | Scalar::IntOrString => Type::Dyn,
        },
        Declared::List(item) => Type::List(Box::new(field_type(table, item, depth))),
        Declared::Map(value) => Type::Map(Box::new(Type::String), Box::new(field_type(table, value, depth))),
        Declared::Struct(name) => structure(table, name, depth),
        Declared::Any => Type::Dyn,
    }
}

/// The type with another type for one of its fields.
pub fn with_field(of: Type, name: &str, field: Type) -> Type {
    match of {
        Type::Object(fields) => {
            let mut fields = (*fields).clone();
            fields.insert(name.to_owned(), field);
            Type::Object(Arc::new(fields))
        }
        other => other,
    }
}

/// A value as JSON; `None` for what JSON has no form for.
pub fn to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::Uint(n) => (*n).into(),
        Value::Double(n) => serde_json::Number::from_f64(*n)?.into(),
        Value::String(text) => (**text).into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Value::List(list) => list.items.iter().map(to_json).collect::<Option<Vec<_>>>()?.into(),
        Value::Map(map) => {
            let entry = |(key, value): (&Key, &Value)| Some((key.value().to_string(), to_json(value)?));
            map.entries.iter().map(entry).collect::<Option<serde_json::Map<_, _>>>()?.into()
        }
        Value::Duration(_)
        | Value::Timestamp(_)
        | Value::Quantity(_)
        | Value::Ip(_)
        | Value::Cidr(..)
        | Value::Url(_) => value.to_string().into(),
        Value::Optional(Some(inner)) => to_json(inner)?,
        Value::Type(_) | Value::Optional(None) | Value::Format(_) | Value::Semver(_) | Value::Host(_) => return None,
    })
}
