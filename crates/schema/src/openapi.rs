//! OpenAPI v3 documents, one per group and version: what `kubectl explain` and client-side checks read.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::types::{Field, ListType, Scalar, Struct, Table, Type};

/// A resource as the documents need it.
#[derive(Clone, Debug)]
pub struct Served {
    /// API group; empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Plural resource.
    pub plural: String,
    /// Namespaced or not.
    pub namespaced: bool,
    /// Verbs as discovery lists them.
    pub verbs: Vec<String>,
    /// The type's full name.
    pub schema: String,
}

/// The index at `/openapi/v3`: a path per group and version, each with the hash of its document.
pub fn index(paths: &[(String, String)]) -> Value {
    let entries = paths
        .iter()
        .map(|(path, hash)| (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})));
    json!({"paths": entries.collect::<Map<String, Value>>()})
}

/// The document of one group and version; `resources` are those of that group and version.
pub fn document(table: &Table, resources: &[Served], version: &str) -> Value {
    let mut names = BTreeSet::new();
    let mut paths = Map::new();
    for resource in resources {
        collect(table, &resource.schema, &mut names);
        add_paths(resource, &mut paths);
    }
    for options in ["DeleteOptions", "Status", "APIResourceList"] {
        collect(table, &format!("io.k8s.apimachinery.pkg.apis.meta.v1.{options}"), &mut names);
    }
    let schemas: Map<String, Value> = names
        .iter()
        .filter_map(|name| Some((name.clone(), definition(table.get(name)?, resources))))
        .chain(named_scalars().map(|(name, schema)| (name.to_owned(), schema)))
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn collect(table: &Table, name: &str, names: &mut BTreeSet<String>) {
    let Some(declared) = table.get(name) else { return };
    if !names.insert(name.into()) {
        return;
    }
    for field in declared.fields.values() {
        let mut kind = &field.kind;
        while let Type::List(inner) | Type::Map(inner) = kind {
            kind = inner;
        }
        if let Type::Struct(target) = kind {
            collect(table, target, names);
        }
    }
}

fn definition(declared: &Struct, resources: &[Served]) -> Value {
    let properties: Map<String, Value> =
        declared.fields.iter().map(|(name, field)| (name.clone(), property(field))).collect();
    let mut schema = json!({"type": "object"});
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    if declared.atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    let kinds: Vec<Value> = resources
        .iter()
        .filter(|r| r.schema == declared.name)
        .map(|r| json!({"group": r.group, "version": r.version, "kind": r.kind}))
        .collect();
    if !kinds.is_empty() {
        schema["x-kubernetes-group-version-kind"] = Value::Array(kinds);
    }
    schema
}

fn reference(name: &str) -> Value {
    json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}]})
}

/// Scalars that have a name of their own.
fn named_scalars() -> [(&'static str, Value); 4] {
    [
        ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", json!({"type": "string", "format": "date-time"})),
        ("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime", json!({"type": "string", "format": "date-time"})),
        ("io.k8s.apimachinery.pkg.api.resource.Quantity", json!({"oneOf": [{"type": "string"}, {"type": "number"}]})),
        (
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
            json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}),
        ),
    ]
}

fn shape(kind: &Type) -> Value {
    match kind {
        Type::Scalar(scalar) => match scalar {
            Scalar::String => json!({"type": "string"}),
            Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
            Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
            Scalar::Bool => json!({"type": "boolean"}),
            Scalar::Double => json!({"type": "number", "format": "double"}),
            Scalar::Bytes => json!({"type": "string", "format": "byte"}),
            Scalar::Time => reference("io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
            Scalar::MicroTime => reference("io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
            Scalar::Duration => json!({"type": "string"}),
            Scalar::Quantity => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Scalar::IntOrString => {
                json!({"oneOf": [{"type": "string"}, {"type": "integer"}], "format": "int-or-string"})
            }
        },
        Type::List(element) => json!({"type": "array", "items": shape(element)}),
        Type::Map(element) => json!({"type": "object", "additionalProperties": shape(element)}),
        Type::Struct(name) => reference(name),
        Type::Any => json!({"type": "object"}),
    }
}

fn property(field: &Field) -> Value {
    let mut schema = shape(&field.kind);
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
    schema
}

fn add_paths(resource: &Served, paths: &mut Map<String, Value>) {
    let gvr = object::Gvr::new(&resource.group, &resource.version, &resource.plural);
    let collection = gvr.path(resource.namespaced.then_some("{namespace}"));
    let has = |verb: &str| resource.verbs.iter().any(|v| v == verb);
    let operation = |action: &str, parameters: &[&str]| {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
            .collect();
        json!({
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
        })
    };
    let write = ["dryRun", "fieldManager", "fieldValidation"];
    let (mut on_collection, mut on_object) = (Map::new(), Map::new());
    let add = |verb: &str, on: &mut Map<String, Value>, method: &str, action: &str, parameters: &[&str]| {
        if has(verb) {
            on.insert(method.into(), operation(action, parameters));
        }
    };
    add("list", &mut on_collection, "get", "list", &["labelSelector", "fieldSelector", "limit", "continue"]);
    add("create", &mut on_collection, "post", "post", &write);
    add("get", &mut on_object, "get", "get", &[]);
    add("update", &mut on_object, "put", "put", &write);
    add("patch", &mut on_object, "patch", "patch", &["dryRun", "fieldManager", "fieldValidation", "force"]);
    add("delete", &mut on_object, "delete", "delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]);
    if !on_object.is_empty() {
        paths.insert(format!("{collection}/{{name}}"), Value::Object(on_object));
    }
    if !on_collection.is_empty() {
        paths.insert(collection, Value::Object(on_collection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::table;

    #[test]
    fn a_document_is_closed_under_reference() {
        let served = Served {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
            namespaced: true,
            verbs: vec!["create".into(), "get".into(), "list".into(), "patch".into()],
            schema: "io.k8s.api.apps.v1.Deployment".into(),
        };
        let document = document(table(), &[served], "v1");
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
        assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
        assert_eq!(
            schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"][0]["kind"],
            "Deployment"
        );
    }
}
