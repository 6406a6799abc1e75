//! Definitions of types.

use serde_json::{Map, Value, json};

use super::{Dialect, META, Served, described, is_named};
use crate::types::{Field, ListType, Opaque, Scalar, Struct, Type};

/// The name of the definition that stands for a scalar or for free-form data.
pub(super) fn named(kind: &Type, opaque: Opaque) -> Option<&'static str> {
    Some(match kind {
        Type::Scalar(Scalar::Time) => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Type::Scalar(Scalar::MicroTime) => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Type::Scalar(Scalar::Quantity) => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Type::Scalar(Scalar::IntOrString) => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Type::Any => match opaque {
            Opaque::Json => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
            Opaque::Raw => "io.k8s.apimachinery.pkg.runtime.RawExtension",
            Opaque::Fields => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
            Opaque::SchemaOrList => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
            Opaque::SchemaOrBool => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
            Opaque::SchemaOrStrings => {
                "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
            }
        },
        _ => return None,
    })
}

/// The definition behind such a name; `None` for a name that has none.
pub(super) fn special(name: &str, dialect: Dialect) -> Option<Value> {
    let v2 = dialect == Dialect::V2;
    let mut schema = match name.rsplit('.').next()? {
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
        "Quantity" if v2 => json!({"type": "string"}),
        "Quantity" => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        "IntOrString" if v2 => json!({"type": "string", "format": "int-or-string"}),
        "IntOrString" => json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
        "RawExtension" | "FieldsV1" => json!({"type": "object"}),
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => json!({}),
        _ => return None,
    };
    if let Some(text) = described::of(name).remove("") {
        schema["description"] = text.into();
    }
    Some(schema)
}

/// The definition of a structure.
pub(super) fn structure(declared: &Struct, resources: &[Served], dialect: Dialect) -> Value {
    let mut texts = described::of(&declared.name);
    let mut schema = json!({"type": "object"});
    if let Some(text) = texts.remove("") {
        schema["description"] = text.into();
    }
    let properties: Map<String, Value> = declared
        .fields
        .iter()
        .map(|(name, field)| (name.clone(), property(field, texts.remove(name), dialect)))
        .collect();
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    let required: Vec<Value> =
        declared.fields.iter().filter(|(_, field)| field.required).map(|(name, _)| name.as_str().into()).collect();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if declared.atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    if declared.open {
        schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    let kinds = kinds_of(&declared.name, resources);
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = kinds.into();
    }
    schema
}

/// The kinds that have this type.
fn kinds_of(name: &str, resources: &[Served]) -> Vec<Value> {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    if let Some(common) = name.strip_prefix(META).and_then(|n| n.strip_prefix('.')) {
        let mut kinds = Vec::new();
        if matches!(common, "Status" | "APIResourceList" | "DeleteOptions" | "WatchEvent") {
            kinds.push(kind("", "v1", common));
        }
        if matches!(common, "DeleteOptions" | "WatchEvent") {
            for resource in resources {
                let of_group = kind(&resource.group, &resource.version, common);
                if !kinds.contains(&of_group) {
                    kinds.push(of_group);
                }
            }
        }
        return kinds;
    }
    let item = name.strip_suffix("List");
    let mut kinds = Vec::new();
    for resource in resources {
        let found = if resource.schema == name {
            kind(&resource.group, &resource.version, &resource.kind)
        } else if item == Some(resource.schema.as_str()) {
            kind(&resource.group, &resource.version, &format!("{}List", resource.kind))
        } else {
            continue;
        };
        if !kinds.contains(&found) {
            kinds.push(found);
        }
    }
    kinds
}

fn shape(kind: &Type, opaque: Opaque, dialect: Dialect) -> Value {
    match kind {
        Type::Scalar(scalar) if !is_named(*scalar) => match scalar {
            Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            _ => json!({"type": "string"}),
        },
        Type::List(element) => json!({"type": "array", "items": shape(element, opaque, dialect)}),
        Type::Map(element) => json!({"type": "object", "additionalProperties": shape(element, opaque, dialect)}),
        Type::Struct(name) => dialect.reference(name),
        kind => named(kind, opaque).map_or_else(|| json!({}), |name| dialect.reference(name)),
    }
}

fn property(field: &Field, description: Option<String>, dialect: Dialect) -> Value {
    let mut schema = shape(&field.kind, field.opaque, dialect);
    if dialect == Dialect::V3 && schema.get("$ref").is_some() {
        // A reference has no room for a description beside it.
        schema = json!({"allOf": [schema]});
    }
    if let Some(text) = description {
        schema["description"] = text.into();
    }
    let mut mark = |name: &str, value: Value| schema[format!("x-kubernetes-{name}")] = value;
    if let Some(list) = field.list {
        let name = match list {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        mark("list-type", name.into());
    }
    if !field.keys.is_empty() {
        mark("list-map-keys", field.keys.clone().into());
    }
    if let Some(key) = &field.merge_key {
        mark("patch-merge-key", key.as_str().into());
    }
    if let Some(strategy) = &field.strategy {
        mark("patch-strategy", strategy.as_str().into());
    }
    if field.atomic {
        mark("map-type", "atomic".into());
    }
    if let Some(default) = &field.default {
        schema["default"] = default.clone();
    }
    if !field.allowed.is_empty() {
        schema["enum"] = field.allowed.clone().into();
    }
    schema
}
