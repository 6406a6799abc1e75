//! Decoding into a type, as Go's typed decoder does it: unknown fields are dropped (and reported), `null` is absent, a
//! value of the wrong type is an error in Go's words, quantities and times become canonical, lists and maps that Go would
//! not encode (empty and optional) go.
//!
//! ```text
//! bytes --json / yaml / a tree--> walk.rs, along the table of types --> tree + Vec<Problem>
//! ```
//! The first value of a wrong type refuses the object, but the rest is read first: malformed JSON is reported before it.

use serde::de::DeserializeSeed;
use serde_json::{Map, Value};

use crate::types::{Table, Type};

mod scalar;
mod walk;

use walk::{Context, Node, Place};

/// A field that strict decoding objects to. Displayed as upstream does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// The type has no such field.
    Unknown(String),
    /// The object has the field twice.
    Duplicate(String),
    /// YAML's own words for a key that stands twice.
    Yaml(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Unknown(path) => write!(f, "unknown field {path:?}"),
            Problem::Duplicate(path) => write!(f, "duplicate field {path:?}"),
            Problem::Yaml(words) => f.write_str(words),
        }
    }
}

/// What the server answers under `fieldValidation=Strict`: `strict decoding error: unknown field "spec.foo"`.
pub fn strict_error(problems: &[Problem]) -> String {
    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("strict decoding error: {}", words.join(", "))
}

/// Bytes that cannot be read as the type: the whole object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not well-formed, in Go's words: `invalid character 'x' looking for beginning of value`.
    #[error("{0}")]
    Syntax(String),
    /// A value does not fit its type: `json: cannot unmarshal string into Go struct field ...`.
    #[error("{0}")]
    Type(String),
}

/// An object read from bytes, and what strict decoding objects to, in order of appearance.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object.
    pub value: Value,
    /// The objections.
    pub problems: Vec<Problem>,
    /// Lists and maps that stood there empty and are left out, as Go's encoder would: each with the JSON pointer to it.
    pub empties: Vec<(String, Value)>,
}

/// Reads JSON as the structure `name`.
pub fn decode_json(table: &Table, name: &str, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let mut context = Context::new(table);
    let kind = Type::Struct(name.into());
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Node::root(&mut context, &kind, &Place::ROOT).deserialize(&mut reader);
    let value = read
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| DecodeError::Syntax(crate::json::go_words(bytes, &error)))?;
    context.finish(value)
}

/// Reads YAML (one document) as the structure `name`. As upstream, by way of JSON: problems come sorted by path.
pub fn decode_yaml(table: &Table, name: &str, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let parsed = crate::yaml::parse(bytes).map_err(DecodeError::Syntax)?;
    let mut problems: Vec<Problem> = parsed.duplicates.into_iter().map(Problem::Yaml).collect();
    let value = decode(table, name, parsed.value, &mut problems)?;
    Ok(Decoded { value, problems, empties: Vec::new() })
}

/// Decodes a tree as the structure `name` of `table`. What strict decoding objects to is added to `problems`.
pub fn decode(table: &Table, name: &str, value: Value, problems: &mut Vec<Problem>) -> Result<Value, DecodeError> {
    let mut context = Context::new(table);
    let kind = Type::Struct(name.into());
    let value = Node::root(&mut context, &kind, &Place::ROOT)
        .deserialize(value)
        .map_err(|error| DecodeError::Syntax(error.to_string()))?;
    let decoded = context.finish(value)?;
    problems.extend(decoded.problems);
    Ok(decoded.value)
}

impl Context<'_> {
    fn finish(self, value: Value) -> Result<Decoded, DecodeError> {
        match self.error {
            Some(words) => Err(DecodeError::Type(words)),
            None => {
                let value = if value.is_null() { Value::Object(Map::new()) } else { value };
                Ok(Decoded { value, problems: self.problems, empties: self.empties })
            }
        }
    }
}

#[cfg(test)]
mod tests;
