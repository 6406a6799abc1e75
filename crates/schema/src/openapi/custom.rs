//! Definitions of custom resources: the schema of their CustomResourceDefinition, with what every object has.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Dialect, META, Served};
use crate::structural::META_FIELDS;

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_API_VERSION: &str = "apiVersion defines the versioned schema of this representation of an object. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const EMBEDDED_KIND: &str = "kind is a string value representing the type of this object. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

/// The schema of a version of a CustomResourceDefinition.
#[derive(Clone, Debug)]
pub struct CustomSchema {
    /// `openAPIV3Schema`, as text.
    pub document: Arc<str>,
    /// `CronTabList`.
    pub list_kind: String,
    /// The paths of `selectableFields`.
    pub selectable: Vec<String>,
    /// Changes with the document.
    pub fingerprint: u64,
}

impl Hash for CustomSchema {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

/// The definitions of the custom ones of these resources: of objects and of lists.
pub(super) fn definitions(resources: &[Served], dialect: Dialect) -> impl Iterator<Item = (String, Value)> {
    let of = move |resource: &Served| {
        let custom = resource.custom.as_ref()?;
        let list = format!("{}List", resource.schema);
        Some([(resource.schema.clone(), object(resource, custom, dialect)), (list, list_of(resource, custom, dialect))])
    };
    resources.iter().filter_map(of).flatten()
}

fn metadata(kind: &str, dialect: Dialect) -> Value {
    let mut reference = dialect.reference(&format!("{META}.{kind}"));
    if dialect == Dialect::V3 {
        reference = json!({"allOf": [reference]});
    }
    let (text, at) = if kind == "ListMeta" { ("list", "types-kinds") } else { ("object's", "metadata") };
    reference["description"] = format!("Standard {text} metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#{at}").into();
    reference
}

fn marked(resource: &Served, kind: &str) -> Value {
    json!([{"group": resource.group, "version": resource.version, "kind": kind}])
}

fn object(resource: &Served, custom: &CustomSchema, dialect: Dialect) -> Value {
    // What is stored can be read.
    let document: Value = serde_json::from_str(&custom.document).unwrap_or_default();
    let open = document["x-kubernetes-preserve-unknown-fields"] == true;
    let mut schema = match dialect {
        Dialect::V3 => document,
        Dialect::V2 => simple(&document),
    };
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    // A schema that takes anything says nothing of fields in v2: kubectl would refuse all others.
    if dialect == Dialect::V2 && open {
        schema = json!({"type": "object"});
    } else if schema["type"] == "object" {
        if !schema["properties"].is_object() {
            schema["properties"] = Value::Object(Map::new());
        }
        schema["properties"]["apiVersion"] = json!({"type": "string", "description": API_VERSION});
        schema["properties"]["kind"] = json!({"type": "string", "description": KIND});
        schema["properties"]["metadata"] = metadata("ObjectMeta", dialect);
    }
    embed(&mut schema, true, dialect);
    schema["x-kubernetes-group-version-kind"] = marked(resource, &resource.kind);
    select(&mut schema, custom);
    schema
}

/// Gives embedded resources what every object has.
fn embed(schema: &mut Value, root: bool, dialect: Dialect) {
    if !root && schema["x-kubernetes-embedded-resource"] == true && schema["type"] == "object" {
        let fields = [
            json!({"type": "string", "description": EMBEDDED_API_VERSION}),
            json!({"type": "string", "description": EMBEDDED_KIND}),
            metadata("ObjectMeta", dialect),
        ];
        for (name, field) in META_FIELDS.into_iter().zip(fields) {
            schema["properties"][name] = field;
        }
        let mut required = schema["required"].as_array().cloned().unwrap_or_default();
        for field in ["kind", "apiVersion"] {
            if !required.iter().any(|r| r == field) {
                required.push(field.into());
            }
        }
        schema["required"] = required.into();
    }
    if dialect == Dialect::V3
        && schema["x-kubernetes-int-or-string"] == true
        && schema.get("anyOf").is_none()
        && schema.get("type").is_none()
    {
        schema["anyOf"] = json!([{"type": "integer"}, {"type": "string"}]);
    }
    let Some(entries) = schema.as_object_mut() else { return };
    for (key, value) in entries {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(|p| embed(p, false, dialect)),
            ("items" | "additionalProperties", value @ Value::Object(_)) => embed(value, false, dialect),
            _ => {}
        }
    }
}

fn list_of(resource: &Served, custom: &CustomSchema, dialect: Dialect) -> Value {
    let mut schema = json!({
        "type": "object", "required": ["items"],
        "description": format!("{} is a list of {}", custom.list_kind, resource.kind),
        "properties": {
            "apiVersion": {"type": "string", "description": API_VERSION},
            "kind": {"type": "string", "description": KIND},
            "metadata": metadata("ListMeta", dialect),
            "items": {"type": "array", "items": dialect.reference(&resource.schema),
                "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", resource.plural)},
        },
        "x-kubernetes-group-version-kind": marked(resource, &custom.list_kind),
    });
    select(&mut schema, custom);
    schema
}

/// Says which fields can be selected by.
fn select(schema: &mut Value, custom: &CustomSchema) {
    if !custom.selectable.is_empty() {
        let entries = custom.selectable.iter().map(|path| json!({"fieldPath": path}));
        schema["x-kubernetes-selectable-fields"] = entries.collect();
    }
}

/// What v2 can say: no logic, no nulls, no either-or of types; what it cannot say is left open, as clients check against it.
fn simple(schema: &Value) -> Value {
    let Some(entries) = schema.as_object() else { return schema.clone() };
    let flag = |key: &str| entries.get(key) == Some(&Value::Bool(true));
    let open = flag("nullable") || flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    let mut kept = Map::new();
    for (key, value) in entries {
        let value = match (key.as_str(), value) {
            ("oneOf" | "anyOf" | "allOf" | "not" | "nullable" | "default", _) => continue,
            ("type" | "format" | "properties" | "items" | "additionalProperties" | "required", _) if open => continue,
            ("properties", Value::Object(properties)) => {
                properties.iter().map(|(name, p)| (name.clone(), simple(p))).collect::<Map<_, _>>().into()
            }
            ("items" | "additionalProperties", Value::Object(_)) => simple(value),
            _ => value.clone(),
        };
        kept.insert(key.clone(), value);
    }
    Value::Object(kept)
}
