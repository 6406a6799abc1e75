//! Places in the table of types, for patches: `object::patch` asks them how values merge.

use std::sync::LazyLock;

use object::patch::{MergeInfo, PatchStrategy, Shape};
use serde_json::{Map, Value};

use crate::structural::{Kind, META_FIELDS, Node};
use crate::types::{Field, ListType, Opaque, Scalar, Struct, Table, Type};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A place in the table: a type, and the field that it is the type of.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    table: &'a Table,
    at: At<'a>,
    field: Option<&'a Field>,
}

#[derive(Clone, Copy, Debug)]
enum At<'a> {
    Struct(&'a Struct),
    Scalar(Scalar),
    List(&'a Type),
    Map(&'a Type),
    /// A place in a custom resource's schema, and whether it is that of a whole resource.
    Node(&'a Node, bool),
    /// Anything; its maps merge by entry.
    Open,
    /// Anything, replaced whole.
    Raw,
}

static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// The place of a whole object of the type `name`. A type that the table does not have is taken as anything.
pub fn place<'a>(table: &'a Table, name: &str) -> Place<'a> {
    let at = table.get(name).map_or(At::Open, |declared| At::Struct(declared));
    Place { table, at, field: None }
}

/// The place of a whole custom resource; `table` has the type of its metadata.
pub fn custom_place<'a>(table: &'a Table, root: &'a Node) -> Place<'a> {
    Place { table, at: At::Node(root, true), field: None }
}

impl<'a> Place<'a> {
    /// The place of a field of a custom resource.
    fn below(self, node: &'a Node, resource: bool, name: &str) -> Option<Self> {
        if resource && META_FIELDS.contains(&name) {
            let named = match name {
                "metadata" => At::Struct(self.table.get(OBJECT_META)?),
                _ => At::Scalar(Scalar::String),
            };
            return Some(Self { at: named, field: None, ..self });
        }
        let known = node.field(name).or(node.entry());
        match known {
            Some(below) => Some(Self { at: At::Node(below, below.embedded), field: None, ..self }),
            None if node.preserve || node.additional.is_some() => Some(Self { at: At::Open, field: None, ..self }),
            None => None,
        }
    }

    fn of(self, kind: &'a Type, field: Option<&'a Field>) -> Self {
        let at = match kind {
            Type::Scalar(scalar) => At::Scalar(*scalar),
            Type::List(element) => At::List(element),
            Type::Map(element) => At::Map(element),
            Type::Struct(name) => self.table.get(&**name).map_or(At::Open, |declared| At::Struct(declared)),
            Type::Any if field.or(self.field).is_some_and(|f| f.opaque == Opaque::Raw) => At::Raw,
            Type::Any => At::Open,
        };
        Self { table: self.table, at, field }
    }

    fn list(&self) -> Option<ListType> {
        let field = self.field?;
        field.list.or_else(|| {
            // Before there were list types, strategies said how lists merge.
            let list = if field.merge_key.is_some() { ListType::Map } else { ListType::Set };
            field.merges().then_some(list)
        })
    }
}

impl MergeInfo for Place<'_> {
    fn shape(self, value: &Value) -> Shape {
        let atomic = self.field.and_then(|f| f.atomic);
        match (self.at, value) {
            (At::Struct(declared), Value::Object(_)) if !atomic.unwrap_or(declared.atomic) => Shape::Map,
            (At::Map(_), Value::Object(_)) if atomic != Some(true) => Shape::Map,
            (At::Open, Value::Object(_)) => Shape::Map,
            (At::Node(node, _), Value::Object(_)) if !node.atomic => Shape::Map,
            (At::Node(node, _), Value::Array(_)) => match node.list {
                Some(ListType::Set) => Shape::Set,
                Some(ListType::Map) => Shape::Keyed,
                Some(ListType::Atomic) | None => Shape::Leaf,
            },
            (At::List(_), Value::Array(_)) => match self.list() {
                Some(ListType::Set) => Shape::Set,
                Some(ListType::Map) => Shape::Keyed,
                Some(ListType::Atomic) | None => Shape::Leaf,
            },
            _ => Shape::Leaf,
        }
    }

    fn field(self, name: &str) -> Option<Self> {
        match self.at {
            At::Struct(declared) => match declared.fields.get(name) {
                Some(field) => Some(self.of(&field.kind, Some(field))),
                None => declared.open.then_some(Self { at: At::Open, field: None, ..self }),
            },
            At::Map(element) => Some(self.of(element, None)),
            At::Node(node, resource) => self.below(node, resource, name),
            At::Open | At::Raw => Some(Self { field: None, ..self }),
            At::Scalar(_) | At::List(_) => None,
        }
    }

    fn is_declared(self, name: &str) -> bool {
        match self.at {
            At::Struct(declared) => declared.fields.contains_key(name),
            At::Node(node, resource) => node.properties.contains_key(name) || (resource && META_FIELDS.contains(&name)),
            _ => false,
        }
    }

    fn element(self) -> Self {
        match self.at {
            At::List(element) => self.of(element, None),
            At::Node(node, _) => match &node.items {
                Some(items) => Self { at: At::Node(items, items.embedded), field: None, ..self },
                None => Self { at: At::Open, field: None, ..self },
            },
            _ => Self { field: None, ..self },
        }
    }

    fn keys(&self) -> &[String] {
        if let At::Node(node, _) = self.at {
            return &node.keys;
        }
        match self.field {
            Some(field) if !field.keys.is_empty() => &field.keys,
            Some(field) => field.merge_key.as_slice(),
            None => &[],
        }
    }

    fn key_default(self, key: &str) -> Option<Value> {
        match self.at {
            At::Struct(declared) => declared.fields.get(key)?.default.clone(),
            At::Node(node, _) => node.properties.get(key)?.default.clone(),
            _ => None,
        }
    }

    fn blank(self) -> Option<&'static Value> {
        let field = self.field?;
        match self.at {
            At::Struct(_) if field.inline => Some(&EMPTY),
            At::List(_) | At::Map(_) | At::Scalar(_) => field.written(),
            _ => None,
        }
    }

    fn check(self, value: &Value) -> Result<(), String> {
        if value.is_null() {
            return Ok(());
        }
        let shown = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match self.at {
            At::Struct(_) | At::Map(_) if !value.is_object() => Err(format!("expected map, got &{{{}}}", shown())),
            At::List(_) if !value.is_array() => Err(format!("expected list, got &{{{}}}", shown())),
            At::Scalar(scalar) => check_scalar(scalar, value, shown),
            At::Node(node, _) => check_node(node, value, shown),
            _ => Ok(()),
        }
    }

    fn strategy(&self) -> PatchStrategy<'_> {
        let Some(field) = self.field else { return PatchStrategy::default() };
        PatchStrategy {
            merge: field.merges(),
            replace: field.strategy.as_deref() == Some("replace"),
            merge_key: field.merge_key.as_deref(),
        }
    }
}

/// Only what merging depends on; the schema's validation says the rest.
fn check_node(node: &Node, value: &Value, shown: impl Fn() -> String) -> Result<(), String> {
    match node.kind {
        Some(Kind::Object) if !value.is_object() => Err(format!("expected map, got &{{{}}}", shown())),
        Some(Kind::Array) if !value.is_array() => Err(format!("expected list, got &{{{}}}", shown())),
        Some(Kind::String) => check_scalar(Scalar::String, value, shown),
        Some(Kind::Boolean) => check_scalar(Scalar::Bool, value, shown),
        Some(Kind::Integer | Kind::Number) => check_scalar(Scalar::Double, value, shown),
        _ => Ok(()),
    }
}

fn check_scalar(scalar: Scalar, value: &Value, shown: impl Fn() -> String) -> Result<(), String> {
    let go_type = match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Null => "<nil>",
    };
    match scalar {
        Scalar::String | Scalar::Bytes | Scalar::Duration if !value.is_string() => {
            Err(format!("expected string, got &value.valueUnstructured{{Value:{}}}", shown()))
        }
        Scalar::Int32 | Scalar::Int64 | Scalar::Double if !value.is_number() => {
            Err(format!("expected numeric (int or float), got {go_type}"))
        }
        Scalar::Bool if !value.is_boolean() => Err(format!("expected boolean, got &{{{}}}", shown())),
        _ if value.is_object() || value.is_array() => Err(format!("expected any scalar, got &{{{}}}", shown())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
