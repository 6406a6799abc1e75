//! Definitions of types.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use object::Gvk;
use serde::Deserialize;
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
        "RawExtension" | "FieldsV1" | "Patch" => json!({"type": "object"}),
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
    let extras = EXTRAS.get(&declared.name);
    let mut schema = json!({"type": "object"});
    if let Some(text) = texts.remove("") {
        schema["description"] = text.into();
    }
    let properties: Map<String, Value> = declared
        .fields
        .iter()
        .map(|(name, field)| {
            let default = extras.and_then(|extras| extras.defaults.get(name));
            let mut schema = property(field, texts.remove(name), default, dialect);
            if let Some(allowed) = extras.and_then(|extras| extras.enums.get(name)) {
                let inner = if schema.get("items").is_some() { "items" } else { "additionalProperties" };
                schema[inner]["enum"] = allowed.clone();
            }
            if let Some(kind) = extras.and_then(|extras| extras.maps.get(name)) {
                schema["x-kubernetes-map-type"] = kind.clone();
            }
            (name.clone(), schema)
        })
        .collect();
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    let required: Vec<Value> =
        declared.fields.iter().filter(|(_, field)| field.required).map(|(name, _)| name.as_str().into()).collect();
    let required = extras.map(|extras| &extras.required).filter(|r| !r.is_empty()).cloned().unwrap_or(required);
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if declared.atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    if declared.open {
        schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    if let Some(unions) = extras.and_then(|extras| extras.unions.as_ref()) {
        schema["x-kubernetes-unions"] = unions.clone();
    }
    let kinds = kinds_of(&declared.name, resources, dialect);
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = kinds.into();
    }
    schema
}

/// What upstream's documents say of types beyond what the table of types knows.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Extras {
    /// Required fields, where they are not in alphabetical order.
    required: Vec<Value>,
    /// `x-kubernetes-unions`.
    unions: Option<Value>,
    /// The values of list items and map values, by field.
    enums: Map<String, Value>,
    /// `x-kubernetes-map-type` of fields.
    maps: Map<String, Value>,
    /// Defaults, of which v2 says nothing: also the zeros that Go always writes.
    defaults: Map<String, Value>,
}

/// What is declared once for all documents.
pub(super) const DATA: [&str; 2] =
    [include_str!("../../data/documents.json"), include_str!("../../data/parameters.json")];

static EXTRAS: LazyLock<BTreeMap<String, Extras>> = LazyLock::new(|| {
    serde_json::from_str(DATA[0]).expect("data/documents.json is part of the source and covered by a test")
});

/// The versions that upstream's scheme has for the kinds that every group has, served or not: those of the groups that custom
/// resources' documents show.
const SCHEME: &str = "v1 admissionregistration.k8s.io/v1 admissionregistration.k8s.io/v1alpha1 admissionregistration.k8s.io/v1beta1 apps/v1 apps/v1beta1 apps/v1beta2 authentication.k8s.io/v1 authentication.k8s.io/v1alpha1 authentication.k8s.io/v1beta1 authorization.k8s.io/v1 authorization.k8s.io/v1beta1 autoscaling/v1 autoscaling/v2 batch/v1 batch/v1beta1 certificates.k8s.io/v1 certificates.k8s.io/v1alpha1 certificates.k8s.io/v1beta1 coordination.k8s.io/v1 coordination.k8s.io/v1alpha2 coordination.k8s.io/v1beta1 discovery.k8s.io/v1 discovery.k8s.io/v1beta1 events.k8s.io/v1 events.k8s.io/v1beta1 extensions/v1beta1 flowcontrol.apiserver.k8s.io/v1 flowcontrol.apiserver.k8s.io/v1beta1 flowcontrol.apiserver.k8s.io/v1beta2 flowcontrol.apiserver.k8s.io/v1beta3 internal.apiserver.k8s.io/v1alpha1 networking.k8s.io/v1 networking.k8s.io/v1beta1 node.k8s.io/v1 node.k8s.io/v1alpha1 node.k8s.io/v1beta1 policy/v1 policy/v1beta1 rbac.authorization.k8s.io/v1 rbac.authorization.k8s.io/v1alpha1 rbac.authorization.k8s.io/v1beta1 resource.k8s.io/v1 resource.k8s.io/v1alpha3 resource.k8s.io/v1beta1 resource.k8s.io/v1beta2 scheduling.k8s.io/v1 scheduling.k8s.io/v1alpha2 scheduling.k8s.io/v1beta1 storage.k8s.io/v1 storage.k8s.io/v1alpha1 storage.k8s.io/v1beta1 storagemigration.k8s.io/v1beta1";
/// What the document about everything shows besides.
const REST_OF_SCHEME: &str = "admission.k8s.io/v1 admission.k8s.io/v1beta1 apiextensions.k8s.io/v1 apiextensions.k8s.io/v1beta1 apiregistration.k8s.io/v1 apiregistration.k8s.io/v1beta1 imagepolicy.k8s.io/v1alpha1";

/// Types that are not, or not only, a resource's own.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    ("io.k8s.api.autoscaling.v1.Scale", "autoscaling/v1", "Scale"),
    ("io.k8s.api.authentication.v1.TokenRequest", "authentication.k8s.io/v1", "TokenRequest"),
    ("io.k8s.api.core.v1.PersistentVolumeClaim", "v1", "PersistentVolumeClaim"),
    ("io.k8s.api.policy.v1.Eviction", "policy/v1", "Eviction"),
];

/// The kinds that have this type.
fn kinds_of(name: &str, resources: &[Served], dialect: Dialect) -> Vec<Value> {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    if let Some((_, version, short)) = ELSEWHERE.iter().find(|(of, _, _)| *of == name) {
        let gvk = Gvk::from_api_version(version, short);
        return vec![kind(&gvk.group, &gvk.version, short)];
    }
    if let Some(common) = name.strip_prefix(META).and_then(|n| n.strip_prefix('.')) {
        if matches!(common, "Status" | "APIResourceList" | "APIGroup" | "APIGroupList" | "APIVersions") {
            return vec![kind("", "v1", common)];
        }
        if !matches!(common, "DeleteOptions" | "WatchEvent") {
            return Vec::new();
        }
        let mut versions: Vec<String> = SCHEME.split(' ').map(Into::into).collect();
        if dialect == Dialect::V2 {
            versions.extend(REST_OF_SCHEME.split(' ').map(Into::into));
        } else if let Some(own) = resources.iter().find(|r| r.custom.is_none()) {
            versions = vec!["v1".into(), object::names::api_version(&own.group, &own.version)];
        }
        // The core group comes first.
        versions.sort_by(|a, b| (a.contains('/'), a).cmp(&(b.contains('/'), b)));
        versions.dedup();
        let of = |version: &String| Gvk::from_api_version(version, common);
        return versions.iter().map(of).map(|gvk| kind(&gvk.group, &gvk.version, common)).collect();
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

fn property(field: &Field, description: Option<String>, default: Option<&Value>, dialect: Dialect) -> Value {
    let mut schema = shape(&field.kind, field.opaque, dialect);
    let default = default.filter(|_| dialect == Dialect::V3);
    if dialect == Dialect::V3 && schema.get("$ref").is_some() && (description.is_some() || default.is_some()) {
        // A reference has no room for anything beside it.
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
    if field.atomic == Some(true) {
        mark("map-type", "atomic".into());
    }
    if let Some(default) = default {
        schema["default"] = default.clone();
    }
    if !field.allowed.is_empty() {
        schema["enum"] = field.allowed.clone().into();
    }
    schema
}
