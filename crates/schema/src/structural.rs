//! Structural schemas: what a CustomResourceDefinition says of its objects, and what follows from it.
//!
//! ```text
//! openAPIV3Schema --Node::parse--> Node --+--> prune: drops what it does not know      +--> default: fills in what is absent
//!                                         +--> check: values, in upstream's words      +--> place: how values merge, for object::patch
//! ```
//! A schema that is stored has passed the definition's validation; what is read here is forgiving all the same, so that no stored
//! definition can harm the server.

mod check;
mod defaults;
mod equal;
pub mod formats;
mod lists;
mod pattern;
mod pruning;
mod reading;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use check::{Checked, check};
pub use defaults::{default, drop_nulls};
pub use equal::equal;
pub use lists::{duplicates, same_keys};
pub use pattern::Pattern;
pub use pruning::{Unknown, prune, prune_value};
pub use reading::decode_custom;

use crate::types::ListType;

/// The fields that every embedded resource has.
pub const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A value's schema. What is alike within a schema is one node: of forty fields that are texts, the schema is kept once.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// `type`.
    pub kind: Option<Kind>,
    /// `null` is a value.
    pub nullable: bool,
    /// `default`.
    pub default: Option<Value>,
    /// `properties`.
    pub properties: BTreeMap<String, Arc<Node>>,
    /// `additionalProperties`.
    pub additional: Option<Additional>,
    /// `items`.
    pub items: Option<Arc<Node>>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list: Option<ListType>,
    /// `x-kubernetes-list-map-keys`.
    pub keys: Vec<String>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// What values must fulfil.
    pub limits: Limits,
    /// `allOf`, `anyOf`, `oneOf`, `not`.
    pub all_of: Vec<Node>,
    /// See `all_of`.
    pub any_of: Vec<Node>,
    /// See `all_of`.
    pub one_of: Vec<Node>,
    /// See `all_of`.
    pub not: Option<Box<Node>>,
    /// `x-kubernetes-validations`, as they stand.
    pub rules: Vec<Value>,
}

/// `additionalProperties`: a schema, or whether there may be any.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Additional {
    Schema(Arc<Node>),
    Allowed(bool),
}

/// `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    /// As schemas spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// Reads a schema's word.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

/// Limits on values.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Limits {
    pub format: Option<String>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<u64>,
    pub min_length: Option<u64>,
    pub pattern: Option<Pattern>,
    pub max_items: Option<u64>,
    pub min_items: Option<u64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub allowed: Vec<Value>,
    pub max_properties: Option<u64>,
    pub min_properties: Option<u64>,
    pub required: Vec<String>,
}

impl Node {
    /// Reads a schema's tree.
    pub fn parse(schema: &Value) -> Self {
        Self::read(schema, &mut Alike::default())
    }

    fn read(schema: &Value, alike: &mut Alike) -> Self {
        let Some(schema) = schema.as_object() else { return Self::default() };
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        let nodes =
            |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten().map(Self::parse).collect();
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let properties = properties.map(|(name, schema)| (name.clone(), alike.node(schema))).collect();
        Self {
            kind: text("type").and_then(Kind::of),
            nullable: flag("nullable"),
            default: schema.get("default").filter(|d| !d.is_null()).cloned(),
            properties,
            additional: match schema.get("additionalProperties") {
                Some(Value::Bool(allowed)) => Some(Additional::Allowed(*allowed)),
                Some(schema @ Value::Object(_)) => Some(Additional::Schema(alike.node(schema))),
                _ => None,
            },
            items: schema.get("items").filter(|i| i.is_object()).map(|items| alike.node(items)),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list: match text("x-kubernetes-list-type") {
                Some("map") => Some(ListType::Map),
                Some("set") => Some(ListType::Set),
                Some("atomic") => Some(ListType::Atomic),
                _ => None,
            },
            keys: strings(schema, "x-kubernetes-list-map-keys"),
            atomic: text("x-kubernetes-map-type") == Some("atomic"),
            limits: Limits::parse(schema),
            all_of: nodes("allOf"),
            any_of: nodes("anyOf"),
            one_of: nodes("oneOf"),
            not: schema.get("not").filter(|n| n.is_object()).map(|not| Box::new(Self::parse(not))),
            rules: schema.get("x-kubernetes-validations").and_then(Value::as_array).cloned().unwrap_or_default(),
        }
    }

    /// The schema of a field that `properties` has.
    pub fn field(&self, name: &str) -> Option<&Node> {
        self.properties.get(name).map(|node| &**node)
    }

    /// The schema of an entry that `properties` does not have.
    pub fn entry(&self) -> Option<&Node> {
        match &self.additional {
            Some(Additional::Schema(node)) => Some(node),
            _ => None,
        }
    }

    /// True when some field here or below is filled in.
    pub fn has_defaults(&self) -> bool {
        self.any(&|node| node.default.is_some())
    }

    /// True when `test` holds here or below, logic (`allOf` and so on) left out.
    pub fn any(&self, test: &impl Fn(&Node) -> bool) -> bool {
        test(self)
            || self.properties.values().any(|node| node.any(test))
            || self.entry().is_some_and(|node| node.any(test))
            || self.items.as_ref().is_some_and(|node| node.any(test))
    }
}

/// The nodes of a schema so far, by what they are made of.
#[derive(Default)]
struct Alike(HashMap<String, Arc<Node>>);

impl Alike {
    fn node(&mut self, schema: &Value) -> Arc<Node> {
        let node = Node::read(schema, self);
        let mut made_of = String::new();
        for (key, value) in schema.as_object().into_iter().flatten() {
            let written = match (key.as_str(), value) {
                ("description" | "title" | "example" | "externalDocs", _) => continue,
                // Nodes below are one by now if they are alike.
                ("properties", Value::Object(_)) => node
                    .properties
                    .iter()
                    .try_for_each(|(name, node)| write!(made_of, "{name:?}{:p}", Arc::as_ptr(node))),
                ("items", Value::Object(_)) => write!(made_of, "items{:?}", node.items.as_ref().map(Arc::as_ptr)),
                ("additionalProperties", Value::Object(_)) => {
                    write!(made_of, "entry{:?}", node.entry().map(std::ptr::from_ref))
                }
                _ => write!(made_of, "{key:?}{value}"),
            };
            // Writing into memory does not fail.
            let _ = written;
        }
        self.0.entry(made_of).or_insert_with(|| Arc::new(node)).clone()
    }
}

fn strings(schema: &Map<String, Value>, key: &str) -> Vec<String> {
    schema.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}

impl Limits {
    fn parse(schema: &Map<String, Value>) -> Self {
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let float = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_u64);
        Self {
            format: schema.get("format").and_then(Value::as_str).map(Into::into),
            maximum: float("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: float("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            pattern: schema.get("pattern").and_then(Value::as_str).filter(|p| !p.is_empty()).map(Pattern::new),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            unique_items: flag("uniqueItems"),
            multiple_of: float("multipleOf").filter(|m| *m > 0.0),
            allowed: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: strings(schema, "required"),
        }
    }
}

#[cfg(test)]
mod tests;
